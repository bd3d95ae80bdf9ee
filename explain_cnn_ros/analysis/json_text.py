"""JSON without the numbers that JSON does not have."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any, **more: Any) -> str:
    """Convert plain values to JSON. NaN and infinities become null.

    Args:
        value: The value.
        **more: Further arguments of `json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **more)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **more)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
