"""Scores and selections of all layers at once, compared with those of each metric's own function."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain.influences import Influences
from explain_cnn_ros.explain.metrics.registry import LayerEvidence, metric, metric_names
from explain_cnn_ros.explain.moments import Moments
from explain_cnn_ros.explain.selection import top_channels
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.vgg.batched.layout import FlatLayout
from explain_cnn_ros.explain.vgg.batched.passes import BatchPass
from explain_cnn_ros.explain.vgg.batched.scoring import Scorer
from explain_cnn_ros.explain.vgg.batched.selecting import Selector

LAYERS, N = (2, 4), 10

SETTINGS = ExplainSettings(perturbations=N, layers=LAYERS, top_n=3)


def next_above(values: Tensor) -> Tensor:
    """Return the next larger numbers, which differ by less than the rounding error that is assumed."""
    return torch.nextafter(values, torch.full_like(values, float("inf")))


@pytest.fixture(scope="module")
def activations() -> dict[int, Tensor]:
    """Activations [1 + N, C, R, C'] by layer, the unperturbed ones first.

    Some vary by less than the rounding error, or are the same in all perturbations.
    """
    generator = torch.Generator().manual_seed(0)
    found = {}
    for layer, shape in ((2, (4, 8, 8)), (4, (6, 4, 4))):
        clean = torch.rand(shape, generator=generator, dtype=torch.float64)
        clean[1] = 0
        copies = clean * (1 + 0.1 * torch.randn(N, *shape, generator=generator, dtype=torch.float64))
        copies[:, 0] = clean[0] + 0.1
        copies[:, 2] = clean[2]
        copies[::3, 2] = next_above(clean[2])
        copies[:, 3, 1:] = clean[3, 1:]
        found[layer] = torch.cat([clean[None], copies])
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision_mean_of_inverse": True},
        {"live_share_min": 0.5},
        {"precision_lambda": 1.0},
        {"precision_lambda": 0.2, "precision_lambda_absolute": True},
    ],
)
@pytest.mark.parametrize("person", [True, False])
@pytest.mark.parametrize("block", [1, 5])
@pytest.mark.parametrize("varies", [True, False])
def test_scores_and_selections(vgg_like, activations, changes, person: bool, block: int, varies: bool) -> None:
    settings = dataclasses.replace(SETTINGS, **changes)
    features = vgg_like(blocks=((4, 4), (6, 6)))
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(1 + N, generator=generator, dtype=torch.float64)
    if not varies:
        outputs = torch.full_like(outputs, 0.3)
        outputs[::3] = next_above(outputs[0])
    gradients = {
        layer: torch.randn(a.shape, generator=generator, dtype=torch.float64) for layer, a in activations.items()
    }
    weights = {layer: torch.randn(a.shape[1], 5, generator=generator).double() for layer, a in activations.items()}

    # One layer and one metric at a time.
    evidence = {}
    for layer, a in activations.items():
        moments = Moments.zeros(a[0], outputs[0], 2, block)
        moments.update(a[1:], outputs[1:], 0)
        products = (a * gradients[layer]).sum((2, 3))
        influences = Influences.zeros(products[0], 2, block)
        influences.update(products[1:], 0)
        evidence[layer] = LayerEvidence(settings, weights[layer], a[0], moments, influences)
    weight_scores = {
        (name, layer): metric(name).function(evidence[layer])
        for name in ("weight_sum", "weight_variance")
        for layer in LAYERS
    }

    # All at once.
    like = outputs[:1]
    layout = FlatLayout(features, LAYERS, (8, 8), settings.top_n, like)
    rows = {layer: a.permute(0, 2, 3, 1).flatten(1) for layer, a in activations.items()}
    flat = torch.cat(list(rows.values()), 1)
    slopes = torch.cat([gradients[layer].permute(0, 2, 3, 1).flatten(1) for layer in LAYERS], 1)
    passed = BatchPass(torch.empty(0), [row[0] for row in rows.values()], flat[1:] - flat[:1], flat * slopes)
    scorer = Scorer(settings, layout, N, block, weight_scores, like)
    scores = scorer.score(passed, outputs, torch.tensor(person))
    selection = Selector(layout, settings.top_n, scorer.rows).select(scores.preferences)

    def check(row: int, layer: int, preferences: Tensor) -> None:
        chosen = selection.top[row, layer][selection.valid[row, layer]].tolist()
        assert chosen == top_channels(preferences, settings.top_n)

    assert set(settings.metrics) <= set(metric_names())
    for m, name in enumerate(settings.metrics):
        for i, span in enumerate(layout.spans):
            entry, own = metric(name), evidence[span.number]
            expected = entry.function(own)
            torch.testing.assert_close(
                scores.scores[m, span.neurons], expected, rtol=1e-9, atol=1e-12, equal_nan=True, msg=f"{name} {span}"
            )
            check(scorer.rows[name][-1], i, entry.preferences(expected, person))
            if entry.perturbed(settings):
                for row in (0, 1):
                    of_half = dataclasses.replace(
                        own,
                        moments_or_none=own.moments.halves[row],
                        influences_or_none=own.influences.halves[row],
                    )
                    check(scorer.rows[name][row], i, entry.preferences(entry.function(of_half), person))
    mean, variance = float(outputs[1:].mean()), float(outputs[1:].var(correction=0))
    assert scores.output.tolist() == pytest.approx([mean, variance], abs=1e-12)
    strongest = torch.cat([a[0].amax((1, 2)) for a in activations.values()])
    assert torch.equal(scores.strongest, strongest)


def test_of_equal_preferences_the_lower_channel_comes_first(vgg_like) -> None:
    features = vgg_like(blocks=((40, 40),))
    layout = FlatLayout(features, (1, 2), (2, 2), 7, torch.zeros(1))
    generator = torch.Generator().manual_seed(0)
    preferences = torch.randint(0, 4, (3, layout.neurons), generator=generator).float()
    preferences[preferences == 0] = float("nan")
    preferences[2, :36] = float("nan")
    selection = Selector(layout, 7, {"one": [0, 1, 2]}).select(preferences)
    for row in range(3):
        for i, span in enumerate(layout.spans):
            chosen = selection.top[row, i][selection.valid[row, i]].tolist()
            assert chosen == top_channels(preferences[row, span.neurons], 7)
    assert selection.channels.shape == (1, 2, 7)
    assert torch.equal(selection.selected[0], selection.valid[2])
