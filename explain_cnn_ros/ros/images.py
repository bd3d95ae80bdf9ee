"""RGB arrays -> image messages. The other way is `image_messages`."""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


def to_message(image: NDArray[np.uint8], header: Header) -> Image:
    """uint8 [H, W, 3] RGB -> Image, encoding rgb8."""
    message = Image(
        header=header, height=image.shape[0], width=image.shape[1], encoding="rgb8", step=3 * image.shape[1]
    )
    # An array.array is taken over as it is; bytes would be copied number by number.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).tobytes())
    message.data = data
    return message


def to_compressed(image: NDArray[np.uint8], header: Header, quality: int = 85) -> CompressedImage:
    """uint8 [H, W, 3] RGB -> CompressedImage, JPEG."""
    _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    data = array.array("B")
    data.frombytes(encoded.tobytes())
    message.data = data
    return message
