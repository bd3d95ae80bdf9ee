"""Compares the influence of neurons with the exact change of the output when each neuron is silenced.

    python bench/influence.py --data FOLDER [--windows 10] [--perturbations 50] [--threads 1] [--output DIR]

The windows are persons and backgrounds of test photos, in one of the layouts that the experiments read. For each
window, every neuron of the layers 3 to 9 is silenced by itself, 2,048 in all. The fall of the output is the reference
for the influence of the image alone, and for its mean over perturbations. `correlation` is Pearson's correlation over
the neurons of a layer, as the mean and the minimum over the windows. `top 5` is the mean Jaccard index of the five
neurons that support the shown decision most by influence and by silencing, and `shared` the share of the latter five
that influence selects as well. The command prints a table, writes JSON, and continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

#: The kinds of influence that are compared with silencing.
KINDS = ("image alone", "mean over perturbations")


def silenced_one_by_one(explainer: Explainer, ranked: RankedWindow, layer: int) -> Tensor:
    """Return the fall of the output if each neuron of a layer is silenced by itself, [C]."""
    sets: list[dict[int, list[int]]] = [{}]
    sets += [{layer: [channel]} for channel in range(explainer.adapter.layers[layer].channels)]
    outputs = torch.tensor(explainer.silence(ranked, sets).outputs, dtype=torch.float64)
    return outputs[0] - outputs[1:]


def compare(explainer: Explainer, example: Example) -> list[dict[str, Any]]:
    """Return one row for each layer and kind of influence."""
    ranked = explainer.rank(example.image)
    rows = []
    for layer in explainer.settings.layers:
        exact = silenced_one_by_one(explainer, ranked, layer)
        best = ranked.evidence.select(SUPPORTING, exact)
        of_layer = ranked.evidence.influences[layer]
        for kind, scores in zip(KINDS, (of_layer.image, of_layer.mean), strict=True):
            chosen = ranked.evidence.select(SUPPORTING, scores)
            rows.append(
                {
                    "window": example.name,
                    "person": example.person,
                    "layer": layer,
                    "kind": kind,
                    "correlation": pearson(scores.double().numpy(), exact.numpy()),
                    "jaccard": jaccard(set(chosen), set(best)),
                    "shared": len(set(chosen) & set(best)) / len(best) if best else float("nan"),
                }
            )
    return rows


def pearson(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of two samples."""
    return float(np.corrcoef(one, other)[0, 1])


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the mean over the windows for each layer."""
    print(
        f"{'windows':>11} {'layer':>5} {'influence':<24} {'correlation':>11} {'minimum':>8} {'top 5':>6} {'shared':>6}"
    )
    for person in (True, False):
        layers = sorted({row["layer"] for row in rows})
        for layers_of_line in [*([layer] for layer in layers), layers]:
            for kind in KINDS:
                chosen = [
                    r for r in rows if (r["person"], r["kind"]) == (person, kind) and r["layer"] in layers_of_line
                ]
                if not chosen:
                    continue
                values = {key: np.array([r[key] for r in chosen]) for key in ("correlation", "jaccard", "shared")}
                name = str(layers_of_line[0]) if len(layers_of_line) == 1 else "all"
                print(
                    f"{'persons' if person else 'backgrounds':>11} {name:>5} {kind:<24} "
                    f"{np.nanmean(values['correlation']):>11.4f} {np.nanmin(values['correlation']):>8.4f} "
                    f"{np.nanmean(values['jaccard']):>6.2f} {np.nanmean(values['shared']):>6.2f}"
                )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the windows or photos")
    parser.add_argument("--windows", type=int, default=10, help="persons, and as many backgrounds [%(default)s]")
    parser.add_argument("--perturbations", type=int, default=50, help="[%(default)s]")
    parser.add_argument("--layers", nargs="+", type=int, default=[3, 4, 5, 6, 7, 8, 9], help="[%(default)s]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = ExplainSettings(
        perturbations=arguments.perturbations, layers=tuple(arguments.layers), metrics=(SUPPORTING,)
    )
    explainer = Explainer(PersonClassifier.load(), settings)
    examples = read_examples(arguments.data, 0, arguments.windows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "influence.json"
    head = {
        "weights": explainer.classifier.model_hash,
        "precision": explainer.settings.compute_precision,
        "perturbations": settings.perturbations,
        "layers": list(settings.layers),
    }
    before = json.loads(path.read_text()) if path.exists() else {}
    rows: list[dict[str, Any]] = before["rows"] if {k: before.get(k) for k in head} == head else []
    for example in tqdm(examples, unit="window", mininterval=5):
        if any(row["window"] == example.name for row in rows):
            continue
        rows += compare(explainer, example)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")
        partial.replace(path)
    names = {example.name for example in examples}
    print_table([row for row in rows if row["window"] in names])
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
