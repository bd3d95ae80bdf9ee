"""The ROS descriptions of options that are parameters of a node."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from explain_cnn_ros.options import Option


def descriptor(default: Any, described: Option) -> ParameterDescriptor:
    """Return the ROS description of an option, with its range.

    Args:
        default: Default of the parameter, whose type determines the kind of range.
        described: The option.
    """
    message = ParameterDescriptor(
        description=described.description,
        additional_constraints=constraints(default, described),
        read_only=described.read_only,
    )
    low, high = described.minimum, described.maximum
    if low is not None and high is not None:
        if isinstance(default, float):
            message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif isinstance(default, int):
            message.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return message


def constraints(default: Any, described: Option) -> str:
    """Return what ROS's ranges cannot express, in words; "" if there is nothing else.

    ROS has no choices, and no ranges of arrays. They are checked when the settings are built.

    Args:
        default: Default of the parameter.
        described: The option.
    """
    several = isinstance(default, list)
    if described.choices:
        names = ", ".join(choice or "'' (empty)" for choice in described.choices)
        return f"{'At least one of' if several else 'One of'}: {names}."
    if several and described.minimum is not None and described.maximum is not None:
        return f"Each number from {described.minimum:g} to {described.maximum:g}, without repetition."
    return ""
