"""Count the labelled persons that a scan of each frame finds, and its false alarms.

    python tools/evaluate_scan.py FRAMES [--labels test/data/street_labels.csv] [--weights FILE]

FRAMES is the folder of the frames that the labels name. The result is a table over thresholds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import Matches, match, read_labels

LABELS = Path(__file__).resolve().parent.parent / "test/data/street_labels.csv"


def main() -> int:
    """Scan the frames and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("frames", type=Path, help="folder of the frames")
    parser.add_argument("--labels", type=Path, default=LABELS, help="labels, CSV [test/data/street_labels.csv]")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument("--regions", type=Path, help="JSON file for the regions that are found in each frame")
    for item in dataclasses.fields(ScanSettings):
        if not isinstance(item.default, bool):
            parser.add_argument("--" + item.name.replace("_", "-"), type=type(item.default), default=item.default)
    arguments = parser.parse_args()
    settings = ScanSettings(
        **{f.name: getattr(arguments, f.name) for f in dataclasses.fields(ScanSettings) if hasattr(arguments, f.name)}
    )
    classifier = PersonClassifier.load(arguments.weights)
    labels = read_labels(arguments.labels)
    thresholds = sorted({0.5, 0.7, 0.8, 0.9, 0.95, 0.98, classifier.threshold})
    totals = dict.fromkeys(thresholds, Matches())
    found: dict[str, list[Region]] = {}
    for name, of_frame in tqdm(labels.items(), unit="frame", mininterval=5):
        image = cv2.imread(str(arguments.frames / name))
        if image is None:
            print(f"there is no frame {name} in {arguments.frames}: give the folder of the frames", file=sys.stderr)
            return 1
        # The regions of a higher threshold are among those of a lower one, so one scan serves all thresholds.
        found[name] = classifier.scan(np.ascontiguousarray(image[:, :, ::-1]), settings, thresholds[0])
        for threshold in thresholds:
            reached = [r for r in found[name] if r.probability >= threshold]
            totals[threshold] += match(reached, of_frame)
    print(f"{'threshold':>10} {'persons':>8} {'found':>8} {'recall':>8} {'false alarms a frame':>21}")
    for threshold, total in totals.items():
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
