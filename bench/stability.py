"""Measures which noise, and how much of it, gives rankings that are nearly the same for another seed.

    python bench/stability.py [--windows 20] [--output DIR]

The windows are around labelled persons of the sample recording, and beside them. Each setting is measured with two
seeds on layers 3 to 9. `seeds` is the mean Jaccard index of the top 5 of both seeds, `halves` the mean split-half
stability that an explanation reports, and `stable` the share of rankings that reach the target of 0.8. A setting costs
n forward passes of the window. The command prints a line for each setting, writes JSON, and continues an interrupted
run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.inputs import windows
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: (noise, length, sigma, [n]): those of the paper and of the authors, and those that might be better. Orthogonal noise
#: comes in blocks: of 46 copies at length 16, 25 at 26, 16 at 32 and 7 at 64 in a window of 64 x 128 pixels.
GRID: list[tuple[str, float, float, list[int]]] = [
    ("white", 16.0, 0.02, [50]),
    ("white", 16.0, 0.1, [50, 200, 500]),
    ("white", 16.0, 0.4, [50, 200]),
    ("ramp", 16.0, 0.1, [50]),
    ("authors", 16.0, 0.1, [50]),
    ("smooth", 16.0, 0.02, [50]),
    ("smooth", 16.0, 0.1, [50, 200]),
    ("smooth", 32.0, 0.1, [50, 200]),
    *(("orthogonal", 64.0, sigma, [14]) for sigma in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)),
    *(("orthogonal", 32.0, sigma, [32]) for sigma in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)),
    *(("orthogonal", 26.0, sigma, [50]) for sigma in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)),
    *(("orthogonal", 16.0, sigma, [92]) for sigma in (0.005, 0.02, 0.05)),
    ("white", 16.0, 0.005, [50]),
    ("smooth", 32.0, 0.005, [50, 200]),
]


#: The metrics that depend on the noise, and the titles of their columns.
TITLES = dict(
    zip(
        (SUPPORTING, OPPOSING, *SIMILARITY_METRICS),
        ("supporting influence", "opposing influence", "correlation", "precision"),
        strict=True,
    )
)


def compare(
    classifier: PersonClassifier,
    images: list[NDArray[np.uint8]],
    noise: str,
    length: float,
    sigma: float,
    ns: list[int],
) -> list[dict[str, Any]]:
    """Return one row for each n."""
    settings = ExplainSettings(
        perturbations=ns[0], sigma=sigma, noise=noise, noise_length=length, metrics=tuple(TITLES)
    )
    explainers = [Explainer(classifier, dataclasses.replace(settings, seed=seed)) for seed in (0, 1)]
    pairs = [
        [explainer.rank_at(image, ns) for explainer in explainers]
        for image in tqdm(images, desc=f"{noise} {length:g} {sigma:g}", leave=False, mininterval=5)
    ]
    rows = []
    for index, n in enumerate(ns):
        row: dict[str, Any] = {"noise": noise, "length": length, "sigma": sigma, "n": n}
        for metric in TITLES:
            keys = [(metric, layer) for layer in settings.layers]
            both = [(one[index], other[index], key) for one, other in pairs for key in keys]
            halves = [ranked.stability[key] for one, other, key in both for ranked in (one, other)]
            row[metric] = {
                "seeds": float(np.nanmean([jaccard(set(a.channels[key]), set(b.channels[key])) for a, b, key in both])),
                "halves": float(np.nanmean(halves)),
                "stable": float(np.mean([h >= settings.stability_target for h in halves])),
            }
        rows.append(row)
    return rows


def costs(classifier: PersonClassifier, images: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Measure the median time of a whole explanation by preset, in turns, in seconds."""
    explainers = {name: Explainer(classifier, ExplainSettings.preset(name)) for name in PRESETS}
    seconds: dict[str, list[float]] = {name: [] for name in PRESETS}
    for image in [images[0], *images[:10]]:
        for name, explainer in explainers.items():
            start = time.perf_counter()
            explainer.explain(image)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> int:
    """Run the command."""
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
    print(" | ".join([f"{'':>29}", *(f"{title:^20}" for title in TITLES.values())]))
    columns = f"{'seeds':>6} {'halves':>6} {'stable':>6}"
    print(" | ".join([f"{'noise':>10} {'length':>6} {'sigma':>5} {'n':>5}", *[columns] * len(TITLES)]))
    for noise, length, sigma, ns in GRID:
        known = {
            r["n"]: r
            for r in rows
            if (r["noise"], r["length"], r["sigma"]) == (noise, length, sigma) and TITLES.keys() <= r.keys()
        }
        if not all(n in known for n in ns):
            known = {r["n"]: r for r in compare(classifier, images, noise, length, sigma, ns)}
            rows += known.values()
            record = {"weights": classifier.model_hash, "windows": len(images), "rows": rows}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(record, indent=1) + "\n")
            partial.replace(path)
        for n in ns:
            figures = " | ".join(
                " ".join(f"{known[n][metric][key]:>6.2f}" for key in ("seeds", "halves", "stable")) for metric in TITLES
            )
            shown = f"{length:>6g}" if noise in ("smooth", "orthogonal") else f"{'':>6}"
            print(f"{noise:>10} {shown} {sigma:>5g} {n:>5} | {figures}", flush=True)
    seconds = costs(classifier, images)
    for name, value in seconds.items():
        times = value / seconds["paper"]
        print(f"an explanation with preset {name}: {value:.2f} s, {times:.2f} times the paper's")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}, indent=1) + "\n")
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
