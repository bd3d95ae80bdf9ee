"""Runs the node on the sample recording over real DDS and writes explanations and pictures to a folder.

The node, a recorder and the player run as separate processes. The demo requests explanations while the recording plays,
and finally prints a summary and the folder of the results.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.folders import begin_anew

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "/camera/image_raw/compressed"

#: Maximum time for the node to load its network, and for requests to be answered, in seconds.
START_TIMEOUT = 120.0
ANSWER_TIMEOUT = 120.0

#: The demo ends when no explanation has arrived for this time, in seconds: about twice the time of one on two cores.
QUIET = 12.0

#: The pictures of an explanation, the first one first, and what they show.
PICTURES = {
    "slide": "what speaks for the decision and what against it",
    "overlay": "the frame with the patches of these neurons; those that oppose the decision have corners only",
    "sheet": "the six metrics of the paper",
}


def parse() -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--bag", type=Path, default=ROOT / "sample/street", help="recording [%(default)s]")
    parser.add_argument("--image", default=IMAGE, help="its image topic [%(default)s]")
    parser.add_argument("--output", type=Path, default=ROOT / "demo_output", help="folder [%(default)s]")
    parser.add_argument("--rate", type=float, default=0.3, help="playback rate of the recording [%(default)s]")
    parser.add_argument("--ask-every", type=float, default=5.0, help="seconds between requests [%(default)s]")
    return parser.parse_args()


def start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start one of the package's executables with its output in a file."""
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process as Ctrl-C does, and kill it if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ExplainClient:
    """Calls the node's service and waits for its answers."""

    def __init__(self) -> None:
        import rclpy

        from explain_cnn_ros.srv import Explain

        self._rclpy, self._kind = rclpy, Explain
        rclpy.init()
        self._node = rclpy.create_node("demo")
        self._client = self._node.create_client(Explain, "/explain_node/explain")
        self._waiting: list[Any] = []
        self.refusals: list[str] = []

    def spin(self, seconds: float) -> None:
        """Receive answers for some seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._rclpy.spin_once(self._node, timeout_sec=min(left, 0.1))
        for answer in [f for f in self._waiting if f.done()]:
            self._waiting.remove(answer)
            if not answer.result().success:
                self.refusals.append(answer.result().message)

    def request(self) -> None:
        """Request an explanation of the newest frame, unless an answer is pending."""
        if not self._waiting:
            self._waiting.append(self._client.call_async(self._kind.Request()))

    def wait_for_service(self, node: subprocess.Popen[bytes]) -> bool:
        """Return whether the node has started."""
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and node.poll() is None:
            if self._client.wait_for_service(0.2):
                return True
        return False

    def finish(self) -> None:
        """Wait for pending answers."""
        end = time.monotonic() + ANSWER_TIMEOUT
        while self._waiting and time.monotonic() < end:
            self.spin(0.2)

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.try_shutdown()


def decided(output: Path) -> bool:
    """Return whether a frame has been decided, so that there is something to explain."""
    table = output / "classifications.csv"
    return table.exists() and len(table.read_text().splitlines()) > 1


def settle(client: ExplainClient, output: Path) -> None:
    """Wait until no more explanations arrive: the node may have started one by itself."""
    end = time.monotonic() + ANSWER_TIMEOUT
    count, since = -1, time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < QUIET:
        client.spin(0.5)
        written = len(list(output.glob("*_explanation.json")))
        if written != count:
            count, since = written, time.monotonic()


def summary(output: Path) -> list[str]:
    """Summarise the contents of the folder in a few lines."""
    with (output / "classifications.csv").open() as file:
        frames = list(csv.DictReader(file))
    explanations = [json.loads(path.read_text()) for path in sorted(output.glob("*_explanation.json"))]
    persons = sum(int(row["person"]) for row in frames)
    seconds = sorted(float(row["inference_seconds"]) for row in frames)
    lines = [f"{len(frames)} frames decided ({persons} with a person)"]
    if seconds:
        lines[0] += f", a decision takes {seconds[len(seconds) // 2]:.2f} s"
    triggers = [e["trigger"] for e in explanations]
    by_trigger = ", ".join(f"{triggers.count(t)} by {t}" for t in dict.fromkeys(triggers))
    lines.append(f"{len(explanations)} explanations" + (f" ({by_trigger})" if triggers else ""))
    for number, explanation in enumerate(explanations):
        took = sum(explanation["timings"].values())
        lines.append(f"  {number:03d}, stamp {explanation['stamp']}, {took:.1f} s: {explanation['summary']}")
    for kind, shown in PICTURES.items():
        lines.append(f"{len(list(output.glob(f'*_{kind}.png')))} pictures NNN_{kind}.png: {shown}")
    return lines


def choose_slide(output: Path) -> Path | None:
    """Copy the slide of the explanation with the highest P(person) to slide.png, and return its path."""
    best: tuple[float, Path] | None = None
    for path in sorted(output.glob("*_explanation.json")):
        slide = path.with_name(path.name.replace("_explanation.json", "_slide.png"))
        probability = json.loads(path.read_text())["region"]["probability"]
        if slide.exists() and (best is None or probability > best[0]):
            best = (probability, slide)
    if best is None:
        return None
    return Path(shutil.copy(best[1], output / "slide.png"))


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; return 0 if there is at least one explanation."""
    output: Path = arguments.output
    try:
        begin_anew(output, "node.log")
    except FileExistsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    # The ROS graph is limited to this machine, so that other robots are neither heard nor disturbed.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    # For large images: see config/fastdds.xml.
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config/fastdds.xml"))
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    node = start(
        output / "node.log",
        *("explain_node", "--ros-args"),
        *("-r", f"image/compressed:={arguments.image}"),
        *("--params-file", str(ROOT / "config/demo.yaml")),
    )
    recorder = start(
        output / "recorder.log",
        *("record_explanations", "--output", str(output), "--node", "/explain_node", "--image", arguments.image),
    )
    processes = [recorder, node]
    client = ExplainClient()
    try:
        print("demo: starting the node ...", flush=True)
        if not client.wait_for_service(node):
            print(f"demo: the node did not start: see {output / 'node.log'}", file=sys.stderr)
            return 1
        began = time.monotonic()
        player = start(
            output / "player.log",
            *("play_bag", str(arguments.bag), "--rate", str(arguments.rate)),
            *("--wait-for-subscribers", "30", "--topics", arguments.image),
        )
        processes.insert(0, player)
        asked = began
        while player.poll() is None:
            client.spin(0.5)
            if time.monotonic() - asked > arguments.ask_every and decided(output):
                asked = time.monotonic()
                client.request()
            done = len(list(output.glob("*_explanation.json")))
            print(f"\rdemo: playing, {time.monotonic() - began:.0f} s, {done} explanations ", end="", flush=True)
        print("\ndemo: the recording has ended; waiting for the last explanations ...", flush=True)
        client.request()
        client.finish()
        settle(client, output)
        if player.returncode != 0:
            print(f"demo: the player failed: see {output / 'player.log'}", file=sys.stderr)
            return 1
    finally:
        for process in processes:
            stop(process)
        client.close()
    slide = choose_slide(output)
    for line in summary(output):
        print(f"demo: {line}")
    for refusal in dict.fromkeys(client.refusals):
        print(f"demo: refused: {refusal}")
    if slide is None:
        print(f"demo: no explanation was written: see {output / 'node.log'}", file=sys.stderr)
        return 1
    print(f"demo: pictures and explanations are in {output}; start with {slide}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(run(parse()))
    except KeyboardInterrupt:
        sys.exit(130)
