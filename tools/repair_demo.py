"""The whole loop on the street video: its wrong decisions, their causes, the repair, and the proof on the later part.

    python tools/repair_demo.py --frames STREET --inria INRIA --background PHOTOS [--seed 0] [--output DIR]

STREET is the folder of the 200 frames that test/data/street_labels.csv describes; INRIA and PHOTOS are the data of the
training (see docs/classifier.md). None of them is in the repository. The labels become a file for `analyze`, and the
commands `analyze`, `causes`, `repair` and `compare` run one after the other, as a user would type them. What is there
already is not computed again.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

from explain_cnn_ros.training.datasets import list_images
from explain_cnn_ros.training.detection import read_labels

LABELS = Path(__file__).resolve().parent.parent / "test/data/street_labels.csv"

#: Frame rate of the video, in frames per second.
RATE = 5


def write_labels(frames: Path, path: Path) -> int:
    """Write the labels of the street video as a file for `analyze`, and return the number of labelled frames.

    Args:
        frames: Folder of the frames.
        path: The file.

    Raises:
        FileNotFoundError: There is no labelled frame in the folder.
    """
    numbers = {image.name: number for number, image in enumerate(list_images(frames))}
    found = {name: boxes for name, boxes in read_labels(LABELS).items() if name in numbers}
    if not found:
        raise FileNotFoundError(f"{frames} has none of the frames that {LABELS} describes")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "person", "x", "y", "width", "height"])
        for name, labels in found.items():
            times = [(numbers[name] + shift) / RATE for shift in (-0.4, 0.4)]
            writer.writerow([*times, "background", "", "", "", ""])
            writer.writerows([*times, "ignore" if label.ignore else "person", *label.box] for label in labels)
    return len(found)


def call(*words: object) -> int:
    """Print a command of `explain-cnn`, run it, and return its exit status."""
    texts = [str(word) for word in words]
    print(f"\n$ explain-cnn {shlex.join(texts)}", flush=True)
    return subprocess.run([sys.executable, "-m", "explain_cnn_ros.cli", *texts]).returncode


def main() -> int:
    """Run the loop, and return the exit status of the first command that failed, or that of the repair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True, help="folder of the frames")
    parser.add_argument("--inria", type=Path, required=True, help="folder of the INRIA data")
    parser.add_argument("--background", type=Path, required=True, help="folder of person-free photos")
    parser.add_argument("--output", type=Path, default=Path("repair_output"), help="folder [%(default)s]")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument("--person-height-min", type=int, default=50, help="smallest person, in pixels [%(default)s]")
    parser.add_argument("--threshold", type=float, default=0.0, help="threshold of P(person) [that of the weights]")
    parser.add_argument("--held-out", type=float, default=0.5, help="share that is held out [%(default)s]")
    parser.add_argument("--steps", type=int, default=150, help="steps of the training [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training [%(default)s]")
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    try:
        count = write_labels(arguments.frames, output / "labels.csv")
    except OSError as error:
        print(f"repair_demo: {error}", file=sys.stderr)
        return 1
    print(f"{count} labelled frames: {output / 'labels.csv'}")
    weights = [] if arguments.weights is None else ["--weights", arguments.weights]
    analysis, repaired = output / "analysis", output / f"repaired_{arguments.seed}"
    flags = ["--rate", RATE, "--labels", output / "labels.csv", "--person-height-min", arguments.person_height_min]
    flags += ["--preset", "live", "--explain-every", 0, "--threshold", arguments.threshold, "--resume", *weights]
    if status := call("analyze", arguments.frames, "--output", analysis, *flags):
        return status
    call("causes", analysis)
    data = ["--inria", arguments.inria, "--background", arguments.background, *weights]
    settings = ["--held-out", arguments.held_out, "--steps", arguments.steps, "--seed", arguments.seed]
    status = call("repair", analysis, "--output", repaired, *data, *settings)
    if status in (0, 4):
        call("compare", analysis, repaired / "analysis_after_training", "--output", repaired / "compare.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
