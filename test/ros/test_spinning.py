"""The end of spinning: by a signal, by a shutdown, and by an error."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.executors import ExternalShutdownException

from explain_cnn_ros.ros import spinning


def failing(error: BaseException):
    def spin() -> None:
        raise error

    return spin


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ExternalShutdownException()])
def test_an_interruption_is_the_end(error):
    spinning.until_stopped(failing(error))


def test_an_error_of_a_conversion_after_a_signal_is_the_end(monkeypatch):
    """The context is shut down a moment later than the error is raised."""
    down = threading.Event()
    monkeypatch.setattr(rclpy, "ok", lambda: not down.is_set())
    threading.Timer(0.1, down.set).start()
    spinning.until_stopped(failing(RuntimeError("Unable to convert call argument '0' to Python object")))


def test_an_error_after_a_signal_that_python_has_handled_is_the_end(monkeypatch):
    monkeypatch.setattr(rclpy, "ok", lambda: True)
    monkeypatch.setattr(spinning, "interrupted", lambda: True)
    spinning.until_stopped(failing(RuntimeError("Unable to convert call argument '0' to Python object")))


def test_a_signal_while_an_error_is_looked_into_is_the_end(monkeypatch):
    def ok() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(rclpy, "ok", ok)
    spinning.until_stopped(failing(RuntimeError("context is invalid")))


def test_any_other_error_is_raised(monkeypatch):
    monkeypatch.setattr(rclpy, "ok", lambda: True)
    monkeypatch.setattr(spinning, "SHUTDOWN_TIME", 0.05)
    with pytest.raises(RuntimeError, match="broken"):
        spinning.until_stopped(failing(RuntimeError("broken")))


#: Runs a node that is interrupted at once, and prints which signals rclpy handles while its executor is shut down.
INTERRUPTED = """
import os, signal, sys
from rclpy.node import Node
from rclpy.signals import get_current_signal_handlers_options
from explain_cnn_ros.ros import signals, spinning

class Executor(spinning.EnduringExecutor):
    def spin(self):
        print(get_current_signal_handlers_options().name, flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        super().spin()

    def shutdown(self):
        print(get_current_signal_handlers_options().name, flush=True)
        return super().shutdown()

spinning.EnduringExecutor = Executor
signals.interrupt_on_signals()
sys.exit(spinning.run_node("node", lambda: Node("node")))
"""


@pytest.mark.ros
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_rclpy_handles_no_signals_while_an_executor_is_destroyed(graph, number):
    """The thread for signals would use a part of the executor that no longer exists, and the process could crash."""
    process = graph.start(number, code=INTERRUPTED)
    assert process.wait(60) == 0, graph.log
    assert graph.log.split() == ["ALL", "NO"]
