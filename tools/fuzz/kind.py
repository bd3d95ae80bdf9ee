"""A kind of input: its seeds, its mutations, the code of the package that reads it, and what is expected of that."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from explain_cnn_ros.files import MISLEADING
from tools.fuzz.mutation import Mutation

#: Maximum length of a text about an input. A robot's log and a report have to show it.
TEXT_MAX = 2000

#: First bytes of a file of gzip, as which large inputs are kept.
_GZIP = b"\x1f\x8b\x08"

#: Folder with inputs that once failed. Their names begin with the name of their kind.
CORPUS = Path(__file__).resolve().parents[2] / "test" / "fuzz_corpus"


class FaultError(AssertionError):
    """An input was neither read nor refused as it should be."""


def require(fine: bool, text: str) -> None:
    """Check a result.

    Raises:
        FaultError: It is not fine.
    """
    if not fine:
        raise FaultError(text)


def refused(error: BaseException, reserves: bool = False) -> str:
    """Return a short name of a refusal, and check its text.

    Args:
        error: The error of the refusal.
        reserves: Whether a library may reserve memory in vain, without writing to it.

    Raises:
        FaultError: The text is too long or misleading, or memory was taken before the input was refused.
    """
    check_text(str(error))
    cause: BaseException | None = error
    while cause is not None:
        out_of_memory = isinstance(cause, MemoryError) or "Insufficient memory" in str(cause)
        require(reserves or not out_of_memory, f"memory was taken before the input was refused: {cause}")
        cause = cause.__cause__ or cause.__context__
    return str(getattr(error, "reason", "")) or type(error).__name__


def check_text(text: str) -> None:
    """Check a text about an input, as it is shown in logs and reports.

    Raises:
        FaultError: It is too long, or has characters that do not show what it says.
    """
    require(len(text) <= TEXT_MAX, f"a text of {len(text):,} characters: {text[:100]!r} ...")
    found = MISLEADING.search(text)
    require(found is None, f"a text with misleading characters: {text[:200]!r}")


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        name: Its name.
        valid: Returns inputs that must be read.
        read: Reads an input by the code of the package, in an empty folder. It returns "" if the input was read, and
            the name of the refusal otherwise. Every exception is a fault.
        mutate: Returns a changed input, from the inputs of `valid`, `hostile` and the corpus.
        hostile: Returns further inputs, which were built to do harm.
    """

    name: str
    valid: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], str]
    mutate: Callable[[Mutation, Sequence[bytes]], bytes]
    hostile: Callable[[], Sequence[bytes]] = tuple

    @cached_property
    def kept(self) -> dict[str, bytes]:
        """Inputs in the corpus, by the names of their files."""
        return {path.name: contents(path) for path in sorted(CORPUS.glob(f"{self.name}-*"))}

    @cached_property
    def seeds(self) -> tuple[bytes, ...]:
        """All inputs that are not mutated. Those that must be read come first."""
        return (*self._valid, *self.hostile(), *self.kept.values())

    @cached_property
    def _valid(self) -> tuple[bytes, ...]:
        return tuple(self.valid())

    @property
    def valid_count(self) -> int:
        """Number of seeds that must be read."""
        return len(self._valid)

    def input(self, seed: int, number: int) -> bytes:
        """Return an input: one of the seeds, or a mutated one.

        Args:
            seed: Seed of the run.
            number: Number of the input.
        """
        if number < len(self.seeds):
            return self.seeds[number]
        return self.mutate(Mutation(f"{seed}:{self.name}:{number}"), self.seeds)


def mutate_bytes(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds with changes of its bytes."""
    return mutation.mutated(mutation.one(seeds), seeds)


def contents(path: Path) -> bytes:
    """Return the input in a file, which may be compressed."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" and data.startswith(_GZIP) else data


def keep(folder: Path, name: str, data: bytes) -> Path:
    """Write an input into a folder, compressed if it is large, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if len(data) > 4096:
        path, data = folder / f"{name}.gz", gzip.compress(data, mtime=0)
    path.write_bytes(data)
    return path
