"""Live explanations beside explanations of single frames, and the average over frames worked out from these."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from explain_kit import threshold_between
from numpy.typing import NDArray

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.live import GAP, SELECTED, SHOWN, LiveExplainer, LiveExplanation
from explain_cnn_ros.explain.locating import locate
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Neuron, Start
from explain_cnn_ros.explain.patches import to_frame
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.steadying import REACH, STAYS_AT
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier

SECOND = 10**9

BOTH = (SUPPORTING, OPPOSING)

#: A region that reaches out of the frame.
REGION = Region(20, -4, 40, 80, math.nan)


@pytest.fixture(scope="module")
def frames(picture: Callable[..., Any]) -> list[NDArray[np.uint8]]:
    return [picture(100, 90, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def single(exact: PersonClassifier) -> Explainer:
    """Explains single frames by influence of the image alone."""
    return Explainer(exact, ExplainSettings.preset("live"))


def scores(explainer: Explainer, frame: NDArray[np.uint8]) -> dict[tuple[str, int], torch.Tensor]:
    return dict(explainer.rank(explainer.window(frame, REGION), 0.5).scores)


def all_scores(live: LiveExplanation) -> dict[tuple[str, int], torch.Tensor]:
    return {(r.metric, r.layer): torch.from_numpy(r.scores) for r in live.explanation.rankings}


def test_without_smoothing_it_is_the_explanation_of_the_frame(
    exact: PersonClassifier, single: Explainer, frames: list[Any]
) -> None:
    live = LiveExplainer(exact, smoothing=0)
    for number, frame in enumerate(frames):
        found = live.explain(frame, REGION, number * SECOND, track=7, threshold=0.5)
        expected = single.explain(frame, REGION, threshold=0.5)
        assert (found.frames, found.track, found.smoothing) == (1, 7, 0)
        assert found.explanation.output == found.output_mean == expected.output
        assert found.explanation.region == expected.region
        for ranking in found.explanation.rankings:
            same = expected.layer_ranking(ranking.metric, ranking.layer)
            np.testing.assert_array_equal(ranking.scores, same.scores)
            # The strongest of all layers are a part of the best of each layer, with the same patches.
            assert ranking.neurons == same.neurons[: len(ranking.neurons)]
        for name in BOTH:
            every = [abs(n.score) for r in expected.rankings if r.metric == name for n in r.neurons]
            assert [abs(n.score) for n in found.strongest(name)] == sorted(every, reverse=True)[:SELECTED]


def test_scores_are_averages_over_the_frames(exact: PersonClassifier, single: Explainer, frames: list[Any]) -> None:
    live = LiveExplainer(exact, smoothing=0.8)
    stamps = [0.0, 0.5, 1.7]
    for k, frame in enumerate(frames):
        found = live.explain(frame, REGION, round(stamps[k] * SECOND), threshold=0.5)
        weights = [math.exp(-(stamps[k] - stamp) / 0.8) for stamp in stamps[: k + 1]]
        each = [scores(single, earlier) for earlier in frames[: k + 1]]
        for key, values in all_scores(found).items():
            mean = sum(w * s[key] for w, s in zip(weights, each, strict=True)) / sum(weights)
            torch.testing.assert_close(values, mean)
        outputs = [single.explain(earlier, REGION).output for earlier in frames[: k + 1]]
        assert found.output_mean == pytest.approx(sum(np.multiply(weights, outputs)) / sum(weights))
        assert (found.frames, found.explanation.output) == (k + 1, outputs[k])


def test_neurons_argue_on_their_side_and_no_more_than_is_bounded(exact: PersonClassifier, frames: list[Any]) -> None:
    live = LiveExplainer(exact, ExplainSettings(layers=(3, 5, 8)))
    for number, frame in enumerate(frames):
        for threshold in (0.001, 0.999):
            found = live.explain(frame, REGION, number * SECOND // 10, threshold=threshold)
            assert found.explanation.person == (found.explanation.region.probability >= threshold)
            for name in BOTH:
                neurons = found.strongest(name)
                assert 0 < len(neurons) <= SELECTED
                sign = 1 if (name == SUPPORTING) == found.explanation.person else -1
                assert all(sign * neuron.score > 0 for neuron in neurons)
                shown = [n for n in neurons if found.shows(name, n)]
                assert [Neuron(n.layer, n.channel) for n in shown] == list(found.shown[name])
                assert 0 < len(shown) <= SHOWN
                assert all(neuron.patch for neuron in shown)
            drawn = [n for r in found.drawn.rankings for n in r.neurons]
            assert len(drawn) == sum(len(chosen) for chosen in found.shown.values())
            assert {r.layer for r in found.explanation.rankings} == {3, 5, 8}


def test_patches_are_located_in_the_current_frame(
    exact: PersonClassifier, single: Explainer, frames: list[Any]
) -> None:
    """Each begins where the neuron contributes most in this frame, or near its last position, if half as much."""
    live, last = LiveExplainer(exact), {}
    stayed = 0
    for number, frame in enumerate(frames):
        found = live.explain(frame, REGION, number * SECOND // 5, threshold=0.5)
        ranked = single.rank(single.window(frame, REGION), 0.5)
        now = {}
        for name in BOTH:
            sign = 1 if (name == SUPPORTING) == found.explanation.person else -1
            for neuron in found.strongest(name):
                key = name, Neuron(neuron.layer, neuron.channel)
                contributions = sign * ranked.clean.contributions[neuron.layer][neuron.channel]
                position = int(contributions.argmax())
                if not (contributions > 0).any():
                    position = int(ranked.clean.activations[neuron.layer][0, neuron.channel].argmax())
                if key in last:
                    near = torch.zeros_like(contributions, dtype=torch.bool)
                    row, column = divmod(last[key], contributions.shape[1])
                    near[max(0, row - REACH) : row + REACH + 1, max(0, column - REACH) : column + REACH + 1] = True
                    inside = contributions.where(near, -torch.inf)
                    if inside.max() > 0 and inside.max() >= STAYS_AT * contributions.max():
                        stayed += int(inside.argmax()) != position
                        position = int(inside.argmax())
                now[key] = position
                start = Start(key[1], position)
                with torch.inference_mode():
                    patch = locate(single.adapter, single.settings, ranked.clean, [start]).get(start)
                expected = patch and to_frame(patch, exact.info.input_size, REGION, (100, 90))
                assert neuron.patch == expected
        last = now
    assert stayed, "some patch is where it was although another position contributes more"


def test_the_proof_is_about_the_selected_neurons_in_this_frame(
    exact: PersonClassifier, single: Explainer, frames: list[Any]
) -> None:
    live = LiveExplainer(exact)
    for number, frame in enumerate(frames):
        found = live.explain(frame, REGION, number * SECOND // 5, threshold=0.5).explanation
        window = single.trace(single.window(frame, REGION))
        for name in BOTH:
            selected = {r.layer: [n.channel for n in r.neurons] for r in found.rankings if r.metric == name}
            before, after = single.silence(window, [{}, selected]).outputs
            proof = found.proof(name)
            assert proof is not None
            assert proof.neurons == sum(map(len, selected.values()))
            assert proof.together == pytest.approx(before - after)


@pytest.mark.parametrize(
    ("stamp", "track", "frames_in_the_mean"),
    [(1.0, 1, 2), (1.0 + GAP, 1, 2), (1.1 + GAP, 1, 1), (0.9, 1, 1), (1.1, 2, 1)],
)
def test_when_the_average_begins_again(
    exact: PersonClassifier, frames: list[Any], stamp: float, track: int, frames_in_the_mean: int
) -> None:
    live = LiveExplainer(exact, ExplainSettings(layers=(5,)))
    assert live.explain(frames[0], REGION, SECOND, 1).frames == 1
    found = live.explain(frames[1], REGION, round(stamp * SECOND), track)
    assert found.frames == frames_in_the_mean
    if frames_in_the_mean == 1:
        alone = LiveExplainer(exact, ExplainSettings(layers=(5,))).explain(frames[1], REGION, 0)
        assert (found.shown, found.output_mean) == (alone.shown, alone.output_mean)
        assert found.explanation.rankings == alone.explanation.rankings


def test_reset_and_failure_begin_again(exact: PersonClassifier, frames: list[Any]) -> None:
    live = LiveExplainer(exact, ExplainSettings(layers=(5,)))
    assert [live.explain(frames[0], REGION, 0).frames for _ in range(2)] == [1, 2]
    live.reset()
    assert live.explain(frames[0], REGION, 0).frames == 1
    with pytest.raises(ValueError, match="lies outside of the frame"):
        live.explain(frames[0], Region(5000, 0, 40, 80, 0.0), 0)
    assert live.explain(frames[0], REGION, 0).frames == 1
    wrong: Any = frames[0].astype(np.float32)
    with pytest.raises(ValueError, match="expected uint8"):
        live.explain(wrong, REGION, 0)


def test_other_settings_apply_where_the_preset_names_nothing(exact: PersonClassifier, frames: list[Any]) -> None:
    requested = ExplainSettings(
        layers=(3,), perturbations=20, perturbations_max=40, silencing_draws=2, patch_share=0.5, output="probability"
    )
    live = LiveExplainer(exact, requested)
    assert live.requested == requested
    settings = live.explain(frames[0], REGION, 0).explanation.settings
    assert (settings.layers, settings.patch_share, settings.output) == ((3,), 0.5, "probability")
    assert (settings.perturbations, settings.metrics, settings.proof) == (0, BOTH, "together")
    with pytest.raises(ValueError, match=r"layers \[16\] do not exist"):
        LiveExplainer(exact, ExplainSettings(layers=(16,)))


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_shares_are_parts_of_the_margin(exact: PersonClassifier, frames: list[Any], output: str) -> None:
    live = LiveExplainer(exact, ExplainSettings(layers=(5,), output=output))
    p = exact.probability(np.stack([exact.resize(frames[0])]))[0]
    whole = Region(0, 0, 100, 90, 0.0)
    person = bool(p >= 0.5)
    for threshold, agrees in ((0.5, True), (p + 0.01 if person else p - 0.01, False)):
        found = live.explain(frames[0], whole, 0, threshold=float(threshold))
        margin = found.explanation.output - (1 if output == "probability" and not found.explanation.person else 0)
        for name in BOTH:
            for neuron in found.strongest(name):
                share = found.share(neuron)
                if output == "logit" and not agrees:
                    assert math.isnan(share)
                else:
                    assert share == pytest.approx(neuron.score / margin)
                    assert (share > 0) == (name == SUPPORTING)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_decision_is_that_of_the_classifier(
    thin_classifier: PersonClassifier, window: NDArray[np.uint8], precision: str
) -> None:
    """Passes in half precision would decide otherwise, because P(person) is that near to the threshold."""
    threshold = threshold_between(thin_classifier, window, precision)
    p = float(thin_classifier.probability(window[None])[0])
    live = LiveExplainer(thin_classifier, ExplainSettings(compute_precision=precision))
    found = live.explain(window, Region(0, 0, 32, 64, 0.0), 0, threshold=threshold).explanation
    assert found.person == (p >= threshold)
    assert found.region.probability == pytest.approx(p, rel=1e-5)
