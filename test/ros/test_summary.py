"""Explanations in words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, Proof
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros.summary import legend, summary

BOTH = ("influence", "counter_influence")
FOR = Proof("influence", 35, 5.0, 5.1, 0.02, 35, 4.26, 0.71, 0.7, False)
AGAINST = Proof("counter_influence", 20, -1.0, -1.1, 0.02, 20, -1.38, -0.23, 0.999, False)


def explanation(
    *proofs: Proof,
    metrics: tuple[str, ...] = BOTH,
    probability: float = 0.97,
    threshold: float = 0.5,
    unstable: bool = False,
) -> Explanation:
    """Return an explanation of two layers without neurons; rankings of the first layer are unstable if `unstable`."""
    rankings = tuple(
        LayerRanking(
            name,
            layer,
            f"layer {layer}",
            (),
            0.25 if unstable and layer == 3 else 1.0,
            unstable and layer == 3,
            np.zeros(0),
        )
        for name in metrics
        for layer in (3, 4)
    )
    return Explanation(
        Region(0, 0, 10, 20, probability),
        (10, 20),
        threshold,
        ExplainSettings(metrics=metrics, layers=(3, 4)),
        50,
        6.0,
        6.0,
        0.1,
        rankings,
        math.nan,
        {},
        {},
        "",
        "cpu",
        (),
        proofs,
    )


def test_what_speaks_for_and_against() -> None:
    assert summary(explanation(FOR, AGAINST)) == (
        "person: P(person) 0.97, threshold 0.50; for it: these 35 neurons carry 71 % of the margin; "
        "against it: without these 20 neurons the margin would be 23 % larger"
    )
    assert summary(explanation(FOR, AGAINST, probability=0.3)).startswith(
        "no person: P(person) 0.30, threshold 0.50; for it: "
    )


def test_reasons_to_distrust() -> None:
    wrong = dataclasses.replace(FOR, error=0.42, disagrees=True)
    assert summary(explanation(wrong, AGAINST, unstable=True)).split("; ")[1:] == [
        "for it: these 35 neurons carry 71 % of the margin",
        "predicted and measured change differ by 42 %: do not rely on it",
        "against it: without these 20 neurons the margin would be 23 % larger",
        "stability 0.62: unstable in 2 of 4 layers",
    ]


def test_without_influence() -> None:
    assert summary(explanation(metrics=("activation_sum", "weight_sum"))) == (
        "person: P(person) 0.97, threshold 0.50; neurons by activation sum, weight sum, without a proof"
    )


def test_the_legend() -> None:
    assert legend(explanation(FOR, AGAINST), BOTH) == [
        "person, P 0.97",
        "boxes: for it, 71 % of the margin",
        "corners: against it, -23 % of the margin",
    ]
    unsure = dataclasses.replace(FOR, share=math.nan, disagrees=True)
    nobody = dataclasses.replace(AGAINST, neurons=0, share=math.nan)
    assert legend(explanation(unsure, nobody, probability=0.3, unstable=True), BOTH) == [
        "no person, P 0.30",
        "boxes: for it, P 0.70 without them (unreliable)",
        "corners: against it",
        "dashed: unstable",
    ]
    assert legend(explanation(FOR, metrics=("influence", "weight_sum")), ("weight_sum",)) == [
        "person, P 0.97",
        "boxes: weight sum",
    ]


def test_another_target_has_its_own_words() -> None:
    e = dataclasses.replace(explanation(FOR, probability=0.31), target="forklift,crane")
    unsure = dataclasses.replace(FOR, share=math.nan)
    assert summary(e).startswith("no forklift or crane: P(forklift or crane) 0.31, threshold 0.50; for it: these 35")
    assert "without these 35 neurons P(forklift or crane) would be 0.70" in summary(
        dataclasses.replace(e, proofs=(unsure,))
    )
    assert legend(e, BOTH)[0] == "no forklift or crane, P 0.31"
    found = dataclasses.replace(explanation(FOR), target="x" * 300)
    assert len(summary(found)) < 200
