"""Writes the parts of the documentation that follow from declarations in the code.

    python tools/document.py [--check]

It writes config/explain.yaml, config/black_box.yaml and docs/parameters.md from the parameters of the node and of the
black box, and the lines about metrics in msg/ from the registry of metrics. With --check it changes nothing, and fails
if a file is out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explain_cnn_ros.explain.metrics import Metric, Reads, metric, metric_names
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS, Selects
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.files import replace_text
from explain_cnn_ros.options import Option
from explain_cnn_ros.ros.black_box.parameters import declared as declared_of_black_box
from explain_cnn_ros.ros.parameters import declared

ROOT = Path(__file__).resolve().parent.parent

#: Length of the lines.
WIDTH = 120

PARAMETERS_PAGE = """\
# Parameters of the node

`tools/document.py` writes this page from the declarations in the code. `config/explain.yaml` is the same list as a file
to copy and change. [node.md](node.md) describes the node.

A parameter that is marked as live can be changed while the node runs. The change applies from the next frame or
explanation. A value that is not allowed is refused, with the reason. `ros2 param describe` shows descriptions and
ranges. A parameter that is not marked as live is read-only: it is set at the start.

"""

METRICS_SECTION = """
## Metrics

`explain.metrics` and `overlay_metric` name metrics of this table, and metrics that other installed packages register
([extending.md](extending.md)). [explanation.md](explanation.md) defines them.

The sign of a signed score has a meaning. Influence is positive for neurons that argue for the person, and negative for
neurons that argue against it. A metric selects the neurons with the highest scores, those that argue most for the
decision (supporting), or those that argue most against it (opposing). Metrics that read perturbations are not available
if `explain.perturbations` is 0. Metrics that read gradients are then computed from the image alone.

"""

BLACK_BOX_SECTION = """
## Parameters of the black box

[field_test.md](field_test.md) describes the black box. `config/black_box.yaml` is the same list as a file.

"""

CONFIGURATION_HEAD = """\
# All parameters of the {name} with their defaults, written by tools/document.py. Copy this file, and delete the
# parameters that you do not change. Parameters that are marked as live can be changed while the node runs.
/**:
  ros__parameters:
"""


def own_metrics() -> list[Metric]:
    """Return the metrics of this package, without those of other packages that are installed."""
    found = [metric(name) for name in metric_names()]
    return [entry for entry in found if entry.function.__module__.partition(".")[0] == "explain_cnn_ros"]


# Parameters


def literal(value: Any) -> str:
    """Return a value in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(literal(member) for member in value) + "]"
    return '""' if value == "" else str(value)


def choices(option: Option) -> list[str]:
    """Return the choices of an option, without metrics of other packages."""
    foreign = set(metric_names()) - {entry.name for entry in own_metrics()}
    return [choice for choice in option.choices if choice not in foreign]


def allowed(default: Any, option: Option) -> str:
    """Return the range or the choices of an option in words; "" if any value is allowed."""
    if option.choices:
        names = ", ".join(choice or "empty" for choice in choices(option))
        return f"at least one of {names}" if isinstance(default, list) else names
    if option.minimum is not None and option.maximum is not None:
        each = "each " if isinstance(default, list) else ""
        return f"{each}{literal(_number(option.minimum))} to {literal(_number(option.maximum))}"
    return ""


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def configuration(name: str, parameters: dict[str, tuple[Any, Option]]) -> str:
    """Return the text of a parameter file.

    Args:
        name: Name of the node in the first line.
        parameters: Default and option of each parameter.
    """
    lines = []
    group = ""
    for parameter, (default, option) in parameters.items():
        prefix, _, leaf = parameter.rpartition(".")
        if prefix != group:
            lines.append(f"    {prefix}:")
            group = prefix
        indent = "      " if group else "    "
        about = option.description + ("" if option.read_only else " (live)")
        if text := allowed(default, option):
            about += f" [{text}]"
        lines += textwrap.wrap(about, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        lines.append(f"{indent}{leaf}: {literal(default)}")
    return CONFIGURATION_HEAD.format(name=name) + "\n".join(lines) + "\n"


def parameters_page() -> str:
    """Return the text of docs/parameters.md."""
    return (
        PARAMETERS_PAGE
        + parameters_table(declared())
        + METRICS_SECTION
        + "\n".join(metrics_table())
        + "\n"
        + BLACK_BOX_SECTION
        + parameters_table(declared_of_black_box())
    )


def parameters_table(parameters: dict[str, tuple[Any, Option]]) -> str:
    """Return a table of parameters.

    Args:
        parameters: Default and option of each parameter.
    """
    lines = ["| parameter | default | allowed | live | meaning |", "|---|---|---|---|---|"]
    for name, (default, option) in parameters.items():
        # A list of all choices says no more than "all".
        everything = isinstance(default, list) and choices(option) == default
        shown = "all" if everything else f"`{literal(default)}`"
        live = "" if option.read_only else "yes"
        lines.append(f"| `{name}` | {shown} | {allowed(default, option)} | {live} | {option.description} |")
    return "\n".join(lines) + "\n"


def metrics_table() -> list[str]:
    """Return the table of the metrics, with their meaning at the default settings."""
    lines = ["| metric | reads | signed | selects | selected neurons | source |", "|---|---|---|---|---|---|"]
    for entry in own_metrics():
        signed = "yes" if entry.signed else ""
        meaning = entry.caption(ExplainSettings())
        cells = (f"`{entry.name}`", entry.reads.meaning, signed, entry.selects.value, meaning, entry.source)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# Messages


#: Sentences about the neurons that a metric selects; "" for those with the highest scores.
SELECTING = {
    Selects.HIGHEST: "",
    Selects.SUPPORTING: " It selects the neurons that argue most for the decision.",
    Selects.OPPOSING: " It selects the neurons that argue most against the decision.",
}


def metric_constants() -> list[str]:
    """Return the METRIC_ constants of msg/LayerRanking.msg, each with its description, grouped by what they read."""
    lines: list[str] = []
    for reads in reversed(Reads):
        for entry in own_metrics():
            if entry.reads is reads:
                about = f"The metric {entry.name} reads {reads.meaning}.{SELECTING[entry.selects]}"
                lines += comment(f"{about} Source: {entry.source}.")
                lines.append(f'string METRIC_{entry.name.upper()} = "{entry.name}"')
    return lines


def compared_metrics() -> list[str]:
    """Return the sentence that names the metrics of Explanation.set_similarity."""
    return comment(f"The metrics are {' and '.join(SIMILARITY_METRICS)}.")


def comment(text: str) -> list[str]:
    """Wrap a text into lines of comment."""
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


#: Generated lines of message files: path, and title in the marker above the lines.
BLOCKS: dict[tuple[str, str], Callable[[], list[str]]] = {
    ("msg/LayerRanking.msg", "the metrics"): metric_constants,
    ("msg/Explanation.msg", "the metrics that are compared"): compared_metrics,
}

END = "# --- end of the generated lines"


def with_block(text: str, title: str, lines: list[str]) -> str:
    """Replace the generated lines with a title in a text.

    Raises:
        ValueError: The text does not have the markers exactly once.
    """
    begin = f"# --- generated by tools/document.py: {title}"
    pattern = re.compile(rf"^{re.escape(begin)}\n(?:.*\n)*?{re.escape(END)}\n", re.M)
    replaced, count = pattern.subn(lambda _: "\n".join([begin, *lines, END, ""]), text)
    if count != 1:
        raise ValueError(f"{count} places are marked by {begin!r} and {END!r}: expected one")
    return replaced


def documents() -> dict[Path, str]:
    """Return the text that each file should have."""
    texts = {
        ROOT / "config/explain.yaml": configuration("node", declared()),
        ROOT / "config/black_box.yaml": configuration("black box", declared_of_black_box()),
        ROOT / "docs/parameters.md": parameters_page(),
    }
    for (name, title), lines in BLOCKS.items():
        path = ROOT / name
        texts[path] = with_block(texts.get(path) or path.read_text(encoding="utf-8"), title, lines())
    return texts


def main() -> int:
    """Run the command; return 1 with --check if a file is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail if a file is out of date")
    check = parser.parse_args().check
    stale = [
        path for path, text in documents().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        print(f"out of date: {names}; run python tools/document.py", file=sys.stderr)
        return 1
    for path in stale:
        replace_text(path, documents()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
