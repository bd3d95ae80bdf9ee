"""Serialized messages (CDR, little-endian), with any values in their fields, and with damaged bytes."""

from __future__ import annotations

import struct
from typing import Any

from tools.fuzz.mutation import Mutation


class Cdr:
    """A writer of the fields of a message, one after another.

    Attributes:
        data: The serialized message.
    """

    def __init__(self) -> None:
        self.data = bytearray(b"\0\1\0\0")

    def number(self, code: str, value: Any) -> Cdr:
        """Write a number in the notation of `struct`, aligned by its size."""
        size = struct.calcsize(code)
        self.data += bytes(-(len(self.data) - 4) % size) + struct.pack(f"<{code}", value)
        return self

    def numbers(self, code: str, *values: Any) -> Cdr:
        """Write several numbers of one kind."""
        for value in values:
            self.number(code, value)
        return self

    def text(self, text: str | bytes, length: int | None = None) -> Cdr:
        """Write a text.

        Args:
            text: The text.
            length: The length that is written; None for the right one.
        """
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        self.number("I", len(content) + 1 if length is None else length)
        self.data += content + b"\0"
        return self

    def blob(self, content: bytes, length: int | None = None) -> Cdr:
        """Write bytes.

        Args:
            content: The bytes.
            length: The length that is written; None for the right one.
        """
        self.number("I", len(content) if length is None else length)
        self.data += content
        return self

    def header(self, mutation: Mutation, odd: float) -> Cdr:
        """Write a header.

        Args:
            mutation: The source of odd values.
            odd: Probability that the stamp is odd, and that the frame_id is.
        """
        stamp = (1_700_000_000, 5)
        if mutation.chance(odd):
            stamp = (mutation.number(32, 1_700_000_000), mutation.number(32, 10**9))
        self.numbers("I", *stamp)
        return self.text(mutation.text("camera") if mutation.chance(odd) else "camera")


def damaged(mutation: Mutation, data: bytes, chance: float = 0.25) -> bytes:
    """Return a serialized message, with changes of its bytes now and then."""
    return mutation.mutated(data) if mutation.chance(chance) else data
