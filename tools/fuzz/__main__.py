"""Feeds malformed input to the package: messages, recordings, weights, tables and files of results.

    python -m tools.fuzz [--minutes M] [--scale S] [--kinds NAME ...] [--seed N]
    python -m tools.fuzz --repeat FILE ...

Each input must be read, or refused by an error that its callers expect, within a second of processor time and 1 GiB of
memory. Anything else is a failure: another error, a wrong result, a text that misleads, a crash, a hang. The input of a
failure is stored in --output, with the command that repeats it. Inputs are seeded: the same seed and version give the
same inputs.

Exit status: 0 no failures; 1 failures; 2 wrong arguments; 130 interrupted, after the table of what was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.fuzz import registry
from tools.fuzz.kind import contents, keep
from tools.fuzz.runner import Run, run_all
from tools.fuzz.worker import Failure, Figures, Limits

#: Seconds between two lines of progress: on a terminal, and in a file.
PROGRESS, PROGRESS_IN_FILE = 1.0, 30.0

_COLUMNS = ("kind", "tried", "read", "refused", "failed", "slowest ms", "memory MiB", "per second")


def parser() -> argparse.ArgumentParser:
    """Create the parser."""
    result = argparse.ArgumentParser(
        prog="python -m tools.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--kinds", nargs="+", metavar="NAME", default=list(registry.ENTRIES), help="Kinds to try.")
    result.add_argument("--scale", type=float, default=1.0, help="Factor of the numbers of inputs [%(default)s].")
    result.add_argument("--count", type=int, help="Number of inputs of each kind, instead of those of a full run.")
    result.add_argument("--minutes", type=float, help="End after this time, with what was tried.")
    result.add_argument("--seed", type=int, default=1, help="Seed of the inputs [%(default)s].")
    result.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="Number of processes [%(default)s].")
    result.add_argument("--seconds-max", type=float, default=Limits().seconds, help="Limit of the processor time.")
    result.add_argument("--mib-max", type=float, default=Limits().mib, help="Limit of the memory, in MiB.")
    result.add_argument("--output", type=Path, default=Path("fuzz_output"), help="Folder for results [%(default)s].")
    result.add_argument("--repeat", nargs="+", metavar="FILE", type=Path, help="Read these stored inputs only.")
    return result


class Progress:
    """A line of progress on stderr."""

    def __init__(self, total: int) -> None:
        self._total, self._shown = total, time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __call__(self, run: Run) -> None:
        now = time.monotonic()
        if now - self._shown < (PROGRESS if self._terminal else PROGRESS_IN_FILE):
            return
        self._shown = now
        text = f"{run.tried:,} of {self._total:,} inputs, {run.failed} failures"
        print(f"\r{text} " if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the line."""
        if self._terminal:
            print(file=sys.stderr)


def table(figures: dict[str, Figures]) -> str:
    """Return the figures as a table, a line for each kind, each group and all."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    groups: dict[str, list[str]] = {}
    for name in figures:
        entry = registry.ENTRIES.get(name)
        groups.setdefault(entry.group if entry else "other", []).append(name)
    for group, names in groups.items():
        rows += [_row(name, figures[name]) for name in names]
        if len(names) > 1:
            rows.append(_row(f"all {group}", _sum(figures[name] for name in names)))
    rows.append(_row("all", _sum(figures.values())))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _sum(several: Any) -> Figures:
    total = Figures()
    for figures in several:
        total.add(figures)
    return total


def _row(name: str, figures: Figures) -> tuple[str, ...]:
    rate = figures.tried / figures.seconds if figures.seconds else 0.0
    return (
        name,
        f"{figures.tried:,}",
        f"{figures.read:,}",
        f"{figures.refused.total():,}",
        f"{figures.failed.total():,}",
        f"{figures.slowest[0] * 1000:,.0f}",
        f"{figures.memory[0]:,.0f}",
        f"{rate:,.0f}",
    )


def stored(run: Run, output: Path) -> list[dict[str, Any]]:
    """Store the inputs of failures, and return the failures as plain values."""
    found = []
    for name, figures in run.figures.items():
        for failure in figures.failures:
            data = failure.data or _input(name, run.seed, failure)
            path = keep(output / "failures", f"{name}-{run.seed}-{failure.number}", data)
            found.append(
                {
                    "kind": name,
                    "number": failure.number,
                    "text": failure.text,
                    "place": failure.place,
                    "count": figures.failed[failure.place],
                    "file": str(path),
                    "trace": failure.trace,
                }
            )
    return found


def _input(name: str, seed: int, failure: Failure) -> bytes:
    """Make the input of a process that has died; it is empty if the input cannot be made."""
    with contextlib.suppress(Exception):
        return registry.load(name).input(seed, failure.number)
    return b""


def plain(run: Run, failures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results as plain values for JSON."""
    return {
        "seed": run.seed,
        "limits": {"seconds": run.limits.seconds, "mib": run.limits.mib},
        "kinds": {
            name: {
                "tried": figures.tried,
                "read": figures.read,
                "refused": dict(figures.refused.most_common()),
                "failed": dict(figures.failed.most_common()),
                "slowest": {"seconds": round(figures.slowest[0], 4), "number": figures.slowest[1]},
                "memory": {"mib": round(figures.memory[0], 1), "number": figures.memory[1]},
                "seconds": round(figures.seconds, 3),
            }
            for name, figures in run.figures.items()
        },
        "failures": failures,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        The exit status.
    """
    command = parser()
    given = command.parse_args(argv)
    if unknown := [name for name in given.kinds if name not in registry.ENTRIES]:
        command.error(f"no kind {', '.join(unknown)}: the kinds are {', '.join(registry.ENTRIES)}")
    single: list[tuple[str, bytes]] = []
    counts = {name: given.count or max(1, round(registry.ENTRIES[name].count * given.scale)) for name in given.kinds}
    if given.repeat:
        for path in given.repeat:
            name = path.name.partition("-")[0]
            if name not in registry.ENTRIES:
                command.error(f"{path.name}: the name of an input begins with its kind and -")
            single.append((name, contents(path)))
        counts = dict(Counter(name for name, _ in single))
    given.output.mkdir(parents=True, exist_ok=True)
    stop = time.monotonic() + 60 * given.minutes if given.minutes else float("inf")
    run = Run(counts, given.seed, Limits(given.seconds_max, given.mib_max), max(1, given.jobs), stop)
    progress, status = Progress(sum(counts.values())), 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_all(run, registry.load, given.output, progress, single)
    except KeyboardInterrupt:
        status = 130
    progress.end()
    failures = stored(run, given.output)
    (given.output / "fuzz.json").write_text(json.dumps(plain(run, failures), indent=1) + "\n", encoding="utf-8")
    print(table(run.figures))
    for failure in failures:
        print(f"\n{failure['kind']} {failure['number']}: {failure['text']} ({failure['count']} at {failure['place']})")
        print(f"  python -m tools.fuzz --repeat {failure['file']}")
        if given.repeat and failure["trace"]:
            print(failure["trace"])
    return status or int(run.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
