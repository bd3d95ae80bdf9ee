"""Windows of a frame: where they lie, where the person in one is expected, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

#: Share of the window's height that a person takes in the training windows (INRIA: 96 of 128 pixels).
PERSON_SHARE = 0.75

#: Width of a person as a share of the person's height (Dollar et al. 2012).
PERSON_ASPECT = 0.41


class Window(Protocol):
    """Anything with a position and a size, in pixels of the frame."""

    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...
    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...


@dataclass(frozen=True)
class Region:
    """A window of the frame and the probability that it shows a person.

    Attributes:
        x: Left edge, in pixels of the frame. It is negative if the window reaches out of the frame.
        y: Top edge, in pixels of the frame; it may be negative as well.
        width: Width, in pixels of the frame.
        height: Height, in pixels of the frame.
        probability: P(person), 0 to 1.
    """

    x: int
    y: int
    width: int
    height: int
    probability: float

    @property
    def person_box(self) -> tuple[float, float, float, float]:
        """Box (x, y, width, height) of the person in the middle of the window: the window without its margins."""
        return person_box(self)

    def covers(self, image_size: tuple[int, int]) -> bool:
        """Whether the region is exactly the whole frame of `image_size` (width, height)."""
        return (self.x, self.y, self.width, self.height) == (0, 0, *image_size)


def person_box(window: Window) -> tuple[float, float, float, float]:
    """Box (x, y, width, height) of the person in the middle of a window: the window without its margins."""
    height = window.height * PERSON_SHARE
    width = height * PERSON_ASPECT
    return (window.x + (window.width - width) / 2, window.y + (window.height - height) / 2, width, height)


def check_image(image: NDArray[np.uint8]) -> None:
    """Check that an image is a non-empty uint8 array [H, W, 3].

    Raises:
        ValueError: The image has another type or shape, or no pixels.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the image is {found}: expected uint8 [H, W, 3], RGB")
    if image.shape[0] == 0 or image.shape[1] == 0:
        raise ValueError(f"the image is empty ({image.shape[1]} x {image.shape[0]} pixels)")


def crop(frame: NDArray[np.uint8], x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Any:
    """Cut a box out of a frame and resize it.

    Outside of the frame, the nearest edge pixel is repeated.

    Args:
        frame: uint8 [H, W, 3].
        x: Left edge of the box, in pixels of the frame.
        y: Top edge of the box, in pixels of the frame.
        width: Width of the box, in pixels of the frame.
        height: Height of the box, in pixels of the frame.
        size: Size (width, height) of the result, in pixels.

    Returns:
        The resized box, uint8 [size[1], size[0], 3].
    """
    left, top = round(x), round(y)
    right, bottom = max(left + 1, round(x + width)), max(top + 1, round(y + height))
    pad = (max(0, -top), max(0, bottom - frame.shape[0]), max(0, -left), max(0, right - frame.shape[1]))
    # A box that lies entirely outside still shows the nearest edge.
    inside: Any = frame[
        min(max(top, 0), frame.shape[0] - 1) : max(bottom, 1),
        min(max(left, 0), frame.shape[1] - 1) : max(right, 1),
    ]
    if any(pad):
        inside = cv2.copyMakeBorder(inside, *pad, cv2.BORDER_REPLICATE)[: bottom - top, : right - left]
    shrinks = inside.shape[0] > size[1]
    return cv2.resize(inside, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
