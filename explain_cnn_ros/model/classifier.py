"""The window classifier: windows of one size -> logits, P(person), and where in the window the person is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.model import int8
from explain_cnn_ros.model.device import choose_device, fast_low_precision
from explain_cnn_ros.model.network import OFFSET_UNITS, VGGClassifier, fold_batch_norm
from explain_cnn_ros.model.output import margin, probability
from explain_cnn_ros.model.precision import prepare
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, ModelInfo, read_weights, write_weights
from explain_cnn_ros.model.windows import check_image

if TYPE_CHECKING:
    from typing_extensions import Self

#: Maximum number of windows in one pass of the network. More are no faster, and memory stays bounded.
BATCH = 64

#: Winograd's convolutions are used if a batch has at least as many pixels as this many windows.
WINDOWS_FOR_WINOGRAD = 2


class WindowClassifier:
    """A network that distinguishes a target class (person) from the others in windows of one size.

    Attributes:
        network: The torch.nn.Module in eval mode; `.features` is torchvision's VGG `features`.
        info: Metadata of the weights file.
        model_hash: First 12 hexadecimal digits of the SHA-256 of the weights file; "" if there is no file.
        device: Device of the network.
        autocast: Data type of the passes; None for float32.
        search_autocast: Data type of the passes that search a frame; None for float32.
        search_int8: Whether the search multiplies 8-bit integers. It does on CPUs that have instructions for it.
        proposer: The network that proposes windows of a frame; None if there is none.
    """

    def __init__(
        self,
        network: VGGClassifier,
        info: ModelInfo,
        device: str | torch.device = "auto",
        model_hash: str = "",
        autocast: torch.dtype | None = None,
        proposer: Proposer | None = None,
    ) -> None:
        self.info = info
        self.device = choose_device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.proposer = proposer if proposer is None else proposer.to(self.device).eval().requires_grad_(False)
        self.model_hash = model_hash
        self.autocast = autocast
        self.search_int8 = autocast is None and self.device.type == "cpu" and int8.available()
        self.search_autocast = autocast if self.search_int8 else autocast or fast_low_precision(self.device)
        self._prepared: dict[str, tuple[list[int], VGGClassifier]] = {}
        self._mean = torch.tensor(info.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(info.std, device=self.device).view(1, 3, 1, 1)

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | torch.device = "auto") -> Self:
        """Load a weights file that `save` wrote. Batch norm is folded into the convolutions.

        Args:
            path: The safetensors file; None for the weights that ship with the package.
            device: "auto", "cpu", "cuda", "cuda:1" and so on.

        Raises:
            FileNotFoundError: There is no file at `path`.
            ValueError: The file holds no weights of this package.
            RuntimeError: The device does not exist.
        """
        weights = read_weights(Path(path) if path is not None else DEFAULT_WEIGHTS)
        loaded = cls(weights.network, weights.info, device, weights.model_hash, proposer=weights.proposer)
        return loaded.without_batch_norm()

    def without_batch_norm(self) -> Self:
        """Return the same classifier with batch norm folded into the convolutions; self if it has no batch norm."""
        network = fold_batch_norm(self.network)
        if network is self.network:
            return self
        info = dataclasses.replace(self.info, architecture=network.architecture)
        return type(self)(network, info, self.device, self.model_hash, self.autocast, self.proposer)

    def untrained(self, seed: int = 0) -> Self:
        """Return a classifier of the same architecture with the weights that training starts from."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = VGGClassifier(self.info.architecture, self.info.input_size, self.info.hidden)
        return type(self)(network, self.info, self.device)

    def prepared(self, precision: str) -> VGGClassifier:
        """Return the network that runs with a precision; it shares the weights with `network`.

        The prepared network is cached until the weights change.

        Args:
            precision: One of `precision.PRECISIONS` except "auto", or "int8".
        """
        # PyTorch counts the changes of each tensor in place, except changes through `.data`.
        versions = [0 if p.is_inference() else p._version for p in self.network.parameters()]
        cached = self._prepared.get(precision)
        if cached is None or cached[0] != versions:
            self._prepared[precision] = cached = (versions, self._prepare(precision))
        return cached[1]

    def _prepare(self, precision: str) -> VGGClassifier:
        if precision != "int8":
            return prepare(self.network, precision)
        low, high = (
            float(extreme) for extreme in ((-self._mean / self._std).min(), ((255 - self._mean) / self._std).max())
        )
        return int8.with_int8(self.network, low, high)

    def _fast_network(self, batch: Tensor, autocast: torch.dtype | None, search: bool = False) -> VGGClassifier:
        """Return the fastest network for a batch [N, 3, H, W]. Winograd's filters do not pay for a few pixels."""
        if search and self.search_int8:
            return self.prepared("int8")
        width, height = self.info.input_size
        many = len(batch) * batch.shape[-1] * batch.shape[-2] >= WINDOWS_FOR_WINOGRAD * width * height
        direct = not many or autocast is not None or self.device.type != "cpu"
        return self.network if direct else self.prepared("winograd")

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and metadata as safetensors, by default in half precision."""
        write_weights(self.network, self.info, Path(path), dtype, self.proposer)

    @property
    def searches_exactly(self) -> bool:
        """Whether a search uses the same precision as a decision."""
        return not self.search_int8 and self.search_autocast == self.autocast

    @property
    def threshold(self) -> float:
        """The decision is "person" if P(person) is at least this; it belongs to the weights."""
        return self.info.threshold

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert pixel values [N, 3, H, W] in [0, 255] to the network's input: subtract the mean, divide by std."""
        return ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def to_pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """Move images uint8 [N, H, W, 3] RGB to the device as float32 [N, 3, H, W], values in [0, 255]."""
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            # The host does not have to wait for a copy from pinned memory.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image uint8 [H, W, 3] of any size to one window, uint8 [128, 64, 3].

        Raises:
            ValueError: The image has another type or shape, or no pixels.
        """
        check_image(image)
        width, height = self.info.input_size
        if image.shape[:2] == (height, width):
            return image
        smaller = image.shape[0] > height or image.shape[1] > width
        resized: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return resized

    def logits(self, windows: NDArray[np.uint8]) -> Tensor:
        """Compute the logits of windows uint8 [N, 128, 64, 3] RGB: float32 [N, classes] on the device.

        Raises:
            ValueError: The windows have another type or shape.
        """
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
        """Compute P(person) of windows uint8 [N, 128, 64, 3] RGB: float32 [N].

        Raises:
            ValueError: The windows have another type or shape.
        """
        return probability(self.logits(windows)).cpu().numpy()

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute whether windows show a person, and where in the window the person is.

        Args:
            windows: uint8 [N, 128, 64, 3] RGB.
            search: Use low precision if it is fast. This is for windows that are scored again afterwards.

        Returns:
            The margin (logit of person minus logit of background), float32 [N]; and the offsets, float32 [N, 3]: how
            far the person's centre is to the right of and below the window's centre, as shares of the window's
            height, and the logarithm of the person's size, which is 0 for a person that fits the window. The offsets
            of a window without a person have no meaning.

        Raises:
            ValueError: The windows have another type or shape.
        """
        return self._located(*self._logits_and_offsets(windows, search))

    @torch.inference_mode()
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute `locate` for every window of an image with a stride of 32 pixels, fully convolutionally.

        It uses low precision if that is fast, because its findings are scored again as exact crops.

        Args:
            image: uint8 [H, W, 3] RGB.

        Returns:
            Margins, float32 [(H - 128) // 32 + 1, (W - 64) // 32 + 1], and offsets, the same with [..., 3].
        """
        dtype = self.search_autocast
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            batch = self.normalise(self.to_pixels(image[None]))
            logits, offsets = self._fast_network(batch, dtype, search=True).dense_forward(batch)
        return self._located(logits[0].float().permute(1, 2, 0), offsets[0].float().permute(1, 2, 0))

    @torch.inference_mode()
    def propose_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Judge every window of an image of half the resolution by the proposer, with a stride of 8 pixels.

        Args:
            image: uint8 [H, W, 3] RGB; H and W are multiples of 8, and at least those of `proposer.window`.

        Returns:
            Margins and offsets as `locate_densely` returns them.

        Raises:
            ValueError: There is no proposer.
        """
        if self.proposer is None:
            raise ValueError("these weights have no proposer: search without it, or train one (train --add-proposer)")
        # It is in float32, because bfloat16 loses small persons, and its share of the time is small.
        judged = self.proposer(self.normalise(self.to_pixels(image[None])))[0].permute(1, 2, 0)
        return judged[..., 0].cpu().numpy(), (judged[..., 1:] * judged.new_tensor(OFFSET_UNITS)).cpu().numpy()

    @staticmethod
    def _located(logits: Tensor, offsets: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Convert logits [..., classes] and offsets [..., 3] in the network's units to the result of `locate`."""
        return margin(logits).cpu().numpy(), (offsets * offsets.new_tensor(OFFSET_UNITS)).cpu().numpy()
