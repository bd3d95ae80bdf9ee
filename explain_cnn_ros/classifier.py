"""The person classifier: weights and their metadata, windows -> P(person)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from explain_cnn_ros import int8
from explain_cnn_ros.arithmetic import prepare
from explain_cnn_ros.network import OFFSET_UNITS, VGGClassifier, fold_batch_norm
from explain_cnn_ros.regions import Region
from explain_cnn_ros.scanning import ScanSettings, scan

#: The weights that ship with the package.
DEFAULT_WEIGHTS = Path(__file__).parent / "weights" / "vgg16_inria.safetensors"

BACKGROUND, PERSON = 0, 1

#: Windows that go through the network at once: more is no faster, and memory stays bounded.
BATCH = 64

#: As many pixels as in this many windows are faster with Winograd's convolutions.
WINDOWS_FOR_WINOGRAD = 2


@dataclass(frozen=True)
class ModelInfo:
    """What a weights file says of itself.

    architecture: a torchvision VGG by name.
    hidden: width of the two hidden dense layers.
    input_size: (width, height) of the window, pixels.
    mean, std: normalisation of R, G, B, in pixel values of [0, 255].
    classes: names of the logits, in order.
    threshold: P(person) from which on a window counts as a person.
    training_data, command, created: how the weights were made.
    accuracy: figures on data that training did not see, by name.
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

    def __post_init__(self) -> None:
        if self.classes != ("background", "person"):
            raise ValueError(f"classes are {self.classes}: this package decides between background and person")
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}: it must lie between 0 and 1")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(deviation > 0 for deviation in self.std):
            raise ValueError(f"mean is {self.mean}, std {self.std}: three numbers each, std above 0")

    def to_metadata(self) -> dict[str, str]:
        """As safetensors metadata: a string a field, JSON."""
        return {key: json.dumps(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> ModelInfo:
        """The inverse of `to_metadata`; unknown keys are ignored, missing ones are an error."""
        names = [f.name for f in dataclasses.fields(cls)]
        missing = [name for name in names if name not in metadata]
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(missing)}")
        values: dict[str, Any] = {name: json.loads(metadata[name]) for name in names}
        # JSON knows no tuples.
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto" is the GPU where PyTorch finds one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device {device!r} was asked for, but PyTorch finds no CUDA GPU: install the NVIDIA driver, "
            "or use device 'auto' or 'cpu'"
        )
    return chosen


def fast_low_precision(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device multiplies it natively (AVX512-BF16, AMX, Ampere and later); None elsewhere."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else None
    return torch.bfloat16 if torch.backends.mkldnn.is_available() and _cpu_has_bfloat16() else None


def _cpu_has_bfloat16() -> bool:
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than some PyTorch 2
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class PersonClassifier:
    """A VGG that tells person from background in windows of one size.

    Attributes:
        network: the torch.nn.Module; `.features` is torchvision's VGG `features`. In eval mode.
        info: what the weights file says of itself.
        model_hash: first 12 hex digits of the SHA-256 of the weights file; "" for weights that were never a file.
        device: where the network lives.
        autocast: dtype of the arithmetic, None for float32.
        search_autocast: the same for searching.
        search_int8: whether searching multiplies integers of 8 bits instead; where the CPU is made for it.
    """

    def __init__(
        self,
        network: VGGClassifier,
        info: ModelInfo,
        device: str | torch.device = "auto",
        model_hash: str = "",
        autocast: torch.dtype | None = None,
    ) -> None:
        self.info = info
        self.device = choose_device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.model_hash = model_hash
        self.autocast = autocast
        self.search_int8 = autocast is None and self.device.type == "cpu" and int8.available()
        self.search_autocast = autocast if self.search_int8 else autocast or fast_low_precision(self.device)
        self._prepared: dict[str, tuple[list[int], VGGClassifier]] = {}
        self._mean = torch.tensor(info.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(info.std, device=self.device).view(1, 3, 1, 1)

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "auto") -> PersonClassifier:
        """Read a safetensors file that `save` wrote; None is the one that ships with the package.

        Batch norm is folded into the convolutions.

        Raises:
            FileNotFoundError, ValueError: no such file, or not weights of this package.
        """
        path = Path(path) if path is not None else DEFAULT_WEIGHTS
        if not path.is_file():
            raise FileNotFoundError(f"no weights at {path}: give the path of a .safetensors file made by `train`")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                info = ModelInfo.from_metadata(file.metadata() or {})
                names = list(file.keys())
                state = {name: file.get_tensor(name).float() for name in names}
            network = VGGClassifier(info.architecture, info.input_size, info.hidden, len(info.classes))
            for name, value in network.offset.state_dict(prefix="offset.").items():
                # Files from before there were offsets: windows stay where they are.
                state.setdefault(name, torch.zeros_like(value))
            network.load_state_dict(state)
        except (ValueError, RuntimeError, TypeError, safetensors.SafetensorError) as error:
            raise ValueError(f"{path} holds no weights of explain_cnn_ros: {error}") from error
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return cls(network, info, device, digest).without_batch_norm()

    def without_batch_norm(self) -> PersonClassifier:
        """The same decisions from a network whose batch norm is folded into its convolutions; self if it has none."""
        network = fold_batch_norm(self.network)
        if network is self.network:
            return self
        info = dataclasses.replace(self.info, architecture=network.architecture)
        return PersonClassifier(network, info, self.device, self.model_hash, self.autocast)

    def prepared(self, arithmetic: str) -> VGGClassifier:
        """The network to run with one of `arithmetic.ARITHMETICS`, but "auto", or "int8"; it shares the weights.

        What it takes to prepare it is kept as long as the weights stay as they are.
        """
        # PyTorch counts how often each tensor was changed in place; but for changes through `.data`.
        versions = [0 if p.is_inference() else p._version for p in self.network.parameters()]
        known = self._prepared.get(arithmetic)
        if known is None or known[0] != versions:
            self._prepared[arithmetic] = known = (versions, self._prepare(arithmetic))
        return known[1]

    def _prepare(self, arithmetic: str) -> VGGClassifier:
        if arithmetic != "int8":
            return prepare(self.network, arithmetic)
        low, high = (
            float(extreme) for extreme in ((-self._mean / self._std).min(), ((255 - self._mean) / self._std).max())
        )
        return int8.with_int8(self.network, low, high)

    def _fast_network(self, batch: Tensor, autocast: torch.dtype | None, search: bool = False) -> VGGClassifier:
        """What is fastest for a batch [N, 3, H, W]: few pixels do not repay four times as many weights."""
        if search and self.search_int8:
            return self.prepared("int8")
        width, height = self.info.input_size
        many = len(batch) * batch.shape[-1] * batch.shape[-2] >= WINDOWS_FOR_WINOGRAD * width * height
        direct = not many or autocast is not None or self.device.type != "cpu"
        return self.network if direct else self.prepared("winograd")

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and metadata as safetensors; half precision by default."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
            for name, value in self.network.state_dict().items()
        }
        partial = path.with_suffix(".partial")
        save_file(state, partial, self.info.to_metadata())
        partial.chmod(0o644)  # safetensors makes files that only their owner can read
        partial.replace(path)

    @property
    def threshold(self) -> float:
        """P(person) from which on a window counts as a person; it belongs to the weights."""
        return self.info.threshold

    def normalise(self, pixels: Tensor) -> Tensor:
        """Subtract the mean and divide by the deviation: pixel values [N, 3, H, W] of [0, 255] -> network input."""
        return ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def to_pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """uint8 [N, H, W, 3] RGB -> float32 [N, 3, H, W] on the device, values in [0, 255]."""
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            # From pinned memory, the host need not wait for the copy.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image of any size -> one window, uint8 [128, 64, 3]."""
        check_image(image)
        width, height = self.info.input_size
        if image.shape[:2] == (height, width):
            return image
        smaller = image.shape[0] > height or image.shape[1] > width
        resized: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return resized

    def logits(self, windows: NDArray[np.uint8]) -> Tensor:
        """uint8 [N, 128, 64, 3] RGB -> float32 [N, 2] on the device: background, person."""
        return self._logits_and_offsets(windows)[0]

    @torch.inference_mode()
    def _logits_and_offsets(self, windows: NDArray[np.uint8], search: bool = False) -> tuple[Tensor, Tensor]:
        width, height = self.info.input_size
        if windows.ndim != 4 or windows.shape[1:] != (height, width, 3) or windows.dtype != np.uint8:
            raise ValueError(
                f"windows are {windows.dtype} {list(windows.shape)}: expected uint8 [N, {height}, {width}, 3], RGB; "
                "`resize` turns an image into a window"
            )
        if len(windows) == 0:
            none = torch.zeros(0, device=self.device)
            return none.view(0, len(self.info.classes)), none.view(0, len(OFFSET_UNITS))
        parts = []
        dtype = self.search_autocast if search else self.autocast
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for first in range(0, len(windows), BATCH):
                batch = self.normalise(self.to_pixels(windows[first : first + BATCH]))
                parts.append(self._fast_network(batch, dtype, search).forward_with_offsets(batch))
        logits, offsets = (torch.cat(part).float() for part in zip(*parts, strict=True))
        return logits, offsets

    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """P(person) of windows: uint8 [N, 128, 64, 3] RGB -> float32 [N]."""
        return self.logits(windows).softmax(1)[:, PERSON].cpu().numpy()

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Whether there is a person in windows uint8 [N, 128, 64, 3] RGB, and where.

        Args:
            search: in low precision where that is fast, for what will be looked at again.

        Returns:
            Logit of person minus logit of background, float32 [N]; and the person's middle right of and below the
            window's, as shares of the window's height, and the logarithm of the person's size, 0 for one that fits
            the window: float32 [N, 3]. The latter mean nothing where there is no person.
        """
        return self._located(*self._logits_and_offsets(windows, search))

    @torch.inference_mode()
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`locate` for every window of an image, 32 pixels apart, fully convolutionally.

        uint8 [H, W, 3] RGB -> float32 [(H - 128) // 32 + 1, (W - 64) // 32 + 1], and the same with [..., 3]; in low
        precision where that is fast, since what is found is scored again as exact crops.
        """
        dtype = self.search_autocast
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            batch = self.normalise(self.to_pixels(image[None]))
            logits, offsets = self._fast_network(batch, dtype, search=True).dense_forward(batch)
        return self._located(logits[0].float().permute(1, 2, 0), offsets[0].float().permute(1, 2, 0))

    @staticmethod
    def _located(logits: Tensor, offsets: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What `locate` returns, from [..., 2] and [..., 3] in the network's units."""
        score = logits[..., PERSON] - logits[..., BACKGROUND]
        return score.cpu().numpy(), (offsets * offsets.new_tensor(OFFSET_UNITS)).cpu().numpy()

    def scan(self, frame: NDArray[np.uint8], settings: ScanSettings | None = None) -> list[Region]:
        """Find persons: uint8 [H, W, 3] RGB -> regions in frame pixels, best first.

        Regions below the threshold are left out, but for the best one, which is always returned.
        """
        check_image(frame)
        return scan(self, frame, settings or ScanSettings())


def check_image(image: NDArray[np.uint8]) -> None:
    """Raise ValueError unless this is a non-empty uint8 [H, W, 3] image."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the image is {what}: expected uint8 [H, W, 3], RGB")
    if image.shape[0] == 0 or image.shape[1] == 0:
        raise ValueError(f"the image is empty ({image.shape[1]} x {image.shape[0]} pixels)")
