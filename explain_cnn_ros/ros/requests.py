"""What is to be explained, waiting its turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.regions import Region
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


#: Called with the explanation's message and "", or with None and the reason why there is none.
Done = Callable[[msg.Explanation | None, str], None]


@dataclass(frozen=True)
class ExplainRequest:
    """What to explain: a message, or a frame that was classified already.

    region: None for the frame's best region.
    trigger: what caused it; requests of different triggers are never one.
    listeners: who gets the explanation; grows when the same is asked for again while it waits.
    """

    source: Image | CompressedImage | ClassifiedFrame
    settings: ExplainSettings
    region: Region | None
    trigger: str
    listeners: list[Done] = field(default_factory=list)

    def done(self, explanation: msg.Explanation | None, reason: str = "") -> None:
        """Tell whoever asked."""
        for listener in self.listeners:
            listener(explanation, reason)

    def asks_the_same(self, other: ExplainRequest) -> bool:
        """Whether one explanation answers both."""
        return self.source is other.source and (self.settings, self.region, self.trigger) == (
            other.settings,
            other.region,
            other.trigger,
        )


class RequestQueue:
    """A bounded queue between threads. Who asks for what waits already gets the same answer."""

    QUEUED, JOINED, REFUSED = "queued", "joined", "refused"

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[ExplainRequest] = deque()
        self._condition = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: ExplainRequest) -> str:
        """QUEUED; JOINED to one that waits; or REFUSED, since the queue is full or closed: no listener is told."""
        with self._condition:
            if self._closed:
                return self.REFUSED
            for waiting in self._waiting:
                if waiting.asks_the_same(request):
                    waiting.listeners.extend(request.listeners)
                    return self.JOINED
            if len(self._waiting) >= self._size:
                return self.REFUSED
            self._waiting.append(request)
            self._condition.notify()
            return self.QUEUED

    def take(self) -> ExplainRequest | None:
        """Wait for a request and take it out; None once the queue is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()

    def close(self) -> list[ExplainRequest]:
        """Wake the taker for good; what still waited."""
        with self._condition:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._condition.notify_all()
            return left
