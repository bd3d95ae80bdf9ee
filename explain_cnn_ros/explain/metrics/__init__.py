"""The metrics that rank neurons.

`registry` is the one list of them; `paper` declares the six of the paper. A package of its own adds a metric by calling
`register`, and by an entry point in the group "explain_cnn_ros.metrics" so that all commands find it
(docs/extending.md).
"""

from explain_cnn_ros.explain.metrics import paper
from explain_cnn_ros.explain.metrics.registry import (
    PAPER_METRICS,
    LayerEvidence,
    Metric,
    Reads,
    metric,
    metric_names,
    register,
    unregister,
)

__all__ = [
    "PAPER_METRICS",
    "LayerEvidence",
    "Metric",
    "Reads",
    "metric",
    "metric_names",
    "paper",
    "register",
    "unregister",
]
