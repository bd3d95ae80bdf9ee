"""Conversion of RGB arrays to image messages. `bags.image_messages` has the opposite direction."""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def to_message(image: NDArray[np.uint8], header: Header) -> Image:
    """Convert an image to an Image message with the encoding rgb8.

    Args:
        image: uint8 [H, W, 3] RGB.
        header: Header of the message.
    """
    message = Image(
        header=header, height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1]
    )
    message.data = _array(image)
    return message


def to_compressed(image: NDArray[np.uint8], header: Header, quality: int = 85) -> CompressedImage:
    """Convert an image to a CompressedImage message with JPEG data.

    Args:
        image: uint8 [H, W, 3] RGB.
        header: Header of the message.
        quality: JPEG quality, 0 to 100.
    """
    # This is much faster than a reversed copy by numpy.
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data = _array(encoded)
    return message


def _array(values: NDArray[np.uint8]) -> array.array[int]:
    """Copy values to an array that rclpy uses without a further copy. It would copy bytes number by number."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values))
    return data
