"""Measures the cost of an explanation beside its own forward passes and beside the obvious implementation.

    python bench/explain.py [--sizes 64x128 224x224] [--perturbations 10 50 200 500] [--top-n 5 20] [--output DIR]

Three implementations are measured in one run, in turns, on the same inputs: the bare batched forward pass of the
perturbed copies and the image itself, with PyTorch's convolutions; ours; and the obvious one (all activations are
stored, the paper's moments are computed with numpy, captum's NeuronDeconvolution runs once for each neuron). At n = 50,
further ways are measured: the bare pass with our convolutions, our explanation with PyTorch's convolutions, without the
proof of the influence, and with the paper's six metrics only. The influence of the image alone, with patches, is
measured beside the bare pass of one window (n = 0). Every measurement has a process of its own, so that its peak memory
is its own. All n are measured with the first N, all N with n = 50 (or the first n). The command prints a table, writes
JSON and a plot, and continues an interrupted run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import resource
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.inputs import classifier_for, image_for
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, PAPER_METRICS
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.sampling import chunk_size
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.precision import resolve
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Each measurement runs in a process that is forked from one that has imported everything and run nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bench.explain", "captum.attr"])

#: The paper's noise.
SIGMA = 0.1

#: Number of perturbations of the warm-up run; they fill a chunk.
WARM_UP = 26


@dataclass(frozen=True)
class Case:
    """One measurement: one of WAYS, an image size (width, height), n and N. n = 0 is the image alone."""

    way: str
    width: int
    height: int
    perturbations: int
    top_n: int


def settings_for(case: Case, precision: str = "auto", **changes: Any) -> ExplainSettings:
    """Return the settings of an explanation: all eight metrics of layers 3 to 9, patches and proof for all of them.

    Of the image alone, they are those of the preset "live".
    """
    preset = {} if case.perturbations else PRESETS["live"]
    fields = {"perturbations": case.perturbations, "sigma": SIGMA, "top_n": case.top_n, "compute_precision": precision}
    return ExplainSettings(**(preset | fields | changes))


def bare(case: Case, precision: str = "float32") -> Callable[[], object]:
    """Run only the forward passes, in the memory layout and the chunks of our explainer."""
    classifier, image = classifier_for(case.width, case.height), image_for(case.width, case.height)
    network = classifier.prepared(resolve(precision, classifier.device, SIGMA))
    pixels = classifier.to_pixels(image[None])
    copies = pixels
    if case.perturbations:
        copies = torch.cat([pixels, Perturbations(pixels[0], SIGMA).take(case.perturbations)])
    chunk = chunk_size(pixels)

    @torch.inference_mode()
    def run() -> None:
        for first in range(0, len(copies), chunk):
            network(classifier.normalise(copies[first : first + chunk]))

    return run


def ours(case: Case, precision: str = "auto", **changes: Any) -> Callable[[], object]:
    """Run our explainer, with changes of the settings."""
    explainer = Explainer(classifier_for(case.width, case.height), settings_for(case, precision, **changes))
    image = image_for(case.width, case.height)
    return lambda: explainer.explain(image)


def obvious(case: Case) -> Callable[[], object]:
    """Run the first implementation that comes to mind: hooks, all activations, numpy, and captum neuron by neuron."""
    from captum.attr import NeuronDeconvolution

    classifier, settings = classifier_for(case.width, case.height), settings_for(case)
    pixels = classifier.to_pixels(image_for(case.width, case.height)[None])
    layers = [x for x in convolution_layers(classifier.network.features) if x.number in settings.layers]
    network = classifier.network

    def forward(batch: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        kept: dict[int, np.ndarray] = {}
        hooks = [
            network.features[x.activation].register_forward_hook(
                lambda _m, _i, o, number=x.number: kept.update({number: o.numpy().copy()})
            )
            for x in layers
        ]
        with torch.inference_mode():
            logits = network(classifier.normalise(batch)).numpy()
        for hook in hooks:
            hook.remove()
        return logits[:, 1] - logits[:, 0], kept

    def run() -> list[tuple[int, int, Any]]:
        copies = Perturbations(pixels[0], settings.sigma).take(settings.perturbations)
        _, clean = forward(pixels)
        outputs, kept = forward(copies)
        o = outputs - outputs.mean()
        neurons: dict[int, set[int]] = {}
        for x in layers:
            z = kept[x.number]
            variance = z.var(0)
            with np.errstate(all="ignore"):
                r = np.abs(((z - z.mean(0)) * o[:, None, None, None]).mean(0)) / np.sqrt(variance * o.var())
                correlation = np.nanmean(np.where(variance > 0, r, np.nan), (1, 2))
                precision = 1 / variance.mean((1, 2))
            precision[z.mean((0, 2, 3)) < settings.precision_lambda * z.mean()] = np.nan
            following: Any = network.features[convolution_layers(network.features)[x.number].convolution]
            weights = following.weight.detach().numpy().swapaxes(0, 1).reshape(x.channels, -1)
            image = clean[x.number][0]
            scores = (correlation, precision, image.sum((1, 2)), image.var((1, 2)), weights.sum(1), weights.var(1))
            neurons[x.number] = {
                int(c) for s in scores for c in np.argsort(-np.nan_to_num(s, nan=-np.inf))[: settings.top_n]
            }
        patches = []
        # captum needs ReLUs of their own, which do not work in place.
        modules = [nn.ReLU() if isinstance(m, nn.ReLU) else m for m in network.features]
        for x in layers:
            model = nn.Sequential(*modules[: x.activation + 1])
            for channel in sorted(neurons[x.number]):
                image = clean[x.number][0, channel]
                row, column = divmod(int(image.argmax()), image.shape[1])
                batch = classifier.normalise(pixels).requires_grad_()
                deconvolution = NeuronDeconvolution(model, model[x.activation])
                attribution = deconvolution.attribute(batch, (channel, row, column))[0].detach()
                strength = attribution.abs().amax(0)
                rows, columns = (strength > settings.patch_share * strength.max()).numpy().nonzero()
                patches.append((x.number, channel, (rows, columns)))
        return patches

    return run


#: Name of each implementation, and the function that prepares it.
WAYS: dict[str, tuple[str, Callable[[Case], Callable[[], object]]]] = {
    "bare": ("bare forward pass", bare),
    "bare-auto": ("bare forward pass, our convolutions", lambda case: bare(case, "auto")),
    "ours": ("all eight metrics, with proof", ours),
    "ours-unproved": ("all eight metrics, without proof", lambda case: ours(case, proof="none")),
    "ours-paper": ("the paper's six metrics", lambda case: ours(case, metrics=PAPER_METRICS)),
    "ours-float32": ("all eight metrics, PyTorch's convolutions", lambda case: ours(case, "float32")),
    "obvious": ("the paper's six, the obvious way", obvious),
    "live-unproved": ("influence of the image alone, without proof", lambda case: ours(case, proof="none")),
    "live": ("influence of the image alone, proof together", ours),
    "live-each": ("influence of the image alone, proof of each", lambda case: ours(case, proof="each")),
}

#: Maximum time for repetitions of the obvious implementation, in seconds, unless all implementations are compared.
OBVIOUS_SECONDS = 60.0

#: Short runs are repeated within a measurement for this many seconds, and at most this many times.
SHORT_SECONDS, SHORT_RUNS = 1.0, 15

#: Implementations that are measured at every n.
EVERYWHERE = ("bare", "ours", "obvious")

#: Implementations that are measured with the image alone. The bare pass is that of one window.
ALONE = ("bare", "bare-auto", "live-unproved", "live", "live-each")


def measure(case: Case) -> dict[str, float]:
    """Measure runs after a warm-up: median seconds, and peak memory in MiB above the process's memory before all."""
    warnings.simplefilter("ignore")
    make = WAYS[case.way][1]
    run = make(case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warming = bare if case.way == "obvious" else make
    warming(dataclasses.replace(case, perturbations=min(WARM_UP, case.perturbations)))()
    seconds: list[float] = []
    while not seconds or (sum(seconds) < SHORT_SECONDS and len(seconds) < SHORT_RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def measure_apart(case: Case) -> dict[str, float] | None:
    """Run `measure` in a process of its own; return None if it needs more memory than there is."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_measure_into, args=(sender, case))
    process.start()
    sender.close()
    try:
        result: dict[str, float] | str | None = receiver.recv()
    except EOFError:
        result = ""
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    if process.exitcode or isinstance(result, str):
        raise RuntimeError(f"{case} failed: {result}")
    return result


def limit_memory() -> None:
    """Let allocations beyond the machine's memory fail, before the system ends another process."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (total, total))


def _measure_into(sender: Connection, case: Case) -> None:
    limit_memory()
    try:
        sender.send(measure(case))
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError) or "not enough memory" in str(error)
        sender.send(None if short else f"{type(error).__name__}: {error}")


def groups_of(arguments: argparse.Namespace) -> list[list[Case]]:
    """Return the groups of cases that are compared side by side, one case for each implementation."""
    sizes = [tuple(map(int, size.split("x"))) for size in arguments.sizes]
    usual = 50 if 50 in arguments.perturbations else arguments.perturbations[0]
    counts = [(n, arguments.top_n[0]) for n in arguments.perturbations]
    counts += [(usual, top_n) for top_n in arguments.top_n[1:]]
    of_perturbations = [way for way in WAYS if way not in ALONE or way.startswith("bare")]
    return [
        *([Case(way, width, height, 0, arguments.top_n[0]) for way in ALONE] for width, height in sizes),
        *(
            [
                Case(way, width, height, n, top_n)
                for way in of_perturbations
                if way in EVERYWHERE or (n, top_n) == (usual, arguments.top_n[0])
            ]
            for width, height in sizes
            for n, top_n in counts
        ),
    ]


def spent(samples: list[dict[str, float] | None]) -> float:
    """Return the total time of measurements, in seconds."""
    return sum(sample["seconds"] for sample in samples if sample is not None)


def summarise(group: list[Case], samples: dict[Case, list[dict[str, float] | None]]) -> list[dict[str, Any]]:
    """Return one row for each case: medians, and the median ratio to the first case in the same turn.

    Values are None if the machine has too little memory.
    """
    base = samples[group[0]]
    rows = []
    for case in group:
        measured = [(s, b) for s, b in zip(samples[case], base, strict=False) if s is not None and b is not None]
        rows.append(
            dataclasses.asdict(case)
            | {
                "seconds": statistics.median(s["seconds"] for s, _ in measured) if measured else None,
                "peak_mib": statistics.median(s["peak"] for s, _ in measured) if measured else None,
                "ratio": statistics.median(s["seconds"] / b["seconds"] for s, b in measured) if measured else None,
                "repeats": len(measured),
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the rows."""
    print(f"{'size':>9} {'n':>5} {'N':>4} {'way':<40} {'seconds':>9} {'times bare':>11} {'peak MiB':>9} {'repeats':>8}")
    for row in rows:
        size = f"{row['width']}x{row['height']}"
        head = f"{size:>9} {row['perturbations']:>5} {row['top_n']:>4} {WAYS[row['way']][0]:<40} "
        if row["seconds"] is None:
            print(head + "needs more memory than this machine has")
            continue
        print(head + f"{row['seconds']:>9.3f} {row['ratio']:>11.2f} {row['peak_mib']:>9.0f} {row['repeats']:>8}")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot time and peak memory over n, with a column for each size."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = [r for r in rows if r["way"] in EVERYWHERE and r["perturbations"] and r["top_n"] == rows[0]["top_n"]]
    sizes = list(dict.fromkeys((r["width"], r["height"]) for r in rows))
    colours = {"bare": "#888888", "ours": "#1b7837", "obvious": "#c2410c"}
    figure, axes = pyplot.subplots(2, len(sizes), figsize=(5 * len(sizes), 7), squeeze=False, layout="constrained")
    for column, size in enumerate(sizes):
        for line, (key, label) in enumerate((("seconds", "seconds"), ("peak_mib", "peak memory, MiB"))):
            axis = axes[line, column]
            # The inputs of the bare pass exist before it begins, so its peak says nothing.
            for way in EVERYWHERE if key == "seconds" else EVERYWHERE[1:]:
                points = [
                    (r["perturbations"], r[key])
                    for r in rows
                    if r["way"] == way and (r["width"], r["height"]) == size and r[key] is not None
                ]
                if points:
                    axis.plot(*zip(*points, strict=True), "o-", color=colours[way], label=WAYS[way][0])
            axis.set(xscale="log", yscale="log", xlabel="perturbations n", ylabel=label)
            axis.set_title(f"{size[0]} x {size[1]} pixels")
            axis.set_xticks(sorted({r["perturbations"] for r in rows}), minor=False)
            axis.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64x128", "224x224"], help="[%(default)s]")
    parser.add_argument("--perturbations", nargs="+", type=int, default=[10, 50, 200, 500], help="[%(default)s]")
    parser.add_argument("--top-n", nargs="+", type=int, default=[5, 20], help="[%(default)s]")
    parser.add_argument("--repeats", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=900, help="of a comparison; fewer repeats then [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "explain.json"
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": PersonClassifier.load().model_hash,
        "metrics": list(DEFAULT_METRICS),
    }
    before = json.loads(file.read_text()) if file.exists() else {}
    rows: list[dict[str, Any]] = before["rows"] if before.get("machine") == machine else []
    done = {json.dumps({k: r[k] for k in dataclasses.asdict(Case("", 0, 0, 0, 0))}) for r in rows}
    groups = [g for g in groups_of(arguments) if any(json.dumps(dataclasses.asdict(c)) not in done for c in g)]
    for group in tqdm(groups, unit="comparison"):
        samples: dict[Case, list[dict[str, float] | None]] = {case: [] for case in group}
        start = time.perf_counter()
        # The ways are measured in turns, so that other load of the machine affects all of them alike.
        for _ in range(arguments.repeats):
            for case in group:
                enough = (
                    case.way == "obvious" and len(group) == len(EVERYWHERE) and spent(samples[case]) > OBVIOUS_SECONDS
                )
                if None not in samples[case] and not enough:
                    samples[case].append(measure_apart(case))
            if time.perf_counter() - start > arguments.seconds:
                break
        rows += summarise(group, samples)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
        partial.replace(file)
    print_table(rows)
    plot(rows, arguments.output / "explain.png")
    print(f"figures are in {file}, a plot beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
