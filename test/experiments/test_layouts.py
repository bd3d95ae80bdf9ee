"""Each layout gives the windows that it describes. Error messages name missing and damaged files."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.layouts import PERSON_BOX, WINDOWS_PER_PHOTO, middle_box, read_pascal, read_sources
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.model.windows import PERSON_SHARE
from explain_cnn_ros.training.augmentation import centred

#: Sizes of windows of other networks.
SIZES = [(96, 192), (224, 224), (48, 160)]

#: Annotations in the form of INRIAPerson: a person of 40 x 120 pixels, and one that is too small.
ANNOTATION = """# PASCAL Annotation Version 1.00

Image filename : "{split}/pos/{stem}.png"
Image size (X x Y x C) : 320 x 240 x 3
Database : "The INRIA Rh\xf4ne-Alpes Annotated Person Database"
Objects with ground truth : 2 {{ "PASperson" "PASperson" }}

# Details for object 1 ("PASperson")
Original label for object 1 "PASperson" : "UprightPerson"
Center point on object 1 "PASperson" (X, Y) : (120, 80)
Bounding box for object 1 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (100, 60) - (140, 180)

# Details for object 2 ("PASperson")
Original label for object 2 "PASperson" : "UprightPerson"
Bounding box for object 2 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (200, 100) - (210, 130)
"""


def photo(path: Path, person: bool) -> None:
    """Grey, with a green person of 40 x 120 pixels at (100, 60)."""
    image = np.full((240, 320, 3), 90, np.uint8)
    image[:] += (np.arange(320) % 40).astype(np.uint8)[None, :, None]
    if person:
        image[60:180, 100:140] = (0, 255, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def person_photos(tmp_path: Path) -> Path:
    """INRIAPerson as it is distributed, three photos of each kind and split."""
    for split in ("Train", "Test"):
        for i in range(3):
            stem = f"crop_{split}{i:03d}"
            photo(tmp_path / split / "pos" / f"{stem}.png", True)
            photo(tmp_path / split / "neg" / f"{i:05d}.jpg", False)
            note = tmp_path / split / "annotations" / f"{stem}.txt"
            note.parent.mkdir(exist_ok=True)
            note.write_text(ANNOTATION.format(split=split, stem=stem), encoding="latin-1")
    return tmp_path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder with boxes.csv: 30 drives of two images with a person, 30 images without."""
    lines = ["image,x,y,width,height,photo"]
    for i in range(30):
        for j in "ab":
            photo(tmp_path / f"drive/{i}{j}.png", True)
            lines.append(f"drive/{i}{j}.png,100,60,40,120,drive{i}")
        photo(tmp_path / f"empty/{i}.png", False)
        lines.append(f"empty/{i}.png,,,,,")
    photo(tmp_path / "unlisted.png", False)
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def person_stands_in_the_box(example: Example) -> None:
    """The green pixels of the window are those of the box, to a pixel; three quarters tall in the middle."""
    assert example.box is not None
    green = (example.image[..., 1] > 180) & (example.image[..., 0] < 60)
    rows, columns = np.nonzero(green)
    x, y, width, height = example.box
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    tall, wide = example.image.shape[:2]
    # Larger windows are less sharp.
    assert np.abs(np.subtract(seen, (x, y, x + width, y + height))).max() <= max(1, tall / 100)
    assert height == pytest.approx(tall * PERSON_SHARE)
    assert (x + width / 2, y + height / 2) == pytest.approx((wide / 2, tall / 2))


def test_inria_photos(person_photos: Path) -> None:
    """Persons around their box, the small one left out; the test photos are those of Test."""
    found = read_examples(person_photos, 10, 10)
    persons = [e for e in found if e.person]
    assert len(persons) == 6
    for example in persons:
        person_stands_in_the_box(example)
    assert all(e.is_test == e.photo.startswith("Test/") for e in found)
    backgrounds = [e for e in found if not e.person]
    assert len(backgrounds) == 2 * min(10, 3 * WINDOWS_PER_PHOTO)
    assert all(e.image.shape == (128, 64, 3) for e in found)
    assert len({e.image.tobytes() for e in backgrounds}) == len(backgrounds)
    again = read_examples(person_photos, 10, 10)
    assert all(
        one.name == other.name and np.array_equal(one.image, other.image)
        for one, other in zip(found, again, strict=True)
    )
    assert len({e.name for e in found}) == len(found)


@pytest.mark.parametrize("size", SIZES)
def test_windows_of_other_networks(person_photos: Path, size: tuple[int, int]) -> None:
    """The same persons and photos, in windows of another size and shape."""
    found, usual = read_examples(person_photos, 3, 3, size), read_examples(person_photos, 3, 3)
    assert [(e.name, e.photo, e.is_test) for e in found] == [(e.name, e.photo, e.is_test) for e in usual]
    assert all(e.image.shape == (size[1], size[0], 3) for e in found)
    for example in (e for e in found if e.person):
        person_stands_in_the_box(example)


@pytest.mark.parametrize("size", SIZES)
def test_windows_of_other_networks_are_those_of_their_validation(inria: Path, size: tuple[int, int]) -> None:
    found, usual = read_examples(inria, 3, 2, size), read_examples(inria, 3, 2)
    assert [(e.name, e.photo, e.is_test) for e in found] == [(e.name, e.photo, e.is_test) for e in usual]
    for example in found:
        path = inria / ("train/pos" if example.person else "train/neg") / example.name
        assert np.array_equal(example.image, centred(cv2.imread(str(path))[..., ::-1], size))
        x, y, width, height = example.box or middle_box(size)
        assert (y, height) == (size[1] / 8, size[1] * 3 / 4)
        assert x + width / 2 == pytest.approx(size[0] / 2)


def test_the_windows_of_vggs_stay(inria: Path, tmp_path: Path) -> None:
    """Windows, names and boxes are the same as those whose results are stored, also of photos with odd sides."""
    assert key_of(*read_examples(inria, 20, 5)) == "0362212e5c92bdb7"
    shutil.copytree(inria / "train/pos", tmp_path / "96X160H96/Train/pos")
    (tmp_path / "Train/neg").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(40):
        image = rng.integers(0, 256, (131 + i, 67 + 3 * i, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"Train/neg/{i:03d}.png"), image)
    assert key_of(*read_examples(tmp_path, 20, 5)) == "44a948125d434227"


def test_a_folder_with_boxes(listed: Path) -> None:
    found = read_examples(listed, 20, 5)
    for example in (e for e in found if e.person):
        person_stands_in_the_box(example)
    assert not any("unlisted" in e.name for e in found)
    sides: dict[str, set[bool]] = {}
    for example in found:
        sides.setdefault(example.photo, set()).add(example.is_test)
    assert {len(side) for side in sides.values()} == {1}
    assert {e.photo for e in found if e.person} <= {f"drive{i}" for i in range(30)}


def test_boxes_of_an_annotation(person_photos: Path) -> None:
    path = person_photos / "Train/annotations/crop_Train000.txt"
    assert read_pascal(path) == [(100, 60, 40, 120), (200, 100, 10, 30)]
    path.write_text(path.read_text(encoding="latin-1").split("# Details for object 2")[0], encoding="latin-1")
    with pytest.raises(ValueError, match=r"crop_Train000.txt announces 2 persons and holds 1 boxes: was it copied"):
        read_examples(person_photos, 1, 1)


def test_what_of_inria_is_missing(person_photos: Path) -> None:
    (person_photos / "Train/annotations/crop_Train001.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 files .*Train/pos have no annotation .*crop_Train001.png"):
        read_examples(person_photos, 1, 1)
    shutil.rmtree(person_photos / "Train/neg")
    with pytest.raises(FileNotFoundError, match=r"Train has no neg: the INRIAPerson data set \('INRIAPerson.tar'"):
        read_examples(person_photos, 1, 1)


def test_an_image_that_cannot_be_read(person_photos: Path) -> None:
    for path in (person_photos / "Test/pos").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"Test/pos/crop_Test00\d.png cannot be read as an image"):
        read_examples(person_photos, 1, 1)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no INRIA person data under .*list its boxes in .*boxes.csv"):
        read_examples(tmp_path, 1, 1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("drive/0a.png,1,2,three,4,", r"boxes.csv, line 2: x, y, width and height are 1, 2, three, 4: give four"),
        ("drive/0a.png,1,2,,4,", r"boxes.csv, line 2: .*give four numbers, or none for an image that shows nobody"),
        ("drive/nowhere.png,1,2,3,4,", r"1 of 1 images of .*boxes.csv are not there \(first: drive/nowhere.png\)"),
    ],
)
def test_a_wrong_line(listed: Path, line: str, says: str) -> None:
    (listed / "boxes.csv").write_text(f"image,x,y,width,height,photo\n{line}\n")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        read_examples(listed, 1, 1)


def test_wrong_columns_and_boxes(listed: Path) -> None:
    path = listed / "boxes.csv"
    lines = path.read_text()
    path.write_text(lines.replace("100,60,40,120", "100,60,40,320"))
    with pytest.raises(ValueError, match=r"the box at \(100, 60\), 40 x 320, does not lie in the image of 320 x 240"):
        read_examples(listed, 1, 1)
    path.write_text(lines.replace("width", "wide"))
    with pytest.raises(ValueError, match=r"has no column width: its first line must be image,x,y,width,height"):
        read_examples(listed, 1, 1)


def test_none_of_a_kind(listed: Path) -> None:
    path = listed / "boxes.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "empty" not in line))
    with pytest.raises(ValueError, match="holds no backgrounds to train on"):
        read_examples(listed, 1, 1)


def test_test_windows_that_are_also_training_windows_are_dropped(
    inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "inria"
    shutil.copytree(inria, copied)
    before = {s.name for s in read_sources(copied)}
    assert "dropped" not in capsys.readouterr().err
    backgrounds = [s for s in read_sources(copied) if not s.person]
    test, training = (next(s for s in backgrounds if s.is_test == of_test) for of_test in (True, False))
    shutil.copy(training.file.path, test.file.path)
    assert before - {s.name for s in read_sources(copied)} == {test.name}
    count = sum(s.is_test for s in backgrounds)
    assert f"dropped 1 of {count} test windows as duplicates of training windows" in capsys.readouterr().err


def test_windows_are_the_middle_and_the_person_stands_there(inria: Path) -> None:
    example = next(e for e in read_examples(inria, 5, 2) if e.person)
    original = cv2.imread(str(inria / "train/pos" / example.name))[..., ::-1]
    assert np.array_equal(example.image, original[16:144, 16:80])
    x, y, width, height = PERSON_BOX
    assert (y, height) == (16, 96)
    assert x + width / 2 == 32
