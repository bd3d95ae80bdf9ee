"""The command `explain-cnn`: all commands that need no ROS, behind one name.

This is the one module that knows all rooms. It hands the encoder of ROS messages into the analysis if ROS is installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explain_cnn_ros import __version__

if TYPE_CHECKING:
    from explain_cnn_ros.analysis.engine import Encoder
    from explain_cnn_ros.scan.classifier import PersonClassifier


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
    "experiments": Command(
        "explain_cnn_ros.experiments.cli", "Run the paper's experiments, and more, on your data.", "experiments"
    ),
    "check-randomisation": Command(
        "explain_cnn_ros.experiments.check_randomisation",
        "Check whether explanations depend on what the network has learned.",
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
        The exit status of the command; 2 if there is no such command, 1 if it needs a package that is not installed.
    """
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
    command = COMMANDS[name]
    try:
        module: Any = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "explain_cnn_ros":
            raise
        extra = f"[{command.extra}]" if command.extra else ""
        print(
            f"explain-cnn {name} needs the Python package {missing}: pip install 'explain_cnn_ros{extra}'",
            file=sys.stderr,
        )
        return 1
    status: int = module.main(arguments, make_encoder) if name == "analyze" else module.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
