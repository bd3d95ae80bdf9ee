"""The parameters of the black box on its ROS node."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros.options import Option, options
from explain_cnn_ros.ros.black_box.settings import BlackBoxSettings
from explain_cnn_ros.ros.declaring import declare


def declared() -> dict[str, tuple[Any, Option]]:
    """Return the default and the option of every parameter by its name."""
    defaults = BlackBoxSettings()
    return {name: (getattr(defaults, name), described) for name, described in options(defaults).items()}


class BlackBoxParameters:
    """Declares the parameters on a node, and refuses changes that are not valid.

    Args:
        node: The node.
        changed: Called after each change.

    Attributes:
        current: The parameters in force. A change replaces the object.

    Raises:
        ValueError: A value that was set at the start is out of range.
        ParameterException: ROS refuses a value that was set at the start.
    """

    def __init__(self, node: Node, changed: Callable[[], None]) -> None:
        self._node, self._changed = node, changed
        declare(node, declared())
        self.current = BlackBoxSettings(**{name: node.get_parameter(name).value for name in declared()})
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._apply)

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            self._with(changes)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, changes: Sequence[Parameter]) -> None:
        self.current = self._with(changes)
        self._changed()

    def _with(self, changes: Sequence[Parameter]) -> BlackBoxSettings:
        known = declared()
        return dataclasses.replace(
            self.current, **{change.name: change.value for change in changes if change.name in known}
        )
