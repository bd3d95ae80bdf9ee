"""SROS 2: whether this machine can run the commands with ROS_SECURITY_ENABLE. This module needs no ROS.

docs/security.md describes the keystore and the policies.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from explain_cnn_ros.ros.error_texts import one_line

#: The error of rmw_fastrtps if Fast DDS was built without security. A library with security does not contain it.
NO_SECURITY = b"This Fast DDS version doesn't have the security libraries"

#: Library that contains it.
LIBRARY = "librmw_fastrtps_shared_cpp.so"

#: End of messages, which refers to the documentation.
SEE = "; see docs/security.md"


def enabled() -> bool:
    """Return whether security is requested. As in rcl, every value except `true` means that it is not."""
    return os.environ.get("ROS_SECURITY_ENABLE") == "true"


def refusal() -> str:
    """Return why no command can run with security on this machine, with the remedy; "" if there is no reason.

    Without security, there is no reason. With ROS_SECURITY_STRATEGY other than Enforce, rcl ignores a missing keystore.
    """
    if not enabled():
        return ""
    begin = "ROS_SECURITY_ENABLE is true, but "
    if (os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp").startswith("rmw_fastrtps") and _without_security():
        return (
            f"{begin}Fast DDS was built without security, as in the wheels that `make setup` installs: use ROS 2 from "
            f"apt, or unset ROS_SECURITY_ENABLE{SEE}"
        )
    if os.environ.get("ROS_SECURITY_STRATEGY") != "Enforce":
        return ""
    keystore = os.environ.get("ROS_SECURITY_KEYSTORE", "")
    if not keystore:
        return f"{begin}ROS_SECURITY_KEYSTORE is not set: set it to the folder of the keystore{SEE}"
    if not (Path(keystore) / "enclaves").is_dir():
        return (
            f"{begin}{keystore!r} is not a keystore: create one with `ros2 security create_keystore`, or set "
            f"ROS_SECURITY_KEYSTORE to another folder{SEE}"
        )
    return ""


def failure(error: BaseException) -> str:
    """Return a description of an error of rclpy that security may have caused, with the remedy; "" for other errors.

    Args:
        error: An error that ended a command.
    """
    if not (enabled() and isinstance(error, RuntimeError) and type(error).__module__.partition(".")[0] == "rclpy"):
        return ""
    return (
        f"ROS cannot be used with ROS_SECURITY_ENABLE: {one_line(error)}. Check that the keystore has the "
        f"enclave of --enclave, and that its policy allows the topic or service{SEE}"
    )


def _without_security() -> bool:
    """Return whether the installed rmw_fastrtps says that it has no security."""
    folders = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders += [f"{prefix}/lib" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for folder in folders:
        path = Path(folder) / LIBRARY
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(NO_SECURITY) >= 0
        except (OSError, ValueError):  # it is not there, or is empty
            continue
    return False
