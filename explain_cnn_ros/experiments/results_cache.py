"""A cache of results that take hours: JSON Lines files, one line for each result, written as soon as it is known.

Each question has a file of its own, named after the key of the question. Results of another question are never
overwritten, so that a changed argument costs nothing when it is changed back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.progress import ProgressCallback
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.weights_file import ModelInfo

Item = TypeVar("Item")

#: Settings of the weights that shipped when the first results were stored. The keys of VGG classifiers with these
#: settings do not contain them. These values must not change, even if other weights ship; otherwise, stored results,
#: which took hours to compute, would not be found any more.
STORED = ModelInfo(threshold=0.9)


def compute(
    path: Path,
    key: str,
    items: Mapping[str, Item],
    function: Callable[[Item], Any],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Compute the results that the cache lacks, and return all.

    Args:
        path: Name of the cache, for instance `silenced.jsonl`; `cache_file` gives the file of the key.
        key: Hash of everything that the results depend on, except the items; see `key_of`.
        items: The items by name.
        function: Computes the result of an item, which must be serialisable as JSON.
        progress: Called after each item with the number of items that are done and the number of all items.

    Returns:
        The results by name. All of them are read back from JSON, so that they do not depend on when they were computed.

    Raises:
        ValueError: The file is damaged.
    """
    file_path = cache_file(path, key)
    _report_others(path, file_path)
    found = read(file_path, key)
    if _key_in(file_path) != key:
        _begin(file_path, key)
    with file_path.open("a", encoding="utf-8") as file:
        for count, (name, item) in enumerate(items.items(), 1):
            if name not in found:
                line = json.dumps([name, function(item)])
                file.write(line + "\n")
                file.flush()
                found[name] = json.loads(line)[1]
            progress(count, len(items))
    return {name: found[name] for name in items}


def compute_windows(
    path: Path,
    key: str,
    examples: Iterable[Example],
    function: Callable[[Example], Any],
    progress: ProgressCallback,
    label: str,
) -> dict[str, Any]:
    """Compute the results of windows that the cache lacks, and return all by the windows' names; see `compute`.

    Args:
        path: Name of the cache.
        key: Hash of everything that the results depend on, except the windows.
        examples: The windows.
        function: Computes the result of a window, which must be serialisable as JSON.
        progress: Receives reports of the progress.
        label: Name of the step in these reports.
    """
    return compute(path, key, {e.name: e for e in examples}, function, lambda done, total: progress(label, done, total))


def _begin(path: Path, key: str) -> None:
    """Write the first line of a file, unless the file holds something else."""
    if path.is_file() and b"\n" in path.read_bytes():
        raise ValueError(f"{path} is damaged: its first line does not hold the key {key}. Move it away to begin anew")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")


def cache_file(path: Path, key: str) -> Path:
    """Return the file that holds the results of a key.

    Args:
        path: Name of the cache. A file of exactly this name, as earlier versions wrote it, is used if it has the key.
        key: The key.
    """
    return path if _key_in(path) == key else path.with_name(f"{path.stem}-{key}{path.suffix}")


def read(path: Path, key: str) -> dict[str, Any]:
    """Read the results in a file, and remove an incomplete last line, which an interruption left.

    Args:
        path: The file.
        key: The expected key; a file with another key is neither read nor changed.

    Returns:
        The results by name; empty if the file does not exist or has another key.

    Raises:
        ValueError: The file is damaged.
    """
    if _key_in(path) != key:
        return {}
    data = path.read_bytes()
    complete = data[: data.rfind(b"\n") + 1]
    if len(complete) < len(data):
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), len(complete))
    try:
        return dict(json.loads(line) for line in complete.splitlines()[1:])
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. Move it away to compute its results again") from error


def _key_in(path: Path) -> str | None:
    """Return the key in the first line of a file; None if it has no complete first line with a key."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        line = file.readline()
    try:
        first = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return first.get("key") if isinstance(first, dict) else None


def _report_others(path: Path, used: Path) -> None:
    """Say which file is used if there are results of other settings."""
    pattern = re.compile(rf"{re.escape(path.stem)}(-[0-9a-f]+)?{re.escape(path.suffix)}")
    files = sorted(path.parent.glob("*")) if path.parent.is_dir() else []
    others = [file.name for file in files if pattern.fullmatch(file.name) and file != used]
    if others:
        tqdm.write(
            f"results of these arguments are in {used}; {', '.join(others)} of other arguments stay unchanged",
            file=sys.stderr,
        )


def key_of(*parts: object) -> str:
    """Return a hash of classifiers, examples, arrays, settings and plain values, 16 hexadecimal digits.

    A dataclass counts by the names and values of its fields, not by the name of its class.

    Args:
        *parts: Everything that a result depends on.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, WindowClassifier):
            for parameter in part.network.parameters():
                digest.update(parameter.detach().cpu().numpy().tobytes())
            digest.update(_beside_parameters(part))
        elif isinstance(part, Example):
            digest.update(repr((part.name, part.photo, part.box, part.is_test)).encode() + part.image.tobytes())
        elif isinstance(part, np.ndarray):
            digest.update(part.tobytes())
        else:
            digest.update(_canonical(part).encode())
    return digest.hexdigest()[:16]


def _beside_parameters(classifier: WindowClassifier) -> bytes:
    """Return what the results of a classifier depend on, except its parameters.

    The statistics of batch norm are no parameters. VGGs of this package have none, and what they have in common with
    STORED is left out, so the keys of their stored results stay the same.
    """
    info = classifier.info
    if classifier.has_dense_pass:
        names = ("input_size", "mean", "std", "classes", "person", "threshold")
        changed = {name: getattr(info, name) for name in names if getattr(info, name) != getattr(STORED, name)}
        return _canonical(changed).encode() if changed else b""
    statistics = [buffer.detach().cpu().numpy().tobytes() for buffer in classifier.network.buffers()]
    used = (info.architecture, info.input_size, info.mean, info.std, info.classes, info.person, info.threshold)
    return b"".join([*statistics, _canonical(used).encode()])


def _canonical(value: object) -> str:
    """Return a text that is the same for equal values, whatever their classes are called."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = (f"{f.name}={_canonical(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"({', '.join(pairs)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_canonical, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_canonical(k)}: {_canonical(v)}' for k, v in value.items())}}}"
    return repr(value)
