"""The node: its life cycle, its services, and the flow of results. The network works in `worker`."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from explain_cnn_ros import msg, srv
from explain_cnn_ros.bags.image_messages import ImageError
from explain_cnn_ros.draw.captions import threshold_text
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.ros.cooldown import Cooldown
from explain_cnn_ros.ros.detection_problems import refused
from explain_cnn_ros.ros.detections import DetectionSource
from explain_cnn_ros.ros.diagnostics import REJECTED, report
from explain_cnn_ros.ros.enduring import guard_services
from explain_cnn_ros.ros.matching import DetectedImage
from explain_cnn_ros.ros.messages import model_message, region_from
from explain_cnn_ros.ros.outputs import EmptyFrame, ExplainedFrame, LiveFrame, Outputs
from explain_cnn_ros.ros.parameters import ParameterServer, unchecked
from explain_cnn_ros.ros.problems import Announcer, Problem, clock, namesakes
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest, RequestQueue
from explain_cnn_ros.ros.source import ImageSource, nanoseconds
from explain_cnn_ros.ros.spinning import run_node
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.summary import summary
from explain_cnn_ros.ros.worker import Worker, WorkerCallbacks, WorkerThreads
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.detections import DetectedBox

#: Period in which the image topic is watched until it is subscribed, and period of the reports on /diagnostics, in
#: seconds. Each report watches the topic as well.
WATCH_PERIOD, REPORT_PERIOD = 0.2, 1.0

#: Minimum time between two log messages of the same kind, in seconds.
LOG_PERIOD = 5.0

#: Reason that callers get when the node is deactivated before their explanation is ready.
DEACTIVATED = "the node was deactivated: the explanation was cancelled; activate the node and call again"

#: Remedies for requests in the primary states other than active, in the terms of `ros2 lifecycle set`.
REMEDIES = {
    State.PRIMARY_STATE_UNCONFIGURED: "configure and activate it",
    State.PRIMARY_STATE_INACTIVE: "activate it",
    State.PRIMARY_STATE_FINALIZED: "start the node again",
}

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def guarded(name: str, on_exception: TransitionCallbackReturn) -> Callable[[Transition], Transition]:
    """Log and report exceptions of a transition's callback, which rclpy would ignore silently.

    Args:
        name: Name of the transition in the log.
        on_exception: Result of the callback after an exception.
    """

    def decorate(callback: Transition) -> Transition:
        @functools.wraps(callback)
        def run(self: ExplainNode, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return callback(self, state)
            except Exception as error:
                self._failure = f"{name} failed: {error}"
                self.get_logger().error(self._failure)
                return on_exception

        return run

    return decorate


class ExplainNode(LifecycleNode):
    """Classifies each newest frame, and explains decisions live, on request, and when their confidence is low."""

    # rclpy also destroys a node whose parameters were refused.
    _threads: WorkerThreads | None = None

    def __init__(self) -> None:
        super().__init__("explain_node")
        self.parameters = ParameterServer(self)
        self.statistics = Statistics()
        self._worker: Worker | None = None
        self._threads = WorkerThreads()
        self._enabled = True
        self._newest: ClassifiedFrame | None = None
        self._cooldown = Cooldown(lambda: self.get_clock().now().nanoseconds)
        self._summary = ""  # of the last explanation
        self._refusal = ""  # of the last refused box
        self._failure = ""  # of a transition, until the node is configured or activated again
        self._rejection_logged, self._failure_logged = Cooldown(), Cooldown()
        self._stand_ins: set[tuple[str, str]] = set()
        self._outputs = Outputs(self, lambda: self.active, self._on_failed)
        self._source = ImageSource(
            self, lambda: self.active, lambda: self.parameters.current, self.statistics, self._on_image
        )
        self._detections = DetectionSource(self, self._source, lambda: self.parameters.current, self._on_detected_image)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._model = self.create_publisher(msg.ModelInfo, "~/model", latched)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Reentrant, so that several callers can wait for their explanations at the same time.
        self.create_service(srv.Explain, "~/explain", self._on_explain, callback_group=ReentrantCallbackGroup())
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # With simulated time, the clock jumps back when a recording starts again.
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._on_jump = self.get_clock().create_jump_callback(back, post_callback=self._on_clock_jump)
        # With simulated time, timers of the node's clock would not fire before /clock is published.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._announcer = Announcer(self.get_logger().warning, self.get_logger().info)
        self._watching = self.create_timer(WATCH_PERIOD, self._watch, clock=steady)
        self._watching.cancel()
        self.create_timer(REPORT_PERIOD, self._report, clock=steady)
        guard_services(self)

    # Life cycle. The state is that of rclpy's state machine.

    @property
    def state_id(self) -> int:
        """The state, or the transition under way: a constant of lifecycle_msgs/State."""
        return int(self._state_machine.current_state[0])

    @property
    def state_label(self) -> str:
        """Name of the state, or of the transition under way, for instance "active" or "configuring"."""
        return str(self._state_machine.current_state[1])

    @property
    def active(self) -> bool:
        """Whether the node is active. It is not during transitions."""
        return self.state_id == State.PRIMARY_STATE_ACTIVE

    @guarded("configuring", TransitionCallbackReturn.FAILURE)
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and warm it up. The node is inactive afterwards, or unconfigured if this fails."""
        callbacks = WorkerCallbacks(
            self._on_classified,
            self._on_explained,
            self._on_live,
            self._on_rejected,
            self._on_refused,
            self._on_failed,
        )
        self._worker = Worker(lambda: self.parameters.current, callbacks, self._threads)
        try:
            self._announce(self._worker.classifier)
            self.parameters.check = self._worker.check
            result = super().on_configure(state)
        except Exception:
            self.close()
            raise
        self._failure = ""
        return result

    def _announce(self, classifier: PersonClassifier) -> None:
        message = model_message(classifier)
        message.header.stamp = self.get_clock().now().to_msg()
        self._model.publish(message)
        self.get_logger().info(
            f"{classifier.info.architecture} {classifier.model_hash} on {classifier.device}, "
            f"threshold {threshold_text(self.parameters.current.threshold or classifier.threshold)}"
        )

    @guarded("activating", TransitionCallbackReturn.FAILURE)
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to take frames and requests."""
        self._source.reset()
        self._detections.reset()
        if self._worker is not None:
            self._worker.resume()
        self._watching.reset()
        result = super().on_activate(state)
        self._failure = ""
        return result

    @guarded("deactivating", TransitionCallbackReturn.ERROR)
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more frames and requests, cancel all explanations, and publish no more results."""
        if self._worker is not None:
            self._worker.pause(DEACTIVATED)
        self._detections.reset()
        return super().on_deactivate(state)

    @guarded("cleaning up", TransitionCallbackReturn.ERROR)
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the threads and free the device. The node is unconfigured afterwards."""
        self.close()
        return super().on_cleanup(state)

    @guarded("shutting down", TransitionCallbackReturn.ERROR)
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the threads and free the device, from any primary state. The node is finalized afterwards."""
        self.close()
        return super().on_shutdown(state)

    @guarded("error processing", TransitionCallbackReturn.FAILURE)
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up after a failed transition. The node is unconfigured afterwards, and can be configured again."""
        self.close()
        return super().on_error(state)

    def autostart(self) -> None:
        """Configure and activate the node."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def destroy_node(self) -> None:
        """Stop the threads and destroy the node."""
        if self._threads is not None:
            self.close()
            self._threads.close()
        super().destroy_node()

    def close(self) -> None:
        """Close the worker if there is one, and receive no more images."""
        worker, self._worker = self._worker, None
        self._source.unsubscribe()
        self._newest = None
        self.parameters.check = unchecked
        if worker is not None:
            worker.close()

    @property
    def _working(self) -> Worker | None:
        """The worker while the node is active; None otherwise."""
        return self._worker if self.active else None

    # Frames. Except for `_on_image` and `_on_detected_image`, these are called in the worker's threads.

    def _on_image(self, message: Image | CompressedImage) -> None:
        if not self._enabled:
            return
        if self._detections.wanted:
            self._detections.add_image(message)
        else:
            self._submit(message)

    def _on_detected_image(self, image: DetectedImage) -> None:
        if self._enabled:
            self._submit(image.message, image.boxes, image.arrived)

    def _submit(
        self,
        message: Image | CompressedImage,
        boxes: tuple[DetectedBox, ...] | None = None,
        arrived: float | None = None,
    ) -> None:
        worker = self._working
        if worker is not None and worker.submit(message, boxes, arrived):
            self.statistics.count("dropped")

    def _on_classified(self, frame: ClassifiedFrame, waited: float) -> None:
        worker = self._working
        if worker is None or not self._outputs.publish(frame):
            return
        self._newest = frame
        self.statistics.add("classified", frame.seconds)
        self.statistics.add("latency", waited + frame.seconds)
        self.statistics.add("probability", frame.decision.probability)
        parameters = self.parameters.current
        if frame.live and not frame.decision.regions:
            self._outputs.publish(EmptyFrame(frame, self._source.camera_info(frame.header)))
        if frame.decision.low_confidence and self._cooldown.over(parameters.explain_cooldown):

            def done(explanation: msg.Explanation | None, reason: str) -> None:
                if explanation is None and self.active:
                    self._on_failed(f"explanation failed: {reason}")

            trigger = msg.Explanation.TRIGGER_LOW_CONFIDENCE
            request = ExplainRequest(frame, parameters.explain, None, trigger, [done])
            if self._request(worker, request) != RequestQueue.REFUSED:
                self._cooldown.begin()

    def _request(self, worker: Worker, request: ExplainRequest) -> str:
        answer = worker.explain(request)
        if answer != RequestQueue.QUEUED:
            self.statistics.count(f"explanations {answer}")
        return answer

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._cooldown.reset()
        self._detections.reset()  # the same stamps come again

    def _on_rejected(self, error: ImageError) -> None:
        self.statistics.add("rejected")
        self.statistics.count(REJECTED + error.reason)
        counts = self.statistics.counts
        summary = ", ".join(f"{k.removeprefix(REJECTED)} {n}" for k, n in sorted(counts.items()) if REJECTED in k)
        if self._rejection_logged.begin_if_over(LOG_PERIOD):
            total = f"{counts['rejected']} rejected in total: {summary}"
            self.get_logger().warning(f"frame rejected: {error} ({total})")

    def _on_refused(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            self.statistics.add("boxes refused")
            self._refusal = reason

    def _on_failed(self, reason: str) -> None:
        self.statistics.add("failed")
        failures = self.statistics.counts["failed"]
        if self._failure_logged.begin_if_over(LOG_PERIOD):
            self.get_logger().error(f"{reason} ({failures} failures in total)")

    def _on_explained(self, explanation: Explanation, frame: ClassifiedFrame, trigger: str) -> msg.Explanation | None:
        metric, info = self.parameters.current.overlay_metric, self._source.camera_info(frame.header)
        explained = ExplainedFrame(frame, explanation, trigger, metric, info)
        # With live explanations, the overlay is their video: another picture would flash up for one frame.
        live = self.parameters.current.live != "none"
        if not self._outputs.publish(explained, drawn=not live):
            return None
        self.statistics.add("explained", explanation.seconds)
        self._summary = summary(explanation)
        stamp = frame.header.stamp
        self.get_logger().info(f"explained {stamp.sec}.{stamp.nanosec:09d} ({trigger}): {self._summary}")
        if not live:
            self._report_stand_in(metric, explained.metrics[0])
        return explained.message

    def _on_live(self, live: LiveExplanation, frame: ClassifiedFrame) -> None:
        if self.parameters.current.live == "none":  # since the frame was decided
            return
        if self._outputs.publish(LiveFrame(frame, live, self._source.camera_info(frame.header))):
            self.statistics.add("live", live.explanation.seconds)
            now = self.get_clock().now().nanoseconds
            self.statistics.add("live age", (now - nanoseconds(frame.header)) / 1e9)

    def _report_stand_in(self, metric: str, drawn: str) -> None:
        """Log once for each pair of metrics that one is drawn instead of the other, which explanations lack."""
        if metric != drawn and (metric, drawn) not in self._stand_ins:
            self._stand_ins.add((metric, drawn))
            self.get_logger().info(
                f"overlay_metric is {metric}, but the explanation has no ranking by it: {drawn} is drawn instead"
            )

    # Services.

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Enable or disable classification without a change of the state."""
        if request.data != self._enabled:
            self._detections.reset()  # while it is disabled, nothing is matched
        if request.data and not self._enabled:
            self._source.receive_again()
        self._enabled = request.data
        response.success = True
        response.message = (
            f"classification is {'enabled' if self._enabled else 'disabled'}; the node is {self.state_label}"
        )
        return response

    async def _on_explain(self, request: srv.Explain.Request, response: srv.Explain.Response) -> srv.Explain.Response:
        answer: Future = Future(executor=self.executor)
        refusal = self._request_explanation(request, answer)
        if refusal:
            response.message = refusal
            return response
        result = await answer
        if isinstance(result, str):
            response.message = result
        else:
            response.success, response.explanation = True, result
        return response

    def _request_explanation(self, request: srv.Explain.Request, answer: Future) -> str:
        """Queue a request of the service; return "" or the reason why it is refused."""
        worker = self._working
        if worker is None:
            remedy = REMEDIES.get(self.state_id, "wait for the end of the transition")
            return f"the node is {self.state_label}, not active: {remedy}"
        image = request.image
        newest = not (image.width or image.height or image.encoding or len(image.data))
        source: Image | ClassifiedFrame | None = self._newest if newest else image
        if source is None:
            return (
                f"no frame has been classified yet: the node listens to {self._source.topic}; publish there, or send "
                "an image in the request"
            )
        try:
            changes: dict[str, object] = {}
            if request.metrics:
                changes["metrics"] = tuple(request.metrics)
            if request.top_n:
                changes["top_n"] = int(request.top_n)
            if request.target:
                changes["target"] = request.target
            settings = dataclasses.replace(self.parameters.current.explain, **changes)
        except ValueError as error:
            return str(error)
        region = region_from(request.region[0]) if request.region else None
        executor = self.executor

        def done(explanation: msg.Explanation | None, reason: str) -> None:
            if explanation is None and self.active:
                self.get_logger().warning(f"no explanation for a request of ~/explain: {reason}")
            answer.set_result(reason if explanation is None else explanation)
            # The waiting callback continues when the executor wakes up.
            if executor is not None:
                executor.wake()

        queued = ExplainRequest(source, settings, region, msg.Explanation.TRIGGER_SERVICE, [done])
        if self._request(worker, queued) == RequestQueue.REFUSED:
            return "too many explanations or callers are waiting: try again later, or raise the parameter explain_queue"
        return ""

    # Diagnostics.

    def _watch(self) -> None:
        """Subscribe as soon as the topics have publishers. Once there are subscriptions, reports watch them."""
        self._source.watch()
        self._detections.watch()
        if (self._source.subscribed and self._detections.subscribed) or not self.active:
            self._watching.cancel()

    def _report(self) -> None:
        self._source.watch()
        self._detections.watch()
        problems = self._problems()
        self._announcer.announce(problems)
        self._diagnostics.publish(
            report(
                self.get_fully_qualified_name(),
                self.get_clock().now(),
                self.state_label,
                self._enabled,
                self._source,
                self._detections,
                self.statistics,
                self._worker,
                self._summary,
                problems,
                self._failure,
            )
        )

    def _problems(self) -> list[Problem]:
        time, name = self.get_clock(), (self.get_name(), self.get_namespace())
        found = [
            namesakes(self.get_fully_qualified_name(), self.get_node_names_and_namespaces().count(name)),
            clock(time.ros_time_is_active, time.now().nanoseconds, self.count_publishers("/clock")),
        ]
        newest = self._newest
        if self.active and self._outputs.subscribed("~/markers"):
            size = (0, 0) if newest is None else (newest.image.shape[1], newest.image.shape[0])
            found.append(self._source.calibration_problem(None if newest is None else newest.header, size))
        if self.active and self._detections.wanted and self.statistics.rate("boxes refused"):
            count = self.statistics.counts["boxes refused"]
            found.append(refused(self._detections.topic, count, self._refusal))
        of_images = [*self._source.problems(), *(self._detections.problems() if self._enabled else [])]
        return [*of_images, *(problem for problem in found if problem is not None)]


def main(args: list[str] | None = None) -> int:
    """Run the node until it is stopped; return the exit status."""

    def begin(node: ExplainNode) -> None:
        if node.parameters.current.autostart:
            node.autostart()

    return run_node("explain_node", ExplainNode, args, begin)


if __name__ == "__main__":
    sys.exit(main())
