"""The weights that ship with the package are complete, documented and small, and distinguish people from a street."""

from __future__ import annotations

import datetime
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, ModelInfo
from explain_cnn_ros.model.windows import PERSON_SHARE, crop
from explain_cnn_ros.scan.candidates import overlap
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.detection import PersonLabel, match, read_labels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def classifier() -> PersonClassifier:
    return PersonClassifier.load(device="cpu")


@pytest.fixture(scope="module")
def street() -> list[tuple[np.ndarray, list[PersonLabel]]]:
    """Return the labelled frames of the sample, which holds every second frame after 200; every tenth is labelled."""
    labels = read_labels(ROOT / "test" / "data" / "street_labels.csv")
    types = get_typestore(Stores.ROS2_JAZZY)
    frames = []
    with BagReader(ROOT / "sample" / "street") as bag:
        for index, message in enumerate(bag.messages([bag.image_topic().name])):
            name = f"{200 + 2 * index:04d}.jpg"
            if name in labels:
                image = types.deserialize_cdr(message.data, message.type)
                bgr = cv2.imdecode(np.frombuffer(bytes(image.data), np.uint8), cv2.IMREAD_COLOR)
                frames.append((np.ascontiguousarray(bgr[..., ::-1]), labels[name]))
    assert len(frames) == 10
    return frames


def window_around(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """Return the window (x, y, width, height) that shows a person as the training windows do."""
    x, y, width, height = box
    tall = height / PERSON_SHARE
    return x + width / 2 - tall / 4, y + height / 2 - tall / 2, tall / 2, tall


def test_size() -> None:
    assert DEFAULT_WEIGHTS.stat().st_size <= 35_000_000


def test_metadata_is_complete(classifier: PersonClassifier) -> None:
    info = classifier.info
    assert info.architecture == "vgg16"
    assert info.input_size == (64, 128)
    assert 0.5 <= info.threshold < 1
    assert "INRIA" in info.training_data
    assert info.command
    assert datetime.date.fromisoformat(info.created[:10]).year >= 2026
    assert info.accuracy["balanced_accuracy_at_threshold"] >= 0.985
    assert info.accuracy["photos_with_alarm"] <= 0.05
    assert all(math.isfinite(figure) for figure in info.accuracy.values())


def test_metadata_is_this_versions() -> None:
    with safetensors.safe_open(DEFAULT_WEIGHTS, framework="numpy") as file:
        assert file.metadata().keys() >= ModelInfo().to_metadata().keys() - {"source", "person"}
        names = list(file.keys())
        assert {str(file.get_slice(name).get_dtype()) for name in names} == {"F16"}


def test_weights_are_finite_and_alive(classifier: PersonClassifier) -> None:
    for name, parameter in classifier.network.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter.std() > 0, name
    assert len(classifier.model_hash) == 12


def test_people_and_the_street_without_them(classifier: PersonClassifier, street) -> None:
    """Ten frames that training did not see: windows around all labelled people, and as many windows beside them."""
    rng = np.random.default_rng(0)
    people, elsewhere = [], []
    for frame, labels in street:
        windows = np.array([window_around(label.box) for label in labels])
        people += [
            crop(frame, *window, (64, 128)) for window, label in zip(windows, labels, strict=True) if not label.ignore
        ]
        while len(elsewhere) < len(people):
            tall = rng.uniform(90, 180)
            box = np.array([rng.uniform(0, 768 - tall / 2), rng.uniform(0, 576 - tall), tall / 2, tall])
            if overlap(box, windows).max() < 0.05:
                elsewhere.append(crop(frame, *box, (64, 128)))
    assert len(people) > 40
    found = classifier.probability(np.stack(people)) >= classifier.threshold
    alarms = classifier.probability(np.stack(elsewhere)) >= classifier.threshold
    assert found.mean() >= 0.9
    assert alarms.mean() <= 0.05


def test_scanning_the_street(classifier: PersonClassifier, street) -> None:
    """A quarter of one frame shows five persons, two of them side by side."""
    frame, labels = street[5]
    left, top, width, height = 340, 90, 384, 288
    inside = [
        PersonLabel((x - left, y - top, w, h), label.ignore)
        for label in labels
        for x, y, w, h in [label.box]
        if left <= x and x + w <= left + width and top <= y and y + h <= top + height
    ]
    assert len(inside) == 5
    result = match(classifier.scan(frame[top : top + height, left : left + width]), inside)
    assert result.found >= 4
    assert result.false_alarms <= 1


@pytest.mark.parametrize("value", [0, 127, 255])
def test_plain_images_are_no_persons(classifier: PersonClassifier, value: int) -> None:
    plain = np.full((1, 128, 64, 3), value, np.uint8)
    assert classifier.probability(plain)[0] < classifier.threshold
