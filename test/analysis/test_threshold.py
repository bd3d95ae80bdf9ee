"""One threshold decides: tables, messages, pictures and report agree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain_cnn_ros.draw.captions import decision_text
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.scan.decider import Decision
from explain_cnn_ros.scan.scanning import ScanSettings

#: A threshold below that of the weights, 0.7.
THRESHOLD = 0.2


class Collector:
    """An encoder that collects the results."""

    def __init__(self, *_: Any) -> None:
        self.results: list[tuple[Decision, Explanation]] = []

    def encode(self, frame: Any, decision: Any, explanation: Any, trigger: str) -> list[tuple[str, str, bytes]]:
        self.results.append((decision, explanation))
        return []


@pytest.fixture(params=["whole", "scan"])
def analysed(request, studio, tmp_path) -> tuple[Path, dict[str, Any]]:
    """A recording with decisions that depend on the threshold, and the settings of its analysis."""
    if request.param == "whole":
        frames = [studio.picture(i) for i in range(12)]
    else:
        frames = [np.ascontiguousarray(studio.street[150:390, 150:470])]
    settings = {"threshold": THRESHOLD, "regions": request.param, "scan": ScanSettings(person_height_min=100)}
    return studio.record(tmp_path / "bag", frames, "/camera"), {**settings, "explain_all": True}


def report_data(output: Path) -> dict[str, Any]:
    page = (output / "report.html").read_text()
    data: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    return data


def test_table_explanation_and_report_agree(studio, analysed, tmp_path) -> None:
    bag, settings = analysed
    collector = Collector()
    studio.analyse(tmp_path / "out", bag, make_encoder=lambda classifier: collector, **settings)
    rows, report = studio.rows(tmp_path / "out"), report_data(tmp_path / "out")
    # The weights' own threshold would decide some of these otherwise.
    assert any(THRESHOLD <= row["probability"] < studio.classifier.threshold for row in rows)
    assert report["threshold"] == report["manifest"]["threshold"] == THRESHOLD
    assert len(collector.results) == len(report["shown"]) == len(rows)
    for row, (decision, explanation), shown in zip(rows, collector.results, report["shown"], strict=True):
        assert explanation.threshold == decision.threshold == THRESHOLD
        assert row["person"] == decision.person == explanation.person == shown["person"]
        assert row["person"] == (row["probability"] >= THRESHOLD)
        assert explanation.region.probability == pytest.approx(row["probability"], abs=1e-4)
        assert all(region.probability >= THRESHOLD for region in decision.regions[1:])
        assert "threshold 0.20" in decision_text(explanation.region.probability, explanation.threshold)


def test_messages_agree(studio, analysed, tmp_path) -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage

    from explain_cnn_ros.bags.image_messages import to_rgb
    from explain_cnn_ros.bags.reader import BagReader
    from explain_cnn_ros.cli import make_encoder
    from explain_cnn_ros.msg import Classification
    from explain_cnn_ros.msg import Explanation as ExplanationMessage
    from explain_cnn_ros.ros.messages import explanation_from

    bag, settings = analysed
    collector = Collector()

    class Both:
        def __init__(self, classifier: Any) -> None:
            self.encoder: Any = make_encoder(classifier)

        def encode(self, *results: Any) -> list[tuple[str, str, bytes]]:
            collector.encode(*results)
            encoded: list[tuple[str, str, bytes]] = self.encoder.encode(*results)
            return encoded

    output = tmp_path / "out"
    studio.analyse(output, bag, make_encoder=Both, **settings)
    rows = studio.rows(output)
    kinds = {"classification": Classification, "explanation": ExplanationMessage, "overlay/compressed": CompressedImage}
    with BagReader(output / "explanations") as recording:
        messages = {
            name: [deserialize_message(m.data, kind) for m in recording.messages([f"/explain_node/{name}"])]
            for name, kind in kinds.items()
        }
    with BagReader(bag) as recording:
        images = [to_rgb(deserialize_message(m.data, _image())) for m in recording.messages()]
    for i, (row, (decision, explanation)) in enumerate(zip(rows, collector.results, strict=True)):
        for name in ("classification", "explanation"):
            assert messages[name][i].threshold == pytest.approx(THRESHOLD)
        assert messages["classification"][i].person == row["person"]
        assert explanation_from(messages["explanation"][i]).person == row["person"]
        drawn = to_rgb(messages["overlay/compressed"][i]).astype(int)
        other = dataclasses.replace(explanation, threshold=studio.classifier.threshold)
        difference = [
            np.abs(_overlay(images[i], shown, decision).astype(int) - drawn).mean() for shown in (explanation, other)
        ]
        # JPEG changes every picture a little; another threshold changes the texts.
        assert difference[0] < difference[1]


def _image() -> Any:
    from sensor_msgs.msg import Image

    return Image


def _overlay(image: Any, explanation: Explanation, decision: Decision) -> Any:
    return draw_overlay(
        image, explanation, "activation_precision", regions=decision.regions, trigger="chosen", keep_size=True
    )
