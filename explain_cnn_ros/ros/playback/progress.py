"""Messages and the progress line of the player, on stderr."""

from __future__ import annotations

import math
import sys
import time

from explain_cnn_ros.files import visible


def say(text: str) -> None:
    """Print to stderr, because ROS logs to stdout."""
    print(f"play_bag: {visible(text)}", file=sys.stderr, flush=True)


class ProgressLine:
    """A line on the terminal that shows the progress. It shows nothing if stderr is not a terminal."""

    INTERVAL = 0.5  # seconds

    def __init__(self) -> None:
        self._shown = -math.inf
        self._terminal = sys.stderr.isatty()

    def show(self, seconds: float, total: float, published: int) -> None:
        """Show the position and the duration of the recording in seconds, at most every INTERVAL seconds."""
        now = time.monotonic()
        if self._terminal and now - self._shown >= self.INTERVAL:
            self._shown = now
            print(
                f"\r{seconds:8.1f} of {total:.1f} s, {published} messages ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        """End the line."""
        if self._shown > -math.inf:
            self._shown = -math.inf
            print(file=sys.stderr, flush=True)
