"""Deserialization of messages (CDR)."""

from __future__ import annotations

from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys.store import Typestore

#: Zeros that are taken off a message that is too long. rosbags allows up to three bytes behind the end, but a message
#: that is padded to a multiple of eight bytes has up to seven.
_PADDING = bytes(4)


def deserialize(types: Typestore, data: bytes, kind: str) -> Any:
    """Deserialize a message. Up to seven zeros may follow it.

    Args:
        types: The known types.
        data: The serialized message.
        kind: Type of the message.

    Raises:
        SerdeError: It is no message of this type. Damaged bytes raise other exceptions as well.
    """
    try:
        return types.deserialize_cdr(data, kind)
    except SerdeError:
        if not data.endswith(_PADDING):
            raise
    return types.deserialize_cdr(data[: -len(_PADDING)], kind)
