"""The kinds of input, and how many of each a full run tries. The modules are imported where inputs are read only."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from tools.fuzz.kind import Kind


@dataclass(frozen=True)
class Entry:
    """A kind that a run can try.

    Attributes:
        group: The group in which it is shown.
        module: The module of this folder that has it.
        count: Number of inputs of a full run.
    """

    group: str
    module: str
    count: int


#: All kinds by name.
ENTRIES = {
    "image": Entry("messages", "messages", 350_000),
    "compressed": Entry("messages", "messages", 280_000),
    "picture": Entry("messages", "pictures", 150_000),
    "detections": Entry("messages", "messages", 120_000),
    "stream": Entry("messages", "graph", 40_000),
    "request": Entry("messages", "graph", 60_000),
    "mcap": Entry("recordings", "recordings", 20_000),
    "sqlite": Entry("recordings", "recordings", 10_000),
    "packed": Entry("recordings", "recordings", 6_000),
    "metadata": Entry("recordings", "metadata", 3_000),
    "file": Entry("recordings", "videos", 5_000),
    "weights": Entry("weights", "weights", 1_500),
    "checkpoint": Entry("weights", "weights", 20_000),
    "parameters": Entry("tables", "metadata", 3_000),
    "labels": Entry("tables", "tables", 40_000),
    "answers": Entry("tables", "tables", 10_000),
    "boxes": Entry("tables", "tables", 20_000),
    "annotations": Entry("tables", "tables", 20_000),
    "manifest": Entry("results", "tables", 2_000),
    "record": Entry("results", "tables", 10_000),
    "cache": Entry("results", "tables", 20_000),
    "page": Entry("results", "tables", 5_000),
    "parquet": Entry("results", "tables", 3_000),
}


def load(name: str) -> Kind:
    """Return a kind by its name."""
    module = importlib.import_module(f"tools.fuzz.{ENTRIES[name].module}")
    kinds: tuple[Kind, ...] = module.KINDS
    return next(kind for kind in kinds if kind.name == name)
