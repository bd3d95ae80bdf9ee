"""The node: subscriptions, publishers, the service, and its life cycle. The network works in `worker`."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros import msg, srv
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.overlay import draw_overlay
from explain_cnn_ros.ros.images import ImageError, to_compressed, to_message
from explain_cnn_ros.ros.messages import classification_message, explanation_message, region_from
from explain_cnn_ros.ros.parameters import ParameterServer
from explain_cnn_ros.ros.worker import ClassifiedFrame, ExplainRequest, Worker

#: Seconds between looks at who publishes the image.
WATCH_PERIOD = 0.2

#: Seconds between two log lines of the same kind.
LOG_PERIOD = 5.0


class ExplainNode(LifecycleNode):
    """Classifies every newest frame, and explains on request or when it is not sure."""

    def __init__(self) -> None:
        super().__init__("explain_node")
        self.parameters = ParameterServer(self)
        self.counts: Counter[str] = Counter()
        self._worker: Worker | None = None
        self._active = False
        self._newest: ClassifiedFrame | None = None
        self._explained_at: Time | None = None
        self._classification = self.create_publisher(msg.Classification, "~/classification", 10)
        self._explanation = self.create_publisher(msg.Explanation, "~/explanation", 10)
        self._overlay = self.create_publisher(Image, "~/overlay", 2)
        self._overlay_compressed = self.create_publisher(CompressedImage, "~/overlay/compressed", 2)
        # Reentrant: callers wait for their explanations side by side.
        self.create_service(srv.Explain, "~/explain", self._on_explain, callback_group=ReentrantCallbackGroup())
        self._subscription: Subscription | None = None
        # A timer of the node's clock would stand still until /clock comes, when simulated time is used.
        self.create_timer(WATCH_PERIOD, self._watch_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._silent_since = self._steady_seconds()

    # Life cycle. rclpy swallows exceptions of these callbacks: they are logged here, with the reason.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network and warm it up."""
        try:
            self._worker = Worker(
                lambda: self.parameters.current, self._on_classified, self._on_rejected, self._on_failed
            )
        except Exception as error:
            self.get_logger().error(f"configuring failed: {error}")
            return TransitionCallbackReturn.FAILURE
        classifier = self._worker.classifier
        self.get_logger().info(
            f"{classifier.info.architecture} {classifier.model_hash} on {classifier.device}, "
            f"threshold {self.parameters.current.threshold or classifier.threshold:g}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take frames."""
        self._active = True
        self._silent_since = self._steady_seconds()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take no more frames."""
        self._active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the threads and free the device."""
        self.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop for good."""
        self.close()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Let the worker go, if there is one."""
        self._active = False
        worker, self._worker = self._worker, None
        self._newest = None
        if worker is not None:
            worker.close()

    # Frames.

    @property
    def image_topic(self) -> str:
        """The topic as it is after remapping."""
        name = "image" if self.parameters.current.image_transport == "raw" else "image/compressed"
        return self.resolve_topic_name(name)

    def _watch_publishers(self) -> None:
        """Subscribe once a publisher shows what reliability it offers; say when there is nothing to see."""
        if not self._active:
            return
        if self._subscription is None:
            self._subscribe()
        if self._steady_seconds() - self._silent_since > LOG_PERIOD:
            publishers = self.get_publishers_info_by_topic(self.image_topic)
            hint = (
                f"its {len(publishers)} publishers send nothing, or with a QoS or type that does not match"
                if publishers
                else "nobody publishes it: remap `image`, or set the parameter image_transport"
            )
            self.get_logger().warning(
                f"no image on {self.image_topic} for {self._steady_seconds() - self._silent_since:.0f} s; {hint}",
                throttle_duration_sec=4 * LOG_PERIOD,
            )

    def _subscribe(self) -> None:
        wanted = self.parameters.current.reliability
        if wanted == "auto":
            publishers = self.get_publishers_info_by_topic(self.image_topic)
            if not publishers:
                return
            # Large frames are lost on a best-effort subscription; a reliable one matches reliable publishers only.
            reliable = all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)
            wanted = "reliable" if reliable else "best_effort"
        policy = ReliabilityPolicy.RELIABLE if wanted == "reliable" else ReliabilityPolicy.BEST_EFFORT
        raw = self.parameters.current.image_transport == "raw"
        self._subscription = self.create_subscription(
            Image if raw else CompressedImage,
            "image" if raw else "image/compressed",
            self._on_image,
            QoSProfile(depth=1, reliability=policy),
        )
        self.get_logger().info(f"subscribed to {self.image_topic}, {wanted}")

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._silent_since = self._steady_seconds()
        worker = self._worker
        if not self._active or worker is None:
            return
        self.counts["received"] += 1
        if worker.submit(message):
            self.counts["dropped"] += 1

    def _on_classified(self, frame: ClassifiedFrame) -> None:
        worker = self._worker
        if not self._active or worker is None:
            return
        self._newest = frame
        self.counts["classified"] += 1
        parameters = self.parameters.current
        p = frame.probability
        low = max(p, 1 - p) < parameters.confidence_threshold
        self._classification.publish(
            classification_message(
                frame.header,
                frame.regions,
                frame.image.shape[1::-1],
                frame.threshold,
                low,
                frame.seconds,
                worker.classifier.model_hash,
            )
        )
        if low and self._cooled_down(parameters.explain_cooldown):
            trigger = msg.Explanation.TRIGGER_LOW_CONFIDENCE

            def done(explanation: Explanation | None, frame: ClassifiedFrame | None, reason: str) -> None:
                if explanation is None or frame is None:
                    self._on_failed(f"explanation failed: {reason}")
                else:
                    self._publish_explanation(explanation, frame, trigger)

            if worker.explain(ExplainRequest(frame, parameters.explain, None, done)):
                self._explained_at = self.get_clock().now()
            else:
                self.counts["explanations_refused"] += 1

    def _cooled_down(self, cooldown: float) -> bool:
        if self._explained_at is None:
            return True
        elapsed = (self.get_clock().now() - self._explained_at).nanoseconds / 1e9
        # The clock jumps back when a bag starts again under simulated time.
        return elapsed < 0 or elapsed >= cooldown

    def _on_rejected(self, error: ImageError) -> None:
        self.counts[f"rejected: {error.reason}"] += 1
        rejected = {k.removeprefix("rejected: "): v for k, v in self.counts.items() if k.startswith("rejected: ")}
        summary = ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items()))
        self.get_logger().warning(
            f"frame rejected: {error} ({sum(rejected.values())} so far: {summary})", throttle_duration_sec=LOG_PERIOD
        )

    def _on_failed(self, reason: str) -> None:
        self.counts["failed"] += 1
        self.get_logger().error(f"{reason} ({self.counts['failed']} failures so far)", throttle_duration_sec=LOG_PERIOD)

    def _publish_explanation(self, explanation: Explanation, frame: ClassifiedFrame, trigger: str) -> msg.Explanation:
        """Runs in the worker's thread, which may take its time to draw."""
        message = explanation_message(frame.header, explanation, trigger)
        self._explanation.publish(message)
        self.counts["explained"] += 1
        raw = self._overlay.get_subscription_count() > 0
        compressed = self._overlay_compressed.get_subscription_count() > 0
        if raw or compressed:
            metric = self.parameters.current.overlay_metric
            if metric not in explanation.settings.metrics:
                metric = explanation.settings.metrics[0]
            # The frame's own size: RViz's Camera display lays it over the camera's view.
            image = draw_overlay(
                frame.image, explanation, metric, regions=frame.regions, trigger=trigger, keep_size=True
            )
            if raw:
                self._overlay.publish(to_message(image, frame.header))
            if compressed:
                self._overlay_compressed.publish(to_compressed(image, frame.header))
        return message

    # The service.

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
        worker = self._worker
        if not self._active or worker is None:
            return "the node is not active: configure and activate it first (lifecycle)"
        image = request.image
        newest = not (image.width or image.height or image.encoding or len(image.data))
        source: Image | ClassifiedFrame | None = self._newest if newest else image
        if source is None:
            return (
                f"no frame has been classified yet: the node listens to {self.image_topic}; publish there, or send an "
                "image in the request"
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

        def done(explanation: Explanation | None, frame: ClassifiedFrame | None, reason: str) -> None:
            if explanation is None or frame is None:
                answer.set_result(reason)
            else:
                answer.set_result(self._publish_explanation(explanation, frame, msg.Explanation.TRIGGER_SERVICE))
            # The waiting callback goes on at the executor's next round.
            if executor is not None:
                executor.wake()

        if not worker.explain(ExplainRequest(source, settings, region, done)):
            self.counts["explanations_refused"] += 1
            return "too many explanations are waiting: try again when they are done (parameter explain_queue)"
        return ""

    @staticmethod
    def _steady_seconds() -> float:
        return Clock(clock_type=ClockType.STEADY_TIME).now().nanoseconds / 1e9


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
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
