"""Weights files: safetensors with everything in the metadata that a network needs to run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from explain_cnn_ros.files import quoted, reason, replacing, visible
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.safetensors_header import METADATA, read_header
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier

#: The weights that ship with the package.
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "vgg16_inria.safetensors"

#: Prefix of the proposer's tensors in the file.
PROPOSER_PREFIX = "proposer."

#: Types of weights, and of the counters of batch norm.
FLOATS, INTEGERS = ("F16", "BF16", "F32", "F64"), ("I64",)

#: Origins of a network: this package's own VGGs, and the networks of torchvision.
SOURCES = ("explain_cnn_ros", "torchvision")

#: Fields of the metadata that files of the first versions do not have.
LATER = ("proposer", "source", "person")

#: Cure for a file of another origin.
CURE = (
    "give the path of a file that `train` has written, or run `explain-cnn import-weights` for weights of torchvision"
)

#: Maximum number of names of tensors in a message.
NAMED = 3


def _is_whole(value: object, least: int = 1) -> bool:
    """Whether a value is a size that PyTorch can hold, and at least as large as another one."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_three(value: object, low: float, high: float) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_number(one) and low <= one <= high for one in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_names(value: object, least: int) -> bool:
    """Whether a value is a number of different names, at least `least`."""
    if not isinstance(value, tuple) or not all(isinstance(name, str) and name for name in value):
        return False
    return len(value) >= least and len(set(value)) == len(value)


#: Condition that the value of each field of ModelInfo must satisfy, and the condition in words. Means and deviations
#: become float32, in which other numbers are 0 or infinite.
_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "architecture": (_is_text, "a text"),
    "hidden": (_is_whole, "a whole number above 0"),
    "input_size": (
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value)),
        "two whole numbers above 0, width and height",
    ),
    "mean": (lambda value: _are_three(value, -1e6, 1e6), "three numbers between -1e6 and 1e6"),
    "std": (
        lambda value: _are_three(value, 1e-6, 1e6) and max(value) >= 1,
        "three numbers between 1e-6 and 1e6 for pixel values of 0 to 255, one of them at least 1. Multiply those for "
        "pixel values of 0 to 1 by 255, and the mean as well",
    ),
    "classes": (lambda value: _are_names(value, 2), "the names of two or more different classes"),
    "threshold": (lambda value: _is_number(value) and 0 < value < 1, "a number between 0 and 1"),
    "training_data": (_is_text, "a text"),
    "command": (_is_text, "a text"),
    "created": (_is_text, "a text"),
    "accuracy": (
        lambda value: isinstance(value, dict) and all(_is_text(k) and _is_number(v) for k, v in value.items()),
        "numbers by name",
    ),
    "proposer": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "source": (lambda value: value in SOURCES, f"one of {', '.join(SOURCES)}"),
    "person": (lambda value: _are_names(value, 1), "the names of one or more different classes"),
}


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a weights file. Lists become tuples.

    Attributes:
        architecture: Name of the network, as in torchvision.
        hidden: Width of the two hidden dense layers of the VGGs of this package; other networks have no use for it.
        input_size: Size (width, height) of the window, in pixels.
        mean: Mean of R, G and B that is subtracted from pixel values in [0, 255].
        std: Standard deviation of R, G and B by which they are divided.
        classes: Names of the logits, in order.
        threshold: The classifier decides for a person if P(person) is at least this.
        training_data: Data that the weights were trained on.
        command: Command that trained them.
        created: Time of the training, ISO 8601.
        accuracy: Figures on the validation windows and the test photos of the training, by name.
        proposer: Width of the network that proposes windows; 0 if there is none.
        source: Origin of the network, one of SOURCES: "explain_cnn_ros" (`VGGClassifier`) or "torchvision"
            (`TorchvisionClassifier`).
        person: Names of the classes that count as a person. At least one class does not.

    Raises:
        ValueError: A value is out of range.
    """

    architecture: str = "vgg16"
    hidden: int = 256
    input_size: tuple[int, int] = (64, 128)
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    classes: tuple[str, ...] = ("background", "person")
    threshold: float = 0.5
    training_data: str = ""
    command: str = ""
    created: str = ""
    accuracy: dict[str, float] = field(default_factory=dict)
    proposer: int = 0
    source: str = "explain_cnn_ros"
    person: tuple[str, ...] = ("person",)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):
                object.__setattr__(self, each.name, tuple(value))
        for name, (condition, expected) in _EXPECTED.items():
            value = getattr(self, name)
            if not condition(value):
                raise ValueError(f"{name} is {_short(value)}: it must be {expected}")
        if unknown := [name for name in self.person if name not in self.classes]:
            raise ValueError(
                f"classes is {_short(self.classes)}: it must contain {', '.join(unknown)}, which count as a person"
            )
        if len(self.person) == len(self.classes):
            raise ValueError(f"person is {_short(self.person)}: at least one class must not count as a person")

    @property
    def targets(self) -> tuple[int, ...]:
        """Indices of the classes that count as a person, in ascending order."""
        return tuple(index for index, name in enumerate(self.classes) if name in self.person)

    def to_metadata(self) -> dict[str, str]:
        """Convert to safetensors metadata: one JSON string for each field. Figures that are not finite are left out."""
        plain = dataclasses.asdict(self) | {"accuracy": _known(self.accuracy)}
        return {key: json.dumps(value) for key, value in plain.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelInfo:
        """Read what `to_metadata` returned; unknown keys are ignored. Files of the first versions lack those of LATER.

        Figures of the accuracy that are null or not finite are left out.

        Raises:
            ValueError: A key is missing, or its value is no JSON or of the wrong kind. The message names the key.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        missing = [name for name in names if name not in metadata and name not in LATER]
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(missing)}: {CURE}")
        fields: dict[str, Any] = {name: _parsed(name, metadata[name]) for name in names if name in metadata}
        if isinstance(fields["accuracy"], dict):
            fields["accuracy"] = _known(fields["accuracy"])
        return cls(**fields)


def _known(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures without those that are null, not finite, or too large for a float32."""
    return {name: v for name, v in figures.items() if not (v is None or (_is_number(v) and not abs(v) < 1e30))}


def _parsed(name: str, text: str) -> Any:
    """Return the value of a key of the metadata."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} in its metadata is {_short(text)}: it must be JSON") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + " ..."


#: The kinds of networks.
Network = VGGClassifier | TorchvisionClassifier


class Weights(NamedTuple):
    """The contents of a weights file.

    Attributes:
        network: The network, in float32.
        proposer: The network that proposes windows, in float32; None if there is none. Networks without a dense pass
            always have one: if the file has none, it is that of the weights that ship with the package.
        info: The metadata.
        model_hash: First 12 hexadecimal digits of the file's SHA-256.
    """

    network: Network
    proposer: Proposer | None
    info: ModelInfo
    model_hash: str


def read_weights(path: Path) -> Weights:
    """Read a weights file.

    Raises:
        FileNotFoundError: There is no file at `path`.
        ValueError: The file cannot be read, is damaged, or holds no weights of this package. The message names the
            cause and the cure.
    """
    try:
        if not path.is_file():
            is_folder = ", which is a folder" if path.is_dir() else ""
            raise FileNotFoundError(
                f"no weights at {path}{is_folder}: give the path of a .safetensors file that `train` or "
                "`import-weights` has written"
            )
        header = read_header(path)
        info = ModelInfo.from_metadata(header.get(METADATA) or {})
        network, proposer = _networks(info, header)
        with safetensors.safe_open(path, framework="pt") as file:
            _load(plain(network), file.get_tensor)
            if proposer is not None:
                _load(proposer, lambda name: file.get_tensor(PROPOSER_PREFIX + name))
        if proposer is None and isinstance(network, TorchvisionClassifier):
            proposer = shipped_proposer()
        return Weights(network, proposer, info, _hash(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from error
    except (ValueError, RuntimeError, TypeError, OverflowError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} holds no weights of explain_cnn_ros: {error}") from error


def shipped_proposer() -> Proposer:
    """Read the network that proposes windows from the weights that ship with the package.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        info = ModelInfo.from_metadata(read_header(DEFAULT_WEIGHTS).get(METADATA) or {})
        with torch.device("meta"):
            proposer = Proposer(info.proposer, info.input_size)
        with safetensors.safe_open(DEFAULT_WEIGHTS, framework="pt") as file:
            _load(proposer, lambda name: file.get_tensor(PROPOSER_PREFIX + name))
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"the weights that ship with the package ({DEFAULT_WEIGHTS}) cannot be read ({error}): install it again"
        ) from error
    proposer.mean, proposer.std = info.mean, info.std
    return proposer


def plain(network: nn.Module) -> nn.Module:
    """Return the module whose weights a file holds: torchvision's network itself, or the network."""
    return network.network if isinstance(network, TorchvisionClassifier) else network


def _networks(info: ModelInfo, header: Mapping[str, Any]) -> tuple[Network, Proposer | None]:
    """Build the networks of a file. They have no memory before they are loaded, except the convolutions of a VGG.

    Args:
        info: The metadata of the file.
        header: Its header; see `read_header`.

    Raises:
        ValueError: The header announces other tensors than those of the networks.
    """
    with torch.device("meta"):
        network: Network
        if info.source == "torchvision":
            network = TorchvisionClassifier(info.architecture, info.input_size, len(info.classes))
        else:
            network = VGGClassifier(info.architecture, info.input_size, info.hidden, len(info.classes))
        proposer = Proposer(info.proposer, info.input_size) if info.proposer else None
    expected = dict(plain(network).state_dict())
    if proposer is not None:
        expected |= proposer.state_dict(prefix=PROPOSER_PREFIX)
    names = header.keys() - {METADATA}
    width, height = info.input_size
    of_network = f"the network that its metadata describes ({info.architecture}, windows of {width} x {height})"
    # Files of the first versions have no offsets.
    optional = set() if any(name.startswith("offset.") for name in names) else {"offset.weight", "offset.bias"}
    if missing := sorted(expected.keys() - names - optional):
        raise ValueError(f"it lacks {listed(missing)} of {of_network}: the file is not complete, or of another network")
    if extra := sorted(names - expected.keys()):
        raise ValueError(f"it has {listed(extra)}, which {of_network} does not have: the file is of another network")
    for name in sorted(expected.keys() & names):
        shape, types = tuple(expected[name].shape), FLOATS if expected[name].is_floating_point() else INTEGERS
        if header[name]["dtype"] not in types:
            kind = quoted(header[name]["dtype"])
            raise ValueError(f"its tensor {name} has the type {kind}: it must be {' or '.join(types)}")
        if tuple(header[name]["shape"]) != shape:
            found = quoted(header[name]["shape"])
            raise ValueError(
                f"its tensor {name} has the shape {found}, {of_network} has {list(shape)}: the file is of another "
                "network"
            )
    return network, proposer


def listed(names: Sequence[str]) -> str:
    """Return at most NAMED names of tensors, and how many there are besides."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"the tensor{'s' if len(names) > 1 else ''} {', '.join(visible(name[:100]) for name in names[:NAMED])}{more}"


def _load(network: nn.Module, read: Callable[[str], Tensor]) -> None:
    """Replace the weights of a network.

    Args:
        network: The network.
        read: Reads a tensor by its name in the network.

    Raises:
        ValueError: A value of a tensor is not finite, or a variance is negative.
    """
    # It has the versions of the modules besides the tensors, without which some networks of torchvision are not loaded.
    state = network.state_dict()
    for name, expected in state.items():
        try:
            value = read(name)
        except safetensors.SafetensorError:
            if not name.startswith("offset."):
                raise
            # The windows of files of the first versions are not moved.
            value = torch.zeros(expected.shape)
        state[name] = checked(name, value, expected)
    network.load_state_dict(state, assign=True)
    network.to(memory_format=torch.channels_last)


def checked(name: str, value: Tensor, expected: Tensor) -> Tensor:
    """Return a copy of a tensor in the type of the expected one, float32 for weights.

    Args:
        name: Name of the tensor, for the message.
        value: The tensor of a file.
        expected: The tensor of the network.

    Raises:
        ValueError: A value is not finite, or a variance is negative.
    """
    # Without a copy, the tensor would be a part of the file, which may change.
    value = value.to(expected.dtype, copy=True)
    if value.is_floating_point():
        wrong = int(value.numel() - torch.isfinite(value).sum())
        if wrong:
            raise ValueError(
                f"its tensor {name} has {wrong:,} values of {value.numel():,} that are not finite (NaN or infinity): "
                "the training diverged, or the file is damaged. Use other weights"
            )
        if name.endswith("running_var") and (value < 0).any():
            raise ValueError(f"its tensor {name} has negative values: a variance has none. The file is damaged")
    return value


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:12]


def write_weights(
    network: torch.nn.Module,
    info: ModelInfo,
    path: Path,
    dtype: torch.dtype = torch.float16,
    proposer: Proposer | None = None,
) -> None:
    """Write weights and metadata as safetensors; an existing file stays until the new one is complete.

    Args:
        network: The network; its floating-point tensors are converted to `dtype`, except the statistics of batch norm
            and tensors with values that `dtype` cannot hold.
        info: The metadata. Its `proposer` is replaced by the width of the given one.
        path: The file; its folder is created if it does not exist.
        dtype: Type of the stored weights.
        proposer: The network that proposes windows, without batch norm; None for none.

    Raises:
        OSError: The file cannot be written.
    """
    tensors = dict(plain(network).state_dict())
    if proposer is not None:
        tensors |= proposer.state_dict(prefix=PROPOSER_PREFIX)
    info = dataclasses.replace(info, proposer=0 if proposer is None else proposer.width)
    state = {name: _converted(name, value.detach().cpu(), dtype) for name, value in tensors.items()}
    try:
        with replacing(path) as partial:
            save_file(state, partial, info.to_metadata())
            partial.chmod(0o644)  # safetensors creates files that only their owner can read
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _converted(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor as it is stored."""
    # Small variances would lose most of their digits in float16.
    exact = not value.is_floating_point() or name.endswith(("running_mean", "running_var"))
    if exact or bool((value.abs() > torch.finfo(dtype).max).any()):
        return value.contiguous()
    return value.to(dtype).contiguous()
