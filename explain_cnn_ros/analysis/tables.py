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
        "label": (
            pa.bool_(),
            "Whether the decision should have been a person; null without a label. With labels of boxes, it is the "
            "label of the best region if the decision is a person.",
        ),
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
        "output": (
            pa.float32(),
            "Output of the explained region: the margin (logit of person minus logit of background), unless the "
            "settings choose another output; null if the frame was not explained.",
        ),
        "error": (pa.string(), "Reason why the frame could not be decoded or explained; null without an error."),
    },
    "regions": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "stamp": (pa.int64(), "As in frames."),
        "region": (
            pa.int32(),
            "Number of the region in its frame, counted from 0, the best one. Labelled persons that were not found "
            "follow the regions of the decision.",
        ),
        "x": (pa.int32(), "Left edge of the region, in pixels of the image."),
        "y": (pa.int32(), "Top edge of the region, in pixels of the image."),
        "width": (pa.int32(), "Width of the region, in pixels of the image."),
        "height": (pa.int32(), "Height of the region, in pixels of the image."),
        "probability": (pa.float32(), "P(person) of the region."),
        "person": (pa.bool_(), "Whether the region was found as a person."),
        "label": (pa.bool_(), "Whether the region shows a person; null if it is unknown."),
        "wrong": (pa.bool_(), "Whether the decision about the region differs from its label; null if it is unknown."),
        "missed": (
            pa.bool_(),
            "Whether it is the window around a labelled person that the search did not find. Its P(person) may reach "
            "the threshold, if only the search missed it.",
        ),
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
        "score": (
            pa.float32(),
            "Score by the metric. Influence is signed: positive argues for the person, negative against it. By "
            "the other metrics, a higher score is more important.",
        ),
        "score_low": (pa.float32(), "Lower end of the 95 % confidence interval of the score; null if it is unknown."),
        "score_high": (pa.float32(), "Upper end of the 95 % confidence interval of the score; null if it is unknown."),
        "silenced": (
            pa.float32(),
            "Measured fall of the output if only this neuron is silenced; null unless the metric is influence and "
            "proof is each.",
        ),
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
        "metric": (pa.string(), "Metric that selected the neuron, as in neurons."),
        "layer": (pa.int32(), "Layer of the neuron, as in neurons."),
        "channel": (pa.int32(), "Channel of the neuron, as in neurons."),
        "x": (pa.int32(), "Left edge of the patch, in pixels of the image."),
        "y": (pa.int32(), "Top edge of the patch, in pixels of the image."),
        "width": (pa.int32(), "Width of the patch, in pixels of the image."),
        "height": (pa.int32(), "Height of the patch, in pixels of the image."),
    },
    "proofs": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "stamp": (pa.int64(), "As in frames."),
        "metric": (pa.string(), "Metric whose neurons were silenced: influence or counter_influence."),
        "neurons": (pa.int32(), "Number of selected neurons over all layers."),
        "predicted": (pa.float32(), "Sum of the predicted falls of the output, one neuron at a time."),
        "measured": (
            pa.float32(),
            "Sum of the measured falls of the output, one neuron at a time; null unless proof is each.",
        ),
        "error": (
            pa.float32(),
            "Sum of the absolute differences of the two for each neuron, divided by the sum of the absolute measured "
            "falls; null unless proof is each.",
        ),
        "agreeing": (
            pa.int32(),
            "Number of neurons whose measured fall has the predicted sign; 0 unless proof is each.",
        ),
        "together": (pa.float32(), "Measured fall of the output with all of them silenced at once."),
        "share": (
            pa.float32(),
            "The same as a share of the output; null if the output argues for the other decision than the threshold's.",
        ),
        "probability": (pa.float32(), "P(person) with all of them silenced at once."),
        "disagrees": (
            pa.bool_(),
            "Whether predicted and measured falls differ too much to rely on the scores.",
        ),
    },
    "silencing": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "kind": (
            pa.string(),
            "Wrong decisions that the silenced neurons argued for: missed (persons) or false_alarm; null if no neuron "
            "is silenced.",
        ),
        "neurons": (pa.int32(), "Number of silenced neurons; 0: the window as it is."),
        "random": (pa.bool_(), "Whether the silenced neurons are random ones of the same layers, for comparison."),
        "label": (pa.bool_(), "Label of the decided region, as in regions."),
        "probability": (pa.float32(), "P(person) of the decided region with the neurons silenced."),
        "person": (pa.bool_(), "The decision with the neurons silenced."),
    },
}

#: Tables that are computed when all parts are there.
_LATER = ("silencing",)

#: Tables that parts hold in addition: the explained frames, the windows that are decided again with neurons silenced,
#: and ROS messages.
_INTERNAL: dict[str, dict[str, tuple[pa.DataType, str]]] = {
    "pictures": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "scale": (pa.float32(), "Size of the picture relative to the image."),
        "jpeg": (pa.binary(), "The picture, a JPEG file."),
    },
    "windows": {
        "source": (pa.string(), "As in frames."),
        "frame": (pa.int64(), "As in frames."),
        "region": (pa.int32(), "As in regions."),
        "png": (pa.binary(), "The region in the size of the network's windows, a PNG file."),
    },
    "messages": {
        "topic": (pa.string(), "Topic of the message."),
        "type": (pa.string(), "ROS type of the message."),
        "log_time": (pa.int64(), f"Log time of the message, {_NS}."),
        "data": (pa.binary(), "The serialized message, CDR."),
    },
}

ALL = COLUMNS | _INTERNAL

#: The tables of a part.
OF_PART = tuple(name for name in ALL if name not in _LATER)


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
