"""Boxes of reconstructions on crops of fixed size, compared with those of whole maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from explain_cnn_ros.explain.network_adapter import Neuron, Start
from explain_cnn_ros.explain.patches import Patch, bounding_boxes
from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.explain.vgg.batched.reconstructing import Reconstructor
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve

#: Starts in each layer.
COUNT = 12


def both(
    record: Callable[..., Any], features: nn.Sequential, layers: Sequence[int], size: tuple[int, int], share: float
) -> tuple[list[Patch | None], list[Patch | None]]:
    """Return the boxes on crops and on whole maps, of live activations at random positions and in all corners."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, size[1], size[0], generator=generator, dtype=torch.float64)
    activations, switches = record(features, image)
    layout = FlatLayout(features, layers, size, 1, image)
    starts = torch.zeros(3, len(layers), COUNT, dtype=torch.int64)
    for i, span in enumerate(layout.spans):
        bottom, right = span.height - 1, span.width - 1
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
        while len(places) < COUNT:
            y, x = torch.rand(2, generator=generator).tolist()
            places.append((round(y * bottom), round(x * right)))
        for k, (y, x) in enumerate(places):
            starts[:, i, k] = torch.tensor([int(activations[span.number][:, y, x].argmax()), y, x])
    reconstructor = Reconstructor(features, layout, share, COUNT)
    deepest = layout.spans[-1].relu
    of_first = {index: found.permute(1, 2, 0) for index, (found, _) in switches.items() if index < deepest}
    boxes, origins = reconstructor.boxes(starts, of_first)
    tops, lefts = torch.cat(origins).view(2, -1).tolist()
    begins, ends = reconstructor.widest - boxes[0], boxes[1]
    found = [
        Patch(left + x, top + y, right - x, bottom - y) if bottom else None
        for top, left, (y, x), (bottom, right) in zip(tops, lefts, begins.T.tolist(), ends.T.tolist(), strict=True)
    ]
    wanted = [
        Start(Neuron(span.number, int(starts[0, i, k])), int(starts[1, i, k]) * span.width + int(starts[2, i, k]))
        for i, span in enumerate(layout.spans)
        for k in range(COUNT)
    ]
    whole = bounding_boxes(deconvolve(features, activations, switches, wanted), share)
    # Dead activations have no box; the caller of the reconstruction knows them.
    alive = [float(activations[s.neuron.layer][s.neuron.channel].flatten()[s.position]) > 0 for s in wanted]
    assert sum(alive) > len(wanted) / 2
    return (
        [box for box, live in zip(found, alive, strict=True) if live],
        [box for box, live in zip(whole, alive, strict=True) if live],
    )


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (37, 45), (51, 33), (100, 70)])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_boxes_are_those_of_whole_maps(
    record, vgg_like: Callable[..., nn.Sequential], size: tuple[int, int], share
) -> None:
    found, expected = both(record, vgg_like(), (1, 2, 3, 4, 6, 7, 8, 9, 12), size, share)
    assert found == expected


@pytest.mark.parametrize("layers", [(1,), (3,), (5, 7), (9,), (2, 13)])
def test_of_some_layers(record, vgg_like: Callable[..., nn.Sequential], layers: tuple[int, ...]) -> None:
    found, expected = both(record, vgg_like(seed=3), layers, (96, 64), 0.2)
    assert found == expected


def test_other_layers_are_refused(vgg_like: Callable[..., nn.Sequential]) -> None:
    like = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    for module in (nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 4, 3)):
        features = vgg_like()
        features[2] = module.double()
        with pytest.raises(TypeError, match="3 x 3 padded by 1"):
            Reconstructor(features, FlatLayout(features, (3,), (32, 32), 1, like), 0.2, 1)
    features = vgg_like()
    features[1] = nn.Sequential(nn.ReLU())
    features[3] = nn.ReLU()
    features.insert(2, nn.Dropout())
    with pytest.raises(TypeError, match="not Sequential"):
        Reconstructor(features, FlatLayout(features, (3,), (32, 32), 1, like), 0.2, 1)
