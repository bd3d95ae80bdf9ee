"""The interface to a network: the output of the target class, and networks that have no adapter."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.general.adapter import GeneralAdapter
from explain_cnn_ros.explain.network_adapter import NetworkAdapter, Neuron, Reconstructions, Start
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier


class OutputOnly(NetworkAdapter):
    """An adapter that can do nothing but compute the output."""

    layers = default_layers = prepare = trace = weights = reconstruct = silence = None


@pytest.fixture
def adapter() -> Callable[..., NetworkAdapter]:
    """Build an adapter of a classifier with these classes."""
    return lambda *classes: OutputOnly(SimpleNamespace(info=ModelInfo(classes=classes)))


CLASSES = [
    ("background", "person"),
    ("person", "background"),
    ("background", "car", "person"),
    ("background", "person", "car"),
    ("person", "background", "car"),
]


class TestOutput:
    @pytest.fixture
    def logits(self) -> NDArray[np.float64]:
        return np.random.default_rng(0).normal(0, 4, (6, 3))

    @pytest.mark.parametrize("classes", CLASSES)
    def test_is_the_logit_of_the_target_minus_the_log_sum_exp_of_the_others(
        self, adapter, logits: NDArray[np.float64], classes: tuple[str, ...]
    ) -> None:
        logits = logits[:, : len(classes)]
        target = classes.index("person")
        others = np.delete(logits, target, axis=1)
        expected = logits[:, target] - np.log(np.exp(others).sum(1))
        assert adapter(*classes).target == target
        for arguments in ((), ("logit",)):
            actual = adapter(*classes).output(torch.from_numpy(logits), *arguments)
            np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)

    @pytest.mark.parametrize("classes", CLASSES)
    def test_probability_is_the_softmax(self, adapter, logits: NDArray[np.float64], classes: tuple[str, ...]) -> None:
        logits = logits[:, : len(classes)]
        expected = np.exp(logits[:, classes.index("person")]) / np.exp(logits).sum(1)
        actual = adapter(*classes).output(torch.from_numpy(logits), "probability")
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)

    def test_of_two_classes_is_exactly_the_difference(self, adapter, logits: NDArray[np.float64]) -> None:
        actual = adapter("background", "person").output(torch.from_numpy(logits[:, :2]))
        assert actual.tolist() == (logits[:, 1] - logits[:, 0]).tolist()

    @pytest.mark.parametrize("kind", ["logit", "probability"])
    def test_in_float32_agrees_with_float64(self, adapter, logits: NDArray[np.float64], kind: str) -> None:
        exact = adapter("background", "car", "person").output(torch.from_numpy(logits), kind)
        single = adapter("background", "car", "person").output(torch.from_numpy(logits).float(), kind)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)


class TestAdapt:
    def test_a_vgg_has_an_adapter(self, thin_classifier: PersonClassifier) -> None:
        assert isinstance(adapt(thin_classifier), VGGAdapter)
        assert adapt(thin_classifier).classifier is thin_classifier

    def test_another_network_of_convolutions_has_the_general_adapter(self, thin_classifier: PersonClassifier) -> None:
        network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = PersonClassifier(network, thin_classifier.info, "cpu")
        assert isinstance(adapt(classifier), GeneralAdapter)
        assert adapt(classifier).classifier is classifier

    def test_a_network_without_convolutions_is_refused_with_cause_and_cure(
        self, thin_classifier: PersonClassifier
    ) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 64, 2))
        classifier = PersonClassifier(network, thin_classifier.info, "cpu")
        reason = r"vgg16 cannot be explained: it has no convolution \(torch\.nn\.Conv2d\)\. The method needs"
        with pytest.raises(TypeError, match=reason):
            adapt(classifier)
        with pytest.raises(TypeError, match=reason):
            Explainer(classifier)

    def test_an_adapter_must_be_complete(self, thin_classifier: PersonClassifier) -> None:
        class Partial(NetworkAdapter):
            def prepare(self, precision: str) -> None: ...

        with pytest.raises(TypeError, match="abstract"):
            Partial(thin_classifier)


def test_neurons_are_ordered_by_layer_and_channel() -> None:
    neurons = [Neuron(3, 7), Neuron(2, 9), Neuron(3, 1)]
    assert sorted(neurons) == [Neuron(2, 9), Neuron(3, 1), Neuron(3, 7)]
    assert len({*neurons, Neuron(3, 7)}) == 3


def test_reconstructions_of_the_whole_input_begin_at_its_corner() -> None:
    pixels = torch.rand(2, 3, 5, 4)
    starts = [Start(Neuron(1, 0), None), Start(Neuron(2, 3), 7)]
    whole = Reconstructions.whole(starts, pixels)
    assert whole.starts == tuple(starts)
    assert whole.pixels is pixels
    assert whole.tops.tolist() == whole.lefts.tolist() == [0, 0]
