"""Training windows out of photos: position, scale, mirror, light, grey, blur, JPEG, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.network import OFFSET_UNITS
from explain_cnn_ros.training.datasets import PERSON_WINDOW

Image = NDArray[np.uint8]


def cut(image: Image, centre: tuple[float, float], height: float, size: tuple[int, int], mirror: bool) -> Any:
    """A window of `size` (width, height) around a centre, whose height covers `height` pixels of the image.

    Outside of the image its edge is repeated.
    """
    zoom = size[1] / height
    source: Any = image
    if zoom < 0.7:  # warping alone would alias
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
    """The middle of a person window, or a background window as it is: no augmentation, for validation."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    height = image.shape[0]
    if (image.shape[1], image.shape[0]) == PERSON_WINDOW:
        height = 128
    return cut(image, (image.shape[1] / 2, image.shape[0] / 2), height, size, False)


@dataclass(frozen=True)
class Placement:
    """Where a window lies in the image of a person: its centre from the person's, its height, pixels of the image."""

    right: float
    below: float
    height: float
    mirror: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Placement:
        """As windows of the fully convolutional pass lie, one every 32 pixels and every quarter in scale."""
        height = 128 * math.exp(rng.uniform(math.log(0.85), math.log(1.25)))
        return cls(rng.uniform(-12, 12), rng.uniform(-14, 14), height, bool(rng.random() < 0.5))

    def offset(self) -> tuple[float, float, float]:
        """Where the person is in the window, in OFFSET_UNITS of the network."""
        right = (self.right if self.mirror else -self.right) / self.height
        shares = (right, -self.below / self.height, math.log(128 / self.height))
        return tuple(share / unit for share, unit in zip(shares, OFFSET_UNITS, strict=True))  # type: ignore[return-value]


def person_window(image: Image, size: tuple[int, int], placement: Placement) -> Any:
    """A window on a person of INRIA (96 x 160 pixels, the person centred and 96 pixels tall)."""
    centre = (image.shape[1] / 2 + placement.right, image.shape[0] / 2 + placement.below)
    return cut(image, centre, placement.height, size, placement.mirror)


def background_window(image: Image, size: tuple[int, int], rng: np.random.Generator) -> Any:
    """A window anywhere in a person-free image, of any size that fits, mirrored or not.

    Half of the windows have the image's own sharpness: enlarged ones are soft, and sharp ones are what is seen in use.
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
        # Shifted persons show repeated edges: backgrounds must as well, or the edges would give persons away.
        centre = (centre[0] + rng.uniform(-0.15, 0.15) * width, centre[1] + rng.uniform(-0.15, 0.15) * height)
    return cut(image, centre, height, size, rng.random() < 0.5)


def degrade(window: Image, rng: np.random.Generator) -> Image:
    """Distance, light, contrast, tint, grey, blur, noise and JPEG, each now and then; uint8 [H, W, 3] RGB."""
    x: Any = window.astype(np.float32)
    if rng.random() < 0.25:
        # Persons smaller than the window are enlarged to it, and soft.
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
