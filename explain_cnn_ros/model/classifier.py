"""The window classifier: windows of one size -> logits, P(person), and where in the window the person is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.model import int8
from explain_cnn_ros.model.device import choose_device, fast_low_precision
from explain_cnn_ros.model.network import OFFSET_UNITS, VGGClassifier, fold_batch_norm
from explain_cnn_ros.model.output import margin, probability
from explain_cnn_ros.model.precision import PRECISIONS, prepare
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, ModelInfo, Network, read_weights, write_weights
from explain_cnn_ros.model.windows import check_image

if TYPE_CHECKING:
    from typing_extensions import Self

#: Maximum number of windows in one pass of the network, and of their pixels. More are no faster, and memory stays
#: bounded.
BATCH, BATCH_PIXELS = 64, 64 * 64 * 128

#: Cure for a search of a network without a dense pass.
CURE = "let the proposer propose the windows (scan.proposer: true), or resize whole frames (regions: whole)"

#: Winograd's convolutions are used if a batch has at least as many pixels as this many windows.
WINDOWS_FOR_WINOGRAD = 2


class WindowClassifier:
    """A network that distinguishes persons from other classes in windows of one size.

    Attributes:
        network: The network in eval mode: a VGG of this package, a network of torchvision, or any other module that
            computes logits [N, classes] of normalised windows [N, 3, h, w] in the dtype of its first parameter.
        info: Metadata of the weights file.
        model_hash: First 12 hexadecimal digits of the SHA-256 of the weights file; "" if there is no file.
        device: Device of the network.
        autocast: Data type of the passes; None for float32.
        search_autocast: Data type of the passes that search a frame; None for float32.
        search_int8: Whether the search multiplies 8-bit integers. It does on CPUs that have instructions for it.
        proposer: The network that proposes windows of a frame; None if there is none.
        has_dense_pass: Whether the network judges all windows of an image in one pass, and predicts where in a window
            the person is. VGGs of this package do.
    """

    # Autograd, which explanations need, does not accept tensors that were created in inference mode.
    @torch.inference_mode(False)
    def __init__(
        self,
        network: nn.Module,
        info: ModelInfo,
        device: str | torch.device = "auto",
        model_hash: str = "",
        autocast: torch.dtype | None = None,
        proposer: Proposer | None = None,
    ) -> None:
        self.info = info
        self.device = choose_device(device)
        # Code for one kind of network, for instance the VGG adapter, uses parts that other kinds lack.
        self.network: Any = network.to(self.device).eval().requires_grad_(False)
        self.proposer = proposer if proposer is None else proposer.to(self.device).eval().requires_grad_(False)
        self.model_hash = model_hash
        self.autocast = autocast
        self.has_dense_pass = isinstance(network, VGGClassifier)
        self._dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
        plain = autocast is None and self._dtype == torch.float32
        self.search_int8 = self.has_dense_pass and plain and self.device.type == "cpu" and int8.available()
        # The effect of low precision on the outputs was measured for VGGs only.
        exact = self.search_int8 or not self.has_dense_pass
        self.search_autocast = autocast if exact else autocast or fast_low_precision(self.device)
        self._prepared: dict[str, tuple[list[int], VGGClassifier]] = {}
        self._mean, self._std = self._of_colours(info.mean), self._of_colours(info.std)

    @classmethod
    @torch.inference_mode(False)
    def load(cls, path: str | Path | None = None, device: str | torch.device = "auto") -> Self:
        """Load a weights file that `save` wrote. Batch norm of VGGs is folded into the convolutions.

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
        """Return the same classifier with batch norm folded into the convolutions.

        Returns:
            The classifier; self if its network has no batch norm, or is no VGG of this package.
        """
        if not isinstance(self.network, VGGClassifier):
            return self
        network = fold_batch_norm(self.network)
        if network is self.network:
            return self
        info = dataclasses.replace(self.info, architecture=network.architecture)
        return type(self)(network, info, self.device, self.model_hash, self.autocast, self.proposer)

    def untrained(self, seed: int = 0) -> Self:
        """Return a classifier of the same architecture with the weights that training starts from.

        Raises:
            ValueError: The network is neither a VGG of this package nor one of torchvision.
        """
        self._check_origin("has no weights that training starts from")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            architecture, size, classes = self.info.architecture, self.info.input_size, len(self.info.classes)
            network: Network
            if isinstance(self.network, TorchvisionClassifier):
                network = TorchvisionClassifier(architecture, size, classes)
            else:
                network = VGGClassifier(architecture, size, self.info.hidden, classes)
        return type(self)(network, self.info, self.device)

    def changed(self, network: nn.Module, note: str) -> Self:
        """Return a classifier whose network was changed. The accuracy of the old network is removed from the metadata.

        Args:
            network: The changed network, of the same architecture.
            note: Description of the change, for the metadata.
        """
        command = "; ".join(filter(None, [self.info.command, note]))
        info = dataclasses.replace(self.info, accuracy={}, command=command)
        return type(self)(network, info, self.device, proposer=self.proposer)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of explanations that the network supports, without "auto"; see `precision.PRECISIONS`."""
        return tuple(p for p in PRECISIONS if p != "auto" and (p != "winograd" or self.has_dense_pass))

    def prepared(self, precision: str) -> Any:
        """Return the network that runs with a precision; it shares the weights with `network`.

        The prepared network is cached until the weights change.

        Args:
            precision: One of `precisions`, or "int8" for VGGs.

        Raises:
            ValueError: The network does not support the precision.
        """
        if not isinstance(self.network, VGGClassifier):
            if precision not in self.precisions:
                raise ValueError(
                    f"{self.info.architecture} cannot be computed with the precision {precision!r}, which only VGGs of "
                    f"this package support: use one of {', '.join(('auto', *self.precisions))}"
                )
            return self.network
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

    def _fast_network(self, batch: Tensor, autocast: torch.dtype | None, search: bool = False) -> Any:
        """Return the fastest network for a batch [N, 3, H, W]. Winograd's filters do not pay for a few pixels."""
        if search and self.search_int8:
            return self.prepared("int8")
        width, height = self.info.input_size
        many = len(batch) * batch.shape[-1] * batch.shape[-2] >= WINDOWS_FOR_WINOGRAD * width * height
        direct = not many or autocast is not None or self.device.type != "cpu" or not self.has_dense_pass
        return self.network if direct else self.prepared("winograd")

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write weights and metadata as safetensors, by default in half precision.

        A proposer that was trained with another classifier is not written.

        Raises:
            ValueError: The network is neither a VGG of this package nor one of torchvision.
            OSError: The file cannot be written.
        """
        self._check_origin("cannot be written, because a weights file holds no code")
        own = self.proposer if self.proposer is not None and self.proposer.mean is None else None
        write_weights(self.network, self.info, Path(path), dtype, own)

    def _check_origin(self, consequence: str) -> None:
        if not isinstance(self.network, VGGClassifier | TorchvisionClassifier):
            raise ValueError(
                f"{type(self.network).__name__} {consequence}: use a VGG of this package or a network of torchvision"
            )

    @property
    def searches_exactly(self) -> bool:
        """Whether a search uses the same precision as a decision."""
        return not self.search_int8 and self.search_autocast == self.autocast

    @property
    def threshold(self) -> float:
        """The decision is "person" if P(person) is at least this; it belongs to the weights."""
        return self.info.threshold

    def _of_colours(self, values: Sequence[float]) -> Tensor:
        """Return values of R, G and B as a tensor [1, 3, 1, 1] on the device."""
        return torch.tensor(values, device=self.device).view(1, 3, 1, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Convert pixel values [N, 3, H, W] in [0, 255] to the network's input: subtract the mean, divide by std."""
        normalised = (pixels - self._mean) / self._std
        return normalised.contiguous(memory_format=torch.channels_last).to(self._dtype)

    def to_pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """Move images uint8 [N, H, W, 3] RGB to the device: [N, 3, H, W] in the network's dtype, values in [0, 255]."""
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            # The host does not have to wait for a copy from pinned memory.
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(self._dtype)

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize an image uint8 [H, W, 3] of any size to one window, uint8 [h, w, 3] of the network's input size.

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
        """Compute the logits of windows uint8 [N, h, w, 3] RGB: float32 [N, classes] on the device.

        Raises:
            ValueError: The windows have another type, or another size than the network's input; or the network has not
                as many outputs as there are classes.
        """
        return self._logits_and_offsets(windows)[0]

    def check_logits(self, logits: Tensor) -> None:
        """Check that there is a logit for each class.

        Args:
            logits: What the network computes.

        Raises:
            ValueError: The shape is not [N, classes]. The message names the cure.
        """
        count, single = len(self.info.classes), logits.shape[1:].numel() == 1
        if logits.shape[1:] == (count,):
            return
        cure = (
            "If the sigmoid of a single output z is the probability of the second class, let the network return "
            "torch.cat([torch.zeros_like(z), z], 1) with z [N, 1]"
            if single
            else "Name all outputs in their order, ModelInfo(classes=...)"
        )
        raise ValueError(
            f"the network computes logits {list(logits.shape)}: they must be [N, {count}], one for each class of its "
            f"ModelInfo. {cure}"
        )

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
        at_once = max(1, min(BATCH, BATCH_PIXELS // (width * height)))
        dtype = self.search_autocast if search else self.autocast
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for first in range(0, len(windows), at_once):
                batch = self.normalise(self.to_pixels(windows[first : first + at_once]))
                parts.append(_pass(self._fast_network(batch, dtype, search), batch))
        logits, offsets = (torch.cat(part).float() for part in zip(*parts, strict=True))
        self.check_logits(logits)
        return logits, offsets

    def probability(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute P(person) of windows uint8 [N, h, w, 3] RGB: float32 [N].

        Raises:
            ValueError: The windows have another type, or another size than the network's input.
        """
        return probability(self.logits(windows), self.info.targets).cpu().numpy()

    def locate(
        self, windows: NDArray[np.uint8], search: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute whether windows show a person, and where in the window the person is.

        Args:
            windows: uint8 [N, h, w, 3] RGB, of the network's input size.
            search: Use low precision if it is fast. This is for windows that are scored again afterwards.

        Returns:
            The margin (log-sum-exp of the logits of persons minus that of the others; see `output.margin`), float32
            [N]; and the offsets, float32 [N, 3]: how far the person's centre is to the right of and below the window's
            centre, as shares of the window's height, and the logarithm of the person's size, which is 0 for a person
            that fits the window. The offsets of a window without a person have no meaning. Networks without a dense
            pass do not predict offsets: theirs are 0.

        Raises:
            ValueError: The windows have another type, or another size than the network's input.
        """
        return self._located(*self._logits_and_offsets(windows, search))

    @torch.inference_mode()
    def locate_densely(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute `locate` for every window of an image with a stride of 32 pixels, fully convolutionally.

        It uses low precision if that is fast, because its findings are scored again as exact crops.

        Args:
            image: uint8 [H, W, 3] RGB.

        Returns:
            Margins, float32 [(H - h) // 32 + 1, (W - w) // 32 + 1], and offsets, the same with [..., 3]. The network's
            input has h x w pixels.

        Raises:
            ValueError: The network has no dense pass.
        """
        if not self.has_dense_pass:
            raise ValueError(f"{self.info.architecture} cannot judge all windows of an image: {CURE}")
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
        mean, std = self._mean, self._std
        if self.proposer.mean is not None and self.proposer.std is not None:
            mean, std = self._of_colours(self.proposer.mean), self._of_colours(self.proposer.std)
        batch = ((self.to_pixels(image[None]) - mean) / std).to(next(self.proposer.parameters()).dtype)
        with torch.autocast(self.device.type, enabled=False):
            judged = self.proposer(batch.contiguous(memory_format=torch.channels_last))[0].permute(1, 2, 0)
        return judged[..., 0].cpu().numpy(), (judged[..., 1:] * judged.new_tensor(OFFSET_UNITS)).cpu().numpy()

    def _located(self, logits: Tensor, offsets: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Convert logits [..., classes] and offsets [..., 3] in the network's units to the result of `locate`."""
        return margin(logits, self.info.targets).cpu().numpy(), (
            offsets * offsets.new_tensor(OFFSET_UNITS)
        ).cpu().numpy()


def _pass(network: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits [N, classes] and offsets [N, 3] of normalised windows; 0 if the network predicts no offsets."""
    if hasattr(network, "forward_with_offsets"):
        logits, offsets = network.forward_with_offsets(batch)
        return logits, offsets
    logits = network(batch)
    return logits, logits.new_zeros(len(logits), len(OFFSET_UNITS))
