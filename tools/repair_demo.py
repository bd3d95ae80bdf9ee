"""The whole loop on the street video: its wrong decisions, their causes, the repair, and the proof on the later part.

    python tools/repair_demo.py --frames STREET --inria INRIA --background PHOTOS [--seeds 0] [--output DIR]

STREET is the folder of the frames that test/data/street_labels.csv describes; INRIA and PHOTOS are the data of the
training (see docs/classifier.md). None of them is in the repository. The labels become a file for `analyze`, and the
commands `analyze`, `causes`, `repair` and `compare` run one after the other, as a user would type them. The labelled
frames, one a second, are copied to a folder of their own, so that no others are searched.

After each repair, both networks search the held-out frames, and their false alarms are compared at the threshold and at
the same number of persons found. A loop that was interrupted continues with the same command.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from explain_cnn_ros.analysis.repair.cli import NO_BENEFIT
from explain_cnn_ros.files import json_text
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import read_labels
from tools.evaluate_scan import LABELS, THRESHOLD_MIN, matches, scan_frames

#: The regions that a search finds in each frame.
Found: TypeAlias = Mapping[str, Sequence[Region]]

#: Rate of the labelled frames, in frames per second.
RATE = 1

#: Time around a labelled frame that its labels cover, in seconds: no other frame is in it.
AROUND = 0.1


def write_inputs(frames: Path, output: Path) -> list[str]:
    """Copy the labelled frames to a folder, and write their labels as a file for `analyze`.

    Args:
        frames: Folder of all frames.
        output: Folder for `frames` and `labels.csv`.

    Returns:
        The names of the frames, in their order in time.

    Raises:
        OSError: A frame is not there, or a file cannot be written.
    """
    copies = output / "frames"
    copies.mkdir(parents=True, exist_ok=True)
    labels = dict(sorted(read_labels(LABELS).items()))
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "person", "x", "y", "width", "height"])
        for number, (name, of_frame) in enumerate(labels.items()):
            if not (copies / name).exists():
                shutil.copyfile(frames / name, copies / name)
            times = [number / RATE - AROUND, number / RATE + AROUND]
            writer.writerow([*times, "background", "", "", "", ""])
            writer.writerows([*times, "ignore" if label.ignore else "person", *label.box] for label in of_frame)
    return list(labels)


def call(*words: object) -> int:
    """Print a command of `explain-cnn`, run it, and return its exit status."""
    texts = [str(word) for word in words]
    print(f"\n$ explain-cnn {shlex.join(texts)}", flush=True)
    return subprocess.run([sys.executable, "-m", "explain_cnn_ros.cli", *texts]).returncode


def held_out_frames(repaired: Path, names: Sequence[str]) -> list[str]:
    """Return the names of the frames that a repair has held out.

    Args:
        repaired: Folder of the repair.
        names: Names of the labelled frames, in their order in time.
    """
    record = json.loads((repaired / "repair.json").read_text())
    return list(names[min(window["frame"] for window in record["cures"][0]["windows"]) :])


def at_threshold(found: Found, threshold: float) -> dict[str, Any]:
    """Count the persons that a search has found at a threshold, and its false alarms.

    Args:
        found: The regions of each frame; see `evaluate_scan.scan_frames`.
        threshold: Threshold of P(person).
    """
    return {"threshold": threshold, **dataclasses.asdict(matches(found, read_labels(LABELS), threshold))}


def at_persons(found: Found, persons: int) -> dict[str, Any] | None:
    """Count the same at the highest threshold at which a number of persons is found; None if there is none."""
    thresholds = {region.probability for regions in found.values() for region in regions} | {THRESHOLD_MIN}
    counts = (at_threshold(found, threshold) for threshold in sorted(thresholds, reverse=True))
    return next((counted for counted in counts if counted["found"] >= persons), None)


def _in_words(name: str, one: dict[str, Any] | None) -> str:
    if one is None:
        return f"{name}: at no threshold from {THRESHOLD_MIN:g} on"
    return (
        f"{name}: threshold {one['threshold']:.3f}, {one['found']} of {one['persons']} persons found, "
        f"{one['false_alarms'] / one['frames']:.2f} false alarms a frame"
    )


def main() -> int:
    """Run the loop, and return the exit status of the first command that failed, or that of the repair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True, help="folder of the frames")
    parser.add_argument("--inria", type=Path, required=True, help="folder of the INRIA data")
    parser.add_argument("--background", type=Path, required=True, help="folder of person-free photos")
    parser.add_argument("--output", type=Path, default=Path("repair_output"), help="folder [%(default)s]")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument("--person-height-min", type=int, default=50, help="smallest person, in pixels [%(default)s]")
    parser.add_argument(
        "--proposer",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="let the proposer choose the windows, as the node does; without it, the classifier judges all windows of "
        "a frame and makes more mistakes, so that there is more to repair [%(default)s]",
    )
    parser.add_argument("--threshold", type=float, default=0.0, help="threshold of P(person) [that of the weights]")
    parser.add_argument("--held-out", type=float, default=0.5, help="share that is held out [%(default)s]")
    parser.add_argument("--steps", type=int, default=150, help="steps of the training [%(default)s]")
    parser.add_argument("--own-share", type=float, default=0.3, help="see `explain-cnn repair --help` [%(default)s]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the trainings [0]")
    arguments = parser.parse_args()
    output = arguments.output
    try:
        names = write_inputs(arguments.frames, output)
    except OSError as error:
        print(f"repair_demo: {error}", file=sys.stderr)
        return 1
    print(f"{len(names)} labelled frames: {output / 'frames'}, {output / 'labels.csv'}")
    weights = [] if arguments.weights is None else ["--weights", arguments.weights]
    analysis = output / "analysis"
    search = ScanSettings(person_height_min=arguments.person_height_min, proposer=arguments.proposer)
    flags = ["--rate", RATE, "--labels", output / "labels.csv", "--person-height-min", search.person_height_min]
    flags += ["--preset", "live", "--explain-every", 0, "--threshold", arguments.threshold, "--resume", *weights]
    flags += ["--proposer" if search.proposer else "--no-proposer"]
    if status := call("analyze", output / "frames", "--output", analysis, *flags):
        return status
    call("causes", analysis)
    data = ["--inria", arguments.inria, "--background", arguments.background, *weights]
    data += ["--held-out", arguments.held_out, "--steps", arguments.steps, "--own-share", arguments.own_share]
    before: dict[str, Any] | None = None
    statuses = [0]
    for number, seed in enumerate(arguments.seeds):
        repaired = output / f"repaired_{seed}"
        # The recording is analysed again by one network only: a search of all frames takes long.
        again = "--again" if number == 0 else "--no-again"
        statuses.append(call("repair", analysis, "--output", repaired, "--seed", seed, again, *data))
        if statuses[-1] not in (0, NO_BENEFIT):
            break
        if number == 0:
            call("compare", analysis, repaired / "analysis_after_training", "--output", repaired / "compare.html")
        frames = held_out_frames(repaired, names)
        old, new = (PersonClassifier.load(path) for path in (arguments.weights, repaired / "training.safetensors"))
        if before is None:
            found = scan_frames(old, output / "frames", frames, search)
            before = at_threshold(found, arguments.threshold or old.threshold)
        found = scan_frames(new, output / "frames", frames, search)
        after = at_threshold(found, arguments.threshold or new.threshold)
        figures = {"before": before, "after": after, "as many persons found": at_persons(found, before["found"])}
        (repaired / "frames.json").write_text(json_text(figures))
        print(f"\n{repaired / 'frames.json'}: the {len(frames)} held-out frames, searched again")
        print("\n".join(_in_words(name, one) for name, one in figures.items()))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
