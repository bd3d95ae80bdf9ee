"""Boxes of a detector: messages of all types, and a node that decides and explains in them, over DDS."""

from __future__ import annotations

import itertools
import math
import sys
import types
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool
from visualization_msgs.msg import ImageMarker

from explain_cnn_ros.bags.detection_types import OWN, ROI, VISION
from explain_cnn_ros.msg import Classification, Detection, Detections, ModelInfo
from explain_cnn_ros.msg import Region as RegionMessage
from explain_cnn_ros.ros.detections import installed_types
from explain_cnn_ros.ros.messages import region_from
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider
from explain_cnn_ros.scan.detections import DetectedBox, boxes_from, person_windows
from explain_cnn_ros.srv import Explain


def vision_detection(x: float, y: float, width: float, height: float, theta: float = 0.0, **classes: float) -> Any:
    """Make an object with the fields of a vision_msgs/Detection2D."""
    centre = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    hypotheses = [SimpleNamespace(hypothesis=SimpleNamespace(class_id=c, score=s)) for c, s in classes.items()]
    return SimpleNamespace(bbox=SimpleNamespace(center=centre, size_x=width, size_y=height), results=hypotheses)


class TestMessages:
    """Their conversion to boxes."""

    def test_own_messages(self) -> None:
        sent = Detections(detections=[Detection(x=-1.5, y=2.0, width=3.0, height=4.5, label="0", score=0.5)])
        assert boxes_from(sent) == (DetectedBox(-1.5, 2.0, 3.0, 4.5, "0", 0.5),)
        assert boxes_from(Detections()) == ()

    def test_regions_of_interest(self) -> None:
        sent = RegionOfInterest(x_offset=1, y_offset=2, width=3, height=4)
        assert boxes_from(sent) == (DetectedBox(1, 2, 3, 4),)
        assert boxes_from(RegionOfInterest()) == ()

    def test_messages_of_vision_msgs(self) -> None:
        upright = vision_detection(100, 50, 40, 80, car=0.2, person=0.7)
        without_class = vision_detection(100, 50, 40, 80)
        found = boxes_from(SimpleNamespace(detections=[upright, without_class]))
        assert found == (DetectedBox(80, 10, 40, 80, "person", 0.7), DetectedBox(80, 10, 40, 80))

    @pytest.mark.parametrize(
        ("theta", "size"),
        [(math.pi / 2, (80, 40)), (-math.pi / 2, (80, 40)), (math.pi, (40, 80)), (math.pi / 4, (84.85, 84.85))],
    )
    def test_a_rotated_box_becomes_the_upright_one_around_it(self, theta: float, size: tuple[float, float]) -> None:
        (box,) = boxes_from(SimpleNamespace(detections=[vision_detection(100, 50, 40, 80, theta)]))
        assert (box.width, box.height) == pytest.approx(size, abs=0.01)
        assert (box.x + box.width / 2, box.y + box.height / 2) == pytest.approx((100, 50))

    def test_vision_msgs_is_optional(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "vision_msgs", None)
        monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
        assert list(installed_types()) == [OWN, ROI]
        package, module = types.ModuleType("vision_msgs"), types.ModuleType("vision_msgs.msg")
        module.Detection2DArray = type("Detection2DArray", (), {})
        monkeypatch.setitem(sys.modules, "vision_msgs", package)
        monkeypatch.setitem(sys.modules, "vision_msgs.msg", module)
        assert list(installed_types()) == [VISION, OWN, ROI]


#: The boxes of two persons in the frame of the tests.
NEAR, FAR = Detection(x=20.0, y=15.0, width=60.0, height=150.0), Detection(x=200.0, y=40.0, width=40.0, height=100.0)
SIZE = (320, 240)


@pytest.fixture(scope="session")
def frame(sample_frames: list[bytes]) -> np.ndarray:
    """A part of a frame of the sample, uint8 [240, 320, 3] RGB."""
    image = cv2.imdecode(np.frombuffer(sample_frames[0], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    return np.ascontiguousarray(image[200:440, 300:620])


@pytest.fixture(scope="module")
def processes(new_processes: Any) -> Any:
    """The node that the tests share. It waits for detections as long as a busy machine needs."""
    new_processes.start_node(
        regions="detections",
        detections_wait=50.0,
        explain__perturbations=4,
        explain__layers=[5, 8],
        confidence_threshold=0.0,
    )
    return new_processes


class Robot:
    """The camera, the detector and the user of a robot."""

    #: Stamps of images that are sent until one arrives, in seconds; each is used once.
    hello = itertools.count(1_000_000)

    def __init__(self, graph: Any, kind: Any = Detections, qos: Any = 10) -> None:
        self.graph = graph
        self.decided = graph.collect(Classification, "/explain_node/classification")
        self.reports = graph.collect(DiagnosticArray, "/diagnostics")
        self.camera = graph.publisher(Image, "/image")
        self.detector = graph.publisher(kind, "/detections", qos)
        graph.wait_for_subscribers("/explain_node/classification")
        if kind is Detections:
            graph.wait_for(self._heard, "a decision about any image")

    def _heard(self) -> bool:
        """Send an image and its detections; whether the node, which may discover the publishers late, has decided."""
        blank, stamp = np.zeros((64, 64, 3), np.uint8), next(self.hello)
        message = Image(encoding="rgb8", height=64, width=64, step=192, data=blank.tobytes())
        message.header.stamp.sec, message.header.stamp.nanosec = stamp, 123
        self.camera.publish(message)
        self.detect(stamp)
        self.graph.spin(0.3)
        return bool(self.decided)

    def detect(self, stamp: int, *boxes: Detection, nanosec: int = 123, frame_id: str = "camera") -> None:
        header = Header(frame_id=frame_id)
        header.stamp.sec, header.stamp.nanosec = stamp, nanosec
        self.detector.publish(Detections(header=header, detections=list(boxes)))

    def decision(self, stamp: int) -> Classification:
        self.graph.wait_for(lambda: any(d.header.stamp.sec == stamp for d in self.decided), f"decision {stamp}")
        return next(d for d in self.decided if d.header.stamp.sec == stamp)

    def values(self) -> dict[str, str]:
        """The newest values of the status of the images, with its text under the key ""."""
        if not self.reports:
            return {}
        status = self.reports[-1].status[0]
        return {item.key: item.value for item in status.values} | {"": status.message}

    def wait_for_value(self, key: str, text: str) -> None:
        self.graph.wait_for(lambda: text in self.values().get(key, ""), f"{key}: {text}; now {self.values()}")


def expected(frame: np.ndarray, *boxes: Detection) -> Any:
    """The decision that is computed in this process."""
    classifier = PersonClassifier.load(device="cpu")
    found = person_windows(boxes_from(Detections(detections=list(boxes))), classifier.info, SIZE)
    return Decider(classifier).judge(frame, found.regions)


@pytest.mark.ros
@pytest.mark.timeout(300)
class TestNode:
    """The real node in a process of its own."""

    def test_decides_and_explains_in_the_boxes(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        robot = Robot(shared_graph)
        robot.camera.publish(raw_image(frame, stamp=5))
        robot.camera.publish(raw_image(frame, stamp=7))
        robot.detect(7, NEAR, FAR)
        decided = robot.decision(7)
        mine = expected(frame, NEAR, FAR)
        found = [region_from(region) for region in decided.regions]
        assert [(r.x, r.y, r.width, r.height) for r in found] == [(r.x, r.y, r.width, r.height) for r in mine.regions]
        assert {(0, -10, 100, 200), (187, 23, 67, 133)} == {(r.x, r.y, r.width, r.height) for r in found}
        assert [r.probability for r in found] == pytest.approx([r.probability for r in mine.regions], abs=0.05)
        assert (decided.person, decided.header.frame_id) == (mine.person, "camera")
        assert not any(d.header.stamp.sec == 5 for d in robot.decided), "an earlier image is skipped"

        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request())
        assert answer.success, answer.message
        explained = region_from(answer.explanation.region)
        assert (explained.x, explained.y) == (mine.region.x, mine.region.y)
        assert answer.explanation.target == "person"
        assert answer.explanation.region.probability == pytest.approx(mine.probability, abs=1e-3)
        robot.wait_for_value("type of the detections", OWN)
        skipped = "skipped, without detections"
        shared_graph.wait_for(lambda: int(robot.values().get(skipped) or 0) >= 1, f"{skipped}; now {robot.values()}")

    def test_detections_before_the_image(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        robot = Robot(shared_graph)
        robot.detect(21, FAR)
        shared_graph.spin(0.3)
        robot.camera.publish(raw_image(frame, stamp=21))
        assert len(robot.decision(21).regions) == 1

    def test_nobody(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        """An empty array is a decision, and the node says why there is nothing to explain."""
        robot = Robot(shared_graph)
        robot.camera.publish(raw_image(frame, stamp=31))
        robot.detect(31)
        decided = robot.decision(31)
        assert (decided.person, decided.probability, list(decided.regions)) == (False, 0.0, [])
        assert not decided.low_confidence
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request())
        assert not answer.success
        assert answer.message == "the detector found nobody in this image: name the region to explain"
        region = RegionMessage(x=0, y=0, width=100, height=200)
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(region=[region]))
        assert answer.success, answer.message

    def test_requests_with_an_image_and_another_target(
        self, shared_graph: Any, raw_image: Any, frame: np.ndarray
    ) -> None:
        request = Explain.Request(image=raw_image(frame, stamp=99))
        answer = shared_graph.call(Explain, "/explain_node/explain", request)
        assert "there are no detections for an image in a request: name a region" in answer.message
        request.region = [RegionMessage(x=10, y=10, width=100, height=200)]
        request.target = "background"
        answer = shared_graph.call(Explain, "/explain_node/explain", request)
        assert answer.success, answer.message
        assert (answer.explanation.target, answer.explanation.threshold) == ("background", 0.5)
        assert answer.explanation.settings.target == "background"
        request.target = "cat"
        answer = shared_graph.call(Explain, "/explain_node/explain", request)
        assert "there is no class 'cat'. The classes of the weights are background, person" in answer.message
        for width in (0, 2**31):  # neither ends the node, nor takes its memory
            request.region = [RegionMessage(x=10, y=10, width=width, height=width)]
            assert not shared_graph.call(Explain, "/explain_node/explain", request).success

    def test_boxes_out_of_the_image(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        robot = Robot(shared_graph)
        outside = Detection(x=1200.0, y=15.0, width=60.0, height=150.0)
        robot.camera.publish(raw_image(frame, stamp=41))
        robot.detect(41, outside, NEAR)
        assert len(robot.decision(41).regions) == 1, "the other box is judged"
        robot.wait_for_value("", "boxes on /detections are refused (1 in total): only 0.0% of the box at (1200, 15)")
        robot.camera.publish(raw_image(frame, stamp=42))
        robot.detect(42, outside, Detection(x=math.nan, y=0.0, width=1.0, height=1.0))
        robot.wait_for_value("rejected: boxes", "1")
        assert not any(d.header.stamp.sec == 42 for d in robot.decided)

    def test_classes(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        robot = Robot(shared_graph)
        assert shared_graph.set_parameters("/explain_node", detections_classes="person, 0")[0].successful
        boxes = [Detection(x=20.0, y=15.0, width=60.0, height=150.0, label=c) for c in ("car", "0", "person", "")]
        robot.camera.publish(raw_image(frame, stamp=51))
        robot.detect(51, *boxes)
        assert len(robot.decision(51).regions) == 2
        robot.camera.publish(raw_image(frame, stamp=52))
        robot.detect(52, boxes[0])
        assert not robot.decision(52).regions, "a car is nobody"
        assert shared_graph.set_parameters("/explain_node", detections_classes="")[0].successful

    def test_nobody_in_the_video_of_live_explanations(
        self, shared_graph: Any, raw_image: Any, frame: np.ndarray
    ) -> None:
        robot = Robot(shared_graph)
        overlays = shared_graph.collect(Image, "/explain_node/overlay")
        annotations = shared_graph.collect(ImageMarker, "/explain_node/annotations")
        shared_graph.wait_for_subscribers("/explain_node/overlay", "/explain_node/annotations")
        assert shared_graph.set_parameters("/explain_node", live="influence")[0].successful
        try:
            robot.camera.publish(raw_image(frame, stamp=61))
            robot.detect(61)
            shared_graph.wait_for(lambda: overlays and annotations, "a picture without a person")
            assert not annotations[-1].points
            drawn = np.frombuffer(bytes(overlays[-1].data), np.uint8).reshape(frame.shape)
            changed = (drawn != frame).any((1, 2))
            assert changed[:10].any() and not changed[40:].any(), "the headline alone"
            robot.camera.publish(raw_image(frame, stamp=62))
            robot.detect(62, NEAR)
            shared_graph.wait_for(lambda: annotations[-1].points, "a live explanation")
            assert annotations[-1].header.stamp.sec == 62
        finally:
            assert shared_graph.set_parameters("/explain_node", live="none")[0].successful

    def test_any_reliability_and_another_type(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        """A best-effort detector that publishes one region of interest, without a stamp, for the newest image."""
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        robot = Robot(shared_graph, RegionOfInterest, best_effort)
        robot.wait_for_value("type of the detections", ROI)
        robot.camera.publish(raw_image(frame, stamp=71))
        robot.wait_for_value("waiting for detections", "1")

        def decided() -> bool:
            robot.detector.publish(RegionOfInterest(x_offset=20, y_offset=15, width=60, height=150))
            shared_graph.spin(0.2)
            return any(d.header.stamp.sec == 71 for d in robot.decided)

        shared_graph.wait_for(decided, "a decision about the newest image")
        (region,) = robot.decision(71).regions
        assert (region.x, region.y, region.width, region.height) == (0, -10, 100, 200)

    def test_problems_name_the_cause(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        """The node reports late detections, stamps of another clock, silence, another type, and no detector."""
        robot = Robot(shared_graph)
        camera = iter(range(1000, 100_000))

        def until(text: str, act: Any) -> None:
            def said() -> bool:
                robot.camera.publish(raw_image(frame, stamp=next(camera)))
                act()
                shared_graph.spin(0.2)
                return text in robot.values().get("", "")

            shared_graph.wait_for(said, f"{text!r}; now {robot.values()}")

        robot.wait_for_value("type of the detections", OWN)
        assert shared_graph.set_parameters("/explain_node", detections_wait=0.01)[0].successful
        sent: list[int] = []

        def late() -> None:
            sent.append(next(camera) - 1)
            if len(sent) > 4:
                robot.detect(sent[-4])

        until("raise the parameter detections_wait", late)
        assert shared_graph.set_parameters("/explain_node", detections_wait=0.5)[0].successful
        until("let the detector search the images of this topic and copy their headers", lambda: robot.detect(3, NEAR))
        until("let the detector copy the header of the image", lambda: robot.detect(0, NEAR, nanosec=0))
        until("check that the detector runs, that it receives /image", lambda: None)
        # Nothing is matched while the node is disabled, and that is no fault of the detector.
        assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=False)).success
        shared_graph.wait_for(lambda: "the detector" not in robot.values()[""], "a report without detections")
        assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=True)).success
        shared_graph.node.destroy_publisher(robot.detector)
        until("/detections has no publisher, and no other topic has detections", lambda: None)
        elsewhere = shared_graph.node.create_publisher(Detections, "/yolo/boxes", 1)
        until("/yolo/boxes has: start the node with -r detections:=/yolo/boxes", lambda: None)
        shared_graph.node.create_publisher(String, "/detections", 1)
        until("has the type std_msgs/msg/String", lambda: None)
        shared_graph.node.destroy_publisher(elsewhere)

    def test_the_model_says_which_classes_are_persons(self, shared_graph: Any) -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        models = shared_graph.collect(ModelInfo, "/explain_node/model", latched)
        shared_graph.wait_for(lambda: models, "the description of the model")
        assert (list(models[0].person), models[0].source) == (["person"], "explain_cnn_ros")

    def test_vision_msgs(self, shared_graph: Any, raw_image: Any, frame: np.ndarray) -> None:
        """The node decides in the boxes of a Detection2DArray. This needs vision_msgs."""
        module = pytest.importorskip("vision_msgs.msg")
        robot = Robot(shared_graph, module.Detection2DArray)
        robot.wait_for_value("type of the detections", VISION)
        assert shared_graph.set_parameters("/explain_node", detections_wait=50.0)[0].successful
        message = raw_image(frame, stamp=81)
        robot.camera.publish(message)
        detection = module.Detection2D(header=message.header)
        detection.bbox.center.position.x, detection.bbox.center.position.y = 50.0, 90.0
        detection.bbox.size_x, detection.bbox.size_y = 60.0, 150.0
        robot.detector.publish(module.Detection2DArray(header=message.header, detections=[detection]))
        (region,) = robot.decision(81).regions
        assert (region.x, region.y, region.width, region.height) == (0, -10, 100, 200)
