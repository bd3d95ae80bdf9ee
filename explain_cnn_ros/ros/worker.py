"""The network at work, outside of the executor's thread: the one place where messages meet torch.

Two threads: one classifies the newest frame, the other explains what is asked for, so that classification goes on
during an explanation. Results leave through callbacks, which run in these threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros import msg
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer, ExplanationCancelledError
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.image_messages import ImageError, to_rgb
from explain_cnn_ros.regions import Region
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest, RequestQueue

#: Frames that the network sees before the first one counts, and their size (height, width).
WARM_UP, WARM_UP_SIZE = 3, (480, 640)

#: What callers hear whose explanation will not come any more.
CLOSING = "the node stops working"


class WorkerThreads:
    """One thread that classifies and one that explains; they outlive the workers that use them.

    The libraries below PyTorch keep memory for each thread that ever calculated: new ones for each worker would leak.
    """

    def __init__(self) -> None:
        self.classify = ThreadPoolExecutor(1, "classify")
        self.explain = ThreadPoolExecutor(1, "explain")

    def close(self) -> None:
        """End them, once their worker is closed."""
        self.classify.shutdown()
        self.explain.shutdown()


class Worker:
    """Classifies and explains in threads of its own.

    Args:
        parameters: gives the parameters in force; asked anew for every frame.
        classified: called with each classified frame, and the seconds that it waited.
        explained: called with each explanation, its frame and its trigger; gives the message that listeners get.
        rejected: called with the ImageError of each frame that is no image.
        failed: called with what went wrong otherwise; the worker goes on.
        threads: where it works; for one worker after the other.
    """

    def __init__(
        self,
        parameters: Callable[[], NodeParameters],
        classified: Callable[[ClassifiedFrame, float], None],
        explained: Callable[[Explanation, ClassifiedFrame, str], msg.Explanation],
        rejected: Callable[[ImageError], None],
        failed: Callable[[str], None],
        threads: WorkerThreads,
    ) -> None:
        self._parameters = parameters
        self._classified, self._explained, self._rejected, self._failed = classified, explained, rejected, failed
        start = parameters()
        self.classifier = PersonClassifier.load(start.weights or None, start.device)
        self._own_threshold = self.classifier.threshold
        # Layers that the network lacks are an error now, not later.
        self._explainer = Explainer(self.classifier, start.explain)
        self._stream = _urgent_stream(self.classifier.device)
        self._frames: NewestSlot[tuple[Image | CompressedImage, float]] = NewestSlot()
        self._requests = RequestQueue(start.explain_queue)
        self._warm, self._closing = threading.Event(), threading.Event()
        self._running: list[Future[None]] = []
        try:
            self._running.append(threads.classify.submit(self._classify_forever))
            self._running.append(threads.explain.submit(self._explain_forever))
            self._warm.wait()
        except BaseException:  # Ctrl-C: nobody would end the loops in these threads
            self.close()
            raise

    @property
    def waiting(self) -> int:
        """Explanations that wait."""
        return len(self._requests)

    def submit(self, message: Image | CompressedImage) -> bool:
        """Hand over the newest frame; True when an older one was dropped for it."""
        return self._frames.put((message, time.perf_counter()))

    def explain(self, request: ExplainRequest) -> str:
        """Queue an explanation; what `RequestQueue.put` says."""
        return self._requests.put(request)

    def close(self) -> None:
        """Stop the threads, answer what still waits, and free the device's memory."""
        self._closing.set()
        self._frames.close()
        for waiting in self._requests.close():
            waiting.done(None, CLOSING)
        for running in self._running:
            running.result()
        device = self.classifier.device
        del self.classifier, self._explainer
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        _give_back_memory()

    # The thread that classifies.

    def _classify_forever(self) -> None:
        with self._urgently():
            try:
                self._warm_up()
            except Exception as error:
                self._failed(f"warming up failed: {type(error).__name__}: {error}")
            finally:
                self._warm.set()
            while (taken := self._frames.take()) is not None:
                message, arrived = taken
                waited = time.perf_counter() - arrived
                try:
                    self._classified(self._classify(message), waited)
                except ImageError as error:
                    self._rejected(error)
                except Exception as error:  # one bad frame never takes the node down
                    self._failed(f"classification failed: {type(error).__name__}: {error}")

    def _urgently(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _warm_up(self) -> None:
        """The first frames of a thread take much longer than the following ones."""
        for _ in range(WARM_UP):
            self._decide(np.zeros((*WARM_UP_SIZE, 3), np.uint8), self._parameters())

    def _classify(self, message: Image | CompressedImage) -> ClassifiedFrame:
        start = time.perf_counter()
        image = to_rgb(message)
        parameters = self._parameters()
        threshold = parameters.threshold or self._own_threshold
        if threshold != self.classifier.threshold:
            self.classifier.info = dataclasses.replace(self.classifier.info, threshold=threshold)
        regions = self._decide(image, parameters)
        return ClassifiedFrame(message.header, image, regions, threshold, time.perf_counter() - start)

    def _decide(self, image: NDArray[np.uint8], parameters: NodeParameters) -> list[Region]:
        if parameters.regions == "scan":
            return self.classifier.scan(image, parameters.scan)
        probability = float(self.classifier.probability(self.classifier.resize(image)[None])[0])
        return [Region(0, 0, image.shape[1], image.shape[0], probability)]

    # The thread that explains.

    def _explain_forever(self) -> None:
        _be_modest()
        while (request := self._requests.take()) is not None:
            try:
                message = self._explained(*self._explain(request), request.trigger)
            except ImageError as error:
                self._rejected(error)
                request.done(None, str(error))
            except ExplanationCancelledError:
                request.done(None, CLOSING)
            except Exception as error:
                request.done(None, f"{type(error).__name__}: {error}")
            else:
                request.done(message)

    def _explain(self, request: ExplainRequest) -> tuple[Explanation, ClassifiedFrame]:
        frame = request.source if isinstance(request.source, ClassifiedFrame) else self._classify(request.source)
        region = request.region or frame.regions[0]
        whole = (region.x, region.y, region.width, region.height) == (0, 0, *frame.image.shape[1::-1])
        if request.settings != self._explainer.asked:
            self._explainer = Explainer(self.classifier, request.settings)
        return self._explainer.explain(frame.image, None if whole else region, self._closing.is_set), frame


def _urgent_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream whose kernels go before those of explanations; None on a CPU."""
    return torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None


def _give_back_memory() -> None:
    """What was freed goes back to the system; glibc would keep it, for each thread that there ever was by itself."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _be_modest() -> None:
    """Let the kernel give this thread what others leave; those that it starts inherit it."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
