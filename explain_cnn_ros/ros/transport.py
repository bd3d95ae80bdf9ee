"""The settings of the middleware that large images need. `doctor` uses this module without ROS."""

from __future__ import annotations

import os
import re
from pathlib import Path

from explain_cnn_ros.ros.distribution import distribution

#: First distribution of ROS with Fast DDS 3. The names of distributions are in alphabetical order.
FAST_DDS_3 = "kilted"

#: Environment variables that name a profile of Fast DDS. Fast DDS 2 knows the first one only.
VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")

#: Environment variable that chooses transports of Fast DDS, and the part of a profile that makes it have no effect.
TRANSPORTS, NO_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS", r"<useBuiltinTransports>\s*(false|0)\s*<"


def is_fast_dds(middleware: str) -> bool:
    """Return whether a middleware is Fast DDS.

    Args:
        middleware: Its identifier, for instance "rmw_fastrtps_cpp".
    """
    return middleware.startswith("rmw_fastrtps")


def variables() -> tuple[str, ...]:
    """Return the environment variables that name a profile in this distribution."""
    return VARIABLES if distribution() >= FAST_DDS_3 else VARIABLES[:1]


def profile_in_force() -> str:
    """Return the path of the profile that the environment names; "" if there is none."""
    return next((os.environ[name] for name in variables() if os.environ.get(name)), "")


def ignored_variable() -> str:
    """Return the environment variable that names a profile, but that Fast DDS does not know; "" if there is none."""
    return next((name for name in VARIABLES if name not in variables() and os.environ.get(name)), "")


def ignored_transports(profile: str) -> str:
    """Return the value of FASTDDS_BUILTIN_TRANSPORTS if a profile makes it have no effect; "" otherwise.

    Args:
        profile: Path of the profile.

    Raises:
        OSError: The profile cannot be read.
    """
    text = re.sub("<!--.*?-->", "", Path(profile).read_text(errors="replace"), flags=re.DOTALL)
    return os.environ.get(TRANSPORTS, "") if re.search(NO_TRANSPORTS, text) else ""


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
    """Return the remedy for lost images with Fast DDS: the setting of the environment variable."""
    return f"set {variables()[-1]}={shipped_profile()} for the camera's process and for this one"


def loss_hint(middleware: str, reliability: str) -> str:
    """Return the probable reason why images are lost, or the remedy.

    Args:
        middleware: Identifier of the middleware.
        reliability: Reliability of the subscription: "reliable" or "best_effort".
    """
    if not is_fast_dds(middleware):
        return (
            f"the machine may be too busy, or the buffers of the system may be too small for the images: raise "
            f"net.core.rmem_max (sysctl), and see what the documentation of {middleware} says about large messages"
        )
    if not profile_in_force():
        return cure()
    if reliability == "best_effort":
        return "the machine may be too busy; use a reliable publisher, which loses none (parameter reliability)"
    return "the machine may be too busy, or the camera's process may lack the Fast DDS profile"
