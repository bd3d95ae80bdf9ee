"""Finding INRIA on disk, in both layouts, and splitting it by photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from explain_cnn_ros.training.datasets import (
    Photo,
    photo_of_background,
    photo_of_person,
    read_inria,
    read_photos,
    share_of,
    split,
)


def write(path, width=96, height=160, colour=(10, 20, 200)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), colour[::-1], np.uint8)
    assert cv2.imwrite(str(path), image)


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("crop001001a", "crop001001"),
        ("crop_000010b", "crop_000010"),
        ("person_and_bike_029c", "person_and_bike_029"),
        ("person_031", "person_031"),
        ("crop001022ab", "crop001022"),
    ],
)
def test_photo_of_a_person_window(name, photo):
    assert photo_of_person(name) == photo


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("00000003a_1", "00000003a"),
        ("281_2_2164", "281"),
        ("281_11_2170", "281"),
        ("no_person__no_bike_213_12", "no_person__no_bike_213"),
        ("D3-0-1_2h3m4s_7", "D3-0-1_2h3m4s"),
    ],
)
def test_photo_of_a_background_window(name, photo):
    assert photo_of_background(name) == photo


@pytest.mark.parametrize("layout", ["windows", "original"])
def test_both_layouts(tmp_path, layout):
    persons = tmp_path / ("train/pos" if layout == "windows" else "96X160H96/Train/pos")
    backgrounds = tmp_path / ("train/neg" if layout == "windows" else "Train/neg")
    write(persons / "crop001001a.png")
    write(persons / "crop001001b.png")
    write(persons / "crop001002a.png")
    write(backgrounds / "00000003a_1.jpg", 64, 128)
    (backgrounds / "notes.txt").write_text("no image")
    found = read_inria(tmp_path)
    assert [p.photo for p in found.persons] == ["pos/crop001001"] * 2 + ["pos/crop001002"]
    # A window names its photo; a whole photo is one.
    assert [p.photo for p in found.backgrounds] == ["neg/00000003a" if layout == "windows" else "neg/00000003a_1"]
    assert found.persons[0].read()[0, 0].tolist() == [10, 20, 200]


def test_frames_with_running_numbers_are_photos_of_their_own(tmp_path):
    """By the rule for windows of INRIA, all of them would be windows of one photo, which no split can divide."""
    for i in range(40):
        write(tmp_path / f"train/neg/frame_{i:04d}.png", 64, 128)
        write(tmp_path / f"train/pos/17{'abcdefghijklmnopqrstuvwxyz'[i % 26] * (1 + i // 26)}.png")
    found = read_inria(tmp_path)
    assert [p.photo for p in found.backgrounds] == [f"neg/frame_{i:04d}" for i in range(40)]
    assert len({p.photo for p in found.persons}) == 40
    assert all(split(part, 0.15)[1] for part in (found.persons, found.backgrounds))


def test_missing_data_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected train/pos and train/neg, or 96X160H96/Train/pos"):
        read_inria(tmp_path)
    (tmp_path / "train/pos").mkdir(parents=True)
    (tmp_path / "train/neg").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds 0 and .* 0 images"):
        read_inria(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_photos(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no images"):
        read_photos(tmp_path)


def test_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be read as an image"):
        read_photos(tmp_path)[0].read()


def test_split_is_by_photo_and_stable(tmp_path):
    photos = [Photo(tmp_path / f"{i}{letter}", f"pos/{i}") for i in range(400) for letter in "abc"]
    training, held_out = split(photos, 0.15)
    assert len(training) + len(held_out) == len(photos)
    assert not {p.photo for p in training} & {p.photo for p in held_out}
    assert 0.09 < len(held_out) / len(photos) < 0.21
    # Written down: another machine or release must not move a photo from one side to the other.
    assert share_of("pos/crop001001") == pytest.approx(SHARE, abs=1e-12)


SHARE = 0.6140824206525544
