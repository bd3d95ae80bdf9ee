"""Bounding boxes against loops, their conversion to the frame, and receptive fields."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from explain_kit import at_strongest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.patches import Patch, bounding_boxes, to_frame
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve
from explain_cnn_ros.model.network import convolution_layers, receptive_field
from explain_cnn_ros.model.windows import Region


def literal_box(image: np.ndarray, share: float) -> Patch | None:
    """Compute the box of one reconstruction [3, H, W], pixel by pixel."""
    _, height, width = image.shape
    strength = [[max(abs(float(v)) for v in image[:, y, x]) for x in range(width)] for y in range(height)]
    limit = share * max(max(row) for row in strength)
    above = [(x, y) for y in range(height) for x in range(width) if strength[y][x] > limit]
    if not above:
        return None
    left, top = min(x for x, _ in above), min(y for _, y in above)
    return Patch(left, top, max(x for x, _ in above) - left + 1, max(y for _, y in above) - top + 1)


class TestBoundingBoxes:
    @given(
        images=hnp.arrays(float, (3, 3, 5, 6), elements=st.sampled_from([0.0] * 5 + [-3.0, -1.0, 0.5, 1.0, 2.0])),
        share=st.sampled_from([0.0, 0.2, 0.25, 0.5, 0.99]),
    )
    def test_are_loops(self, images: np.ndarray, share: float) -> None:
        assert bounding_boxes(torch.from_numpy(images), share) == [literal_box(image, share) for image in images]

    def test_by_hand(self) -> None:
        image = torch.zeros(1, 3, 6, 8)
        image[0, 1, 2, 3], image[0, 2, 4, 5], image[0, 0, 0, 7] = -10, 3, 2
        assert bounding_boxes(image, 0.0) == [Patch(3, 0, 5, 5)]
        assert bounding_boxes(image, 0.2) == [Patch(3, 2, 3, 3)]
        assert bounding_boxes(image, 0.5) == [Patch(3, 2, 1, 1)]

    def test_nothing_has_no_box(self) -> None:
        image = torch.zeros(2, 3, 4, 4)
        image[1, 0, 1, 1] = 1e-30
        assert bounding_boxes(image, 0.0) == [None, Patch(1, 1, 1, 1)]
        assert bounding_boxes(image, 0.2) == [None, Patch(1, 1, 1, 1)]

    def test_of_nobody(self) -> None:
        assert bounding_boxes(torch.zeros(0), 0.2) == []
        assert bounding_boxes(torch.zeros(0, 3, 8, 8), 0.2) == []

    def test_everything(self) -> None:
        assert bounding_boxes(torch.ones(1, 3, 4, 7), 0.9) == [Patch(0, 0, 7, 4)]


@st.composite
def mapped(draw: st.DrawFn, window: tuple[int, int]) -> tuple[Patch, Region, tuple[int, int]]:
    """Draw a patch, a region that may lie partly or entirely outside of the frame, and the frame's size."""
    x, y = draw(st.integers(0, window[0] - 1)), draw(st.integers(0, window[1] - 1))
    patch = Patch(x, y, draw(st.integers(1, window[0] - x)), draw(st.integers(1, window[1] - y)))
    side, place = st.integers(1, 500), st.integers(-200, 400)
    region = Region(draw(place), draw(place), draw(side), draw(side), 0.5)
    return patch, region, (draw(st.integers(1, 400)), draw(st.integers(1, 400)))


class TestToFrame:
    @given(case=mapped((64, 128)))
    def test_is_exact(self, case: tuple[Patch, Region, tuple[int, int]]) -> None:
        """The reference rounds outwards and clips in exact fractions."""
        patch, region, frame = case
        edges = []
        for start, length, origin, extent, window, limit in (
            (patch.x, patch.width, region.x, region.width, 64, frame[0]),
            (patch.y, patch.height, region.y, region.height, 128, frame[1]),
        ):
            scale = Fraction(extent, window)
            edges.append(
                (max(0, math.floor(origin + start * scale)), min(limit, math.ceil(origin + (start + length) * scale)))
            )
        (left, right), (top, bottom) = edges
        expected = Patch(left, top, right - left, bottom - top) if right > left and bottom > top else None
        assert to_frame(patch, (64, 128), region, frame) == expected

    @pytest.mark.parametrize("window", [(64, 128), (96, 160)])
    @given(data=st.data())
    def test_holds_every_pixel_of_the_patch_that_the_frame_has(self, window: tuple[int, int], data) -> None:
        patch, region, frame = data.draw(mapped(window))
        box = to_frame(patch, window, region, frame)
        if box is not None:
            assert box.width > 0 and box.height > 0
            assert box.x >= 0 and box.x + box.width <= frame[0]
            assert box.y >= 0 and box.y + box.height <= frame[1]
        for px, py in {
            (x, y)
            for x in (patch.x, patch.x + patch.width // 2, patch.x + patch.width - 1)
            for y in (patch.y, patch.y + patch.height // 2, patch.y + patch.height - 1)
        }:
            x = region.x + (px + 0.5) * region.width / window[0]
            y = region.y + (py + 0.5) * region.height / window[1]
            if 0 <= x < frame[0] and 0 <= y < frame[1]:
                assert box is not None
                assert box.x <= x < box.x + box.width
                assert box.y <= y < box.y + box.height

    def test_the_whole_frame_as_the_window(self) -> None:
        patch = Patch(3, 5, 7, 11)
        assert to_frame(patch, (64, 128), Region(0, 0, 64, 128, 1.0), (64, 128)) == patch

    def test_twice_as_large_and_moved(self) -> None:
        region = Region(10, 20, 128, 256, 1.0)
        assert to_frame(Patch(3, 5, 7, 11), (64, 128), region, (640, 480)) == Patch(16, 30, 14, 22)

    def test_rounded_outwards(self) -> None:
        region = Region(10, 20, 96, 192, 1.0)
        assert to_frame(Patch(1, 3, 2, 2), (64, 128), region, (640, 480)) == Patch(11, 24, 4, 4)

    def test_cut_at_the_border(self) -> None:
        region = Region(-16, 440, 64, 128, 1.0)
        assert to_frame(Patch(10, 30, 20, 40), (64, 128), region, (640, 480)) == Patch(0, 470, 14, 10)

    def test_outside_of_the_frame_there_is_none(self) -> None:
        assert to_frame(Patch(0, 0, 16, 10), (64, 128), Region(-16, 0, 64, 128, 1.0), (640, 480)) is None
        assert to_frame(Patch(0, 40, 5, 5), (64, 128), Region(0, 440, 64, 128, 1.0), (640, 480)) is None


class TestReceptiveField:
    @pytest.mark.parametrize(("height", "width"), [(64, 48), (65, 51)])
    def test_holds_every_reconstructed_pixel(self, vgg_like, height: int, width: int) -> None:
        """The reference grows by one position on each side with a convolution, and doubles with a pooling."""
        features = vgg_like(((4, 5), (6, 7), (8, 9, 8)))
        layers = convolution_layers(features)
        x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        activations, switches = {}, {}
        for index, module in enumerate(features):
            if isinstance(module, nn.MaxPool2d):
                size = (x.shape[2], x.shape[3])
                x, indices = nn.functional.max_pool2d(x, 2, 2, return_indices=True)
                switches[index] = (indices[0], size)
            else:
                x = module(x)
            activations.update({layer.number: x[0] for layer in layers if layer.activation == index})
        neurons = [Neuron(layer.number, c) for layer in layers for c in range(layer.channels)]
        boxes = bounding_boxes(deconvolve(features, activations, switches, at_strongest(activations, neurons)), 0.0)
        filled = set()
        for neuron, box in zip(neurons, boxes, strict=True):
            if box is None:
                assert not activations[neuron.layer][neuron.channel].any()
                continue
            activation = activations[neuron.layer][neuron.channel]
            row, column = divmod(int(activation.argmax()), activation.shape[1])
            rows, columns = (row, row), (column, column)
            for module in reversed(features[: layers[neuron.layer - 1].convolution + 1]):
                if isinstance(module, nn.Conv2d):
                    rows, columns = (rows[0] - 1, rows[1] + 1), (columns[0] - 1, columns[1] + 1)
                elif isinstance(module, nn.MaxPool2d):
                    rows, columns = (2 * rows[0], 2 * rows[1] + 1), (2 * columns[0], 2 * columns[1] + 1)
            side = receptive_field(features, neuron.layer)
            assert rows[1] - rows[0] + 1 == columns[1] - columns[0] + 1 == side
            assert max(rows[0], 0) <= box.y and box.y + box.height - 1 <= min(rows[1], height - 1)
            assert max(columns[0], 0) <= box.x and box.x + box.width - 1 <= min(columns[1], width - 1)
            # Switches may make the reconstruction slightly smaller.
            if box.width > side - 4:
                filled.add(neuron.layer)
        assert len(filled) >= 5
