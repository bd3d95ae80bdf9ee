"""Analyses recordings after the run: every decision, explanations of the doubtful ones, and a report.

    explain-cnn analyze BAG... --output DIR

A BAG is a rosbag2 recording (MCAP or sqlite3, compressed or not), a folder of images, or a video. Each image is
searched for persons. If the images are windows that one person fills, use --regions whole. Writes report.html,
tables for pandas, polars and DuckDB (frames, neurons and patches as Parquet), and a recording of decisions and
explanations that opens beside the original. Ctrl-C ends the analysis and writes the results of the frames that were
analysed until then; --resume continues it. A second Ctrl-C ends it at once.

Exit status: 0 all is well; 1 nothing could be analysed; 2 wrong arguments; 3 something could not be read or written
(the report and the last lines name it); 130 interrupted; 143 ended by SIGTERM.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explain_cnn_ros.analysis.causes.text import line_of
from explain_cnn_ros.analysis.commands import DEFAULT_PRESET
from explain_cnn_ros.analysis.job import (
    AnalysisError,
    Distribute,
    EncoderFactory,
    Job,
    Outcome,
    ProgressReporter,
    no_encoder,
)
from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.report import NAME
from explain_cnn_ros.analysis.run import run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.analysis.silencing import effect_lines
from explain_cnn_ros.bags.recording_folder import recordings_in
from explain_cnn_ros.explain.metrics import metric_names
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.files import visible
from explain_cnn_ros.options import Option, options
from explain_cnn_ros.scan.scanning import ScanSettings

#: Maximum number of causes of wrong decisions that are printed.
CAUSES = 3


class TerminalProgress(ProgressReporter):
    """A bar with rate and remaining time; lines if the output is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._explained = 0

    def begin(self, total: int, done: int) -> None:
        self._bar = tqdm(
            total=max(total, done) or None, initial=done, unit="frame", mininterval=1 if sys.stderr.isatty() else 10
        )

    def advance(self, frames: int, explained: int) -> None:
        self._explained += explained
        self._bar.set_postfix_str(f"{self._explained} explained", refresh=False)
        self._bar.update(frames)

    def say(self, text: str) -> None:
        print(f"analyze: {visible(text)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def parser() -> argparse.ArgumentParser:
    """Create the parser. Most arguments are fields of AnalysisSettings and of ScanSettings."""
    result = argparse.ArgumentParser(
        prog="explain-cnn analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "inputs",
        metavar="BAG",
        nargs="+",
        type=Path,
        help="Recordings, folders of images, videos, the folder of a black box.",
    )
    result.add_argument("--output", metavar="DIR", type=Path, required=True, help="Folder for the results.")
    result.add_argument("--resume", action="store_true", help="Continue the analysis in DIR.")
    result.add_argument(
        "--labels",
        metavar="CSV",
        type=Path,
        help="Times at which there was a person, or none; columns start, end, person[, source].",
    )
    result.add_argument(
        "--topics",
        metavar="TOPIC",
        nargs="+",
        default=(),
        help="Image topics [colour before grey before depth, then the one with the most messages].",
    )
    result.add_argument("--weights", metavar="FILE", type=Path, help="Weights [those that ship with the package].")
    result.add_argument("--device", default="auto", help="auto, cpu, cuda and so on [%(default)s].")
    result.add_argument(
        "--explain-at",
        metavar="S",
        nargs="+",
        type=float,
        default=(),
        help="Explain the frames at these times, in seconds from the start of the recording.",
    )
    for settings in (AnalysisSettings(), ScanSettings()):
        for name, declared in options(settings).items():
            _add_option(result, name, declared, getattr(settings, name))
    _add_explanation(result)
    _add_ray(result)
    return result


def _add_option(result: argparse.ArgumentParser, name: str, declared: Option, default: Any) -> None:
    """Add an argument for a field of a settings class, with its default value."""
    flag = "--" + name.replace("_", "-")
    text = declared.description.replace("%", "%%")
    if isinstance(default, bool):
        result.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
    else:
        choices = declared.choices or None
        text += " [%(default)s]" if default != "" else ""
        result.add_argument(flag, type=type(default), default=default, choices=choices, help=text)


def _add_explanation(result: argparse.ArgumentParser) -> None:
    described = options(ExplainSettings)
    result.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default=DEFAULT_PRESET,
        help="Noise and metrics of the explanations: stable and stable_fine have repeatable noise and all metrics; "
        "paper and authors have the paper's six metrics; live has influence of the image alone [%(default)s].",
    )
    result.add_argument("--perturbations", type=int, help="Number of perturbed copies of the image [of the preset].")
    result.add_argument(
        "--metrics",
        nargs="+",
        choices=metric_names(),
        help=f"{described['metrics'].description} [those of the preset]",
    )
    result.add_argument(
        "--layers", nargs="+", type=int, default=ExplainSettings().layers, help=described["layers"].description
    )
    for name in ("layer_names", "target"):
        result.add_argument(f"--{name.replace('_', '-')}", default="", help=described[name].description)
    result.add_argument("--top-n", type=int, help=f"{described['top_n'].description} [that of the preset]")


def _add_ray(result: argparse.ArgumentParser) -> None:
    result.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help="Use the Ray cluster at this address; without an address, start one on this machine.",
    )
    result.add_argument(
        "--ray-workers",
        type=int,
        default=0,
        help="Number of Ray actors [one for each GPU, else one for as many CPUs as threads].",
    )


def job_of(arguments: argparse.Namespace) -> Job:
    """Return the job that the arguments describe.

    Raises:
        ValueError: An argument is out of range; the message names it and what is expected.
    """
    explain: dict[str, Any] = {"layers": tuple(arguments.layers)}
    explain |= {name: getattr(arguments, name) for name in ("layer_names", "target")}
    if arguments.metrics is not None:
        explain["metrics"] = tuple(arguments.metrics)
    for name in ("perturbations", "top_n"):
        if (value := getattr(arguments, name)) is not None:
            explain[name] = value
    names = [f.name for f in dataclasses.fields(AnalysisSettings) if f.name not in ("scan", "explain")]
    values: dict[str, Any] = {}
    for name in names:
        value = getattr(arguments, name)
        values[name] = tuple(value) if isinstance(value, list) else value
    settings = AnalysisSettings(
        **values,
        scan=ScanSettings(**{name: getattr(arguments, name) for name in options(ScanSettings)}),
        explain=ExplainSettings.preset(arguments.preset, **explain),
    )
    labels = tuple(read_labels(arguments.labels)) if arguments.labels else ()
    inputs = [recording for path in arguments.inputs for recording in recordings_in(path)]
    return Job(distinct(inputs), arguments.output, settings, labels, arguments.weights, arguments.device)


def distinct(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths in their order. A recording that several paths lead to is returned once.

    Frames are known by their recording and their number.
    """
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(os.path.realpath(path), path)
    return tuple(found.values())


def main(argv: Sequence[str] | None = None, make_encoder: EncoderFactory = no_encoder) -> int:
    """Run the command.

    Args:
        argv: The arguments; None for those of the process.
        make_encoder: Creates the encoder of the results as ROS messages. With --ray, it must be a function that can be
            imported.

    Returns:
        The exit status.
    """
    command = parser()
    arguments = command.parse_args(argv)
    try:
        job = job_of(arguments)
    except ValueError as error:
        command.error(visible(str(error)))
    times = Counter(os.path.realpath(path) for path in arguments.inputs)
    for path in job.inputs:
        if (count := times[os.path.realpath(path)]) > 1:
            print(f"analyze: {visible(path)} is given {count} times: it is analysed once", file=sys.stderr)
    distribute: Distribute | None = None
    if arguments.ray is not None:
        from explain_cnn_ros.analysis.cluster import Ray

        distribute = Ray(arguments.ray, arguments.ray_workers, make_encoder)
    try:
        outcome = run(job, arguments.resume, TerminalProgress(), make_encoder, distribute)
    except AnalysisError as error:
        print(f"analyze: {visible(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("analyze: interrupted before the results were written; --resume continues", file=sys.stderr)
        return 130
    return conclude(job, outcome)


def conclude(job: Job, outcome: Outcome) -> int:
    """Print the outcome of a job, and return the exit status."""
    s = Counter[str](outcome.summary)
    wrong = f"{s['wrong']} of {s['labelled']} wrong, " if s["labelled"] else ""
    found = f"{s['frames']} frames, {s['person']} with a person"
    print(f"{found}, {wrong}{s['doubtful']} doubtful, {s['explained']} explained")
    if s["labelled_regions"] > s["labelled"]:
        print(f"{s['wrong_regions']} of {s['labelled_regions']} labelled regions wrong")
    for line in effect_lines(outcome.effects):
        print(line)
    for number, cause in enumerate(outcome.causes.get("causes", [])[:CAUSES], 1):
        print(line_of(number, cause))
    for problem in outcome.problems:
        print(f"analyze: {visible(problem)}", file=sys.stderr)
    if outcome.reported:
        print(f"results are in {visible(job.output)}: open {visible(job.output / NAME)}")
    else:
        print(f"analyze: no report was written; what was analysed is in {visible(job.parts)}", file=sys.stderr)
    if outcome.interrupted:
        print("analyze: interrupted; --resume continues where it stopped", file=sys.stderr)
        return 130
    if not outcome.complete:
        print("analyze: the analysis is not complete; --resume continues it when its inputs are there", file=sys.stderr)
    if not s["frames"]:
        return 1
    return 3 if outcome.problems or not outcome.complete else 0


if __name__ == "__main__":
    sys.exit(main())
