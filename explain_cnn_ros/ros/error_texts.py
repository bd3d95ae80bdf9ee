"""Texts of the errors of rclpy. This module needs no ROS."""

from __future__ import annotations

import re


def one_line(error: BaseException) -> str:
    """Return the text of an error of rclpy in one line.

    rcl adds the places in its source code, and rclpy points at a character of a name from the line below it.

    Args:
        error: The error.
    """
    text = " ".join(str(error).split())
    return re.sub(r", at \.?/\S+:\d+", "", text).removesuffix(" ^")
