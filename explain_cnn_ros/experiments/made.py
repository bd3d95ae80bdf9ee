"""Where results come from, and how they are written: each says its command, data and weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.kept import key_of
from explain_cnn_ros.files import replace_text


@dataclass(frozen=True)
class Made:
    """Where a result comes from.

    data, model: hashes, with words.
    """

    command: str
    data: str
    model: str

    def __str__(self) -> str:
        return f"{self.command}\ndata {self.data}, weights {self.model}"


def command_line(arguments: argparse.Namespace) -> str:
    """The command as it was given, without this machine's folders and without what is the default."""
    words = ["experiments", arguments.experiment]
    for action in arguments.parser._actions:
        value = getattr(arguments, action.dest, None)
        if value is None or value == action.default or action.dest in ("help", "output", "device"):
            continue
        values = value if isinstance(value, list) else [value]
        words += [*action.option_strings[:1], *(v.name if isinstance(v, Path) else str(v) for v in values)]
    return " ".join(words)


def made_of(arguments: argparse.Namespace, examples: Sequence[Example], model: str) -> Made:
    """What a command with these arguments makes of examples."""
    persons = sum(e.person for e in examples)
    data = f"{key_of(*examples)} ({persons} persons, {len(examples) - persons} backgrounds)"
    return Made(command_line(arguments), data, model)


def as_json(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows of a table, which are dataclasses, as plain values."""
    return [dataclasses.asdict(row) for row in rows]


def write(folder: Path, name: str, made: Made, text: str, rows: Any) -> None:
    """The tables for people and for programs, and a word of where they are."""
    replace_text(folder / f"{name}.md", text)
    record = dataclasses.asdict(made) | {"rows": rows}
    replace_text(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
    print(text)
    print(f"{made}\nthe tables are in {folder / name}.md and .json")
