"""The node's parameters: declared once, as options of frozen dataclasses; read, validated and changed as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros.options import Option, option, options, validate
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.settings import PRESETS, ExplainSettings


@dataclass(frozen=True)
class NodeParameters:
    """All parameters of the node. `explain` and `scan` are name prefixes: `explain.sigma`."""

    image_transport: str = option(
        "raw",
        "Where frames come from: raw (topic image) or compressed (topic image/compressed).",
        choices=("raw", "compressed"),
        read_only=True,
    )
    reliability: str = option(
        "auto",
        "Reliability of the image subscription: reliable, best_effort, or auto (reliable where every publisher is).",
        choices=("auto", "reliable", "best_effort"),
        read_only=True,
    )
    weights: str = option(
        "", "Path of a .safetensors file made by train; empty: the weights that ship with the package.", read_only=True
    )
    device: str = option(
        "auto", "Device of the network: auto (the GPU where there is one), cpu, cuda, cuda:1 ...", read_only=True
    )
    autostart: bool = option(
        True, "Configure and activate at the start; otherwise wait for lifecycle transitions.", read_only=True
    )
    regions: str = option(
        "whole",
        "How a frame becomes windows: whole (resized to the window, as in the paper) or scan (persons searched for).",
        choices=("whole", "scan"),
    )
    threshold: float = option(
        0.0, "P(person) from which on the node says person; 0: the threshold that belongs to the weights.", 0.0, 0.999
    )
    confidence_threshold: float = option(
        0.75, "A frame is explained by itself when max(p, 1 - p) is below this; 0: never.", 0.0, 1.0
    )
    explain_cooldown: float = option(
        5.0, "Seconds of the node's clock between two explanations on low confidence.", 0.0, 86_400.0
    )
    explain_queue: int = option(4, "Explanations that may wait; more are refused.", 1, 100, read_only=True)
    preset: str = option(
        "",
        "Noise by name, in place of the explain.* parameters that it names: paper (explain.* as they come), authors "
        "(ramp), stable (orthogonal, n = 14: for rankings that another seed gives as well), stable_fine (the same of "
        "finer structure, n = 50); empty: explain.* as set.",
        choices=("", *PRESETS),
    )
    overlay_metric: str = option(
        "activation_precision",
        "Metric whose patches the overlay shows.",
        choices=ExplainSettings().metrics,
    )
    explain: ExplainSettings = field(default_factory=ExplainSettings)
    scan: ScanSettings = field(default_factory=ScanSettings)

    def __post_init__(self) -> None:
        validate(self)


def declared() -> dict[str, tuple[Any, Option]]:
    """Every parameter by its full name: (default, option)."""
    return {name: (value, described) for name, value, described in _walk(NodeParameters(), "")}


def _walk(settings: Any, prefix: str) -> Iterable[tuple[str, Any, Option]]:
    described = options(settings)
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in described:
            yield prefix + item.name, list(value) if isinstance(value, tuple) else value, described[item.name]
        else:
            yield from _walk(value, f"{prefix}{item.name}.")


def build(values: dict[str, Any]) -> NodeParameters:
    """The parameters from their full names and values; ValueError names what does not fit."""
    nested: dict[str, dict[str, Any]] = {"": {}, "explain": {}, "scan": {}}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        nested[group][leaf] = tuple(value) if isinstance(value, list) or hasattr(value, "typecode") else value
    parts: dict[str, Any] = {}
    for group, kind in (("explain", ExplainSettings), ("scan", ScanSettings)):
        try:
            parts[group] = kind(**nested[group])
        except ValueError as error:
            raise ValueError(f"{group}.{error}") from error
    built = NodeParameters(**nested[""], **parts)
    if built.preset:
        return dataclasses.replace(built, explain=dataclasses.replace(built.explain, **PRESETS[built.preset]))
    return built


def descriptor(default: Any, described: Option) -> ParameterDescriptor:
    """The ROS description of an option, with its range."""
    constraints = f"One of: {', '.join(described.choices)}." if described.choices else ""
    message = ParameterDescriptor(
        description=described.description, additional_constraints=constraints, read_only=described.read_only
    )
    low, high = described.minimum, described.maximum
    # Arrays may not carry a range; theirs is checked when the settings are built.
    if low is not None and high is not None:
        if isinstance(default, float):
            message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif isinstance(default, int):
            message.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return message


class ParameterServer:
    """Declares the parameters on a node and keeps `current` valid whatever is set."""

    def __init__(self, node: Node) -> None:
        self._node = node
        for name, (default, described) in declared().items():
            node.declare_parameter(name, default, descriptor(default, described))
        self.current = build(self._values())
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._apply)

    def _values(self) -> dict[str, Any]:
        return {name: self._node.get_parameter(name).value for name in declared()}

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        known = declared()
        values = self._values() | {change.name: change.value for change in changes if change.name in known}
        try:
            build(values)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, _: list[Parameter]) -> None:
        self.current = build(self._values())
