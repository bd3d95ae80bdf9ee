"""Every encoding from a publisher in another process: the same pixels as an independent conversion gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros.bags.image_messages import LAYOUTS, to_rgb
from explain_cnn_ros.msg import Classification
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, DecisionSettings
from tools.all_encodings import Encoded, compressed_frames, raw_frames

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]

FRAMES = {"raw": (Image, "/image", raw_frames), "compressed": (CompressedImage, "/image/compressed", compressed_frames)}


def log_odds(p: float) -> float:
    return math.log(p / (1 - p))


def check_pixels(arrived: Any, expected: Encoded) -> None:
    decoded = to_rgb(arrived)
    assert decoded.shape == expected.expected.shape, expected.name
    inner = slice(expected.border, -expected.border or None)
    difference = np.abs(decoded.astype(int) - expected.expected)[inner, inner]
    assert difference.max() <= expected.tolerance, (expected.name, difference.max())


def test_every_encoding_is_sent() -> None:
    sent = list(raw_frames())
    assert {e.message.encoding for e in sent} == set(LAYOUTS)
    assert all(e.message.step > e.message.width for e in sent)
    assert len({e.expected.tobytes() for e in sent}) > 8


@pytest.mark.parametrize("transport", FRAMES)
def test_same_pixels_and_the_same_decision(graph: Any, transport: str) -> None:
    """Here, on arrival; and in the node, whose decision is that for the pixels there should be."""
    kind, topic, frames = FRAMES[transport]
    expected = {encoded.name: encoded for encoded in frames()}
    images = graph.collect(kind, topic)
    decisions = graph.collect(Classification, "/explain_node/classification")
    graph.start_node(image_transport=transport, confidence_threshold=0.0)
    graph.start(module="tools.all_encodings")

    def all_there() -> bool:
        return {m.header.frame_id for m in images} == {m.header.frame_id for m in decisions} == set(expected)

    graph.wait_for(all_there, "a decision for each encoding", 500)
    assert "rejected" not in graph.log
    for arrived in images:
        check_pixels(arrived, expected[arrived.header.frame_id])
    # The node judges by 8-bit integers where they are faster.
    decider = Decider(
        PersonClassifier.load(device="cpu"), DecisionSettings(regions="whole", confidence_threshold=0.0), fast=True
    )
    for decision in decisions:
        encoded = expected[decision.header.frame_id]
        p = decider.decide(np.ascontiguousarray(encoded.expected)).probability
        assert 1e-4 < p < 1 - 1e-4, "a picture that does not saturate the network"
        exact = encoded.tolerance == encoded.border == 0
        assert log_odds(decision.probability) == pytest.approx(log_odds(p), abs=0.01 if exact else 0.5), encoded.name
