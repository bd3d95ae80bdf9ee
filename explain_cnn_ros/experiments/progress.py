"""Reports of an experiment's progress."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

#: Called with the name of a step, the number of items that are done, and the number of all items.
ProgressCallback = Callable[[str, int, int], None]


def no_progress(step: str, done: int, total: int) -> None:
    """Report nothing."""


class ProgressBar:
    """A `ProgressCallback` that shows a bar for each step in the terminal. Use it in a `with` block."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._step = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show the progress of a step.

        Args:
            step: Name of the step. Another name begins another bar.
            done: Number of items that are done.
            total: Number of all items.
        """
        if step != self._step or self._bar is None:
            self.__exit__()
            self._bar, self._step = tqdm(total=total, desc=step, mininterval=1 if sys.stderr.isatty() else 30), step
        self._bar.update(done - self._bar.n)
