"""The choice of the network adapter, and of the path that an explanation takes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from explain_cnn_ros.explain.findings import Finder
from explain_cnn_ros.explain.general.adapter import GeneralAdapter
from explain_cnn_ros.explain.network_adapter import NetworkAdapter
from explain_cnn_ros.explain.ranking import Key
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.explain.vgg.batched.explaining import BatchedExplainer, unsupported
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier


def adapt(classifier: WindowClassifier) -> NetworkAdapter:
    """Return the adapter for a classifier's network.

    Raises:
        TypeError: The method does not suit this kind of network.
    """
    network = classifier.network
    if isinstance(network, VGGClassifier):
        return VGGAdapter(classifier)
    return GeneralAdapter(classifier, network.network if isinstance(network, TorchvisionClassifier) else network)


def not_batched(adapter: NetworkAdapter, settings: ExplainSettings) -> str:
    """Return why explanations cannot be computed in few large operations; "" if they can.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
    """
    if not isinstance(adapter, VGGAdapter):
        return "networks other than VGGs"
    several = "" if isinstance(adapter.target, int) else "several classes as target"
    return several or unsupported(settings)


def batch(
    adapter: NetworkAdapter, settings: ExplainSettings, weight_scores: Mapping[Key, Tensor], pixels: Tensor
) -> Finder:
    """Prepare explanations in few large operations. See `BatchedExplainer` for the arguments and the errors."""
    return BatchedExplainer(adapter, settings, weight_scores, pixels)
