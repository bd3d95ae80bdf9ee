"""The tables of the causal check, computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from explain_cnn_ros.experiments import causal_markdown, causal_tables
from explain_cnn_ros.experiments.causal import (
    MAIN_SELECTORS,
    SEEDED_SELECTORS,
    SELECTORS,
    SINGLE_SELECTORS,
    CausalSettings,
)
from explain_cnn_ros.experiments.causal_tables import ALL, BACKGROUNDS, PERSONS
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.selectors import INFLUENCE, INFLUENCE_ALONE, RANDOM
from explain_cnn_ros.explain.metrics import OPPOSING

ONE = CausalSettings(top_ns=(1,), compared_n=1, draws=2, further_draws=2, layers=(3, 5))
LAYERS = {3: "conv2_1", 5: "conv3_1"}


def synthetic(outputs: list[tuple[float, float, list[float]]]) -> tuple[dict[str, Any], list[Example]]:
    """Windows whose output, output without each selector's neuron, and without random ones are given.

    The first window is a person, the next a background, and so on. The decision is "person" if the output is positive.
    """
    image = np.zeros((128, 64, 3), np.uint8)
    windows = [Example(f"{i}", f"p{i}", image, (0, 0, 1, 1) if i % 2 == 0 else None, True) for i in range(len(outputs))]
    channels = {name: {"3": [1], "5": [2]} for name in SELECTORS}
    records = {
        str(i): {
            "output": before,
            "person": before > 0,
            "selected": {name: [after] for name in SELECTORS},
            "random": [[value] for value in random],
            "matched": {name: [before - 1, before + 3] for name in MAIN_SELECTORS},
            "mean_selected": dict.fromkeys(MAIN_SELECTORS, before - 5.0),
            "mean_random": [before - 2.0, before],
            "layers_selected": {name: [before - 6.0, before + 1] for name in MAIN_SELECTORS},
            "layers_random": [[before - 2.0, before + 2.0], [before, before]],
            "single": {name: [before - 1.0, before - 1.0, before + 2.0] for name in SINGLE_SELECTORS},
            "channels": channels,
            "other_seed": {name: {"3": [1], "5": [4]} for name in SEEDED_SELECTORS},
        }
        for i, (before, after, random) in enumerate(outputs)
    }
    return records, windows


def test_the_rows_by_hand() -> None:
    """A person that falls below the threshold of 0.5, and a background that rises by 1."""
    records, windows = synthetic([(2.0, -1.0, [1.0, 3.0]), (-4.0, -3.0, [-4.0, -6.0])])
    rows = causal_tables.tables(records, windows, ONE, 0.5, LAYERS).rows
    by_key = {(row.selector, row.kind): row for row in rows}
    assert len(rows) == len(by_key) == 3 * len(SELECTORS)
    row = by_key[INFLUENCE, ALL]
    assert row.influence.value == pytest.approx((3 + 1) / 2)
    assert row.times_random.value == pytest.approx((3 + 1) / (1 + 1))
    assert row.against.value == pytest.approx((3 + 1) / 2)
    assert row.against_random.value == pytest.approx((0 - 1) / 2)
    assert (row.flips.value, row.flips_random.value) == (0.5, 0.0)
    # Both outputs move against the decision. Of the random ones, that of the person moves both ways, and that of the
    # background stays or moves toward the decision.
    assert (row.direction.value, row.direction_random.value) == (1.0, 0.25)
    opposing = by_key[OPPOSING, ALL]
    assert (opposing.direction.value, opposing.direction_random.value) == (0.0, 0.5)
    person, background = by_key[INFLUENCE, PERSONS], by_key[INFLUENCE, BACKGROUNDS]
    assert (person.influence.value, background.influence.value) == (3.0, 1.0)
    assert (person.flips.value, background.flips.value) == (1.0, 0.0)
    text = causal_markdown.to_markdown(rows)
    assert "| 1 | 2.00 (1.00 to 3.00) | 2.00 (1.00 to 3.00) | 100 % | 25 % |" in text
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "#### All windows",
        "#### Persons",
        "#### Backgrounds",
    ]


def test_the_direction_is_that_of_the_shown_decision() -> None:
    """A missed person: its decision is "no person", so influence's neurons argue against the person."""
    records, windows = synthetic([(-1.0, 1.0, [0.0, 0.0])])
    row = causal_tables.tables(records, windows, ONE, 0.5, LAYERS).rows[0]
    assert (row.selector, row.direction.value, row.against.value) == (INFLUENCE, 1.0, -2.0)


def test_the_other_seed() -> None:
    """One of two layers selects the same; without noise, the selection is the same; other noises are not measured."""
    records, windows = synthetic([(2.0, 1.0, [1.0, 3.0])])
    values = {
        row.selector: row.other_seed.value for row in causal_tables.tables(records, windows, ONE, 0.5, LAYERS).rows
    }
    assert values[INFLUENCE] == values["activation_precision"] == 0.5
    assert values[INFLUENCE_ALONE] == values["weight_sum"] == 1.0
    assert np.isnan(values["activation_precision, authors noise"])


def test_the_baselines_by_hand() -> None:
    records, windows = synthetic([(2.0, -2.0, [1.0, 3.0])])
    found = causal_tables.tables(records, windows, ONE, 0.5, LAYERS)
    row = found.controls[0]
    assert (row.selector, row.kind) == (INFLUENCE, ALL)
    assert row.times_random.value == pytest.approx(4 / 1)
    assert row.times_matched.value == pytest.approx(4 / ((1 + 3) / 2))
    assert (row.mean_change.value, row.mean_times_random.value, row.mean_flips.value) == (5.0, 5.0, 1.0)
    layers = [row for row in found.layers if (row.selector, row.kind) == (INFLUENCE, ALL)]
    assert [(r.layer, r.change.value, r.times_random.value) for r in layers] == [(3, 6.0, 6.0), (5, 1.0, 1.0)]
    text = causal_markdown.layers_markdown(found.layers)
    assert "| influence | 6.00 (6.00 to 6.00) | 1.00 (1.00 to 1.00) |" in text
    assert text.count("| neurons by | layer 3 | layer 5 |\n") == 2
    named = causal_tables.tables(records, windows, ONE, 0.5, {3: "stem.0", 5: "layer1.1.conv2"})
    assert [row.name for row in named.layers[:2]] == ["stem.0", "layer1.1.conv2"]
    text = causal_markdown.layers_markdown(named.layers)
    assert text.count("| neurons by | stem.0 | layer1.1.conv2 |\n") == 2


def test_single_neurons_by_hand() -> None:
    """Two of three neurons lower the output; for a background, lowering it is the wrong direction."""
    records, windows = synthetic([(2.0, 0.0, [1.0]), (-4.0, 0.0, [1.0])])
    singles = causal_tables.tables(records, windows, ONE, 0.5, LAYERS).singles
    found = {(row.selector, row.kind): (row.direction.value, row.change.value) for row in singles}
    assert found[INFLUENCE, PERSONS] == pytest.approx((2 / 3, 4 / 3))
    assert found[INFLUENCE, BACKGROUNDS] == found[OPPOSING, PERSONS] == pytest.approx((1 / 3, 4 / 3))
    assert found[RANDOM, ALL] == pytest.approx((1 / 2, 4 / 3))


def test_influence_is_compared_window_by_window() -> None:
    """Influence changes the outputs by 3, 1 and 2, weight_sum by 1, 2 and 0: the differences are 2, -1 and 2."""
    records, windows = synthetic([(2.0, -1.0, [0.0]), (-4.0, -3.0, [0.0]), (3.0, 1.0, [0.0])])
    for i, after in enumerate((1.0, -6.0, 3.0)):
        records[str(i)]["selected"]["weight_sum"] = [after]
    paired = causal_tables.tables(records, windows, ONE, 0.5, LAYERS).paired
    row = next(row for row in paired if (row.selector, row.kind) == ("weight_sum", ALL))
    assert row.difference.value == pytest.approx(1.0)
    assert row.larger.value == pytest.approx(2 / 3)
    # There are eight ways to choose the signs. Four of them, +-(2, -1, 2) and +-(2, 1, 2), have an absolute sum of at
    # least 3, which is the sum of the differences. So p is 4 / 8.
    assert row.p == pytest.approx(0.5, abs=0.05)
    assert INFLUENCE not in {row.selector for row in paired}


def test_the_claims() -> None:
    """Persons by 6 times random neurons' change, backgrounds by 6 times as well, which is too little."""
    records, windows = synthetic([(7.0, 1.0, [6.0, 8.0]), (-9.0, -3.0, [-8.0, -10.0])])
    found = causal_tables.tables(records, windows, ONE, 0.5, LAYERS)
    verdicts = [(c.selector, c.minimum, c.measured.value, c.holds) for c in found.claims]
    assert verdicts == [
        (INFLUENCE, 5.0, 6.0, True),
        (INFLUENCE, 7.0, 6.0, False),
        (INFLUENCE, 0.95, 1.0, True),
        (INFLUENCE, 0.95, 0.5, False),
        (INFLUENCE, 0.9, 0.5, False),
        (INFLUENCE_ALONE, 5.0, 6.0, True),
        (INFLUENCE_ALONE, 7.0, 6.0, False),
        (INFLUENCE_ALONE, 0.95, 1.0, True),
        (INFLUENCE_ALONE, 0.95, 0.5, False),
        (INFLUENCE_ALONE, 0.9, 1.0, True),
    ]
    text = causal_markdown.tables_markdown(found, 1)
    assert text.startswith("### Claims about influence\n\n| neurons by | claim |")
    assert "| 7 | 6.00 (6.00 to 6.00) | does not hold |" in text


def test_over_several_networks() -> None:
    results = []
    for after in (1.0, -3.0):
        records, windows = synthetic([(7.0, after, [6.0, 8.0]), (-9.0, -2.0, [-8.0, -10.0])])
        results.append(causal_tables.tables(records, windows, ONE, 0.5, LAYERS))
    found = causal_tables.across_networks(results)
    row = next(row for row in found.rows if (row.selector, row.kind) == (INFLUENCE, PERSONS))
    assert (row.times_random.value, row.times_random.low, row.times_random.high) == (8.0, 6.0, 10.0)
    assert [claim.holds for claim in found.claims[:2]] == [True, True]
    for one, both in zip(results[0].paired, found.paired, strict=True):
        assert both.p >= one.p
    assert causal_tables.across_networks(results[:1]).rows == results[0].rows


def test_agreement_by_hand() -> None:
    records, windows = synthetic([(0.0, 0.0, [0.0])])
    channels = {name: {"3": [100 + i, 9], "5": [1]} for i, name in enumerate(SELECTORS)}
    records["0"]["channels"] = channels
    matrix = np.array(causal_tables.agreement(records, windows, 2))
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix[~np.eye(len(matrix), dtype=bool)], 2 / 4)
    matrix = np.array(causal_tables.agreement(records, windows, 1))
    assert np.allclose(matrix[~np.eye(len(matrix), dtype=bool)], 1 / 3)
    assert causal_markdown.agreement_markdown(matrix).count("\n") == 2 + len(SELECTORS)
