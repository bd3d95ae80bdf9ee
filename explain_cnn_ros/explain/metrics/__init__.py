"""The metrics that rank neurons.

`registry` is the one list of them; `influence` declares the two metrics of influence, and `paper` the six of the paper.
A package of its own adds a metric by calling
`register`, and by an entry point in the group "explain_cnn_ros.metrics" so that all commands find it
(docs/extending.md).
"""

from explain_cnn_ros.explain.metrics import influence, paper  # the order of the registry
from explain_cnn_ros.explain.metrics.registry import (
    DEFAULT_METRICS,
    OPPOSING,
    PAPER_METRICS,
    SUPPORTING,
    LayerEvidence,
    Metric,
    Reads,
    Selects,
    metric,
    metric_names,
    register,
    unregister,
)

__all__ = [
    "DEFAULT_METRICS",
    "OPPOSING",
    "PAPER_METRICS",
    "SUPPORTING",
    "LayerEvidence",
    "Metric",
    "Reads",
    "Selects",
    "influence",
    "metric",
    "metric_names",
    "paper",
    "register",
    "unregister",
]
