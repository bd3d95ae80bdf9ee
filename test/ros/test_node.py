"""The real node in a process of its own, over DDS. Most tests share one process."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool
from visualization_msgs.msg import ImageMarker, MarkerArray

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.msg import Classification, Explanation, Live, ModelInfo, Region
from explain_cnn_ros.ros.messages import explanation_from
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.summary import summary
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

#: Few perturbations and layers, so that the tests take seconds.
QUICK = {"explain__perturbations": 4, "explain__layers": [5, 8], "confidence_threshold": 0.0}
QUICK_SETTINGS = ExplainSettings(perturbations=4, layers=(5, 8))


@pytest.fixture(scope="module")
def processes(new_processes: Any) -> Any:
    """The node that tests share, with quick explanations."""
    new_processes.start_node(**QUICK)
    return new_processes


@pytest.fixture(scope="session")
def frame(sample_frames: list[bytes]) -> np.ndarray:
    """A person of the sample and what is around, uint8 [240, 320, 3] RGB."""
    image = cv2.imdecode(np.frombuffer(sample_frames[0], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    return np.ascontiguousarray(image[200:440, 300:620])


def contents(value: Any) -> Any:
    """A message as plain values that compare equal; NaN, which differs from itself, as text."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: contents(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, str | bytes | bool | int | float):
        return value
    return [contents(item) for item in value]


DOWN = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
UP = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)


def change_state(graph: Any, *transitions: int) -> None:
    for transition in transitions:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert graph.call(ChangeState, "/explain_node/change_state", request).success


def publish_until(graph: Any, publisher: Any, message: Any, arrived: list[Any], count: int = 1) -> None:
    """Publish again and again until something comes back."""

    def come() -> bool:
        publisher.publish(message)
        graph.spin(0.1)
        return len(arrived) >= count

    graph.wait_for(come, "something to come back")


def test_explains_the_newest_frame_when_asked(shared_graph, raw_image, frame):
    """The answer over DDS equals the explanation that is computed in this process for the same frame."""
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    explanations = shared_graph.collect(Explanation, "/explain_node/explanation")
    overlays = shared_graph.collect(Image, "/explain_node/overlay")
    publisher = shared_graph.publisher(Image, "/image")
    message = raw_image(frame)
    publish_until(shared_graph, publisher, message, classifications)
    decided = classifications[0]
    classifier = PersonClassifier.load(device="cpu")
    expected = classifier.probability(classifier.resize(frame)[None])[0]
    assert decided.header == message.header
    assert decided.probability == pytest.approx(expected, abs=1e-5)
    assert decided.person == (expected >= classifier.threshold)
    assert (decided.image_width, decided.image_height) == (320, 240)
    assert [(r.x, r.y, r.width, r.height) for r in decided.regions] == [(0, 0, 320, 240)]
    assert decided.model == classifier.model_hash

    answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert answer.success, answer.message
    shared_graph.wait_for(lambda: explanations and overlays, "the explanation and its overlay as topics")
    assert contents(explanations[0]) == contents(answer.explanation)
    assert answer.explanation.header == message.header
    assert answer.explanation.trigger == Explanation.TRIGGER_SERVICE
    mine = Explainer(classifier, QUICK_SETTINGS).explain(frame)
    theirs = explanation_from(answer.explanation)
    assert theirs.settings == mine.settings
    assert theirs.output_stddev == pytest.approx(mine.output_stddev, rel=1e-3)
    for ranking in mine.rankings:
        other = theirs.layer_ranking(ranking.metric, ranking.layer)
        assert other.neurons == tuple(
            type(n)(
                n.layer,
                n.channel,
                pytest.approx(n.score, rel=1e-3),
                n.patch,
                None,
                None if n.silenced is None else pytest.approx(n.silenced, rel=1e-3, abs=1e-4),
            )
            for n in ranking.neurons
        )
    assert [proof.metric for proof in theirs.proofs] == ["influence", "counter_influence"]
    for proof, other in zip(mine.proofs, theirs.proofs, strict=True):
        assert (other.neurons, other.agreeing) == (proof.neurons, proof.agreeing)
        assert other.share == pytest.approx(proof.share, abs=1e-3)
    overlay = overlays[0]
    assert overlay.header == message.header
    assert (overlay.width, overlay.height, overlay.encoding) == (320, 240, "rgb8")
    assert bytes(overlay.data) != frame.tobytes()


def test_explains_an_image_in_the_request(shared_graph, raw_image, frame):
    request = Explain.Request(image=raw_image(frame, stamp=99), metrics=["activation_sum"], top_n=3)
    request.region = [Region(x=40, y=20, width=60, height=120)]
    answer = shared_graph.call(Explain, "/explain_node/explain", request)
    assert answer.success, answer.message
    explanation = answer.explanation
    assert explanation.header.stamp.sec == 99
    assert [(r.metric, r.layer, len(r.neurons)) for r in explanation.rankings] == [
        ("activation_sum", 5, 3),
        ("activation_sum", 8, 3),
    ]
    assert (explanation.region.x, explanation.region.y) == (40, 20)
    for ranking in explanation.rankings:
        for neuron in ranking.neurons:
            for patch in neuron.patch:
                assert patch.x >= 40
                assert patch.x + patch.width <= 100


def test_low_confidence_explains_by_itself(shared_graph, raw_image, frame):
    """Every frame is below a threshold of 1; the cooldown lets only one of them through."""
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    explanations = shared_graph.collect(Explanation, "/explain_node/explanation")
    publisher = shared_graph.publisher(Image, "/image")
    changes = {"confidence_threshold": 1.0, "explain_cooldown": 3600.0}
    assert all(result.successful for result in shared_graph.set_parameters("/explain_node", **changes))
    publish_until(shared_graph, publisher, raw_image(frame), classifications, 3)
    shared_graph.wait_for(lambda: explanations, "an explanation")
    publish_until(shared_graph, publisher, raw_image(frame), classifications, len(classifications) + 3)
    assert all(c.low_confidence for c in classifications)
    assert [e.trigger for e in explanations] == [Explanation.TRIGGER_LOW_CONFIDENCE]
    shared_graph.set_parameters("/explain_node", confidence_threshold=0.0)


def test_bad_frames_are_named_and_survived(shared_graph, raw_image, frame):
    """Broken frames on the topic are counted by reason; the good one after them is classified."""
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    publisher = shared_graph.publisher(Image, "/image")
    truncated, unknown, empty = (raw_image(frame, stamp=9) for _ in range(3))
    truncated.data = truncated.data[:1000]
    unknown.encoding = "jpeg2000"
    empty.width = empty.height = empty.step = 0
    empty.data = type(empty.data)("B")

    def stamps() -> set[int]:
        """Stamps of the decisions, without those of an earlier test's frames, which may arrive late."""
        return {c.header.stamp.sec for c in classifications} - {7}

    summaries = ("truncated", "encoding", "zero_size")

    def all_named() -> bool:
        for message in (truncated, unknown, empty):
            publisher.publish(message)
            shared_graph.spin(0.1)
        return any(all(f"{reason} " in line for reason in summaries) for line in shared_graph.log.splitlines())

    # The log is throttled: the second line counts what came meanwhile.
    shared_graph.wait_for(all_named, "a log that counts all three")
    assert re.search(
        r"frame rejected: .*(truncated|unknown|empty).* in total: encoding \d+, truncated \d+", shared_graph.log
    )
    assert stamps() == set()
    shared_graph.wait_for(lambda: publisher.publish(raw_image(frame, stamp=8)) or stamps(), "a decision")
    assert stamps() == {8}


def test_bad_requests_get_a_clear_answer(shared_graph, raw_image, frame):

    def refusal(**fields: Any) -> str:
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(**fields))
        assert not answer.success
        return answer.message

    change_state(shared_graph, *DOWN, *UP)  # the node forgets the newest frame
    assert "no frame has been classified yet: the node listens to /image" in refusal()
    truncated, unknown, empty = raw_image(frame), raw_image(frame), raw_image(frame)
    truncated.data = truncated.data[:1000]
    unknown.encoding = "jpeg2000"
    empty.width = empty.height = empty.step = 0
    assert "truncated" in refusal(image=truncated)
    assert "'jpeg2000' is unknown" in refusal(image=unknown)
    assert "empty (0 x 0 pixels)" in refusal(image=empty)
    assert "metrics is 'entropy': it must be one of" in refusal(image=raw_image(frame), metrics=["entropy"])
    assert "top_n is 4000" in refusal(image=raw_image(frame), top_n=4000)
    far = Region(x=5000, y=0, width=10, height=20)
    assert "lies outside of the frame of 320 x 240" in refusal(image=raw_image(frame), region=[far])
    answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=raw_image(frame)))
    assert answer.success, answer.message


def test_several_callers_are_answered(shared_graph, raw_image, frame):
    client = shared_graph.client(Explain, "/explain_node/explain")
    answers = [client.call_async(Explain.Request(image=raw_image(frame, stamp=i))) for i in range(3)]
    shared_graph.wait_for(lambda: all(a.done() for a in answers), "three answers")
    assert [a.result().explanation.header.stamp.sec for a in answers] == [0, 1, 2]


def test_compressed_frames_of_a_best_effort_publisher(graph, sample_frames):
    """Scanned for persons, with a truncated JPEG before."""
    classifications = graph.collect(Classification, "/robot/explain_node/classification")
    parameters = QUICK | {"image_transport": "compressed", "regions": "scan", "scan__person_height_min": 100}
    graph.start_node("-r", "__ns:=/robot", "-r", "image/compressed:=/camera/jpeg", **parameters)
    publisher = graph.publisher(
        CompressedImage, "/camera/jpeg", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    broken = CompressedImage(format="jpeg", data=sample_frames[0][:20_000])
    graph.wait_for(lambda: publisher.publish(broken) or "rejected" in graph.log, "a log")
    assert "the compressed image is truncated: its 20000 bytes lack the end" in graph.log
    publish_until(graph, publisher, CompressedImage(format="jpeg", data=sample_frames[0]), classifications)
    assert classifications[0].regions
    probabilities = [r.probability for r in classifications[0].regions]
    assert probabilities == sorted(probabilities, reverse=True)


def test_parameters_are_checked_when_they_change(shared_graph):

    def set_parameter(name: str, value: Any) -> Any:
        return shared_graph.set_parameters("/explain_node", **{name: value})[0]

    assert set_parameter("explain.top_n", 3).successful
    assert set_parameter("explain.top_n", ExplainSettings().top_n).successful
    assert not set_parameter("explain.sigma", -1.0).successful
    refused = set_parameter("explain.metrics", ["entropy"])
    assert not refused.successful
    assert "explain.metrics is 'entropy': it must be one of influence, counter_influence" in refused.reason
    assert not set_parameter("device", "cuda").successful
    # These are valid by themselves, but not for this network.
    for name, value, reason in (
        ("explain.layers", [99], "layers [99] do not exist: vgg16 has convolutions 1 to 13"),
        ("explain.layer_names", "layer4.*", "no layer of vgg16 has a name like 'layer4.*'"),
        ("explain.target", "forklift", "there is no class 'forklift'"),
    ):
        refused = set_parameter(name, value)
        assert not refused.successful
        assert reason in refused.reason
    assert set_parameter("explain.layer_names", "conv4_*").successful
    assert set_parameter("explain.layer_names", "").successful


def test_wrong_parameter_at_the_start_ends_with_the_reason(graph):
    process = graph.start_node(regions="everywhere")
    graph.wait_for(lambda: process.poll() is not None, "the end of the node")
    assert process.returncode == 1
    assert "regions is 'everywhere': it must be one of scan, whole" in graph.log


def statuses(reports: list[Any]) -> dict[str, Any]:
    """The newest report's statuses by their part, with values as a dictionary."""
    return {
        status.name.rpartition(": ")[2]: (status, {item.key: item.value for item in status.values})
        for status in reports[-1].status
    }


def test_diagnostics_say_what_happens(shared_graph, raw_image, frame):
    reports = shared_graph.collect(DiagnosticArray, "/diagnostics")
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    publisher = shared_graph.publisher(Image, "/image")
    broken = raw_image(frame)
    broken.encoding = "jpeg2000"
    shared_graph.wait_for(lambda: reports, "a report")
    before = {part: values for part, (_, values) in statuses(reports).items()}
    publish_until(shared_graph, publisher, raw_image(frame), classifications, 5)
    assert shared_graph.call(Explain, "/explain_node/explain", Explain.Request()).success

    def rejected() -> bool:
        # On a busy machine, the explanation may take so long that no decision is recent any more.
        publisher.publish(raw_image(frame))
        publisher.publish(broken)
        shared_graph.spin(0.1)
        values = statuses(reports)
        count = int(values["images"][1].get("rejected: encoding", 0))
        recent = values["classification"][1]["median of the decision itself (ms)"] != "-"
        return recent and count > int(before["images"].get("rejected: encoding", 0))

    shared_graph.wait_for(rejected, "a rejected frame in the diagnostics")
    found = statuses(reports)
    assert [status.name for status in reports[-1].status] == [
        f"/explain_node: {part}" for part in ("images", "classification", "explanations", "device")
    ]
    images, values = found["images"]
    assert images.level == DiagnosticStatus.WARN
    assert re.match(r"frames are rejected: .*encoding", images.message)
    assert (values["topic"], values["reliability"]) == ("/image", "reliable")
    assert int(values["received"]) >= int(before["images"]["received"]) + 6
    classification, values = found["classification"]
    assert classification.level == DiagnosticStatus.OK
    assert (values["state"], values["enabled"], values["failed"]) == ("active", "true", "0")
    assert (
        0 < float(values["median of the decision itself (ms)"]) <= float(values["95 % from arrival to decision (ms)"])
    )
    assert re.fullmatch(r">0\.999|<0\.001|0\.\d{2,3}", values["P(person), median"])
    assert int(found["explanations"][1]["explained"]) == int(before["explanations"]["explained"]) + 1
    assert found["explanations"][1]["last"] in shared_graph.log
    assert found["device"][1]["model"] == PersonClassifier.load(device="cpu").model_hash


def test_nothing_to_see_is_explained(graph):
    """A publisher that the node cannot hear, since it asked for reliable frames; and a topic of another type."""
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    graph.start_node(**QUICK, reliability="reliable")
    graph.node.create_publisher(Image, "/image", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))

    def complains() -> bool:
        return bool(reports) and "does not match" in statuses(reports)["images"][0].message

    graph.wait_for(complains, "the mismatch")
    message = statuses(reports)["images"][0].message
    assert (
        "the node requests reliable, the publishers offer: partner best_effort; the parameter reliability is "
        "read-only: start the node with -p reliability:=auto" in message
    )
    graph.wait_for(lambda: "does not match" in graph.log, "the same in the log")


def test_the_subscription_follows_its_publishers(shared_graph, raw_image, frame):
    """A camera comes back as best effort, and then as a reliable publisher that latches an image."""
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    camera = shared_graph.publisher(Image, "/image")
    publish_until(shared_graph, camera, raw_image(frame), decisions)
    shared_graph.node.destroy_publisher(camera)
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    camera = shared_graph.node.create_publisher(Image, "/image", best_effort)

    def decided(stamp: int) -> bool:
        camera.publish(raw_image(frame, stamp=stamp))
        shared_graph.spin(0.1)
        return any(decision.header.stamp.sec == stamp for decision in decisions)

    shared_graph.wait_for(lambda: decided(40), "a decision about an image of the best-effort camera")
    assert "subscribed to /image anew, since its publishers have changed, best_effort" in shared_graph.log
    shared_graph.node.destroy_publisher(camera)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    camera = shared_graph.node.create_publisher(Image, "/image", latched)
    camera.publish(raw_image(frame, stamp=41))
    anew = "publishers have changed, reliable, with the image that its publisher has latched"
    shared_graph.wait_for(lambda: anew in shared_graph.log, "another subscription")
    shared_graph.wait_for(
        lambda: any(decision.header.stamp.sec == 41 for decision in decisions), "the image that was published once"
    )


def test_markers_that_cannot_be_drawn_are_explained(shared_graph, raw_image, frame):
    reports = shared_graph.collect(DiagnosticArray, "/diagnostics")
    shared_graph.collect(MarkerArray, "/explain_node/markers")
    camera = shared_graph.publisher(Image, "/image")
    calibration = CameraInfo(width=320, height=240)
    calibration.header.frame_id = "left"
    information = shared_graph.publisher(CameraInfo, "/camera_info")

    def explained() -> bool:
        information.publish(calibration)
        camera.publish(raw_image(frame, frame_id="right"))
        shared_graph.spin(0.1)
        return bool(reports) and "frame_ids differ: 'right' on /image" in statuses(reports)["explanations"][0].message

    shared_graph.wait_for(explained, "the reason")
    assert statuses(reports)["explanations"][0].level == DiagnosticStatus.WARN
    shared_graph.wait_for(lambda: "no markers, since frame_ids differ" in shared_graph.log, "the same in the log")


def test_requests_that_make_rclpy_raise_are_answered(shared_graph, raw_image, frame):
    """Types of parameters and transitions that there are not: the caller gets an answer, and the node goes on."""
    unknown = Parameter(name="threshold", value=ParameterValue(type=77))
    request = SetParameters.Request(parameters=[unknown])
    (result,) = shared_graph.call(SetParameters, "/explain_node/set_parameters", request).results
    assert (result.successful, result.reason) == (False, "77 is not a valid Parameter.Type")
    for number in (Transition.TRANSITION_CONFIGURE, 200):
        request = ChangeState.Request(transition=Transition(id=number))
        assert not shared_graph.call(ChangeState, "/explain_node/change_state", request).success
    decisions = shared_graph.collect(Classification, "/explain_node/classification")
    publish_until(shared_graph, shared_graph.publisher(Image, "/image"), raw_image(frame), decisions)


def test_set_enabled(shared_graph, raw_image, frame):
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    publisher = shared_graph.publisher(Image, "/image")
    publish_until(shared_graph, publisher, raw_image(frame), classifications)
    reports = shared_graph.collect(DiagnosticArray, "/diagnostics")
    assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=False)).success

    def received() -> int:
        return int(statuses(reports)["images"][1]["received"]) if reports else 0

    shared_graph.wait_for(received, "a report")
    seen = received()

    def ignored() -> bool:
        publisher.publish(raw_image(frame, stamp=99))
        shared_graph.spin(0.1)
        return received() > seen + 5

    shared_graph.wait_for(ignored, "frames that the node receives")
    assert statuses(reports)["classification"][1]["enabled"] == "false"
    assert shared_graph.call(SetBool, "/explain_node/set_enabled", SetBool.Request(data=True)).success
    publish_until(shared_graph, publisher, raw_image(frame, stamp=100), classifications, len(classifications) + 1)
    stamps = [c.header.stamp.sec for c in classifications]
    assert stamps[-1] == 100
    assert 99 not in stamps


def test_an_explanation_is_one_line_of_the_log(shared_graph, raw_image, frame):
    """It says what speaks for and against the decision, and which metric is drawn instead of a missing one, once."""
    reports = shared_graph.collect(DiagnosticArray, "/diagnostics")

    def explain(**fields: Any) -> str:
        """Return the line about a new explanation, by the log and by the diagnostics."""
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=raw_image(frame), **fields))
        assert answer.success, answer.message
        words = summary(explanation_from(answer.explanation))
        line = f"explained 7.000000123 (service): {words}"
        shared_graph.wait_for(lambda: line in shared_graph.log, line)
        shared_graph.wait_for(lambda: reports and statuses(reports)["explanations"][1]["last"] == words, "the report")
        return words

    missing = "overlay_metric is influence, but the explanation has no ranking by it: weight_sum is drawn instead"
    words = explain()
    assert re.match(r"(no )?person: P\(person\) .*; for it: .* 10 neurons .*; against it: .* \d+ neurons ", words)
    assert missing not in shared_graph.log
    for _ in range(2):
        assert explain(metrics=["weight_sum", "activation_sum"]).endswith("weight sum, activation sum, without a proof")
    shared_graph.wait_for(lambda: missing in shared_graph.log, "the metric that is drawn")
    assert shared_graph.log.count(missing) == 1


def test_presets_and_requests(shared_graph, raw_image, frame):
    """The preset live gives influence of the image alone. Parameters that it replaces are named, once."""

    def explain(**fields: Any) -> Any:
        return shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=raw_image(frame), **fields))

    warning = "the preset live replaces explain.perturbations: what was set there has no effect; set preset to ''"
    assert shared_graph.set_parameters("/explain_node", preset="live")[0].successful
    shared_graph.wait_for(lambda: warning in shared_graph.log, "a warning")
    answer = explain()
    assert answer.success, answer.message
    explanation = answer.explanation
    assert (explanation.perturbations, explanation.settings.perturbations) == (0, 0)
    assert list(explanation.settings.metrics) == ["influence", "counter_influence"]
    assert [(p.metric, p.neurons > 0, math.isnan(p.measured)) for p in explanation.proofs] == [
        ("influence", True, True),
        ("counter_influence", True, True),
    ]
    assert list(explain(metrics=["counter_influence"]).explanation.settings.metrics) == ["counter_influence"]
    assert "without perturbations (0)" in explain(metrics=["activation_precision"]).message
    assert shared_graph.set_parameters("/explain_node", preset="paper")[0].successful
    request = {"top_n": 2, "metrics": ["activation_sum"]}
    assert list(explain(**request).explanation.settings.metrics) == ["activation_sum"]
    assert shared_graph.set_parameters("/explain_node", preset="")[0].successful
    assert shared_graph.log.count(warning) == 1


def test_boxes_for_viewers_and_the_cameras_calibration(shared_graph, raw_image, frame):
    """Markers project to the patches, annotations are the patches; all with the image's own stamp."""
    arrays = shared_graph.collect(MarkerArray, "/explain_node/markers")
    outlines = shared_graph.collect(ImageMarker, "/explain_node/annotations")
    infos = shared_graph.collect(CameraInfo, "/explain_node/camera_info")
    shared_graph.collect(CompressedImage, "/explain_node/overlay/compressed")
    shared_graph.set_parameters("/explain_node", overlay_metric="activation_sum")
    calibration = CameraInfo(
        width=320, height=240, p=[300.0, 0.0, 160.0, 0.0, 0.0, 310.0, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    )
    message = raw_image(frame)
    calibration.header = message.header
    camera = shared_graph.publisher(CameraInfo, "/camera_info")

    def drawn() -> bool:
        camera.publish(calibration)
        shared_graph.spin(0.1)
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=message))
        assert answer.success, answer.message
        explained.append(answer.explanation)
        return bool(arrays and outlines and infos)

    explained: list[Any] = []
    shared_graph.wait_for(drawn, "markers, annotations and the calibration")
    assert infos[-1] == calibration
    patches = [
        (ranking.layer, patch.x, patch.y, patch.width, patch.height)
        for ranking in explained[-1].rankings
        if ranking.metric == "activation_sum"
        for neuron in ranking.neurons
        for patch in neuron.patch
    ]
    assert patches
    deleting, *markers = arrays[-1].markers
    assert deleting.action == deleting.DELETEALL
    assert all(m.header == message.header for m in arrays[-1].markers)
    assert outlines[-1].header == message.header
    corners = {(p.x, p.y) for p in outlines[-1].points}
    for layer, x, y, width, height in patches:
        assert {(x, y), (x + width, y), (x + width, y + height), (x, y + height)} <= corners
        (marker,) = [m for m in markers if (m.ns, m.id) == ("activation_sum", layer)]
        pixels = np.array([(300 * p.x / p.z + 160, 310 * p.y / p.z + 120) for p in marker.points])
        for corner in ((x, y), (x + width, y + height)):
            assert np.abs(pixels - corner).max(1).min() < 0.5
    shared_graph.set_parameters("/explain_node", overlay_metric=NodeParameters().overlay_metric)


def test_a_calibration_that_was_latched_before(shared_graph, raw_image, frame):
    """It is published once, when the node cannot know the publisher yet."""
    arrays = shared_graph.collect(MarkerArray, "/explain_node/markers")
    infos = shared_graph.collect(CameraInfo, "/explain_node/camera_info")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    calibration = CameraInfo(
        width=320, height=240, p=[300.0, 0.0, 160.0, 0.0, 0.0, 310.0, 120.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    )
    message = raw_image(frame, frame_id="latching camera")
    calibration.header.frame_id = message.header.frame_id
    shared_graph.node.create_publisher(CameraInfo, "/camera_info", latched).publish(calibration)

    def drawn() -> bool:
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=message))
        assert answer.success, answer.message
        return bool(arrays and infos)

    shared_graph.collect(Image, "/explain_node/overlay")
    shared_graph.wait_for(drawn, "markers and the calibration")
    assert infos[-1].p.tolist() == calibration.p.tolist()


def test_boxes_do_not_stay_on_later_frames(shared_graph, raw_image, frame):
    """An explanation is followed by one empty annotation, with the next decided frame."""
    outlines = shared_graph.collect(ImageMarker, "/explain_node/annotations")
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    publisher = shared_graph.publisher(Image, "/image")
    shared_graph.wait_for_subscribers("/explain_node/annotations")
    message = raw_image(frame, stamp=30)

    def drawn() -> bool:
        answer = shared_graph.call(Explain, "/explain_node/explain", Explain.Request(image=message))
        assert answer.success, answer.message
        return any(m.header == message.header for m in outlines)

    shared_graph.wait_for(drawn, "the annotations of the explanation")
    assert all(m.points for m in outlines if m.header == message.header)
    for stamp in (31, 32):
        publish_until(shared_graph, publisher, raw_image(frame, stamp), classifications, len(classifications) + 2)
        shared_graph.wait_for(lambda stamp=stamp: classifications[-1].header.stamp.sec == stamp, "a decision")
    shared_graph.wait_for(lambda: any(m.header.stamp.sec == 31 for m in outlines), "empty annotations")
    after = [m for m in outlines if m.header != message.header]
    assert [(m.header.stamp.sec, m.header.frame_id, len(m.points)) for m in after] == [(31, "camera", 0)]


def test_the_default_finds_the_people_of_the_sample(graph, raw_image, sample_frames):
    """Without parameters, the node searches the frame. The frame is a part of the sample with two persons."""
    image = cv2.imdecode(np.frombuffer(sample_frames[0], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    frame = np.ascontiguousarray(image[110:400, 440:700])
    decisions = graph.collect(Classification, "/explain_node/classification")
    graph.start("--ros-args", "-p", "confidence_threshold:=0.0")
    publisher = graph.publisher(Image, "/image")
    publish_until(graph, publisher, raw_image(frame), decisions)
    assert decisions[0].person
    expected = PersonClassifier.load(device="cpu").scan(frame)
    assert len(expected) == 2
    found = [(r.x, r.y, r.width, r.height) for r in decisions[0].regions]
    assert sorted(found) == sorted((r.x, r.y, r.width, r.height) for r in expected)


def test_latecomers_learn_which_network_decides(shared_graph):
    shared_graph.call(Explain, "/explain_node/explain", Explain.Request())
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    models = shared_graph.collect(ModelInfo, "/explain_node/model", kept)
    shared_graph.wait_for(lambda: models, "the model")
    expected = PersonClassifier.load(device="cpu")
    assert (models[0].model, models[0].architecture, models[0].device) == (expected.model_hash, "vgg16", "cpu")
    assert (models[0].input_width, models[0].input_height) == (64, 128)
    assert dict(zip(models[0].accuracy_names, models[0].accuracy_values, strict=True)) == expected.info.accuracy


def test_status_and_its_exit_code(shared_graph, raw_image, frame):
    """One screen: of a node that does not run, of one without images, and of one that works."""
    status = "explain_cnn_ros.ros.status"
    process = shared_graph.start("--once", "--node", "/nobody", module=status)
    shared_graph.wait_for(lambda: process.poll() is not None, "a screen")
    assert process.returncode == 1
    assert "does not report on /diagnostics" in shared_graph.log
    classifications = shared_graph.collect(Classification, "/explain_node/classification")
    publisher = shared_graph.publisher(Image, "/image")

    def shown(stamp: int) -> int:
        """Return the exit status of `status --once` while images with a stamp, or of now, are published."""
        process = shared_graph.start("--once", module=status)

        def ended() -> bool:
            message = raw_image(frame, stamp=stamp)
            if not stamp:
                message.header.stamp = shared_graph.node.get_clock().now().to_msg()
            publisher.publish(message)
            shared_graph.spin(0.1)
            return process.poll() is not None

        shared_graph.wait_for(ended, "another screen")
        return int(process.returncode)

    publish_until(shared_graph, publisher, raw_image(frame), classifications, 3)
    assert shared_graph.call(Explain, "/explain_node/explain", Explain.Request()).success
    # Stamps since boot. The line is longer than a terminal is wide, and its end is the remedy.
    assert shown(7) == 1
    assert "let the driver stamp images with the time of the system\n" in shared_graph.log

    def fresh() -> bool:
        return shown(0) == 0

    shared_graph.wait_for(fresh, "a screen without problems")
    # Probabilities have at most three digits, and are never rounded to 0 or 1.
    shown = re.findall(r"P\(person\) (\S+?),? ", shared_graph.log)
    assert len(shown) >= 2
    assert all(re.fullmatch(r">0\.999|<0\.001|0\.\d{2,3}", text) for text in shown), shown
    for text in ("frames/s", "decisions/s", "topic /image", "P(person)", "vgg16", "for it: these", "against it: "):
        assert text in shared_graph.log


def test_checks_of_message_fields_are_on():
    """Otherwise a numpy scalar in a message would arrive as garbage, and no test would notice."""
    assert os.environ.get("ROS_PYTHON_CHECK_FIELDS") == "1"


def test_live_explanations_of_decided_frames(graph, raw_image, frame):
    """Each has the stamp of a published frame, as its boxes have. Full explanations continue; switching off ends it."""
    graph.start_node(**QUICK, live="influence", live_smoothing=5.0)
    classifications = graph.collect(Classification, "/explain_node/classification")
    lives = graph.collect(Live, "/explain_node/live")
    overlays = graph.collect(Image, "/explain_node/overlay")
    annotations = graph.collect(ImageMarker, "/explain_node/annotations")
    explanations = graph.collect(Explanation, "/explain_node/explanation")
    window = np.ascontiguousarray(cv2.resize(frame, (64, 128)))
    publisher = graph.publisher(Image, "/image")
    graph.wait_for_subscribers("/explain_node/live", "/explain_node/overlay", "/explain_node/annotations")
    published = []

    def publish() -> None:
        published.append(100 + len(published))
        publisher.publish(raw_image(window, stamp=published[-1]))
        graph.spin(0.1)

    graph.wait_for(lambda: publish() or (len(lives) >= 4 and len(overlays) >= 3 and len(annotations) >= 3), "results")
    answer = graph.call(Explain, "/explain_node/explain", Explain.Request())
    assert answer.success, answer.message
    assert answer.explanation.settings.perturbations == QUICK_SETTINGS.perturbations
    reports = graph.collect(DiagnosticArray, "/diagnostics")

    def reported() -> bool:
        publish()
        return bool(reports) and "live/s" in statuses(reports)["explanations"][0].message

    graph.wait_for(reported, "the rate in the diagnostics")
    assert statuses(reports)["explanations"][1]["live, age at publication, median (ms)"] != "-"
    assert graph.set_parameters("/explain_node", live="none")[0].successful

    decided = len(classifications)
    graph.wait_for(lambda: publish() or len(classifications) >= decided + 5, "decisions while it is off")
    ended = len(lives)
    graph.wait_for(lambda: publish() or len(classifications) >= decided + 10, "more decisions")
    assert len(lives) == ended, "no live explanation after it was switched off"
    assert len(published) > 10

    stamps = [live.header.stamp.sec for live in lives]
    assert stamps == sorted(set(stamps)), "one of each frame at most, in their order"
    assert set(stamps) <= {c.header.stamp.sec for c in classifications} <= set(published)
    drawn = [a.header.stamp.sec for a in annotations if a.points]
    assert set(drawn) <= set(stamps)
    assert {overlay.header.stamp.sec for overlay in overlays} <= set(stamps), "no picture of the full explanation"
    assert [a.header.stamp.sec for a in annotations if not a.points][-1] > drawn[-1], "the last boxes are removed"
    assert [e.header for e in explanations] == [answer.explanation.header]
    for live in lives:
        assert (live.image_width, live.image_height, live.smoothing) == (64, 128, 5.0)
        assert (live.region.width, live.region.height) == (64, 128)
        assert len(live.supporting) > 0
        # The whole image is one person, unless frames are further apart than the average reaches.
        assert live.track >= 1 and live.frames >= 1
