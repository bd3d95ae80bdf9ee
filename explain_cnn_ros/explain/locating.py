"""The second stage of an explanation: which part of the window each neuron responds to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from explain_cnn_ros.explain.metrics.registry import Selects, metric
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Start, Trace
from explain_cnn_ros.explain.patches import Patch, bounding_boxes
from explain_cnn_ros.explain.settings import ExplainSettings


def starts(
    settings: ExplainSettings, clean: Trace, neurons: Sequence[Neuron], name: str = "", person: bool = True
) -> dict[Neuron, Start]:
    """Return where the reconstructions of neurons begin.

    Args:
        settings: Settings of the explanation.
        clean: Trace of the unperturbed window.
        neurons: Neurons of the explained layers.
        name: Name of the metric that selected the neurons; "" for none.
        person: Whether the shown decision is "person".
    """
    if settings.deconvnet_start == "map":
        return {neuron: Start(neuron, None) for neuron in neurons}
    selects = metric(name).selects if name else Selects.HIGHEST
    by_contribution = settings.deconvnet_start == "contribution" and selects is not Selects.HIGHEST
    found: dict[Neuron, Start] = {}
    for layer in {neuron.layer for neuron in neurons}:
        channels = [neuron.channel for neuron in neurons if neuron.layer == layer]
        values = clean.activations[layer][0][channels]
        if by_contribution and layer in clean.contributions:
            contributions = clean.contributions[layer][channels]
            toward = contributions if person == (selects is Selects.SUPPORTING) else -contributions
            # A neuron that contributes nowhere in the unperturbed window begins where it is most active.
            contributes = (toward > 0).flatten(1).any(1).view(-1, 1, 1)
            values = toward.where(contributes, values)
        positions = values.flatten(1).argmax(1).tolist()
        found |= {Neuron(layer, c): Start(Neuron(layer, c), p) for c, p in zip(channels, positions, strict=True)}
    return found


def locate(
    adapter: NetworkAdapter, settings: ExplainSettings, clean: Trace, requested: Collection[Start]
) -> dict[Start, Patch]:
    """Compute the patches of neurons.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        clean: Trace of the unperturbed window, recorded with the settings' deconvnet.
        requested: Neurons of the explained layers, and where their reconstructions begin.

    Returns:
        The patch of each start, in pixels of the window. Dead neurons have none.
    """
    ordered = sorted(set(requested))
    if not ordered:
        return {}
    patches: dict[Start, Patch] = {}
    for part in adapter.reconstruct(clean, ordered, settings.deconvnet):
        boxes = bounding_boxes(part.pixels, settings.patch_share)
        for start, box, top, left in zip(part.starts, boxes, part.tops.tolist(), part.lefts.tolist(), strict=True):
            if box is not None:
                patches[start] = Patch(box.x + left, box.y + top, box.width, box.height)
    return patches
