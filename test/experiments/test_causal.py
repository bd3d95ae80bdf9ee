"""The neurons that are silenced are those that explanations select, and the outputs are those of single passes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from explain_cnn_ros.experiments import causal
from explain_cnn_ros.experiments.baselines import draw_matched, mean_activations
from explain_cnn_ros.experiments.causal import MAIN_SELECTORS, SELECTORS, CausalSettings
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.layers import explained_layers, names_setting
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.experiments.selectors import INFLUENCE_METRICS, NOISY_METRICS, RANDOM, parts, selector
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS, metric
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_live
from explain_cnn_ros.scan.classifier import PersonClassifier

INFLUENCE_SELECTORS = [selector(name, preset) for preset in ("paper", "live") for name in INFLUENCE_METRICS]

QUICK = CausalSettings(top_ns=(1, 2), compared_n=2, draws=2, further_draws=2, layers=(2, 3))


def as_channels(of_layers: Mapping[str, list[int]], n: int) -> dict[int, list[int]]:
    return {int(layer): channels[:n] for layer, channels in of_layers.items()}


@pytest.mark.parametrize("network", ["quick_classifier", "residual_classifier"])
def test_the_neurons_that_explanations_select_are_silenced(
    request: pytest.FixtureRequest, network: str, examples: Callable[..., list[Example]], tmp_path: Path
) -> None:
    classifier: PersonClassifier = request.getfixturevalue(network)
    size = classifier.info.input_size
    windows, reference = examples(1, size), examples(4, size)[2:]
    records = causal.measure(classifier, windows, reference, QUICK, tmp_path)
    adapter = adapt(classifier)
    means = {
        layer: activation.mean((0, 2, 3))
        for layer, activation in adapter.trace(
            classifier.to_pixels(np.stack([e.image for e in reference])), (2, 3)
        ).activations.items()
    }
    for example in windows:
        record = records[example.name]
        pixels = classifier.to_pixels(example.image[None])

        def output(
            channels: dict[int, list[int]],
            values: dict[int, torch.Tensor] | None = None,
            pixels: torch.Tensor = pixels,
        ) -> float:
            logits = adapter.silence(pixels, [channels], values=values)[0].double()
            return float(torch.logsumexp(logits[1:], 0) - logits[0])

        assert record["output"] == pytest.approx(output({}), rel=1e-4, abs=1e-4)
        assert record["person"] == (classifier.probability(example.image[None])[0] >= classifier.threshold)
        assert sorted(record["selected"]) == sorted(SELECTORS)
        for preset, names in (
            ("paper", (*INFLUENCE_METRICS, "weight_sum", "activation_precision", "activation_output_correlation")),
            ("authors", ("activation_output_correlation",)),
            ("live", INFLUENCE_METRICS),
        ):
            settings = ExplainSettings.preset(preset, top_n=2, layers=(2, 3), metrics=names)
            explanation = Explainer(classifier, settings).explain(example.image)
            for name in names:
                chosen = {layer: [x.channel for x in explanation.ranking(name, layer)] for layer in (2, 3)}
                own = selector(name, preset)
                assert as_channels(record["channels"][own], 2) == chosen
                for i, n in enumerate(QUICK.top_ns):
                    top = {layer: channels[:n] for layer, channels in chosen.items()}
                    assert record["selected"][own][i] == pytest.approx(output(top), rel=1e-4, abs=1e-4)
        for own in MAIN_SELECTORS:
            top = as_channels(record["channels"][own], 2)
            assert record["mean_selected"][own] == pytest.approx(output(top, means), rel=1e-3, abs=1e-4)
            by_layer = [output({layer: channels}) for layer, channels in top.items()]
            assert record["layers_selected"][own] == pytest.approx(by_layer, rel=1e-4, abs=1e-4)
        other = ExplainSettings.preset("paper", seed=causal.OTHER_SEED, top_n=2, layers=(2, 3), metrics=NOISY_METRICS)
        ranked = Explainer(classifier, other).rank(example.image)
        assert {name: as_channels(c, 2) for name, c in record["other_seed"].items()} == {
            name: ranked.of_metric(name) for name in NOISY_METRICS
        }
        assert list(record["single"]) == [*INFLUENCE_SELECTORS, RANDOM]
        for own in INFLUENCE_SELECTORS:
            top = as_channels(record["channels"][own], 2)
            single = [output({layer: [c]}) for layer, channels in top.items() for c in channels]
            assert record["single"][own] == pytest.approx(single, rel=1e-4, abs=1e-4)
        assert len(record["single"][RANDOM]) == 4
        assert np.shape(record["random"]) == (2, 2)
        assert np.shape(record["layers_random"]) == (2, 2)
        assert np.shape(record["mean_random"]) == (2,)
        assert {name: len(outputs) for name, outputs in record["matched"].items()} == dict.fromkeys(MAIN_SELECTORS, 2)
    assert causal.measure(classifier, windows, reference, QUICK, tmp_path / "again") == records


def test_the_default_layers_of_any_network(
    residual_classifier: PersonClassifier, examples: Callable[..., list[Example]], tmp_path: Path
) -> None:
    """They are those of the adapter; names choose others. Each choice has a cache of its own."""
    windows = examples(2, residual_classifier.info.input_size)
    settings = dataclasses.replace(QUICK, layers=CausalSettings().layers)
    names = {number: layer.name for number, layer in adapt(residual_classifier).layers.items()}
    default = adapt(residual_classifier).default_layers
    for chosen, layers in (("", default), ("stem.0, sec*", (1, 3))):
        records = causal.measure(residual_classifier, windows[:1], windows[1:], settings, tmp_path, layer_names=chosen)
        assert {tuple(map(int, of)) for of in records["0.png"]["channels"].values()} == {layers}
        assert np.shape(records["0.png"]["layers_random"]) == (2, len(layers))
        assert explained_layers(residual_classifier, layer_names=chosen) == {n: names[n] for n in layers}
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match=r"no layer of resnet18 has a name like 'conv9'"):
        causal.measure(residual_classifier, windows[:1], windows, settings, tmp_path, layer_names="conv9")


def test_numbers_of_layers_mean_these_layers(residual_classifier: PersonClassifier) -> None:
    """3 to 9 alone would stand for the default layers, so layers are given by their names."""
    layers = explained_layers(residual_classifier, (1, 3))
    assert names_setting(layers) == "stem.0,second"
    settings = ExplainSettings(layer_names=names_setting(layers))
    assert Explainer(residual_classifier, settings).settings.layers == (1, 3)


def test_small_vggs_have_those_of_the_default_layers_that_exist(quick_classifier: PersonClassifier) -> None:
    assert list(explained_layers(quick_classifier)) == [3, 4, 5, 6, 7, 8]


def test_stored_results_of_vggs_are_found_again(
    deep_classifier: PersonClassifier, examples: Callable[..., list[Example]], tmp_path: Path
) -> None:
    """The key of a VGG depends on the numbers of its layers, its parameters and the windows only."""
    settings, windows = CausalSettings(), examples(3)
    explained = [
        Explainer(
            deep_classifier,
            ExplainSettings.preset(
                preset, metrics=names, top_n=20, layers=(3, 4, 5, 6, 7, 8, 9), seed=seed, proof="none"
            ),
        ).settings
        for preset, names, seed in [
            *((p, n, 0) for p, n in causal.METRICS_BY_PRESET.items()),
            ("paper", NOISY_METRICS, 1000),
        ]
    ]
    key = key_of(
        deep_classifier,
        settings,
        MAIN_SELECTORS,
        causal.SINGLE_SELECTORS,
        *explained,
        windows[0],
        "means",
        *windows[1:],
    )
    line = json.dumps([windows[0].name, "stored"])
    (tmp_path / f"silenced-{key}.jsonl").write_text(f'{{"key": "{key}"}}\n{line}\n')
    assert causal.measure(deep_classifier, windows[:1], windows[1:], settings, tmp_path) == {"0.png": "stored"}


def test_only_dead_neurons_are_dead() -> None:
    """A neuron without an activation function is alive if its activation is negative."""
    negative = torch.tensor([-2.0, 0.0, -1.0, 0.0]).view(4, 1, 1)
    for seed in range(9):
        rng = np.random.default_rng(seed)
        assert set(draw_live(causal.magnitudes({3: negative}), 2, rng)[3]) == {0, 2}


def test_the_means_count_for_the_cache(
    quick_classifier: PersonClassifier, examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    """Other windows of reference give other results, and a file of their own."""
    one, other = examples(4)[2:3], examples(4)[3:]
    found = [causal.measure(quick_classifier, examples(1), r, QUICK, tmp_path)["0.png"] for r in (one, other)]
    assert found[0]["selected"] == found[1]["selected"]
    assert found[0]["mean_selected"] != found[1]["mean_selected"]
    assert len(list(tmp_path.glob("silenced*.jsonl"))) == 2


def test_selectors_follow_the_registry() -> None:
    assert SELECTORS[:4] == (
        "influence",
        "counter_influence",
        "influence, image alone",
        "counter_influence, image alone",
    )
    assert {"influence, image alone", "activation_output_correlation, authors noise", *PAPER_METRICS} < set(SELECTORS)
    for name in SELECTORS:
        metric_name, preset = parts(name)
        assert selector(metric_name, preset) == name
        assert metric(metric_name).name == metric_name
        assert ExplainSettings.preset(preset, metrics=(metric_name,)).metrics == (metric_name,)


def test_matched_neurons_are_as_active() -> None:
    """Activities are the channel numbers, so the nearest ranks are the nearest channels; channel 0 is dead."""
    activations = {4: torch.arange(20.0).view(20, 1, 1).expand(20, 2, 3)}
    seen: set[int] = set()
    for seed in range(200):
        drawn = draw_matched(activations, {4: [10, 19]}, np.random.default_rng(seed), nearest=4)[4]
        assert drawn[0] in (8, 9, 11, 12) and drawn[1] in (15, 16, 17, 18)
        seen |= set(drawn)
    assert seen == {8, 9, 11, 12, 15, 16, 17, 18}
    # Neither dead nor selected neurons are drawn, and none is drawn twice.
    drawn = draw_matched(activations, {4: list(range(1, 18))}, np.random.default_rng(0))[4]
    assert sorted(drawn) == [18, 19]
    assert draw_matched(activations, {4: []}, np.random.default_rng(0)) == {4: []}


def test_means_over_windows_in_batches(
    quick_classifier: PersonClassifier, examples: Callable[[int], list[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explain_cnn_ros.experiments.baselines.BATCH", 2)
    explainer = Explainer(quick_classifier, ExplainSettings(layers=(2, 5), compute_precision="float32"))
    windows = examples(3)
    found = mean_activations(explainer, windows)
    for layer in (2, 5):
        each = [explainer.trace(e.image).clean.activations[layer][0].mean((1, 2)) for e in windows]
        torch.testing.assert_close(found[layer].float(), torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)
