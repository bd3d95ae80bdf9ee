"""Spinning and services that go on when a callback fails. With rclpy alone, one odd request ends the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from explain_cnn_ros.ros.cooldown import Cooldown
from explain_cnn_ros.ros.signals import interrupted

#: Pause after a failure, in seconds, so that failures without end do not fill a CPU and a disk.
PAUSE = 0.02

#: Minimum time between two log messages about failures, in seconds.
LOG_PERIOD = 1.0

Callback = Callable[..., Any]


class EnduringExecutor(SingleThreadedExecutor):
    """Logs exceptions of callbacks, and of messages that cannot be converted, instead of ending.

    Args:
        node: The only node to spin; its log is used.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(context=node.context)
        self._node = node
        self._logged = Cooldown()
        self.add_node(node)

    def spin(self) -> None:
        """Execute callbacks until the context is shut down.

        Raises:
            ExternalShutdownException: The context was shut down while the executor waited.
            KeyboardInterrupt: A signal has arrived.
        """
        while self._node.context.ok():
            try:
                self.spin_once()
            except ExternalShutdownException:
                raise
            except Exception as error:
                self._survive("a callback", error)

    # rclpy would never take from an entity again after an exception of these.

    def _take_subscription(self, sub: Any) -> Any:
        return self._taken(super()._take_subscription, sub)

    def _take_service(self, srv: Any) -> Any:
        return self._taken(super()._take_service, srv)

    def _take_client(self, client: Any) -> Any:
        return self._taken(super()._take_client, client)

    def _taken(self, take: Callable[[Any], Any], entity: Any) -> Any:
        try:
            return take(entity)
        except Exception as error:
            self._survive("the conversion of a message", error)
            return None

    def _survive(self, what: str, error: Exception) -> None:
        # A signal becomes a RuntimeError while a message is converted, and if it shuts the context down.
        if interrupted():
            raise KeyboardInterrupt from error
        if not self._node.context.ok():
            return
        if self._logged.begin_if_over(LOG_PERIOD):
            self._node.get_logger().error(f"{what} failed: {type(error).__name__}: {error}; the node continues")
        time.sleep(PAUSE)


def guard_services(node: Node) -> None:
    """Let the services of a node answer with a failure where their callbacks raise exceptions, and log these.

    Call this after all services have been created. Without an answer, a caller would wait forever.

    Args:
        node: The node, with its services of parameters and of the life cycle.
    """
    for service in node.services:
        kind = service.srv_type
        if kind is SetParameters:
            service.callback = _each_parameter(node, service.callback)
        else:
            service.callback = _guarded(node, service.srv_name, kind, service.callback)


def _refused(node: Node, name: str, error: Exception) -> str:
    state = f", the node is {node.state_label}" if hasattr(node, "state_label") else ""
    # rclpy adds the place in its source, which callers do not need.
    reason = str(error).partition(", at /")[0] or type(error).__name__
    node.get_logger().warning(f"request of {name} refused{state}: {reason}")
    return reason


def _failure(kind: Any, reason: str) -> Any:
    """Return the response that says that a request failed. In responses without such a field, everything is empty."""
    response = kind.Response()
    if kind is SetParametersAtomically:
        response.result = SetParametersResult(successful=False, reason=reason)
    if hasattr(response, "message"):
        response.message = reason
    return response


def _guarded(node: Node, name: str, kind: Any, callback: Callback) -> Callback:
    async def answer_later(request: Any, response: Any) -> Any:
        try:
            return await callback(request, response)
        except Exception as error:
            return _failure(kind, _refused(node, name, error))

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            if interrupted() or not rclpy.ok(context=node.context):
                raise
            return _failure(kind, _refused(node, name, error))

    return answer_later if iscoroutinefunction(callback) else answer


def _each_parameter(node: Node, callback: Callback) -> Callback:
    """Set parameters one by one, as the service is defined: one that cannot be set does not concern the others."""

    def answer(request: Any, response: Any) -> Any:
        for parameter in request.parameters:
            try:
                one = callback(SetParameters.Request(parameters=[parameter]), SetParameters.Response())
                response.results += list(one.results)
            except Exception as error:
                if interrupted():
                    raise
                reason = _refused(node, f"set_parameters for {parameter.name!r}", error)
                response.results += [SetParametersResult(successful=False, reason=reason)]
        return response

    return answer
