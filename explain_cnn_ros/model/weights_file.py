"""Weights files: safetensors with everything in the metadata that a network needs to run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import save_file

from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.proposer import Proposer

#: The weights that ship with the package.
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "vgg16_inria.safetensors"

#: Prefix of the proposer's tensors in the file.
PROPOSER_PREFIX = "proposer."


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a weights file.

    Attributes:
        architecture: Name of the VGG, as in torchvision.
        hidden: Width of the two hidden dense layers.
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

    def __post_init__(self) -> None:
        if self.classes != ("background", "person"):
            raise ValueError(f"classes are {self.classes}: this package decides between background and person")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}: it must lie between 0 and 1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(deviation > 0 for deviation in self.std):
            raise ValueError(f"mean is {self.mean}, std {self.std}: three numbers each, std above 0")

    def to_metadata(self) -> dict[str, str]:
        """Convert to safetensors metadata: one JSON string for each field."""
        return {key: json.dumps(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> ModelInfo:
        """Read what `to_metadata` returned; unknown keys are ignored. Files of the first versions have no `proposer`.

        Raises:
            ValueError: A key is missing.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        missing = [name for name in names if name not in metadata and name != "proposer"]
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(missing)}")
        values: dict[str, Any] = {name: json.loads(metadata[name]) for name in names if name in metadata}
        # JSON has no tuples.
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


class Weights(NamedTuple):
    """What a weights file holds.

    Attributes:
        network: The network, in float32.
        proposer: The network that proposes windows, in float32; None if there is none.
        info: The metadata.
        model_hash: First 12 hexadecimal digits of the file's SHA-256.
    """

    network: VGGClassifier
    proposer: Proposer | None
    info: ModelInfo
    model_hash: str


def read_weights(path: Path) -> Weights:
    """Read a weights file.

    Raises:
        FileNotFoundError: There is no file at `path`.
        ValueError: The file holds no weights of this package.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: give the path of a .safetensors file that `train` has written")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            info = ModelInfo.from_metadata(file.metadata() or {})
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        proposer = Proposer(info.proposer, info.input_size) if info.proposer else None
        if proposer is not None:
            own = [name for name in state if name.startswith(PROPOSER_PREFIX)]
            proposer.load_state_dict({name.removeprefix(PROPOSER_PREFIX): state.pop(name) for name in own})
        network = VGGClassifier(info.architecture, info.input_size, info.hidden, len(info.classes))
        for name, value in network.offset.state_dict(prefix="offset.").items():
            # Files of the first versions have no offsets; their windows are not moved.
            state.setdefault(name, torch.zeros_like(value))
        network.load_state_dict(state)
    except (ValueError, RuntimeError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} holds no weights of explain_cnn_ros: {error}") from error
    return Weights(network, proposer, info, hashlib.sha256(path.read_bytes()).hexdigest()[:12])


def write_weights(
    network: torch.nn.Module,
    info: ModelInfo,
    path: Path,
    dtype: torch.dtype = torch.float16,
    proposer: Proposer | None = None,
) -> None:
    """Write weights and metadata as safetensors; an existing file stays until the new one is complete.

    Args:
        network: The network; its floating-point tensors are converted to `dtype`.
        info: The metadata. Its `proposer` is replaced by the width of the given one.
        path: The file; its folder is created if it does not exist.
        dtype: Type of the stored weights.
        proposer: The network that proposes windows, without batch norm; None for none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = dict(network.state_dict())
    if proposer is not None:
        tensors |= proposer.state_dict(prefix=PROPOSER_PREFIX)
    info = dataclasses.replace(info, proposer=0 if proposer is None else proposer.width)
    state = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in tensors.items()
    }
    partial = path.with_suffix(".partial")
    save_file(state, partial, info.to_metadata())
    partial.chmod(0o644)  # safetensors creates files that only their owner can read
    partial.replace(path)
