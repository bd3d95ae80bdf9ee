"""The ROS 2 distribution of this process. This module needs no ROS."""

from __future__ import annotations

import os

#: Distribution that is named in messages if the environment names none.
DEFAULT = "jazzy"


def distribution() -> str:
    """Return the name of the distribution, in lower case."""
    return os.environ.get("ROS_DISTRO") or DEFAULT


def apt_package(name: str) -> str:
    """Return the name of the Debian package of a ROS package.

    Args:
        name: Name of the ROS package.
    """
    return f"ros-{distribution()}-{name.replace('_', '-')}"
