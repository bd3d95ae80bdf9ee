"""Explains why a person classifier decided as it did on a camera image: neurons, patches, and what they matter.

The classes for scripts and notebooks are imported from here; they need no ROS. `from explain_cnn_ros import Explainer`
imports PyTorch only then.
"""

from __future__ import annotations

import importlib
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explain_cnn_ros.explain.explainer import Explainer
    from explain_cnn_ros.explain.settings import ExplainSettings
    from explain_cnn_ros.scan.classifier import PersonClassifier

__all__ = ["ExplainSettings", "Explainer", "PersonClassifier"]

# This package may lie in two folders at once: the sources in a working directory, and the built overlay, which alone
# has the generated msg and srv modules. Python imports the folder that it finds first. Extending the path merges both,
# so that `explain_cnn_ros.msg` is found from within a checkout as well.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

_HOMES = {
    "Explainer": "explain_cnn_ros.explain.explainer",
    "ExplainSettings": "explain_cnn_ros.explain.settings",
    "PersonClassifier": "explain_cnn_ros.scan.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
