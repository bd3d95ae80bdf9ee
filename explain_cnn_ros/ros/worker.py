"""The network at work, outside of the executor's thread: the one place where messages meet torch.

Two threads: one classifies the newest frame, the other explains what is asked for, so that classification goes on
during an explanation. Results leave through callbacks, which run in these threads.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros import msg
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.regions import Region
from explain_cnn_ros.ros.images import ImageError, to_rgb
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest, RequestQueue

#: Frames that the network sees before the first one counts.
WARM_UP = 3


class Worker:
    """Classifies and explains in threads of its own.

    Args:
        parameters: gives the parameters in force; asked anew for every frame.
        classified: called with each classified frame, and the seconds that it waited.
        explained: called with each explanation, its frame and its trigger; gives the message that listeners get.
        rejected: called with the ImageError of each frame that is no image.
        failed: called with what went wrong otherwise; the worker goes on.
    """

    def __init__(
        self,
        parameters: Callable[[], NodeParameters],
        classified: Callable[[ClassifiedFrame, float], None],
        explained: Callable[[Explanation, ClassifiedFrame, str], msg.Explanation],
        rejected: Callable[[ImageError], None],
        failed: Callable[[str], None],
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
        self._warm = threading.Event()
        self._threads = [
            threading.Thread(target=self._classify_forever, name="classify", daemon=True),
            threading.Thread(target=self._explain_forever, name="explain", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._warm.wait()

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
        self._frames.close()
        for waiting in self._requests.close():
            waiting.done(None, "the node is shutting down")
        for thread in self._threads:
            thread.join()
        device = self.classifier.device
        del self.classifier, self._explainer
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

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
        width, height = self.classifier.info.input_size
        for _ in range(WARM_UP):
            self.classifier.probability(np.zeros((1, height, width, 3), np.uint8))

    def _classify(self, message: Image | CompressedImage) -> ClassifiedFrame:
        start = time.perf_counter()
        image = to_rgb(message)
        parameters = self._parameters()
        threshold = parameters.threshold or self._own_threshold
        if threshold != self.classifier.threshold:
            self.classifier.info = dataclasses.replace(self.classifier.info, threshold=threshold)
        if parameters.regions == "scan":
            regions = self.classifier.scan(image, parameters.scan)
        else:
            probability = float(self.classifier.probability(self.classifier.resize(image)[None])[0])
            regions = [Region(0, 0, image.shape[1], image.shape[0], probability)]
        return ClassifiedFrame(message.header, image, regions, threshold, time.perf_counter() - start)

    # The thread that explains.

    def _explain_forever(self) -> None:
        _be_modest()
        while (request := self._requests.take()) is not None:
            try:
                message = self._explained(*self._explain(request), request.trigger)
            except ImageError as error:
                self._rejected(error)
                request.done(None, str(error))
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
        return self._explainer.explain(frame.image, None if whole else region), frame


def _urgent_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream whose kernels go before those of explanations; None on a CPU."""
    return torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None


def _be_modest() -> None:
    """Let the kernel give this thread what others leave; those that it starts inherit it."""
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
