"""The tensors of a state dict as those of a network of torchvision: prefixes, other names, and heads of other sizes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from explain_cnn_ros.files import visible
from explain_cnn_ros.model.torchvision_network import AUXILIARY, TorchvisionClassifier, architectures
from explain_cnn_ros.model.weights_file import ModelInfo, checked, listed

#: Number of classes of a network that is built to see which tensors depend on the number.
PROBE = 7919

#: Names of convolutions in torchvision's first DenseNets: `norm.1` is `norm1` today.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")

#: Parts of names of tensors that say how a network was changed before it was saved, and the cure.
CHANGED = {
    "weight_orig": "it was pruned: call torch.nn.utils.prune.remove for each pruned layer before it is saved",
    "parametrizations.": "its layers have parametrizations: remove them before it is saved "
    "(torch.nn.utils.parametrize.remove_parametrizations)",
    "_packed_params": "it is quantized: save the network in floating point",
    "zero_point": "it is quantized: save the network in floating point",
    ".attn": "it looks like a transformer, which the method cannot explain",
    ".self_attention": "it looks like a transformer, which the method cannot explain",
    "lora_": "it has adapters (LoRA): merge them into the weights before they are saved",
}


@dataclass(frozen=True)
class TensorLayout:
    """The tensors of an architecture.

    Attributes:
        shapes: The tensors on the meta device by name, with PROBE outputs.
        head: Names of the tensors of the last layer: those that depend on the number of classes.
    """

    shapes: Mapping[str, Tensor]
    head: tuple[str, ...]

    @classmethod
    def of(cls, architecture: str) -> TensorLayout:
        """Return the layout of an architecture.

        Raises:
            ValueError: There is no such architecture, or it cannot be used.
        """
        with torch.device("meta"):
            shapes = TorchvisionClassifier(architecture, classes=PROBE).network.state_dict()
        return cls(shapes, tuple(name for name, value in shapes.items() if value.dim() and len(value) == PROBE))

    def suits(self, name: str, value: Tensor) -> bool:
        """Return whether a tensor has the shape of that of a name; heads may have any number of outputs."""
        expected = self.shapes[name].shape
        first = 1 if name in self.head else 0
        return value.dim() == len(expected) and value.shape[first:] == expected[first:]


@dataclass
class Fitted:
    """The tensors of a state dict by their names in an architecture.

    Attributes:
        architecture: Name of the architecture.
        tensors: The tensors.
        prefix: Prefix that was removed from their names; "" for none.
        ignored: Names of tensors that are not used.
        notes: Further changes, in sentences.
        problems: Reasons why the tensors are not those of the architecture, as parts of a sentence; empty if they are.
        outputs: Number of outputs of the last layer; 0 if it is not known.
        head: Names of the tensors of the last layer.
    """

    architecture: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    prefix: str = ""
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    outputs: int = 0
    head: tuple[str, ...] = ()


def fit(tensors: Mapping[str, Tensor], architecture: str, layout: TensorLayout | None = None) -> Fitted:
    """Find the tensors of an architecture in a state dict.

    Args:
        tensors: The state dict.
        architecture: Name of the architecture.
        layout: TensorLayout of the architecture, if it is known already.

    Returns:
        The tensors; `problems` says if they are not those of the architecture.

    Raises:
        ValueError: There is no such architecture, or it cannot be used.
    """
    layout = layout or TensorLayout.of(architecture)
    fitted = Fitted(architecture)
    # torch.compile wraps modules at any place.
    named = {name.replace("_orig_mod.", ""): value for name, value in tensors.items()}
    if len(named) == len(tensors) and named.keys() != tensors.keys():
        fitted.notes.append('The parts "_orig_mod." of torch.compile are removed from the names of the tensors.')
    fitted.prefix = prefix = _prefix(named.keys(), layout)
    fitted.ignored = [name for name in named if not name.startswith(prefix)]
    found = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
    auxiliary = AUXILIARY.get(architecture, ())
    fitted.ignored += [name for name in found if auxiliary and name.startswith(auxiliary)]
    found = {name: value for name, value in found.items() if not (auxiliary and name.startswith(auxiliary))}
    found = _renamed(found, layout, fitted)
    for name, value in layout.shapes.items():
        if name.endswith("num_batches_tracked") and not _is_like(found.get(name), value):
            # Nothing depends on the counters in eval mode. Files of PyTorch before 0.4.1 have none; in others they were
            # converted with the weights, or averaged.
            found[name] = torch.zeros(value.shape, dtype=value.dtype)
    fitted.problems = _problems(found, layout)
    if not fitted.problems:
        fitted.tensors = {name: found[name] for name in layout.shapes}
        fitted.outputs, fitted.head = len(found[layout.head[0]]), layout.head
    return fitted


def _is_like(value: Tensor | None, expected: Tensor) -> bool:
    return value is not None and value.dtype == expected.dtype and value.shape == expected.shape


def _prefix(names: Collection[str], layout: TensorLayout) -> str:
    """Return the prefix with which most names of a layout are among some names; the shortest of the best ones."""
    given = set(names)
    expected = [name for name in layout.shapes if not name.endswith("num_batches_tracked")]
    anchors = {expected[0], expected[len(expected) // 2], expected[-1]}
    prefixes = {""} | {name[: -len(anchor)] for anchor in anchors for name in given if name.endswith("." + anchor)}
    return max(
        sorted(prefixes, key=lambda prefix: (len(prefix), prefix)),
        key=lambda prefix: sum(prefix + name in given for name in expected),
    )


def _renamed(found: dict[str, Tensor], layout: TensorLayout, fitted: Fitted) -> dict[str, Tensor]:
    """Return the tensors with the names of the layout, where another name stands for the same tensor."""
    modern = {OLD_DENSENET.sub(r"\1\2", name): value for name, value in found.items()}
    if len(modern) == len(found) and modern.keys() != found.keys() and modern.keys() <= layout.shapes.keys():
        fitted.notes.append("The names are those of torchvision before 0.3, and are replaced by those of today.")
        found = modern
    missing = [name for name in layout.shapes if name not in found and not name.endswith("num_batches_tracked")]
    extra = [name for name in found if name not in layout.shapes]
    if set(missing) == set(layout.head) and len(extra) == len(missing):
        pairs = dict(zip(sorted(missing), sorted(extra), strict=True))
        owners = {name.rpartition(".")[0] for name in extra}
        if len(owners) == 1 and all(
            new.rpartition(".")[2] == old.rpartition(".")[2] and layout.suits(old, found[new])
            for old, new in pairs.items()
        ):
            ours = layout.head[0].rpartition(".")[0]
            fitted.notes.append(
                f"The layer {owners.pop()} is the last layer, {ours} of torchvision. Layers beside it that have no "
                "weights, for instance dropout, are left out."
            )
            names = {new: old for old, new in pairs.items()}
            found = {names.get(name, name): value for name, value in found.items()}
    return found


def _problems(found: Mapping[str, Tensor], layout: TensorLayout) -> list[str]:
    """Return why tensors are not those of a layout, as parts of a sentence; none if they are."""
    problems = []
    if missing := [name for name in layout.shapes if name not in found]:
        problems.append(f"it lacks {listed(missing)}")
    if extra := [name for name in found if name not in layout.shapes]:
        problems.append(f"it has {listed(extra)} besides")
    wrong = [name for name in layout.shapes if name in found and not layout.suits(name, found[name])]
    if wrong:
        first = wrong[0]
        shapes = f"{list(found[first].shape)} instead of {_expected(layout, first)}"
        more = f", and {len(wrong) - 1} more tensors have other shapes" if len(wrong) > 1 else ""
        problems.append(f"its tensor {visible(first)} has the shape {shapes}{more}")
    heads = {len(found[name]) for name in layout.head if name in found and layout.suits(name, found[name])}
    if len(heads) > 1:
        problems.append(f"its tensors {' and '.join(layout.head)} have different numbers of outputs")
    return problems


def _expected(layout: TensorLayout, name: str) -> str:
    sides = ["classes" if side == PROBE else str(side) for side in layout.shapes[name].shape]
    return f"[{', '.join(sides)}]"


def explain_misfit(tensors: Mapping[str, Tensor], fitted: Fitted) -> str:
    """Return why a state dict is not of an architecture, which one it is of, and the cure.

    Args:
        tensors: The state dict.
        fitted: Its tensors by their names in the architecture, with problems.
    """
    reasons = ", ".join(fitted.problems)
    for other in _likely(fitted.architecture):
        if not fit(tensors, other).problems:
            return (
                f"these are the weights of {other}, and not of {fitted.architecture} ({reasons}): give --architecture "
                f"{other}"
            )
    for part, cure in CHANGED.items():
        if any(part in name for name in tensors):
            return f"it does not fit {fitted.architecture} ({reasons}): {cure}"
    return (
        f"it fits neither {fitted.architecture} ({reasons}) nor any other network of torchvision: only the number of "
        "outputs of the last layer may differ from torchvision's network, and layers without weights"
    )


def _likely(architecture: str) -> list[str]:
    """Return all other architectures; those with similar names come first."""

    def similarity(name: str) -> float:
        return difflib.SequenceMatcher(None, architecture, name).ratio()

    return sorted((name for name in architectures() if name != architecture), key=similarity, reverse=True)


def with_outputs(fitted: Fitted, info: ModelInfo) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a network with as many outputs as there are classes.

    A single output z, which a sigmoid converts to the probability p of the second class, becomes two outputs:
    softmax(0, z) = (1 - p, p). A training with binary cross-entropy on the labels 0 and 1 has such an output.

    Args:
        fitted: The tensors by their names in the architecture, without problems.
        info: The metadata with the classes.

    Returns:
        Copies of the tensors in the types of the network, float32 for weights; and sentences about changes.

    Raises:
        ValueError: The number of outputs is not that of the classes. Or a tensor has no values, is of another type, or
            has values that are not finite.
    """
    outputs, classes = fitted.outputs, len(info.classes)
    if outputs != classes and (outputs, classes) != (1, 2):
        cure = (
            "these are the 1,000 classes of ImageNet, so the network is not fine-tuned. Give fine-tuned weights, or "
            "name all 1,000 in a file with one name a line (--classes FILE)"
            if outputs == 1000
            else "name all outputs in their order, for instance in a file with one name a line (--classes FILE)"
        )
        layer = fitted.head[0].rpartition(".")[0]
        several = "" if outputs == 1 else "s"
        raise ValueError(
            f"its last layer, {layer}, has {outputs:,} output{several}, and --classes names {classes}: {cure}"
        )
    layout = TensorLayout.of(fitted.architecture)
    tensors = {name: _checked(name, value, layout.shapes[name]) for name, value in fitted.tensors.items()}
    if outputs == classes:
        return tensors, ()
    for name in fitted.head:
        tensors[name] = torch.cat([torch.zeros_like(tensors[name]), tensors[name]])
    first, second = info.classes
    return tensors, (
        f"The network has a single output, whose sigmoid is P({second}). It becomes the output of {second}, and that "
        f"of {first} is 0. If the sigmoid is P({first}), swap the names: --classes {second},{first}.",
    )


def _checked(name: str, value: Tensor, expected: Tensor) -> Tensor:
    if value.is_meta:
        raise ValueError(
            f"its tensor {name} is on the meta device and has no values: save the network after its weights are loaded"
        )
    if value.is_quantized:
        raise ValueError(f"its tensor {name} is quantized: save the network in floating point")
    if value.layout is not torch.strided:
        raise ValueError(f"its tensor {name} is sparse: convert it by to_dense() before it is saved")
    if value.is_floating_point() != expected.is_floating_point():
        kind = "floating-point numbers" if expected.is_floating_point() else "whole numbers"
        raise ValueError(f"its tensor {name} has the type {value.dtype}: it must have {kind}")
    return checked(name, value.detach(), expected)
