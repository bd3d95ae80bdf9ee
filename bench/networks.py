"""Explains networks of torchvision, and measures what that costs and whether the influences are right.

    python bench/networks.py [--size 224] [--perturbations 50] [--threads 2] [--output DIR] [NAME ...]

The networks have random weights. For each, the table has the number of convolutions that can be explained and of those
that are by default; the time of one forward pass of a window; and the time of an explanation by the preset `live`, and
by the default metrics with perturbations, as multiples of a forward pass. `error` compares the influences of the
explained layers with a reference, as the largest difference relative to the largest influence of the layer, in float64:
autograd with hooks on the modules that compute the activations. `checked` is the number of the layers whose activation
is the output of a module; those of functions cannot be hooked. Networks that the method does not suit are listed with
the reason. The command prints the table and writes JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import image_for
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.network_adapter import NetworkAdapter
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

NETWORKS = (
    *("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "vgg11_bn", "densenet121"),
    *("squeezenet1_1", "convnext_tiny", "vit_b_16", "swin_t"),
)
CLASSES = ("background", "person", "forklift", "pallet")


def classifier_of(name: str, size: int) -> PersonClassifier:
    """Build a random network whose batch norms, and last layer, do something.

    Raises:
        ValueError: The network cannot be used.
    """
    torch.manual_seed(0)
    network = TorchvisionClassifier(name, (size, size), len(CLASSES)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]
    for module in last:
        module.weight.data.normal_(0, 0.05)
    info = ModelInfo(architecture=name, source="torchvision", input_size=(size, size), classes=CLASSES)
    return PersonClassifier(network, info, "cpu")


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median duration of a function."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def influence_error(adapter: NetworkAdapter, layers: tuple[int, ...], image: NDArray[np.uint8]) -> tuple[float, int]:
    """Compare influences with autograd and hooks on modules.

    Args:
        adapter: The adapter, in float64.
        layers: The layers.
        image: The window.

    Returns:
        The largest relative error, NaN if no layer could be checked; and the number of checked layers.
    """
    pixels = adapter.classifier.to_pixels(image[None])
    trace = adapter.trace(pixels, layers, gradients="logit")
    twin = copy.deepcopy(adapter.classifier.network)
    for module in twin.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return None
        outputs.append(output)
        # The copy may be changed in place.
        return output.clone()

    for module in twin.modules():
        if not list(module.children()):
            module.register_forward_hook(keep)
    logits = twin(adapter.classifier.normalise(pixels).requires_grad_())
    errors = []
    for layer in layers:
        expected = trace.activations[layer]
        found = [o for o in outputs if o.shape == expected.shape and torch.equal(o.detach(), expected)]
        if found:
            (gradient,) = torch.autograd.grad(adapter.output(logits).sum(), found[0], retain_graph=True)
            influences = (found[0] * gradient).detach().sum((2, 3))
            scale = influences.abs().max()
            errors.append(float((trace.influences[layer] - influences).abs().max() / scale))
    return max(errors, default=float("nan")), len(errors)


def measure(name: str, size: int, perturbations: int) -> dict[str, Any]:
    """Return the row of a network."""
    try:
        classifier = classifier_of(name, size)
        explainer = Explainer(classifier, ExplainSettings(perturbations=perturbations))
    except (TypeError, ValueError) as error:
        return {"network": name, "refused": str(error)}
    image = image_for(size, size)
    live = Explainer(classifier, ExplainSettings.preset("live"))
    classifier.probability(image[None])
    forward = seconds(lambda: classifier.probability(image[None]), 7)
    live.explain(image)
    row = {
        "network": name,
        "convolutions": len(explainer.adapter.layers),
        "explained": [explainer.adapter.layers[number].name for number in explainer.settings.layers],
        "forward": forward,
        "live": seconds(lambda: live.explain(image), 3),
        "full": seconds(lambda: explainer.explain(image), 1),
    }
    classifier = PersonClassifier(classifier.network.double(), classifier.info, "cpu")
    exact = Explainer(classifier, ExplainSettings.preset("live", compute_precision="float32"))
    row["error"], row["checked"] = influence_error(exact.adapter, exact.settings.layers, image)
    return row


def main(argv: list[str] | None = None) -> int:
    """Run the command with the given arguments, or with those of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME", help="networks of torchvision [those of the table]")
    parser.add_argument("--size", type=int, default=224, help="width and height of the windows [%(default)s]")
    parser.add_argument("--perturbations", type=int, default=50, help="number of perturbations [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder of the JSON file")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    print("| network | convolutions | explained | forward | live | all metrics | error | checked |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name in arguments.networks or NETWORKS:
        rows.append(measure(name, arguments.size, arguments.perturbations))
        row = rows[-1]
        if "refused" in row:
            print(f"| {name} | refused: {row['refused']} | | | | | | |", flush=True)
            continue
        times = [f"{row[key] / row['forward']:.1f}" for key in ("live", "full")]
        print(
            f"| {name} | {row['convolutions']} | {len(row['explained'])} | {1e3 * row['forward']:.0f} ms | "
            f"{' | '.join(times)} | {row['error']:.1g} | {row['checked']} |",
            flush=True,
        )
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "networks.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
