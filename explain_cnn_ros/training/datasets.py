"""The data sets on disk: INRIA person windows and person-free photos, split by photo."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

#: Suffixes of the files in a folder that are read as images.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm"})

#: Size (width, height) of a person window of INRIA: 64 x 128 pixels with 16 pixels of context on each side.
PERSON_WINDOW = (96, 160)

#: Size (width, height) of a background window of INRIA.
BACKGROUND_WINDOW = (64, 128)


@dataclass(frozen=True)
class Photo:
    """An image file.

    Attributes:
        path: The file.
        photo: Name of the photo that the image was cut from. Images of one photo stay on one side of a split.
    """

    path: Path
    photo: str

    def read(self) -> NDArray[np.uint8]:
        """Read the image, uint8 [H, W, 3] RGB.

        Raises:
            ValueError: The file cannot be read as an image.
        """
        bgr = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"{self.path} cannot be read as an image: remove it, or fetch it again")
        return np.ascontiguousarray(bgr[:, :, ::-1])


@dataclass(frozen=True)
class InriaWindows:
    """The INRIA person data.

    Attributes:
        persons: Windows of 96 x 160 pixels.
        backgrounds: Windows of 64 x 128 pixels, or whole person-free photos.
    """

    persons: list[Photo]
    backgrounds: list[Photo]


@dataclass(frozen=True)
class OwnWindows:
    """Windows that join the training data.

    Attributes:
        persons: Windows of 96 x 160 pixels with a person in the middle.
        backgrounds: Windows of 96 x 160 pixels without a person.
    """

    persons: list[Photo]
    backgrounds: list[Photo]


def photo_of_person(name: str) -> str:
    """Return the photo of an INRIA person window. A letter for each person or mirror image follows the photo's name."""
    return re.sub(r"(?<=\d)[a-z]+$", "", name)


def photo_of_background(name: str) -> str:
    """Return the photo of a background window.

    Every name ends with a running number: `00000003a_1`. It follows the photo's name, or, if several windows were cut
    from a photo, the numbers of the photo and of the window: `281_2_2164` and `281_3_2165` are windows of photo `281`.
    """
    name = re.sub(r"_\d+$", "", name)
    return re.sub(r"^(\d+)_\d+$", r"\1", name)


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def read_inria(root: str | Path) -> InriaWindows:
    """Find persons and backgrounds.

    Args:
        root: Folder with `train/pos` (windows of 96 x 160 pixels) and `train/neg` (windows of 64 x 128 pixels), or with
            INRIAPerson as it is distributed: `96X160H96/Train/pos` and the person-free photos of `Train/neg`.

    Raises:
        FileNotFoundError: Data are missing; the message says which, and where to get them.
    """
    root = Path(root)
    for persons, backgrounds, background_photo in (
        (root / "train/pos", root / "train/neg", photo_of_background),
        (root / "96X160H96/Train/pos", root / "Train/neg", lambda name: name),
    ):
        if persons.is_dir() and backgrounds.is_dir():
            found = InriaWindows(
                _photos(list_images(persons), "pos", photo_of_person),
                _photos(list_images(backgrounds), "neg", background_photo),
            )
            if found.persons and found.backgrounds:
                return found
            raise FileNotFoundError(
                f"{persons} holds {len(found.persons)} and {backgrounds} {len(found.backgrounds)} images: "
                "both must hold some. Was the data set copied to the end?"
            )
    raise FileNotFoundError(
        f"no INRIA person data under {root}: expected train/pos and train/neg, or 96X160H96/Train/pos and Train/neg "
        "of the INRIAPerson data set (Dalal & Triggs 2005, 'INRIAPerson.tar')"
    )


def _photos(files: Sequence[Path], kind: str, photo_of: Callable[[str], str]) -> list[Photo]:
    """Return image files with the names of their photos.

    If all of several files would belong to one photo, each is a photo of its own: their names, for instance
    `frame_0001` to `frame_0999`, are not made of a photo's name and a number.
    """
    names = [photo_of(path.stem) for path in files]
    if len(files) > 1 and len(set(names)) == 1:
        names = [path.stem for path in files]
    return [Photo(path, f"{kind}/{name}") for path, name in zip(files, names, strict=True)]


def read_photos(folder: str | Path) -> list[Photo]:
    """Find the person-free photos of a folder; each file is a photo.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} with person-free photos")
    photos = [Photo(p, "photo/" + p.stem) for p in list_images(folder)]
    if not photos:
        raise FileNotFoundError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return photos


def read_own(root: str | Path) -> OwnWindows:
    """Find own windows of persons and of backgrounds, for instance those that a network decided wrongly.

    Args:
        root: Folder with `person` and `background`, with images of 96 x 160 pixels: windows with 16 pixels of context
            on each side, and a person of 96 pixels in the middle. One of the two may be empty or missing.

    Raises:
        FileNotFoundError: There is no window.
    """
    root = Path(root)
    found = []
    for name in ("person", "background"):
        folder = root / name
        files = list_images(folder) if folder.is_dir() else []
        found.append([Photo(path, f"own/{name}/{path.stem}") for path in files])
    if not any(found):
        raise FileNotFoundError(f"no windows in {root}: expected images in its folders person and background")
    return OwnWindows(*found)


def share_of(photo: str) -> float:
    """Return a hash of a photo's name in [0, 1), which is the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(photo.encode()).digest()[:6], "big") / 2**48


def split(photos: Sequence[Photo], held_out: float) -> tuple[list[Photo], list[Photo]]:
    """Split images by photo.

    Args:
        photos: The images.
        held_out: Share of the photos that is held out.

    Returns:
        The images for the training, and those that are held out.
    """
    training = [p for p in photos if share_of(p.photo) >= held_out]
    return training, [p for p in photos if share_of(p.photo) < held_out]
