"""Held-out images that are also among the training images: exact copies, and near copies under another name.

A scene of INRIA that was photographed twice, or saved twice, has two names, and the split by name may put one image on
each side. Such images make figures on the held-out side too good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.training.datasets import Photo

#: Size (width, height) of the grey thumbnails that are compared, in pixels.
THUMBNAIL = (16, 32)

#: Minimum correlation of two thumbnails of near copies. Among the backgrounds of INRIA, those of the same scene reach
#: 0.9995, and those of other scenes at most 0.973.
CORRELATION_MIN = 0.99

#: Minimum standard deviation of a thumbnail that is compared by correlation, in grey levels. All clear skies correlate
#: with each other (up to 0.998); the standard deviation of their thumbnails is at most 12.
CONTRAST_MIN = 15.0

#: Number of thumbnails that are compared with all training thumbnails at a time, to bound the memory.
CHUNK = 1024


@dataclass(frozen=True)
class Signatures:
    """The data by which images are compared.

    Attributes:
        digests: SHA-256 of the pixels of each image, and of its mirror image, N of each.
        thumbnails: Thumbnails with mean 0 and norm 1, float32 [N, height, width]; zero without enough contrast.
    """

    digests: list[tuple[bytes, bytes]]
    thumbnails: NDArray[np.float32]


def signatures(photos: Sequence[Photo]) -> Signatures:
    """Read images and compute their signatures.

    Args:
        photos: The images.

    Raises:
        ValueError: An image cannot be read.
    """
    digests, thumbnails = [], np.zeros((len(photos), *THUMBNAIL[::-1]), np.float32)
    for i, photo in enumerate(photos):
        image = photo.read()
        digests.append((_digest(image), _digest(image[:, ::-1])))
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), THUMBNAIL, interpolation=cv2.INTER_AREA)
        centred = grey.astype(np.float32) - grey.mean(dtype=np.float32)
        if centred.std() >= CONTRAST_MIN:
            thumbnails[i] = centred / np.linalg.norm(centred)
    return Signatures(digests, thumbnails)


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()


def find_duplicates(held_out: Signatures, training: Signatures) -> NDArray[np.bool_]:
    """Find the held-out images that are copies or near copies of training images, mirrored ones included.

    Args:
        held_out: Signatures of the held-out images, N of them.
        training: Signatures of the training images.

    Returns:
        Whether each held-out image is one, bool [N].
    """
    known = {digest for digest, _ in training.digests}
    found = np.array([bool(known & set(digests)) for digests in held_out.digests], bool)
    if not training.digests:
        return found
    reference = training.thumbnails.reshape(len(training.thumbnails), -1).T
    for start in range(0, len(found), CHUNK):
        part = held_out.thumbnails[start : start + CHUNK]
        for thumbnails in (part, part[:, :, ::-1]):
            correlation = thumbnails.reshape(len(part), -1) @ reference
            found[start : start + CHUNK] |= correlation.max(1) >= CORRELATION_MIN
    return found


def without_duplicates(held_out: Sequence[Photo], training: Sequence[Photo]) -> list[Photo]:
    """Return the held-out images that are neither copies nor near copies of training images.

    Args:
        held_out: The held-out images.
        training: The training images.

    Raises:
        ValueError: An image cannot be read, or all held-out images are copies.
    """
    found = find_duplicates(signatures(held_out), signatures(training))
    if len(held_out) and found.all():
        raise ValueError(
            f"all {len(held_out)} held-out images are copies or near copies of training images (first: "
            f"{held_out[0].path}): add images of other scenes"
        )
    return [photo for photo, duplicate in zip(held_out, found, strict=True) if not duplicate]
