"""Requests for explanations, and the queue in which they wait."""

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
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.decider import Decision


@dataclass(frozen=True)
class ClassifiedFrame:
    """A frame and the decision about it.

    Attributes:
        header: Header of the image message.
        image: uint8 [H, W, 3] RGB.
        decision: The decision.
        model: Hash of the weights that decided.
        seconds: Duration from the message to the decision; NaN if it is not known.
        live: Whether live explanations are on. This frame has one, unless a newer frame comes first.
    """

    header: Header
    image: NDArray[np.uint8]
    decision: Decision
    model: str
    seconds: float
    live: bool = False


#: Called with the message of the explanation and "", or with None and the reason why there is no explanation.
Done = Callable[[msg.Explanation | None, str], None]


@dataclass(eq=False)
class ExplainRequest:
    """A request for one explanation.

    Attributes:
        source: The frame to explain: a message, or a frame that has been classified.
        settings: Settings of the explanation.
        region: The region to explain; None for the best region of the frame.
        trigger: Cause of the request. Requests with different triggers are never joined.
        listeners: Called with the result. An equal request that arrives meanwhile adds its listeners.
        cancelled_because: Reason why the request was cancelled; "" unless it was.
    """

    source: Image | CompressedImage | ClassifiedFrame
    settings: ExplainSettings
    region: Region | None
    trigger: str
    listeners: list[Done] = field(default_factory=list)
    cancelled_because: str = ""

    def done(self, explanation: msg.Explanation | None, reason: str = "") -> None:
        """Pass the result to all listeners. If some of them fail, the first failure is raised after that."""
        failures: list[Exception] = []
        for listener in self.listeners:
            try:
                listener(explanation, reason)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def equals(self, other: ExplainRequest) -> bool:
        """Return whether one explanation answers both requests."""
        return self.source is other.source and (self.settings, self.region, self.trigger) == (
            other.settings,
            other.region,
            other.trigger,
        )


#: Maximum number of listeners of one request. Callers in a loop would otherwise take any memory.
LISTENERS_MAX = 100


class RequestQueue:
    """A bounded queue of requests between threads. Equal requests that wait are joined to one.

    Args:
        size: Maximum number of requests that wait.
    """

    QUEUED, JOINED, REFUSED = "queued", "joined", "refused"

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[ExplainRequest] = deque()
        self._taken: ExplainRequest | None = None
        self._condition = threading.Condition()
        self._paused = self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: ExplainRequest) -> str:
        """Add a request.

        Returns:
            QUEUED; JOINED if an equal request waits; or REFUSED if the queue is full, paused or closed, or if more than
            LISTENERS_MAX callers would wait for one explanation. The listeners of a refused request are not called.
        """
        with self._condition:
            if self._paused or self._closed:
                return self.REFUSED
            for waiting in self._waiting:
                if waiting.equals(request):
                    if len(waiting.listeners) + len(request.listeners) > LISTENERS_MAX:
                        return self.REFUSED
                    waiting.listeners.extend(request.listeners)
                    return self.JOINED
            if len(self._waiting) >= self._size:
                return self.REFUSED
            self._waiting.append(request)
            self._condition.notify()
            return self.QUEUED

    def take(self) -> ExplainRequest | None:
        """Wait for a request and remove it from the queue; return None once the queue is closed."""
        with self._condition:
            self._taken = None
            self._condition.wait_for(lambda: self._waiting or self._closed)
            self._taken = None if self._closed else self._waiting.popleft()
            return self._taken

    def pause(self, reason: str) -> list[ExplainRequest]:
        """Refuse requests until `resume`, and cancel all that there are.

        Args:
            reason: Reason that is noted in the cancelled requests, including the one that was taken last.

        Returns:
            The requests that were waiting. The caller passes the reason to their listeners.
        """
        with self._condition:
            self._paused = True
            cancelled = list(self._waiting)
            self._waiting.clear()
            for request in [*cancelled, *([self._taken] if self._taken else [])]:
                request.cancelled_because = request.cancelled_because or reason
            return cancelled

    def resume(self) -> None:
        """Accept requests again after `pause`."""
        with self._condition:
            self._paused = False

    def close(self, reason: str) -> list[ExplainRequest]:
        """Do as `pause`, for good, and wake the thread that waits in `take`."""
        with self._condition:
            cancelled = self.pause(reason)
            self._closed = True
            self._condition.notify_all()
            return cancelled
