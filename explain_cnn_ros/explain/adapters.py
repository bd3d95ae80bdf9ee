"""The choice of the network adapter."""

from __future__ import annotations

from explain_cnn_ros.explain.network_adapter import NetworkAdapter
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.network import VGGClassifier


def adapt(classifier: WindowClassifier) -> NetworkAdapter:
    """Return the adapter for a classifier's network.

    Raises:
        TypeError: There is no adapter for this kind of network.
    """
    if isinstance(classifier.network, VGGClassifier):
        return VGGAdapter(classifier)
    raise TypeError(f"{type(classifier.network).__name__} cannot be explained: use a VGG (VGGClassifier)")
