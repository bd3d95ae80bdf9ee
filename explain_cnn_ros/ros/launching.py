"""Functions that several launch files of this package use. This module imports neither ROS nor launch."""

from __future__ import annotations

import os
from typing import Any

#: Allowed values of an argument that is true or false. Other packages, for instance Nav2, write True. If their launch
#: file includes one of ours, launch compares the value that they have set with these values.
BOOLEANS = ("true", "false", "True", "False")

#: Variables with which users choose the transports of Fast DDS. A profile would replace their choice.
DDS_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")


def is_true(text: str) -> bool:
    """Return whether an argument with one of the values BOOLEANS, or none, is true."""
    return text.lower() == "true"


def existing_file(argument: str, path: str) -> str:
    """Return the path of a file with the home folder for `~`, which shells leave as it is after `:=`.

    launch itself goes on without a parameter file that does not exist.

    Args:
        argument: Name of the launch argument, for the message.
        path: Its value; "" for no file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    expanded = os.path.expanduser(path)
    if expanded and not os.path.isfile(expanded):
        raise FileNotFoundError(f"{argument}: there is no file {expanded}")
    return expanded


def dds_environment(given: str, default: Any) -> dict[str, Any]:
    """Return the environment variables with which a process gets a Fast DDS profile.

    Args:
        given: Path of the profile from the launch argument dds_profile; "" if it was not given.
        default: Path of the profile of this package, or a substitution of launch. It is used if the user has chosen
            neither a profile nor transports.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not given and any(os.environ.get(name) for name in DDS_VARIABLES):
        return {}
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": existing_file("dds_profile", given) or default}
