"""The messages that the node publishes about frames.

`OUTPUTS` is the one list of them: another output is one more entry.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, ManagedEntity, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import ImageMarker, MarkerArray

from explain_cnn_ros import msg
from explain_cnn_ros.draw.boxes import shown_metrics
from explain_cnn_ros.draw.live import draw_live, smoothing_text
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.strips import draw_headline
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.ros.boxes import Outline, annotations, fits, is_calibrated, live_outlines, markers, outlines
from explain_cnn_ros.ros.images import to_compressed, to_message
from explain_cnn_ros.ros.messages import classification_message, explanation_message, live_message
from explain_cnn_ros.ros.requests import ClassifiedFrame
from explain_cnn_ros.ros.source import nanoseconds
from explain_cnn_ros.ros.summary import legend

#: Maximum age of a live explanation's drawing on later frames, in seconds of their stamps.
LIVE_AGE_MAX = 1.0


class DrawnFrame(ABC):
    """A frame and what viewers draw on it. Whatever several outputs share is computed once, when one of them needs it.

    Attributes:
        frame: The frame.
        camera_info: Calibration of the camera; None if it is not known.
    """

    frame: ClassifiedFrame
    camera_info: CameraInfo | None

    @property
    @abstractmethod
    def picture(self) -> NDArray[np.uint8]:
        """The frame with the explanation drawn on it, uint8 [H, W, 3] RGB.

        It has the frame's size, because RViz's Camera display lays it over the camera's view.
        """

    @property
    @abstractmethod
    def outlines(self) -> list[Outline]:
        """The boxes that are drawn."""

    @property
    @abstractmethod
    def legend(self) -> list[str]:
        """Short lines that say what the boxes mean."""


@dataclass(frozen=True)
class ExplainedFrame(DrawnFrame):
    """A frame and its explanation.

    Attributes:
        frame: The frame.
        explanation: The explanation of its decision.
        trigger: Cause of the explanation.
        drawn_metric: Metric whose patches are drawn; with influence, those of opposing neurons as well. The first
            metric of the explanation stands in for one that it lacks.
        camera_info: Calibration of the camera; None if it is not known.
    """

    frame: ClassifiedFrame
    explanation: Explanation
    trigger: str
    drawn_metric: str
    camera_info: CameraInfo | None = None

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics whose patches are drawn."""
        available = self.explanation.settings.metrics
        return shown_metrics(self.explanation, self.drawn_metric if self.drawn_metric in available else available[0])

    @cached_property
    def message(self) -> msg.Explanation:
        """The explanation as a message."""
        return explanation_message(self.frame.header, self.explanation, self.trigger)

    @cached_property
    def outlines(self) -> list[Outline]:
        """The explained window and the patches of the selected neurons."""
        return outlines(self.explanation, self.metrics)

    @cached_property
    def legend(self) -> list[str]:
        """Short lines that say what the boxes mean."""
        return legend(self.explanation, self.metrics)

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The frame with the explanation drawn on it, uint8 [H, W, 3] RGB."""
        return draw_overlay(
            self.frame.image,
            self.explanation,
            self.metrics,
            regions=self.frame.decision.regions,
            trigger=self.trigger,
            keep_size=True,
        )


@dataclass(frozen=True)
class LiveFrame(DrawnFrame):
    """A frame and its live explanation.

    Attributes:
        frame: The frame.
        live: The live explanation of its decision.
        camera_info: Calibration of the camera; None if it is not known.
    """

    frame: ClassifiedFrame
    live: LiveExplanation
    camera_info: CameraInfo | None = None

    @cached_property
    def outlines(self) -> list[Outline]:
        """All persons, the explained window and the patches that are shown."""
        return live_outlines(self.live, self.frame.decision.regions)

    @cached_property
    def legend(self) -> list[str]:
        """Short lines that say what the boxes mean."""
        return [*legend(self.live.explanation, (SUPPORTING, OPPOSING)), f"influence, {smoothing_text(self.live)}"]

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The frame with the live explanation drawn on it, uint8 [H, W, 3] RGB."""
        return draw_live(self.frame.image, self.live, self.frame.decision.regions)


#: Versions of the headline of a frame without a person, the longest first.
NOBODY = (
    "No person: the detector has found nobody   live",
    "No person: the detector has found nobody",
    "No person",
    "",
)


@dataclass(frozen=True)
class EmptyFrame(DrawnFrame):
    """A frame in which a detector found nobody, as a picture of the video of live explanations.

    Attributes:
        frame: The frame.
        camera_info: Calibration of the camera; None if it is not known.
    """

    frame: ClassifiedFrame
    camera_info: CameraInfo | None = None

    @cached_property
    def outlines(self) -> list[Outline]:
        """No boxes."""
        return []

    @cached_property
    def legend(self) -> list[str]:
        """No lines, since there is no box that they could stand above."""
        return []

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The frame with a headline, uint8 [H, W, 3] RGB."""
        canvas = self.frame.image.copy()
        draw_headline(canvas, NOBODY, False)
        return canvas


#: Returns whether a topic has subscribers.
Subscribed = Callable[[str], bool]


def always(subscribed: Subscribed) -> bool:
    """Want an output whether it has subscribers or not."""
    return True


def when_subscribed(*topics: str) -> Callable[[Subscribed], bool]:
    """Want an output while at least one of some topics has subscribers."""
    return lambda subscribed: any(subscribed(topic) for topic in topics)


@dataclass(frozen=True)
class Output:
    """One kind of message that the node publishes.

    Attributes:
        topic: Name of the topic, for instance "~/overlay".
        type: Class of the message.
        depth: Number of messages that the publisher stores for slow subscribers. All outputs are reliable.
        of: Class of the results that are published: ClassifiedFrame, ExplainedFrame or LiveFrame; or DrawnFrame, for
            both of the latter and for EmptyFrame.
        convert: Makes the message of a result; None if there is nothing to publish.
        wanted: Returns whether the message is worth its computation.
        clear: Makes the message that removes the drawing of an explanation from a viewer. It is published once, with
            the next decided frame. None if viewers keep the drawing beside its own picture.
    """

    topic: str
    type: type
    depth: int
    of: type
    convert: Callable[[Any], Any]
    wanted: Callable[[Subscribed], bool] = always
    clear: Callable[[ClassifiedFrame], Any] | None = None


class Drawn:
    """Knows which drawings of explanations viewers show, and when they have to be removed.

    A viewer that draws on the camera's images shows the newest drawing on all later images. The first frame that is
    decided after an explanation therefore removes it, unless it is the explained image itself; images without a stamp
    cannot be told apart, so that each of them removes it. The drawing of a live
    explanation stays until the next one replaces it, so that it does not flicker if frames are skipped. It is removed
    if it is older than LIVE_AGE_MAX, and if live explanations are off.
    """

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[Header, bool]] = {}

    def shows(self, output: Output, result: DrawnFrame) -> None:
        """Note that an explanation has been published on an output."""
        if output.clear is not None:
            self._drawn[output.topic] = result.frame.header, not isinstance(result, ExplainedFrame)

    def removed_by(self, output: Output, frame: ClassifiedFrame) -> bool:
        """Return whether a decided frame has to remove the last drawing. The drawing then counts as removed."""
        if output.topic not in self._drawn:
            return False
        header, live = self._drawn[output.topic]
        age = (nanoseconds(frame.header) - nanoseconds(header)) / 1e9
        if nanoseconds(header) and (age == 0 or (live and frame.live and abs(age) <= LIVE_AGE_MAX)):
            return False
        del self._drawn[output.topic]
        return True


def _classification(frame: ClassifiedFrame) -> msg.Classification:
    return classification_message(
        frame.header, frame.decision, (frame.image.shape[1], frame.image.shape[0]), frame.seconds, frame.model
    )


def _live(result: LiveFrame) -> msg.Live:
    return live_message(result.frame.header, result.frame.decision, result.live)


def _camera_info(drawn: DrawnFrame) -> CameraInfo | None:
    if drawn.camera_info is None:
        return None
    message = copy.copy(drawn.camera_info)
    message.header = drawn.frame.header
    return message


def _markers(drawn: DrawnFrame) -> MarkerArray | None:
    info, image = drawn.camera_info, drawn.frame.image
    size = (image.shape[1], image.shape[0])
    if info is None or not is_calibrated(info) or not fits(info, size):
        return None
    return markers(drawn.frame.header, drawn.outlines, info, size, "\n".join(drawn.legend))


def _overlay(drawn: DrawnFrame) -> Image:
    return to_message(drawn.picture, drawn.frame.header)


def _overlay_compressed(drawn: DrawnFrame) -> CompressedImage:
    return to_compressed(drawn.picture, drawn.frame.header)


def _annotations(drawn: DrawnFrame) -> ImageMarker:
    return annotations(drawn.frame.header, drawn.outlines)


def _no_annotations(frame: ClassifiedFrame) -> ImageMarker:
    return annotations(frame.header, [])


_OVERLAY, _COMPRESSED = "~/overlay", "~/overlay/compressed"

OUTPUTS = (
    Output("~/classification", msg.Classification, 10, ClassifiedFrame, _classification),
    Output("~/explanation", msg.Explanation, 10, ExplainedFrame, lambda explained: explained.message),
    Output("~/live", msg.Live, 10, LiveFrame, _live),
    # RViz's Camera display needs the calibration beside the picture.
    Output("~/camera_info", CameraInfo, 2, DrawnFrame, _camera_info, when_subscribed(_OVERLAY, _COMPRESSED)),
    Output(_OVERLAY, Image, 2, DrawnFrame, _overlay, when_subscribed(_OVERLAY)),
    Output(_COMPRESSED, CompressedImage, 2, DrawnFrame, _overlay_compressed, when_subscribed(_COMPRESSED)),
    Output("~/markers", MarkerArray, 2, DrawnFrame, _markers, when_subscribed("~/markers")),
    Output(
        "~/annotations", ImageMarker, 2, DrawnFrame, _annotations, when_subscribed("~/annotations"), _no_annotations
    ),
)


class Outputs(ManagedEntity):
    """Publishes results while the node is active.

    Unlike a lifecycle publisher of rclpy, it waits in a transition for a publication that is under way in another
    thread. Nothing is published once the transition has ended.

    Args:
        node: The node that publishes.
        active: Returns whether the node is active.
        failed: Called with the description of each message that could not be computed. The others are published.
        table: The outputs.
    """

    def __init__(
        self,
        node: LifecycleNode,
        active: Callable[[], bool],
        failed: Callable[[str], None],
        table: Sequence[Output] = OUTPUTS,
    ) -> None:
        self._active, self._failed, self._table = active, failed, tuple(table)
        self._publishers = {
            output.topic: node.create_publisher(output.type, output.topic, output.depth) for output in table
        }
        self._drawn = Drawn()
        self._publishing = threading.Lock()
        node.add_managed_entity(self)

    def publish(self, result: ClassifiedFrame | DrawnFrame, drawn: bool = True) -> bool:
        """Publish the outputs of a result, from any thread; return False if the node is not active.

        Args:
            result: The result.
            drawn: Whether outputs of DrawnFrame are published as well.
        """
        # Outside of the lock, because drawing takes time.
        messages = [
            (output, self._convert(output.topic, output.convert, result))
            for output in self._table
            if self._wants(output, result) and (drawn or output.of is not DrawnFrame)
        ]
        with self._publishing:
            if not self._active():
                return False
            for output, message in messages:
                if message is not None:
                    self._publishers[output.topic].publish(message)
                    if isinstance(result, DrawnFrame):
                        self._drawn.shows(output, result)
            if isinstance(result, ClassifiedFrame):
                self._clear(result)
            return True

    def _clear(self, frame: ClassifiedFrame) -> None:
        """Publish the messages that remove the last drawings."""
        for output in self._table:
            if output.clear is not None and self._drawn.removed_by(output, frame):
                message = self._convert(output.topic, output.clear, frame)
                if message is not None:
                    self._publishers[output.topic].publish(message)

    def _wants(self, output: Output, result: object) -> bool:
        return isinstance(result, output.of) and output.wanted(self.subscribed)

    def subscribed(self, topic: str) -> bool:
        """Return whether a topic, for instance "~/markers", has subscribers."""
        return self._publishers[topic].get_subscription_count() > 0

    def _convert(self, topic: str, convert: Callable[[Any], Any], result: object) -> Any:
        try:
            return convert(result)
        except Exception as error:
            self._failed(f"no message for {topic}: {type(error).__name__}: {error}")
            return None

    # The state has changed already when these are called.

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Wait for a publication that is under way."""
        with self._publishing:
            return TransitionCallbackReturn.SUCCESS

    on_shutdown = on_error = on_deactivate
