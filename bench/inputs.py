"""Inputs of the benchmarks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.windows import PERSON_SHARE, crop
from explain_cnn_ros.scan.candidates import overlap
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.detection import read_labels

ROOT = Path(__file__).resolve().parent.parent


def classifier_for(width: int, height: int) -> PersonClassifier:
    """Return the shipped classifier; for other window sizes, the shipped convolutions with random dense layers."""
    shipped = PersonClassifier.load()
    if (width, height) == shipped.info.input_size:
        return shipped
    torch.manual_seed(0)
    network = VGGClassifier(shipped.info.architecture, (width, height), shipped.info.hidden)
    network.features.load_state_dict(shipped.network.features.state_dict())
    info = dataclasses.replace(shipped.info, input_size=(width, height))
    return PersonClassifier(network, info, shipped.device)


def image_for(width: int, height: int) -> NDArray[np.uint8]:
    """Return an image of coarse colours and fine grain, which activates neurons about as a photo does."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 235, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return (coarse[:height, :width] + rng.uniform(-20, 20, (height, width, 3))).astype(np.uint8)


def sample_frames() -> list[NDArray[np.uint8]]:
    """Return the 50 frames of the sample, uint8 [576, 768, 3] RGB."""
    types, frames = get_typestore(Stores.ROS2_JAZZY), []
    with BagReader(ROOT / "sample/street") as bag:
        for message in bag.messages([bag.image_topic().name]):
            data: Any = types.deserialize_cdr(message.data, message.type)
            bgr: Any = cv2.imdecode(np.frombuffer(bytes(data.data), np.uint8), cv2.IMREAD_COLOR)
            frames.append(np.ascontiguousarray(bgr[..., ::-1]))
    return frames


def windows(count: int) -> list[NDArray[np.uint8]]:
    """Return windows of 64 x 128 pixels, three of four around persons; they are always the same."""
    labels = read_labels(ROOT / "test/data/street_labels.csv")
    rng = np.random.default_rng(0)
    persons, elsewhere = [], []
    for index, frame in enumerate(sample_frames()):
        name = f"{200 + 2 * index:04d}.jpg"
        if name not in labels:
            continue
        boxes = []
        for label in labels[name]:
            x, y, width, height = label.box
            tall = height / PERSON_SHARE
            boxes.append((x + width / 2 - tall / 4, y + height / 2 - tall / 2, tall / 2, tall))
        persons += [
            crop(frame, *box, (64, 128)) for box, lab in zip(boxes, labels[name], strict=True) if not lab.ignore
        ]
        while True:
            tall = rng.uniform(90, 180)
            box = np.array([rng.uniform(0, 768 - tall / 2), rng.uniform(0, 576 - tall), tall / 2, tall])
            if overlap(box, np.array(boxes)).max() < 0.05:
                elsewhere.append(crop(frame, *box, (64, 128)))
                break
    others = count // 4
    chosen = rng.permutation(len(persons))[: count - others]
    return [persons[i] for i in chosen] + elsewhere[:others]
