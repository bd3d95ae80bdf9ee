"""Explanations as messages and back: proofs, neurons and settings arrive exactly as they were sent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation, Proof
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.ros.messages import explanation_from, explanation_message

#: All that is special about a proof.
PROOF = Proof("influence", 3, 1e-300, -0.1, 1 / 3, 2, 7.7, 1.25, 0.1, True)
NOT_MEASURED = Proof("counter_influence", 0, 0.0, math.nan, math.nan, 0, -0.0, math.nan, 0.9, False)


def received(explanation: Explanation) -> Explanation:
    """Return the explanation as a subscriber has it."""
    message = explanation_message(Header(), explanation, "service")
    return explanation_from(deserialize_message(serialize_message(message), msg.Explanation))


@pytest.mark.parametrize(
    ("settings", "proofs"),
    [
        ({"perturbations": 8, "perturbation_groups": 4}, 2),
        ({"perturbations": 4, "proof": "together", "metrics": ("counter_influence", "weight_sum")}, 1),
        ({"perturbations": 4, "proof": "none"}, 0),
        ({"preset": "live"}, 2),
        ({"preset": "paper", "perturbations": 4}, 0),
    ],
    ids=["default", "together", "none", "live", "paper"],
)
def test_explanations_arrive_as_they_were_sent(
    thin_classifier: Any, picture: Callable[..., Any], settings: dict[str, Any], proofs: int
) -> None:
    preset = {"layers": (3, 9), "top_n": 2} | settings
    name = preset.pop("preset", "")
    chosen = ExplainSettings.preset(name, **preset) if name else ExplainSettings(**preset)
    sent = Explainer(thin_classifier, chosen).explain(picture(60, 90))
    arrived = received(sent)
    assert len(arrived.proofs) == proofs
    assert arrived.settings == sent.settings
    assert arrived.to_dict()["proofs"] == sent.to_dict()["proofs"]
    assert [(r.metric, r.layer, r.neurons) for r in arrived.rankings] == [
        (r.metric, r.layer, r.neurons) for r in sent.rankings
    ]
    silenced = [n.silenced for r in arrived.rankings for n in r.neurons if "influence" in r.metric]
    assert all((value is not None) == (chosen.proof == "each") for value in silenced)


def test_a_proof_arrives_as_it_was_sent(thin_classifier: Any, picture: Callable[..., Any]) -> None:
    settings = ExplainSettings(layers=(3,), metrics=("activation_sum",))
    explanation = Explainer(thin_classifier, settings).explain(picture(60, 90))
    arrived = received(dataclasses.replace(explanation, proofs=(PROOF, NOT_MEASURED)))
    assert arrived.proof("influence") == PROOF
    np.testing.assert_equal(dataclasses.astuple(arrived.proofs[1]), dataclasses.astuple(NOT_MEASURED))


def test_a_proof_of_numpy_scalars(thin_classifier: Any, picture: Callable[..., Any]) -> None:
    """They would arrive as garbage without an error, because fields are checked in tests only."""
    settings = ExplainSettings(layers=(3,), metrics=("activation_sum",))
    explanation = Explainer(thin_classifier, settings).explain(picture(60, 90))
    values = {name: np.float64(value) for name, value in vars(PROOF).items() if type(value) is float}
    scalars = dataclasses.replace(PROOF, neurons=np.int64(3), agreeing=np.int64(2), disagrees=np.True_, **values)
    assert received(dataclasses.replace(explanation, proofs=(scalars,))).proofs == (PROOF,)


def test_every_field_of_a_proof_is_sent() -> None:
    assert set(msg.Proof.get_fields_and_field_types()) == {field.name for field in dataclasses.fields(Proof)}
