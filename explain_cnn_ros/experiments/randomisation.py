"""The randomisation check: how an explanation changes when the network's layers are re-initialised, from the top down.

A metric that still selects the same neurons when the network knows nothing any more does not explain what the network
knows (Adebayo et al. 2018, Sanity Checks for Saliency Maps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from explain_cnn_ros.experiments import markdown
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.randomise import randomised, stages
from explain_cnn_ros.scan.classifier import PersonClassifier


@dataclass(frozen=True)
class RandomisationRow:
    """The similarity of a metric's explanations before and after re-initialisation; means over images and layers.

    Attributes:
        stage: The lowest layer that is re-initialised, together with all layers above it.
        metric: Name of the metric.
        same_neurons: Jaccard index of the selected neurons.
        same_area: Intersection over union of the pixels that the patches cover.
    """

    stage: str
    metric: str
    same_neurons: float
    same_area: float


def check(
    classifier: PersonClassifier, images: Sequence[NDArray[np.uint8]], settings: ExplainSettings, seed: int = 0
) -> list[RandomisationRow]:
    """Explain images again after each stage of the re-initialisation.

    The decision that is explained stays the one that the trained network shows, whatever the changed network decides.
    Otherwise influence would select the other side's neurons whenever the decision flips.

    Args:
        classifier: The trained classifier.
        images: uint8 [H, W, 3] RGB. Each is explained as a whole.
        settings: Settings of the explanations.
        seed: Seed of the new weights.

    Returns:
        A row for each stage and metric.
    """
    before = [Explainer(classifier, settings).explain(image) for image in images]
    rows: list[RandomisationRow] = []
    total = stages(classifier)
    for stage, changed in tqdm(randomised(classifier, seed), total=total, desc="layers", unit="layer"):
        explainer = Explainer(changed, settings)
        # P(person) is always at least 0 and never 2, so the decision is the one that was shown before.
        after = [
            explainer.explain(image, threshold=0.0 if shown.person else 2.0)
            for image, shown in zip(images, before, strict=True)
        ]
        for name in settings.metrics:
            pairs = [similarity(one, other, name) for one, other in zip(before, after, strict=True)]
            rows.append(RandomisationRow(stage, name, mean([p[0] for p in pairs]), mean([p[1] for p in pairs])))
    return rows


def similarity(before: Explanation, after: Explanation, metric: str) -> tuple[float, float]:
    """Compare what a metric selects in two explanations of one image.

    Args:
        before: An explanation.
        after: An explanation with the same settings.
        metric: Name of the metric.

    Returns:
        Jaccard index of the neurons, and intersection over union of the covered pixels; means over layers.
    """
    neurons, areas = [], []
    for layer in before.settings.layers:
        one, other = before.layer_ranking(metric, layer), after.layer_ranking(metric, layer)
        neurons.append(jaccard({n.channel for n in one.neurons}, {n.channel for n in other.neurons}))
        a, b = covered(one, before.image_size), covered(other, before.image_size)
        areas.append(float((a & b).sum() / (a | b).sum()) if (a | b).any() else float("nan"))
    return mean(neurons), mean(areas)


def covered(ranking: LayerRanking, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of a frame of `size` (width, height) that a ranking's patches cover: bool [H, W]."""
    area = np.zeros((size[1], size[0]), bool)
    for neuron in ranking.neurons:
        if neuron.patch is not None:
            p = neuron.patch
            area[p.y : p.y + p.height, p.x : p.x + p.width] = True
    return area


def mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    valid = [value for value in values if value == value]
    return sum(valid) / len(valid) if valid else float("nan")


def table(rows: Sequence[RandomisationRow]) -> str:
    """Return the same neurons and the same area in Markdown: a row for each stage, and a column for each metric."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    by_key = {(row.stage, row.metric): row for row in rows}
    stages_of_rows = list(dict.fromkeys(row.stage for row in rows))
    text = []
    for title, field in (("same neurons", "same_neurons"), ("same area", "same_area")):
        header = ["random from the top to", *(name.replace("_", " ") for name in metrics)]
        lines = [[f"`{s}`", *(f"{getattr(by_key[s, m], field):.2f}" for m in metrics)] for s in stages_of_rows]
        text.append(f"{title}:\n\n" + markdown.table(header, lines))
    return "\n".join(text)
