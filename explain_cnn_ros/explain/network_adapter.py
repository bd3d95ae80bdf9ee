"""The interface between the explainer and a network: the only things that an explanation needs from one."""

from __future__ import annotations

import difflib
import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.files import quoted
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.output import margin, probability

#: Name of the class that the classes of the weights that count as a person make together.
PERSON = "person"

#: Channels by layer.
Channels = Mapping[int, Collection[int]]


@dataclass(frozen=True)
class Layer:
    """A layer whose neurons can be explained.

    Attributes:
        number: Number of the layer, counted from 1.
        name: Name of the layer, for instance "conv3_1".
        channels: Number of neurons (output channels).
        module: Module of the network whose output is the layer's activation.
    """

    number: int
    name: str
    channels: int
    module: nn.Module


@dataclass(frozen=True, order=True)
class Neuron:
    """An output channel of a layer; layers are counted from 1, channels from 0."""

    layer: int
    channel: int


@dataclass(frozen=True, order=True)
class Start:
    """The start of a reconstruction.

    Attributes:
        neuron: The neuron.
        position: Flat index of the position in the neuron's map, R x C' positions, whose activation is reconstructed;
            None: the whole map.
    """

    neuron: Neuron
    position: int | None


@dataclass
class Trace:
    """The result of one pass through the network. Adapters add what their `reconstruct` needs.

    Attributes:
        logits: [N, classes], at least float32.
        activations: Activations by layer number, [N, C, R, C'], at least float32.
        influences: Sums over positions of activation times gradient of the output by layer number, [N, C]; empty unless
            gradients were requested.
        contributions: The same by position, for the first window only, [C, R, C']; empty unless gradients were
            requested with `record`.
    """

    logits: Tensor
    activations: dict[int, Tensor] = field(default_factory=dict)
    influences: dict[int, Tensor] = field(default_factory=dict)
    contributions: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconstructions:
    """Reconstructions of neurons in the network's input, as crops. They are zero outside of the crops.

    Attributes:
        starts: The starts, K of them.
        pixels: The crops, in the input's normalised units, [K, 3, h, w].
        tops: Row of the input in which each crop begins, int64 [K]. Crops may reach out of the input; they are zero
            there.
        lefts: Column of the input in which each crop begins, int64 [K].
    """

    starts: tuple[Start, ...]
    pixels: Tensor
    tops: Tensor
    lefts: Tensor

    @classmethod
    def whole(cls, starts: Sequence[Start], pixels: Tensor) -> Reconstructions:
        """Wrap reconstructions of the whole input, [K, 3, H, W]."""
        corner = torch.zeros(len(starts), dtype=torch.int64, device=pixels.device)
        return cls(tuple(starts), pixels, corner, corner)


class NetworkAdapter(ABC):
    """Traces, reconstructs and silences the neurons of one kind of network.

    Args:
        classifier: The classifier whose network is adapted.

    Attributes:
        classifier: The classifier; adapters may replace it by an equivalent one.
        target: Index of the class that the output is about, or indices of several classes that count as one.
    """

    target: int | tuple[int, ...]

    def __init__(self, classifier: WindowClassifier) -> None:
        self.classifier = classifier
        self.target = _index(classifier.info.targets)

    @property
    @abstractmethod
    def layers(self) -> dict[int, Layer]:
        """The layers by number, in ascending order."""

    @property
    @abstractmethod
    def default_layers(self) -> tuple[int, ...]:
        """The layers that are explained if the settings name none, in ascending order."""

    def layers_named(self, patterns: str) -> tuple[int, ...]:
        """Return the layers whose names match one of some patterns, in ascending order.

        Args:
            patterns: Names, or patterns as of file names (`layer4.*`), separated by commas.

        Raises:
            ValueError: A pattern matches no layer.
        """
        found: set[int] = set()
        names = {layer.name: number for number, layer in self.layers.items()}
        for pattern in filter(None, (part.strip() for part in patterns.split(","))):
            matching = fnmatch.filter(names, pattern)
            if not matching:
                near = difflib.get_close_matches(pattern, names, n=3) or [*names][:2] + [*names][-1:]
                raise ValueError(
                    f"layer_names is {quoted(patterns)}: no layer of {self.classifier.info.architecture} has a name "
                    f"like {quoted(pattern)}. Layers are, for instance, {', '.join(dict.fromkeys(near))}"
                )
            found.update(names[name] for name in matching)
        return tuple(sorted(found))

    def aim(self, classes: str) -> str:
        """Choose the class that the output is about. See `targets` for the argument, the result and the errors."""
        name, indices = self.targets(classes)
        self.target = _index(indices)
        return name

    def targets(self, classes: str) -> tuple[str, tuple[int, ...]]:
        """Return the classes that a setting names.

        Args:
            classes: Name of a class, or several names separated by commas, which count as one class; "" for the classes
                that count as a person.

        Returns:
            The names of the classes, separated by commas, or "person" for those that count as a person; and their
            indices.

        Raises:
            ValueError: A class does not exist, or there is no other class than these.
        """
        known, person = self.classifier.info.classes, self.classifier.info.person
        names = [part.strip() for part in classes.split(",") if part.strip()] or list(person)
        unknown = [name for name in names if name not in known]
        if unknown or len(set(names)) == len(known):
            reason = f"there is no class {quoted(unknown[0])}" if unknown else "these are all classes"
            raise ValueError(
                f"target is {quoted(classes)}: {reason}. The classes of the weights are {', '.join(known)}"
            )
        names = list(dict.fromkeys(names))
        name = PERSON if set(names) == set(person) else ",".join(names)
        return name, tuple(known.index(each) for each in names)

    @abstractmethod
    def prepare(self, precision: str) -> None:
        """Do once, in advance, whatever passes in a precision need."""

    @abstractmethod
    def trace(
        self,
        pixels: Tensor,
        layers: Collection[int],
        *,
        precision: str = "float32",
        pre_relu: bool = False,
        record: str = "",
        gradients: str = "",
    ) -> Trace:
        """Pass windows through the network and keep the activations of some layers.

        No hooks and no state of autograd are left behind.

        Args:
            pixels: Windows [N, 3, H, W], pixel values in [0, 255].
            layers: Numbers of the layers whose activations are kept.
            precision: One of `model.precision.PRECISIONS` except "auto".
            pre_relu: Keep the activations before the ReLU, not after it.
            record: Also record what `reconstruct` needs for the first window: the method, "deconvnet" or "guided"; ""
                for nothing.
            gradients: Also pass the gradient of the output back to these layers: the kind of the output, as in
                `output`; "" for no gradients. Gradients of weights are not computed.
        """

    @abstractmethod
    def weights(self, layer: int, direction: str) -> Tensor:
        """Return the weights of each neuron of a layer, [C, ...].

        Args:
            layer: Number of the layer.
            direction: "outgoing" (from the neuron to the next layer) or "incoming" (from the layer before).
        """

    @abstractmethod
    def reconstruct(self, clean: Trace, starts: Sequence[Start], method: str) -> list[Reconstructions]:
        """Reconstruct neurons in the network's input.

        Args:
            clean: Trace of the window, recorded with the same method.
            starts: The neurons, and the positions at which their reconstructions begin.
            method: "deconvnet" (Zeiler & Fergus 2014) or "guided" (guided backpropagation, as the authors' code).

        Returns:
            Every start once, in batches of the adapter's choice.
        """

    @abstractmethod
    def silence(
        self,
        pixels: Tensor,
        silenced: Sequence[Channels],
        precision: str = "float32",
        values: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Pass one window through the network with different neurons silenced each time.

        A silenced neuron's activation, after the ReLU, is set to zero, or to a value of its own.

        Args:
            pixels: The window [1, 3, H, W], pixel values in [0, 255].
            silenced: The neurons that are silenced in each of K passes.
            precision: One of `model.precision.PRECISIONS` except "auto".
            values: Values by layer, [C], to which activations are set; None for zero.

        Returns:
            Logits [K, classes].
        """

    def damped(self, neurons: Collection[Neuron], factor: float = 0.0) -> nn.Module:
        """Return a copy of the network whose weights damp neurons: their activations are multiplied by a factor.

        Args:
            neurons: The neurons.
            factor: The factor, 0 to 1; 0 silences the neurons exactly as `silence` does.

        Raises:
            ValueError: The weights of this network cannot do it. The message names the cause.
        """
        raise ValueError(
            f"the neurons of {self.classifier.info.architecture} cannot be silenced in its weights: its adapter "
            f"({type(self).__name__}) does not support it"
        )

    def output(self, logits: Tensor, kind: str = "logit") -> Tensor:
        """Return the output o of logits [N, classes], which the explanation is about: [N].

        Args:
            logits: [N, classes].
            kind: "logit" (the margin: the logit of the target class minus the log-sum-exp of the others) or
                "probability".
        """
        return probability(logits, self.target) if kind == "probability" else margin(logits, self.target)


def _index(targets: tuple[int, ...]) -> int | tuple[int, ...]:
    return targets[0] if len(targets) == 1 else targets
