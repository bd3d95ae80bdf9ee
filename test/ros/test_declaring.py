"""Parameters as users write them: integers for floating-point numbers, and misspelled names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros.ros import parameters
from explain_cnn_ros.ros.black_box.parameters import BlackBoxParameters
from explain_cnn_ros.ros.declaring import unknown
from explain_cnn_ros.ros.parameters import ParameterServer

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]

KNOWN = (*parameters.declared(), "use_sim_time")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("treshold", "there is no parameter treshold, its value has no effect: threshold may be meant"),
        ("person_height_min", "scan.person_height_min may be meant"),
        ("sigma", "explain.sigma may be meant"),
        ("explain.sigmma", "explain.sigma may be meant"),
        ("scan.threshold", "threshold may be meant"),
        ("explain.arithmetic", "there is no parameter explain.arithmetic, its value has no effect: see"),
        ("use_sim_tme", "use_sim_time may be meant"),
    ],
)
def test_a_value_without_effect_is_named(given, said):
    (sentence,) = unknown([given, "threshold"], KNOWN)
    assert said in sentence


@pytest.mark.parametrize(
    "name", ["foreign", "use_sim_time", "qos_overrides./tf.publisher.depth", "controller.threshold"]
)
def test_parameters_of_other_nodes_are_not_named(name):
    """A file with the node name /** has them."""
    assert unknown([name], KNOWN) == []


@pytest.fixture
def node_with(graph) -> Iterator[Callable[..., Node]]:
    """Create nodes with parameters."""
    nodes: list[Node] = []

    def create(*given: str) -> Node:
        arguments = ["--ros-args", *(part for parameter in given for part in ("-p", parameter))]
        nodes.append(Node("a_node", context=graph.context, cli_args=arguments))
        return nodes[-1]

    yield create
    for node in nodes:
        node.destroy_node()


def test_the_log_names_values_without_effect(node_with, capfd):
    ParameterServer(node_with("treshold:=0.9", "foreign:=1"))
    BlackBoxParameters(node_with("befor:=3.0", "foreign:=1"), lambda: None)
    said = capfd.readouterr().err
    assert "there is no parameter treshold, its value has no effect: threshold may be meant" in said
    assert "there is no parameter befor, its value has no effect: before may be meant" in said
    assert "foreign" not in said


def test_a_whole_number_counts_as_a_real_one(node_with):
    def real(value: Any) -> bool:
        return isinstance(value, float)

    node = node_with("explain_cooldown:=5", "explain.sigma:=1", "explain_queue:=7")
    server = ParameterServer(node)
    current = server.current
    assert (current.explain_cooldown, current.explain.sigma, current.explain_queue) == (5.0, 1.0, 7)
    assert real(server.current.explain_cooldown)
    assert real(node.get_parameter("explain.sigma").value)
    results = node.set_parameters([Parameter("confidence_threshold", value=1), Parameter("live_smoothing", value=2)])
    assert all(result.successful for result in results), results
    assert (server.current.confidence_threshold, server.current.live_smoothing) == (1.0, 2.0)
    assert real(server.current.confidence_threshold)
    # ROS describes all other parameters.
    wrong = [Parameter("threshold", value=True), Parameter("explain.top_n", value=2.0), Parameter("threshold", value=2)]
    assert not any(result.successful for result in node.set_parameters(wrong))
    black_box = node_with("before:=3")
    assert real(BlackBoxParameters(black_box, lambda: None).current.before)
