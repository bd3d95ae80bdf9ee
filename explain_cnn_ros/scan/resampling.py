"""Resizing on the device as matrix products, with the weights of OpenCV's INTER_AREA and INTER_LINEAR.

The results are those of `cv2.resize` and of `model.windows.crop`, except for the rounding of some pixels, so that the
networks get the same windows as in training. On a reduced street frame, the antialiased results of PyTorch's
`interpolate` differ from OpenCV's by 0.3 to 2.2 of 255 on average, and those of torchvision's `roi_align` by up to 0.4.
`roi_align` does not repeat the edges of the frame either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """The pixels of one side of the frame, as coordinates on the device.

    Outside of the frame, the nearest edge pixel is repeated, so the first and the last pixel have no end.

    Attributes:
        centres: Index of each pixel, float32 [L].
        begins: Begin of each pixel, float32 [L].
        ends: End of each pixel, float32 [L].
    """

    centres: Tensor
    begins: Tensor
    ends: Tensor

    @classmethod
    def of(cls, length: int, device: torch.device) -> Axis:
        """Return the axis of a side of `length` pixels."""
        indices = torch.arange(length, dtype=torch.float32, device=device)
        begins = torch.where(indices == 0, -torch.inf, indices)
        return cls(indices, begins, torch.where(indices == length - 1, torch.inf, indices + 1))

    def weights(self, begins: Tensor, lengths: Tensor, count: int, shrinks: Tensor) -> Tensor:
        """Compute the weights with which intervals of the axis are resized.

        Args:
            begins: Begin of each interval, a whole number, float32 [N].
            lengths: Length of each interval, a whole number, at least 1, float32 [N].
            count: Number of pixels that each interval is resized to.
            shrinks: Whether pixels are averages over the area that they cover (INTER_AREA), or interpolated between the
                two nearest pixels (INTER_LINEAR), bool [N].

        Returns:
            The weight of each pixel of the axis in each pixel of each result, float32 [N, count, L].
        """
        begins, lengths, shrinks = (value[:, None, None] for value in (begins, lengths, shrinks))
        step = lengths / count
        lower = begins + self._numbers(count) * step
        area = (torch.minimum(lower + step, self.ends) - torch.maximum(lower, self.begins)).clamp_(min=0) / step
        centre = (lower + step / 2 - 0.5).clamp(min=begins, max=begins + lengths - 1).clamp(0, len(self.centres) - 1)
        return torch.where(shrinks, area, (1 - (centre - self.centres).abs_()).clamp_(min=0))

    def _numbers(self, count: int) -> Tensor:
        return torch.arange(count, dtype=torch.float32, device=self.centres.device)[:, None]

    def resize(self, count: int, shrinks: bool) -> Tensor:
        """Compute the weights with which the whole axis is resized to `count` pixels, float32 [count, L]."""
        begins = self.centres.new_zeros(1)
        lengths = torch.full_like(begins, len(self.centres))
        return self.weights(begins, lengths, count, torch.full_like(begins, shrinks, dtype=torch.bool))[0]


@dataclass(frozen=True)
class Canvas:
    """The axes of a frame, from which boxes are cut.

    Attributes:
        rows: The vertical axis.
        columns: The horizontal axis.
    """

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, width: int, height: int, device: torch.device) -> Canvas:
        """Return the canvas of frames of one size, in pixels."""
        return cls(Axis.of(height, device), Axis.of(width, device))

    def crops(self, frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Cut boxes out of a frame and resize them, like `model.windows.crop`.

        Args:
            frame: float32 [H, 3, W].
            boxes: Boxes (x, y, width, height) in whole pixels, widths and heights at least 1, float32 [N, 4].
            size: Size (width, height) of the results, in pixels.

        Returns:
            The resized boxes, rounded to whole numbers, float32 [N, 3, size[1], size[0]].
        """
        left, top, width, height = boxes.unbind(1)
        shrinks = height > size[1]
        across = self.columns.weights(left, width, size[0], shrinks)
        down = self.rows.weights(top, height, size[1], shrinks)
        narrow = frame @ across.flatten(0, 1).T  # [H, 3, N x width]
        narrow = narrow.unflatten(2, (len(boxes), size[0])).permute(2, 0, 1, 3)
        return (down @ narrow.flatten(2)).unflatten(2, (3, size[0])).permute(0, 2, 1, 3).round()
