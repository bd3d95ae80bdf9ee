"""The network at work, outside of the executor's thread: the one place where messages meet torch.

Two threads: one classifies the newest frame, the other explains what is asked for, so that classification goes on
during an explanation. Results leave through callbacks, which run in these threads.
"""

from __future__ import annotations

import dataclasses
import gc
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.explanation import Explanation
from explain_cnn_ros.regions import Region
from explain_cnn_ros.ros.images import ImageError, to_rgb
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.settings import ExplainSettings


@dataclass(frozen=True)
class ClassifiedFrame:
    """A frame and what the network says of it.

    image: uint8 [H, W, 3] RGB.
    regions: best first, at least one.
    seconds: from the message to the decision.
    """

    header: Header
    image: NDArray[np.uint8]
    regions: list[Region]
    threshold: float
    seconds: float

    @property
    def probability(self) -> float:
        """P(person) of the frame: its best region's."""
        return self.regions[0].probability


@dataclass(frozen=True)
class ExplainRequest:
    """What to explain: a message, or a frame that was classified already.

    region: None for the frame's best region.
    done: called with the explanation, its frame, and "", or with None, None and the reason why there is none.
    """

    source: Image | CompressedImage | ClassifiedFrame
    settings: ExplainSettings
    region: Region | None
    done: Callable[[Explanation | None, ClassifiedFrame | None, str], None]


class Worker:
    """Classifies and explains in threads of its own.

    Args:
        parameters: gives the parameters in force; asked anew for every frame.
        classified: called with each classified frame.
        rejected: called with the ImageError of each frame that is no image.
        failed: called with what went wrong otherwise; the worker goes on.
    """

    def __init__(
        self,
        parameters: Callable[[], NodeParameters],
        classified: Callable[[ClassifiedFrame], None],
        rejected: Callable[[ImageError], None],
        failed: Callable[[str], None],
    ) -> None:
        self._parameters = parameters
        self._classified, self._rejected, self._failed = classified, rejected, failed
        start = parameters()
        self.classifier = PersonClassifier.load(start.weights or None, start.device)
        self._own_threshold = self.classifier.threshold
        # Layers that the network lacks are an error now, not later.
        self._explainer = Explainer(self.classifier, start.explain)
        self._warm_up()
        self._frames: NewestSlot[Image | CompressedImage] = NewestSlot()
        self._requests: queue.Queue[ExplainRequest | None] = queue.Queue(start.explain_queue)
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._classify_forever, name="classify", daemon=True),
            threading.Thread(target=self._explain_forever, name="explain", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _warm_up(self) -> None:
        """The first inference of a process takes much longer than the following ones."""
        width, height = self.classifier.info.input_size
        for _ in range(2):
            self.classifier.probability(np.zeros((1, height, width, 3), np.uint8))

    def submit(self, message: Image | CompressedImage) -> bool:
        """Hand over the newest frame; True when an older one was dropped for it."""
        return self._frames.put(message)

    def explain(self, request: ExplainRequest) -> bool:
        """Queue an explanation; False, and `done` is never called, when the queue is full or closing."""
        if self._closing.is_set():
            return False
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """Stop the threads, answer what still waits, and free the device's memory."""
        self._closing.set()
        self._frames.close()
        while True:
            try:
                waiting = self._requests.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting.done(None, None, "the node is shutting down")
        self._requests.put(None)
        for thread in self._threads:
            thread.join()
        device = self.classifier.device
        del self.classifier
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _classify_forever(self) -> None:
        while (message := self._frames.take()) is not None:
            try:
                self._classified(self._classify(message))
            except ImageError as error:
                self._rejected(error)
            except Exception as error:  # one bad frame never takes the node down
                self._failed(f"classification failed: {type(error).__name__}: {error}")

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

    def _explain_forever(self) -> None:
        while (request := self._requests.get()) is not None:
            try:
                explanation, frame = self._explain(request)
            except ImageError as error:
                self._rejected(error)
                request.done(None, None, str(error))
            except Exception as error:
                request.done(None, None, f"{type(error).__name__}: {error}")
            else:
                request.done(explanation, frame, "")

    def _explain(self, request: ExplainRequest) -> tuple[Explanation, ClassifiedFrame]:
        frame = request.source if isinstance(request.source, ClassifiedFrame) else self._classify(request.source)
        region = request.region or frame.regions[0]
        whole = (region.x, region.y, region.width, region.height) == (0, 0, *frame.image.shape[1::-1])
        if request.settings != self._explainer.asked:
            self._explainer = self._explainer.with_settings(request.settings)
        return self._explainer.explain(frame.image, None if whole else region), frame
