"""The whole loop on the street video: its wrong decisions, their causes, the repair, and the proof on the later part.

    python tools/repair_demo.py --frames STREET --inria INRIA --background PHOTOS [--seeds 0] [--output DIR]

STREET is the folder of the frames that test/data/street_labels.csv describes; INRIA and PHOTOS are the data of the
training (see docs/classifier.md). None of them is in the repository. The labels become a file for `analyze`, and the
commands `analyze`, `causes`, `repair` and `compare` run one after the other, as a user would type them. The labelled
frames, one a second, are copied to a folder of their own, so that no others are searched.

After each repair, both networks search the held-out frames, and their false alarms are compared at the threshold and at
the same number of persons found. A loop that was interrupted continues with the same command, and seeds that are
complete are not repeated. For other settings, give another --output.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.analysis.repair.cli import NO_BENEFIT
from explain_cnn_ros.files import json_text
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import read_labels
from tools.evaluate_scan import LABELS, THRESHOLD_MIN, LabelsByFrame, RegionsByFrame, matches, scan_frames

#: Rate of the labelled frames, in frames per second.
RATE = 1

#: The labels of a frame hold for this time before and after it, in seconds. The frames next to it are 1 / RATE away.
AROUND = 0.1


#: Name of the file with the figures of a seed. A seed that has it is complete.
FIGURES = "frames.json"


@dataclass(frozen=True)
class HeldOut:
    """The frames that all repairs hold out, and how well the network before the repair searches them.

    Attributes:
        folder: Folder of the frames.
        names: File names of the frames, in their order in time.
        labels: The labels of each frame.
        settings: Settings of the search.
        before: Figures of the network before the repair; see `at_threshold`.
    """

    folder: Path
    names: Sequence[str]
    labels: LabelsByFrame
    settings: ScanSettings
    before: dict[str, Any]


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


def held_out_names(repaired: Path, names: Sequence[str]) -> list[str]:
    """Return the names of the frames that a repair has held out.

    Args:
        repaired: Folder of the repair.
        names: Names of the labelled frames, in their order in time.
    """
    record = json.loads((repaired / "repair.json").read_text())
    return list(names[min(window["frame"] for window in record["cures"][0]["windows"]) :])


def at_threshold(found: RegionsByFrame, labels: LabelsByFrame, threshold: float) -> dict[str, Any]:
    """Count the persons and the false alarms among the regions that reach a threshold.

    Args:
        found: The regions of each frame; see `evaluate_scan.scan_frames`.
        labels: The labels of each frame.
        threshold: Threshold of P(person).

    Returns:
        The threshold and the fields of `Matches`.
    """
    return {"threshold": threshold, **dataclasses.asdict(matches(found, labels, threshold))}


def at_persons(found: RegionsByFrame, labels: LabelsByFrame, persons: int) -> dict[str, Any] | None:
    """Return the figures at the highest threshold at which at least a given number of persons is found.

    Args:
        found: The regions of each frame; see `evaluate_scan.scan_frames`.
        labels: The labels of each frame.
        persons: The number of persons.

    Returns:
        See `at_threshold`. None if fewer persons are found at every threshold.
    """
    thresholds = {region.probability for regions in found.values() for region in regions} | {THRESHOLD_MIN}
    counts = (at_threshold(found, labels, threshold) for threshold in sorted(thresholds, reverse=True))
    return next((counted for counted in counts if counted["found"] >= persons), None)


def search_before(
    output: Path, names: Sequence[str], weights: Path | None, search: ScanSettings, fixed: float
) -> HeldOut:
    """Search the held-out frames with the network before the repair.

    Args:
        output: Folder with the copied frames.
        names: Names of the held-out frames, in their order in time.
        weights: The weights before the repair; None for those that ship with the package.
        search: Settings of the search.
        fixed: Threshold of P(person); 0 for the threshold of the weights.
    """
    labels = read_labels(LABELS)
    network = PersonClassifier.load(weights)
    found = scan_frames(network, output / "frames", names, search)
    before = at_threshold(found, labels, fixed or network.threshold)
    return HeldOut(output / "frames", names, labels, search, before)


def search_after(held_out: HeldOut, weights: Path, fixed: float) -> dict[str, Any]:
    """Search the held-out frames with a repaired network, and compare it with the network before the repair.

    Args:
        held_out: The frames.
        weights: The weights after the repair.
        fixed: Threshold of P(person); 0 for the threshold of the weights.

    Returns:
        The figures before and after the repair, and those after it at the highest threshold at which as many persons
        are found as before; see `at_threshold`.
    """
    network = PersonClassifier.load(weights)
    found = scan_frames(network, held_out.folder, held_out.names, held_out.settings)
    return {
        "before": held_out.before,
        "after": at_threshold(found, held_out.labels, fixed or network.threshold),
        "as many persons found": at_persons(found, held_out.labels, held_out.before["found"]),
    }


def _in_words(name: str, one: dict[str, Any] | None) -> str:
    if one is None:
        return f"{name}: at no threshold from {THRESHOLD_MIN:g} on"
    return (
        f"{name}: threshold {one['threshold']:.3f}, {one['found']} of {one['persons']} persons found, "
        f"{one['false_alarms'] / one['frames']:.2f} false alarms a frame"
    )


def parse() -> argparse.Namespace:
    """Parse the arguments of the command."""
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
    return parser.parse_args()


def main() -> int:
    """Run the loop, and return the highest exit status of its commands."""
    arguments = parse()
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
    held_out: HeldOut | None = None
    statuses = [0]
    for seed in arguments.seeds:
        repaired = output / f"repaired_{seed}"
        if (repaired / FIGURES).exists():
            print(f"\n{repaired / FIGURES}: seed {seed} is complete already")
            continue
        # Analysing the recording again takes long. The first seed shows how `compare` uses the result.
        again = "--again" if seed == arguments.seeds[0] else "--no-again"
        status = call("repair", analysis, "--output", repaired, "--seed", seed, again, *data)
        statuses.append(status)
        if status not in (0, NO_BENEFIT):
            break
        if again == "--again":
            call("compare", analysis, repaired / "analysis_after_training", "--output", repaired / "compare.html")
        if held_out is None:
            names = held_out_names(repaired, names)
            held_out = search_before(output, names, arguments.weights, search, arguments.threshold)
        figures = search_after(held_out, repaired / "training.safetensors", arguments.threshold)
        (repaired / FIGURES).write_text(json_text(figures))
        print(f"\n{repaired / FIGURES}: the {len(names)} held-out frames, searched again")
        print("\n".join(_in_words(name, one) for name, one in figures.items()))
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
