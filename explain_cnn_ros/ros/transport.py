"""The Fast DDS profile that large images need. `doctor` uses this module without ROS."""

from __future__ import annotations

import os

#: Environment variables that name a profile: that of the documentation of ROS, and the newer one of Fast DDS.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def profile_in_force() -> str:
    """Return the path of the profile that the environment names; "" if there is none."""
    return next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")


def shipped_profile() -> str:
    """Return the path of this package's profile, or an expression that finds it."""
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return "config/fastdds.xml of this package"
    try:
        return f"{get_package_share_directory('explain_cnn_ros')}/config/fastdds.xml"
    except PackageNotFoundError:
        return "$(ros2 pkg prefix --share explain_cnn_ros)/config/fastdds.xml"


def cure() -> str:
    """Return the remedy for lost images: the setting of the environment variable."""
    return f"set {VARIABLES[0]}={shipped_profile()} for the camera's process and for this one"
