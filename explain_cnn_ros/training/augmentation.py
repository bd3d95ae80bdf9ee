"""Augmentation of training windows: position, scale, mirror image, light, grey, blur, JPEG and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.network import OFFSET_UNITS
from explain_cnn_ros.training.datasets import BACKGROUND_WINDOW, PERSON_WINDOW

Image = NDArray[np.uint8]

#: Height of the window in the middle of a person window of INRIA, in pixels.
WINDOW_HEIGHT = BACKGROUND_WINDOW[1]


def cut(image: Image, centre: tuple[float, float], height: float, size: tuple[int, int], mirror: bool) -> Any:
    """Cut a window out of an image and resize it. Outside of the image, its edge is repeated.

    Args:
        image: uint8 [H, W, 3].
        centre: Centre (x, y) of the window, in pixels of the image.
        height: Height of the window, in pixels of the image.
        size: Size (width, height) of the result, in pixels.
        mirror: Mirror the window horizontally.

    Returns:
        uint8 [size[1], size[0], 3].
    """
    zoom = size[1] / height
    source: Any = image
    if zoom < 0.7:  # warping alone causes aliasing
        source = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        centre, zoom = (centre[0] * zoom, centre[1] * zoom), 1.0
    flip = -1.0 if mirror else 1.0
    matrix = np.array(
        [
            [zoom * flip, 0, size[0] / 2 - zoom * flip * centre[0]],
            [0, zoom, size[1] / 2 - zoom * centre[1]],
        ]
    )
    return cv2.warpAffine(source, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def centred(image: Image, size: tuple[int, int]) -> Any:
    """Return the middle of an image as a window without augmentation, for validation.

    Args:
        image: A person window, a background window, or a photo of another size, uint8 [H, W, 3].
        size: Size (width, height) of the result, in pixels.
    """
    if (image.shape[1], image.shape[0]) == size:
        return image
    height = image.shape[0]
    if (image.shape[1], image.shape[0]) == PERSON_WINDOW:
        height = WINDOW_HEIGHT
    return cut(image, (image.shape[1] / 2, image.shape[0] / 2), height, size, False)


@dataclass(frozen=True)
class Placement:
    """The position of a window in the image of a person.

    Attributes:
        right: Distance of the window's centre from the person's to the right, in pixels of the image.
        below: Distance of the window's centre below the person's, in pixels of the image.
        height: Height of the window, in pixels of the image.
        mirror: Whether the window is mirrored.
    """

    right: float
    below: float
    height: float
    mirror: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Placement:
        """Draw a placement like those of the fully convolutional pass: windows every 32 pixels and 25 % of scale."""
        height = WINDOW_HEIGHT * math.exp(rng.uniform(math.log(0.85), math.log(1.25)))
        return cls(rng.uniform(-12, 12), rng.uniform(-14, 14), height, bool(rng.random() < 0.5))

    def offset(self) -> tuple[float, float, float]:
        """Return the position of the person in the window, in OFFSET_UNITS of the network."""
        right = (self.right if self.mirror else -self.right) / self.height
        below, size = -self.below / self.height, math.log(WINDOW_HEIGHT / self.height)
        return right / OFFSET_UNITS[0], below / OFFSET_UNITS[1], size / OFFSET_UNITS[2]


def person_window(image: Image, size: tuple[int, int], placement: Placement, border: int = 0) -> Any:
    """Cut a window out of a person window of INRIA.

    Args:
        image: uint8 [160, 96, 3], with the person centred and 96 pixels tall.
        size: Size (width, height) of the window in the result, in pixels.
        placement: Position of the window.
        border: Pixels of the surroundings on each side of the window in the result.
    """
    centre = (image.shape[1] / 2 + placement.right, image.shape[0] / 2 + placement.below)
    whole = (size[0] + 2 * border, size[1] + 2 * border)
    return cut(image, centre, placement.height * whole[1] / size[1], whole, placement.mirror)


def background_window(image: Image, size: tuple[int, int], rng: np.random.Generator, border: int = 0) -> Any:
    """Cut a random window out of a person-free image.

    Half of the windows are not enlarged: enlarged windows are less sharp than those that the network sees later.

    Args:
        image: uint8 [H, W, 3].
        size: Size (width, height) of the window in the result, in pixels.
        rng: Source of randomness.
        border: Pixels on each side of the window in the result. They may lie outside of the image.
    """
    largest = min(image.shape[0], image.shape[1] * size[1] / size[0])
    smallest = min(largest, (0.6 if rng.random() < 0.5 else 1.0) * size[1])
    height = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    width = height * size[0] / size[1]
    centre = (
        rng.uniform(width / 2, max(width / 2, image.shape[1] - width / 2)),
        rng.uniform(height / 2, max(height / 2, image.shape[0] - height / 2)),
    )
    if rng.random() < 0.3:
        # Windows of shifted persons show repeated edges. Without them in backgrounds, the edges would reveal persons.
        centre = (centre[0] + rng.uniform(-0.15, 0.15) * width, centre[1] + rng.uniform(-0.15, 0.15) * height)
    whole = (size[0] + 2 * border, size[1] + 2 * border)
    return cut(image, centre, height * whole[1] / size[1], whole, rng.random() < 0.5)


def fits_data(size: tuple[int, int]) -> bool:
    """Return whether windows of a size (width, height) have the shape of INRIA's, and are not larger."""
    width, height = BACKGROUND_WINDOW
    return size[0] * height == size[1] * width and size[1] <= height


def like_person_window(image: Image, size: tuple[int, int], rng: np.random.Generator, border: int = 0) -> Any:
    """Cut a random window out of a person-free image as `person_window` cuts it out of a person window.

    For windows that are larger than INRIA's or of another shape, person windows are enlarged, and their edges are
    repeated. If backgrounds were not, sharpness and repeated edges would reveal the class.

    Args:
        image: uint8 [H, W, 3].
        size: Size (width, height) of the window in the result, in pixels.
        rng: Source of randomness.
        border: Pixels of the surroundings on each side of the window in the result.
    """
    if (image.shape[1], image.shape[0]) != BACKGROUND_WINDOW:
        image = background_window(image, PERSON_WINDOW, rng)
    return person_window(image, size, Placement.draw(rng), border)


def degrade(window: Image, rng: np.random.Generator) -> Image:
    """Change resolution, light, contrast, tint, colours, sharpness, noise and compression of a window, each at random.

    Args:
        window: uint8 [H, W, 3] RGB.
        rng: Source of randomness.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    x: Any = window.astype(np.float32)
    if rng.random() < 0.25:
        # Persons that are smaller than the window are enlarged to it, which makes them less sharp.
        share = rng.uniform(0.4, 0.9)
        small = cv2.resize(x, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (window.shape[1], window.shape[0]), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.35:
        x = np.repeat(x @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if rng.random() < 0.8:
        gain = np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.05, 3))
        mean = x.mean()
        x = (x - mean) * np.exp(rng.normal(0, 0.2)) + mean * gain + rng.normal(0, 8)
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x.astype(np.float32), (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(1, 8), x.shape)
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        x = cv2.imdecode(data, cv2.IMREAD_COLOR)
    degraded: Image = x
    return degraded
