"""The proposer learns to tell bright bars from noise, and its hard negatives are windows that it takes for persons."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.batches import TrainingImages
from explain_cnn_ros.training.proposer import BORDER, train_proposer
from explain_cnn_ros.training.proposer import _Training as Training
from explain_cnn_ros.training.settings import TrainSettings

SETTINGS = TrainSettings(proposer_steps=60, proposer_width=4)


def bar(rng: np.random.Generator) -> NDArray[np.uint8]:
    image = rng.integers(0, 40, (160, 96, 3), np.uint8)
    image[32:128, 36:60] += 190
    return image


@pytest.fixture
def images() -> TrainingImages:
    rng = np.random.default_rng(0)
    backgrounds = [rng.integers(0, 60, (128, 64, 3), np.uint8) for _ in range(4)]
    return TrainingImages([bar(rng) for _ in range(4)], backgrounds, [rng.integers(0, 60, (200, 180, 3), np.uint8)])


def test_learns_to_find_bars(full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path) -> None:
    proposer = train_proposer(full_classifier, images, SETTINGS, tmp_path)
    assert not proposer.training
    searching = PersonClassifier(full_classifier.network, full_classifier.info, "cpu", proposer=proposer)
    rng = np.random.default_rng(5)
    frame = rng.integers(0, 40, (96, 160, 3), np.uint8)
    frame[24:72, 83:95] += 190  # a person of 48 pixels, which fits the window at x 73 to 105, y 16 to 80
    margins, _ = searching.propose_densely(frame)
    row, column = np.unravel_index(margins.argmax(), margins.shape)
    assert abs(8 * row - 16) <= 8 and abs(8 * column - 73) <= 8
    assert margins.max() > 0 > np.median(margins)


def test_other_settings_begin_anew(
    full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = dataclasses.replace(SETTINGS, proposer_steps=2)
    train_proposer(full_classifier, images, short, tmp_path)
    train_proposer(full_classifier, images, dataclasses.replace(short, seed=1), tmp_path)
    assert "belongs to other settings or images: the proposer is trained anew" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["nothing", "mean", "std", "input_size", "persons", "backgrounds", "photos"])
def test_a_checkpoint_of_other_windows_or_images_is_not_continued(
    full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path, change: str
) -> None:
    """The proposer is trained anew if the windows or the images have changed, even if the settings have not."""
    training = Training(full_classifier, images, SETTINGS, tmp_path)
    training.step = 5
    training.save()
    info, network = full_classifier.info, full_classifier.network
    if change in ("mean", "std"):
        info = dataclasses.replace(info, **{change: (100.0, 110.0, 120.0)})
    elif change == "input_size":
        info = dataclasses.replace(info, input_size=(96, 192))
    elif change != "nothing":
        other = [image.copy() for image in getattr(images, change)]
        other[-1][0, 0, 0] ^= 1
        images = dataclasses.replace(images, **{change: other})
    again = Training(PersonClassifier(network, info, "cpu"), images, SETTINGS, tmp_path)
    again.resume()
    assert again.step == (5 if change == "nothing" else 0)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_hard_negatives_of_a_checkpoint_stay_on_the_host(
    full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path
) -> None:
    """The device has no values. Its tensors cannot become arrays, like those of a GPU."""
    training = Training(full_classifier, images, SETTINGS, tmp_path)
    training.step, images.hard = 5, [np.full((80, 48, 3), 7, np.uint8)]
    training.save()
    images.hard = []
    on_device = SimpleNamespace(info=full_classifier.info, device=torch.device("meta"))
    again = Training(on_device, images, SETTINGS, tmp_path)
    again.resume()
    assert again.step == 5
    np.testing.assert_array_equal(images.hard, [np.full((80, 48, 3), 7, np.uint8)])


def test_a_training_that_diverges_ends(
    full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Training._loss
    monkeypatch.setattr(Training, "_loss", lambda self, batch: original(self, batch) * float("nan"))
    short = dataclasses.replace(SETTINGS, proposer_steps=2)
    with pytest.raises(ValueError, match="a weight of the proposer is not finite at step 1: its training diverged"):
        train_proposer(full_classifier, images, short, tmp_path)
    assert not (tmp_path / "proposer.pt").exists()


def test_hard_negatives_are_the_windows_of_highest_margin(
    full_classifier: PersonClassifier, images: TrainingImages, tmp_path: Path
) -> None:
    """Each mined window with its border has, at the window's position, about the margin that it had in the photo."""
    training = Training(full_classifier, images, SETTINGS, tmp_path)
    mined = training.mine(images.photos, np.random.default_rng(0), windows_per_photo=3, margin_min=-100)
    assert [window.shape for window in mined] == [(64 + 2 * BORDER, 32 + 2 * BORDER, 3)] * 3
    assert training.mine(images.photos, np.random.default_rng(0), margin_min=100) == []
