"""Causal check: the change of the output when the neurons that a metric selects are silenced.

    explain-cnn experiments causal --data DIR --output DIR

The paper says that correlation "selects neurons that exert large influence over the network output". Here the selected
neurons of all layers are silenced together: their activations are set to zero (zero ablation), or to their means over
windows of training photos (mean ablation). The change of the output is compared with that of random live neurons of the
same layers, and of live neurons that are as active as the selected ones. Layers are also silenced one at a time.

`causal_tables` computes the tables from the outputs that `measure` returns, and `causal_markdown` writes them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from explain_cnn_ros.experiments import results_cache
from explain_cnn_ros.experiments.baselines import draw_matched, mean_activations
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.layers import explained_layers, names_setting
from explain_cnn_ros.experiments.progress import ProgressCallback, no_progress
from explain_cnn_ros.experiments.selectors import (
    INFLUENCE_METRICS,
    LIVE,
    NOISY_METRICS,
    PERTURBED_METRICS,
    RANDOM,
    parts,
    selector,
)
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import draw_live
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Presets of the noise, and the metrics that are computed with each: with the paper's noise all metrics, without noise
#: influence, and with the other presets the paper's metrics that depend on the noise.
METRICS_BY_PRESET = {
    "paper": DEFAULT_METRICS,
    LIVE: INFLUENCE_METRICS,
    "authors": PERTURBED_METRICS,
    "stable": PERTURBED_METRICS,
}

#: The selections that are compared.
#: Influence stands first, with and without noise.
SELECTORS = tuple(
    sorted(
        (selector(name, preset) for preset, names in METRICS_BY_PRESET.items() for name in names),
        key=lambda name: parts(name)[0] not in INFLUENCE_METRICS,
    )
)

#: The selections that are compared with further baselines, layer by layer, and with influence.
MAIN_SELECTORS = tuple(name for name in SELECTORS if parts(name)[1] in ("paper", LIVE))

#: The selections that are repeated with another seed of the noise.
SEEDED_SELECTORS = tuple(selector(name, "paper") for name in NOISY_METRICS)

#: The selections whose neurons are also silenced one by one.
SINGLE_SELECTORS = (*(name for name in MAIN_SELECTORS if parts(name)[0] in INFLUENCE_METRICS), RANDOM)

#: Offset of the other seed.
OTHER_SEED = 1000


@dataclass(frozen=True)
class CausalSettings:
    """Settings of the experiment.

    Attributes:
        top_ns: Numbers of neurons of each layer that are silenced, ascending.
        compared_n: Number of neurons of each layer in comparisons with further baselines, one of `top_ns`.
        draws: Number of sets of random neurons for comparison.
        further_draws: Number of sets of random neurons layer by layer, and of equally active neurons by selector.
        layers: Layers whose neurons are silenced, all of them together. The default stands for the default layers of
            the network.
        seed: Seed of the noise and of the random neurons.
    """

    top_ns: tuple[int, ...] = (1, 5, 20)
    compared_n: int = 5
    draws: int = 10
    further_draws: int = 3
    layers: tuple[int, ...] = ExplainSettings().layers
    seed: int = 0


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    reference: Sequence[Example],
    settings: CausalSettings,
    folder: Path,
    progress: ProgressCallback = no_progress,
    layer_names: str = "",
) -> dict[str, Any]:
    """Silence the neurons of all windows; results are cached.

    Args:
        classifier: The classifier.
        examples: The windows.
        reference: Windows of training photos, whose mean activations are those of the mean ablation.
        settings: Settings of the experiment.
        folder: Folder of the cache.
        progress: Receives reports of the progress.
        layer_names: Names or patterns of the layers, as in `ExplainSettings`; "" for `settings.layers`.

    Returns:
        By window, JSON values:

        - "output", and "person", whether the decision is "person".
        - Outputs with neurons silenced: "selected" (by selector, one for each N) and "random" (by draw, one for each
          N).
        - The same with N = `compared_n`: "matched" (by main selector and draw), "mean_selected" (by main selector, mean
          ablation), "mean_random" (by draw, mean ablation), "layers_selected" (by main selector, one for each layer),
          "layers_random" (by draw, one for each layer), "single" (by `SINGLE_SELECTORS`, one for each neuron).
        - The selected "channels" by selector and layer, and "other_seed", those with another seed of the noise.
    """
    layers = explained_layers(classifier, settings.layers, layer_names)
    settings = dataclasses.replace(settings, layers=tuple(layers))

    def explainer(preset: str, metrics: Sequence[str], seed: int) -> Explainer:
        common = {"top_n": max(settings.top_ns), "layer_names": names_setting(layers), "proof": "none"}
        return Explainer(classifier, ExplainSettings.preset(preset, metrics=tuple(metrics), seed=seed, **common))

    explainers = {preset: explainer(preset, metrics, settings.seed) for preset, metrics in METRICS_BY_PRESET.items()}
    other = explainer("paper", NOISY_METRICS, settings.seed + OTHER_SEED)
    explained = [e.settings for e in (*explainers.values(), other)]
    key = results_cache.key_of(
        classifier, settings, MAIN_SELECTORS, SINGLE_SELECTORS, *explained, *examples, "means", *reference
    )
    # The means are computed only if a window is.
    means = functools.cache(lambda: mean_activations(explainers["paper"], reference))
    return results_cache.compute_windows(
        folder / "silenced.jsonl",
        key,
        examples,
        lambda example: _silence(explainers, other, means(), example, settings),
        progress,
        "silencing",
    )


#: Channels by layer.
_Channels = dict[int, list[int]]


def _top(chosen: Mapping[int, list[int]], n: int) -> _Channels:
    return {layer: channels[:n] for layer, channels in chosen.items()}


def magnitudes(activations: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return the absolute values of activations by layer, by which neurons are alive and as active as others.

    In layers without an activation function, activations may be negative, and only neurons of 0 are dead.
    """
    return {layer: values.abs() for layer, values in activations.items()}


def _silence(
    explainers: Mapping[str, Explainer],
    other: Explainer,
    means: Mapping[int, Tensor],
    example: Example,
    settings: CausalSettings,
) -> dict[str, Any]:
    ranked = {preset: explainer.rank(example.image) for preset, explainer in explainers.items()}
    selected = {
        selector(name, preset): ranked[preset].of_metric(name)
        for preset, names in METRICS_BY_PRESET.items()
        for name in names
    }
    seeded = other.rank(example.image)
    # Random neurons and silenced passes depend on the unperturbed window only, which is the same with all presets.
    explainer, window = explainers["paper"], ranked["paper"]
    rng = np.random.default_rng([settings.seed, *example.name.encode()])
    activations, n = magnitudes(window.evidence.activations), settings.compared_n
    drawn = [draw_live(activations, max(settings.top_ns), rng) for _ in range(settings.draws)]
    matched = [
        draw_matched(activations, _top(selected[name], n), rng)
        for name in MAIN_SELECTORS
        for _ in range(settings.further_draws)
    ]
    main = [_top(selected[name], n) for name in MAIN_SELECTORS]
    random = [_top(chosen, n) for chosen in drawn]
    by_layer = [
        {layer: chosen[layer]} for chosen in [*main, *random[: settings.further_draws]] for layer in settings.layers
    ]
    single = {name: _top(selected[name], n) for name in SINGLE_SELECTORS if name != RANDOM} | {RANDOM: random[0]}
    each = [{layer: [c]} for chosen in single.values() for layer, channels in chosen.items() for c in channels]
    by_n = [_top(chosen, count) for chosen in [*selected.values(), *drawn] for count in settings.top_ns]
    outputs = explainer.silence(window, [{}, *by_n, *matched, *by_layer, *each]).outputs
    before, after = outputs[0], outputs[1:]
    of_n = np.array(after[: len(by_n)]).reshape(-1, len(settings.top_ns)).tolist()
    of_matched = after[len(by_n) : len(by_n) + len(matched)]
    rest = iter(after[len(by_n) + len(matched) :])
    of_layers = [[next(rest) for _ in settings.layers] for _ in range(len(by_layer) // len(settings.layers))]
    of_each = {name: [next(rest) for top in chosen.values() for _ in top] for name, chosen in single.items()}
    of_means = explainer.silence(window, [*main, *random], means).outputs
    return {
        "output": before,
        "person": window.evidence.person,
        "selected": dict(zip(selected, of_n, strict=False)),
        "random": of_n[len(selected) :],
        "matched": dict(
            zip(MAIN_SELECTORS, np.array(of_matched).reshape(len(MAIN_SELECTORS), -1).tolist(), strict=True)
        ),
        "mean_selected": dict(zip(MAIN_SELECTORS, of_means, strict=False)),
        "mean_random": of_means[len(main) :],
        "layers_selected": dict(zip(MAIN_SELECTORS, of_layers, strict=False)),
        "layers_random": of_layers[len(main) :],
        "single": of_each,
        "channels": selected,
        "other_seed": {name: seeded.of_metric(name) for name in NOISY_METRICS},
    }
