"""Writes config/explain.yaml and the parameter table of the README from the node's declarations.

    python tools/document_parameters.py [--check]

--check changes nothing, and fails when a file is out of date.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

from explain_cnn_ros.options import Option
from explain_cnn_ros.ros.parameters import declared

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config/explain.yaml"
README = ROOT / "README.md"
BEGIN, END = "<!-- parameters: made by tools/document_parameters.py -->", "<!-- end of parameters -->"


def literal(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(literal(member) for member in value) + "]"
    return '""' if value == "" else str(value)


def allowed(default: Any, option: Option) -> str:
    """The range or the choices, in words."""
    if option.choices:
        return ("some of " if isinstance(default, list) else "") + ", ".join(
            choice or "empty" for choice in option.choices
        )
    if option.minimum is not None and option.maximum is not None:
        return f"{literal(_number(option.minimum))} to {literal(_number(option.maximum))}"
    return ""


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def yaml_text() -> str:
    """config/explain.yaml: every parameter with its default."""
    lines = [
        "# Every parameter of the node, with its default. Made by tools/document_parameters.py. Copy it, and keep what",
        "# you change. What is marked (live) may be changed while the node runs.",
        "/**:",
        "  ros__parameters:",
    ]
    group = ""
    for name, (default, option) in declared().items():
        prefix, _, leaf = name.rpartition(".")
        if prefix != group:
            lines.append(f"    {prefix}:")
            group = prefix
        indent = "      " if group else "    "
        about = option.description + ("" if option.read_only else " (live)")
        if text := allowed(default, option):
            about += f" [{text}]"
        lines += textwrap.wrap(about, 116 - len(indent), initial_indent=indent + "# ", subsequent_indent=indent + "# ")
        lines.append(f"{indent}{leaf}: {literal(default)}")
    return "\n".join(lines) + "\n"


def table() -> str:
    """The README's table."""
    lines = ["| parameter | default | allowed | live | meaning |", "|---|---|---|---|---|"]
    for name, (default, option) in declared().items():
        # A list of all choices says no more than "all".
        everything = isinstance(default, list) and list(option.choices) == default
        shown = "all" if everything else f"`{literal(default)}`"
        live = "" if option.read_only else "yes"
        lines.append(f"| `{name}` | {shown} | {allowed(default, option)} | {live} | {option.description} |")
    return "\n".join(lines)


def readme_text() -> str:
    """The README with its table renewed."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for path, wanted in ((CONFIG, yaml_text()), (README, readme_text())):
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(path.name)
            if not check:
                path.write_text(wanted, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run python tools/document_parameters.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
