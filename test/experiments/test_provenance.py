"""The command that results name."""

from __future__ import annotations

from explain_cnn_ros.experiments.cli import parser
from explain_cnn_ros.experiments.provenance import command_line


def test_the_command_without_this_machines_folders() -> None:
    line = ["patches", "--data", "/home/me/inria", "--output", "/tmp/out", "--test", "60", "--preset", "paper"]
    assert command_line(parser().parse_args(line)) == "experiments patches --data inria --test 60"
    line = [
        "causal",
        "--data",
        "inria",
        "--output",
        "o",
        "--weights",
        "/a/one.safetensors",
        "--weights",
        "/b/two.safetensors",
    ]
    expected = "experiments causal --data inria --weights one.safetensors --weights two.safetensors"
    assert command_line(parser().parse_args(line)) == expected
    line = ["localization", "/home/me/a.png", "/home/me/street", "--frames", "3", "5", "--output", "/tmp/x.png"]
    assert command_line(parser().parse_args(line)) == "experiments localization a.png street --frames 3 5"
