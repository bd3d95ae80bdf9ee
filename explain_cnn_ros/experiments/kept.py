"""Results that take long, kept on disk as they come, a line each: what is there is not computed again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments.examples import Example

T = TypeVar("T")


def compute(
    path: Path, key: str, items: Mapping[str, T], function: Callable[[T], Any], progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """What a function makes of items, by their names: from the file as far as it is there.

    Args:
        key: of all that results depend on beside the items; a file of another key is begun anew.
        function: gives what JSON can hold.

    Returns:
        All results as they were read from JSON, so that they are the same whenever they were computed.
    """
    found = read(path, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not found:
        path.write_text(json.dumps({"key": key}) + "\n", encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        for count, (name, item) in enumerate(items.items(), 1):
            if name not in found:
                line = json.dumps([name, function(item)])
                file.write(line + "\n")
                file.flush()
                found[name] = json.loads(line)[1]
            progress(count, len(items))
    return {name: found[name] for name in items}


def read(path: Path, key: str) -> dict[str, Any]:
    """The whole lines of a file of this key; a last one that was cut off is cut away."""
    if not path.is_file():
        return {}
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), len(whole))
    first, *rest = [json.loads(line) for line in whole.splitlines()] or [{}]
    return dict(rest) if first.get("key") == key else {}


def key_of(*parts: object) -> str:
    """A hash of classifiers, examples, arrays, and of whatever says all of itself by its `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, PersonClassifier):
            for parameter in part.network.parameters():
                digest.update(parameter.detach().cpu().numpy().tobytes())
        elif isinstance(part, Example):
            digest.update(repr((part.name, part.photo, part.box, part.is_test)).encode() + part.image.tobytes())
        elif isinstance(part, np.ndarray):
            digest.update(part.tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
