"""The variations: what each changes, and its measurements compared with explanations and plain silencing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.experiments import differences
from explain_cnn_ros.experiments.causal import OTHER_SEED
from explain_cnn_ros.experiments.differences import (
    CODE_CHANGES,
    METRICS,
    PATCHES,
    VARIATIONS,
    DifferenceSettings,
    DifferenceTables,
    explain_settings,
    measure,
    tables,
    to_markdown,
)
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import RANDOM
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

SETTINGS = DifferenceSettings(top_n=2, draws=2, layers=(3, 5))


def test_each_variation_changes_what_it_says() -> None:
    """The settings differ from the paper's in nothing else, and the code's choices are those of single variations."""
    default = explain_settings(VARIATIONS[0], DifferenceSettings(), 0)
    assert default.noise == "white" and default.perturbations == 50 and default.sigma == 0.1
    for variation in VARIATIONS[1:]:
        own = explain_settings(variation, DifferenceSettings(), 0)
        differ = {name for name in vars(default) if getattr(own, name) != getattr(default, name)}
        assert differ - {"metrics"} == set(variation.changes), variation.name
    singles = [v.changes for v in VARIATIONS if v.found_in == ("code",) and v.changes != CODE_CHANGES]
    assert all(change.items() <= CODE_CHANGES.items() for change in singles)
    named = {name for change in singles for name in change} | {"live_share_min"}
    assert named == set(CODE_CHANGES)


def test_measurements_are_those_of_explanations(
    deep_classifier: PersonClassifier,
    examples: Callable[[int], list[Example]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Variations that share the passes of another select what explanations with their own settings select."""
    monkeypatch.setattr(differences, "PATCHES", {k: v for k, v in PATCHES.items() if "code" not in k})
    windows = examples(2)
    records = measure(deep_classifier, windows, SETTINGS, tmp_path)

    def neurons(settings: ExplainSettings, name: str, window: Example) -> dict[int, list[int]]:
        return Explainer(deep_classifier, settings).rank(window.image).of_metric(name)

    def flat(channels: dict[int, list[int]]) -> set[tuple[int, int]]:
        return {(layer, c) for layer, chosen in channels.items() for c in chosen}

    checked = {v.name: v for v in VARIATIONS}
    for window in windows:
        explainer = Explainer(deep_classifier, explain_settings(VARIATIONS[0], SETTINGS, 0))
        plain = explainer.trace(window.image)
        for name, metric in (
            ("mean of the inverse variances (eq. 3)", "activation_precision"),
            ("weights into the neuron", "weight_sum"),
            ("noise of the code", "activation_output_correlation"),
        ):
            own, again = (explain_settings(checked[name], SETTINGS, seed) for seed in (0, OTHER_SEED))
            base = explain_settings(VARIATIONS[0], SETTINGS, 0)
            chosen = neurons(own, metric, window)
            entry = records[window.name]["variations"][name][metric]
            assert entry["same"] == jaccard(flat(neurons(base, metric, window)), flat(chosen))
            assert entry["seeds"] == jaccard(flat(chosen), flat(neurons(again, metric, window)))
            output, after = explainer.silence(plain, [{}, chosen]).outputs
            assert entry["after"] == pytest.approx(after, rel=1e-4)
            assert records[window.name]["output"] == pytest.approx(output, rel=1e-4)
        defaults = records[window.name]["variations"]["defaults"]
        assert all(entry["same"] == 1 for entry in defaults.values())
        assert defaults["activation_sum"]["seeds"] == 1
    person = next(e for e in windows if e.person)
    of_sum = records[person.name]["patches"]["strong pixels"]["activation_sum"]
    assert 0 <= of_sum[1] <= of_sum[0] <= 4
    assert "patches" not in records[next(e.name for e in windows if not e.person)]


def test_tables(
    deep_classifier: PersonClassifier,
    examples: Callable[[int], list[Example]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row for each variation and metric; persons and backgrounds apart; the second time from the cache."""
    monkeypatch.setattr(differences, "VARIATIONS", (VARIATIONS[0], VARIATIONS[2]))
    monkeypatch.setattr(differences, "PATCHES", {k: v for k, v in PATCHES.items() if "code" not in k})
    windows = examples(4)
    records = measure(deep_classifier, windows, SETTINGS, tmp_path)
    found = tables(records, windows)
    assert [(r.variation, r.metric, r.side) for r in found.rows] == [
        (v.name, name, side)
        for v in (VARIATIONS[0], VARIATIONS[2])
        for name in v.metrics
        for side in ("all", "persons", "backgrounds")
    ]
    assert [row.name for row in found.touching[::2]] == [*METRICS, RANDOM]
    strong, nonzero = found.touching[:2]
    assert strong.area.value <= nonzero.area.value
    assert strong.touching.value <= nonzero.touching.value
    row = next(r for r in found.rows if (r.metric, r.side) == ("weight_sum", "persons"))
    persons = [e.name for e in windows if e.person]
    change = [abs(records[n]["variations"]["defaults"]["weight_sum"]["after"] - records[n]["output"]) for n in persons]
    random = [np.mean(np.abs(np.array(records[n]["random"]["defaults"]) - records[n]["output"])) for n in persons]
    assert row.times_random.value == pytest.approx(sum(change) / sum(random))
    monkeypatch.setattr(differences, "_measure_window", None)
    assert tables(measure(deep_classifier, windows, SETTINGS, tmp_path), windows) == found
    text = to_markdown(found)
    assert "| mean of the inverse variances (eq. 3) | paper | activation precision |" in text
    assert "Patches of the neurons that the defaults select" in text
    assert "Patches" not in to_markdown(DifferenceTables(found.rows, []))
