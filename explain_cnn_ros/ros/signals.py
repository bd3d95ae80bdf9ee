"""SIGINT and SIGTERM for the commands of this room, from the first import to the end. This module needs no ROS.

The first signal interrupts a command. Further ones do not disturb its end.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from explain_cnn_ros.model.memory import limit_memory
from explain_cnn_ros.ros import security

Handler = Callable[[int, FrameType | None], object]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Time after which a command is ended that does not end by itself after a signal, in seconds.
END_MAX = 2.5

#: Whether a signal has arrived.
_interrupted = False


def start(module: str) -> int:
    """Import the module of a command, run its `main`, and end the process.

    A signal ends the process with status 0 and without a traceback, after END_MAX at the latest: a call of PyTorch
    can take long, and Python handles signals after it. While the module is imported, nothing has to be cleaned up, and
    the process ends at once. It also ends at once when `main` has returned, because Python needs seconds to dispose of
    PyTorch's modules. `main` therefore destroys the nodes that it has created.

    If ROS_SECURITY_ENABLE is set and this machine or the keystore does not allow the command to run, it ends with one
    line and status 1.

    Args:
        module: Dotted name of the module. Its `main()` returns the exit status, or None for 0.

    Returns:
        0 if a signal ended `main`; otherwise, the function does not return.
    """
    # Python itself sets the default handlers again before it ends. This runs right before that.
    atexit.register(_handle, SIGNALS, signal.SIG_IGN)
    _handle(SIGNALS, _exit_with(0))
    if not {"-h", "--help"} & set(sys.argv) and (refusal := security.refusal()):
        _refuse(module, refusal)
    limit_memory()
    main: Callable[[], int | None] = importlib.import_module(module).main
    sys.unraisablehook = _report_unraisable
    try:
        try:
            interrupt_on_signals()
            _limit_the_end()
            status = main()
            # Parts of destroyed nodes that refer to each other keep the middleware alive, and others would see the
            # nodes until the middleware's timeout.
            gc.collect()
            _exit(status or 0)
        except Exception as error:
            if not (interrupted() and _of_interruption(error)):
                if failure := security.failure(error):
                    _refuse(module, failure)
                raise
    except KeyboardInterrupt:
        pass
    return 0


def interrupt_on_signals() -> None:
    """Let the first of the signals raise KeyboardInterrupt in the main thread.

    SIGINT is included, because a shell lets commands in the background ignore Ctrl-C. Call this before rclpy is
    initialised: rclpy's handlers call these ones.
    """
    global _interrupted
    _interrupted = False
    _handle(SIGNALS, _interrupt)


def interrupted() -> bool:
    """Return whether a signal has arrived. Its KeyboardInterrupt can become another exception in a library."""
    return _interrupted


def _of_interruption(error: Exception) -> bool:
    """Return whether an error may be the consequence of a signal.

    An interruption in a conversion of rclpy becomes a RuntimeError or a SystemError, and rclpy raises errors of many
    kinds when a signal has shut its context down. Its own ones of these are no RuntimeErrors.
    """
    return isinstance(error, RuntimeError | SystemError) or type(error).__module__.partition(".")[0] == "rclpy"


def _report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Report an exception in a destructor, unless a signal caused it: it is raised wherever Python is at the moment."""
    if not _interrupted:
        sys.__unraisablehook__(unraisable)


def _refuse(module: str, text: str) -> NoReturn:
    """Print one line with the name of the command, and end the process with status 1."""
    name = Path(sys.argv[0]).name
    print(f"{module.rpartition('.')[2] if name in ('', '-c') else name}: {text}", file=sys.stderr)
    _exit(1)


def _exit_with(status: int) -> Handler:
    return lambda number, frame: _exit(status)


def _exit(status: int) -> NoReturn:
    """End the process without Python's own end, after everything that was printed has been written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, RuntimeError):  # nobody reads it, or the signal arrived while something was printed
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # ROS prints in C
    os._exit(status)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    if not _interrupted:
        _interrupted = True
        raise KeyboardInterrupt


def _limit_the_end() -> None:
    """Start a thread that ends the process if it still runs END_MAX after the first signal."""
    read, write = socket.socketpair()
    write.setblocking(False)
    # Python writes the number of a signal there at once, before the main thread handles it.
    signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)

    def watch(read: socket.socket, write: socket.socket) -> None:  # both ends stay open as long as the thread runs
        while read.recv(1)[0] not in SIGNALS:
            pass
        time.sleep(END_MAX)
        os._exit(0)

    threading.Thread(target=watch, args=(read, write), daemon=True).start()


def _handle(signals: Sequence[signal.Signals], handler: Handler | signal.Handlers) -> None:
    if threading.current_thread() is threading.main_thread():  # Python does not allow it in other threads
        for number in signals:
            signal.signal(number, handler)
