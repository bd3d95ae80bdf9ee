"""The header of a safetensors file: what is wrong with a file that has none, and which tensors the file announces.

A file begins with the length of the header, 8 bytes, little-endian, and the header, which is JSON. The tensors follow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from explain_cnn_ros.files import visible

#: Maximum number of bytes of a header, as in the library safetensors.
HEADER_MAX = 100_000_000

#: Key of the header that holds texts, and no tensor.
METADATA = "__metadata__"

_POINTER = b"version https://git-lfs"
_TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file, and check that the file is as long as its header announces.

    Args:
        path: The file.

    Returns:
        Each tensor's "dtype", "shape" and "data_offsets" by its name, and the texts under METADATA.

    Raises:
        ValueError: The file is no safetensors file, or is not complete. The message names the cause and the cure, and
            calls the file "it".
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(64)
        _check_kind(first)
        length = int.from_bytes(first[:8], "little")
        if length > HEADER_MAX:
            raise ValueError("it is no safetensors file: give the path of a file that `train` has written")
        if 8 + length > size:
            raise ValueError(_incomplete(size, 8 + length))
        file.seek(8)
        content = file.read(length)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(str(error))) from error
    if not isinstance(header, dict):
        raise ValueError(_damaged("it is no object"))
    ends = [_end(name, entry) for name, entry in header.items() if name != METADATA]
    announced = 8 + length + max(ends, default=0)
    if announced > size:
        raise ValueError(_incomplete(size, announced))
    texts = header.get(METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(_damaged(f"{METADATA} is no list of texts by name"))
    return header


def is_safetensors(first: bytes) -> bool:
    """Return whether the first bytes of a file are a length and the begin of a header.

    The length alone may look like the begin of a file of torch.save.
    """
    return first[6:9] == b"\0\0{"


def _end(name: str, entry: Any) -> int:
    """Return the position behind a tensor, from the end of the header.

    Raises:
        ValueError: Its entry in the header is damaged.
    """
    try:
        fine = isinstance(entry["dtype"], str) and all(isinstance(side, int) for side in entry["shape"])
        end = entry["data_offsets"][1]
    except (LookupError, TypeError):
        fine, end = False, None
    if not fine or not isinstance(end, int):
        raise ValueError(_damaged(f"the tensor {visible(name[:100])} is not described"))
    return end


def _check_kind(first: bytes) -> None:
    """Check the first bytes of a file.

    Raises:
        ValueError: They are those of another kind of file.
    """
    if not first:
        raise ValueError("it is empty: copy or download it again")
    if is_safetensors(first):
        return
    if first.startswith(_POINTER):
        raise ValueError(
            "it is a pointer of Git LFS and not the weights themselves: run `git lfs pull` in its repository, or "
            "download the file itself"
        )
    if first.startswith(_TORCH):
        raise ValueError(
            "it is a file of torch.save, which is not loaded because it may run any code: give the path of a "
            ".safetensors file that `train` has written, or run `explain-cnn import-weights` for weights of torchvision"
        )
    raise ValueError("it is no safetensors file: give the path of a file that `train` has written")


def _damaged(cause: str) -> str:
    return f"it is damaged: its header cannot be read ({cause}). Copy or download it again"


def _incomplete(size: int, announced: int) -> str:
    return f"it is not complete: it has {size:,} of {announced:,} bytes. Copy or download it again"
