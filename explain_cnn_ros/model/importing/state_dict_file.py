"""Weights of other programs: the state dict in a file of torch.save or safetensors.

No code of the file runs.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from explain_cnn_ros.files import visible
from explain_cnn_ros.model.safetensors_header import METADATA, is_safetensors, read_header

#: Cure for all files that hold something else than a state dict.
SAVE_STATE_DICT = (
    'load it in the program that trained it, and save the weights alone: torch.save(model.state_dict(), "weights.pth")'
)

#: Names of entries that usually hold the weights, the likeliest first. Averages of the weights (ema) come last.
ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")

#: Maximum depth at which an entry is looked for.
DEPTH = 3

#: Kinds of files that are neither of torch.save nor of safetensors, by their first bytes.
KINDS = {
    b"version https://git-lfs": "it is a pointer of Git LFS and not the weights themselves: run `git lfs pull` in its "
    "repository, or download the file itself",
    b"\x1f\x8b": "it is compressed by gzip: unpack it first (gunzip, tar -x)",
    b"\x28\xb5\x2f\xfd": "it is compressed by Zstandard: unpack it first (unzstd)",
    b"BZh": "it is compressed by bzip2: unpack it first (bunzip2)",
    b"\x89HDF": "it is an HDF5 file, as Keras writes them: only weights of torchvision can be imported",
    b"<": "it is a web page and not the weights themselves: the download failed. Download it again",
    b"\x93NUMPY": f"it is an array of numpy: {SAVE_STATE_DICT}",
}

#: Number of tensors, or of other entries, that a message names.
NAMED = 8


@dataclass(frozen=True)
class StateDict:
    """A state dict that was found in a file.

    Attributes:
        container: The kind of the file, for instance "torch.save".
        tensors: The tensors by name.
        entry: Place of the state dict in the file, for instance "model"; "" if it is the whole file.
        others: Places of other state dicts in the file.
        ignored: Names of the other entries of the file, for instance "optimizer".
    """

    container: str
    tensors: dict[str, Tensor]
    entry: str
    others: tuple[str, ...]
    ignored: tuple[str, ...]


def read_state_dict(path: Path, entry: str = "") -> StateDict:
    """Read the state dict in a file of torch.save or safetensors.

    Files of torch.save are loaded with `weights_only=True`, so that they cannot run code.

    Args:
        path: The file.
        entry: Place of the state dict in the file, for instance "model" or "checkpoint.ema"; "" to find it.

    Raises:
        ValueError: The file holds no state dict, or is damaged. The message names the cause and the cure, and calls the
            file "it".
        OSError: The file cannot be read.
    """
    if path.is_dir():
        raise ValueError("it is a folder: give the path of a .pth or .safetensors file")
    with path.open("rb") as file:
        first = file.read(64)
    if not first:
        raise ValueError("it is empty: copy or download it again")
    if is_safetensors(first):
        return _of_safetensors(path, entry)
    for begin, message in KINDS.items():
        if first.lstrip().startswith(begin):
            raise ValueError(message)
    if first.startswith(b"PK\x03\x04"):
        _check_archive(path)
    elif not first.startswith(b"\x80"):
        suffix = path.suffix.lower()
        hint = f" (its name ends with {suffix})" if suffix not in (".pth", ".pt", ".bin", ".safetensors") else ""
        raise ValueError(f"it is neither a file of torch.save nor of safetensors{hint}: {SAVE_STATE_DICT}")
    return _chosen("torch.save", _load(path), entry)


def _of_safetensors(path: Path, entry: str) -> StateDict:
    texts = read_header(path).get(METADATA) or {}
    if "architecture" in texts and "threshold" in texts:
        raise ValueError(
            "it is a weights file of this package already: give it to the node (parameter weights) and to the commands "
            "(--weights) as it is"
        )
    if entry:
        raise ValueError(f"it is a safetensors file, which has no entries: leave out --entry {visible(entry)}")
    try:
        return StateDict("safetensors", load_file(path), "", (), ())
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is damaged ({error}): copy or download it again") from error


def _check_archive(path: Path) -> None:
    """Check that a zip archive is one of torch.save.

    Raises:
        ValueError: It is another one, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # torch.save compresses nothing. A small archive may unpack to more than a machine has.
            packed = sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
            # torch.load does not compare the checksums. torch.save may be told to write none: then all are wrong.
            wrong = [name for name in names if not packed and not _has_its_checksum(archive, name)]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        # zipfile raises a RuntimeError if an entry is encrypted, or is compressed by a method that it does not know.
        raise ValueError(_damaged(error)) from error
    if 0 < len(wrong) < len(names):
        raise ValueError(_damaged(f"the checksum of {visible(wrong[0])} is wrong"))
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends or any("/code/" in name for name in names):
        raise ValueError(
            "it is a TorchScript archive (torch.jit.save), which is a program and not only weights: " + SAVE_STATE_DICT
        )
    if "archive_format" in ends or any(name.endswith("models/model.json") for name in names):
        raise ValueError(f"it is a program of torch.export and not only weights: {SAVE_STATE_DICT}")
    if packed:
        raise ValueError(_damaged("its files are compressed or overlap, and torch.save compresses nothing"))
    if "data.pkl" not in ends:
        raise ValueError(f"it is a zip archive that torch.save has not written: unpack it, or {SAVE_STATE_DICT}")


def _has_its_checksum(archive: zipfile.ZipFile, name: str) -> bool:
    """Return whether a file in an archive has the checksum that the archive says."""
    try:
        with archive.open(name) as file:
            while file.read(1 << 20):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _damaged(cause: object) -> str:
    return f"it is not complete, or damaged ({visible(str(cause)[:300])}): copy or download it again"


def _load(path: Path) -> Any:
    """Load a file of torch.save.

    Raises:
        ValueError: It holds something that only code of the file can build, or is damaged.
    """
    # torchvision's own training script saves its command-line arguments beside the weights. They are plain values.
    safe_globals = getattr(torch.serialization, "safe_globals", contextlib.nullcontext)
    try:
        with safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(_needs_code(str(error))) from error
    except Exception as error:  # a damaged file makes torch.load raise almost any error
        cause = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ValueError(_damaged(cause)) from error


def _needs_code(message: str) -> str:
    """Return why a file cannot be loaded without running code, from the message of torch.load."""
    found = re.search(r"GLOBAL (\S+)", message)
    if found is None:
        return f"it was pickled by another function than torch.save, and may run any code: {SAVE_STATE_DICT}"
    name = visible(found[1][:100])
    if name.startswith(("torch.nn.", "torchvision.models.", "__main__.")):
        return f"it holds a whole pickled network ({name}), which only code can build: {SAVE_STATE_DICT}"
    kind = "numbers of numpy" if name.startswith("numpy") else "an object of Python"
    return f"it holds {kind} ({name}), which only code can build, beside or instead of weights: {SAVE_STATE_DICT}"


def _chosen(container: str, content: Any, entry: str) -> StateDict:
    """Choose the state dict in the content of a file.

    Raises:
        ValueError: There is none, or none in the given place.
    """
    found = {".".join(keys): (keys, tensors) for keys, tensors in _state_dicts(content)}
    if entry and entry not in found:
        places = _names([place for place in found if place])
        has = f"it has {places}" if places else "leave out --entry"
        raise ValueError(f"it has no state dict in an entry {visible(entry)}: {has}")
    if not found:
        raise ValueError(f"{_without_weights(content)}: {SAVE_STATE_DICT}")
    place = entry or min(found, key=_rank)
    keys, chosen = found[place]
    tensors = {name: value for name, value in chosen.items() if isinstance(name, str) and isinstance(value, Tensor)}
    others = tuple(visible(other) for other in found if other != place)
    ignored = (".".join(other) for other in _besides(content, keys))
    return StateDict(container, tensors, place, others, tuple(visible(name) for name in ignored if name not in found))


def _state_dicts(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield all state dicts in the content of a file, after the keys that lead to them."""
    if not isinstance(content, Mapping):
        return
    if any(isinstance(k, str) and k.endswith(".weight") and isinstance(v, Tensor) for k, v in content.items()):
        yield keys, content
    elif len(keys) < DEPTH:
        for key, value in content.items():
            if isinstance(key, str):
                yield from _state_dicts(value, (*keys, key))


def _rank(place: str) -> tuple[bool, int]:
    """Return a number that is lower for likelier places of the weights."""
    last = place.rpartition(".")[2].lower()
    return "ema" in place.lower(), ENTRIES.index(last) if last in ENTRIES else len(ENTRIES)


def _besides(content: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to everything that is not the state dict at some keys, and not around it."""
    for depth, key in enumerate(keys):
        yield from ((*keys[:depth], str(other)) for other in content if other != key)
        content = content[key]
    yield from ((*keys, str(name)) for name, value in content.items() if not isinstance(value, Tensor))


def _without_weights(content: Any) -> str:
    """Return what a file without a state dict holds."""
    if isinstance(content, Mapping) and "param_groups" in content:
        return "it holds the state of an optimizer and no weights"
    if isinstance(content, Mapping):
        return f"it holds no weights of a network, but {_names(content)}" if content else "it holds an empty dictionary"
    return f"it holds a {type(content).__name__} and no state dict"


def _names(entries: Iterable[Any]) -> str:
    """Return at most NAMED names, and how many there are besides."""
    names = [visible(str(name)) for name in entries]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
