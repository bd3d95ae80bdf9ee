"""The command that results name."""

from __future__ import annotations

from explain_cnn_ros.experiments.cli import parser
from explain_cnn_ros.experiments.provenance import command_line


def test_the_command_without_this_machines_folders() -> None:
    line = ["patches", "--data", "/home/me/inria", "--output", "/tmp/out", "--test", "60", "--preset", "paper"]
    assert command_line(parser().parse_args(line)) == "experiments patches --data inria --test 60"
    line = ["localization", "/home/me/a.png", "/home/me/street", "--frames", "3", "5", "--output", "/tmp/x.png"]
    assert command_line(parser().parse_args(line)) == "experiments localization a.png street --frames 3 5"
