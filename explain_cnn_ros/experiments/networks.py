"""Results over several trained networks: the mean and the range of each value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from explain_cnn_ros.experiments.bootstrap import Estimate

#: A row of a table: a dataclass.
Row = TypeVar("Row", bound=Any)


def across(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """Summarise the tables of several networks.

    Args:
        tables: A table for each network, which are dataclasses in the same order.

    Returns:
        The table of one network unchanged; of several, a table whose estimates are the mean over networks, with the
        smallest and the largest network in place of the confidence interval. Other numbers are means, or what the
        field's metadata "across" computes; flags are true if they are true for all networks.

    Raises:
        ValueError: The tables have different rows.
    """
    if len(tables) == 1:
        return list(tables[0])
    return [_across(rows) for rows in zip(*tables, strict=True)]


def _across(rows: Sequence[Row]) -> Row:
    values = {}
    for field in dataclasses.fields(rows[0]):
        of_field = [getattr(row, field.name) for row in rows]
        summarise = field.metadata.get("across")
        values[field.name] = summarise(of_field) if summarise else _value(of_field, field.name)
    return type(rows[0])(**values)


def _value(values: Sequence[Any], name: str) -> Any:
    first = values[0]
    if isinstance(first, Estimate):
        numbers = [value.value for value in values]
        if any(map(math.isnan, numbers)):
            return Estimate(math.nan, math.nan, math.nan)
        return Estimate(float(np.mean(numbers)), min(numbers), max(numbers))
    if isinstance(first, bool):
        return all(values)
    if isinstance(first, float):
        return float(np.mean(values))
    if any(value != first for value in values):
        raise ValueError(f"the networks have different rows: {name} is {', '.join(map(str, values))}")
    return first


def mean_matrix(matrices: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return the mean of the matrices of several networks."""
    found: list[list[float]] = np.mean(matrices, axis=0).tolist()
    return found
