"""The neurons that are silenced are those that explanations select; the table is computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from explain_cnn_ros.experiments import causal
from explain_cnn_ros.experiments.causal import SELECTORS, CausalSettings
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import selector
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier

QUICK = CausalSettings(top_ns=(1, 2), draws=2, layers=(2, 3))


def test_the_neurons_that_explanations_select_are_silenced(
    quick_classifier: PersonClassifier, examples: Callable[[int], list[Example]], tmp_path: Path
) -> None:
    windows = examples(1)
    records = causal.measure(quick_classifier, windows, QUICK, tmp_path)
    classifier = quick_classifier
    for example in windows:
        record = records[example.name]
        pixels = classifier.to_pixels(example.image[None])

        def output(channels: dict[int, list[int]], pixels: torch.Tensor = pixels) -> float:
            logits = adapt(classifier).silence(pixels, [channels])[0]
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
    row = causal.rows(records, windows, CausalSettings(top_ns=(1,)), 0.5)[0]
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
