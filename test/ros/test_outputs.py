"""The table of outputs: an entry of one's own, what is computed and when, and the end of publishing."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float32, Header, Int32
from visualization_msgs.msg import ImageMarker, MarkerArray

from explain_cnn_ros.draw.live import draw_live
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.live import LiveExplainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.msg import Classification, Explanation, Live
from explain_cnn_ros.ros import outputs as outputs_module
from explain_cnn_ros.ros.boxes import OPPOSING_BOXES, PERSON_BOXES, SUPPORTING_BOXES, WINDOW, WINDOW_BOX, outlines
from explain_cnn_ros.ros.outputs import (
    LIVE_AGE_MAX,
    OUTPUTS,
    Drawn,
    ExplainedFrame,
    LiveFrame,
    Output,
    Outputs,
    when_subscribed,
)
from explain_cnn_ros.ros.requests import ClassifiedFrame
from explain_cnn_ros.ros.summary import legend
from explain_cnn_ros.scan.decider import Decider, DecisionSettings

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]

ACTIVE = "active"

#: The type of each output by its topic.
TOPICS = {output.topic.replace("~", "/publisher"): output.type for output in OUTPUTS}

#: Namespaces of the boxes beside that of the explained window.
NAMES = (SUPPORTING_BOXES, OPPOSING_BOXES, PERSON_BOXES)

#: Seconds that anything may take on a busy machine.
PATIENCE = 100

CALIBRATION = CameraInfo(width=60, height=90, p=[float(v) for v in (50, 0, 30, 0, 0, 50, 45, 0, 0, 0, 1, 0)])


@pytest.fixture
def explained(thin_classifier: Any, picture: Callable[..., Any]) -> ExplainedFrame:
    """A frame and its explanation by the small network."""
    image, header = picture(60, 90), Header(frame_id="camera")
    header.stamp.sec = 7
    decision = Decider(thin_classifier, DecisionSettings(regions="whole")).decide(image)
    frame = ClassifiedFrame(header, image, decision, thin_classifier.model_hash, 0.01)
    explanation = Explainer(thin_classifier, ExplainSettings(perturbations=4, layers=(5, 8))).explain(image)
    return ExplainedFrame(frame, explanation, "service", "activation_sum", CALIBRATION)


@pytest.fixture
def live(explained: ExplainedFrame, thin_classifier: Any) -> LiveFrame:
    """The same frame and its live explanation."""
    frame = dataclasses.replace(explained.frame, live=True)
    explanation = LiveExplainer(thin_classifier).explain(frame.image, frame.decision.region, 7 * 10**9, 3)
    return LiveFrame(frame, explanation, CALIBRATION)


class Publisher:
    """A lifecycle node of this process with outputs."""

    def __init__(self, graph: Any, table: tuple[Output, ...] = OUTPUTS) -> None:
        self._graph = graph
        self.node = LifecycleNode("publisher", context=graph.context)
        self.failures: list[str] = []
        self.outputs = Outputs(self.node, self.is_active, self.failures.append, table)
        graph.add(self.node)
        assert self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS

    def is_active(self) -> bool:
        return bool(self.node._state_machine.current_state[1] == ACTIVE)

    def activate(self) -> None:
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def wait_for_subscriptions(self, *topics: str) -> None:
        for topic in topics:
            self._graph.wait_for(lambda topic=topic: self.outputs._publishers[topic].get_subscription_count(), topic)


@pytest.fixture
def publisher(graph: Any) -> Iterator[Callable[..., Publisher]]:
    made: list[Publisher] = []

    def make(*args: Any) -> Publisher:
        made.append(Publisher(graph, *args))
        return made[-1]

    yield make
    for each in made:
        each.node.destroy_node()


def test_an_entry_of_ones_own(graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame) -> None:
    """One entry more in the table is one topic more."""
    own = (
        Output("~/regions", Int32, 1, ClassifiedFrame, lambda frame: Int32(data=len(frame.decision.regions))),
        Output(
            "~/loudest",
            Float32,
            1,
            ExplainedFrame,
            lambda explained: Float32(data=explained.explanation.ranking("activation_sum", 5)[0].score),
            when_subscribed("~/loudest"),
        ),
    )
    counts, loudest = graph.collect(Int32, "/publisher/regions"), graph.collect(Float32, "/publisher/loudest")
    explanations = graph.collect(Explanation, "/publisher/explanation")
    it = publisher((*OUTPUTS, *own))
    it.activate()
    it.wait_for_subscriptions("~/regions", "~/loudest", "~/explanation")
    assert it.outputs.publish(explained.frame)
    assert it.outputs.publish(explained)
    graph.wait_for(lambda: counts and loudest and explanations, "the messages")
    assert [m.data for m in counts] == [len(explained.frame.decision.regions)]
    score = explained.explanation.ranking("activation_sum", 5)[0].score
    assert [m.data for m in loudest] == [pytest.approx(score)]
    assert [m.header for m in explanations] == [explained.frame.header]
    assert it.failures == []


def test_everything_that_somebody_subscribes_to(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame, live: LiveFrame
) -> None:
    arrived = {topic: graph.collect(kind, topic) for topic, kind in TOPICS.items()}
    it = publisher()
    it.activate()
    it.wait_for_subscriptions(*(output.topic for output in OUTPUTS))
    it.outputs.publish(explained.frame)
    it.outputs.publish(explained)
    it.outputs.publish(live)
    graph.wait_for(lambda: all(arrived.values()), "a message on each topic")
    kinds = {topic: type(messages[0]) for topic, messages in arrived.items()}
    assert kinds == {
        "/publisher/classification": Classification,
        "/publisher/explanation": Explanation,
        "/publisher/live": Live,
        "/publisher/camera_info": CameraInfo,
        "/publisher/overlay": Image,
        "/publisher/overlay/compressed": CompressedImage,
        "/publisher/markers": MarkerArray,
        "/publisher/annotations": ImageMarker,
    }
    headers = [messages[0].header for topic, messages in arrived.items() if not topic.endswith("markers")]
    assert all(header == explained.frame.header for header in headers)
    overlay = arrived["/publisher/overlay"][0]
    assert bytes(overlay.data) == explained.picture.tobytes()
    drawn = ("overlay", "overlay/compressed", "camera_info", "markers", "annotations")
    graph.wait_for(lambda: all(len(arrived[f"/publisher/{topic}"]) == 2 for topic in drawn), "the live explanation")
    overlay = arrived["/publisher/overlay"][1]
    assert bytes(overlay.data) == draw_live(live.frame.image, live.live, live.frame.decision.regions).tobytes()
    assert len(arrived["/publisher/explanation"]) == len(arrived["/publisher/live"]) == 1


def test_explanations_without_their_pictures(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    """While live explanations are drawn, the others are published as messages only."""
    arrived = {topic: graph.collect(kind, topic) for topic, kind in TOPICS.items()}
    it = publisher()
    it.activate()
    it.wait_for_subscriptions(*(output.topic for output in OUTPUTS))
    assert it.outputs.publish(explained, drawn=False)
    assert it.outputs.publish(later(explained, 1))
    assert it.outputs.publish(dataclasses.replace(explained, frame=later(explained, 2)))
    graph.wait_for(lambda: arrived["/publisher/annotations"], "annotations")
    graph.wait_for(lambda: len(arrived["/publisher/explanation"]) == 2, "explanations")
    stamps = {topic: [m.header.stamp.sec for m in arrived[topic]] for topic in TOPICS if "markers" not in topic}
    start = explained.frame.header.stamp.sec
    assert stamps["/publisher/explanation"] == [start, start + 2]
    assert stamps["/publisher/annotations"] == stamps["/publisher/overlay"] == [start + 2]


@pytest.mark.parametrize(
    ("topics", "drawn", "outlined"),
    [
        ((), 0, 0),
        (("~/explanation", "~/classification", "~/camera_info"), 0, 0),
        (("~/overlay",), 1, 0),
        (("~/overlay", "~/overlay/compressed"), 1, 0),
        (("~/markers", "~/annotations"), 0, 1),
        (tuple(output.topic for output in OUTPUTS), 1, 1),
    ],
)
def test_what_is_expensive_is_computed_once_or_not_at_all(
    graph: Any,
    publisher: Callable[..., Publisher],
    explained: ExplainedFrame,
    monkeypatch: pytest.MonkeyPatch,
    topics: tuple[str, ...],
    drawn: int,
    outlined: int,
) -> None:
    calls: list[str] = []

    def counting(name: str) -> None:
        real = getattr(outputs_module, name)
        monkeypatch.setattr(
            outputs_module, name, lambda *args, **kwargs: (calls.append(name), real(*args, **kwargs))[1]
        )

    counting("draw_overlay")
    counting("outlines")
    kinds = {output.topic: output.type for output in OUTPUTS}
    for topic in topics:
        graph.collect(kinds[topic], topic.replace("~", "/publisher"))
    it = publisher()
    it.activate()
    it.wait_for_subscriptions(*topics)
    assert it.outputs.publish(explained)
    assert (calls.count("draw_overlay"), calls.count("outlines")) == (drawn, outlined)


def test_a_camera_without_calibration_has_no_markers(explained: ExplainedFrame) -> None:
    markers = next(output for output in OUTPUTS if output.topic == "~/markers")
    info = next(output for output in OUTPUTS if output.topic == "~/camera_info")
    for camera_info in (None, CameraInfo(width=60, height=90)):
        other = ExplainedFrame(explained.frame, explained.explanation, "service", "activation_sum", camera_info)
        assert markers.convert(other) is None
    assert info.convert(ExplainedFrame(explained.frame, explained.explanation, "service", "activation_sum")) is None
    assert info.convert(explained).header == explained.frame.header


@pytest.mark.parametrize(
    ("metrics", "chosen", "drawn"),
    [
        (("influence", "counter_influence", "weight_sum"), "influence", ("influence", "counter_influence")),
        (("weight_sum", "counter_influence", "influence"), "influence", ("influence", "counter_influence")),
        (("influence", "counter_influence", "weight_sum"), "counter_influence", ("counter_influence",)),
        (("influence", "counter_influence", "weight_sum"), "weight_sum", ("weight_sum",)),
        (("influence", "weight_sum"), "influence", ("influence",)),
        (("weight_sum", "activation_sum"), "influence", ("weight_sum",)),
        (("counter_influence",), "influence", ("counter_influence",)),
        (("weight_sum", "influence"), "activation_sum", ("weight_sum",)),
        (("influence", "counter_influence"), "activation_sum", ("influence", "counter_influence")),
    ],
)
def test_the_metrics_that_are_drawn(
    explained: ExplainedFrame,
    thin_classifier: Any,
    metrics: tuple[str, ...],
    chosen: str,
    drawn: tuple[str, ...],
) -> None:
    """The first metric of an explanation stands in for one that it lacks; both sides of influence are drawn."""
    frame = explained.frame
    explanation = Explainer(thin_classifier, ExplainSettings(perturbations=0, layers=(5,), metrics=metrics)).explain(
        frame.image
    )
    it = ExplainedFrame(frame, explanation, "service", chosen, CALIBRATION)
    assert it.metrics == drawn
    expected = draw_overlay(
        frame.image, explanation, drawn, regions=frame.decision.regions, trigger="service", keep_size=True
    )
    assert np.array_equal(it.picture, expected)
    assert it.outlines == outlines(explanation, drawn)
    text = next(output for output in OUTPUTS if output.topic == "~/markers").convert(it).markers[-1].text
    assert text == "\n".join(legend(explanation, drawn))


def later(explained: ExplainedFrame, seconds: int) -> ClassifiedFrame:
    """The frame of the explanation, taken some seconds later."""
    header = copy.deepcopy(explained.frame.header)
    header.stamp.sec += seconds
    return dataclasses.replace(explained.frame, header=header)


def test_boxes_are_removed_from_the_next_frame(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    """Once, with the stamp of the first other frame that is decided after the explanation."""
    annotations = graph.collect(ImageMarker, "/publisher/annotations")
    it = publisher()
    it.activate()
    it.wait_for_subscriptions("~/annotations")
    results = (
        explained.frame,
        explained,
        explained.frame,  # the explained image itself, once more
        later(explained, 1),
        later(explained, 2),
        dataclasses.replace(explained, frame=later(explained, 3)),
        dataclasses.replace(explained, frame=later(explained, 4)),
        later(explained, 5),
        later(explained, 6),
    )
    for result in results:
        assert it.outputs.publish(result)
        graph.spin(0.1)
    assert it.outputs.publish(explained)
    graph.wait_for(lambda: len(annotations) >= 6, "all annotations")
    start = explained.frame.header.stamp.sec
    found = [(m.header.stamp.sec - start, len(m.points) > 0, m.header.frame_id) for m in annotations]
    drawn, removed = (True, "camera"), (False, "camera")
    assert found == [(0, *drawn), (1, *removed), (3, *drawn), (4, *drawn), (5, *removed), (0, *drawn)]
    assert it.failures == []


def test_live_boxes_stay_until_the_next_ones_or_until_they_are_old(
    graph: Any, publisher: Callable[..., Publisher], live: LiveFrame
) -> None:
    """A viewer shows the newest annotations: without boxes for each frame that is skipped, they would flicker."""

    def at(seconds: float, on: bool = True) -> ClassifiedFrame:
        header = copy.deepcopy(live.frame.header)
        header.stamp.sec, header.stamp.nanosec = 10 + int(seconds), round(seconds % 1 * 1e9)
        return dataclasses.replace(live.frame, header=header, live=on)

    annotations = graph.collect(ImageMarker, "/publisher/annotations")
    it = publisher()
    it.activate()
    it.wait_for_subscriptions("~/annotations")
    results = [
        at(0.0),
        dataclasses.replace(live, frame=at(0.0)),
        at(0.5),  # skipped
        at(LIVE_AGE_MAX),
        dataclasses.replace(live, frame=at(0.5)),  # late
        at(0.5 + LIVE_AGE_MAX),
        at(0.75 + LIVE_AGE_MAX),  # the boxes are too old
        at(1.0 + LIVE_AGE_MAX),
        dataclasses.replace(live, frame=at(3.0)),
        at(3.25, on=False),  # live explanations have been switched off
        at(3.5, on=False),
        dataclasses.replace(live, frame=at(5.0)),
        at(2.0),  # the recording begins again
        dataclasses.replace(live, frame=at(6.0)),
    ]
    for result in results:
        assert it.outputs.publish(result)
        graph.spin(0.1)
    graph.wait_for(lambda: len(annotations) >= 8, "all annotations")
    found = [(m.header.stamp.sec - 10 + m.header.stamp.nanosec / 1e9, len(m.points) > 0) for m in annotations]
    drawn = [
        (0.0, True),
        (0.5, True),
        (1.75, False),
        (3.0, True),
        (3.25, False),
        (5.0, True),
        (2.0, False),
        (6.0, True),
    ]
    assert found == drawn
    assert it.failures == []


def test_live_boxes_are_those_of_the_live_overlay(live: LiveFrame) -> None:
    other = Region(5, 10, 20, 40, 0.9)
    decision = dataclasses.replace(live.frame.decision, regions=(*live.frame.decision.regions, other))
    it = dataclasses.replace(live, frame=dataclasses.replace(live.frame, decision=decision))
    window, *boxes = it.outlines
    assert (window.namespace, window.x, window.y, window.width, window.height) == (WINDOW_BOX, 0, 0, 60, 90)
    found = {name: {(b.layer, b.x, b.y, b.width, b.height) for b in boxes if b.namespace == name} for name in NAMES}
    for name, metric in zip(NAMES[:2], ("influence", "counter_influence"), strict=True):
        shown = [n for n in live.live.strongest(metric) if live.live.shows(metric, n)]
        assert found[name] == {(n.layer, n.patch.x, n.patch.y, n.patch.width, n.patch.height) for n in shown}
        assert all(b.corners == (name == OPPOSING_BOXES) for b in boxes if b.namespace == name)
    assert found[PERSON_BOXES] == {(WINDOW, *other.person_box)}
    markers = next(output for output in OUTPUTS if output.topic == "~/markers").convert(it).markers
    assert {marker.ns for marker in markers} == {"", WINDOW_BOX, *NAMES, "text"}
    assert markers[-1].text.splitlines()[-1] == "influence, smoothed over 1 s"


def test_boxes_that_nobody_saw_are_not_removed(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    it = publisher()
    it.activate()
    assert it.outputs.publish(explained)
    annotations = graph.collect(ImageMarker, "/publisher/annotations")
    it.wait_for_subscriptions("~/annotations")
    assert it.outputs.publish(later(explained, 1))
    assert it.outputs.publish(dataclasses.replace(explained, frame=later(explained, 2)))
    graph.wait_for(lambda: annotations, "the annotations of the second explanation")
    assert [m.header.stamp.sec - explained.frame.header.stamp.sec for m in annotations] == [2]


def test_an_output_that_fails_and_the_others(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    def fail(_: ExplainedFrame) -> Int32:
        raise ZeroDivisionError("nothing to divide by")

    arrived = graph.collect(Explanation, "/publisher/explanation")
    it = publisher((Output("~/broken", Int32, 1, ExplainedFrame, fail), *OUTPUTS))
    it.activate()
    it.wait_for_subscriptions("~/explanation")
    assert it.outputs.publish(explained)
    graph.wait_for(lambda: arrived, "the explanation")
    assert it.failures == ["no message for ~/broken: ZeroDivisionError: nothing to divide by"]


def test_nothing_is_published_unless_the_node_is_active(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    decisions, explanations = (
        graph.collect(Classification, "/publisher/classification"),
        graph.collect(Explanation, "/publisher/explanation"),
    )
    it = publisher()
    it.wait_for_subscriptions("~/classification", "~/explanation")
    assert not it.outputs.publish(explained.frame)
    it.activate()
    assert it.outputs.publish(explained.frame)
    assert it.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert not it.outputs.publish(explained.frame)
    assert not it.outputs.publish(explained)
    it.activate()
    assert it.outputs.publish(explained)
    graph.wait_for(lambda: explanations, "the explanation")
    graph.wait_for(lambda: decisions, "the decision")
    assert (len(decisions), len(explanations)) == (1, 1)


def test_deactivated_while_a_message_is_being_made(
    graph: Any, publisher: Callable[..., Publisher], explained: ExplainedFrame
) -> None:
    """The node is deactivated while another thread draws: what is drawn is not published any more."""
    drawing, go_on = threading.Event(), threading.Event()

    def draw(_: ClassifiedFrame) -> Int32:
        drawing.set()
        assert go_on.wait(PATIENCE)
        return Int32(data=1)

    arrived = graph.collect(Int32, "/publisher/slow")
    it = publisher((Output("~/slow", Int32, 1, ClassifiedFrame, draw),))
    it.activate()
    it.wait_for_subscriptions("~/slow")
    published: list[bool] = []
    thread = threading.Thread(target=lambda: published.append(it.outputs.publish(explained.frame)), daemon=True)
    thread.start()
    assert drawing.wait(PATIENCE)
    assert it.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    go_on.set()
    thread.join(PATIENCE)
    assert published == [False]
    it.activate()
    assert it.outputs.publish(explained.frame)
    graph.wait_for(lambda: arrived, "the message after activation")
    assert len(arrived) == 1


def test_the_documentation_lists_the_outputs() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/node.md").read_text(encoding="utf-8").splitlines()]
    documented = {cells[1].strip(" `"): cells for cells in rows if len(cells) == 7}
    for output in OUTPUTS:
        cells = documented[output.topic]
        package, name = output.type.__module__.partition(".")[0], output.type.__name__
        assert cells[2].strip() == (name if package == "explain_cnn_ros" else f"{package}/{name}")
        assert int(cells[5]) == output.depth


def test_without_stamps_each_image_removes_the_boxes() -> None:
    """Images without a stamp cannot be told apart: the boxes would stay on all of them."""
    output = SimpleNamespace(topic="~/annotations", clear=object())
    header = Header()
    for seconds, removed in ((0, True), (5, False)):
        header.stamp.sec = seconds
        drawn, frame = Drawn(), SimpleNamespace(header=header, live=True)
        drawn.shows(output, SimpleNamespace(frame=frame))
        assert drawn.removed_by(output, frame) is removed
        assert not removed or not drawn.removed_by(output, frame), "once"
