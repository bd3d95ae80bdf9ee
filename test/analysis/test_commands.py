"""The commands that a page suggests are commands of the same analysis."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from explain_cnn_ros.analysis.cli import job_of, parser
from explain_cnn_ros.analysis.commands import suggestions
from explain_cnn_ros.analysis.job import Job
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS


def job(*arguments: str) -> Job:
    return job_of(parser().parse_args(["my walk", "other.mcap", "--output", "out", *arguments]))


def job_of_command(command: str) -> tuple[Job, Any]:
    """Parse a command, as a shell would."""
    words = shlex.split(command)
    assert words[:2] == ["explain-cnn", "analyze"]
    arguments = parser().parse_args(words[2:])
    # The file with the labels is not there.
    labels, arguments.labels = arguments.labels, None
    return job_of(arguments), (labels, arguments.resume)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--preset", "paper"),
        ("--preset", "live", "--layers", "5", "7"),
        ("--layer-names", "conv4_*,conv2_1", "--target", "background"),
        ("--preset", "live", "--top-n", "5"),
        ("--preset", "stable_fine", "--perturbations", "28", "--top-n", "3"),
        ("--metrics", "influence", "weight_sum", "--no-explain-wrong", "--explain-all"),
        ("--regions", "whole"),
        ("--regions", "scan", "--person-height-min", "70", "--start", "2.5", "--end", "9", "--topics", "/a", "/b"),
        ("--no-proposer", "--no-refine", "--scale-step", "1.5", "--candidates-max", "9", "--overlap-max", "0.3"),
        ("--weights", "my weights.safetensors", "--device", "cpu", "--threads", "2", "--explain-at", "3.5", "7.25"),
    ],
)
def test_commands_repeat_the_analysis(arguments: tuple[str, ...]) -> None:
    mine = job(*arguments)
    found = suggestions(mine)
    same, (labels, resume) = job_of_command(found["resume"])
    assert same == mine
    assert labels is None
    assert resume
    with_labels, (labels, resume) = job_of_command(found["labels"])
    assert with_labels.settings == mine.settings
    assert (with_labels.inputs, with_labels.weights, with_labels.device) == (mine.inputs, mine.weights, mine.device)
    assert (labels, with_labels.output, resume) == (Path("labels.csv"), Path("out_2"), False)


def test_what_is_missing_is_in_the_command() -> None:
    explained, _ = job_of_command(suggestions(job())["explain"])
    assert explained.settings.explain_every == 5
    explained, _ = job_of_command(suggestions(job("--explain-every", "0"))["explain"])
    assert explained.settings.explain_every == 5
    influence, _ = job_of_command(suggestions(job("--preset", "paper"))["influence"])
    assert influence.settings.explain.metrics == DEFAULT_METRICS
    every, _ = job_of_command(suggestions(job("--start", "5", "--end", "6", "--topics", "/a"))["all"])
    assert (every.settings.start, every.settings.end, every.settings.topics) == (0, 0, ())
