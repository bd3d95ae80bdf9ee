"""Seeded mutations of bytes, texts and plain values. The same seed always gives the same input."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

#: Numbers at which sizes, lengths and counts go wrong.
EXTREMES = (
    0, 1, 2, 3, 7, 8, 255, 256, 1000, 4095, 4096, 32000, 32767, 32768, 60000, 65535, 65536, 2**20, 2**24, 2**30,
    2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31),
    -(2**63),
)  # fmt: skip

#: Numbers that are no sizes or times.
FLOATS = (0.0, -0.0, 1e-320, 1e-30, 0.5, 1.0, -1.0, 1e8, 1e17, 1e30, 1e308, -1e308, float("nan"), float("inf"))

#: Texts that show something else than they say, that other programs interpret, or that have no UTF-8.
TEXTS = (
    "", " ", "\0", "a\0b", "\n", "\r\n", "\u202etxt.exe", "\u2066a\u2069", "\ufeff", "\ud800", "\x1b[31m", "é" * 50,
    "😀" * 20, "../../../etc/passwd", "/dev/zero", "C:\\con", "<script>alert(1)</script>", "</script>", "%s%n%d", "{0}",
    "=1+1", "nan", "inf", "-inf", "NaN", "null", "None", "true", "1e999", "-1e999999999", "0x10", "1_000", "٣",
    "9" * 400,
    "9" * 5000, "a" * 300, "a" * 5000, "[" * 2000, "{" * 2000, "<<", "*a", "&a", "!!python/object:os.system", "'", '"',
)  # fmt: skip

_STRUCTURES = {
    code: struct.Struct(code).pack for code in ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", ">f", "<d", ">d")
}
_BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}


class Mutation:
    """A source of seeded mutations.

    Args:
        seed: The seed.

    Attributes:
        random: The random numbers.
    """

    def __init__(self, seed: object) -> None:
        self.random = random.Random(str(seed))

    def chance(self, probability: float) -> bool:
        """Return whether something with a probability happens."""
        return self.random.random() < probability

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1; 0 if there is none."""
        return int(self.random.random() * limit) if limit > 0 else 0

    def one(self, choices: Sequence[Any]) -> Any:
        """Return one of several values."""
        return choices[self.below(len(choices))]

    def number(self, bits: int, near: int = 0) -> int:
        """Return an unsigned number: an extreme one, a neighbour of another one, or any.

        Args:
            bits: Number of its bits.
            near: The other number.
        """
        kind = self.below(4)
        if kind == 0:
            value = near + self.one((-2, -1, 1, 2, near, 255))
        elif kind == 1:
            value = self.random.getrandbits(bits)
        else:
            value = self.one(EXTREMES)
        return value & ((1 << bits) - 1)

    def real(self) -> float:
        """Return a number that may not be finite."""
        if self.chance(0.6):
            return float(self.one(FLOATS))
        return self.random.uniform(-1e4, 1e4)

    def text(self, text: str = "") -> str:
        """Return an odd text, or a given one with a small change."""
        if not text or self.chance(0.5):
            return str(self.one(TEXTS))
        at, kind = self.below(len(text) + 1), self.below(4)
        if kind == 0:
            return text[:at] + str(self.one(TEXTS)) + text[at:]
        if kind == 1:
            return text[:at]
        if kind == 2:
            return text[:at] + text[at + 1 + self.below(3) :]
        return text[:at] + text[at : at + 20] * (2 + self.below(4)) + text[at:]

    def blob(self, size: int) -> bytes:
        """Return random bytes."""
        return self.random.randbytes(size)

    def mutated(self, data: bytes, others: Sequence[bytes] = (), most: int = 4) -> bytes:
        """Return bytes with one or a few changes.

        Args:
            data: The bytes.
            others: Other bytes of the same kind, from which pieces are taken.
            most: Maximum number of changes.
        """
        for _ in range(1 + self.below(most)):
            data = self.one(_CHANGES)(self, data, others)
        return data

    def value(self, value: Any) -> Any:
        """Return a copy of a plain value of JSON or YAML in which one part is changed, moved, repeated or missing."""
        value = copy.deepcopy(value)
        for _ in range(1 + self.below(3)):
            value = self._changed(value)
        return value

    def inner(self, value: Any) -> Any:
        """Return a changed copy of a value, or any other one."""
        found = self.value([value])
        return found[0] if isinstance(found, list) and found else self.odd_value()

    def odd_value(self) -> Any:
        """Return a plain value of any kind."""
        kind = self.below(12)
        if kind < 3:
            return self.one(EXTREMES)
        if kind < 5:
            return self.real()
        if kind < 8:
            return self.text()
        nested: Any = 0
        for _ in range(self.one((1, 5, 30, 100))):  # changes may nest it again, and `copy` is recursive
            nested = [nested]
        return (None, True, [], {}, nested, {"a": nested}, 10**400, ["a", 1, None], {"": ""})[self.below(9)]

    def _changed(self, value: Any) -> Any:
        places = list(_places(value))
        if not places or self.chance(0.03):
            return self.odd_value()
        container, key = self.one(places)
        kind = self.below(8)
        if kind == 0:
            del container[key]
        elif kind == 1:
            other_container, other_key = self.one(places)
            container[key] = copy.deepcopy(other_container[other_key])
        elif kind == 2 and isinstance(container, list):
            container[key:key] = [container[key]] * self.one((1, 3, 50))
        elif kind == 2:
            container[self.text(str(key))] = container.pop(key)
        elif kind == 3 and isinstance(container[key], str):
            container[key] = self.text(container[key])
        elif kind == 4 and isinstance(container[key], int | float):
            container[key] = self.one((*EXTREMES, *FLOATS))
        elif kind == 5:
            container[key] = [container[key]]
        elif kind == 6:
            container[key] = str(container[key])
        else:
            container[key] = self.odd_value()
        return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return all places in a nested value, each as its container and its key."""
    found: list[tuple[Any, Any]] = []
    waiting = [value] if isinstance(value, dict | list) else []
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


_Change = Callable[[Mutation, bytes, Sequence[bytes]], bytes]


def _flip(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _ in range(1 + mutation.below(3)):
        changed[mutation.below(len(changed))] ^= 1 << mutation.below(8)
    return bytes(changed)


def _set(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    at = mutation.below(len(data))
    return (
        data[:at] + bytes((mutation.one((0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0xD8, mutation.below(256))),)) + data[at + 1 :]
    )


def _set_number(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    code = mutation.one(tuple(_STRUCTURES))
    if code[1] in _BITS:
        number = _STRUCTURES[code](mutation.number(_BITS[code[1]]))
    else:
        value = mutation.real()
        number = _STRUCTURES[code](value if code[1] == "d" or abs(value) < 1e38 else float("inf"))
    # Heads hold the lengths, and they are at the beginning or at the end.
    where = mutation.below(3)
    limit = len(data) if where else min(len(data), 64)
    at = mutation.below(limit) if where < 2 else max(0, len(data) - 1 - mutation.below(min(len(data), 200)))
    return data[:at] + number + data[at + len(number) :]


def _cut(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: mutation.below(len(data) + 1)]


def _remove(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    at = mutation.below(len(data) + 1)
    return data[:at] + data[at + 1 + mutation.below(mutation.one((2, 8, 64, 4096))) :]


def _repeat(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    at, length = mutation.below(len(data) + 1), 1 + mutation.below(mutation.one((4, 32, 512)))
    piece = data[at : at + length]
    return data[:at] + piece * mutation.one((1, 2, 2, 8, 100)) + data[at:]


def _insert(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    at = mutation.below(len(data) + 1)
    piece = mutation.one((bytes(1 + mutation.below(64)), b"\xff" * (1 + mutation.below(16)), mutation.blob(8)))
    return bytes(data[:at] + piece + data[at:])


def _splice(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    other = mutation.one(others) if others else data
    at, begin = mutation.below(len(data) + 1), mutation.below(len(other) + 1)
    if mutation.chance(0.5):
        return bytes(data[:at] + other[begin:])
    length = 1 + mutation.below(64)
    return bytes(data[:at] + other[begin : begin + length] + data[at + length :])


def _move(mutation: Mutation, data: bytes, others: Sequence[bytes]) -> bytes:
    a, b, c = sorted(mutation.below(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


_CHANGES: tuple[_Change, ...] = (
    _flip, _flip, _set, _set, _set_number, _set_number, _set_number, _cut, _remove, _repeat, _insert, _splice, _move,
)  # fmt: skip
