"""The recording of an analysis is played by the player and received over DDS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("pyarrow")

from visualization_msgs.msg import ImageMarker

from explain_cnn_ros.analysis.run import Job, run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.cli import make_encoder
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.msg import Classification, Explanation

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


def test_listeners_of_the_node_hear_the_analysis(graph: Any, tmp_path: Path) -> None:
    quick = ExplainSettings(perturbations=2, layers=(3,), metrics=("activation_sum",))
    settings = AnalysisSettings(regions="whole", explain=quick, explain_every=20, confidence_threshold=0.0, end=4.0)
    outcome = run(Job((ROOT / "sample/street",), tmp_path / "out", settings), make_encoder=make_encoder)
    assert outcome.complete
    decisions = graph.collect(Classification, "/explain_node/classification")
    explanations = graph.collect(Explanation, "/explain_node/explanation")
    boxes = graph.collect(ImageMarker, "/explain_node/annotations")
    graph.start(
        *(str(tmp_path / "out/explanations"), "--rate", "4", "--wait-for-subscribers", "30"),
        module="explain_cnn_ros.ros.player",
    )
    graph.wait_for(lambda: len(decisions) >= 20 and explanations and boxes, "20 decisions and an explanation")
    assert len(decisions) == outcome.summary["frames"] == 20
    assert explanations[0].trigger == Explanation.TRIGGER_PERIODIC
    assert boxes[0].header == explanations[0].header == decisions[0].header
