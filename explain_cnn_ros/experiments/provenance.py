"""The provenance of results: each table and figure names its command, its data and its weights."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.files import json_text, replace_text


@dataclass(frozen=True)
class ResultProvenance:
    """The origin of a result.

    Attributes:
        command: The command, without folders of the machine.
        data: Hash of the windows, and their numbers.
        model: Hash of the weights, or a description of them.
    """

    command: str
    data: str
    model: str

    def __str__(self) -> str:
        return f"{self.command}\ndata {self.data}, weights {self.model}"


def command_line(arguments: argparse.Namespace) -> str:
    """Return the command of parsed arguments, without folders of the machine and without default values."""
    words = ["experiments", arguments.experiment]
    for action in arguments.parser._actions:
        value = getattr(arguments, action.dest, None)
        if value is None or value == action.default or action.dest in ("help", "output", "device"):
            continue
        values = [v.name if isinstance(v, Path) else str(v) for v in (value if isinstance(value, list) else [value])]
        if isinstance(action, argparse._AppendAction):
            words += [word for v in values for word in (action.option_strings[0], v)]
        else:
            words += [*action.option_strings[:1], *values]
    return " ".join(words)


def provenance_of(arguments: argparse.Namespace, examples: Sequence[Example], model: str) -> ResultProvenance:
    """Return the provenance of a command's results.

    Args:
        arguments: Parsed arguments of the command.
        examples: The windows that it used.
        model: Hash of the weights.
    """
    persons = sum(e.person for e in examples)
    data = f"{key_of(*examples)} ({persons} persons, {len(examples) - persons} backgrounds)"
    return ResultProvenance(command_line(arguments), data, model)


def as_json(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Convert rows of a table, which are dataclasses, to plain values."""
    return [dataclasses.asdict(row) for row in rows]


def write_tables(folder: Path, name: str, provenance: ResultProvenance, text: str, rows: Any) -> None:
    """Write a table as Markdown and as JSON, and print it with the names of the files.

    Args:
        folder: Folder of the files.
        name: Name of the files, without their suffixes.
        provenance: Provenance of the table.
        text: The table in Markdown.
        rows: The table as plain values.
    """
    replace_text(folder / f"{name}.md", text)
    record = dataclasses.asdict(provenance) | {"rows": rows}
    replace_text(folder / f"{name}.json", json_text(record, indent=1) + "\n")
    print(text)
    print(f"{provenance}\nthe tables are in {folder / name}.md and .json")
