"""Measures what a scan costs, and how much 8-bit integers change the margin of a window.

    python bench/scan.py [--runs 7] [--data INRIA] [--weights FILE] [--output DIR]

The frames are those of the sample, resized to each size. The unit is the time of 16 windows in one batch of the bare
network, in float32, measured beside each scan in turns. The second table, with --data, has the differences between the
margins of a search and those of a decision, for all windows of a data set in one of the layouts that `train` reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from inputs import sample_frames
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.dense import dense_windows, pass_of
from explain_cnn_ros.scan.scanning import ScanSettings, propose, pyramid_scales
from explain_cnn_ros.training.augmentation import centred
from explain_cnn_ros.training.datasets import read_inria

#: Sizes (width, height) of the frames, and number of windows of the unit.
SIZES, UNIT = ((640, 480), (1280, 720)), 16


def seconds(function: Callable[[], object]) -> float:
    """Return the duration of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cost(classifier: PersonClassifier, size: tuple[int, int], runs: int) -> dict[str, float]:
    """Return the median times of a scan and of its parts, in units of the bare batch, and of the unit in seconds."""
    batch = classifier.normalise(classifier.to_pixels(np.zeros((UNIT, 128, 64, 3), np.uint8)))
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in sample_frames()[:: max(1, 50 // runs)]]
    settings, without = ScanSettings(), ScanSettings(proposer=False)

    def dense(frame: NDArray[np.uint8]) -> object:
        chosen = pass_of(classifier, proposer=True)
        return dense_windows(chosen, frame, pyramid_scales(frame.shape[0], chosen.window[1], settings))

    measured: dict[str, Callable[[NDArray[np.uint8]], object]] = {
        "bare": lambda frame: classifier.network(batch),
        "scan": lambda frame: classifier.scan(frame, settings),
        "of it: dense pass": dense,
        "of it: dense pass and fusion": lambda frame: propose(classifier, frame, settings),
    }
    if classifier.proposer is not None:
        measured["scan without the proposer"] = lambda frame: classifier.scan(frame, without)
    times: dict[str, list[float]] = {name: [] for name in measured}
    with torch.inference_mode():
        for function in measured.values():
            function(frames[0])
        for frame in frames:
            for name, function in measured.items():
                times[name].append(seconds(lambda f=function, x=frame: f(x)))
    bare = statistics.median(times["bare"])
    found = {name: statistics.median(values) / bare for name, values in times.items() if name != "bare"}
    return {"unit in seconds": bare} | found


def differences(classifier: PersonClassifier, data: Path) -> dict[str, float]:
    """Return how far the margins of a search are from those of a decision, over all windows of a data set."""
    found = read_inria(data)
    exact, rough = [], []
    photos = [*found.persons, *found.backgrounds]
    for first in tqdm(range(0, len(photos), UNIT), unit="batch", mininterval=5):
        images = [photo.read() for photo in photos[first : first + UNIT]]
        windows = np.stack([centred(image, classifier.info.input_size) for image in images])
        exact.append(classifier.locate(windows)[0])
        rough.append(classifier.locate(windows, search=True)[0])
    one, other = np.concatenate(exact).astype(np.float64), np.concatenate(rough).astype(np.float64)
    limit = np.log(classifier.threshold / (1 - classifier.threshold))
    change, flips = np.abs(one - other), (one >= limit) != (other >= limit)
    return {
        "windows": len(one),
        "mean change of the margin": float(change.mean()),
        "largest change": float(change.max()),
        "largest change within 6 of the threshold": float(change[np.abs(other - limit) < 6].max(initial=0.0)),
        "decisions that differ": int(flips.sum()),
        "distance of the farthest of these from the threshold": float(np.abs(other - limit)[flips].max(initial=0.0)),
    }


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="frames of each size [7]")
    parser.add_argument("--data", type=Path, help="folder of the INRIA person data")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder of the JSON [bench_output]")
    arguments = parser.parse_args()
    classifier = PersonClassifier.load(arguments.weights)
    results: dict[str, Any] = {f"{w} x {h}": cost(classifier, (w, h), arguments.runs) for w, h in SIZES}
    for size, row in results.items():
        print(f"{size}: unit (bare batch of {UNIT} windows) {1e3 * row['unit in seconds']:.0f} ms")
        for name, value in row.items():
            if name != "unit in seconds":
                print(f"    {name:<32} {value:6.2f} units")
    if arguments.data:
        results["search against decision"] = found = differences(classifier, arguments.data)
        print("\n".join(f"{name}: {value:.4g}" for name, value in found.items()))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "scan.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
