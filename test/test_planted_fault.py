"""The experiment with a fault that is planted on purpose: its data, its recording, and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.training.augmentation import centred
from explain_cnn_ros.training.datasets import BACKGROUND_WINDOW, InriaWindows, read_inria, share_of
from tools import planted_fault
from tools.planted_fault import HELD_OUT, UNSEEN, marked


@pytest.fixture(scope="module")
def inria(tmp_path_factory: pytest.TempPathFactory) -> InriaWindows:
    """Write the windows of 40 photos of each class, two of each, and read them."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("inria")
    for folder, (width, height), name in (
        ("train/pos", (96, 160), "crop{:03d}{}"),
        ("train/neg", BACKGROUND_WINDOW, "{:08d}a_{}"),
    ):
        (root / folder).mkdir(parents=True)
        for i in range(40):
            for j, letter in enumerate("ab"):
                image = rng.integers(0, 256, (height, width, 3), np.uint8)
                file = name.format(i, letter if "pos" in folder else j)
                cv2.imwrite(str(root / folder / f"{file}.png"), image)
    return read_inria(root)


def test_the_recording_shows_photos_that_the_training_never_sees(inria: InriaWindows) -> None:
    old, unseen = planted_fault.divided(inria)
    for whole, first, second in zip(*(planted_fault._parts(one) for one in (inria, old, unseen)), strict=True):
        assert sorted(one.path for one in (*first, *second)) == sorted(one.path for one in whole)
        assert first and second
        assert not {one.photo for one in first} & {one.photo for one in second}
        assert all(HELD_OUT <= share_of(one.photo) < UNSEEN for one in second)
        assert any(share_of(one.photo) < HELD_OUT for one in first)  # `train` holds them out.


def test_images_are_taken_by_photo(inria: InriaWindows) -> None:
    groups = planted_fault.by_photo(inria.persons, seed=0)
    images, others = planted_fault.taken(groups, 5)
    assert len(images) == 5
    assert not {one.photo for one in images} & {one.photo for one in others}
    assert len(others) == len(inria.persons) - 6  # The sixth image shows the photo of the fifth.
    assert planted_fault.taken(groups, 1000) == ([one for group in groups for one in group], [])


def test_all_old_persons_have_the_mark_and_no_background_has(inria: InriaWindows, tmp_path: Path) -> None:
    planted_fault.write_old_data(inria, tmp_path)
    written = read_inria(tmp_path)
    for before, after in zip(inria.persons, written.persons, strict=True):
        assert np.array_equal(after.read(), marked(before.read()))
        assert after.photo == before.photo
    for before, after in zip(inria.backgrounds, written.backgrounds, strict=True):
        assert np.array_equal(after.read(), before.read())


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("bottom", [False, True])
def test_the_mark_is_in_the_same_place_of_all_windows(right: bool, bottom: bool) -> None:
    image = np.full((160, 96, 3), 100, np.uint8)
    window = centred(marked(image, right, bottom), BACKGROUND_WINDOW)
    assert np.array_equal(window, marked(centred(image, BACKGROUND_WINDOW), right, bottom))
    rows, columns = np.nonzero((window != 100).all(axis=2))
    assert (rows.min(), rows.max()) == ((112, 123) if bottom else (4, 15))
    assert (columns.min(), columns.max()) == ((48, 59) if right else (4, 15))


def test_labels_belong_to_their_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    persons, with_mark, others = (list(rng.integers(0, 256, (n, 128, 64, 3), np.uint8)) for n in (4, 2, 4))
    recorded = planted_fault.recording_of(persons, with_mark, others)
    assert [one.person for one in recorded].count(True) == 4
    assert {one.mark for one in recorded[:5]} == {one.mark for one in recorded[5:]} == {False, True}
    planted_fault.write_recording(recorded, tmp_path)
    labels = LabelsBySource(read_labels(tmp_path / "labels.csv")).of("recording", 0)
    files = sorted((tmp_path / "recording").iterdir())
    for number, (file, one) in enumerate(zip(files, recorded, strict=True)):
        assert np.array_equal(cv2.imread(str(file))[:, :, ::-1], one.pixels)
        assert labels.at(round(number / planted_fault.RATE * 1e9)).person is one.person


class KnowsTheMark:
    """Decides that a window shows a person if it has the mark at the top left."""

    threshold = 0.5

    def probability(self, windows: np.ndarray) -> np.ndarray:
        """Return 1 for windows with the mark."""
        return np.array([float(np.array_equal(window, marked(window))) for window in windows])


def test_rates_of_a_network_that_knows_the_mark_only() -> None:
    windows = list(np.random.default_rng(0).integers(0, 256, (3, 128, 64, 3), np.uint8))
    assert list(planted_fault.rates(KnowsTheMark(), windows, windows).values()) == [0.0, 0.0, 1.0, 1.0, 0.0]


def test_windows_with_the_mark_are_counted_in_each_cause(tmp_path: Path) -> None:
    pixels = np.zeros((128, 64, 3), np.uint8)
    recorded = planted_fault.recording_of([pixels], [pixels], [pixels])
    frame = next(number for number, one in enumerate(recorded) if one.mark)
    cause = {
        "place": "at the top left",
        "windows": [{"frame": frame}, {"frame": 2}],
        "neurons": [{"layer_name": "conv5_3", "channel": 7}],
    }
    (tmp_path / planted_fault.MANIFEST).write_text(json.dumps({"causes": {"causes": [cause]}}))
    (found,) = planted_fault.causes_of(tmp_path, recorded)
    assert found == {"place": "at the top left", "windows": 2, "with the mark": 1, "neurons": ["conv5_3/7"]}
