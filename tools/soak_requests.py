"""Requests and frames of a soak: good ones, and those that a node in the field gets by mistake."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.msg import Region
from explain_cnn_ros.srv import Explain

#: The services of the node that are called.
SERVICES: dict[str, Any] = {
    "explain": Explain,
    "set_enabled": SetBool,
    "set_parameters": SetParameters,
    "set_parameters_atomically": SetParametersAtomically,
    "get_parameters": GetParameters,
    "get_parameter_types": GetParameterTypes,
    "describe_parameters": DescribeParameters,
    "list_parameters": ListParameters,
    "change_state": ChangeState,
    "get_state": GetState,
    "get_available_states": GetAvailableStates,
    "get_available_transitions": GetAvailableTransitions,
}

#: Ids of transitions that no state allows, or that the active state does not allow. The shutdowns are left out: the
#: node would be finalized. So are those that the active state allows.
UNFIT_TRANSITIONS = (
    Transition.TRANSITION_CREATE,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DESTROY,
    Transition.TRANSITION_ON_CONFIGURE_SUCCESS,
    Transition.TRANSITION_ON_ERROR_SUCCESS,
    Transition.TRANSITION_CALLBACK_ERROR,
    100,
    255,
)


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        kind: Name of the kind of request.
        service: Name of the service.
        request: The request.
        good: Whether an active node grants it; None if that depends.
        undo: A request that is sent at once afterwards, in case that a bad one was granted.
    """

    kind: str
    service: str
    request: Any
    good: bool | None
    undo: Ask | None = None


def granted(response: Any) -> bool:
    """Return whether a response says that the request was granted. Responses that cannot refuse grant everything."""
    if hasattr(response, "results"):
        return all(result.successful for result in response.results)
    if hasattr(response, "result") and hasattr(response.result, "successful"):
        return bool(response.result.successful)
    return bool(getattr(response, "success", True))


def image_of(pixels: NDArray[Any], encoding: str, **fields: Any) -> Image:
    """Return the message of an image.

    Args:
        pixels: The pixels [H, W] or [H, W, channels] in the encoding's type.
        encoding: The encoding.
        **fields: Fields with other values than the right ones.
    """
    height, width = pixels.shape[:2]
    right = {
        "width": width,
        "height": height,
        "encoding": encoding,
        "step": pixels.nbytes // height,
        "data": array.array("B", pixels.tobytes()),
    }
    return Image(**(right | fields))


def compressed(data: bytes, form: str = "jpeg") -> CompressedImage:
    """Return the message of a compressed image."""
    return CompressedImage(format=form, data=array.array("B", data))


def raw_frames(frame: NDArray[np.uint8]) -> dict[str, Image]:
    """Return odd raw frames by name: malformed ones first, then valid ones of unusual form.

    Args:
        frame: A frame, uint8 [H, W, 3] RGB.
    """
    height, width = frame.shape[:2]
    grey = np.ascontiguousarray(frame[..., 1])
    jpeg = array.array("B", cv2.imencode(".jpg", frame)[1].tobytes()[:2000])
    floats = grey.astype(np.float32)
    floats[::7] = math.nan
    padded = np.zeros((height, 3 * width + 13), np.uint8)
    padded[:, : 3 * width] = frame.reshape(height, -1)
    return {
        "step too small": image_of(frame, "rgb8", step=3 * width - 5),
        "step too large": image_of(frame, "rgb8", step=2**31),
        "step 0 and no data": image_of(frame, "rgb8", step=0, data=array.array("B")),
        "unknown encoding": image_of(frame, "rgb9"),
        "no encoding": image_of(frame, ""),
        "hostile encoding": image_of(frame, "%s\n\x1b[31m" + "x" * 5000),
        "cut": image_of(frame, "rgb8", data=array.array("B", frame.tobytes()[:-1])),
        "JPEG as raw": image_of(frame, "jpeg", data=jpeg),
        "zero size": Image(encoding="rgb8"),
        "zero width": image_of(frame, "rgb8", width=0),
        "size of 4 billion": image_of(frame, "mono8", width=2**32 - 1, height=2**32 - 1, step=0),
        "odd NV12": image_of(np.zeros((33, 31), np.uint8), "nv12", height=21),
        "grey": image_of(grey, "mono8"),
        "Bayer": image_of(grey, "bayer_grbg8"),
        "depth": image_of(grey.astype(np.uint16) * 40, "16UC1"),
        "floats with NaN": image_of(floats, "32FC1"),
        "big-endian": image_of(grey.astype(">u2") * 200, "mono16", is_bigendian=1),
        "padded rows": image_of(padded, "rgb8", width=width),
        "one pixel": image_of(frame[:1, :1], "rgb8"),
        "one row": image_of(frame[:1], "rgb8"),
    }


def compressed_frames(frame: NDArray[np.uint8]) -> dict[str, CompressedImage]:
    """Return odd compressed frames by name: malformed ones first, then valid ones of unusual form.

    Args:
        frame: A frame, uint8 [H, W, 3] RGB.
    """
    jpeg = cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes()
    png = cv2.imencode(".png", frame[..., ::-1])[1].tobytes()
    # The size stands behind the marker of the frame's start and the fields for length and precision.
    size = jpeg.index(b"\xff\xc0") + 5
    return {
        "nothing": compressed(b""),
        "no image": compressed(b"\x00" * 1000),
        "cut JPEG": compressed(jpeg[: len(jpeg) // 2]),
        "beginning of a JPEG": compressed(jpeg[:20]),
        "cut PNG": compressed(png[: len(png) // 2], "png"),
        "JPEG of 32000 x 32000": compressed(jpeg[:size] + b"\x7d\x00\x7d\x00" + jpeg[size + 4 :]),
        "compressed depth": compressed(bytes(12) + png, "16UC1; compressedDepth"),
        "JPEG as PNG": compressed(jpeg, "png"),
        "PNG": compressed(png, "rgb8; png compressed bgr8"),
        "grey JPEG": compressed(cv2.imencode(".jpg", frame[..., 1])[1].tobytes(), ""),
        "hostile format": compressed(jpeg, "%n\n\x1b[2J" + "x" * 5000),
    }


def explanations(frame: NDArray[np.uint8]) -> list[Ask]:
    """Return requests for explanations.

    Args:
        frame: A frame with persons, uint8 [H, W, 3] RGB.
    """
    height, width = frame.shape[:2]
    image, box = image_of(frame, "rgb8"), Region(x=width // 3, y=height // 4, width=width // 6, height=width // 3)
    malformed = raw_frames(frame)

    def ask(kind: str, good: bool | None, **fields: Any) -> Ask:
        return Ask(f"explain: {kind}", "explain", Explain.Request(**fields), good)

    return [
        ask("newest frame", True),
        ask("newest frame, region", True, region=[box]),
        ask("unknown metric", False, metrics=["beauty"]),
        ask("image", True, image=image),
        ask("image, region", True, image=image, region=[box]),
        ask("region outside", False, region=[Region(x=10**6, y=10**6, width=64, height=128)]),
        ask("two metrics, three neurons", True, metrics=["influence", "counter_influence"], top_n=3),
        ask("empty region", False, region=[Region(x=10, y=10)]),
        ask("region at the border", None, region=[Region(x=-20, y=height - 100, width=64, height=128)]),
        ask("4 billion neurons", False, top_n=2**32 - 1),
        ask("malformed image", False, image=malformed["step too small"]),
        ask("image of unknown encoding", False, image=malformed["unknown encoding"]),
        ask("cut image, region", False, image=malformed["cut"], region=[box]),
        ask("grey image", True, image=malformed["grey"], metrics=["activation_sum"]),
        ask("region of 4 billion pixels", False, region=[Region(width=2**32 - 1, height=2**32 - 1)]),
    ]


def burst(number: int) -> list[Ask]:
    """Return requests that are sent at once: more than may wait.

    Args:
        number: Number of requests.
    """
    return [Ask("explain: burst", "explain", Explain.Request(top_n=1 + index), None) for index in range(number)]


def _parameter(name: str, kind: int, **value: Any) -> Parameter:
    return Parameter(name=name, value=ParameterValue(type=kind, **value))


def double(name: str, value: float) -> Parameter:
    """Return a parameter with a floating-point number."""
    return _parameter(name, ParameterType.PARAMETER_DOUBLE, double_value=value)


def integer(name: str, value: int) -> Parameter:
    """Return a parameter with an integer."""
    return _parameter(name, ParameterType.PARAMETER_INTEGER, integer_value=value)


def string(name: str, value: str) -> Parameter:
    """Return a parameter with a string."""
    return _parameter(name, ParameterType.PARAMETER_STRING, string_value=value)


def integers(name: str, *values: int) -> Parameter:
    """Return a parameter with an array of integers."""
    return _parameter(name, ParameterType.PARAMETER_INTEGER_ARRAY, integer_array_value=list(values))


def set_parameters(kind: str, good: bool | None, *parameters: Parameter, undo: Ask | None = None) -> Ask:
    """Return a request that sets parameters."""
    request = SetParameters.Request(parameters=list(parameters))
    return Ask(f"parameter: {kind}", "set_parameters", request, good, undo)


def odd_requests() -> list[Ask]:
    """Return requests of the node's other services: most are bad, and some are good."""
    unknown_type = _parameter("threshold", 77)
    layers = set_parameters("layers", True, integers("explain.layers", *ExplainSettings().layers))
    together = SetParametersAtomically.Request(parameters=[integer("explain.top_n", 4), unknown_type])
    names = ["threshold", "no such parameter", "", "x" * 3000]
    return [
        set_parameters("unknown type", False, unknown_type),
        set_parameters("out of range", False, double("confidence_threshold", 7.0)),
        set_parameters("read-only", False, string("device", "cuda:9")),
        set_parameters("seed", True, integer("explain.seed", 1)),
        set_parameters("NaN", False, double("explain.sigma", math.nan)),
        set_parameters("infinite", False, double("explain_cooldown", math.inf)),
        set_parameters("not declared", False, string("no such parameter", "x")),
        set_parameters("wrong type", False, string("threshold", "high")),
        set_parameters("no type", False, _parameter("threshold", ParameterType.PARAMETER_NOT_SET)),
        set_parameters("unknown choice", False, string("preset", "no such preset")),
        # The parameter may be up to 255, but the network has 13.
        set_parameters("layer that the network lacks", False, integers("explain.layers", 99), undo=layers),
        set_parameters("layer 0", False, integers("explain.layers", 0), undo=layers),
        set_parameters("no layer", False, integers("explain.layers"), undo=layers),
        set_parameters("half of them bad", False, integer("explain.top_n", 4), unknown_type),
        set_parameters("top_n", True, integer("explain.top_n", 5)),
        set_parameters("seed", True, integer("explain.seed", 0)),
        set_parameters("none", None),
        Ask("parameters together, one bad", "set_parameters_atomically", together, False),
        Ask("get parameters", "get_parameters", GetParameters.Request(names=names), None),
        Ask("types of parameters", "get_parameter_types", GetParameterTypes.Request(names=names), None),
        Ask("describe parameters", "describe_parameters", DescribeParameters.Request(names=names), None),
        Ask("list parameters", "list_parameters", ListParameters.Request(prefixes=["scan", "%"], depth=2**60), None),
        *(_change("unfit transition", number, good=False) for number in UNFIT_TRANSITIONS),
        _change("unfit transition", 0, "no such label", good=False),
        Ask("get state", "get_state", GetState.Request(), None),
        Ask("available states", "get_available_states", GetAvailableStates.Request(), None),
        Ask("available transitions", "get_available_transitions", GetAvailableTransitions.Request(), None),
        Ask("disable", "set_enabled", SetBool.Request(data=False), True),
        Ask("enable", "set_enabled", SetBool.Request(data=True), True),
    ]


def _change(kind: str, number: int, label: str = "", good: bool | None = True) -> Ask:
    request = ChangeState.Request(transition=Transition(id=number, label=label))
    return Ask(f"{kind}: {label or number}", "change_state", request, good)


#: The transition after which the node has no network.
CLEANUP = Transition.TRANSITION_CLEANUP

#: Transitions that the state allows, by turns: off and on, and down and up.
CYCLES: Sequence[Sequence[int]] = (
    (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE),
    (
        Transition.TRANSITION_DEACTIVATE,
        CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ),
)


def transition(number: int) -> Ask:
    """Return a request for a transition that the state allows."""
    return _change("transition", number)
