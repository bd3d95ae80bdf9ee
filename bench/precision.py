"""Measures whether lower precisions select the same neurons as float32, and how much faster they are.

    python bench/precision.py [--windows 20] [--output DIR]

The windows are around labelled persons of the sample recording, and beside them; n = 50, layers 3 to 9, N = 5, with the
noise of two presets, and the influence of the image alone (live). The agreement of a precision is the Jaccard index of
its top 5 with the top 5 of float32, averaged over windows and layers: for the neurons that influence finds to support
and to oppose the decision, for correlation, for precision, and for all metrics. `time` is the time of the whole
explanation with its proof relative to float32, measured in turns. A precision that this machine does not multiply
natively is not timed; its agreement is that of convolutions whose inputs, weights and results are rounded as such
hardware rounds them, forwards and backwards, with sums in float32. `float32, regrouped` is float32 itself in other
chunks and shows the effect of rounding alone. The command prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from bench.inputs import windows
from explain_cnn_ros.explain import sampling
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.device import fast_low_precision
from explain_cnn_ros.scan.classifier import PersonClassifier

#: The two metrics of influence.
INFLUENCE = (SUPPORTING, OPPOSING)

#: The metrics that have a column of their own.
COLUMNS = (*INFLUENCE, *SIMILARITY_METRICS)

#: Below this agreement, by one of these metrics or by all, a precision is not used by default.
AGREEMENT_MIN = 0.95

Rounding = Callable[[Tensor], Tensor]


def to_tf32(x: Tensor) -> Tensor:
    """Round to 10 bits of mantissa."""
    bits = x.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def to_dtype(dtype: torch.dtype) -> Rounding:
    """Return the rounding to a dtype, with float32 results."""
    return lambda x: x.to(dtype).float()


#: Rounding of operands and of results, by precision.
ROUNDINGS: dict[str, tuple[Rounding, Rounding]] = {
    "tf32": (to_tf32, lambda x: x),
    "bfloat16": (to_dtype(torch.bfloat16), to_dtype(torch.bfloat16)),
    "float16": (to_dtype(torch.float16), to_dtype(torch.float16)),
}


class Rounded(torch.autograd.Function):
    """Rounds a tensor in the forward pass, and its gradient in the backward pass."""

    @staticmethod
    def forward(context: Any, x: Tensor, rounding: Rounding) -> Tensor:
        context.rounding = rounding
        return rounding(x).clone()  # the ReLUs work in place

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.rounding(gradient), None


@contextmanager
def rounding(precision: str) -> Iterator[None]:
    """Round the operands and the results of all layers, forwards and backwards."""
    of_operands, of_results = ROUNDINGS[precision]
    transposed = nn.functional.conv_transpose2d

    def operand(x: Tensor) -> Tensor:
        return Rounded.apply(x, of_operands)

    def result(x: Tensor) -> Tensor:
        return Rounded.apply(x, of_results)

    def backwards(x: Tensor, weight: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return result(transposed(operand(x), operand(weight), *arguments, **named))

    def convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
        return result(nn.functional.conv2d(operand(x), operand(layer.weight), layer.bias, padding=layer.padding))

    def dense(layer: nn.Linear, x: Tensor) -> Tensor:
        return result(nn.functional.linear(operand(x), operand(layer.weight), layer.bias))

    with (
        mock.patch.object(nn.Conv2d, "forward", convolution),
        mock.patch.object(nn.Linear, "forward", dense),
        mock.patch.object(nn.functional, "conv_transpose2d", backwards),
    ):
        yield


@contextmanager
def regrouping() -> Iterator[None]:
    """Use other chunks."""
    with mock.patch.object(sampling, "chunk_size", return_value=5):
        yield


def agreement(one: Explanation, other: Explanation) -> dict[str, list[float]]:
    """Return the Jaccard indices of the selected neurons, one value for each layer, by metric."""
    found: dict[str, list[float]] = {}
    for a, b in zip(one.rankings, other.rankings, strict=True):
        found.setdefault(a.metric, []).append(jaccard({n.channel for n in a.neurons}, {n.channel for n in b.neurons}))
    return found


def native(device: torch.device) -> list[str]:
    """Return the precisions that a device multiplies natively, except float32."""
    names = ["winograd"]
    if device.type == "cuda":
        names += ["float16"] + (["tf32", "bfloat16"] if fast_low_precision(device) else [])
    elif fast_low_precision(device):
        names.append("bfloat16")
    return names


def settings_of(preset: str, precision: str) -> ExplainSettings:
    """Return a preset with influence among its metrics."""
    settings = ExplainSettings.preset(preset, compute_precision=precision)
    return dataclasses.replace(settings, metrics=tuple(dict.fromkeys((*INFLUENCE, *settings.metrics))))


def compare(classifier: PersonClassifier, images: list[NDArray[np.uint8]], preset: str) -> list[dict[str, Any]]:
    """Return one row for each precision."""
    at_hand = native(classifier.device)
    explainers = {name: Explainer(classifier, settings_of(preset, name)) for name in ("float32", *at_hand)}
    seconds: dict[str, list[float]] = {name: [] for name in explainers}
    found: dict[str, list[dict[str, list[float]]]] = {}
    explainers["float32"].explain(images[0])
    for image in tqdm(images, desc=preset, leave=False, mininterval=5):
        results: dict[str, Explanation] = {}
        for name, explainer in explainers.items():
            start = time.perf_counter()
            results[name] = explainer.explain(image)
            seconds[name].append(time.perf_counter() - start)
        with regrouping():
            results["float32, regrouped"] = explainers["float32"].explain(image)
        for name in ROUNDINGS:
            if name not in at_hand:
                with rounding(name):
                    results[name] = explainers["float32"].explain(image)
        for name, result in results.items():
            found.setdefault(name, []).append(agreement(results["float32"], result))
    rows = []
    for name, of_images in found.items():
        by_metric = {metric: [v for one in of_images for v in one[metric]] for metric in of_images[0]}
        pairs = zip(seconds.get(name, ()), seconds["float32"], strict=False)
        ratios = [mine / reference for mine, reference in pairs]
        rows.append(
            {
                "preset": preset,
                "precision": name,
                **{metric: float(np.nanmean(by_metric[metric])) for metric in COLUMNS if metric in by_metric},
                "all": float(np.nanmean([v for values in by_metric.values() for v in values])),
                "time": statistics.median(ratios) if ratios else None,
            }
        )
    return rows


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--presets", nargs="+", default=["paper", "stable", "live"], help="[%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    classifier = PersonClassifier.load()
    images = windows(arguments.windows)
    rows = [row for preset in arguments.presets for row in compare(classifier, images, preset)]
    print(
        f"{'preset':>8} {'precision':<20} {'supporting':>10} {'opposing':>8} {'correlation':>11} {'precision':>9} "
        f"{'all':>6} {'time':>6}"
    )
    for row in rows:
        values = [row.get(metric) for metric in COLUMNS]
        agreed = min(value for value in (*values, row["all"]) if value is not None) >= AGREEMENT_MIN
        shown = f"{row['time']:.2f}" if row["time"] else "-"
        columns = " ".join(
            f"{'-' if value is None else format(value, '.3f'):>{width}}"
            for value, width in zip(values, (10, 8, 11, 9), strict=True)
        )
        print(
            f"{row['preset']:>8} {row['precision']:<20} {columns} {row['all']:>6.3f} {shown:>6}"
            + ("" if agreed else f"   below {AGREEMENT_MIN:g}: not used by default")
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "precision.json"
    record = {"weights": classifier.model_hash, "device": str(classifier.device), "windows": len(images), "rows": rows}
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
