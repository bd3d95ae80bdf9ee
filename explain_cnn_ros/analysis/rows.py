"""Explanations -> rows of tables, without the frame that they are of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.tables import PICTURE_SIDE
from explain_cnn_ros.explanation import Explanation


def known(value: float | None) -> float | None:
    """NaN is null in a table."""
    return None if value is None or math.isnan(value) else value


def neuron_rows(explanation: Explanation) -> Iterable[dict[str, Any]]:
    """The neurons that each metric selects, best first."""
    for ranking in explanation.rankings:
        for rank, neuron in enumerate(ranking.neurons, 1):
            low, high = neuron.interval or (None, None)
            yield {
                "metric": ranking.metric,
                "layer": ranking.layer,
                "layer_name": ranking.layer_name,
                "rank": rank,
                "channel": neuron.channel,
                "score": neuron.score,
                "score_low": known(low),
                "score_high": known(high),
                "stability": known(ranking.stability),
                "unstable": ranking.unstable,
            }


def patch_rows(explanation: Explanation) -> Iterable[dict[str, Any]]:
    """Each neuron's patch once, whichever metrics select it."""
    seen = set()
    for ranking in explanation.rankings:
        for neuron in ranking.neurons:
            if neuron.patch is not None and (neuron.layer, neuron.channel) not in seen:
                seen.add((neuron.layer, neuron.channel))
                patch = neuron.patch
                yield {
                    "layer": neuron.layer,
                    "channel": neuron.channel,
                    "x": patch.x,
                    "y": patch.y,
                    "width": patch.width,
                    "height": patch.height,
                }


def picture_row(image: NDArray[np.uint8]) -> dict[str, Any]:
    """An image, uint8 [H, W, 3] RGB, as JPEG no larger than PICTURE_SIDE."""
    scale = min(1.0, PICTURE_SIDE / max(image.shape[:2]))
    smaller: Any = image
    if scale < 1:
        smaller = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", smaller[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return {"scale": scale, "jpeg": jpeg.tobytes()}
