"""The windows of the causes in the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from explain_cnn_ros.analysis.causes.causes import TYPICAL
from explain_cnn_ros.analysis.parts import PartStore


def typical_windows(store: PartStore, causes: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the most typical windows of each cause, at most TYPICAL, for the report.

    Args:
        store: The store with the windows.
        causes: The causes, as plain values; see `cause.Causes`.

    Returns:
        For each cause, the windows as plain values: source, frame, and the picture as an address (`data:`).
    """
    chosen = [[tuple(window.values()) for window in cause["windows"][:TYPICAL]] for cause in causes.get("causes", ())]
    wanted = {key for keys in chosen for key in keys}
    pictures = {}
    for part in store.parts() if wanted else ():
        for row in store.read(*part, "windows").to_pylist():
            if (key := (row["source"], row["frame"], row["region"])) in wanted:
                pictures[key] = "data:image/png;base64," + base64.b64encode(row["png"]).decode()
    return [
        [{"source": key[0], "frame": key[1], "image": pictures[key]} for key in keys if key in pictures]
        for keys in chosen
    ]
