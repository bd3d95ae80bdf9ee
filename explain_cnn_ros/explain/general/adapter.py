"""The network adapter for any network of convolutions, by autograd and without hooks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.general.damping import damped_network
from explain_cnn_ros.explain.general.interception import Interception, Tap, Unit
from explain_cnn_ros.explain.general.outgoing import outgoing_weights
from explain_cnn_ros.explain.general.structure import convolutions, default_layers
from explain_cnn_ros.explain.network_adapter import (
    Channels,
    Layer,
    NetworkAdapter,
    Neuron,
    Reconstructions,
    Start,
    Trace,
)
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.precision import precision as in_precision

#: Maximum number of pixels of the copies of a window, with neurons silenced, in one pass.
SILENCED_PIXELS = 300_000

#: Maximum number of reconstructions that are in memory together.
RECONSTRUCTED = 16


@dataclass
class GeneralTrace(Trace):
    """The result of one pass.

    Attributes:
        window: The first window, normalised, [1, 3, H, W], from which reconstructions begin; None without `record`.
    """

    window: Tensor | None = None


class GeneralAdapter(NetworkAdapter):
    """Explains the convolutions of any network.

    The activation of a neuron is the output of the activation function that follows its convolution (after a batch
    norm, if there is one), or the output of the convolution and its batch norm if none follows directly.

    Args:
        classifier: The classifier.
        network: The part of the classifier's network whose module tree names the layers.

    Raises:
        TypeError: The network is no network of convolutions, or its passes cannot be intercepted.
        ValueError: The network has not as many outputs as there are classes.
    """

    def __init__(self, classifier: WindowClassifier, network: nn.Module) -> None:
        super().__init__(classifier)
        reason = unsuited(network)
        if reason:
            raise TypeError(f"{classifier.info.architecture} cannot be explained: {reason}")
        width, height = classifier.info.input_size
        generator = torch.Generator("cpu").manual_seed(0)
        image = torch.rand(1, 3, height, width, generator=generator, device="cpu").mul_(255)
        with torch.inference_mode(False):
            self._image = classifier.normalise(image.to(next(network.parameters())))
        self._found = convolutions(classifier.network, self._image)
        if not self._found:
            raise TypeError(f"{classifier.info.architecture} cannot be explained: it computes no convolution with maps")
        names = {id(module): name for name, module in network.named_modules()}
        self._layers = {
            c.unit.number: Layer(c.unit.number, names.get(id(c.module), c.name), c.module.out_channels, c.module)
            for c in self._found
        }
        self._outgoing: dict[int, Tensor] = {}
        self._check_interception()

    def _check_interception(self) -> None:
        """Check that the network computes the same result when its operations are intercepted.

        Raises:
            TypeError: It does not.
            ValueError: The network has not as many outputs as there are classes.
        """
        device, network = self.classifier.device, self.classifier.network
        with in_precision("float32", device), torch.inference_mode(False), torch.no_grad():
            plain = network(self._image.clone())
            self.classifier.check_logits(plain)
            with self._intercepted(self._layers, lambda unit, before, after: after):
                intercepted = network(self._image.clone())
        difference = float(_wide(intercepted - plain).abs().max())
        if difference > torch.finfo(plain.dtype).eps ** 0.5 * float(_wide(plain).abs().max()):
            raise TypeError(
                f"{self.classifier.info.architecture} cannot be explained: its logits change by {difference:.2g} if "
                "activation functions work out of place, as they do in an explanation. Assign the result of each "
                "activation function, x = self.relu(x) instead of self.relu(x). If the network draws random numbers in "
                "eval mode, as functional.dropout(x) does, let it not"
            )

    @property
    def layers(self) -> dict[int, Layer]:
        return self._layers

    @property
    def default_layers(self) -> tuple[int, ...]:
        height, width = self._image.shape[-2:]
        return default_layers(self._found, (height, width), len(self.classifier.info.classes))

    def prepare(self, precision: str) -> None:
        self.classifier.prepared(precision)

    def _intercepted(self, layers: Collection[int], tap: Tap, rule: str = "") -> Interception:
        return Interception({id(c.module.weight): c.unit for c in self._found if c.unit.number in layers}, tap, rule)

    def trace(
        self,
        pixels: Tensor,
        layers: Collection[int],
        *,
        precision: str = "float32",
        pre_relu: bool = False,
        record: str = "",
        gradients: str = "",
    ) -> GeneralTrace:
        result = GeneralTrace(torch.empty(0))
        outputs: dict[int, Tensor] = {}

        def tap(unit: Unit, before: Tensor, after: Tensor) -> Tensor:
            kept = before if pre_relu else after
            # The copies keep their values if the network changes the activation in place, as residual additions do.
            result.activations[unit.number] = _wide(kept.detach()).clone()
            if not gradients:
                return after
            # Gradients lead down to the lowest explained layers only.
            outputs[unit.number] = after if after.requires_grad else after.detach().requires_grad_()
            return outputs[unit.number].clone()

        with in_precision(precision, self.classifier.device), torch.inference_mode(not gradients):
            batch = self.classifier.normalise(pixels.clone() if gradients else pixels)
            with torch.set_grad_enabled(bool(gradients)), self._intercepted(layers, tap):
                logits = _wide(self.classifier.prepared(precision)(batch))
                if gradients and outputs:
                    self._influences(result, self.output(logits, gradients), outputs, bool(record))
        result.logits = logits.detach()
        result.window = batch[:1].clone() if record else None
        return result

    @staticmethod
    def _influences(result: GeneralTrace, output: Tensor, activations: Mapping[int, Tensor], of_first: bool) -> None:
        found = torch.autograd.grad(output.sum(), list(activations.values()), allow_unused=True)
        for (layer, activation), gradient in zip(activations.items(), found, strict=True):
            # A layer without a path to the output has no gradient.
            values = activation.detach()
            product = torch.zeros_like(values) if gradient is None else values * gradient
            wide = _wide(product)
            result.influences[layer] = wide.sum((2, 3))
            if of_first:
                result.contributions[layer] = wide[0].clone()

    def weights(self, layer: int, direction: str) -> Tensor:
        convolution = self._found[layer - 1]
        if direction == "incoming":
            weight = convolution.module.weight
            return weight if convolution.scale is None else weight * convolution.scale.view(-1, 1, 1, 1)
        if not self._outgoing:
            self._outgoing = outgoing_weights(self.classifier.network, self._image, self._found)
        return self._outgoing[layer]

    def reconstruct(self, clean: Trace, starts: Sequence[Start], method: str) -> list[Reconstructions]:
        assert isinstance(clean, GeneralTrace)
        assert clean.window is not None
        activations: dict[int, Tensor] = {}

        def tap(unit: Unit, before: Tensor, after: Tensor) -> Tensor:
            activations[unit.number] = after
            return after.clone()

        parts: list[Reconstructions] = []
        with torch.inference_mode(False), torch.enable_grad():
            image = clean.window.detach().clone().requires_grad_()
            with self._intercepted({start.neuron.layer for start in starts}, tap, method):
                self.classifier.network(image)
            for first in range(0, len(starts), RECONSTRUCTED):
                chosen = starts[first : first + RECONSTRUCTED]
                pixels = torch.cat([_reconstruction(activations[s.neuron.layer], image, s) for s in chosen])
                parts.append(Reconstructions.whole(chosen, pixels))
        return parts

    def silence(
        self,
        pixels: Tensor,
        silenced: Sequence[Channels],
        precision: str = "float32",
        values: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        window = self.classifier.normalise(pixels)
        together = max(1, SILENCED_PIXELS // (window.shape[-1] * window.shape[-2]))
        logits = []
        with in_precision(precision, self.classifier.device), torch.no_grad():
            network = self.classifier.prepared(precision)
            for first in range(0, len(silenced), together):
                chosen = silenced[first : first + together]
                layers = {layer for channels in chosen for layer in channels}
                with self._intercepted(layers, _silencer(chosen, values or {})):
                    logits.append(_wide(network(window.expand(len(chosen), -1, -1, -1).contiguous())))
        return torch.cat(logits)

    def damped(self, neurons: Collection[Neuron], factor: float = 0.0) -> nn.Module:
        return damped_network(self.classifier.network, self._image, self._found, neurons, factor)


def _silencer(silenced: Sequence[Channels], values: Mapping[int, Tensor]) -> Tap:
    def tap(unit: Unit, before: Tensor, after: Tensor) -> Tensor:
        replaced = after.clone()
        for row, channels in enumerate(silenced):
            chosen = list(channels.get(unit.number, ()))
            if chosen:
                value = values.get(unit.number)
                replaced[row, chosen] = 0 if value is None else value[chosen].to(replaced).view(-1, 1, 1)
        return replaced

    return tap


def _reconstruction(maps: Tensor, image: Tensor, start: Start) -> Tensor:
    """Pass a neuron's activation, or its whole map, back to the image: [1, 3, H, W]."""
    seed = torch.zeros_like(maps)
    activation = maps.detach()[0, start.neuron.channel]
    if start.position is None:
        seed[0, start.neuron.channel] = activation
    else:
        seed[0, start.neuron.channel].view(-1)[start.position] = activation.reshape(-1)[start.position]
    (gradient,) = torch.autograd.grad(maps, image, seed, retain_graph=True)
    return gradient


def _wide(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unsuited(network: nn.Module) -> str:
    """Return why the method does not suit a network; "" if it does."""
    attention = {type(module).__name__ for module in network.modules() if _is_of_transformer(module)}
    if attention:
        return (
            f"it is a transformer ({', '.join(sorted(attention))}), whose units are no maps of the image. The method "
            "needs a network of convolutions"
        )
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        return "it has no convolution (torch.nn.Conv2d). The method needs a network of convolutions"
    return ""


def _is_of_transformer(module: nn.Module) -> bool:
    """Whether a module is the attention of a transformer. That of CBAM, for instance, weights maps by convolutions."""
    if isinstance(module, nn.MultiheadAttention):
        return True
    return "Attention" in type(module).__name__ and not any(isinstance(part, nn.Conv2d) for part in module.modules())
