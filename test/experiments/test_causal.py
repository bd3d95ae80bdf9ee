"""Silencing is of what the metrics select; means and intervals are by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import bootstrap, causal
from explain_cnn_ros.experiments.causal import SELECTORS, Causal
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import selector
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.silencing import silenced_logits

QUICK = Causal(top_ns=(1, 2), draws=2, layers=(2, 3))


def test_what_is_silenced_is_what_explanations_select(
    quick_classifier: PersonClassifier, examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    windows = examples(1)
    records = causal.measure(quick_classifier, windows, QUICK, tmp_path)
    classifier = quick_classifier
    for example in windows:
        record = records[example.name]
        window = classifier.normalise(classifier.to_pixels(example.image[None]))

        def output(channels: dict[int, list[int]], window: object = window) -> float:
            logits = silenced_logits(classifier.network, window, [channels])[0]
            return float(logits[1] - logits[0])

        assert record["output"] == pytest.approx(output({}), rel=1e-4, abs=1e-4)
        assert list(record["selected"]) == list(record["channels"])
        assert sorted(record["selected"]) == sorted(SELECTORS)
        for preset, selectors in (("paper", ("weight_sum", "activation_precision")), ("authors", ())):
            settings = ExplainSettings.preset(preset, top_n=2, layers=(2, 3))
            explanation = Explainer(classifier, settings).explain(example.image)
            for metric in (*selectors, "activation_output_correlation"):
                name = selector(metric, preset)
                for i, n in enumerate(QUICK.top_ns):
                    chosen = {layer: [x.channel for x in explanation.ranking(metric, layer)][:n] for layer in (2, 3)}
                    assert record["selected"][name][i] == pytest.approx(output(chosen), rel=1e-4, abs=1e-4)
        assert np.shape(record["random"]) == (2, 2)
    assert causal.measure(quick_classifier, windows, QUICK, tmp_path / "again") == records


def synthetic(outputs: list[tuple[float, float, list[float]]]) -> tuple[dict[str, object], list[Example]]:
    """Windows whose output, output without each selector's neuron, and without random ones are given."""
    image = np.zeros((128, 64, 3), np.uint8)
    windows = [Example(f"{i}", f"p{i}", image, (0, 0, 1, 1) if i % 2 == 0 else None, True) for i in range(len(outputs))]
    records = {
        str(i): {
            "output": before,
            "selected": {name: [after] for name in SELECTORS},
            "random": [[value] for value in random],
            "channels": {},
        }
        for i, (before, after, random) in enumerate(outputs)
    }
    return records, windows


def test_the_table_by_hand() -> None:
    """A person that falls below the threshold of 0.5, and a background that rises by 1."""
    records, windows = synthetic([(2.0, -1.0, [1.0, 3.0]), (-4.0, -3.0, [-4.0, -6.0])])
    row = causal.rows(records, windows, Causal(top_ns=(1,)), 0.5)[0]
    assert row.influence.value == pytest.approx((3 + 1) / 2)
    assert row.times_random.value == pytest.approx((3 + 1) / (1 + 1))
    assert row.against.value == pytest.approx((3 + 1) / 2)
    assert row.against_random.value == pytest.approx((0 - 1) / 2)
    assert (row.flips.value, row.flips_random.value) == (0.5, 0.0)
    assert "| 1 | 2.00 (1.00 to 3.00) | 2.00 (1.00 to 3.00) |" in causal.to_markdown([row])


def test_agreement_by_hand() -> None:
    records, windows = synthetic([(0.0, 0.0, [0.0])])
    channels = {name: {"3": [100 + i, 9], "5": [1]} for i, name in enumerate(SELECTORS)}
    records["0"]["channels"] = channels
    matrix = np.array(causal.agreement(records, windows, 2))
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix[~np.eye(len(matrix), dtype=bool)], 2 / 4)
    matrix = np.array(causal.agreement(records, windows, 1))
    assert np.allclose(matrix[~np.eye(len(matrix), dtype=bool)], 1 / 3)
    assert causal.agreement_markdown(matrix).count("\n") == 2 + len(SELECTORS)


class TestBootstrap:
    def test_interval_of_many_photos_is_that_of_the_normal_distribution(self) -> None:
        values = np.random.default_rng(0).normal(5, 2, 400)
        found = bootstrap.mean(values, [str(i) for i in range(400)])
        half = 1.96 * values.std() / 20
        assert found.value == pytest.approx(values.mean())
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)

    def test_windows_of_a_photo_count_as_one(self) -> None:
        """Ten copies of each window make nothing surer."""
        values, photos = np.random.default_rng(0).normal(5, 2, 30), [str(i) for i in range(30)]
        one, ten = bootstrap.mean(values, photos), bootstrap.mean(np.repeat(values, 10), list(np.repeat(photos, 10)))
        assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))

    def test_a_ratio_is_of_the_sums(self) -> None:
        found = bootstrap.ratio([1, 3], [2, 2], ["a", "b"])
        assert (found.value, found.low, found.high) == (1.0, 0.5, 1.5)
