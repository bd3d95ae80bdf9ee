"""The node's parameters: declared once, as options of frozen dataclasses, and read, validated and changed together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from explain_cnn_ros.bags.limits import DEFAULT_LIMITS
from explain_cnn_ros.explain.live import SMOOTHING
from explain_cnn_ros.explain.metrics import SUPPORTING, metric_names
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.options import Option, option, options
from explain_cnn_ros.ros.declaring import declare
from explain_cnn_ros.scan.decider import DETECTIONS, REGIONS, DecisionSettings
from explain_cnn_ros.scan.scanning import ScanSettings

#: Kinds of live explanations. YAML takes "off" for a boolean.
LIVE = ("none", "influence")

#: The parameters whose names have a prefix, and their settings: `scan.scale_step`, `explain.sigma`.
GROUPS: dict[str, type] = {"scan": ScanSettings, "explain": ExplainSettings}


@dataclass(frozen=True)
class NodeParameters(DecisionSettings):
    """All parameters of the node. The fields `scan` and `explain` are groups of parameters: `explain.sigma`.

    Raises:
        ValueError: A value is out of range; the message names the parameter and what is expected.
    """

    regions: str = option(
        "scan",
        "Windows of a frame: scan (the frame is searched for persons), whole (the whole frame is resized to one "
        "window; only for images that are windows, which one person fills) or detections (the boxes of a detector that "
        "the robot runs, on the topic detections).",
        choices=(*REGIONS, DETECTIONS),
    )
    confidence_threshold: float = option(
        0.75,
        "A decision has low confidence if max(p, 1 - p) is below this. It is then explained without a request; 0: no "
        "decision has.",
        0.0,
        1.0,
    )
    image_transport: str = option(
        "raw",
        "Transport of the images: raw (topic image) or compressed (topic image/compressed).",
        choices=("raw", "compressed"),
        read_only=True,
    )
    reliability: str = option(
        "auto",
        "Reliability of the image subscription: reliable, best_effort, or auto (reliable if all publishers are). With "
        "auto, the node subscribes anew if its publishers change.",
        choices=("auto", "reliable", "best_effort"),
        read_only=True,
    )
    detections_wait: float = option(
        1.0,
        "With detections, maximum time that an image waits for the detections with its stamp, in seconds. Images "
        "without detections are skipped.",
        0.01,
        60.0,
    )
    detections_classes: str = option(
        "",
        "With detections, classes that the detector calls persons, names or ids, separated by commas; empty: all. A "
        "single id needs a comma, since YAML takes it for a number otherwise: '0,'.",
    )
    detections_margin: float = option(
        0.0,
        "With detections and an imported network, margin that is added on each side of a box, as a share of its size. "
        "The networks of this package have a margin of their own, which their training determines.",
        0.0,
        2.0,
    )
    megapixels_max: float = option(
        DEFAULT_LIMITS.megapixels,
        "Maximum number of pixels of a compressed image, in millions. A larger image is rejected before memory is "
        "taken for it: a few bytes can declare more pixels than the machine has memory for.",
        0.01,
        10_000.0,
    )
    weights: str = option(
        "",
        "Path of a .safetensors file that train, import-weights or repair has written; empty: the weights of this "
        "package.",
        read_only=True,
    )
    device: str = option(
        "auto",
        "Device of the network: auto (a GPU if there is one), cpu, cuda or, for instance, cuda:1.",
        read_only=True,
    )
    autostart: bool = option(True, "Whether the node configures and activates itself at the start.", read_only=True)
    explain_cooldown: float = option(
        5.0,
        "Minimum time between two explanations of low confidence, in seconds of the node's clock.",
        0.0,
        86_400.0,
    )
    explain_queue: int = option(
        4, "Maximum number of explanations that wait; further requests are refused.", 1, 100, read_only=True
    )
    preset: str = option(
        "",
        "Named settings, which replace parameters of explain, also those that were set: paper (the six metrics and the "
        "noise of the paper), authors (the same with the noise of the authors' code), stable (orthogonal noise, n = "
        "14, whose rankings hardly depend on the seed), stable_fine (orthogonal noise of finer structure, n = 50), "
        "live (influence of the image alone, without perturbations); empty: none.",
        choices=("", *PRESETS),
    )
    overlay_metric: str = option(
        SUPPORTING,
        "Metric whose patches are drawn. With influence, the patches of opposing neurons are drawn as well, in another "
        "style. The first metric of an explanation stands in for one that it lacks.",
        choices=metric_names,
    )
    live: str = option(
        "none",
        "Live explanations: none, or influence. With influence, every decided frame is explained by influence of the "
        "image alone, as long as the machine has time: the newest frame wins. ~/live has the results, and ~/overlay, "
        "~/markers and ~/annotations show them instead of the explanations that are requested or that doubt causes.",
        choices=LIVE,
    )
    live_smoothing: float = option(
        SMOOTHING,
        "Time constant over which live explanations are averaged, in seconds of the images' stamps; 0: each image is "
        "explained by itself.",
        0.0,
        60.0,
    )
    explain: ExplainSettings = field(default_factory=ExplainSettings)

    @property
    def person_classes(self) -> tuple[str, ...]:
        """The classes that the detector calls persons; empty for all."""
        return tuple(filter(None, (name.strip() for name in self.detections_classes.split(","))))


def declared() -> dict[str, tuple[Any, Option]]:
    """Return the default and the option of every parameter by its full name. Groups follow the other parameters."""
    found = {name: (value, described) for name, value, described in _walk(NodeParameters(), "")}
    return dict(sorted(found.items(), key=lambda item: "." in item[0]))


def _walk(settings: Any, prefix: str) -> Iterable[tuple[str, Any, Option]]:
    described = options(settings)
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in described:
            yield prefix + item.name, list(value) if isinstance(value, tuple) else value, described[item.name]
        else:
            yield from _walk(value, f"{prefix}{item.name}.")


def build(values: dict[str, Any]) -> NodeParameters:
    """Build the parameters from values by full name. A preset replaces values of `explain`.

    Raises:
        ValueError: A value is out of range; the message names the parameter and what is expected.
    """
    nested: dict[str, dict[str, Any]] = {"": {}, **{group: {} for group in GROUPS}}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        nested[group][leaf] = tuple(value) if isinstance(value, list) or hasattr(value, "typecode") else value
    parts: dict[str, Any] = {}
    for group, kind in GROUPS.items():
        try:
            parts[group] = kind(**nested[group])
        except ValueError as error:
            raise ValueError(f"{group}.{error}") from error
    built = NodeParameters(**nested[""], **parts)
    if not built.preset:
        return built
    try:
        explain = dataclasses.replace(built.explain, **PRESETS[built.preset])
    except ValueError as error:
        raise ValueError(f"with the preset {built.preset}, explain.{error}") from error
    return dataclasses.replace(built, explain=explain)


def replaced(values: dict[str, Any]) -> list[str]:
    """Return the full names of the parameters that were set, but have no effect because the preset replaces them.

    Args:
        values: Values of all parameters by full name; they are valid.
    """
    found = []
    for leaf, value in PRESETS.get(values["preset"], {}).items():
        name = f"explain.{leaf}"
        given = tuple(values[name]) if isinstance(value, tuple) else values[name]
        if given not in (value, getattr(ExplainSettings(), leaf)):
            found.append(name)
    return found


def unchecked(_: NodeParameters) -> None:
    """Accept any parameters that are valid by themselves."""


class ParameterServer:
    """Declares the parameters on a node, and refuses changes that are not valid.

    Args:
        node: The node. Its log says which parameters have no effect because a preset replaces them.

    Attributes:
        current: The parameters in force. A change replaces the object.
        check: Checks changes further, for instance by the network, and raises a ValueError with the reason if one
            cannot take effect.

    Raises:
        ValueError: A value that was set at the start is out of range.
        ParameterException: ROS refuses a value that was set at the start.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.check: Callable[[NodeParameters], None] = unchecked
        declare(node, declared())
        self._replaced: list[str] = []
        self._apply()
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._apply)

    def _values(self) -> dict[str, Any]:
        return {name: self._node.get_parameter(name).value for name in declared()}

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        known = declared()
        values = self._values() | {change.name: change.value for change in changes if change.name in known}
        try:
            self.check(build(values))
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, _: Sequence[Parameter] = ()) -> None:
        values = self._values()
        self.current = build(values)
        before, self._replaced = self._replaced, replaced(values)
        if self._replaced and self._replaced != before:
            self._node.get_logger().warning(
                f"the preset {self.current.preset} replaces {', '.join(self._replaced)}: what was set there has no "
                "effect; set preset to '' to use it"
            )
