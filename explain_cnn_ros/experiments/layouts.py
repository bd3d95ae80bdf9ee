"""How data lie on disk: three layouts, and what is said when something of one is missing.

- Windows: `train/pos` and `train/neg`, or `96X160H96/Train/pos` and `Train/neg` of INRIAPerson; without annotations,
  the person stands in the middle.
- INRIAPerson as it is distributed (Dalal & Triggs 2005): photos of `Train/pos` and `Test/pos` with PASCAL annotations
  in `Train/annotations` and `Test/annotations`; person-free photos in `Train/neg` and `Test/neg`.
- A folder with `boxes.csv`: columns image, x, y, width, height in pixels, a line for each person; a line with an empty
  box says that an image shows nobody. Images without a line are left out. A column photo, if there is one, names what
  belongs together: images of one photo, or of one drive, stay on one side of the split.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.regions import PERSON_ASPECT, PERSON_SHARE, crop
from explain_cnn_ros.training.datasets import Photo, list_images, read_inria, share_of

Image = NDArray[np.uint8]

#: Window of the classifier (width, height).
WINDOW = (64, 128)

#: Share of the photos whose patches the secondary classifier is tested on. Training of the weights that ship keeps the
#: same photos out, since they are chosen by the same number.
TEST_SHARE = 0.15

#: Where the person of an INRIA window stands, (x, y, width, height): 96 pixels tall in the middle, at the width of
#: persons of that height on average. The windows have no annotation of their own.
PERSON_BOX = (
    (WINDOW[0] - WINDOW[1] * PERSON_SHARE * PERSON_ASPECT) / 2,
    WINDOW[1] * (1 - PERSON_SHARE) / 2,
    WINDOW[1] * PERSON_SHARE * PERSON_ASPECT,
    WINDOW[1] * PERSON_SHARE,
)

#: Windows that are cut from a person-free photo at most.
WINDOWS_PER_PHOTO = 4

#: Persons of fewer pixels of height are left out: enlarged to 96, they show nothing.
HEIGHT_MIN = 32

#: Columns of boxes.csv.
COLUMNS = ("image", "x", "y", "width", "height")

BOX = re.compile(r"Bounding box for object \d+ .*?:\s*\((-?\d+),\s*(-?\d+)\)\s*-\s*\((-?\d+),\s*(-?\d+)\)")
COUNT = re.compile(r"Objects with ground truth\s*:\s*(\d+)")


@dataclass(frozen=True)
class Source:
    """A window that can be cut.

    cut: of the image: the window and the person's box in it.
    """

    name: str
    file: Photo
    person: bool
    is_test: bool
    cut: Callable[[Image], tuple[Image, Box | None]]

    def window(self) -> tuple[Image, Box | None]:
        """Uint8 [128, 64, 3] RGB, and the person's box in it, or None."""
        image = self.file.read()
        try:
            return self.cut(image)
        except ValueError as error:
            raise ValueError(f"{self.file.path}: {error}") from error


def read_sources(root: Path) -> list[Source]:
    """All windows that can be cut from the data at `root`.

    Raises:
        FileNotFoundError: what is missing, and where to get it.
        ValueError: what is damaged.
    """
    if (root / "boxes.csv").is_file():
        return _listed(root)
    if any((root / split / "annotations").is_dir() for split in ("Train", "Test")):
        return [source for split in ("Train", "Test") for source in _annotated(root, split)]
    try:
        inria = read_inria(root)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. For a folder of your own, list its boxes in {root / 'boxes.csv'}: {','.join(COLUMNS)}"
        ) from error
    return [
        Source(p.path.name, p, box is not None, share_of(p.photo) < TEST_SHARE, partial(_middle, box=box))
        for photos, box in ((inria.persons, PERSON_BOX), (inria.backgrounds, None))
        for p in photos
    ]


def read_pascal(path: Path) -> list[Box]:
    """Boxes (x, y, width, height) of an annotation file of INRIAPerson (PASCAL Annotation Version 1.00).

    Raises:
        ValueError: it holds fewer boxes than it says.
    """
    text = path.read_text(encoding="latin-1")
    said = COUNT.search(text)
    boxes = []
    for x0, y0, x1, y1 in BOX.findall(text):
        left, right = sorted((int(x0), int(x1)))
        top, bottom = sorted((int(y0), int(y1)))
        boxes.append((float(left), float(top), float(right - left), float(bottom - top)))
    if said is None or len(boxes) != int(said.group(1)):
        count = "an unknown number of" if said is None else said.group(1)
        raise ValueError(f"{path} announces {count} persons and holds {len(boxes)} boxes: was it copied to the end?")
    return boxes


def _annotated(root: Path, split: str) -> list[Source]:
    folder = root / split
    missing = [name for name in ("pos", "annotations", "neg") if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}: the INRIAPerson data set ('INRIAPerson.tar', Dalal & Triggs "
            "2005) has pos, neg and annotations in both Train and Test"
        )
    photos = {path.stem: path for path in list_images(folder / "pos")}
    notes = {path.stem: path for path in sorted((folder / "annotations").glob("*.txt"))}
    for there, absent, what in ((photos, notes, "annotation"), (notes, photos, "image")):
        lacking = [path for stem, path in there.items() if stem not in absent]
        if lacking:
            raise FileNotFoundError(
                f"{len(lacking)} of {len(there)} files of {lacking[0].parent} have no {what} (first: "
                f"{lacking[0].name}): was INRIAPerson copied to the end?"
            )
    is_test = split == "Test"
    sources = []
    for stem, path in photos.items():
        sources += _of_persons(Photo(path, f"{split}/pos/{stem}"), read_pascal(notes[stem]), is_test)
    for path in list_images(folder / "neg"):
        sources += _of_background(Photo(path, f"{split}/neg/{path.stem}"), is_test)
    return sources


def _listed(root: Path) -> list[Source]:
    path = root / "boxes.csv"
    persons: dict[str, list[Box]] = {}
    groups: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        absent = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
        if absent:
            raise ValueError(f"{path} has no column {', '.join(absent)}: its first line must be {','.join(COLUMNS)}")
        for row in rows:
            name = row["image"]
            fields = [(row[column] or "").strip() for column in COLUMNS[1:]]
            groups[name] = row.get("photo") or Path(name).stem
            boxes = persons.setdefault(name, [])
            if not any(fields):
                continue
            try:
                x, y, width, height = (float(field) for field in fields)
            except ValueError:
                raise ValueError(
                    f"{path}, line {rows.line_num}: x, y, width and height are {', '.join(fields) or 'missing'}: give "
                    "four numbers, or none for an image that shows nobody"
                ) from None
            boxes.append((x, y, width, height))
    lost = [name for name in persons if not (root / name).is_file()]
    if lost:
        raise FileNotFoundError(f"{len(lost)} of {len(persons)} images of {path} are not there (first: {lost[0]})")
    sources = []
    for name, boxes in persons.items():
        photo = Photo(root / name, groups[name])
        is_test = share_of(photo.photo) < TEST_SHARE
        sources += _of_persons(photo, boxes, is_test, name) if boxes else _of_background(photo, is_test, name)
    return sources


def _of_persons(photo: Photo, boxes: list[Box], is_test: bool, name: str = "") -> list[Source]:
    return [
        Source(f"{name or photo.photo}#{i}", photo, True, is_test, partial(_around, box=box))
        for i, box in enumerate(boxes)
        if box[3] >= HEIGHT_MIN
    ]


def _of_background(photo: Photo, is_test: bool, name: str = "") -> list[Source]:
    names = [f"{name or photo.photo}#{i}" for i in range(WINDOWS_PER_PHOTO)]
    return [Source(each, photo, False, is_test, partial(_anywhere, name=each)) for each in names]


def _middle(image: Image, box: Box | None) -> tuple[Image, Box | None]:
    """The middle of an image, of the size of a window."""
    top, left = (image.shape[0] - WINDOW[1]) // 2, (image.shape[1] - WINDOW[0]) // 2
    if top < 0 or left < 0:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} pixels is smaller than a window of 64 x 128")
    return np.ascontiguousarray(image[top : top + WINDOW[1], left : left + WINDOW[0]]), box


def _around(image: Image, box: Box) -> tuple[Image, Box | None]:
    """The window in which the person is 96 pixels tall, in the middle; the part of the box that lies in it."""
    x, y, width, height = box
    if min(width, height) <= 0 or x < -1 or y < -1 or x + width > image.shape[1] + 1 or y + height > image.shape[0] + 1:
        raise ValueError(
            f"the box at ({x:g}, {y:g}), {width:g} x {height:g}, does not lie in the image of {image.shape[1]} x "
            f"{image.shape[0]} pixels"
        )
    tall = height / PERSON_SHARE
    wide = tall * WINDOW[0] / WINDOW[1]
    left, top = x + (width - wide) / 2, y + (height - tall) / 2
    window: Image = crop(image, left, top, wide, tall, WINDOW)
    scale = WINDOW[1] / tall
    start = max(0.0, (x - left) * scale)
    end = min(float(WINDOW[0]), (x + width - left) * scale)
    return window, (start, (y - top) * scale, end - start, height * scale)


def _anywhere(image: Image, name: str) -> tuple[Image, Box | None]:
    """A window of a person-free photo, anywhere, from 128 pixels tall to as tall as fits; the same for each name."""
    rng = np.random.default_rng(list(name.encode()))
    limit = min(image.shape[0], image.shape[1] * WINDOW[1] / WINDOW[0])
    tall = rng.uniform(min(WINDOW[1], limit), limit)
    wide = tall * WINDOW[0] / WINDOW[1]
    left, top = rng.uniform(0, image.shape[1] - wide), rng.uniform(0, image.shape[0] - tall)
    window: Image = crop(image, left, top, wide, tall, WINDOW)
    return window, None
