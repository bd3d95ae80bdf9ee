"""The network at work, outside of the executor's thread. Only this module and `diagnostics` use both ROS and PyTorch.

One thread classifies the newest frame. Another computes the requested explanations, so that classification continues
during an explanation. A third one explains the newest decided frame if live explanations are on. Results are passed to
callbacks, which run in these threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros import msg
from explain_cnn_ros.bags.image_messages import ImageError, to_rgb
from explain_cnn_ros.explain.explainer import Explainer, ExplanationCancelledError
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.live import LiveExplainer, LiveExplanation
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest, RequestQueue
from explain_cnn_ros.ros.source import nanoseconds
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import DETECTIONS, Decider, Decision
from explain_cnn_ros.scan.detections import VISIBLE_MIN, DetectedBox, person_windows, visible_share
from explain_cnn_ros.scan.tracks import Track, Tracker

#: Number of frames that are classified for warming up, and their size (height, width) in pixels.
WARM_UP, WARM_UP_SIZE = 3, (480, 640)

#: Niceness of the threads that explain on request, and live. A live explanation is useless if it comes late, so its
#: thread gets more of a busy CPU than the other one.
NICENESS, LIVE_NICENESS = 10, 5

#: Reason that callers get when the worker is closed before their explanation is ready.
CLOSING = "the node stops working: the explanation was cancelled"


class WorkerThreads:
    """The thread that classifies, the thread that explains on request, and the thread that explains live.

    They outlive the workers that use them, one after the other. The libraries below PyTorch keep memory for each thread
    that has ever computed, so that new threads for each worker would leak memory.
    """

    def __init__(self) -> None:
        self.classify = ThreadPoolExecutor(1, "classify")
        self.explain = ThreadPoolExecutor(1, "explain")
        self.live = ThreadPoolExecutor(1, "live")

    def close(self) -> None:
        """End the threads. Their worker must be closed before."""
        self.classify.shutdown()
        self.explain.shutdown()
        self.live.shutdown()


@dataclass(frozen=True)
class WorkerCallbacks:
    """The functions that a worker calls, from its threads.

    Attributes:
        classified: Called with each classified frame, and the seconds that its message waited.
        explained: Called with each explanation, its frame and its trigger. It returns the message for the listeners of
            the request, or None if the result is no longer wanted.
        explained_live: Called with each live explanation and its frame.
        rejected: Called with the error of each message that holds no valid image.
        refused: Called with the reasons why boxes of an image are refused, if there are any.
        failed: Called with the description of any other failure. The worker continues.
    """

    classified: Callable[[ClassifiedFrame, float], None]
    explained: Callable[[Explanation, ClassifiedFrame, str], msg.Explanation | None]
    explained_live: Callable[[LiveExplanation, ClassifiedFrame], None]
    rejected: Callable[[ImageError], None]
    refused: Callable[[Sequence[str]], None]
    failed: Callable[[str], None]


@dataclass(frozen=True)
class _Submission:
    """A frame to classify.

    Attributes:
        message: The message of the image.
        arrived: Time at which it arrived, by `time.perf_counter`.
        boxes: The boxes of a detector; None if there is no detector.
    """

    message: Image | CompressedImage
    arrived: float
    boxes: tuple[DetectedBox, ...] | None = None


class Worker:
    """Classifies and explains in threads of its own.

    Args:
        parameters: Returns the parameters in force. It is called for every frame.
        callbacks: Functions that get the results.
        threads: The threads to work in.
        classifier: The classifier; None to load the one that the parameters name.

    Attributes:
        classifier: The classifier.

    Raises:
        FileNotFoundError: There is no file with the weights.
        ValueError: The file holds no weights of this package, or the network lacks a layer that is to be explained.
        RuntimeError: A CUDA device is requested, but PyTorch finds none.
    """

    def __init__(
        self,
        parameters: Callable[[], NodeParameters],
        callbacks: WorkerCallbacks,
        threads: WorkerThreads,
        classifier: PersonClassifier | None = None,
    ) -> None:
        self._parameters, self._callbacks = parameters, callbacks
        start = parameters()
        self.classifier = classifier or PersonClassifier.load(start.weights or None, start.device)
        # Created in advance, so that layers which the network does not have are an error at the start.
        self._explainer = Explainer(self.classifier, start.explain)
        self._stream = _urgent_stream(self.classifier.device)
        self._frames: NewestSlot[_Submission] = NewestSlot()
        self._requests = RequestQueue(start.explain_queue)
        self._tracker = Tracker()
        self._decided: NewestSlot[tuple[ClassifiedFrame, Track]] = NewestSlot()
        self._warm = threading.Event()
        self._running: list[Future[None]] = []
        try:
            self._running.append(threads.classify.submit(self._classify_forever))
            self._running.append(threads.explain.submit(self._explain_forever))
            self._running.append(threads.live.submit(self._explain_live_forever))
            self._warm.wait()
        except BaseException:  # Ctrl-C: the loops in the threads would otherwise never end
            self.close()
            raise

    def check(self, parameters: NodeParameters) -> None:
        """Check that explanations with other parameters are possible.

        Raises:
            ValueError: The network lacks a layer or a class that they name.
        """
        self._explainer.check(parameters.explain)

    @property
    def waiting(self) -> int:
        """Number of explanations that wait."""
        return len(self._requests)

    def submit(
        self,
        message: Image | CompressedImage,
        boxes: tuple[DetectedBox, ...] | None = None,
        arrived: float | None = None,
    ) -> bool:
        """Submit the newest frame.

        Args:
            message: The message of the image.
            boxes: The boxes of a detector; None if there is no detector.
            arrived: Time at which the image arrived, by `time.perf_counter`; None for now.

        Returns:
            Whether an older frame was dropped.
        """
        return self._frames.put(_Submission(message, time.perf_counter() if arrived is None else arrived, boxes))

    def explain(self, request: ExplainRequest) -> str:
        """Request an explanation; see `RequestQueue.put` for the result."""
        return self._requests.put(request)

    def pause(self, reason: str) -> None:
        """Cancel all explanations, and refuse requests until `resume`.

        Args:
            reason: Reason that the callers get.
        """
        for waiting in self._requests.pause(reason):
            self._pass_on(waiting, None, reason)
        self._decided.clear()

    def resume(self) -> None:
        """Accept requests again after `pause`."""
        self._requests.resume()

    def close(self) -> None:
        """Cancel all explanations, stop working in the threads, and free the device's memory."""
        self._frames.close()
        self._decided.close()
        for waiting in self._requests.close(CLOSING):
            self._pass_on(waiting, None, CLOSING)
        for running in self._running:
            if error := running.exception():
                self._callbacks.failed(f"a thread ended early: {type(error).__name__}: {error}")
        device = self.classifier.device
        del self.classifier, self._explainer
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _return_memory()

    # The thread that classifies.

    def _classify_forever(self) -> None:
        with self._urgently():
            try:
                self._warm_up()
            except Exception as error:
                self._callbacks.failed(f"warming up failed: {type(error).__name__}: {error}")
            finally:
                self._warm.set()
            while (taken := self._frames.take()) is not None:
                waited = time.perf_counter() - taken.arrived
                if taken.boxes is None and self._parameters().regions == DETECTIONS:
                    continue  # the parameter has changed since the image arrived
                try:
                    frame = self._classify(taken.message, taken.boxes)
                    self._callbacks.classified(frame, waited)
                    if frame.live and frame.decision.regions:
                        # Without stamps, the time at which frames are decided tells them apart.
                        stamp = nanoseconds(frame.header) or time.monotonic_ns()
                        track = self._tracker.follow(frame.decision.regions, stamp)
                        self._decided.put((frame, track))
                except ImageError as error:
                    self._callbacks.rejected(error)
                except Exception as error:  # a single frame must not end the node
                    self._callbacks.failed(f"classification failed: {type(error).__name__}: {error}")

    def _urgently(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _warm_up(self) -> None:
        """Classify some frames in advance: the first frames of a thread take much longer than the following ones."""
        frame = np.zeros((*WARM_UP_SIZE, 3), np.uint8)
        whole = Region(0, 0, WARM_UP_SIZE[1], WARM_UP_SIZE[0], math.nan)
        for _ in range(WARM_UP):
            self._decide(frame, self._parameters(), (), whole)

    def _classify(
        self,
        message: Image | CompressedImage,
        boxes: Sequence[DetectedBox] | None = None,
        region: Region | None = None,
    ) -> ClassifiedFrame:
        """Decode and decide an image.

        Args:
            message: The message.
            boxes: The boxes of a detector; None if there are none for this image.
            region: The requested region, which is judged if there are no boxes; None if none is requested.

        Raises:
            ImageError: The message holds no valid image, or no box fits it.
            ValueError: The regions come from a detector, but there are neither boxes nor a region.
        """
        start = time.perf_counter()
        parameters = self._parameters()
        image = to_rgb(message, parameters.megapixels_max)
        decision = self._decide(image, parameters, boxes, region)
        seconds = time.perf_counter() - start
        model = self.classifier.model_hash
        return ClassifiedFrame(message.header, image, decision, model, seconds, parameters.live != "none")

    def _decide(
        self,
        image: NDArray[np.uint8],
        parameters: NodeParameters,
        boxes: Sequence[DetectedBox] | None,
        region: Region | None,
    ) -> Decision:
        """Decide an image by the way that the parameters name; see `_classify`."""
        decider = Decider(self.classifier, parameters, fast=True)
        if parameters.regions != DETECTIONS:
            return decider.decide(image)
        size = (image.shape[1], image.shape[0])
        if region is not None:
            # Another region is refused afterwards, when it is explained. A window of it could take any memory.
            return decider.judge(image, [region] if _visible(region, size) >= VISIBLE_MIN else [])
        if boxes is None:
            raise ValueError(
                "regions is detections, and there are no detections for an image in a request: name a region as well, "
                "or send no image to explain the newest one"
            )
        windows = person_windows(
            boxes,
            self.classifier.info,
            size,
            parameters.person_classes,
            parameters.detections_margin,
            parameters.scan.candidates_max,
        )
        if windows.refused:
            self._callbacks.refused(windows.refused)
            if not windows.regions:
                count = len(windows.refused)
                raise ImageError(
                    "boxes", f"no box of the detector fits the image ({count} refused): {windows.refused[0]}"
                )
        return decider.judge(image, windows.regions)

    # The thread that explains.

    def _explain_forever(self) -> None:
        _lower_priority(NICENESS)
        while (request := self._requests.take()) is not None:
            self._pass_on(request, *self._answer(request))
            _return_memory()

    def _pass_on(self, request: ExplainRequest, explanation: msg.Explanation | None, reason: str) -> None:
        try:
            request.done(explanation, reason)
        except Exception as error:  # other callers are answered all the same
            self._callbacks.failed(f"an answer failed: {type(error).__name__}: {error}")

    def _answer(self, request: ExplainRequest) -> tuple[msg.Explanation | None, str]:
        """Return the explanation and "", or None and the reason why there is no explanation."""
        try:
            return self._explain(request), ""
        except ExplanationCancelledError as error:
            return None, request.cancelled_because or str(error)
        except ValueError as error:  # also an ImageError: the text says what is wrong with the request
            return None, str(error)
        except Exception as error:  # a single request must not end the node
            return None, f"{type(error).__name__}: {error}"

    def _explain(self, request: ExplainRequest) -> msg.Explanation:
        if isinstance(request.source, ClassifiedFrame):
            frame = request.source
        else:
            frame = self._classify(request.source, region=request.region)
        if request.region is not None:
            _require_visible(request.region, (frame.image.shape[1], frame.image.shape[0]))
        if request.settings != self._explainer.requested:
            self._explainer = Explainer(self.classifier, request.settings)
        explanation = self._explainer.explain(
            frame.image,
            request.region or frame.decision.region,
            lambda: bool(request.cancelled_because),
            frame.decision.threshold,
        )
        message = None
        if not request.cancelled_because:
            message = self._callbacks.explained(explanation, frame, request.trigger)
        if message is None:
            raise ExplanationCancelledError("the explanation was cancelled")
        return message

    # The thread that explains live.

    def _explain_live_forever(self) -> None:
        _lower_priority(LIVE_NICENESS)
        explainer: LiveExplainer | None = None
        while (taken := self._decided.take()) is not None:
            frame, track = taken
            try:
                parameters = self._parameters()
                if parameters.live == "none":
                    continue
                wanted = (parameters.explain, parameters.live_smoothing)
                if explainer is None or (explainer.requested, explainer.smoothing) != wanted:
                    explainer = LiveExplainer(self.classifier, *wanted)
                live = explainer.explain(frame.image, track.region, track.stamp, track.id, frame.decision.threshold)
                self._callbacks.explained_live(live, frame)
            except Exception as error:  # a single frame must not end the node
                self._callbacks.failed(f"live explanation failed: {type(error).__name__}: {error}")


def _require_visible(region: Region, size: tuple[int, int]) -> None:
    """Check that enough of a region lies in the frame. Windows of persons at the border reach out of it.

    Regions outside of the frame, and those without area, are left to the explainer, which refuses them.

    Args:
        region: The region, in pixels of the frame.
        size: Size (width, height) of the frame, in pixels.

    Raises:
        ValueError: Less than VISIBLE_MIN of the region lies in the frame.
    """
    visible = _visible(region, size)
    if 0 < visible < VISIBLE_MIN:
        raise ValueError(
            f"only {visible:.1%} of the region at ({region.x}, {region.y}), {region.width} x {region.height} "
            f"pixels, lies in the frame of {size[0]} x {size[1]} pixels: it must be at least {VISIBLE_MIN:.0%}"
        )


def _visible(region: Region, size: tuple[int, int]) -> float:
    """Return the share of a region that lies in a frame of a size (width, height); 0 for a region without area."""
    if min(region.width, region.height) <= 0:
        return 0.0
    return visible_share((region.x, region.y, region.width, region.height), size)


def _urgent_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream whose kernels run before those of explanations; None on a CPU."""
    return torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None


def _return_memory() -> None:
    """Return freed memory to the system. glibc would keep it, separately for each thread."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _lower_priority(niceness: int) -> None:
    """Let the kernel prefer other threads to this thread and to the threads that it starts.

    A thread of a process that was started with a higher niceness keeps it: only privileged users may lower it.
    """
    if hasattr(os, "setpriority"):
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < niceness:
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
