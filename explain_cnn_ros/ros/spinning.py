"""Spinning until the process is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException

from explain_cnn_ros.ros.signals import interrupted

#: Time that rclpy needs at most to shut its context down after a signal, in seconds.
SHUTDOWN_TIME = 2.0


def until_stopped(work: Callable[[], object]) -> None:
    """Call a function, and return when it returns, the process is interrupted, or rclpy's context is shut down.

    A signal that arrives while rclpy converts a message becomes a RuntimeError of the conversion, and rclpy raises
    RuntimeErrors if its context is shut down. They count as the interruption.

    Args:
        work: The function, for instance `executor.spin`.

    Raises:
        RuntimeError: A callback failed, and nobody has stopped the process.
    """
    try:
        try:
            work()
        except ExternalShutdownException:
            pass
        except RuntimeError:
            # rclpy shuts the context down in a thread of its own.
            deadline = time.monotonic() + SHUTDOWN_TIME
            while rclpy.ok() and not interrupted() and time.monotonic() < deadline:
                time.sleep(0.02)
            if rclpy.ok() and not interrupted():
                raise
    except KeyboardInterrupt:
        pass
