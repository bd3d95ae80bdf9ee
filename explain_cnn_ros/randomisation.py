"""Is the explanation about what the network has learnt? What changes when its layers are re-initialised, top down.

    check_randomisation IMAGE... [--weights FILE] [--preset stable] [--output FILE]

IMAGE is an image file or a folder of them. After each layer that is re-initialised, with all layers above it, the
images are explained again: 'same neurons' is the Jaccard index of what a metric selects, before and after; 'same area'
the intersection over union of the pixels that its patches cover. Means over images and layers. A metric that still
selects the same where the network knows nothing any more does not explain what the network knows (Adebayo et al. 2018,
'Sanity Checks for Saliency Maps').
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer, ExplainSettings, Explanation
from explain_cnn_ros.explanation import LayerRanking
from explain_cnn_ros.importance import jaccard
from explain_cnn_ros.network import convolution_layers, initialise
from explain_cnn_ros.settings import PRESETS

#: The first stage: all dense layers at once.
DENSE = "dense"

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"})


@dataclasses.dataclass(frozen=True)
class Change:
    """What a metric still selects when the layers from the top down to `stage` are random.

    same_neurons: Jaccard index of the selected neurons before and after, mean over images and layers.
    same_area: intersection over union of the pixels that the patches cover, likewise.
    """

    stage: str
    metric: str
    same_neurons: float
    same_area: float


def randomised(classifier: PersonClassifier, seed: int) -> Iterator[tuple[str, PersonClassifier]]:
    """(stage, classifier) with one more layer re-initialised each time, from the dense layers down to conv1_1.

    The classifier itself is left alone; what is handed out is one copy, which changes from stage to stage.
    """
    network = copy.deepcopy(classifier.network)
    changed = PersonClassifier(network, classifier.info, classifier.device)
    features: list[nn.Module] = list(network.features)
    stages = [(layer.name, [features[layer.convolution]]) for layer in reversed(convolution_layers(network.features))]
    stages.insert(0, (DENSE, list(network.classifier.modules())))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
    for name, modules in stages:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            for module in modules:
                initialise(module)
            state = torch.get_rng_state()
        yield name, changed


def covered(ranking: LayerRanking, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of a frame of `size` (width, height) a ranking's patches cover, [H, W]."""
    area = np.zeros((size[1], size[0]), bool)
    for neuron in ranking.neurons:
        if neuron.patch is not None:
            p = neuron.patch
            area[p.y : p.y + p.height, p.x : p.x + p.width] = True
    return area


def same(before: Explanation, after: Explanation, metric: str) -> tuple[float, float]:
    """(neurons, area) that a metric selects in both of two explanations of one image: means over layers."""
    neurons, areas = [], []
    for layer in before.settings.layers:
        one, other = before.layer_ranking(metric, layer), after.layer_ranking(metric, layer)
        neurons.append(jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons}))
        a, b = covered(one, before.image_size), covered(other, before.image_size)
        areas.append(float((a & b).sum() / (a | b).sum()) if (a | b).any() else float("nan"))
    return mean(neurons), mean(areas)


def mean(values: Sequence[float]) -> float:
    """Without those that are NaN; NaN if there are no others."""
    valued = [value for value in values if value == value]
    return sum(valued) / len(valued) if valued else float("nan")


def check(
    classifier: PersonClassifier, images: Sequence[NDArray[np.uint8]], settings: ExplainSettings, seed: int = 0
) -> list[Change]:
    """How much changes, stage by stage and metric by metric.

    Args:
        images: uint8 [H, W, 3] RGB, each explained as a whole.
        seed: of the re-initialisation.
    """
    before = [Explainer(classifier, settings).explain(image) for image in images]
    changes: list[Change] = []
    stages = len(convolution_layers(classifier.network.features)) + 1
    for stage, changed in tqdm(randomised(classifier, seed), total=stages, desc="layers", unit="layer"):
        explainer = Explainer(changed, settings)
        after = [explainer.explain(image) for image in images]
        for metric in settings.metrics:
            pairs = [same(one, other, metric) for one, other in zip(before, after, strict=True)]
            changes.append(Change(stage, metric, mean([p[0] for p in pairs]), mean([p[1] for p in pairs])))
    return changes


def table(changes: Sequence[Change]) -> str:
    """A line a stage, two columns a metric."""
    metrics = list(dict.fromkeys(change.metric for change in changes))
    lines = [f"{'random from':<12}" + "".join(f"{metric:>31}" for metric in metrics)]
    lines.append(f"{'the top to':<12}" + f"{'same neurons':>20}{'same area':>11}" * len(metrics))
    for stage in dict.fromkeys(change.stage for change in changes):
        of_stage = {c.metric: c for c in changes if c.stage == stage}
        lines.append(
            f"{stage:<12}"
            + "".join(f"{of_stage[m].same_neurons:>20.2f}{of_stage[m].same_area:>11.2f}" for m in metrics)
        )
    return "\n".join(lines)


def read_images(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Image files, and those of folders, as uint8 [H, W, 3] RGB; ValueError names what is no image."""
    files = [
        file
        for path in paths
        for file in (
            sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        )
    ]
    images = []
    for file in files:
        image: Any = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{file} is no image that OpenCV can read")
        images.append(np.ascontiguousarray(image[:, :, ::-1]))
    if not images:
        raise ValueError(f"no images in {', '.join(map(str, paths))}")
    return images


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 1 with the reason when something is missing."""
    parser = argparse.ArgumentParser(
        prog="check_randomisation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--weights", type=Path, help="[the weights that ship with the package]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... [%(default)s]")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="noise [%(default)s]")
    parser.add_argument("--top-n", type=int, default=5, help="neurons of each layer [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of noise and re-initialisation [%(default)s]")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    try:
        settings = ExplainSettings.preset(arguments.preset, top_n=arguments.top_n, seed=arguments.seed)
        images = read_images(arguments.images)
        classifier = PersonClassifier.load(arguments.weights, arguments.device)
        changes = check(classifier, images, settings, arguments.seed)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"check_randomisation: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(table(changes))
    if arguments.output:
        record = {
            "images": len(images),
            "weights": classifier.model_hash,
            "settings": dataclasses.asdict(settings),
            "changes": [dataclasses.asdict(change) for change in changes],
        }
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
