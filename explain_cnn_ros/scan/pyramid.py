"""The image pyramid of a dense pass on the device: prepared once for all frames of one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explain_cnn_ros.model.windows import PERSON_ASPECT, PERSON_SHARE
from explain_cnn_ros.scan.resampling import Canvas


@dataclass(frozen=True)
class Pyramid:
    """The levels of the pyramid, extended as in `dense`, and all windows of the levels, M of them.

    Attributes:
        canvas: The axes of the frame.
        rows: Weights that resize the rows of the frame to those of all levels, one level after the other:
            float32 [sum of the heights, H].
        columns: Weights that resize the columns of the frame to those of each level, float32 [W, width of the level].
        heights: Height of each level, in pixels.
        places: Centre x, centre y (pixels of the frame) and logarithm of the height of each window, float32 [M, 3], in
            the order of the levels, rows and columns.
        reaches: Changes of the places by an offset of (1, 1, 1), float32 [M, 3].
    """

    canvas: Canvas
    rows: Tensor
    columns: Sequence[Tensor]
    heights: Sequence[int]
    places: Tensor
    reaches: Tensor

    @classmethod
    def prepare(
        cls,
        frame_size: tuple[int, int],
        scales: Sequence[float],
        window: tuple[int, int],
        stride: int,
        device: torch.device,
    ) -> Pyramid:
        """Compute the pyramid of frames of one size.

        Args:
            frame_size: Size (width, height) of the frames, in pixels.
            scales: Factors by which the frames are resized; see `scanning.pyramid_scales`.
            window: Size (width, height) of the windows of the dense pass, in pixels of a level.
            stride: Distance of neighbouring windows, in pixels of a level.
            device: Device of the frames.
        """
        canvas = Canvas.of(*frame_size, device)
        # The margin of persons at the border lies outside of the frame, so the levels are extended by it.
        person = window[1] * PERSON_SHARE
        margins = round(window[0] / 2 - person * PERSON_ASPECT / 2), round((window[1] - person) / 2)
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        places, reaches = [], []
        for scale in scales:
            centres = []
            for axis, margin, side, weights in (
                (canvas.columns, margins[0], window[0], columns),
                (canvas.rows, margins[1], window[1], rows),
            ):
                length = max(1, round(len(axis.centres) * scale))
                extended = max(side, math.ceil((length + 2 * margin) / stride) * stride)
                inside = torch.arange(-margin, extended - margin, device=device).clamp_(0, length - 1)
                weights.append(axis.resize(length, shrinks=scale < 1)[inside])
                corners = stride * torch.arange((extended - side) // stride + 1, dtype=torch.float64, device=device)
                centres.append((corners - margin + side / 2) / scale)
            tall = window[1] / scale
            y, x = torch.meshgrid(centres[1], centres[0], indexing="ij")
            places.append(torch.stack([x, y, torch.full_like(x, math.log(tall))], -1).flatten(0, 1))
            reaches.append(torch.tensor([tall, tall, 1.0], device=device).expand(x.numel(), 3))
        return cls(
            canvas,
            torch.cat(rows),
            [weights.T.contiguous() for weights in columns],
            [len(weights) for weights in rows],
            torch.cat(places).float(),
            torch.cat(reaches),
        )

    def levels(self, frame: Tensor) -> Iterator[Tensor]:
        """Yield the levels of a frame float32 [H, 3, W], rounded to whole numbers: float32 [1, 3, height, width]."""
        flat = (self.rows @ frame.flatten(1)).unflatten(1, frame.shape[1:])
        for part, columns in zip(flat.split(list(self.heights)), self.columns, strict=True):
            yield (part @ columns).permute(1, 0, 2)[None].round()
