"""Odd requests and failing callbacks: the caller is answered, and the node goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool

from explain_cnn_ros.ros import enduring
from explain_cnn_ros.ros.enduring import EnduringExecutor, guard_services

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]


@pytest.fixture
def node(domain: int) -> Iterator[Node]:
    """A node with a parameter and a service that fails."""
    rclpy.init(args=[], domain_id=domain)
    node = Node("odd")
    node.declare_parameter("size", 3)

    def fail(*_: Any) -> Any:
        raise KeyError("no luck")

    node.create_service(SetBool, "~/set", fail)
    guard_services(node)
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def answer(node: Node, kind: Any, request: Any) -> Any:
    (service,) = [service for service in node.services if service.srv_type is kind]
    return service.callback(request, kind.Response())


def parameter(name: str, kind: int, **value: Any) -> Parameter:
    return Parameter(name=name, value=ParameterValue(type=kind, **value))


UNKNOWN = parameter("size", 77)
SIZE = parameter("size", ParameterType.PARAMETER_INTEGER, integer_value=5)


def test_an_unknown_type_of_a_parameter_concerns_only_this_parameter(node: Node) -> None:
    request = SetParameters.Request(parameters=[UNKNOWN, SIZE, parameter("size", 0), parameter("nothing", 1)])
    results = answer(node, SetParameters, request).results
    assert [result.successful for result in results] == [False, True, False, False]
    assert results[0].reason == "77 is not a valid Parameter.Type"
    assert node.get_parameter("size").value == 5


def test_together_all_are_refused(node: Node) -> None:
    request = SetParametersAtomically.Request(parameters=[SIZE, UNKNOWN])
    result = answer(node, SetParametersAtomically, request).result
    assert (result.successful, result.reason) == (False, "77 is not a valid Parameter.Type")
    assert node.get_parameter("size").value == 3


def test_a_service_that_fails_answers(node: Node) -> None:
    response = answer(node, SetBool, SetBool.Request())
    assert (response.success, response.message) == (False, "'no luck'")


def test_a_coroutine_that_fails_answers(node: Node) -> None:
    async def fail(*_: Any) -> Any:
        raise ValueError("later")

    waiting = enduring._guarded(node, "set", SetBool, fail)(SetBool.Request(), SetBool.Response())
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    assert ended.value.value.message == "later"


def test_the_executor_survives_callbacks_and_messages(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that fails once, and a message that cannot be converted; then all is as before."""
    heard: list[str] = []
    failures = [RuntimeError("a timer"), None]

    def tick() -> None:
        error = failures.pop(0) if failures else None
        if error is not None:
            raise error
        publisher.publish(String(data="again"))

    take, taken = SingleThreadedExecutor._take_subscription, []

    def take_or_fail(self: Any, subscription: Any) -> Any:
        taken.append(take(self, subscription))
        if len(taken) == 1:
            raise RuntimeError("a message")
        return taken[-1]

    def hear(message: String) -> None:
        heard.append(message.data)
        rclpy.shutdown()

    monkeypatch.setattr(SingleThreadedExecutor, "_take_subscription", take_or_fail)
    node.create_subscription(String, "words", hear, 10)
    publisher = node.create_publisher(String, "words", 10)
    node.create_timer(0.01, tick)
    executor = EnduringExecutor(node)
    executor.spin()
    executor.shutdown()
    assert heard[0] == "again"
    assert len(taken) >= 2
    assert not failures
