"""How far an experiment has come."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

#: Called with what is done, how far, and of how many.
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, of: int) -> None:
    """For those who do not want to know."""


class Bar:
    """A bar for each step, in the terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._step = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, step: str, done: int, of: int) -> None:
        if step != self._step or self._bar is None:
            self.__exit__()
            self._bar, self._step = tqdm(total=of, desc=step, mininterval=1 if sys.stderr.isatty() else 30), step
        self._bar.update(done - self._bar.n)
