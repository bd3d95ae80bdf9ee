"""The third stage of an explanation: the neurons that are drawn for comparison, and the silenced outputs."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_live, draw_unselected, silence


class TestDrawUnselected:
    activations: ClassVar[dict[int, torch.Tensor]] = {3: torch.zeros(10, 2, 2), 5: torch.ones(6, 2, 2)}
    activations[3][[0, 2, 4, 6, 8]] = 1.0

    def test_as_many_others_that_are_alive(self) -> None:
        for seed in range(50):
            drawn = draw_unselected(self.activations, {3: [0, 1, 2], 5: [3]}, np.random.default_rng(seed))
            assert len(drawn[3]) == 3 and set(drawn[3]) == {4, 6, 8}
            assert len(drawn[5]) == 1 and drawn[5] != [3]

    def test_dead_ones_only_where_live_ones_do_not_suffice(self) -> None:
        drawn = draw_unselected(self.activations, {3: [0, 2, 4]}, np.random.default_rng(0))
        assert {6, 8} < set(drawn[3])
        assert len(drawn[3]) == 3

    def test_everybody_is_drawn_some_time(self) -> None:
        draws = [draw_unselected(self.activations, {5: [3]}, np.random.default_rng(seed))[5][0] for seed in range(100)]
        assert set(draws) == {0, 1, 2, 4, 5}

    def test_fewer_where_there_are_no_more(self) -> None:
        assert draw_unselected(self.activations, {5: [0, 1, 2, 3]}, np.random.default_rng(0))[5] in ([4, 5], [5, 4])


class TestDrawLive:
    activations: ClassVar[dict[int, torch.Tensor]] = {3: torch.zeros(10, 2, 2), 5: torch.ones(6, 2, 2)}
    activations[3][[0, 2, 4, 6, 8]] = 1.0

    def test_live_ones_come_first(self) -> None:
        for seed in range(50):
            drawn = draw_live(self.activations, 5, np.random.default_rng(seed))
            assert set(drawn[3]) == {0, 2, 4, 6, 8}
            assert len(set(drawn[5])) == 5

    def test_dead_ones_only_if_live_ones_do_not_suffice(self) -> None:
        drawn = draw_live(self.activations, 7, np.random.default_rng(0))
        assert set(drawn[3][:5]) == {0, 2, 4, 6, 8}
        assert len(set(drawn[3])) == 7
        assert sorted(drawn[5]) == list(range(6))

    def test_order_is_random(self) -> None:
        assert len({tuple(draw_live(self.activations, 3, np.random.default_rng(s))[3]) for s in range(50)}) > 20

    def test_is_what_draw_unselected_draws_if_nobody_is_selected(self) -> None:
        """Both draw from the same order."""
        for seed in range(10):
            unselected = draw_unselected(self.activations, {3: [], 5: []}, np.random.default_rng(seed))
            assert unselected == {3: [], 5: []}
            everybody = draw_live(self.activations, 10, np.random.default_rng(seed))
            some = draw_unselected(self.activations, {3: [everybody[3][0]]}, np.random.default_rng(seed))
            assert some[3] == [everybody[3][1]]


class TestSilence:
    sets = ({3: [1, 4], 9: [0]}, {5: [2]}, {})

    def test_answers_are_those_of_hooks(self, thin_classifier, picture, hooked_logits) -> None:
        pixels = thin_classifier.to_pixels(picture(32, 64)[None])
        answers = silence(adapt(thin_classifier), pixels, self.sets)
        for index, silenced in enumerate(self.sets):
            logits = hooked_logits(thin_classifier.network, thin_classifier.normalise(pixels), silenced).double()
            assert answers.outputs[index] == pytest.approx(float(logits[0, 1] - logits[0, 0]), rel=1e-3, abs=1e-5)
            assert answers.probabilities[index] == pytest.approx(float(logits.softmax(1)[0, 1]), rel=1e-4)
            torch.testing.assert_close(answers.logits[[index]].double(), logits, rtol=1e-4, atol=1e-5)
        assert len(answers.outputs) == len(answers.probabilities) == len(answers.logits) == len(self.sets)


class TestInAnExplanation:
    settings = ExplainSettings(perturbations=6, layers=(3, 9), top_n=2, silencing_draws=4)

    def test_is_of_the_selected_neurons(self, thin_classifier, picture, hooked_logits) -> None:
        frame = picture(32, 64)
        explanation = Explainer(thin_classifier, self.settings).explain(frame)
        assert [s.metric for s in explanation.silencing] == list(DEFAULT_METRICS)
        window = thin_classifier.normalise(thin_classifier.to_pixels(frame[None]))
        for silencing in explanation.silencing:
            selected = {n: [x.channel for x in explanation.ranking(silencing.metric, n)] for n in (3, 9)}
            logits = hooked_logits(thin_classifier.network, window, selected)
            assert silencing.neurons == sum(map(len, selected.values()))
            assert silencing.output == pytest.approx(float(logits[0, 1] - logits[0, 0]), rel=1e-3, abs=1e-5)
            assert silencing.probability == pytest.approx(float(logits.softmax(1)[0, 1]), rel=1e-3)
            assert len(silencing.random_probabilities) == len(silencing.random_outputs) == 4
            p = np.array(silencing.random_probabilities)
            np.testing.assert_allclose(p, 1 / (1 + np.exp(-np.array(silencing.random_outputs))), rtol=1e-4)
            assert silencing.random_probability_mean == pytest.approx(p.mean())
            assert silencing.random_probability_stddev == pytest.approx(p.std())
        assert "silencing" in explanation.timings

    def test_not_unless_requested(self, thin_classifier, picture) -> None:
        settings = dataclasses.replace(self.settings, silencing_draws=0)
        assert Explainer(thin_classifier, settings).explain(picture(32, 64)).silencing == ()

    def test_is_repeatable(self, thin_classifier, picture) -> None:
        frame = picture(32, 64)
        one, other = (Explainer(thin_classifier, self.settings).explain(frame).silencing for _ in range(2))
        assert one == other
