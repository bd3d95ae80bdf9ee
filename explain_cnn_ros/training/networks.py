"""The networks that are trained: VGGs of this package and networks of torchvision, from scratch or from weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from explain_cnn_ros.model.device import fast_low_precision
from explain_cnn_ros.model.network import ARCHITECTURES, TOTAL_STRIDE, VGGClassifier, fold_batch_norm
from explain_cnn_ros.model.torchvision_network import INPUT_SIZE, INPUT_SIZES, TorchvisionClassifier, unsupported
from explain_cnn_ros.model.weights_file import ModelInfo, Network, Weights, plain
from explain_cnn_ros.training.settings import BATCH_NORM_SUFFIX, TrainSettings

#: Default maximum learning rates: of networks of torchvision from scratch, with batch norm and without it, and of a
#: training that starts from weights.
RATE, RATE_WITHOUT_BATCH_NORM, RATE_FROM_WEIGHTS = 1e-3, 2e-4, 1e-4


def is_own(architecture: str) -> bool:
    """Return whether an architecture is a VGG of this package, and not a network of torchvision."""
    return architecture in ARCHITECTURES


def has_offsets(network: nn.Module) -> bool:
    """Return whether a network predicts the position of the person, and judges all windows of a frame itself."""
    return isinstance(network, VGGClassifier)


def default_settings(architecture: str, start: Weights | None = None) -> TrainSettings:
    """Return the default settings of a training.

    Args:
        architecture: Name of a VGG of this package, or of a network of torchvision.
        start: The weights that the training starts from; None for a training from scratch. They determine the network,
            its architecture included.

    Raises:
        ValueError: There is no such architecture, or it cannot be used.
    """
    if start is not None:
        return _defaults_from(start)
    if is_own(architecture):
        return TrainSettings(architecture=architecture)
    if reason := unsupported(architecture):
        raise ValueError(
            f"architecture is {architecture!r}: {reason}. {', '.join(ARCHITECTURES)} are this package's own"
        )
    with torch.device("meta"):
        normed = any(isinstance(m, nn.BatchNorm2d) for m in TorchvisionClassifier(architecture).modules())
    width, height = INPUT_SIZES.get(architecture, INPUT_SIZE)
    return TrainSettings(
        architecture=architecture,
        input_size=f"{width}x{height}",
        learning_rate=RATE if normed else RATE_WITHOUT_BATCH_NORM,
        proposer_steps=0,
    )


def _defaults_from(start: Weights) -> TrainSettings:
    info = start.info
    own = has_offsets(start.network)
    return TrainSettings(
        architecture=info.architecture,
        input_size=f"{info.input_size[0]}x{info.input_size[1]}",
        hidden=info.hidden,
        batch_norm=own and info.architecture.endswith(BATCH_NORM_SUFFIX),
        learning_rate=RATE_FROM_WEIGHTS,
        small_steps=0,
        proposer_steps=TrainSettings.proposer_steps if own and start.proposer is None else 0,
    )


def check(settings: TrainSettings, start: Weights | None = None) -> None:
    """Check that a network can be trained as the settings say, before anything takes time.

    Args:
        settings: The settings.
        start: The weights that the training starts from; None for a training from scratch.

    Raises:
        ValueError: The settings contradict each other or the weights, or the network cannot take windows of the size.
            The message names the cause and the cure.
    """
    name = settings.architecture
    if start is not None:
        _check_start(settings, start)
    elif is_own(name) and name.endswith(BATCH_NORM_SUFFIX) and not settings.batch_norm:
        raise ValueError(
            f"batch_norm is False, but {name} has batch norm: leave out --no-batch-norm, or give --architecture "
            f"{name.removesuffix(BATCH_NORM_SUFFIX)}"
        )
    if reason := misfit(name, settings.window, start):
        raise ValueError(f"input_size is {settings.input_size!r}: {name} {reason}")


def _check_start(settings: TrainSettings, start: Weights) -> None:
    defaults = _defaults_from(start)
    kind = "a VGG of this package" if has_offsets(start.network) else "a network of torchvision"
    cures = {
        "architecture": f"the weights are of {defaults.architecture}, {kind}: leave out --architecture, or give other "
        "weights",
        "input_size": f"the weights are for windows of {defaults.input_size} pixels: leave out --input-size, or import "
        "the weights with another --input-size",
        "hidden": f"the dense layers of the weights have {defaults.hidden} neurons: leave out --hidden",
        "batch_norm": f"the network of the weights has {'' if defaults.batch_norm else 'no '}batch norm: leave out "
        "--batch-norm and --no-batch-norm",
        "small_steps": "a training that starts from weights has no stage on windows of half the size: leave out "
        "--small-steps",
    }
    for name, cure in cures.items():
        if getattr(settings, name) != getattr(defaults, name):
            raise ValueError(f"{name} is {getattr(settings, name)!r}, but {cure}")


def misfit(architecture: str, size: tuple[int, int], start: Weights | None = None) -> str:
    """Return why a network cannot take windows of a size; "" if it can.

    Args:
        architecture: Name of the architecture.
        size: Size (width, height) of the windows, in pixels.
        start: The weights that the training starts from; None for a training from scratch.
    """
    own = is_own(architecture) if start is None else has_offsets(start.network)
    if own:
        fits = all(side % TOTAL_STRIDE == 0 for side in size)
        return (
            "" if fits else f"needs windows whose sides are multiples of {TOTAL_STRIDE}, for instance 64x128 or 96x192"
        )
    # On the meta device, only the sizes of the maps are computed.
    with torch.device("meta"), torch.no_grad():
        network = TorchvisionClassifier(architecture, size).eval()
        try:
            network(torch.empty(1, 3, size[1], size[0]))
        except (RuntimeError, ValueError) as error:
            cause = str(error).partition("\n")[0]
            return f"cannot process windows of this size ({cause}): give a larger one"
    return ""


def build(settings: TrainSettings, size: tuple[int, int], start: Weights | None = None) -> tuple[Network, ModelInfo]:
    """Build the network that is trained, on the CPU, and its metadata without the results of the training.

    New layers are drawn from PyTorch's global source of randomness.

    Args:
        settings: The settings.
        size: Size (width, height) of the windows, in pixels.
        start: The weights that the training starts from; None for a training from scratch.

    Raises:
        ValueError: There is no such architecture, or it cannot take windows of the size.
    """
    if start is not None:
        info = start.info
        network = with_classes(start.network, info, ModelInfo())
        described = ModelInfo(
            # Batch norm of VGGs is folded at the end.
            info.architecture.removesuffix(BATCH_NORM_SUFFIX) if has_offsets(network) else info.architecture,
            info.hidden,
            size,
            info.mean,
            info.std,
            source=info.source,
        )
        return network, described
    if is_own(settings.architecture):
        shipped = settings.architecture.removesuffix(BATCH_NORM_SUFFIX)
        trained = shipped + (BATCH_NORM_SUFFIX if settings.batch_norm else "")
        return VGGClassifier(trained, size, settings.hidden), ModelInfo(shipped, settings.hidden, size)
    info = ModelInfo(settings.architecture, settings.hidden, size, source="torchvision")
    return TorchvisionClassifier(settings.architecture, size, len(info.classes)), info


def low_precision(network: Network, device: torch.device) -> torch.dtype | None:
    """Return the data type of the training's passes; None for float32.

    Processors without bfloat16 emulate it, at a fifth of the speed of float32. On CPUs, networks of torchvision on
    small windows are trained in float32, because PyTorch 2.14 sometimes computes wrong gradients in bfloat16, NaN among
    them, for convolutions with a stride on a map that is smaller than the kernel.

    Args:
        network: The network.
        device: Device of the training.
    """
    dtype = fast_low_precision(device)
    if dtype is None or device.type != "cpu" or isinstance(network, VGGClassifier):
        return dtype
    return None if _strides_over_small_maps(network) else dtype


def _strides_over_small_maps(network: TorchvisionClassifier) -> bool:
    """Return whether a convolution with a stride has an input that is smaller than its kernel."""
    found = []

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        smaller = any(side < kernel for side, kernel in zip(inputs[0].shape[-2:], module.kernel_size, strict=True))
        found.append(smaller and max(module.stride) > 1)

    width, height = network.input_size
    with torch.device("meta"), torch.no_grad():
        copy = TorchvisionClassifier(network.architecture, network.input_size, network.classes).eval()
        for module in copy.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(compare)
        copy(torch.empty(1, 3, height, width))
    return any(found)


def with_classes(network: Network, has: ModelInfo, wanted: ModelInfo) -> Network:
    """Return a copy of a network for other classes. All layers stay except the last one, which is new.

    If the classes are the same, and the same of them count as a person, the last layer stays, too.

    Args:
        network: The network; it is not modified.
        has: Metadata of the network.
        wanted: Metadata with the wanted classes.
    """
    create = _creator(network, has)
    created = create(len(wanted.classes))
    same = (has.classes, has.person) == (wanted.classes, wanted.person)
    new = set() if same else _head(create)
    # It has the versions of the modules besides the tensors, without which some networks of torchvision are not loaded.
    state = created.state_dict()
    state.update({name: value for name, value in network.state_dict().items() if name not in new})
    created.load_state_dict(state)
    return created


def as_background_and_person(network: Network, info: ModelInfo) -> tuple[Network, ModelInfo]:
    """Return a network of two classes with the names and the order that the networks of a training have.

    If the person is the first class, the rows of the last layer are exchanged. P(person) stays the same.

    Args:
        network: The network; it is not modified.
        info: Metadata of the network.

    Returns:
        The network, which is the same object if its rows stay, and its metadata.

    Raises:
        ValueError: The network does not have two classes.
    """
    if len(info.classes) != 2:
        raise ValueError(f"the network has {len(info.classes)} classes, not two of which one is a person")
    trained = ModelInfo()
    renamed = dataclasses.replace(info, classes=trained.classes, person=trained.person)
    if info.targets == trained.targets:
        return network, renamed
    state = network.state_dict()
    state.update({name: state[name].flip(0) for name in _head(_creator(network, info))})
    exchanged = copy.deepcopy(network)
    exchanged.load_state_dict(state)
    return exchanged, renamed


def _creator(network: Network, info: ModelInfo) -> Callable[[int], Network]:
    """Return a function that builds such a network for a number of classes."""

    def create(classes: int) -> Network:
        if isinstance(network, VGGClassifier):
            return VGGClassifier(info.architecture, info.input_size, info.hidden, classes)
        return TorchvisionClassifier(info.architecture, info.input_size, classes)

    return create


def _head(create: Callable[[int], nn.Module]) -> set[str]:
    """Return the names of the tensors whose shape depends on the number of classes."""
    with torch.random.fork_rng(), torch.device("meta"):
        one, other = (create(classes).state_dict() for classes in (2, 3))
    return {name for name, value in one.items() if value.shape != other[name].shape}


def enlarged(network: Network, small: Network) -> None:
    """Copy the weights of a network for small windows into one for larger windows.

    Dense layers of VGGs of this package, which depend on the size, are not copied.

    Args:
        network: The network for larger windows; it is modified.
        small: The network for small windows.
    """
    if isinstance(network, VGGClassifier) and isinstance(small, VGGClassifier):
        network.features.load_state_dict(small.features.state_dict())
    else:
        network.load_state_dict(small.state_dict())


def is_finite(network: nn.Module) -> bool:
    """Return whether all values of a network are finite, which those of a diverged training are not."""
    return all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def shipped(network: Network) -> Network:
    """Return the network as a weights file in half precision holds it, in float32.

    Batch norm of VGGs of this package is folded into the convolutions. That of other networks stays.

    Args:
        network: The network in eval mode. That of torchvision is modified.
    """
    if isinstance(network, VGGClassifier):
        return fold_batch_norm(network).half().float()
    state = plain(network).state_dict()
    state.update({name: _rounded(name, value) for name, value in state.items()})
    plain(network).load_state_dict(state)
    return network


def _rounded(name: str, value: Tensor) -> Tensor:
    """Return a tensor as `write_weights` stores it."""
    exact = not value.is_floating_point() or name.endswith(("running_mean", "running_var"))
    if exact or bool((value.abs() > torch.finfo(torch.float16).max).any()):
        return value
    return value.half().float()
