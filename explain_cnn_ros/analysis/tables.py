"""The tables of an analysis: types and descriptions of their columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from explain_cnn_ros.explain.metrics import metric, metric_names
from explain_cnn_ros.explain.metrics.registry import SIMILARITY_METRICS

#: Maximum width and height of the pictures in the table "pictures", in pixels.
PICTURE_SIDE = 960

_NS = "in ns since 1970"
_SIMILAR = " and ".join(metric(name).title for name in SIMILARITY_METRICS)

#: Type and description of each column, by table. The files repeat the descriptions.
COLUMNS: dict[str, dict[str, tuple[pa.DataType, str]]] = {
    "frames": {
        "source": (pa.string(), "Path of the recording, as it was given."),
        "frame": (pa.int64(), "Number of the frame in the recording, counted from 0."),
        "stamp": (pa.int64(), f"Stamp of the image's header, {_NS}."),
        "log_time": (pa.int64(), f"Time at which the image was recorded, {_NS}."),
        "topic": (pa.string(), "Topic of the image, or name of its file."),
        "frame_id": (pa.string(), "frame_id of the image's header."),
        "width": (pa.int32(), "Width of the image, in pixels; null if it cannot be decoded."),
        "height": (pa.int32(), "Height of the image, in pixels; null if it cannot be decoded."),
        "probability": (pa.float32(), "P(person) of the best region; null if the image cannot be decoded."),
        "person": (pa.bool_(), "The decision: whether the probability is at least the threshold."),
        "doubtful": (pa.bool_(), "Whether max(p, 1 - p) is below confidence_threshold."),
        "label": (pa.bool_(), "Whether there was a person; null without a label."),
        "wrong": (pa.bool_(), "Whether the decision differs from the label; null without a label."),
        "region_x": (pa.int32(), "Left edge of the best region, in pixels of the image."),
        "region_y": (pa.int32(), "Top edge of the best region, in pixels of the image."),
        "region_width": (pa.int32(), "Width of the best region, in pixels of the image."),
        "region_height": (pa.int32(), "Height of the best region, in pixels of the image."),
        "trigger": (
            pa.string(),
            "Reason for the explanation: wrong, low_confidence, chosen or periodic; null if the frame was not "
            "explained.",
        ),
        "set_similarity": (
            pa.float32(),
            f"Jaccard index of the neurons that {_SIMILAR} select; null if it is unknown.",
        ),
        "error": (pa.string(), "Reason why the frame could not be decoded or explained; null without an error."),
    },
    "neurons": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "stamp": (pa.int64(), "As in frames."),
        "metric": (pa.string(), "Name of the metric that selected the neuron."),
        "layer": (pa.int32(), "Number of the convolution, counted from 1."),
        "layer_name": (pa.string(), "Name of the convolution, as in the paper on VGG."),
        "rank": (pa.int32(), "Rank of the neuron, counted from 1, the most important one."),
        "channel": (pa.int32(), "Channel of the layer, counted from 0."),
        "score": (pa.float32(), "Score by the metric; higher is more important."),
        "score_low": (pa.float32(), "Lower end of the 95 % confidence interval of the score; null if it is unknown."),
        "score_high": (pa.float32(), "Upper end of the 95 % confidence interval of the score; null if it is unknown."),
        "stability": (
            pa.float32(),
            "Jaccard index of the rankings by the two halves of the perturbations; null for metrics that do not read "
            "perturbations.",
        ),
        "unstable": (pa.bool_(), "Whether the stability is below stability_target."),
    },
    "patches": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "stamp": (pa.int64(), "As in frames."),
        "layer": (pa.int32(), "Layer of the neuron, as in neurons."),
        "channel": (pa.int32(), "Channel of the neuron, as in neurons."),
        "x": (pa.int32(), "Left edge of the patch, in pixels of the image."),
        "y": (pa.int32(), "Top edge of the patch, in pixels of the image."),
        "width": (pa.int32(), "Width of the patch, in pixels of the image."),
        "height": (pa.int32(), "Height of the patch, in pixels of the image."),
    },
}

#: Tables that parts hold in addition: the explained frames, and ROS messages.
_INTERNAL: dict[str, dict[str, tuple[pa.DataType, str]]] = {
    "pictures": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "scale": (pa.float32(), "Size of the picture relative to the image."),
        "jpeg": (pa.binary(), "The picture, a JPEG file."),
    },
    "messages": {
        "topic": (pa.string(), "Topic of the message."),
        "type": (pa.string(), "ROS type of the message."),
        "log_time": (pa.int64(), f"Log time of the message, {_NS}."),
        "data": (pa.binary(), "The serialized message, CDR."),
    },
}

ALL = COLUMNS | _INTERNAL


def description(table: str, column: str) -> str:
    """Return the description of a column. That of the metric lists those that are registered now."""
    text = ALL[table][column][1]
    if column == "metric":
        registered = ", ".join(f"{name} ({metric(name).title})" for name in metric_names())
        return f"{text.rstrip('.')}: {registered}."
    return text


def schema(table: str) -> pa.Schema:
    """Return the schema of a table, with the descriptions as metadata of its columns."""
    return pa.schema(
        [
            pa.field(name, kind, metadata={"description": description(table, name)})
            for name, (kind, _) in ALL[table].items()
        ]
    )


def table_of(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Convert rows to a table. Columns that a row lacks are null."""
    return pa.Table.from_pylist(rows, schema(name))
