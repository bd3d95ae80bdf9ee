"""Transitions of the node's life cycle, in this process and with a small network: allowed, failing and refused ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros import srv
from explain_cnn_ros.ros.node import ExplainNode
from explain_cnn_ros.ros.outputs import Outputs
from explain_cnn_ros.ros.worker import Worker
from explain_cnn_ros.scan.classifier import PersonClassifier

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)

#: The transitions that lead to each primary state from the beginning.
WAYS: dict[str, tuple[str, ...]] = {
    "unconfigured": (),
    "inactive": ("configure",),
    "active": ("configure", "activate"),
}


@pytest.fixture
def node(domain: int, thin_classifier: PersonClassifier, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExplainNode]:
    """The node with the small network, unconfigured."""
    monkeypatch.setattr(PersonClassifier, "load", lambda *_: thin_classifier)
    rclpy.init(args=["--ros-args", "-p", "confidence_threshold:=0.0"], domain_id=domain)
    node = ExplainNode()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def trigger(node: ExplainNode, *names: str) -> list[TransitionCallbackReturn]:
    return [getattr(node, f"trigger_{name}")() for name in names]


def refusal(node: ExplainNode) -> str:
    return node._request_explanation(srv.Explain.Request(), None)


def test_autostart(node: ExplainNode) -> None:
    assert (node.state_label, node.active, node._worker) == ("unconfigured", False, None)
    node.autostart()
    assert (node.state_label, node.state_id, node.active) == ("active", State.PRIMARY_STATE_ACTIVE, True)


def test_autostart_without_a_network(node: ExplainNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> PersonClassifier:
        raise FileNotFoundError("no weights")

    with monkeypatch.context() as patch:
        patch.setattr(PersonClassifier, "load", fail)
        node.autostart()
    assert (node.state_label, node._worker) == ("unconfigured", None)
    node.autostart()
    assert node.active


def test_the_node_is_active_in_one_state_only(node: ExplainNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is that of rclpy's state machine, in transitions as well."""
    seen = []
    for name in ("on_configure", "on_activate", "on_deactivate", "on_cleanup", "on_shutdown"):

        def note(entity: Outputs, state: LifecycleState) -> TransitionCallbackReturn:
            seen.append((node.state_label, node.active))
            return SUCCESS

        monkeypatch.setattr(Outputs, name, note)
    trigger(node, "configure", "activate", "deactivate", "cleanup", "shutdown")
    labels = ["configuring", "activating", "deactivating", "cleaningup", "shuttingdown"]
    assert seen == [(label, False) for label in labels]
    assert node.state_label == "finalized"


@pytest.mark.parametrize("state", WAYS)
def test_shutdown_from_any_state(node: ExplainNode, state: str) -> None:
    trigger(node, *WAYS[state])
    assert node.state_label == state
    assert trigger(node, "shutdown") == [SUCCESS]
    assert (node.state_label, node.active, node._worker) == ("finalized", False, None)
    assert refusal(node) == "the node is finalized, not active: start the node again"


def test_refusals_name_state_and_remedy(node: ExplainNode) -> None:
    assert refusal(node) == "the node is unconfigured, not active: configure and activate it"
    trigger(node, "configure")
    assert refusal(node) == "the node is inactive, not active: activate it"
    trigger(node, "activate")
    assert refusal(node).startswith("no frame has been classified yet: the node listens to /image")


@pytest.mark.parametrize("cause", ["worker", "entity"])
def test_a_failing_configuration_leaves_nothing_behind(
    node: ExplainNode, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """The network cannot be loaded, or it is loaded and something else fails."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(*{"worker": (Worker, "__init__"), "entity": (Outputs, "on_configure")}[cause], fail)
        assert trigger(node, "configure") == [FAILURE]
    assert (node.state_label, node._worker) == ("unconfigured", None)
    assert trigger(node, "configure", "activate") == [SUCCESS, SUCCESS]


def test_a_failing_activation_can_be_repeated(node: ExplainNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no luck")

    trigger(node, "configure")
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "resume", fail)
        assert trigger(node, "activate") == [FAILURE]
    assert node.state_label == "inactive"
    assert trigger(node, "activate") == [SUCCESS]


@pytest.mark.parametrize("failing", ["deactivate", "cleanup"])
def test_an_error_leaves_a_node_that_can_be_configured(
    node: ExplainNode, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no luck")

    trigger(node, "configure", "activate")
    if failing == "cleanup":
        trigger(node, "deactivate")
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, f"on_{failing}", fail)
        assert trigger(node, failing) == [ERROR]
    assert (node.state_label, node._worker) == ("unconfigured", None)
    assert trigger(node, "configure", "activate") == [SUCCESS, SUCCESS]


def test_an_error_while_handling_an_error_ends_in_finalized(node: ExplainNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no luck")

    trigger(node, "configure", "activate")
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "on_deactivate", fail)
        patch.setattr(Outputs, "on_error", fail)
        assert trigger(node, "deactivate") == [ERROR]
    assert (node.state_label, node._worker) == ("finalized", None)


def test_problems_of_the_node_in_the_graph(node: ExplainNode) -> None:
    """Another node of the same name, and simulated time without a clock."""
    assert node._problems() == []
    namesake = Node("explain_node")
    deadline = time.monotonic() + 100
    while not node._problems() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [problem.kind for problem in node._problems()] == ["namesakes"]
    namesake.destroy_node()
    node.set_parameters([Parameter("use_sim_time", value=True)])
    assert "no clock" in [problem.kind for problem in node._problems()]


@pytest.mark.parametrize("label", ["activate", "cleanup", "no_such_transition", ""])
def test_transitions_that_the_state_does_not_allow_are_refused(node: ExplainNode, label: str) -> None:
    """The service refuses them; rclpy's own callback would end the executor."""
    ids = {"activate": Transition.TRANSITION_ACTIVATE, "cleanup": Transition.TRANSITION_CLEANUP}
    request = ChangeState.Request(transition=Transition(id=ids.get(label, 200), label=label))
    answer: Callable[..., Any] = node._service_change_state.callback
    assert answer(request, ChangeState.Response()).success is False
    assert node.state_label == "unconfigured"
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert answer(request, ChangeState.Response()).success is True
    assert node.state_label == "inactive"
