"""A run of tools.fuzz on inputs that do everything that a run must notice, in a process of its own.

A run forks its workers. A forked process of the tests could wait for ever, because the tests have threads.

    python test/fuzz_kit.py FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from tools.fuzz.kind import Kind
from tools.fuzz.runner import Run, run_all
from tools.fuzz.worker import Limits

INPUTS = [b"read", b"error", b"refused", b"crash", b"slow", b"endless", b"memory", b"read again"]


def misbehave(data: bytes, folder: Path) -> str:
    """Do what the input says."""
    if data == b"refused":
        return "because"
    if data == b"error":
        raise KeyError("a wrong error")
    if data == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"slow":
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass
    if data == b"endless":
        while True:
            pass
    if data == b"memory":
        bytearray(os.urandom(1) * (80 * 2**20))
    (folder / "left").write_bytes(data)
    return ""


def main() -> None:
    """Print the figures of a run as JSON."""
    kind = Kind("odd", lambda: (), misbehave, lambda mutation, seeds: b"", lambda: INPUTS)
    run = Run({"odd": len(INPUTS)}, 1, Limits(0.3, 60.0), 2)
    run_all(run, lambda name: kind, Path(sys.argv[1]))
    figures = run.figures["odd"]
    found = {
        "tried": figures.tried,
        "read": figures.read,
        "refused": dict(figures.refused),
        "memory": figures.memory[0],
        "failures": {INPUTS[f.number].decode(): {"text": f.text, "place": f.place} for f in figures.failures},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
