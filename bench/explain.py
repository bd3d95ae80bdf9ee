"""What an explanation costs beside its own forward passes, and beside the obvious way to make it.

    python bench/explain.py [--sizes 64x128 224x224] [--perturbations 50] [--top-n 5] [--repeats 5] [--output DIR]

All in one run, in turns, on the same inputs: the bare batched forward pass of the perturbed copies and the image
itself; ours; and the obvious way (all activations kept, moments with numpy, one captum NeuronDeconvolution a neuron).
Every measurement is a process of its own, so that its peak memory is its own. Prints a table; writes JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer, ExplainSettings
from explain_cnn_ros.network import VGGClassifier, convolution_layers
from explain_cnn_ros.perturbation import Perturbations
from explain_cnn_ros.sampling import CHUNK

WAYS = ("bare", "ours", "obvious")


@dataclass(frozen=True)
class Case:
    """What is measured: a way, an image size (width, height), n and N."""

    way: str
    width: int
    height: int
    perturbations: int
    top_n: int
    arithmetic: str = "float32"


def classifier_for(width: int, height: int) -> PersonClassifier:
    """The shipped convolutions; for windows of another size under dense layers of random weights."""
    shipped = PersonClassifier.load()
    if (width, height) == shipped.info.input_size:
        return shipped
    torch.manual_seed(0)
    network = VGGClassifier(shipped.info.architecture, (width, height), shipped.info.hidden)
    network.features.load_state_dict(shipped.network.features.state_dict())
    info = dataclasses.replace(shipped.info, input_size=(width, height))
    return PersonClassifier(network, info, shipped.device)


def image_for(width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Coarse colours and fine grain: about as alive as a photo."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 235, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return (coarse[:height, :width] + rng.uniform(-20, 20, (height, width, 3))).astype(np.uint8)


def settings_for(case: Case) -> ExplainSettings:
    """All six metrics of layers 3 to 9, patches for all."""
    return ExplainSettings(perturbations=case.perturbations, top_n=case.top_n, arithmetic=case.arithmetic)


def bare(case: Case) -> Callable[[], object]:
    """Nothing but the forward passes, in the layout, the arithmetic and the chunks of ours."""
    classifier, image = classifier_for(case.width, case.height), image_for(case.width, case.height)
    pixels = classifier.to_pixels(image[None])
    copies = torch.cat([pixels, Perturbations(pixels[0], 0.1).take(case.perturbations)])
    chunk = CHUNK[classifier.device.type]
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(case.arithmetic)

    @torch.inference_mode()
    def run() -> None:
        with torch.autocast(classifier.device.type, dtype, enabled=dtype is not None):
            for first in range(0, len(copies), chunk):
                classifier.network(classifier.normalise(copies[first : first + chunk]))

    return run


def ours(case: Case) -> Callable[[], object]:
    """The explainer."""
    explainer = Explainer(classifier_for(case.width, case.height), settings_for(case))
    image = image_for(case.width, case.height)
    return lambda: explainer.explain(image)


def obvious(case: Case) -> Callable[[], object]:
    """What one writes first: hooks, all activations, numpy, and captum for each neuron by itself."""
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


def measure(case: Case) -> dict[str, float]:
    """Seconds of one run after a warm-up, and the process's peak memory, in MiB, above what it held before both."""
    warnings.simplefilter("ignore")
    run = {"bare": bare, "ours": ours, "obvious": obvious}[case.way](case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if case.way != "obvious":
        run()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def measure_apart(case: Case) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(dataclasses.asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64x128", "224x224"], help="[%(default)s]")
    parser.add_argument("--perturbations", nargs="+", type=int, default=[50], help="[%(default)s]")
    parser.add_argument("--top-n", nargs="+", type=int, default=[5], help="[%(default)s]")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="[%(default)s]")
    parser.add_argument("--arithmetic", nargs="+", default=["float32"], help="[%(default)s]")
    parser.add_argument("--repeats", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(Case(**json.loads(arguments.case)))))
        return 0
    sizes = [tuple(map(int, size.split("x"))) for size in arguments.sizes]
    groups = list(itertools.product(sizes, arguments.perturbations, arguments.top_n, arguments.arithmetic))
    cases = [[Case(way, w, h, n, top, arithmetic) for way in arguments.ways] for (w, h), n, top, arithmetic in groups]
    samples: dict[Case, list[dict[str, float]]] = {case: [] for group in cases for case in group}
    with tqdm(total=len(samples) * arguments.repeats, unit="run") as progress:
        for group in cases:
            # In turns: the machine's moods strike all ways alike.
            for _ in range(arguments.repeats):
                for case in group:
                    samples[case].append(measure_apart(case))
                    progress.update()
    rows = []
    for group in cases:
        seconds = {c.way: statistics.median(s["seconds"] for s in samples[c]) for c in group}
        for case in group:
            ratios = [s["seconds"] / b["seconds"] for s, b in zip(samples[case], samples[group[0]], strict=True)]
            rows.append(
                dataclasses.asdict(case)
                | {
                    "seconds": seconds[case.way],
                    "peak_mib": statistics.median(s["peak"] for s in samples[case]),
                    f"times_{group[0].way}": statistics.median(ratios),
                }
            )
    base = f"times_{arguments.ways[0]}"
    print(f"{'size':>9} {'n':>5} {'N':>4} {'arithmetic':>11} {'way':>8} {'seconds':>9} {base:>11} {'peak MiB':>9}")
    for row in rows:
        print(
            f"{row['width']}x{row['height']:<5} {row['perturbations']:>5} {row['top_n']:>4} {row['arithmetic']:>11} "
            f"{row['way']:>8} {row['seconds']:>9.3f} {row[base]:>11.2f} {row['peak_mib']:>9.0f}"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "weights": PersonClassifier.load().model_hash,
        "repeats": arguments.repeats,
        "command": " ".join(sys.argv),
    }
    (arguments.output / "explain.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"figures are in {arguments.output / 'explain.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
