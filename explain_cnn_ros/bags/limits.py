"""Maximum sizes of images, chunks and files: a few bytes can declare or unpack to more than a machine has."""

from __future__ import annotations

from dataclasses import dataclass

MIB, GIB = 1024**2, 1024**3

#: Unpacked data of more than SMALL bytes may be at most RATIO times as large as the packed data.
SMALL, RATIO = 64 * MIB, 2000


class LimitError(ValueError):
    """Something is larger than its limit. The message names the size, the limit and the option that raises it."""


@dataclass(frozen=True)
class Limits:
    """Maximum sizes.

    Attributes:
        megapixels: Pixels of an image, in millions.
        unpacked_mib: Bytes of one chunk or message when it is unpacked, in MiB.
        unpacked_gib: Bytes of a packed file (.zstd, .zst) when it is unpacked, in GiB.
    """

    megapixels: float = 64.0
    unpacked_mib: int = 512
    unpacked_gib: float = 64.0

    @property
    def unpacked_bytes(self) -> int:
        """Maximum number of bytes of a chunk or a message."""
        return self.unpacked_mib * MIB

    @property
    def file_bytes(self) -> int:
        """Maximum number of bytes of an unpacked file."""
        return int(self.unpacked_gib * GIB)


DEFAULT_LIMITS = Limits()


def plausible_bytes(packed: int, limit: int) -> int:
    """Return the maximum number of bytes that data may unpack to.

    Args:
        packed: Number of packed bytes.
        limit: The limit for data of any size.
    """
    return min(limit, max(SMALL, RATIO * packed))
