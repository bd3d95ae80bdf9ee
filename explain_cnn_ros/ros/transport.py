"""The Fast DDS profile that large images need. Imports nothing of ROS at its top: `doctor` runs without."""

from __future__ import annotations

import os

#: Environment variables that name a profile: the one that ROS's documentation has, and Fast DDS's newer one.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def profile_in_force() -> str:
    """Path of the profile that the environment names; "" for none."""
    return next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")


def shipped_profile() -> str:
    """Path of the profile that ships with this package, or how to find it."""
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return "config/fastdds.xml of this package"
    try:
        return f"{get_package_share_directory('explain_cnn_ros')}/config/fastdds.xml"
    except PackageNotFoundError:
        return "$(ros2 pkg prefix --share explain_cnn_ros)/config/fastdds.xml"


def cure() -> str:
    """What to set."""
    return f"set {VARIABLES[0]}={shipped_profile()} for the camera's process and for this one"
