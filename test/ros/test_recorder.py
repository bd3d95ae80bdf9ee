"""The recorder writes the explanations of a running node to a folder, as pictures and JSON."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from sensor_msgs.msg import CompressedImage

from explain_cnn_ros import Explainer, ExplainSettings
from explain_cnn_ros.msg import Classification
from explain_cnn_ros.ros.messages import explanation_message
from explain_cnn_ros.ros.recorder import Recorder, StampedCache
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


def test_writes_explanation_overlay_sheet_and_table(graph, sample_frames, tmp_path):
    classifications = graph.collect(Classification, "/explain_node/classification")
    recorder = graph.start(
        *("--output", str(tmp_path / "out"), "--node", "/explain_node", "--image", "/image/compressed"),
        module="explain_cnn_ros.ros.recorder",
    )
    graph.start_node(
        image_transport="compressed", explain__perturbations=4, explain__layers=[5, 8], confidence_threshold=0.0
    )
    publisher = graph.node.create_publisher(CompressedImage, "/image/compressed", 10)
    graph.wait_for(lambda: publisher.get_subscription_count() == 2, "node and recorder")
    graph.wait_for(
        lambda: graph.node.count_subscribers("/explain_node/explanation") == 1, "the recorder's subscriptions"
    )
    frame = CompressedImage(format="jpeg", data=sample_frames[0])
    frame.header.stamp.sec, frame.header.frame_id = 42, "camera"

    table = tmp_path / "out/classifications.csv"

    def recorded():
        publisher.publish(frame)
        graph.spin(0.1)
        return classifications and len(table.read_text().splitlines()) > 1

    graph.wait_for(recorded, "a decision in the table")
    sheets = []

    def drawn():
        # The publisher may have found the recorder before the recorder found the publisher: the first frames are lost.
        publisher.publish(frame)
        graph.spin(0.5)
        assert graph.call(Explain, "/explain_node/explain", Explain.Request()).success
        sheets[:] = sorted((tmp_path / "out").glob("*_sheet.png"))
        return sheets

    graph.wait_for(drawn, "a sheet")
    number = sheets[0].name[:3]
    written = [
        tmp_path / "out" / f"{number}_{kind}" for kind in ("explanation.json", "overlay.png", "slide.png", "sheet.png")
    ]
    graph.wait_for(lambda: all(path.exists() for path in written), "the files")
    assert graph.stop(recorder) == 0

    record = json.loads(written[0].read_text())
    assert (record["stamp"], record["frame_id"], record["trigger"]) == ("42.000000000", "camera", "service")
    assert record["settings"]["perturbations"] == 4
    assert [(r["metric"], r["layer"]) for r in record["rankings"]] == [
        (metric, layer) for metric in ExplainSettings().metrics for layer in (5, 8)
    ]
    assert record["summary"].startswith("no person: P(person) ")
    assert "; for it: these 10 neurons carry " in record["summary"]
    overlay = cv2.imread(str(written[1]))
    original = cv2.imdecode(np.frombuffer(sample_frames[0], np.uint8), cv2.IMREAD_COLOR)
    assert overlay.shape == original.shape
    assert (overlay != original).any()
    slide, sheet = (cv2.imread(str(path)) for path in written[2:])
    assert slide.shape == sheet.shape == (1080, 1920, 3)
    assert (slide != sheet).any()
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["probability"]) == pytest.approx(classifications[0].probability, abs=1e-5)


def test_an_overlay_may_arrive_before_its_explanation(tmp_path, domain, thin_classifier, picture, raw_image):
    """The two are separate topics: their order is chance. What arrives twice is written twice, under its own number."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    recorder = Recorder(tmp_path, "/explain_node", "/image", context=context)
    frame = picture(32, 64)
    try:
        explanation = Explainer(thin_classifier, ExplainSettings(perturbations=2, layers=(3,))).explain(frame)
        for stamp, overlay_first in ((1, True), (2, False), (2, True)):
            image = raw_image(frame, stamp=stamp)
            message = explanation_message(image.header, explanation, "service")
            steps = [lambda m=image: recorder._on_overlay(m), lambda m=message: recorder._on_explanation(m)]
            for step in steps if overlay_first else steps[::-1]:
                step()
    finally:
        recorder.close()
        recorder.destroy_node()
        context.try_shutdown()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{n:03d}_overlay.png" for n in range(3)]
    for path in tmp_path.glob("*.png"):
        np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], frame)


def test_the_cache_stores_the_newest():
    cache = StampedCache(2)
    for second in range(4):
        cache[second, 0] = second
    assert list(cache.items()) == [((2, 0), 2), ((3, 0), 3)]
