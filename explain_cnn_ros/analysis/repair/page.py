"""The page about a repair: one HTML file without any other files."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.content import KINDS, WindowKey, key_of, page_content, shown_windows
from explain_cnn_ros.analysis.repair.labelled import RepairError
from explain_cnn_ros.files import reason, replace_text
from explain_cnn_ros.model.windows import crop

#: Names of the page and of the record.
PAGE, RECORD = "repair.html", "repair.json"

#: Height of a picture, and its smallest and largest width, in pixels.
HEIGHT, WIDTHS = 144, (48, 256)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a repair.

    Args:
        folder: Folder of the repair.

    Raises:
        RepairError: There is no record, or it is none of this package.
    """
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        complete = all(cure["windows"] for cure in record["cures"]) and bool(record["cures"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        cause = reason(error) if isinstance(error, OSError) else str(error)
        raise RepairError(f"{path} cannot be read ({cause}): give the --output of a finished repair") from error
    if not complete:
        raise RepairError(f"{path} names no windows: give the --output of a finished repair")
    return record


def write_page(output: Path, record: dict[str, Any], analysis: LabelledAnalysis) -> None:
    """Write repair.html.

    Args:
        output: Folder of the repair.
        record: Its record.
        analysis: The analysis whose wrong decisions were repaired. Names of causes are its present ones.

    Raises:
        OSError: The page cannot be written.
        RepairError: An entry of the record is missing or of another kind.
    """
    try:
        content = page_content(record, analysis.manifest)
    except (LookupError, TypeError, AttributeError) as error:
        raise RepairError(
            f"{output / RECORD} does not fit {analysis.folder} ({error!r}): give the analysis that was repaired"
        ) from error
    pictures = _pictures(analysis, {key_of(row) for row in shown_windows(content)})
    numbers = {key: number for number, key in enumerate(pictures)}
    for row in shown_windows(content):
        row["picture"] = numbers.get(key_of(row))
    again = [f"analysis_after_{cure['name']}" for cure in content["cures"] if cure["again"]]
    data = content | {
        "kinds": {kind: title for kind, (_, _, title) in KINDS.items()},
        "pictures": list(pictures.values()),
        "compare": [shlex.join(["explain-cnn", "compare", str(analysis.folder), str(output / name)]) for name in again],
    }
    replace_text(output / PAGE, render("repair", f"Repair of {analysis.folder.name or analysis.folder}", data))


def _pictures(analysis: LabelledAnalysis, keys: Collection[WindowKey]) -> dict[WindowKey, str]:
    """Return the pictures of windows as data URIs. Windows of lost recordings have none."""
    wanted = [window for window in analysis.windows if (window.source, window.frame, window.number) in keys]
    found = {}
    for image, windows in analysis.frames(wanted):
        for window in windows:
            region = window.region
            width = min(max(round(HEIGHT * region.width / region.height), WIDTHS[0]), WIDTHS[1])
            cut = crop(image, region.x, region.y, region.width, region.height, (width, HEIGHT))
            _, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(cut[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
            address = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
            found[window.source, window.frame, window.number] = address
    return found
