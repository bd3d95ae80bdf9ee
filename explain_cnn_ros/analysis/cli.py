"""Analyses recordings after the run: every decision, explanations of the doubtful ones, and a report.

    ros2 run explain_cnn_ros analyze BAG... --output DIR

A BAG is a rosbag2 recording (MCAP or sqlite3, compressed or not), a folder of images, or a video. Writes report.html,
tables for pandas, polars and DuckDB (frames, neurons and patches as Parquet), and a recording of decisions and
explanations that opens beside the original. Ctrl-C ends with what there is; --resume goes on where it stopped.

Exit status: 0 all is well; 1 nothing could be analysed; 2 wrong arguments; 3 done, but something could not be read or
written (the report and the last lines say what); 130 interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explain_cnn_ros.analysis.engine import Encoder
from explain_cnn_ros.analysis.labels import read_labels
from explain_cnn_ros.analysis.run import AnalysisError, Job, Outcome, Progress, run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.importance import METRICS
from explain_cnn_ros.options import options
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.settings import PRESETS, ExplainSettings


class Bar(Progress):
    """A bar with rate and remaining time; lines where the output is no terminal."""

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
        print(f"analyze: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def make_encoder(classifier: PersonClassifier) -> Encoder | None:
    """Makes ROS messages, where ROS is."""
    try:
        from explain_cnn_ros.ros.encoding import MessageEncoder
    except ImportError:
        return None
    encoder: Encoder = MessageEncoder(classifier)
    return encoder


def parser() -> argparse.ArgumentParser:
    """The arguments; most are the fields of AnalysisSettings."""
    made = argparse.ArgumentParser(
        prog="analyze", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("inputs", metavar="BAG", nargs="+", type=Path, help="recordings")
    made.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder for the results")
    made.add_argument("--resume", action="store_true", help="go on with the analysis in DIR")
    made.add_argument(
        "--labels", metavar="CSV", type=Path, help="when there was a person: columns start, end, person[, source]"
    )
    made.add_argument(
        "--topics", metavar="TOPIC", nargs="+", default=(), help="image topics [the one with the most messages]"
    )
    made.add_argument("--weights", metavar="FILE", type=Path, help="of `train` [those that ship with the package]")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda ... [%(default)s]")
    made.add_argument(
        "--explain-at",
        metavar="S",
        nargs="+",
        type=float,
        default=(),
        help="explain the frames at these times, seconds from the start",
    )
    defaults, described = AnalysisSettings(), options(AnalysisSettings)
    for name, item in described.items():
        flag, default = "--" + name.replace("_", "-"), getattr(defaults, name)
        text = item.description.replace("%", "%%")
        if isinstance(default, bool):
            made.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        else:
            made.add_argument(
                flag, type=type(default), default=default, choices=item.choices or None, help=f"{text} [%(default)s]"
            )
    made.add_argument(
        "--person-height-min", type=int, default=ScanSettings().person_height_min, help="of scan, pixels [%(default)s]"
    )
    made.add_argument(
        "--preset", choices=tuple(PRESETS), default="stable", help="noise of the explanations [%(default)s]"
    )
    made.add_argument("--perturbations", type=int, help="in place of the preset's")
    made.add_argument("--metrics", nargs="+", choices=METRICS, default=METRICS, help="[all six]")
    made.add_argument("--layers", nargs="+", type=int, default=ExplainSettings().layers, help="[3 to 9]")
    made.add_argument(
        "--top-n", type=int, default=ExplainSettings().top_n, help="neurons of each layer and metric [%(default)s]"
    )
    made.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help="on a Ray cluster; without an address, on one that is started here",
    )
    made.add_argument(
        "--ray-workers", type=int, default=0, help="actors [one a GPU, else one for as many CPUs as threads]"
    )
    return made


def job_of(arguments: argparse.Namespace) -> Job:
    """What the arguments ask for; ValueError says what is wrong with them."""
    explain: dict[str, Any] = {
        "metrics": tuple(arguments.metrics),
        "layers": tuple(arguments.layers),
        "top_n": arguments.top_n,
    }
    if arguments.perturbations is not None:
        explain["perturbations"] = arguments.perturbations
    named = [f.name for f in dataclasses.fields(AnalysisSettings) if f.name not in ("scan", "explain")]
    values: dict[str, Any] = {}
    for name in named:
        value = getattr(arguments, name)
        values[name] = tuple(value) if isinstance(value, list) else value
    settings = AnalysisSettings(
        **values,
        scan=ScanSettings(person_height_min=arguments.person_height_min),
        explain=ExplainSettings.preset(arguments.preset, **explain),
    )
    labels = tuple(read_labels(arguments.labels)) if arguments.labels else ()
    return Job(tuple(arguments.inputs), arguments.output, settings, labels, arguments.weights, arguments.device)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    made = parser()
    arguments = made.parse_args(argv)
    try:
        job = job_of(arguments)
    except ValueError as error:
        made.error(str(error))
    distribute = None
    if arguments.ray is not None:
        from explain_cnn_ros.analysis.cluster import Ray

        distribute = Ray(arguments.ray, arguments.ray_workers, make_encoder)
    try:
        outcome = run(job, arguments.resume, Bar(), make_encoder, distribute)
    except AnalysisError as error:
        print(f"analyze: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("analyze: interrupted before there were results; --resume goes on", file=sys.stderr)
        return 130
    return conclude(job, outcome)


def conclude(job: Job, outcome: Outcome) -> int:
    """Say what came out; the exit status."""
    s = outcome.summary
    wrong = f"{s['wrong']} of {s['labelled']} wrong, " if s["labelled"] else ""
    found = f"{s['frames']} frames, {s['person']} with a person"
    print(f"{found}, {wrong}{s['doubtful']} doubtful, {s['explained']} explained")
    for problem in outcome.problems:
        print(f"analyze: {problem}", file=sys.stderr)
    print(f"results are in {job.output}: open {job.output / 'report.html'}")
    if outcome.interrupted:
        print("analyze: interrupted; --resume goes on where it stopped", file=sys.stderr)
        return 130
    if not s["frames"]:
        return 1
    return 3 if outcome.problems or not outcome.complete else 0


if __name__ == "__main__":
    sys.exit(main())
