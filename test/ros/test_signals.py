"""SIGINT and SIGTERM at any moment of a command: status 0, and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from explain_cnn_ros.ros import signals

pytestmark = pytest.mark.timeout(120)

#: A module whose import takes long, as that of PyTorch does. A library turns the interruption into another exception.
SLOW_IMPORT = """
import time
print("ready", flush=True)
try:
    time.sleep(100)
except BaseException as error:
    raise ImportError("a part is missing") from error
"""

#: A command that needs some time to clean up.
CLEANS_UP = """
import time
def main():
    try:
        print("ready", flush=True)
        time.sleep(100)
    finally:
        print("cleaning up", flush=True)
        for _ in range(20):
            time.sleep(0.01)
        print("clean", end="")  # not flushed
"""

#: A command that is in a library for long: Python does not handle the signal.
STUCK = """
import time
from explain_cnn_ros.ros import signals
signals.END_MAX = 0.1
def main():
    print("ready", flush=True)
    while True:
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            pass
"""

#: A command whose interruption a library turns into an error, as conversions of rclpy do.
CONVERTS = """
import time
def main():
    try:
        print("ready", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        raise RuntimeError("Unable to convert call argument")
"""

#: A command whose interruption becomes an error of rclpy that is no RuntimeError.
SHUT_DOWN = """
import time
class NotInitializedException(Exception):
    __module__ = "rclpy.exceptions"
def main():
    try:
        print("ready", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        raise NotInitializedException
"""

#: A command in whose destructor the signal arrives, where Python loses the interruption.
DESTROYS = """
import time
class Handle:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(100)
def main():
    handle = Handle()
    del handle
"""

#: A signal that arrives before the command begins.
BEGINS = """
import time
from explain_cnn_ros.ros import signals
def begin():
    print("ready", flush=True)
    time.sleep(100)
signals._limit_the_end = begin
def main():
    raise AssertionError
"""

COMMANDS = {
    "slow import": SLOW_IMPORT,
    "cleans up": CLEANS_UP,
    "stuck": STUCK,
    "converts": CONVERTS,
    "shut down": SHUT_DOWN,
    "destroys": DESTROYS,
    "begins": BEGINS,
}
START = "import sys; from explain_cnn_ros.ros.signals import start; sys.exit(start('a_command'))"


def launch(folder: Path, source: str, code: str = START) -> subprocess.Popen[str]:
    """Run a command, and return when it is ready."""
    (folder / "a_command.py").write_text(source)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def rest(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process, and return what it has printed since the last line that was read."""
    assert process.stdout is not None
    with process.stdout as stdout:
        printed = stdout.read()
    process.wait(60)
    return printed


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_a_command(tmp_path: Path, command: str, number: signal.Signals) -> None:
    process = launch(tmp_path, COMMANDS[command])
    process.send_signal(number)
    printed = rest(process)
    assert process.returncode == 0, printed
    assert printed == ("cleaning up\nclean" if command == "cleans up" else "")


def test_further_signals_do_not_disturb_the_end(tmp_path: Path) -> None:
    process = launch(tmp_path, CLEANS_UP)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning up\n"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
    printed = rest(process)
    assert (process.returncode, printed) == (0, "clean")


def test_an_error_without_a_signal_is_an_error(tmp_path: Path) -> None:
    process = launch(tmp_path, "def main():\n    print('ready', flush=True)\n    raise RuntimeError('broken')")
    printed = rest(process)
    assert process.returncode == 1
    assert "RuntimeError: broken" in printed


def test_an_error_that_a_signal_does_not_explain_is_an_error(tmp_path: Path) -> None:
    """A disk is full, for instance, while the command cleans up."""
    process = launch(tmp_path, CONVERTS.replace("RuntimeError", "OSError"))
    process.send_signal(signal.SIGINT)
    printed = rest(process)
    assert process.returncode == 1
    assert "OSError: Unable to convert call argument" in printed


def test_an_error_in_a_destructor_without_a_signal_is_reported(tmp_path: Path) -> None:
    process = launch(tmp_path, DESTROYS.replace("time.sleep(100)", "raise ValueError('broken')"))
    printed = rest(process)
    assert process.returncode == 0
    assert "ValueError: broken" in printed


def test_the_status_of_a_command(tmp_path: Path) -> None:
    process = launch(tmp_path, "def main():\n    print('ready', flush=True)\n    print('end', end='')\n    return 3")
    printed = rest(process)
    assert (process.returncode, printed) == (3, "end")
