"""Which noise, and how much of it, gives rankings that another seed gives as well.

    python bench/stability.py [--windows 20] [--output DIR]

Windows around labelled persons of the sample recording, and beside them. For each setting and window, two seeds:
'seeds' is the mean Jaccard index of the top 5 of both, over windows and layers 3 to 9; 'halves' the mean split-half
stability that an explanation reports. What a setting costs is n forward passes of the window. Prints a line a setting;
writes JSON, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from explain_cnn_ros import importance
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.importance import PERTURBATION_METRICS, jaccard
from explain_cnn_ros.ranking import Evidence
from explain_cnn_ros.sampling import Sampler
from explain_cnn_ros.scanning import PERSON_SHARE, crop, overlap
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.training.detection import read_labels

ROOT = Path(__file__).resolve().parent.parent

#: (noise, length, sigma, n): the paper's, the authors', and what might do better.
GRID: list[tuple[str, float, float, int]] = [
    *(("white", 16.0, sigma, n) for sigma, n in ((0.1, 50), (0.1, 200), (0.1, 500), (0.4, 50))),
    ("ramp", 16.0, 0.1, 50),
    *(("smooth", 16.0, sigma, n) for sigma, n in ((0.1, 50), (0.1, 200), (0.02, 50))),
    *(("smooth", 32.0, sigma, n) for sigma, n in ((0.1, 50), (0.1, 200))),
    *(("orthogonal", 26.0, sigma, 50) for sigma in (0.01, 0.02, 0.05, 0.1, 0.2)),
    *(("orthogonal", 32.0, sigma, 32) for sigma in (0.02, 0.05, 0.1)),
    *(("orthogonal", 64.0, sigma, 14) for sigma in (0.02, 0.05)),
    *(("orthogonal", 16.0, sigma, 92) for sigma in (0.02, 0.05, 0.1)),
    *(("orthogonal", 26.0, sigma, 200) for sigma in (0.05, 0.1)),
]


def windows(count: int) -> list[NDArray[np.uint8]]:
    """Windows of 64 x 128, three of four around persons; always the same."""
    labels = read_labels(ROOT / "test/data/street_labels.csv")
    types, rng = get_typestore(Stores.ROS2_JAZZY), np.random.default_rng(0)
    persons, elsewhere = [], []
    with BagReader(ROOT / "sample/street") as bag:
        for index, message in enumerate(bag.messages([bag.image_topic().name])):
            name = f"{200 + 2 * index:04d}.jpg"
            if name not in labels:
                continue
            data: Any = types.deserialize_cdr(message.data, message.type)
            bgr: Any = cv2.imdecode(np.frombuffer(bytes(data.data), np.uint8), cv2.IMREAD_COLOR)
            frame = np.ascontiguousarray(bgr[..., ::-1])
            boxes = []
            for label in labels[name]:
                x, y, width, height = label.box
                tall = height / PERSON_SHARE
                boxes.append((x + width / 2 - tall / 4, y + height / 2 - tall / 2, tall / 2, tall))
            persons += [
                crop(frame, *box, (64, 128)) for box, lab in zip(boxes, labels[name], strict=True) if not lab.ignore
            ]
            while True:
                tall = rng.uniform(90, 180)
                box = np.array([rng.uniform(0, 768 - tall / 2), rng.uniform(0, 576 - tall), tall / 2, tall])
                if overlap(box, np.array(boxes)).max() < 0.05:
                    elsewhere.append(crop(frame, *box, (64, 128)))
                    break
    others = count // 4
    chosen = rng.permutation(len(persons))[: count - others]
    return [persons[i] for i in chosen] + elsewhere[:others]


@torch.inference_mode()
def tops(classifier: PersonClassifier, window: NDArray[np.uint8], settings: ExplainSettings) -> dict[Any, Any]:
    """By metric and layer: (what is selected, split-half stability)."""
    sampler = Sampler(classifier, settings, classifier.to_pixels(window[None]))
    sampler.run(settings.perturbations)
    activations = {layer: a[0] for layer, a in sampler.clean.activations.items()}
    evidence = Evidence(settings, activations, sampler.moments)
    return {
        (metric, layer): (
            set(importance.rank(evidence.score(metric, layer), settings.top_n).tolist()),
            evidence.stability(metric, layer),
        )
        for metric in PERTURBATION_METRICS
        for layer in settings.layers
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--weights", type=Path, help="[the weights that ship with the package]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    classifier = PersonClassifier.load(arguments.weights)
    images = windows(arguments.windows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "stability.json"
    rows: list[dict[str, Any]] = []
    if path.exists():
        record = json.loads(path.read_text())
        if (record["weights"], record["windows"]) == (classifier.model_hash, len(images)):
            rows = record["rows"]
    print(f"{'noise':>10} {'length':>7} {'sigma':>6} {'n':>4} | correlation: seeds halves | precision: seeds halves")
    done = {(r["noise"], r["length"], r["sigma"], r["n"]): r for r in rows}
    for noise, length, sigma, n in GRID:
        row = done.get((noise, length, sigma, n))
        if row is None:
            settings = ExplainSettings(perturbations=n, sigma=sigma, noise=noise, noise_length=length)
            row = {"noise": noise, "length": length, "sigma": sigma, "n": n}
            found: dict[str, list[tuple[float, float]]] = {metric: [] for metric in PERTURBATION_METRICS}
            for image in tqdm(images, desc=f"{noise} {length:g} {sigma:g} {n}", leave=False, mininterval=5):
                one, other = (tops(classifier, image, dataclasses.replace(settings, seed=seed)) for seed in (0, 1))
                for metric, layer in one:
                    a, b = one[metric, layer], other[metric, layer]
                    found[metric].append((jaccard(a[0], b[0]), a[1]))
            for metric, pairs in found.items():
                row[metric] = {
                    "seeds": float(np.nanmean([p[0] for p in pairs])),
                    "halves": float(np.nanmean([p[1] for p in pairs])),
                }
            rows.append(row)
            path.write_text(
                json.dumps({"weights": classifier.model_hash, "windows": len(images), "rows": rows}, indent=1) + "\n"
            )
        c, p = (row[metric] for metric in PERTURBATION_METRICS)
        print(
            f"{noise:>10} {length:>7g} {sigma:>6g} {n:>4} | {c['seeds']:>18.2f} {c['halves']:>6.2f} | "
            f"{p['seeds']:>16.2f} {p['halves']:>6.2f}",
            flush=True,
        )
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
