"""Running and spinning nodes until the process is stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import uninstall_signal_handlers

from explain_cnn_ros.ros import security
from explain_cnn_ros.ros.enduring import EnduringExecutor
from explain_cnn_ros.ros.error_texts import one_line
from explain_cnn_ros.ros.signals import interrupted

#: Time that rclpy needs at most to shut its context down after a signal, in seconds.
SHUTDOWN_TIME = 2.0

#: Errors about what a user has given: arguments of ROS, parameters, and names of nodes and topics.
REFUSALS = (
    ValueError,
    ParameterException,
    NameValidationException,
    rclpy_implementation.RCLError,
    rclpy_implementation.UnknownROSArgsError,
)

N = TypeVar("N", bound=Node)


def created(name: str, create: Callable[[], N], args: list[str] | None = None) -> N | None:
    """Initialise ROS, and create a node; if that is not possible, print the cause in one line.

    Args:
        name: Name of the command, for the message.
        create: Creates the node.
        args: Arguments of ROS; None for those of the process.

    Returns:
        The node; None if it cannot be created because of what a user has given.
    """
    try:
        rclpy.init(args=args)
        return create()
    except REFUSALS as error:
        if interrupted() and not isinstance(error, ValueError):
            raise
        print(f"{name}: {security.failure(error) or one_line(error)}", file=sys.stderr)
        rclpy.try_shutdown()
        return None


def run_node(
    name: str, create: Callable[[], N], args: list[str] | None = None, begin: Callable[[N], object] = lambda node: None
) -> int:
    """Create a node and spin it until the process is stopped; return the exit status.

    Args:
        name: Name of the command, for the message if the node cannot be created.
        create: Creates the node.
        args: Arguments of ROS; None for those of the process.
        begin: Called with the node before it spins.
    """
    node = created(name, create, args)
    if node is None:
        return 1
    executor = EnduringExecutor(node)

    def work() -> None:
        begin(node)
        executor.spin()

    try:
        until_stopped(work)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def until_stopped(work: Callable[[], object]) -> None:
    """Call a function, and return when it returns, the process is interrupted, or rclpy's context is shut down.

    A signal that arrives while rclpy converts a message becomes a RuntimeError of the conversion, and rclpy raises
    RuntimeErrors if its context is shut down. They count as the interruption.

    rclpy handles no signals after this, and executors and nodes can be destroyed. Before, that would be a segmentation
    fault now and then: after a signal, rclpy's thread for signals wakes each executor through an object that belongs to
    the executor, and does not notice that it is destroyed meanwhile.

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
    finally:
        uninstall_signal_handlers()  # waits for the end of that thread
