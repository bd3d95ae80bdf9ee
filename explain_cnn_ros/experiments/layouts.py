"""The layouts of data on disk, and the errors if a part of one is missing.

- Windows: `train/pos` and `train/neg`, or `96X160H96/Train/pos` and `Train/neg` of INRIAPerson. They have no
  annotations; the person stands in the middle. Test windows that are copies or near copies of training windows are
  dropped.
- INRIAPerson as it is distributed (Dalal & Triggs 2005): photos in `Train/pos` and `Test/pos`, with PASCAL annotations
  in `Train/annotations` and `Test/annotations`, and person-free photos in `Train/neg` and `Test/neg`.
- A folder with `boxes.csv`: columns image, x, y, width, height in pixels, with a line for each person. A line with an
  empty box says that an image shows nobody. Images without a line are not used. An optional column photo names the
  group of an image: images of one photo, or of one drive, stay on one side of the split.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.files import visible
from explain_cnn_ros.model.windows import PERSON_SHARE, Region, crop, person_box
from explain_cnn_ros.training.augmentation import cut
from explain_cnn_ros.training.datasets import Photo, list_images, read_inria, share_of, split
from explain_cnn_ros.training.duplicates import without_duplicates

Image = NDArray[np.uint8]

#: Size (width, height) of the windows of the classifier that ships, and of those in the middle of INRIA's images, in
#: pixels. Windows of other classifiers are the same parts of the images, resized, and wider or narrower.
WINDOW = (64, 128)

#: Share of the photos that the secondary classifier is tested on. The weights that ship were not trained on these
#: photos, because the training splits them by the same number. However, the photos are their validation: the best round
#: was chosen on them.
TEST_SHARE = 0.15


def middle_box(size: tuple[int, int]) -> Box:
    """Return the box (x, y, width, height) of the person in an INRIA window of a size (width, height).

    The windows have no annotations of their own. The person stands in the middle, is three quarters of the window tall,
    and as wide as persons of that height are on average.
    """
    return person_box(Region(0, 0, *size, 0.0))


#: Box of the person in an INRIA window of 64 x 128 pixels.
PERSON_BOX = middle_box(WINDOW)

#: Maximum number of windows that are cut from a person-free photo.
WINDOWS_PER_PHOTO = 4

#: Minimum height of a person, in pixels. Smaller persons show nothing when they are enlarged to 96 pixels.
HEIGHT_MIN = 32

#: Columns of boxes.csv.
COLUMNS = ("image", "x", "y", "width", "height")

#: The lines of an annotation. Lengths are limited, because the time of a search would be a square of them.
BOX = re.compile(
    r"Bounding box for object \d{1,9} .{0,200}?:\s{0,9}"
    r"\((-?\d{1,9}),\s{0,9}(-?\d{1,9})\)\s{0,9}-\s{0,9}\((-?\d{1,9}),\s{0,9}(-?\d{1,9})\)"
)
COUNT = re.compile(r"Objects with ground truth\s{0,9}:\s{0,9}(\d{1,9})")


@dataclass(frozen=True)
class WindowSource:
    """A window that can be cut out of an image file.

    Attributes:
        name: Name of the window, unique in its data.
        file: The image file.
        person: Whether the window shows a person.
        is_test: Whether its photo belongs to the test photos of the experiments.
        cut: Cuts the window out of the image, and returns it with the person's box in it.
    """

    name: str
    file: Photo
    person: bool
    is_test: bool
    cut: Callable[[Image], tuple[Image, Box | None]]

    def window(self) -> tuple[Image, Box | None]:
        """Read the window, uint8 [H, W, 3] RGB, and the person's box in it, None for a background.

        Raises:
            ValueError: The image cannot be read, or is too small for the window.
        """
        image = self.file.read()
        try:
            return self.cut(image)
        except ValueError as error:
            raise ValueError(f"{self.file.path}: {error}") from error


def read_sources(root: Path, size: tuple[int, int] = WINDOW) -> list[WindowSource]:
    """Find all windows that can be cut from the data at `root`.

    Args:
        root: Folder with data in one of the layouts.
        size: Size (width, height) of the windows, in pixels.

    Raises:
        FileNotFoundError: Data are missing; the message says which, and where to get them.
        ValueError: Data are damaged.
    """
    if (root / "boxes.csv").is_file():
        return _listed(root, size)
    if any((root / split / "annotations").is_dir() for split in ("Train", "Test")):
        return [source for split in ("Train", "Test") for source in _annotated(root, split, size)]
    try:
        inria = read_inria(root)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. For a folder of your own, list its boxes in {root / 'boxes.csv'}: {','.join(COLUMNS)}"
        ) from error
    return [
        WindowSource(
            p.path.name, p, box is not None, share_of(p.photo) < TEST_SHARE, partial(_middle, box=box, size=size)
        )
        for photos, box in ((inria.persons, middle_box(size)), (inria.backgrounds, None))
        for p in _without_duplicates(photos)
    ]


def _without_duplicates(photos: list[Photo]) -> list[Photo]:
    """Return windows without the test windows that are copies or near copies of training windows."""
    training, test = split(photos, TEST_SHARE)
    kept = without_duplicates(test, training)
    if len(kept) < len(test):
        count = len(test) - len(kept)
        print(f"dropped {count} of {len(test)} test windows as duplicates of training windows", file=sys.stderr)
    return sorted([*training, *kept], key=lambda p: p.path)


def read_pascal(path: Path) -> list[Box]:
    """Read the boxes (x, y, width, height) of an annotation file of INRIAPerson (PASCAL Annotation Version 1.00).

    Raises:
        ValueError: The file holds fewer boxes than it announces.
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


def _annotated(root: Path, split: str, size: tuple[int, int]) -> list[WindowSource]:
    folder = root / split
    missing = [name for name in ("pos", "annotations", "neg") if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no {' and no '.join(missing)}: the INRIAPerson data set ('INRIAPerson.tar', Dalal & Triggs "
            "2005) has pos, neg and annotations in both Train and Test"
        )
    photos = {path.stem: path for path in list_images(folder / "pos")}
    notes = {path.stem: path for path in sorted((folder / "annotations").glob("*.txt"))}
    _require_pairs(photos, notes, "annotation")
    _require_pairs(notes, photos, "image")
    is_test = split == "Test"
    sources = []
    for stem, path in photos.items():
        sources += _of_persons(Photo(path, f"{split}/pos/{stem}"), read_pascal(notes[stem]), is_test, size)
    for path in list_images(folder / "neg"):
        sources += _of_background(Photo(path, f"{split}/neg/{path.stem}"), is_test, size)
    return sources


def _require_pairs(files: dict[str, Path], partners: dict[str, Path], partner: str) -> None:
    lacking = [path for stem, path in files.items() if stem not in partners]
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking)} of {len(files)} files of {lacking[0].parent} have no {partner} (first: "
            f"{lacking[0].name}): was INRIAPerson copied to the end?"
        )


def _listed(root: Path, size: tuple[int, int]) -> list[WindowSource]:
    path = root / "boxes.csv"
    persons, groups = _read_boxes(path)
    absent = [name for name in persons if not _is_file(root / name)]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(persons)} images of {path} are not there (first: {visible(absent[0][:200])})"
        )
    sources = []
    for name, boxes in persons.items():
        photo = Photo(root / name, groups[name])
        is_test = share_of(photo.photo) < TEST_SHARE
        if boxes:
            sources += _of_persons(photo, boxes, is_test, size, name)
        else:
            sources += _of_background(photo, is_test, size, name)
    return sources


def _is_file(path: Path) -> bool:
    """Return whether there is a file. No file has a name that the system refuses, for instance because it is long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_boxes(path: Path) -> tuple[dict[str, list[Box]], dict[str, str]]:
    """Read boxes.csv: the boxes of the persons, and the name of the photo, by image.

    Raises:
        ValueError: The file is no table of boxes.
    """
    try:
        return _boxes_of(path)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _boxes_of(path: Path) -> tuple[dict[str, list[Box]], dict[str, str]]:
    persons: dict[str, list[Box]] = {}
    groups: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        absent = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
        if absent:
            raise ValueError(f"{path} has no column {', '.join(absent)}: its first line must be {','.join(COLUMNS)}")
        for row in rows:
            name = row["image"]
            if not name:
                raise ValueError(f"{path}, line {rows.line_num}: there is no name of an image")
            groups[name] = row.get("photo") or Path(name).stem
            boxes = persons.setdefault(name, [])
            fields = [(row[column] or "").strip() for column in COLUMNS[1:]]
            if not any(fields):
                continue
            try:
                x, y, width, height = (float(field) for field in fields)
            except ValueError:
                found = visible(", ".join(fields)[:100])
                raise ValueError(
                    f"{path}, line {rows.line_num}: x, y, width and height are {found}: give four "
                    "numbers, or none for an image that shows nobody"
                ) from None
            boxes.append((x, y, width, height))
    return persons, groups


def _of_persons(
    photo: Photo, boxes: list[Box], is_test: bool, size: tuple[int, int], name: str = ""
) -> list[WindowSource]:
    return [
        WindowSource(f"{name or photo.photo}#{i}", photo, True, is_test, partial(_around, box=box, size=size))
        for i, box in enumerate(boxes)
        if box[3] >= HEIGHT_MIN
    ]


def _of_background(photo: Photo, is_test: bool, size: tuple[int, int], name: str = "") -> list[WindowSource]:
    names = [f"{name or photo.photo}#{i}" for i in range(WINDOWS_PER_PHOTO)]
    return [WindowSource(each, photo, False, is_test, partial(_anywhere, name=each, size=size)) for each in names]


def _middle(image: Image, box: Box | None, size: tuple[int, int]) -> tuple[Image, Box | None]:
    """Cut the window in the middle of an image that is 128 pixels tall, as the validation of a training does."""
    top, left = (image.shape[0] - WINDOW[1]) // 2, (image.shape[1] - WINDOW[0]) // 2
    if top < 0 or left < 0:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} pixels is smaller than a window of 64 x 128")
    window: Image = cut(image, (left + WINDOW[0] / 2, top + WINDOW[1] / 2), WINDOW[1], size, mirror=False)
    return window, box


def _around(image: Image, box: Box, size: tuple[int, int]) -> tuple[Image, Box | None]:
    """Cut the window in whose middle the person is three quarters of it tall; also return the part of the box in it."""
    x, y, width, height = box
    if min(width, height) <= 0 or x < -1 or y < -1 or x + width > image.shape[1] + 1 or y + height > image.shape[0] + 1:
        raise ValueError(
            f"the box at ({x:g}, {y:g}), {width:g} x {height:g}, does not lie in the image of {image.shape[1]} x "
            f"{image.shape[0]} pixels"
        )
    tall = height / PERSON_SHARE
    wide = tall * size[0] / size[1]
    left, top = x + (width - wide) / 2, y + (height - tall) / 2
    window: Image = crop(image, left, top, wide, tall, size)
    scale = size[1] / tall
    start = max(0.0, (x - left) * scale)
    end = min(float(size[0]), (x + width - left) * scale)
    return window, (start, (y - top) * scale, end - start, height * scale)


def _anywhere(image: Image, name: str, size: tuple[int, int]) -> tuple[Image, Box | None]:
    """Cut a random window of a person-free photo, not enlarged if it fits; a name always gives the same."""
    rng = np.random.default_rng(list(name.encode()))
    limit = min(image.shape[0], image.shape[1] * size[1] / size[0])
    tall = rng.uniform(min(size[1], limit), limit)
    wide = tall * size[0] / size[1]
    left, top = rng.uniform(0, image.shape[1] - wide), rng.uniform(0, image.shape[0] - tall)
    window: Image = crop(image, left, top, wide, tall, size)
    return window, None
