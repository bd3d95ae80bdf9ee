"""Repairs a network by the wrong decisions of an analysis, and proves the effect.

    explain-cnn repair OUT --output DIR --inria INRIA --background PHOTOS [--silence 1 --silence 2] [--unseen OUT2]

OUT is the output of `analyze` with labels. The last third of each recording is held out. The network learns for some
minutes from the windows of the other part, wrong and right ones, beside the data that it was trained on. With
--silence, the neurons of a cause are silenced for good instead, which needs no data; each cure is proved by itself.
The neurons were found with the help of the held-out windows, so only --unseen can prove the benefit of silencing them.
DIR gets the weights (training.safetensors, silencing.safetensors), a page with the proof (repair.html), its numbers
(repair.json), and an analysis of the same recordings by the new weights, which `explain-cnn compare` compares with OUT.
A repair that was interrupted continues with the same command. With --page, only the page is written again, for instance
after `explain-cnn causes` has named the causes.

Exit status: 0 the repair fixes more than it breaks; 4 a cure breaks more than it fixes, or fixes nothing; 1 the repair
is not possible; 2 wrong arguments; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from explain_cnn_ros.analysis.cli import TerminalProgress
from explain_cnn_ros.analysis.finished import ResultsError
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.job import RepairJob
from explain_cnn_ros.analysis.repair.labelled import RepairError
from explain_cnn_ros.analysis.repair.page import PAGE, RECORD, read_record, write_page
from explain_cnn_ros.analysis.repair.record import record_of
from explain_cnn_ros.analysis.repair.repair import RepairResult, repair
from explain_cnn_ros.analysis.repair.text import duration, lines
from explain_cnn_ros.files import json_text, reason, replace_text, require_folder, visible

#: Exit status of a repair without a benefit.
NO_BENEFIT = 4


def parser() -> argparse.ArgumentParser:
    """Create the parser."""
    result = argparse.ArgumentParser(
        prog="explain-cnn repair", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = RepairJob(Path(), Path())
    result.add_argument("analysis", metavar="OUT", type=Path, help="Folder of the analysis.")
    result.add_argument("--output", metavar="DIR", type=Path, required=True, help="Folder for the results.")
    result.add_argument(
        "--weights", metavar="FILE", type=Path, help="Weights of the analysis [those that ship with the package]."
    )
    result.add_argument("--inria", type=Path, help="Folder of the old data, as for `train`; without it, no training.")
    result.add_argument("--background", type=Path, help="Folder of the old person-free photos.")
    result.add_argument(
        "--unseen",
        metavar="OUT2",
        type=Path,
        action="append",
        default=[],
        help="Analysis by the same weights, with labels, of recordings that take no part.",
    )
    result.add_argument(
        "--silence", metavar="NUMBER", type=int, action="append", default=[], help="Silence the neurons of a cause."
    )
    result.add_argument(
        "--damping",
        type=float,
        default=default.damping,
        help="Factor of the activations of silenced neurons, 0 to 1 [%(default)s].",
    )
    result.add_argument("--steps", type=int, default=default.steps, help="Steps of the training [%(default)s].")
    result.add_argument(
        "--own-share",
        type=float,
        default=default.own_share,
        help="Share of the windows of OUT among the persons, and among the backgrounds, of a batch [%(default)s].",
    )
    result.add_argument(
        "--trained-share",
        metavar="SHARE",
        type=float,
        help="Share of the trained weights in the result, 0 to 1; the rest are those before the training, so that less "
        "is forgotten [of 0.25, 0.5, 0.75 and 1, the one that repairs most without a loss on a part of the old data].",
    )
    result.add_argument(
        "--held-out",
        type=float,
        default=round(default.held_out, 3),
        help="Share of the wrong windows that is held out, the last ones of each recording [%(default)s].",
    )
    result.add_argument(
        "--again",
        action=argparse.BooleanOptionalAction,
        default=default.again,
        help="Analyse the recordings again by the new weights.",
    )
    result.add_argument("--seed", type=int, default=default.seed, help="Seed of the training, 0 or more [%(default)s].")
    result.add_argument("--device", default=default.device, help="auto, cpu, cuda and so on [%(default)s].")
    result.add_argument("--page", action="store_true", help=f"Only write {PAGE} again, from {RECORD} in DIR.")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        The exit status.
    """
    command = parser()
    given = command.parse_args(argv)
    for name, fine in (
        ("held-out", 0 < given.held_out < 1),
        ("damping", 0 <= given.damping <= 1),
        ("own-share", 0 < given.own_share <= 1),
        ("trained-share", given.trained_share is None or 0 < given.trained_share <= 1),
        ("steps", given.steps >= 1),
        ("seed", given.seed >= 0),
    ):
        if not fine:
            command.error(f"--{name} is out of range: see --help")
    values = vars(given) | {"unseen": tuple(given.unseen), "silence": tuple(given.silence)}
    page_only = values.pop("page")
    try:
        require_folder(given.output)
        if page_only:
            write_page(given.output, read_record(given.output), LabelledAnalysis(given.analysis))
            print(f"page: {visible(given.output / PAGE)}")
            return 0
        result = _repair(RepairJob(**values))
    except (RepairError, ResultsError, ValueError, RuntimeError, OSError) as error:
        print(f"repair: {visible(reason(error) if isinstance(error, OSError) else str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("repair: interrupted; start the same command again to continue", file=sys.stderr)
        return 130
    for cure in result.cures:
        for number, line in enumerate(lines(result, cure)):
            print(visible(line) if number == 0 else f"  {visible(line)}")
        print(f"  weights: {visible(cure.weights)}")
    print(duration(result.phases))
    print(f"page: {visible(given.output / PAGE)}")
    useless = any(cure.proof.harms or not cure.proof.fixed.count for cure in result.cures)
    return NO_BENEFIT if useless else 0


def _repair(job: RepairJob) -> RepairResult:
    """Run a repair, and write its record and its page."""
    result = repair(job, TerminalProgress(), _say)
    record = record_of(result)
    replace_text(job.output / RECORD, json_text(record, indent=1) + "\n")
    write_page(job.output, record, LabelledAnalysis(job.analysis))
    return result


def _say(text: str) -> None:
    print(f"repair: {visible(text)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
