"""The tables of the causal check in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from explain_cnn_ros.experiments import markdown
from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.causal import SELECTORS
from explain_cnn_ros.experiments.causal_tables import (
    CausalRow,
    CausalTables,
    Claim,
    ControlRow,
    LayerRow,
    PairedRow,
    SingleRow,
)
from explain_cnn_ros.experiments.layers import heading


def tables_markdown(found: CausalTables, compared_n: int) -> str:
    """Return all tables in Markdown, the claims first.

    Args:
        found: The tables.
        compared_n: Number of neurons of each layer in the comparisons.
    """
    sections = (
        ("Claims about influence", claims_markdown(found.claims)),
        ("Effect of silencing the top N of all layers", to_markdown(found.rows)),
        (f"Influence against each other selection, top {compared_n}, paired by window", paired_markdown(found.paired)),
        (f"Further baselines, top {compared_n}", controls_markdown(found.controls)),
        (
            f"The top {compared_n} of one layer silenced at a time: change, times random neurons'",
            layers_markdown(found.layers),
        ),
        (f"The top {compared_n} of each layer silenced one by one", singles_markdown(found.singles)),
        (
            f"Agreement of the top {compared_n}",
            "".join(f"{_title(kind)}\n\n{agreement_markdown(m)}\n" for kind, m in found.agreement.items()),
        ),
    )
    return "\n".join(f"### {title}\n\n{text}" for title, text in sections)


def claims_markdown(found: Sequence[Claim]) -> str:
    """Return the claims in Markdown."""
    lines = [
        [c.selector, c.claim, f"{c.minimum:g}", c.measured, "holds" if c.holds else "does not hold"] for c in found
    ]
    return markdown.table(("neurons by", "claim", "at least", "measured", "verdict"), lines)


def to_markdown(table: Sequence[CausalRow]) -> str:
    """Return the rows in Markdown, a table for each kind of windows."""
    header = ["neurons by", "top N", "change of the output", "times random neurons'", "predicted direction"]
    header += ["random neurons'", "against the content", "random neurons'", "decisions that flip", "random neurons'"]
    return _by_kind(table, [*header, "another seed"], _cells)


def _cells(row: CausalRow) -> list[object]:
    shares = [_percent(m) for m in (row.direction, row.direction_random, row.flips, row.flips_random)]
    seed = "—" if math.isnan(row.other_seed.value) else f"{row.other_seed.value:.2f}"
    against = [row.against, row.against_random]
    return [row.selector, row.top_n, row.influence, row.times_random, *shares[:2], *against, *shares[2:], seed]


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.0f} %"


def controls_markdown(table: Sequence[ControlRow]) -> str:
    """Return the further baselines in Markdown, a table for each kind of windows."""
    header = ["neurons by", "times random neurons'", "times equally active neurons'", "mean ablation: change"]
    return _by_kind(
        table,
        [*header, "mean ablation: times random neurons'", "mean ablation: decisions that flip"],
        lambda r: [
            r.selector,
            r.times_random,
            r.times_matched,
            r.mean_change,
            r.mean_times_random,
            _percent(r.mean_flips),
        ],
    )


def layers_markdown(table: Sequence[LayerRow]) -> str:
    """Return the effect of single layers in Markdown, a table for each kind of windows and a column for each layer."""
    text = ""
    for kind in dict.fromkeys(row.kind for row in table):
        rows = [row for row in table if row.kind == kind]
        layers = {row.layer: row.name for row in rows}
        by_key = {(row.selector, row.layer): row.times_random for row in rows}
        lines = [[name, *(by_key[name, layer] for layer in layers)] for name in dict.fromkeys(r.selector for r in rows)]
        header = ["neurons by", *(heading(number, name) for number, name in layers.items())]
        text += f"{_title(kind)}\n\n{markdown.table(header, lines)}\n"
    return text


def singles_markdown(table: Sequence[SingleRow]) -> str:
    """Return the effect of single neurons in Markdown, a table for each kind of windows."""
    return _by_kind(
        table,
        ["neurons by", "predicted direction", "change of the output"],
        lambda r: [r.selector, r.direction.percent, f"{r.change.value:.3f}"],
    )


def paired_markdown(table: Sequence[PairedRow]) -> str:
    """Return the paired comparisons in Markdown, a table for each kind of windows."""
    return _by_kind(
        table,
        ["influence against", "difference of the changes", "influence's is larger", "p"],
        lambda r: [r.selector, r.difference, r.larger.percent, "< 0.001" if r.p < 0.001 else f"{r.p:.3f}"],
    )


def _by_kind(table: Sequence[Any], header: Sequence[str], cells: Callable[[Any], Sequence[object]]) -> str:
    text = ""
    for kind in dict.fromkeys(row.kind for row in table):
        text += f"{_title(kind)}\n\n{markdown.table(header, [cells(r) for r in table if r.kind == kind])}\n"
    return text


def _title(kind: str) -> str:
    return f"#### {kind[0].upper()}{kind[1:]}"


def agreement_markdown(matrix: Sequence[Sequence[float]]) -> str:
    """Return the matrix of `agreement` in Markdown, a row and a column for each of SELECTORS."""
    lines = [
        [f"{i} {name}", *(f"{value:.2f}" for value in values)]
        for i, (name, values) in enumerate(zip(SELECTORS, matrix, strict=True), 1)
    ]
    return markdown.table(["", *map(str, range(1, len(SELECTORS) + 1))], lines)
