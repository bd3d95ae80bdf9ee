"""The node: its life cycle, the services, and who is told about what. The network works in `worker`."""

from __future__ import annotations

import dataclasses
import sys

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from explain_cnn_ros import msg, srv
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.image_messages import ImageError
from explain_cnn_ros.ros.diagnostics import REJECTED, report
from explain_cnn_ros.ros.messages import region_from
from explain_cnn_ros.ros.outputs import Outputs
from explain_cnn_ros.ros.parameters import ParameterServer
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest, RequestQueue
from explain_cnn_ros.ros.source import ImageSource
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.ros.worker import Worker, WorkerThreads

#: Seconds between looks at what the images do, and between reports on /diagnostics.
WATCH_PERIOD, REPORT_PERIOD = 0.2, 1.0

#: Seconds between two log lines of the same kind.
LOG_PERIOD = 5.0


class ExplainNode(LifecycleNode):
    """Classifies every newest frame, and explains on request or when it is not sure."""

    def __init__(self) -> None:
        super().__init__("explain_node")
        self.parameters = ParameterServer(self)
        self.statistics = Statistics()
        self._worker: Worker | None = None
        self._threads = WorkerThreads()
        self._state, self._enabled = "unconfigured", True
        self._newest: ClassifiedFrame | None = None
        self._explained_at: Time | None = None
        self._outputs = Outputs(self)
        self._source = ImageSource(self, lambda: self.parameters.current, self.statistics, self._on_image)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Reentrant: callers wait for their explanations side by side.
        self.create_service(srv.Explain, "~/explain", self._on_explain, callback_group=ReentrantCallbackGroup())
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # A recording that starts again under simulated time: what was explained in a round before does not count.
        back = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
        self._on_jump = self.get_clock().create_jump_callback(back, post_callback=self._on_clock_jump)
        # Timers of the node's clock would stand still until /clock comes, when simulated time is used.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_PERIOD, self._source.watch, clock=steady)
        self.create_timer(REPORT_PERIOD, self._report, clock=steady)

    # Life cycle. rclpy swallows exceptions of these callbacks: they are logged here, with the reason.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and warm it up."""
        try:
            self._worker = Worker(
                lambda: self.parameters.current,
                self._on_classified,
                self._on_explained,
                self._on_rejected,
                self._on_failed,
                self._threads,
            )
            self._outputs.publish_model(self._worker.classifier)
        except Exception as error:
            self.get_logger().error(f"configuring failed: {error}")
            self.close()
            return TransitionCallbackReturn.FAILURE
        classifier = self._worker.classifier
        self.get_logger().info(
            f"{classifier.info.architecture} {classifier.model_hash} on {classifier.device}, "
            f"threshold {self.parameters.current.threshold or classifier.threshold:g}"
        )
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take frames."""
        self._source.activate()
        self._state = "active"
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more frames."""
        self._source.active = False
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the threads and free the device."""
        self.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self.close()
        self._state = "finalized"
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Whatever went wrong: a node that can be configured again."""
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the threads as well."""
        self.close()
        self._threads.close()
        super().destroy_node()

    def close(self) -> None:
        """Let the worker go, if there is one."""
        self._source.active = False
        self._state = "unconfigured"
        worker, self._worker = self._worker, None
        self._newest = None
        if worker is not None:
            worker.close()

    @property
    def _at_work(self) -> Worker | None:
        """The worker, while frames are taken."""
        return self._worker if self._source.active else None

    # Frames. All but the first of these run in the worker's threads.

    def _on_image(self, message: Image | CompressedImage) -> None:
        worker = self._at_work
        if worker is not None and self._enabled and worker.submit(message):
            self.statistics.count("dropped")

    def _on_classified(self, frame: ClassifiedFrame, waited: float) -> None:
        worker = self._at_work
        if worker is None:
            return
        self._newest = frame
        parameters, p = self.parameters.current, frame.probability
        self.statistics.add("classified", frame.seconds)
        self.statistics.add("latency", waited + frame.seconds)
        self.statistics.add("probability", p)
        low = max(p, 1 - p) < parameters.confidence_threshold
        self._outputs.publish_classification(frame, low, worker.classifier.model_hash)
        if low and self._cooled_down(parameters.explain_cooldown):

            def done(explanation: msg.Explanation | None, reason: str) -> None:
                if explanation is None:
                    self._on_failed(f"explanation failed: {reason}")

            trigger = msg.Explanation.TRIGGER_LOW_CONFIDENCE
            request = ExplainRequest(frame, parameters.explain, None, trigger, [done])
            if self._request(worker, request) != RequestQueue.REFUSED:
                self._explained_at = self.get_clock().now()

    def _request(self, worker: Worker, request: ExplainRequest) -> str:
        answer = worker.explain(request)
        if answer != RequestQueue.QUEUED:
            self.statistics.count(f"explanations {answer}")
        return answer

    def _cooled_down(self, cooldown: float) -> bool:
        if self._explained_at is None:
            return True
        return (self.get_clock().now() - self._explained_at).nanoseconds / 1e9 >= cooldown

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._explained_at = None

    def _on_rejected(self, error: ImageError) -> None:
        self.statistics.add("rejected")
        self.statistics.count(REJECTED + error.reason)
        counts = self.statistics.counts
        summary = ", ".join(f"{k.removeprefix(REJECTED)} {n}" for k, n in sorted(counts.items()) if REJECTED in k)
        self.get_logger().warning(
            f"frame rejected: {error} ({counts['rejected']} so far: {summary})", throttle_duration_sec=LOG_PERIOD
        )

    def _on_failed(self, reason: str) -> None:
        self.statistics.add("failed")
        failures = self.statistics.counts["failed"]
        self.get_logger().error(f"{reason} ({failures} failures so far)", throttle_duration_sec=LOG_PERIOD)

    def _on_explained(self, explanation: Explanation, frame: ClassifiedFrame, trigger: str) -> msg.Explanation:
        self.statistics.add("explained", explanation.seconds)
        metric, info = self.parameters.current.overlay_metric, self._source.camera_info(frame.header)
        return self._outputs.publish_explanation(explanation, frame, trigger, metric, info)

    # Services.

    def _on_set_enabled(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Classify or do not, without a change of the life cycle."""
        self._enabled = request.data
        response.success = True
        response.message = f"the node is {self._state}, and classifies {'' if self._enabled else 'nothing '}from now on"
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
        """Queue what the service was asked for; "" or the reason why not."""
        worker = self._at_work
        if worker is None:
            return f"the node is {self._state}, not active: configure and activate it first (lifecycle)"
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
            settings = dataclasses.replace(self.parameters.current.explain, **changes)
        except ValueError as error:
            return str(error)
        region = region_from(request.region[0]) if request.region else None
        executor = self.executor

        def done(explanation: msg.Explanation | None, reason: str) -> None:
            answer.set_result(reason if explanation is None else explanation)
            # The waiting callback goes on at the executor's next round.
            if executor is not None:
                executor.wake()

        asked = ExplainRequest(source, settings, region, msg.Explanation.TRIGGER_SERVICE, [done])
        if self._request(worker, asked) == RequestQueue.REFUSED:
            return "too many explanations are waiting: try again when they are done (parameter explain_queue)"
        return ""

    # State.

    def _report(self) -> None:
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(
            report(
                name, self.get_clock().now(), self._state, self._enabled, self._source, self.statistics, self._worker
            )
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    rclpy.init(args=args)
    try:
        node = ExplainNode()
    except (ValueError, rclpy.exceptions.InvalidParameterValueException) as error:
        print(f"explain_node: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.parameters.current.autostart:
            node.trigger_configure()
            if node._worker is not None:
                node.trigger_activate()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
