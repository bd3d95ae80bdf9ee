"""Lists the causes of the wrong decisions of an analysis, and names them.

    explain-cnn causes OUT [--name 1="lamp posts" --name 2=bicycles]

OUT is the output of `analyze` with labels. The causes are numbered as in the report. Names are stored in analysis.json,
and the report is written again with them. An empty name removes a name. Exit status: 0; 1 if there are no causes, or
something cannot be read or written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from explain_cnn_ros.analysis.causes.text import line_of
from explain_cnn_ros.analysis.finished import ResultsError, read_results
from explain_cnn_ros.analysis.manifest import MANIFEST, write_manifest
from explain_cnn_ros.analysis.pages import page_data, with_data
from explain_cnn_ros.analysis.report import NAME
from explain_cnn_ros.files import reason, replace_text, visible


def parser() -> argparse.ArgumentParser:
    """Create the parser."""
    result = argparse.ArgumentParser(
        prog="explain-cnn causes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("output", metavar="OUT", type=Path, help="Folder of an analysis.")
    result.add_argument("--name", metavar="NUMBER=NAME", action="append", default=[], help="Name a cause.")
    return result


def names_of(arguments: Sequence[str], count: int) -> dict[int, str]:
    """Return the names by the index of their cause, counted from 0.

    Args:
        arguments: Texts "NUMBER=NAME", where numbers count from 1.
        count: Number of causes.

    Raises:
        ValueError: A text has another form, or there is no such cause.
    """
    names = {}
    for text in arguments:
        number, equals, name = text.partition("=")
        if not equals or not (number.isascii() and number.isdecimal()):
            raise ValueError(f"--name {visible(text)}: it must be NUMBER=NAME, for instance 1=bicycles")
        if not 1 <= int(number) <= count:
            raise ValueError(f"--name {visible(text)}: there are causes 1 to {count}")
        names[int(number) - 1] = name.strip()
    return names


def run(output: Path, names: Sequence[str]) -> list[str]:
    """Name the causes of an analysis.

    Args:
        output: Folder of the analysis.
        names: Names, as texts "NUMBER=NAME".

    Returns:
        A line about each cause.

    Raises:
        ResultsError: There are no results of an analysis.
        ValueError: There are no causes, or a name does not fit.
        OSError: A file cannot be read or written.
    """
    manifest = read_results(output)
    causes = manifest.get("causes", {}).get("causes", [])
    if not causes and any(manifest.get("causes", {}).get("alone", {}).values()):
        raise ValueError(
            f"{output}: the wrong decisions have no common cause, because fewer than three of them resemble each other"
        )
    if not causes and manifest.get("summary", {}).get("wrong"):
        raise ValueError(
            f"{output}: the wrong decisions were not grouped, because the analysis is not complete, or because of "
            "--causes-windows, --silence-neurons or --target"
        )
    if not causes:
        raise ValueError(
            f"{output}: the analysis has no causes, because no decision is known to be wrong: analyse the recording "
            "with --labels"
        )
    chosen = names_of(names, len(causes))
    for index, name in chosen.items():
        causes[index]["name"] = name
    if chosen:
        page = output / NAME
        text = page.read_text(encoding="utf-8")
        data = page_data(text)
        data["manifest"]["causes"] = manifest["causes"]
        replace_text(page, with_data(text, data))
        write_manifest(output, manifest)
    return [line_of(number, cause) for number, cause in enumerate(causes, 1)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        Exit code: 0, or 1 after an error whose reason is printed.
    """
    arguments = parser().parse_args(argv)
    try:
        for line in run(arguments.output, arguments.name):
            print(visible(line))
    except OSError as error:
        print(f"causes: {visible(reason(error))}", file=sys.stderr)
        return 1
    except (ResultsError, ValueError, LookupError, TypeError) as error:
        known = isinstance(error, ResultsError | ValueError)
        cause = error if known else f"{arguments.output / MANIFEST} has causes of another form"
        print(f"causes: {visible(str(cause))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
