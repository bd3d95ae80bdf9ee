"""Classification networks of torchvision, as classifiers of windows.

torchvision is imported when such a network is built, because importing it takes seconds. Networks that this package
trains do not need it.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explain_cnn_ros.files import quoted
from explain_cnn_ros.model.network import OFFSET_UNITS

#: Size (width, height) of the input that the architectures are made for, in pixels, and that of exceptions.
INPUT_SIZE = (224, 224)
INPUT_SIZES = {"inception_v3": (299, 299)}

#: Families whose names begin so compute with attention instead of convolutions.
TRANSFORMERS = ("vit_", "swin_", "swin3d_", "mvit_", "maxvit")

#: Other tasks than the classification of images, by the subpackage of `torchvision.models` that has the networks.
TASKS = {
    "detection": "it finds objects in images",
    "segmentation": "it classifies pixels",
    "video": "it classifies videos",
    "optical_flow": "it computes optical flow",
}

#: Networks with additional outputs for the training, which are left out; and the prefixes of their tensors.
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


def unsupported(architecture: str) -> str:
    """Return why the networks of an architecture cannot be used; "" if they can.

    Args:
        architecture: Name of the architecture, as in `torchvision.models.list_models()`.

    Raises:
        ValueError: torchvision is not installed.
    """
    cure = "use a classification network of convolutions, for instance resnet18"
    if architecture.startswith(TRANSFORMERS):
        return f"it is a transformer, whose neurons have no maps from convolutions: {cure}"
    known = _subpackages()
    if architecture not in known:
        near = " or ".join(_similar(architecture))
        hint = f"did you mean {near}?" if near else "torchvision.models.list_models() returns the names"
        return f"torchvision has no network of this name: {hint}"
    task = known[architecture]
    if task == "quantization":
        plain = architecture.removeprefix("quantized_")
        return f"it computes with 8-bit integers, which have no gradients: use {plain} in floating point"
    return f"{TASKS.get(task, 'it does not classify images')}: {cure}" if task else ""


@functools.cache
def architectures() -> tuple[str, ...]:
    """Return the names of the architectures that can be used, in alphabetical order.

    Raises:
        ValueError: torchvision is not installed.
    """
    known = _subpackages()
    return tuple(sorted(name for name, task in known.items() if not task and not name.startswith(TRANSFORMERS)))


class TorchvisionClassifier(nn.Module):
    """A classification network of torchvision for windows of one size.

    It has no dense pass and does not predict offsets.

    Args:
        architecture: Name of the architecture, as in `torchvision.models.list_models()`.
        input_size: Size (width, height) of the window, in pixels.
        classes: Number of logits.

    Attributes:
        network: torchvision's network, without auxiliary outputs.

    Raises:
        ValueError: torchvision is not installed, or the architecture cannot be used; see `unsupported`.
    """

    def __init__(self, architecture: str, input_size: tuple[int, int] = (224, 224), classes: int = 2) -> None:
        super().__init__()
        if reason := unsupported(architecture):
            raise ValueError(f"unknown architecture {quoted(architecture)}: {reason}")
        self.architecture, self.input_size, self.classes = architecture, input_size, classes
        self.network = _build(architecture, classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits [N, classes] of normalised windows [N, 3, H, W]."""
        logits: Tensor = self.network(batch)
        return logits

    def forward_with_offsets(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits [N, classes] of normalised windows [N, 3, H, W], and offsets [N, 3], which are 0."""
        logits = self(batch)
        return logits, logits.new_zeros(len(logits), len(OFFSET_UNITS))


def _torchvision() -> ModuleType:
    """Import torchvision.

    Raises:
        ValueError: It is not installed, or does not fit the installed PyTorch.
    """
    try:
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        raise ValueError(
            f"networks of torchvision need the Python package torchvision ({error}): install the version that fits "
            f"PyTorch {torch.__version__}, `pip install torchvision`"
        ) from error
    module: ModuleType = torchvision
    return module


class _OnMeta(TorchFunctionMode):
    """Creates tensors without values on the meta device, so without memory, and all others on the CPU.

    torchvision's RegNets compute their sizes by tensors while they are built, so these need values. Tensors without
    values are not initialised: it would have no effect, and take seconds the first time.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        name = getattr(func, "__name__", "")
        changes = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if changes and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **kwargs)


def _build(architecture: str, classes: int) -> nn.Module:
    """Build a network, on the meta device if it is the default device."""
    meta = torch.empty(0).device.type == "meta"
    # On the meta device there is nothing to initialise.
    options: dict[str, Any] = {"aux_logits": False, "init_weights": not meta} if architecture in AUXILIARY else {}
    with contextlib.ExitStack() as stack:
        if meta:
            stack.enter_context(torch.device("cpu"))
            stack.enter_context(_OnMeta())
        network: nn.Module = _torchvision().models.get_model(architecture, weights=None, num_classes=classes, **options)
    return network


def _similar(architecture: str) -> list[str]:
    """Return at most three names of architectures that are similar to an unknown one."""
    plain = architecture.lower().replace("-", "_")
    longer = [name for name in architectures() if plain and name.startswith(plain)]
    return longer[:3] or difflib.get_close_matches(plain, architectures(), n=3)


@functools.cache
def _subpackages() -> dict[str, str]:
    """Return the subpackage of `torchvision.models` that has each network, "" for classification."""
    models = _torchvision().models
    found = {}
    for name in models.list_models():
        parts = models.get_model_builder(name).__module__.split(".")
        found[name] = parts[2] if len(parts) > 3 and parts[:2] == ["torchvision", "models"] else ""
    return found
