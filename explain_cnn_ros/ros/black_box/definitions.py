"""The definitions of the message types that are installed, as recordings contain them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from explain_cnn_ros.ros.black_box.recording import Definition
from explain_cnn_ros.ros.playback.message_types import message_class

#: Names of the basic types in Python's descriptions of messages that .msg files spell otherwise.
BASIC = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}


class Definitions:
    """Returns the definitions of message types, read from the installed packages when they are needed first."""

    def __init__(self) -> None:
        self._types = get_typestore(Stores.EMPTY)
        self._found: dict[str, Definition] = {}

    def __call__(self, name: str) -> Definition:
        """Return the definition of a type.

        Args:
            name: The type, for instance "sensor_msgs/msg/Image".

        Raises:
            LookupError: The type is not installed. The message names the remedy.
        """
        if name not in self._found:
            self._register(name)
            text, _ = self._types.generate_msgdef(name, ros_version=2)
            self._found[name] = Definition(text, self._types.hash_rihs01(name))
        return self._found[name]

    def _register(self, name: str) -> None:
        if name in self._types.types:
            return
        found = get_types_from_msg(definition_text(name), name)
        for _, fields in found.values():
            for _, node in fields:
                for inner in _inner(node):
                    self._register(inner)
        self._types.register(found)


def _inner(node: Any) -> Iterator[str]:
    """Yield the message types in the description of a field."""
    kind, value = node
    if kind == Nodetype.NAME:
        yield value
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from _inner(value[0])


def definition_text(name: str) -> str:
    """Return the text of the .msg file of a type. If there is none, as of an action's feedback, it is made.

    Raises:
        LookupError: The type is not installed.
    """
    kind = message_class(name)
    package, folder, message = name.split("/")
    try:
        return (Path(get_package_share_directory(package)) / folder / f"{message}.msg").read_text(encoding="utf-8")
    except (LookupError, OSError):
        described = kind.get_fields_and_field_types()
        return "\n".join(f"{_field_type(text)} {field}" for field, text in described.items())


def _field_type(text: str) -> str:
    """Return the type of a field as a .msg file spells it; for instance, sequence<double, 3> is float64[<=3]."""
    if match := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", text):
        return f"{_field_type(match[1])}[{f'<={match[2]}' if match[2] else ''}]"
    if match := re.fullmatch(r"(.+)(\[\d+\])", text):
        return _field_type(match[1]) + match[2]
    if match := re.fullmatch(r"(w?string)<(\d+)>", text):
        return f"{match[1]}<={match[2]}"
    return BASIC.get(text, text)
