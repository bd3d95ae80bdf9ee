"""Processes of tests, benchmarks and the soak, and a ROS domain of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Domains in the order in which this process takes them. Numbers above 101 lead to ports that the system gives to other
#: programs.
_domains = deque(random.Random(os.getpid()).sample(range(1, 101), 100))


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """Reserve a domain that no other test or soak on this machine uses.

    A domain is not taken again soon: for some seconds, nodes would still discover what an earlier test has left there.

    Yields:
        The number of the domain.

    Raises:
        RuntimeError: All domains are in use.
    """
    for _ in range(len(_domains)):
        number = _domains[0]
        _domains.rotate(-1)
        with (Path(tempfile.gettempdir()) / f"explain_cnn_ros_test_domain_{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield number
            return
    raise RuntimeError("all domains are in use by other tests: wait until they have ended")


@contextlib.contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process while the body runs, and interrupt it at the end.

    Args:
        *command: The command.
        **options: Options of `subprocess.Popen`. By default, the output is a pipe, and errors are discarded.

    Yields:
        The process.
    """
    process = subprocess.Popen(
        command, text=True, **({"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL} | options)
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
