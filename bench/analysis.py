"""Measures how fast recordings are analysed, compared with the bare network, and how much memory it takes.

    python bench/analysis.py [--frames 1000 10000] [--output DIR]

The recording holds the sample's images (JPEG, 768 x 576), repeated. Each case runs in a process of its own. The bare
network gets windows from memory, in batches of the same size, with PyTorch's convolutions and with those that the
analysis uses on CPUs. Rates cover the way of the frames from the recording to the parts of the tables. The time for
loading the network is not included, and the time for writing the results is listed separately. Prints a table and
writes JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.reader import BagReader

ROOT = Path(__file__).resolve().parent.parent

MEASURE = """
import json, sys, time
from pathlib import Path
from explain_cnn_ros.analysis.job import Job, ProgressReporter
from explain_cnn_ros.analysis.run import run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.cli import make_encoder
from explain_cnn_ros.explain.settings import ExplainSettings

class Clock(ProgressReporter):
    def begin(self, total, done): self.start = time.perf_counter()
    def end(self): self.stop = time.perf_counter()

bag, output, every, workers, threads = sys.argv[1:]
settings = AnalysisSettings(
    regions="whole", explain_every=int(every), confidence_threshold=0.0, threads=int(threads),
    explain=ExplainSettings.preset("stable"),
)
distribute = None
if int(workers):
    from explain_cnn_ros.analysis.cluster import Ray
    distribute = Ray("", int(workers), make_encoder)
clock = Clock()
job = Job((Path(bag),), Path(output), settings)
outcome = run(job, progress=clock, make_encoder=make_encoder, distribute=distribute)
assert outcome.complete, outcome.problems
done = time.perf_counter()
peak = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
print(json.dumps({
    "frames": outcome.summary["frames"], "explained": outcome.summary["explained"],
    "seconds": clock.stop - clock.start, "writing_seconds": done - clock.stop, "peak_mib": peak,
    "report_mib": (Path(output) / "report.html").stat().st_size / 2**20,
}))
"""

BARE = """
import sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from bench.inputs import windows
from explain_cnn_ros.analysis.engine import BATCH
from explain_cnn_ros.scan.classifier import PersonClassifier
classifier = PersonClassifier.load()
batch = classifier.normalise(classifier.to_pixels(np.stack(windows(BATCH))))
network = classifier.prepared(sys.argv[2])
with torch.inference_mode():
    for _ in range(2): network(batch)
    start = time.perf_counter()
    for _ in range(20): network(batch)
print(20 * BATCH / (time.perf_counter() - start))
"""


def python(code: str, *arguments: object) -> str:
    """Run code in a process of its own, and return the last line that it prints."""
    words = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def record(path: Path, count: int) -> None:
    """Record images of the sample, repeated, 30 a second."""
    types = get_typestore(Stores.ROS2_JAZZY)
    with BagReader(ROOT / "sample/street") as bag:
        images = [types.deserialize_cdr(m.data, m.type) for m in bag.messages([bag.image_topic().name])]
    kind = "sensor_msgs/msg/CompressedImage"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/camera/image_raw/compressed", kind, typestore=types)
        for i in range(count):
            image: Any = images[i % len(images)]
            stamp = 1_700_000_000 * 10**9 + i * 10**9 // 30
            image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp, 10**9)
            writer.write(camera, stamp, types.serialize_cdr(image, kind))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--frames",
        type=int,
        nargs="+",
        default=[1000, 10_000],
        help="Numbers of frames of the recordings [%(default)s].",
    )
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="Folder for figures [%(default)s].")
    arguments = parser.parse_args()
    bare = {name: float(python(BARE, ROOT, name)) for name in ("float32", "winograd")}
    print(
        f"bare network, frames/s: {bare['float32']:.1f} by PyTorch's convolutions, {bare['winograd']:.1f} by Winograd's"
    )
    titles = ("frames", "explained", "frames/s", "of bare", "peak MiB", "writing s", "report MiB")
    print(f"{'':<34}" + "".join(f"{title:>11}" for title in titles))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bags = {count: Path(folder) / f"bag{count}" for count in arguments.frames}
        for count, bag in bags.items():
            record(bag, count)
        shortest = min(bags)
        cases = [("no explanations", count, 0, 0, 0) for count in bags]
        cases += [("every 50th explained", count, 50, 0, 0) for count in bags]
        cases += [("no explanations, 1 thread", shortest, 0, 0, 1)]
        cases += [(f"the same, Ray, {n} worker{'s' * (n > 1)}", shortest, 0, n, 1) for n in (1, 2)]
        cases += [(f"every 50th, Ray, {n} worker{'s' * (n > 1)}", shortest, 50, n, 1) for n in (1, 2)]
        for i, (name, count, every, workers, threads) in enumerate(cases):
            row = json.loads(python(MEASURE, bags[count], Path(folder) / f"out{i}", every, workers, threads))
            rate = row["frames"] / row["seconds"]
            rows.append({"case": name} | row | {"rate": rate, "of_bare": rate / bare["float32"]})
            print(
                f"{name:<34}{row['frames']:>11}{row['explained']:>11}{rate:>11.1f}{rows[-1]['of_bare']:>11.2f}"
                f"{row['peak_mib']:>11.0f}{row['writing_seconds']:>11.1f}{row['report_mib']:>11.1f}",
                flush=True,
            )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "analysis.json"
    path.write_text(json.dumps({"bare": bare, "rows": rows}, indent=1) + "\n")
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
