"""Declares options as the parameters of a node, and checks the values that users set at the start."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros.options import Option
from explain_cnn_ros.ros.descriptors import descriptor

#: Minimum similarity of two names, from 0 to 1, of which one may be a misspelling of the other.
SIMILAR = 0.85


def declare(node: Node, described: Mapping[str, tuple[Any, Option]]) -> None:
    """Declare options as parameters of a node.

    Parameters that are floating-point numbers accept integers as well, at the start and later, although ROS itself
    refuses 5 for 5.0. A warning is logged for each value that has no effect because no parameter has its name, if the
    name resembles that of a parameter.

    Args:
        node: The node.
        described: Default and option of each parameter by its full name.

    Raises:
        ParameterException: ROS refuses a value that was set at the start.
    """
    real = {name for name, (default, _) in described.items() if isinstance(default, float)}

    def converted(parameter: Parameter) -> Parameter:
        whole = parameter.name in real and parameter.type_ == Parameter.Type.INTEGER
        return Parameter(parameter.name, value=float(parameter.value)) if whole else parameter

    given = node._parameter_overrides  # rclpy has no public name for what was set at the start
    given.update({name: converted(parameter) for name, parameter in given.items()})
    for name, (default, option) in described.items():
        node.declare_parameter(name, default, descriptor(default, option))
    node.add_pre_set_parameters_callback(lambda changes: [converted(change) for change in changes])
    for sentence in unknown(given, node.list_parameters([], 0).names):
        node.get_logger().warning(sentence)


def unknown(given: Iterable[str], known: Collection[str]) -> list[str]:
    """Return a sentence about each name that is no parameter of a node, but resembles one.

    Other names are left out, because a parameter file may be for several nodes.

    Args:
        given: The names that were set at the start.
        known: Full names of the parameters that the node has.
    """
    groups = {name.partition(".")[0] for name in known if "." in name}
    # Users forget the group of a parameter, or write a wrong one.
    spelled = {name.rpartition(".")[2]: name for name in known} | {name: name for name in known}
    sentences = []
    for name in sorted({*given} - {*known}):
        group, _, rest = name.partition(".")
        spellings = (name, rest) if group in groups else (name,)
        near = [found for text in spellings for found in difflib.get_close_matches(text, spelled, 1, SIMILAR)]
        if near:
            sentences.append(f"there is no parameter {name}, its value has no effect: {spelled[near[0]]} may be meant")
        elif group in groups:
            sentences.append(f"there is no parameter {name}, its value has no effect: see `ros2 param list`")
    return sentences
