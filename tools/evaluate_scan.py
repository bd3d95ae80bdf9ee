"""Count the labelled persons that a scan of each frame finds, and its false alarms.

    python tools/evaluate_scan.py FRAMES [--labels test/data/street_labels.csv] [--weights FILE]

FRAMES is the folder of the frames that the labels name. The result is a table over thresholds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from tqdm import tqdm

from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import Matches, PersonLabel, match, read_labels

LABELS = Path(__file__).resolve().parent.parent / "test/data/street_labels.csv"

#: The lowest threshold of the table, and of the search. The regions that reach a higher threshold are selected from the
#: result of the search, so that each frame is searched only once.
THRESHOLD_MIN = 0.5

#: The regions that a search has found in each frame, by the name of the frame.
RegionsByFrame: TypeAlias = Mapping[str, Sequence[Region]]

#: The labels of each frame, by the name of the frame.
LabelsByFrame: TypeAlias = Mapping[str, Sequence[PersonLabel]]


def scan_frames(
    classifier: PersonClassifier, folder: Path, names: Iterable[str], settings: ScanSettings
) -> dict[str, list[Region]]:
    """Search frames for persons.

    Args:
        classifier: The classifier.
        folder: Folder of the frames.
        names: File names of the frames.
        settings: Settings of the search.

    Returns:
        The regions of each frame whose P(person) is at least THRESHOLD_MIN.

    Raises:
        FileNotFoundError: A frame is not there, or it is not an image.
    """
    found = {}
    for name in tqdm(names, unit="frame", mininterval=5):
        image = cv2.imread(str(folder / name))
        if image is None:
            raise FileNotFoundError(f"there is no frame {name} in {folder}: give the folder of the frames")
        found[name] = classifier.scan(np.ascontiguousarray(image[:, :, ::-1]), settings, THRESHOLD_MIN)
    return found


def matches(found: RegionsByFrame, labels: LabelsByFrame, threshold: float) -> Matches:
    """Count the persons and the false alarms among the regions that reach a threshold.

    Args:
        found: The regions of each frame.
        labels: The labels of each frame.
        threshold: Threshold of P(person), at least THRESHOLD_MIN.
    """
    reached = {name: [r for r in regions if r.probability >= threshold] for name, regions in found.items()}
    return sum((match(regions, labels[name]) for name, regions in reached.items()), Matches())


def main() -> int:
    """Scan the frames and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("frames", type=Path, help="folder of the frames")
    parser.add_argument("--labels", type=Path, default=LABELS, help="labels, CSV [test/data/street_labels.csv]")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument("--regions", type=Path, help="JSON file for the regions that are found in each frame")
    for item in dataclasses.fields(ScanSettings):
        flag = "--" + item.name.replace("_", "-")
        if isinstance(item.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=item.default)
        else:
            parser.add_argument(flag, type=type(item.default), default=item.default)
    arguments = parser.parse_args()
    settings = ScanSettings(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(ScanSettings)})
    classifier = PersonClassifier.load(arguments.weights)
    labels = read_labels(arguments.labels)
    try:
        found = scan_frames(classifier, arguments.frames, labels, settings)
    except FileNotFoundError as error:
        print(f"evaluate_scan: {error}", file=sys.stderr)
        return 1
    print(f"{'threshold':>10} {'persons':>8} {'found':>8} {'recall':>8} {'false alarms a frame':>21}")
    for threshold in sorted({THRESHOLD_MIN, 0.7, 0.8, 0.9, 0.95, 0.98, classifier.threshold}):
        total = matches(found, labels, threshold)
        print(
            f"{threshold:>10.2f} {total.persons:>8} {total.found:>8} {total.recall:>8.3f} "
            f"{total.false_alarms_per_frame:>21.2f}"
            + ("  <- threshold of these weights" if threshold == classifier.threshold else "")
        )
    if arguments.regions:
        arguments.regions.write_text(
            json.dumps({name: [dataclasses.asdict(r) for r in regions] for name, regions in found.items()})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
