"""The whole loop on the street video: its wrong decisions, their causes, the repair, and the proof on the later part.

    python tools/repair_demo.py --frames STREET --inria INRIA --background PHOTOS [--seed 0] [--output DIR]

STREET is the folder of the frames that test/data/street_labels.csv describes; INRIA and PHOTOS are the data of the
training (see docs/classifier.md). None of them is in the repository. The labels become a file for `analyze`, and the
commands `analyze`, `causes`, `repair` and `compare` run one after the other, as a user would type them. The labelled
frames, one a second, are copied to a folder of their own, so that no others are searched.

In the end, both networks search the held-out frames, and a table compares their false alarms at the threshold, and at
the same share of persons found. What is there already is not computed again.
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
from pathlib import Path
from typing import Any

from explain_cnn_ros.files import json_text
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import Matches, read_labels
from tools.evaluate_scan import LABELS, THRESHOLD_MIN, matches, scan_frames

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


def compare_searches(
    frames: Path, names: list[str], weights: Path | None, repaired: Path, settings: ScanSettings, fixed: float
) -> dict[str, Any]:
    """Search the held-out frames with the networks before and after a repair, and compare their false alarms.

    Args:
        frames: Folder of the labelled frames.
        names: Names of the labelled frames, in their order in time.
        weights: The weights before the repair; None for those that ship with the package.
        repaired: Folder of the repair.
        settings: Settings of the search.
        fixed: Threshold of both networks; 0: each has that of its weights.

    Returns:
        For each network, its figures at its threshold; for the repaired one also those at the highest threshold at
        which it finds as many persons as the other one, if there is such a threshold.
    """
    record = json.loads((repaired / "repair.json").read_text())
    held_out = names[min(window["frame"] for window in record["cures"][0]["windows"]) :]
    labels = {name: labels for name, labels in read_labels(LABELS).items() if name in held_out}
    figures: dict[str, Any] = {"frames": len(held_out), "settings": dataclasses.asdict(settings)}
    for when, path in (("before", weights), ("after", repaired / "training.safetensors")):
        network = PersonClassifier.load(path)
        found = scan_frames(network, frames, held_out, settings)
        threshold = fixed or network.threshold
        figures[when] = _figures(matches(found, labels, threshold), threshold)
        if when == "after":
            thresholds = {r.probability for regions in found.values() for r in regions} | {THRESHOLD_MIN}
            for threshold in sorted(thresholds, reverse=True):
                counted = matches(found, labels, threshold)
                if counted.found >= figures["before"]["found"]:
                    figures["after, as many persons found"] = _figures(counted, threshold)
                    break
    return figures


def _figures(counted: Matches, threshold: float) -> dict[str, Any]:
    return {"threshold": threshold, **dataclasses.asdict(counted)}


def _print_figures(figures: dict[str, Any]) -> None:
    for name in ("before", "after", "after, as many persons found"):
        if name not in figures:
            print(f"{name}: at no threshold from {THRESHOLD_MIN:g} on")
            continue
        one = figures[name]
        print(
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the training [%(default)s]")
    arguments = parser.parse_args()
    output = arguments.output
    try:
        names = write_inputs(arguments.frames, output)
    except OSError as error:
        print(f"repair_demo: {error}", file=sys.stderr)
        return 1
    print(f"{len(names)} labelled frames: {output / 'frames'}, {output / 'labels.csv'}")
    weights = [] if arguments.weights is None else ["--weights", arguments.weights]
    analysis, repaired = output / "analysis", output / f"repaired_{arguments.seed}"
    search = ScanSettings(person_height_min=arguments.person_height_min, proposer=arguments.proposer)
    flags = ["--rate", RATE, "--labels", output / "labels.csv", "--person-height-min", search.person_height_min]
    flags += ["--preset", "live", "--explain-every", 0, "--threshold", arguments.threshold, "--resume", *weights]
    flags += ["--proposer" if search.proposer else "--no-proposer"]
    if status := call("analyze", output / "frames", "--output", analysis, *flags):
        return status
    call("causes", analysis)
    data = ["--inria", arguments.inria, "--background", arguments.background, *weights]
    settings = ["--held-out", arguments.held_out, "--steps", arguments.steps, "--seed", arguments.seed]
    settings += ["--own-share", arguments.own_share]
    status = call("repair", analysis, "--output", repaired, *data, *settings)
    if status in (0, 4):
        call("compare", analysis, repaired / "analysis_after_training", "--output", repaired / "compare.html")
        figures = compare_searches(output / "frames", names, arguments.weights, repaired, search, arguments.threshold)
        (repaired / "frames.json").write_text(json_text(figures))
        print(f"\n{repaired / 'frames.json'}: the {figures['frames']} held-out frames, searched again")
        _print_figures(figures)
    return status


if __name__ == "__main__":
    sys.exit(main())
