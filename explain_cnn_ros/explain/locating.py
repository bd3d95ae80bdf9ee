"""The second stage of an explanation: which part of the window each neuron responds to."""

from __future__ import annotations

from collections.abc import Collection

from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Trace
from explain_cnn_ros.explain.patches import Patch, bounding_boxes
from explain_cnn_ros.explain.settings import ExplainSettings


def locate(
    adapter: NetworkAdapter, settings: ExplainSettings, clean: Trace, neurons: Collection[Neuron]
) -> dict[Neuron, Patch]:
    """Compute the patches of neurons.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        clean: Trace of the unperturbed window, recorded with the settings' deconvnet.
        neurons: Neurons of the explained layers.

    Returns:
        The patch of each neuron, in pixels of the window. Dead neurons have none.
    """
    ordered = sorted(set(neurons))
    if not ordered:
        return {}
    patches: dict[Neuron, Patch] = {}
    for part in adapter.reconstruct(clean, ordered, settings.deconvnet, settings.deconvnet_start == "map"):
        boxes = bounding_boxes(part.pixels, settings.patch_share)
        for neuron, box, top, left in zip(part.neurons, boxes, part.tops.tolist(), part.lefts.tolist(), strict=True):
            if box is not None:
                patches[neuron] = Patch(box.x + left, box.y + top, box.width, box.height)
    return patches
