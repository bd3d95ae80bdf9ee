"""The tables of an analysis: what a column means, and which type it has."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_NS = "ns since 1970"

#: Table -> column -> (type, description). README and files repeat the descriptions.
COLUMNS: dict[str, dict[str, tuple[pa.DataType, str]]] = {
    "frames": {
        "source": (pa.string(), "the recording, as it was given"),
        "frame": (pa.int64(), "number of the frame in the recording, from 0"),
        "stamp": (pa.int64(), f"of the image's header, {_NS}"),
        "log_time": (pa.int64(), f"when it was recorded, {_NS}"),
        "topic": (pa.string(), "topic, or file name"),
        "frame_id": (pa.string(), "of the image's header"),
        "width": (pa.int32(), "of the image, pixels; null if it cannot be decoded"),
        "height": (pa.int32(), "of the image, pixels"),
        "probability": (pa.float32(), "P(person) of the best region; null if the frame cannot be decoded"),
        "person": (pa.bool_(), "the decision: whether it reaches the threshold"),
        "doubtful": (pa.bool_(), "max(p, 1 - p) is below confidence_threshold"),
        "label": (pa.bool_(), "whether there was a person; null if nothing says so"),
        "wrong": (pa.bool_(), "the decision differs from the label; null without one"),
        "region_x": (pa.int32(), "left of the best region, pixels of the image"),
        "region_y": (pa.int32(), "its top"),
        "region_width": (pa.int32(), "its width"),
        "region_height": (pa.int32(), "its height"),
        "trigger": (pa.string(), "why it was explained: wrong, low_confidence, chosen, periodic; null if it was not"),
        "set_similarity": (pa.float32(), "Jaccard index of what correlation and precision select; null if unknown"),
        "error": (pa.string(), "why it could not be decoded or explained; null if all went well"),
    },
    "neurons": {
        "source": (pa.string(), "as in frames"),
        "frame": (pa.int64(), "as in frames"),
        "stamp": (pa.int64(), "as in frames"),
        "metric": (pa.string(), "that selected the neuron"),
        "layer": (pa.int32(), "number of the convolution, from 1"),
        "layer_name": (pa.string(), "as the VGG's authors call it"),
        "rank": (pa.int32(), "from 1, the most important"),
        "channel": (pa.int32(), "of the layer, from 0"),
        "score": (pa.float32(), "by the metric; higher is more important"),
        "score_low": (pa.float32(), "lower end of its 95 % interval; null if unknown"),
        "score_high": (pa.float32(), "upper end"),
        "stability": (pa.float32(), "of the ranking: Jaccard index of its halves; null if it has none"),
        "unstable": (pa.bool_(), "the stability is below stability_target"),
    },
    "patches": {
        "source": (pa.string(), "as in frames"),
        "frame": (pa.int64(), "as in frames"),
        "stamp": (pa.int64(), "as in frames"),
        "layer": (pa.int32(), "of the neuron"),
        "channel": (pa.int32(), "of the neuron"),
        "x": (pa.int32(), "left of the patch, pixels of the image"),
        "y": (pa.int32(), "its top"),
        "width": (pa.int32(), "its width"),
        "height": (pa.int32(), "its height"),
    },
}

#: What parts hold beside the tables: the explained frames as JPEG, no larger than PICTURE_SIDE, and ROS messages.
_INTERNAL: dict[str, dict[str, tuple[pa.DataType, str]]] = {
    "pictures": {
        "source": (pa.string(), "as in frames"),
        "frame": (pa.int64(), "as in frames"),
        "scale": (pa.float32(), "pixels of the picture to one of the image"),
        "jpeg": (pa.binary(), "the image"),
    },
    "messages": {
        "topic": (pa.string(), "of the message"),
        "type": (pa.string(), "its ROS type"),
        "log_time": (pa.int64(), _NS),
        "data": (pa.binary(), "CDR"),
    },
}

ALL = COLUMNS | _INTERNAL

PICTURE_SIDE = 960


def schema(table: str) -> pa.Schema:
    """Of a table, with the descriptions as metadata of its columns."""
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, (kind, text) in ALL[table].items()]
    )


def table_of(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    return pa.Table.from_pylist(rows, schema(name))
