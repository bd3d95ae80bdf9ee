"""The command `explain-cnn`: all commands that need no ROS, behind one name.

This is the one module that knows all rooms. It hands the encoder of ROS messages into the analysis if ROS is installed.
"""

from __future__ import annotations

import atexit
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from explain_cnn_ros import __version__
from explain_cnn_ros.model.memory import limit_memory

if TYPE_CHECKING:
    from explain_cnn_ros.analysis.engine import Encoder
    from explain_cnn_ros.scan.classifier import PersonClassifier

SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Time after a signal in which another one is the same interruption, in seconds: `ros2 launch` passes Ctrl-C on to
#: processes that have received it from the terminal.
SAME = 0.5


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        module: Module whose `main(argv)` runs the command and returns its exit status.
        summary: One line for the list of commands.
        extra: Extra of `pip install` that the command needs; "" for none.
    """

    module: str
    summary: str
    extra: str = ""


COMMANDS = {
    "analyze": Command(
        "explain_cnn_ros.analysis.cli", "Analyse recordings: every decision, explanations, a report.", "analysis"
    ),
    "compare": Command("explain_cnn_ros.analysis.compare", "Compare two analyses.", "analysis"),
    "causes": Command(
        "explain_cnn_ros.analysis.causes.cli", "List and name the causes of wrong decisions in an analysis.", "analysis"
    ),
    "review": Command("explain_cnn_ros.analysis.review.cli", "Label the doubtful windows of an analysis.", "analysis"),
    "repair": Command(
        "explain_cnn_ros.analysis.repair.cli", "Repair a network by its wrong decisions, with a proof.", "analysis"
    ),
    "experiments": Command(
        "explain_cnn_ros.experiments.cli", "Run the paper's experiments, and more, on your data.", "experiments"
    ),
    "check-randomisation": Command(
        "explain_cnn_ros.experiments.check_randomisation",
        "Check whether explanations depend on what the network has learned.",
    ),
    "import-weights": Command(
        "explain_cnn_ros.model.importing.cli", "Import the weights of a classification network of torchvision."
    ),
    "train": Command("explain_cnn_ros.training.train", "Train a classifier."),
    "doctor": Command("explain_cnn_ros.ros.doctor", "Report what is missing on this machine, and how to get it."),
}


def make_encoder(classifier: PersonClassifier) -> Encoder | None:
    """Create the encoder of ROS messages for an analysis; None if ROS or the package's messages are not installed."""
    try:
        from explain_cnn_ros.ros.encoding import MessageEncoder
    except ImportError:
        return None
    encoder: Encoder = MessageEncoder(classifier)
    return encoder


class Interruption:
    """Ends a command at SIGINT (Ctrl-C) and SIGTERM, with one line.

    While the packages of the command are imported, a signal ends the process at once: an exception in the middle of an
    import may be swallowed, or become another one. Later, the first signal raises KeyboardInterrupt, and the command
    writes its results. A second one ends the process at once.

    Args:
        name: Name of the command.

    Attributes:
        importing: Whether the packages of the command are being imported.
        received: The signal that arrived; 0 for none.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.importing = True
        self.received: int = 0
        self._time = 0.0

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle both signals in the body, and until the process ends if one of them has arrived.

        Signals that the process ignores, as below nohup, stay ignored.
        """
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    before[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            if not self.received:
                for handled, handler in before.items():
                    signal.signal(handled, handler)

    def status(self, status: int) -> int:
        """Return the exit status of a command that returned `status`: 143 instead of 130 if the signal was SIGTERM."""
        return 128 + self.received if self.received and status == 128 + int(signal.SIGINT) else status

    def say(self, text: str) -> None:
        """Write a line to stderr."""
        # print() cannot be used in a handler: the signal may have arrived while something is printed.
        with suppress(OSError):
            os.write(2, f"{self._name}: {text}\n".encode())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.importing:
            self._end("interrupted", number)
        if not self.received:
            self.received, self._time = number, time.monotonic()
            # Python restores the default handlers while it ends, and a further signal would change the exit status.
            atexit.register(_ignore_signals)
            raise KeyboardInterrupt
        if time.monotonic() - self._time > SAME:
            self._end("interrupted again, and ended at once", self.received)

    def _end(self, text: str, number: int) -> NoReturn:
        self.say(text)
        os._exit(128 + number)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def usage() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    hint = "`explain-cnn COMMAND --help` describes a command."
    return "\n".join(["usage: explain-cnn COMMAND [ARGUMENT ...]", "", *lines, "", hint])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Name of the command and its arguments; None for those of the process.

    Returns:
        The exit status of the command; 2 if there is no such command, 1 if it needs a package that is not installed,
        130 if it was interrupted.
    """
    limit_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without the characters of a name is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    name, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"explain-cnn {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"explain-cnn: there is no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    interruption = Interruption(name)
    with interruption.handling():
        module = _module(name)
        if module is None:
            return 1
        interruption.importing = False
        try:
            status: int = module.main(arguments, make_encoder) if name == "analyze" else module.main(arguments)
        except KeyboardInterrupt:
            interruption.say("interrupted")
            status = 128 + int(signal.SIGINT)
    return interruption.status(status)


def _module(name: str) -> Any:
    """Import the module of a command; return None, and print the reason, if a package is not installed."""
    command = COMMANDS[name]
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "explain_cnn_ros":
            raise
        extra = f"[{command.extra}]" if command.extra else ""
        print(
            f"explain-cnn {name} needs the Python package {missing}: "
            f"call pip install '.{extra}' in a checkout of explain_cnn_ros",
            file=sys.stderr,
        )
        return None


if __name__ == "__main__":
    sys.exit(main())
