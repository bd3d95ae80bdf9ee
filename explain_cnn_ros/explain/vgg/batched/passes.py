"""One pass of the window and all of its perturbations through a VGG, forwards and backwards."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.explain.vgg.gradients import Record, backward, pool
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.output import margin, probability


class OutputOfLogits:
    """The output that the explanation is about, and its gradient, without autograd and without waiting.

    Args:
        kind: "logit" or "probability"; see `NetworkAdapter.output`.
        target: Index of the class that the output is about.
        classes: Number of classes.
        like: Tensor whose data type and device the constants get.
    """

    def __init__(self, kind: str, target: int, classes: int, like: Tensor) -> None:
        self._kind, self._target = kind, target
        chosen = torch.zeros(classes)
        chosen[target] = 1
        self._chosen = chosen.to(like)
        self._is_target = chosen.bool().to(like.device)

    def __call__(self, logits: Tensor) -> Tensor:
        """Compute the output [N] of logits [N, classes]."""
        if self._kind == "probability":
            return probability(logits, self._target)
        if logits.shape[1] == 2:
            return margin(logits, self._target)
        return logits[:, self._target] - self._others(logits).logsumexp(1)

    def gradient(self, logits: Tensor) -> Tensor:
        """Compute the gradient of each window's output with respect to its logits, [N, classes]."""
        if self._kind == "probability":
            share = logits.softmax(1)
            others = share.masked_fill(self._is_target, 0)
            # The sum of the others is 1 - P, but it is not rounded to 0 where P is rounded to 1.
            return (self._chosen * others.sum(1, keepdim=True) - others) * share[:, self._target, None]
        return self._chosen - self._others(logits).softmax(1)

    def _others(self, logits: Tensor) -> Tensor:
        return logits.masked_fill(self._is_target, float("-inf"))


@dataclass
class BatchPass:
    """The result of one pass of N = 1 + n windows: the unperturbed one, and its perturbations.

    Attributes:
        logits: [N, classes], at least float32.
        activations: Activations of the unperturbed window, flat, for each layer in ascending order.
        differences: Activations of the perturbations minus those of the unperturbed window, [n, P]; None if they were
            not requested.
        products: Activation after the ReLU times gradient of the output, [N, P]; None if gradients were not requested.
        switches: Switches of the unperturbed window by the index of the pooling in `features`: the flat index of each
            maximum in the pooling's input, int64 [R, C', C].
    """

    logits: Tensor
    activations: list[Tensor]
    differences: Tensor | None = None
    products: Tensor | None = None
    switches: dict[int, Tensor] = field(default_factory=dict)


def run(
    network: VGGClassifier,
    batch: Tensor,
    layout: FlatLayout,
    *,
    pre_relu: bool = False,
    differences: bool = False,
    output: OutputOfLogits | None = None,
) -> BatchPass:
    """Pass the unperturbed window and its perturbations through the network.

    Args:
        network: The VGG, without batch norm.
        batch: Normalised windows [N, 3, H, W], the unperturbed one first.
        layout: The layout of the explained layers.
        pre_relu: Return the activations before the ReLU, not after it.
        differences: Also return the differences of the activations.
        output: The output whose gradient is passed back; None for no gradients.
    """
    wide = torch.promote_types(batch.dtype, torch.float32)
    lowest, highest = layout.spans[0].relu, layout.spans[-1].relu
    record, switches, activations = Record(), {}, {}
    x = batch
    for index, module in enumerate(network.features):
        span = layout.by_relu.get(index)
        if span is not None and pre_relu:
            activations[span] = x.to(wide, copy=True)  # the ReLU works in place
        if isinstance(module, nn.MaxPool2d):
            x, found = pool(module, x)
            if output is not None and index > lowest:
                record.switches[index] = found
            if index < highest:
                switches[index] = found[0].permute(1, 2, 0)
            continue
        x = module(x)
        if span is not None and not pre_relu:
            activations[span] = x.to(wide)
        if isinstance(module, nn.ReLU) and output is not None and index >= lowest:
            record.rectified[index] = x
    rows = [activation[0].permute(1, 2, 0).reshape(-1) for activation in activations.values()]
    differing = None
    if differences:
        differing = batch.new_empty(len(batch) - 1, layout.positions, dtype=wide)
        for span, activation in activations.items():
            last = activation.permute(0, 2, 3, 1)
            torch.sub(last[1:], last[:1], out=differing[:, span.positions].view(last[1:].shape))
    logits, gradient = head(network.classifier, x, output)
    passed = BatchPass(logits.to(wide), rows, differing, None, switches)
    if gradient is not None:
        passed.products = batch.new_empty(len(batch), layout.positions, dtype=wide)
        spans = {span.number: span for span in layout.spans}
        for number, activation, of_layer in backward(network.features, record, gradient, spans):
            last = activation.permute(0, 2, 3, 1)
            product = passed.products[:, spans[number].positions].view(last.shape)
            torch.mul(last, of_layer.permute(0, 2, 3, 1), out=product)
    return passed


def head(classifier: nn.Sequential, maps: Tensor, output: OutputOfLogits | None) -> tuple[Tensor, Tensor | None]:
    """Compute the logits, and the gradient of the output with respect to the last map.

    Args:
        classifier: The dense layers, in evaluation mode.
        maps: The last map, [N, C, R, C'].
        output: The output; None for no gradient.

    Returns:
        Logits [N, classes]; and the gradient of each window's output, [N, C, R, C'], or None.

    Raises:
        TypeError: There are layers other than flattening, dense layers, ReLUs and dropout.
    """
    results = [maps]
    for module in classifier:
        results.append(module(results[-1]))
    if output is None:
        return results[-1], None
    gradient = output.gradient(results[-1])
    for module, result in zip(reversed(classifier), reversed(results), strict=False):
        if isinstance(module, nn.Linear):
            gradient = gradient @ module.weight
        elif isinstance(module, nn.ReLU):
            gradient = torch.ops.aten.threshold_backward(gradient, result, 0)
        elif isinstance(module, nn.Flatten):
            gradient = gradient.view(maps.shape)
        elif not isinstance(module, nn.Dropout):
            raise TypeError(f"gradients are computed of dense layers, ReLU and dropout, not of {type(module).__name__}")
    return results[-1], gradient
