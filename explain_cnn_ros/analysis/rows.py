"""Rows of the tables, from frames, decisions and explanations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.tables import PICTURE_SIDE
from explain_cnn_ros.bags.sources import Frame
from explain_cnn_ros.explain.explanation import Explanation, Proof
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.decider import Decision

Row = dict[str, Any]


def known(value: float | None) -> float | None:
    """Return a value for a table, where NaN becomes null."""
    return None if value is None or math.isnan(value) else value


def frame_row(frame: Frame, label: bool | None) -> Row:
    """Return the columns that are known before a decision."""
    return {
        "stamp": frame.stamp,
        "log_time": frame.log_time,
        "topic": frame.topic,
        "frame_id": frame.frame_id,
        "label": label,
        "error": frame.error or None,
    }


def decision_row(image: NDArray[np.uint8], decision: Decision, wrong: bool | None) -> Row:
    """Return the columns about the decision on an image, uint8 [H, W, 3]."""
    return {
        "height": image.shape[0],
        "width": image.shape[1],
        "probability": decision.probability,
        "person": decision.person,
        "doubtful": decision.low_confidence,
        "wrong": wrong,
        "region_x": decision.region.x,
        "region_y": decision.region.y,
        "region_width": decision.region.width,
        "region_height": decision.region.height,
    }


def region_row(number: int, region: Region, person: bool, label: bool | None, missed: bool = False) -> Row:
    """Return the columns about a region of a frame.

    Args:
        number: Number of the region in its frame.
        region: The region.
        person: Whether it was found as a person.
        label: Whether it shows a person; None if it is unknown.
        missed: Whether it is a labelled person that was not found.
    """
    return {
        "region": number,
        **dataclasses.asdict(region),
        "person": person,
        "label": label,
        "wrong": None if label is None else person != label,
        "missed": missed,
    }


def neuron_rows(explanation: Explanation) -> Iterable[Row]:
    """Yield a row for each neuron that a metric selects, best first."""
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
                "silenced": known(neuron.silenced),
                "stability": known(ranking.stability),
                "unstable": ranking.unstable,
            }


def patch_rows(explanation: Explanation) -> Iterable[Row]:
    """Yield a row for each selected neuron that has a patch. Its patch may depend on the metric that selects it."""
    for ranking in explanation.rankings:
        for neuron in ranking.neurons:
            if neuron.patch is not None:
                yield {
                    "metric": ranking.metric,
                    "layer": neuron.layer,
                    "channel": neuron.channel,
                    **dataclasses.asdict(neuron.patch),
                }


def proof_rows(explanation: Explanation) -> Iterable[Row]:
    """Yield a row for each proof."""
    for proof in explanation.proofs:
        yield {
            name: known(value) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(proof).items()
        }


def proof_of(row: Row) -> Proof:
    """Return the proof that a row describes; the opposite of `proof_rows`."""
    values: list[Any] = [row[field.name] for field in dataclasses.fields(Proof)]
    numbers: list[Any] = [math.nan if value is None else value for value in values]
    return Proof(*numbers)


def window_row(number: int, window: NDArray[np.uint8]) -> Row:
    """Return the window of a region, uint8 [H, W, 3] RGB, as a PNG file.

    Args:
        number: Number of the region in its frame.
        window: The window.
    """
    _, png = cv2.imencode(".png", np.ascontiguousarray(window[..., ::-1]))
    return {"region": number, "png": png.tobytes()}


def window_of(row: Row) -> NDArray[np.uint8]:
    """Return the window of a row; the opposite of `window_row`."""
    window: Any = cv2.imdecode(np.frombuffer(row["png"], np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(window[..., ::-1])


def picture_row(image: NDArray[np.uint8]) -> Row:
    """Return an image, uint8 [H, W, 3] RGB, as a JPEG file whose sides are at most PICTURE_SIDE."""
    scale = min(1.0, PICTURE_SIDE / max(image.shape[:2]))
    smaller: Any = image
    if scale < 1:
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        smaller = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", smaller[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return {"scale": scale, "jpeg": jpeg.tobytes()}
