"""The Python classes of recorded message types."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ament_index_python.resources import get_resource

from explain_cnn_ros.bags.storage import message_type
from explain_cnn_ros.ros.distribution import apt_package

#: A message type: package, kind of the interface file, and message. Messages of services and actions have a suffix,
#: for instance `Trigger_Event`.
TYPE = re.compile(r"([a-z](?:_?[a-z0-9])*)/(msg|srv|action)/(([A-Z][A-Za-z0-9]*)(?:_[A-Za-z0-9]+)*)")


def message_class(name: str) -> Any:
    """Return the class of a message type such as `sensor_msgs/msg/Image`.

    The name comes from a recording. A module is imported only if the name is one of ROS, and if an installed package
    has registered an interface file for it in ament's index.

    Args:
        name: The type, in the spelling of ROS 2 or ROS 1.

    Raises:
        LookupError: There is no such type on this machine. The message names the remedy.
    """
    found = TYPE.fullmatch(message_type(name))
    if found is None:
        raise LookupError(f"{name!r} is not the name of a message type")
    package, kind, message, interface = found.groups()
    try:
        interfaces, _ = get_resource("rosidl_interfaces", package)
    except (LookupError, OSError) as error:
        raise LookupError(
            f"the type {name} is not installed. Install {apt_package(package)}, "
            f"or source the workspace that holds {package}"
        ) from error
    if not {f"{kind}/{interface}.{suffix}" for suffix in ("idl", kind)} & set(interfaces.split()):
        raise LookupError(f"the type {name} is not installed: the {package} on this machine does not have it")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), message)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the type {name} cannot be imported: {error}") from error
