"""The second stage of an explanation: where reconstructions begin, and the patches that they have."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from explain_kit import plain_contributions
from numpy.typing import NDArray

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.locating import locate, starts
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, OPPOSING, PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron, Start, Trace
from explain_cnn_ros.explain.patches import bounding_boxes
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.deconvnet import deconvolve
from explain_cnn_ros.scan.classifier import PersonClassifier

DEFAULT = ExplainSettings()

#: Activations and contributions of a layer of three neurons, [3, 2, 3]. The first neuron is strongest at position 4,
#: contributes most at 1 and opposes most at 5. The second contributes nowhere, and the third only opposes.
ACTIVATIONS = torch.tensor(
    [[[1.0, 2.0, 0.0], [0.0, 9.0, 3.0]], [[0.0, 0.0, 5.0], [5.0, 1.0, 0.0]], [[7.0, 1.0, 1.0], [1.0, 0.0, 1.0]]]
)
CONTRIBUTIONS = torch.tensor(
    [[[0.1, 0.6, 0.0], [0.0, -0.2, -0.3]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[-0.1, -0.9, -0.2], [0.0, 0.0, -0.9]]]
)
NEURONS = [Neuron(5, 0), Neuron(5, 1), Neuron(5, 2)]

STRONGEST = [4, 2, 0]


@pytest.fixture
def clean() -> Trace:
    return Trace(torch.empty(0), {5: ACTIVATIONS[None]}, contributions={5: CONTRIBUTIONS})


class TestStarts:
    def positions(self, clean: Trace, *arguments, settings: ExplainSettings = DEFAULT) -> list[int | None]:
        found = starts(settings, clean, NEURONS, *arguments)
        assert list(found) == NEURONS
        assert all(start.neuron == neuron for neuron, start in found.items())
        return [start.position for start in found.values()]

    @pytest.mark.parametrize(
        ("name", "person", "expected"),
        [
            (SUPPORTING, True, [1, 2, 0]),
            (OPPOSING, False, [1, 2, 0]),
            (SUPPORTING, False, [5, 2, 1]),
            (OPPOSING, True, [5, 2, 1]),
        ],
    )
    def test_of_influence_are_the_largest_contributions_in_the_direction(
        self, clean: Trace, name: str, person: bool, expected: list[int]
    ) -> None:
        """Neurons that contribute nowhere in the direction begin at their strongest activation.

        Of equal contributions, the first counts.
        """
        assert self.positions(clean, name, person) == expected

    @pytest.mark.parametrize("name", ["", *PAPER_METRICS])
    @pytest.mark.parametrize("person", [True, False])
    def test_of_other_metrics_are_the_strongest_activations(self, clean: Trace, name: str, person: bool) -> None:
        assert self.positions(clean, name, person) == STRONGEST

    @pytest.mark.parametrize("name", DEFAULT_METRICS)
    def test_strongest_is_for_all_metrics(self, clean: Trace, name: str) -> None:
        settings = ExplainSettings(deconvnet_start="strongest")
        assert self.positions(clean, name, settings=settings) == STRONGEST

    @pytest.mark.parametrize("name", ["", *DEFAULT_METRICS])
    def test_whole_maps_have_no_position(self, clean: Trace, name: str) -> None:
        assert self.positions(clean, name, settings=ExplainSettings(deconvnet_start="map")) == [None] * 3

    def test_without_contributions_are_the_strongest_activations(self, clean: Trace) -> None:
        """A trace without gradients has none."""
        assert self.positions(Trace(clean.logits, clean.activations), SUPPORTING) == STRONGEST

    def test_of_a_dead_neuron(self) -> None:
        clean = Trace(torch.empty(0), {5: torch.zeros(1, 1, 2, 3)}, contributions={5: torch.zeros(1, 2, 3)})
        assert starts(DEFAULT, clean, NEURONS[:1], SUPPORTING) == {NEURONS[0]: Start(NEURONS[0], 0)}

    def test_of_several_layers_in_any_order(self) -> None:
        generator = torch.Generator().manual_seed(0)
        activations = {layer: torch.rand(1, 6, 3, 4, generator=generator) for layer in (3, 5, 9)}
        contributions = {layer: torch.randn(6, 3, 4, generator=generator) for layer in (3, 5, 9)}
        clean = Trace(torch.empty(0), activations, contributions=contributions)
        neurons = [Neuron(9, 4), Neuron(3, 5), Neuron(5, 0), Neuron(3, 0), Neuron(9, 1)]
        for name, maps in (("", {k: v[0] for k, v in activations.items()}), (SUPPORTING, contributions)):
            found = starts(DEFAULT, clean, neurons, name)
            expected = {n: Start(n, int(maps[n.layer][n.channel].flatten().argmax())) for n in neurons}
            assert found == expected

    def test_of_no_neurons(self, clean: Trace) -> None:
        assert starts(DEFAULT, clean, [], SUPPORTING) == {}


class TestPatches:
    settings = ExplainSettings(perturbations=4, layers=(3, 4, 7, 9), top_n=3)

    @pytest.mark.parametrize("person", [True, False])
    @pytest.mark.parametrize("changes", [{}, {"perturbations": 0, "metrics": (SUPPORTING, OPPOSING)}])
    def test_of_influence_begin_where_autograd_finds_the_largest_contribution(
        self, exact: PersonClassifier, window: NDArray[np.uint8], person: bool, changes: dict
    ) -> None:
        settings = dataclasses.replace(self.settings, **changes)
        explainer = Explainer(exact, settings)
        explanation = explainer.explain(window, threshold=0.0 if person else 1.0)
        assert explanation.person is person
        contributions = plain_contributions(exact.network, exact.normalise(exact.to_pixels(window[None])))
        clean = explainer.trace(window).clean
        activations = {layer: a[0] for layer, a in clean.activations.items()}
        elsewhere = 0
        for name in (SUPPORTING, OPPOSING):
            sign = 1 if person == (name == SUPPORTING) else -1
            for layer in settings.layers:
                for neuron in explanation.ranking(name, layer):
                    of_neuron = sign * contributions[layer][neuron.channel]
                    assert of_neuron.max() > 0
                    start = Start(Neuron(layer, neuron.channel), int(of_neuron.flatten().argmax()))
                    pixels = deconvolve(exact.network.features, activations, clean.switches, [start])
                    (box,) = bounding_boxes(pixels, settings.patch_share)
                    assert neuron.patch == box
                    elsewhere += start.position != int(activations[layer][neuron.channel].flatten().argmax())
        assert elsewhere > 5

    def test_each_start_of_one_neuron_has_its_own(self, exact: PersonClassifier, window: NDArray[np.uint8]) -> None:
        explainer = Explainer(exact, self.settings)
        clean = explainer.trace(window).clean
        activation = clean.activations[4][0].flatten(1)
        channel = int((activation > 0).sum(1).argmax())
        alive = activation[channel].nonzero().flatten().tolist()
        requested = [Start(Neuron(4, channel), position) for position in (alive[0], alive[-1], alive[0])]
        patches = locate(explainer.adapter, explainer.settings, clean, requested)
        assert set(patches) == set(requested)
        assert patches[requested[0]] != patches[requested[1]]
        alone = locate(explainer.adapter, explainer.settings, clean, requested[1:2])
        assert alone[requested[1]] == patches[requested[1]]

    def test_of_no_starts(self, exact: PersonClassifier, window: NDArray[np.uint8]) -> None:
        explainer = Explainer(exact, self.settings)
        assert locate(explainer.adapter, explainer.settings, explainer.trace(window).clean, []) == {}
