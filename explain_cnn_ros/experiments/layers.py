"""The layers that an experiment explains, by number and by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import SUPPORTING
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.classifier import WindowClassifier

#: Names of the layers of a VGG, which the paper calls by their numbers.
_VGG_NAME = re.compile(r"conv\d_\d")


def explained_layers(
    classifier: WindowClassifier, layers: Sequence[int] = ExplainSettings().layers, layer_names: str = ""
) -> dict[int, str]:
    """Return the names of the layers that explanations with some settings are about, by number, in ascending order.

    Args:
        classifier: The classifier.
        layers: `ExplainSettings.layers`. The default stands for the default layers of the network.
        layer_names: `ExplainSettings.layer_names`; "" for those of `layers`.

    Raises:
        ValueError: The network has no such layers.
        TypeError: The method does not suit this kind of network.
    """
    settings = ExplainSettings(
        layers=tuple(layers), layer_names=layer_names, metrics=(SUPPORTING,), perturbations=0, proof="none"
    )
    explainer = Explainer(classifier, settings)
    return {number: explainer.adapter.layers[number].name for number in explainer.settings.layers}


def names_setting(layers: Mapping[int, str]) -> str:
    """Return the value of `ExplainSettings.layer_names` for exactly these layers.

    Numbers alone are ambiguous for networks other than VGGs, because 3 to 9 stand for their default layers.
    """
    return ",".join(layers.values())


def heading(number: int, name: str) -> str:
    """Return the heading of a layer in tables and figures: its number in a VGG, as in the paper, or else its name."""
    return f"layer {number}" if _VGG_NAME.fullmatch(name) else name
