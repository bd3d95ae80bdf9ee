"""Tries the black box: on recordings, killed while it writes, and on a small disk.

    python tools/black_box_trial.py recording BAG [--rate 0.5] [--output bench_output/black_box] [-p NAME:=VALUE ...]
    python tools/black_box_trial.py kills [--count 10]
    python tools/black_box_trial.py disk [--size 20M] [--seconds 3600] [--speed 60]      (needs the right to mount)

Each trial runs the black box as its own process, in a ROS domain of its own on this machine, and prints what it has
recorded and why. `recording` plays a recording, or a folder of JPEG images at 5 Hz, to the node and the black box,
presses a button in between, and opens each recording with `analyze` and with the official MCAP library. `kills` kills
the black box while it writes. `disk` plays a camera with simulated time, faster than real, and an event in every minute
of that time, on a file system of the given size.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mcap.reader import make_reader
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.bags.storage import Message
from explain_cnn_ros.bags.writer import write_recording
from tools.folders import begin_anew
from tools.processes import own_domain, running

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024**2

#: Time for the start of the processes, in seconds.
START = 180.0


def command(script: str, *arguments: str) -> list[str]:
    """Return the command line of one of the package's executables."""
    return [sys.executable, str(ROOT / "scripts" / script), *arguments]


@contextlib.contextmanager
def process(script: str, *arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run an executable while the body runs, and interrupt it at the end."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("a")) if log else None
        errors = subprocess.STDOUT if log else None
        yield stack.enter_context(running(*command(script, *arguments), stdout=output, stderr=errors))


def flags(**parameters: object) -> list[str]:
    """Return the arguments that set parameters of a ROS node."""
    return ["--ros-args", *(part for name, value in parameters.items() for part in ("-p", f"{name}:={value}"))]


# The recordings of a trial.


def examine(path: Path) -> dict[str, Any]:
    """Read a recording with both readers, and return its contents in figures.

    Raises:
        ValueError: The readers find faults, or do not agree.
    """
    with BagReader(path) as bag:
        messages = [(m.topic, m.stamp, m.data) for m in bag.messages()]
        problems = list(bag.problems)
        seconds = (bag.end - bag.start) / 1e9
        end = bag.end
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        official = [(c.topic, m.log_time, m.data) for _, c, m in reader.iter_messages()]
        metadata = next(iter(reader.iter_metadata())).metadata["serialized_metadata"]
    if problems or sorted(messages) != sorted(official):
        raise ValueError(f"{path.name}: {problems or 'the readers do not agree'}")
    about = YAML(typ="safe").load(metadata)["custom_data"]
    images = sum("image" in topic for topic, _, _ in messages)
    return {
        "name": path.name,
        "seconds": round(seconds, 1),
        "end": end,
        "messages": len(messages),
        "images": images,
        "mib": round(path.stat().st_size / MIB, 2),
        "events": [f"{event['cause']}: {event['text']}" for event in json.loads(about.get("events", "[]"))],
        "missing": about["missing"],
    }


def recordings(folder: Path) -> list[dict[str, Any]]:
    """Return the contents of all recordings in a folder, in order."""
    return [examine(path) for path in sorted(folder.glob("*.mcap"), key=lambda path: path.stem[-4:])]


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print what recordings contain."""
    for one in found:
        print(
            f"  {one['name']}: {one['seconds']} s, {one['images']} images, {one['messages']} messages, {one['mib']} MiB"
        )
        for event in one["events"]:
            print(f"      {event}")
        if one["missing"]:
            print(f"      missing: {one['missing']}")


# The trials.


def wait(condition: Any, seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It does not hold within the time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def recorded(images: Path, folder: Path) -> Path:
    """Record a folder of JPEG images at 5 Hz; return the recording."""
    types = get_typestore(Stores.ROS2_JAZZY)
    kind, start = "sensor_msgs/msg/CompressedImage", 1_800_000_000 * 10**9

    def messages() -> Iterator[Message]:
        for number, path in enumerate(sorted(images.glob("*.jpg"))):
            stamp = start + number * 10**9 // 5
            moment = types.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            header = types.types["std_msgs/msg/Header"](stamp=moment, frame_id="camera")
            data = np.frombuffer(path.read_bytes(), np.uint8)
            image = types.types[kind](header=header, format="jpeg", data=data)
            yield Message("/camera/image_raw/compressed", stamp, kind, bytes(types.serialize_cdr(image, kind)))

    write_recording(messages(), folder)
    return folder


def try_recording(arguments: argparse.Namespace) -> int:
    """Play a recording to the node and the black box."""
    import rclpy
    from std_msgs.msg import Bool
    from std_srvs.srv import Trigger

    output: Path = arguments.output
    try:
        begin_anew(output, "log.txt")
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 1
    folder, log = output / "recordings", output / "log.txt"
    if list(arguments.bag.glob("*.jpg")):
        arguments.bag = recorded(arguments.bag, output / "images")
    with BagReader(arguments.bag) as bag:
        image = bag.image_topic()
        seconds = (bag.end - bag.start) / 1e9 / arguments.rate
    compressed = image.type.endswith("CompressedImage")
    transport = "compressed" if compressed else "raw"
    remap = ["-r", f"{'image/compressed' if compressed else 'image'}:={image.name}"]
    box = flags(
        folder=folder, image_transport=transport, trigger_topics="/button", before=3.0, after=2.0, doubt_holdoff=5.0,
        change_holdoff=5.0,
    )  # fmt: skip
    node = flags(image_transport=transport, live="influence", **{"explain.perturbations": 4})
    extra = [part for value in arguments.parameter for part in ("-p", value)]
    rclpy.init(args=[])
    partner = rclpy.create_node("trial")
    with process("black_box", *box, *remap, log=log), process("explain_node", *node, *remap, *extra, log=log):
        models = partner.count_publishers
        wait(lambda: models("/explain_node/model") and "threshold" in log.read_text(), START, "the node")
        save = partner.create_client(Trigger, "/black_box/save")
        button = partner.create_publisher(Bool, "/button", 10)
        save.wait_for_service(START)
        with process("play_bag", str(arguments.bag), "--rate", str(arguments.rate), "--wait-for-subscribers", "20"):
            time.sleep(seconds * 0.5)
            button.publish(Bool(data=True))
            time.sleep(seconds * 0.5)
            rclpy.spin_until_future_complete(partner, save.call_async(Trigger.Request()), timeout_sec=START)
            time.sleep(4.0)
    partner.destroy_node()
    rclpy.try_shutdown()
    found = recordings(folder)
    print(f"{len(found)} recordings of {arguments.bag}:")
    show(found)
    done = subprocess.run(
        command("analyze", str(folder), "--output", str(output / "analysis"), "--perturbations", "4"),
        capture_output=True,
        text=True,
    )
    summary = json.loads((output / "analysis/analysis.json").read_text())
    (output / "recordings.json").write_text(json.dumps(found, indent=1) + "\n")
    frames = summary.get("summary", summary).get("frames", "?")
    print(f"analyze: exit status {done.returncode}, {len(summary['inputs'])} inputs, {frames} frames")
    print("\n".join(line for line in done.stderr.splitlines() if line.startswith("analyze:")))
    return done.returncode


def try_kills(arguments: argparse.Namespace) -> int:
    """Kill the black box while it writes."""
    import rclpy
    from std_msgs.msg import Empty

    folder = Path(tempfile.mkdtemp()) / "recordings"
    rclpy.init(args=[])
    partner = rclpy.create_node("trial")
    button = partner.create_publisher(Empty, "/button", 10)
    camera = subprocess.Popen([sys.executable, str(ROOT / "tools/camera.py"), "--rate", "30", "--seconds", "3600"])
    options = flags(folder=folder, before=2.0, after=2.0, compress="false", trigger_topics="/button")
    for number in range(arguments.count):
        known = set(folder.glob(".2*")) | set(folder.glob("*.mcap"))

        def begun(known: set[Path] = known) -> bool:
            button.publish(Empty())
            return bool({p for p in folder.glob(".2*") if ".recovered" not in p.name} - known)

        with process("black_box", *options) as box:
            wait(lambda: partner.count_subscribers("/button"), START, "the subscription")
            time.sleep(2.5)
            wait(begun, START, "a recording")
            # The kills are spread from the first bytes of the recording to a moment after its end.
            time.sleep(2.6 * number / max(1, arguments.count - 1))
            box.kill()
            box.wait()
        hidden = ", ".join(path.name for path in folder.glob(".2*")) or "nothing"
        print(f"kill {number + 1}: {len(recordings(folder))} recordings, all whole; hidden: {hidden}")
    with process("black_box", *options):
        wait(lambda: not list(folder.glob(".2*")), START, "the recovery")
    camera.kill()
    camera.wait()
    partner.destroy_node()
    rclpy.try_shutdown()
    found = recordings(folder)
    print(f"after the next start: {len(found)} recordings, {sum(bool(f['missing']) for f in found)} of them recovered")
    show(found)
    shutil.rmtree(folder.parent)
    return 0


def try_disk(arguments: argparse.Namespace) -> int:
    """Run with simulated time, faster than real, on a small disk."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CompressedImage
    from std_msgs.msg import Empty

    disk = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={arguments.size}", "none", str(disk)], check=True)
    try:
        folder, log = disk / "recordings", Path(tempfile.mkstemp(suffix=".log")[1])
        rclpy.init(args=[])
        partner = rclpy.create_node("trial")
        clock = partner.create_publisher(Clock, "/clock", 10)
        camera = partner.create_publisher(CompressedImage, "/image/compressed", qos_profile_sensor_data)
        button = partner.create_publisher(Empty, "/button", 10)
        box = flags(folder=folder, image_transport="compressed", trigger_topics="/button", use_sim_time="true")
        with process("black_box", *box, log=log):
            wait(lambda: camera.get_subscription_count() and button.get_subscription_count(), START, "the black box")
            start, rate, pressed = 1_800_000_000, 5, 0
            began = time.monotonic()
            for tick in range(arguments.seconds * rate):
                now = Clock()
                now.clock.sec, now.clock.nanosec = start + tick // rate, tick % rate * (10**9 // rate)
                clock.publish(now)
                image = CompressedImage(format="jpeg", data=array.array("B", os.urandom(30_000)))
                image.header.stamp = now.clock
                camera.publish(image)
                if tick % (60 * rate) == 30 * rate:
                    button.publish(Empty())
                    pressed += 1
                time.sleep(max(0.0, began + tick / rate / arguments.speed - time.monotonic()))
            time.sleep(3)
        partner.destroy_node()
        rclpy.try_shutdown()
        found = recordings(folder)
        text = log.read_text()
        usage = shutil.disk_usage(disk)
        last = (max(one["end"] for one in found) - start * 10**9) / 1e9
        print(
            f"{arguments.seconds} s of stamps, {pressed} events, {text.count('] [black_box]: recorded ')} recorded, "
            f"{text.count('was not written')} failed; {usage.used / MIB:.1f} of {usage.total / MIB:.1f} MiB in use"
        )
        print(f"in the folder: {len(found)} recordings; the newest one ends at {last:.1f} s")
        show(found[-3:])
        numbers = [int(one["name"][-9:-5]) for one in found]
        return 0 if numbers == list(range(pressed - len(numbers) + 1, pressed + 1)) else 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    trials = parser.add_subparsers(dest="trial", required=True)
    recording = trials.add_parser("recording")
    recording.add_argument("bag", type=Path)
    recording.add_argument("--rate", type=float, default=0.5)
    recording.add_argument("--output", type=Path, default=ROOT / "bench_output/black_box")
    recording.add_argument("-p", "--parameter", action="append", default=[], help="parameter of the node, NAME:=VALUE")
    recording.set_defaults(run=try_recording)
    kills = trials.add_parser("kills")
    kills.add_argument("--count", type=int, default=10)
    kills.set_defaults(run=try_kills)
    disk = trials.add_parser("disk")
    disk.add_argument("--size", default="20M")
    disk.add_argument("--seconds", type=int, default=3600)
    disk.add_argument("--speed", type=float, default=30.0)
    disk.set_defaults(run=try_disk)
    arguments = parser.parse_args()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with own_domain() as domain:
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
