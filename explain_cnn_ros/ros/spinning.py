"""Spinning until the process is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException

#: Time that rclpy needs at most to shut its context down after a signal, in seconds.
SHUTDOWN_TIME = 2.0


def until_stopped(spin: Callable[[], object]) -> None:
    """Call a function that spins, and return when the process is interrupted or its context is shut down.

    A signal that arrives while rclpy converts a message becomes a RuntimeError of the conversion. It counts as an
    interruption if the context is shut down.

    Args:
        spin: Spins until it is interrupted, for instance `executor.spin`.

    Raises:
        RuntimeError: A callback failed, and nobody has stopped the process.
    """
    try:
        spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        # rclpy shuts the context down in a thread of its own.
        deadline = time.monotonic() + SHUTDOWN_TIME
        while rclpy.ok() and time.monotonic() < deadline:
            time.sleep(0.02)
        if rclpy.ok():
            raise
