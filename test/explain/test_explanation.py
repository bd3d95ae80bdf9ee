"""The result of an explanation: access to its rankings, its decision, and its conversion to JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, RankedNeuron
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region

PRECISION, SUM = "activation_precision", "activation_sum"


def ranking(metric: str, layer: int, stability: float | None, *channels: int) -> LayerRanking:
    neurons = tuple(RankedNeuron(layer, c, 1.5 * c, Patch(1, 2, 3, 4) if c % 2 else None) for c in channels)
    scores = np.full(10, math.nan)
    scores[list(channels)] = [n.score for n in neurons]
    return LayerRanking(metric, layer, f"conv{layer}", neurons, stability, stability is not None, scores)


@pytest.fixture
def explanation() -> Explanation:
    return Explanation(
        region=Region(10, -4, 64, 128, 0.75),
        image_size=(640, 480),
        threshold=0.6,
        settings=ExplainSettings(layers=(3, 5), metrics=(PRECISION, SUM), top_n=2),
        perturbations=50,
        output=1.25,
        output_mean=math.nan,
        output_stddev=math.inf,
        rankings=(
            ranking(PRECISION, 3, 0.25, 7, 2),
            ranking(PRECISION, 5, math.nan),
            ranking(SUM, 3, None, 1, 2),
            ranking(SUM, 5, None, 0),
        ),
        set_similarity=math.nan,
        set_similarity_by_layer={3: 0.5, 5: math.nan},
        timings={"network": 0.5, "metrics": 0.25},
        model_hash="abc",
        device="cpu",
    )


def test_ranking_is_looked_up(explanation: Explanation) -> None:
    assert [n.channel for n in explanation.ranking(PRECISION, 3)] == [7, 2]
    assert explanation.ranking(PRECISION, 5) == ()
    assert explanation.ranking(SUM, 5) == (RankedNeuron(5, 0, 0.0, None),)
    assert explanation.layer_ranking(SUM, 3) is explanation.rankings[2]


@pytest.mark.parametrize(("metric", "layer"), [(PRECISION, 4), ("weight_sum", 3), ("", 0)])
def test_what_was_not_requested_is_a_key_error(explanation: Explanation, metric: str, layer: int) -> None:
    with pytest.raises(KeyError, match=rf"layer {layer} by {metric}.*\[3, 5\].*{PRECISION}"):
        explanation.ranking(metric, layer)


@pytest.mark.parametrize(("probability", "person"), [(0.59, False), (0.6, True), (0.61, True)])
def test_the_decision(explanation: Explanation, probability: float, person: bool) -> None:
    region = dataclasses.replace(explanation.region, probability=probability)
    assert dataclasses.replace(explanation, region=region).person is person


def test_seconds_are_of_all_steps(explanation: Explanation) -> None:
    assert explanation.seconds == 0.75


def test_to_dict_is_json(explanation: Explanation) -> None:
    record = explanation.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["region"] == {"x": 10, "y": -4, "width": 64, "height": 128, "probability": 0.75}
    assert record["settings"]["layers"] == [3, 5]
    assert record["set_similarity"] is None
    assert record["set_similarity_by_layer"] == {"3": 0.5, "5": None}
    assert (record["output"], record["output_mean"], record["output_stddev"]) == (1.25, None, None)
    first, empty, third, _ = record["rankings"]
    assert first["neurons"] == [
        {
            "layer": 3,
            "channel": 7,
            "score": 10.5,
            "patch": {"x": 1, "y": 2, "width": 3, "height": 4},
            "interval": None,
            "silenced": None,
        },
        {"layer": 3, "channel": 2, "score": 3.0, "patch": None, "interval": None, "silenced": None},
    ]
    assert (first["metric"], first["layer_name"], first["stability"], first["unstable"]) == (
        PRECISION,
        "conv3",
        0.25,
        True,
    )
    assert (empty["neurons"], empty["stability"]) == ([], None)
    assert third["stability"] is None


def test_to_dict_has_everything_but_the_scores(explanation: Explanation) -> None:
    record = explanation.to_dict()
    assert record.keys() == {f.name for f in dataclasses.fields(Explanation)}
    assert record["rankings"][0].keys() == {f.name for f in dataclasses.fields(LayerRanking)} - {"scores"}


def test_to_dict_leaves_the_explanation_alone(explanation: Explanation) -> None:
    explanation.to_dict()["rankings"].clear()
    assert np.isnan(explanation.rankings[1].scores).all()
    assert len(explanation.rankings) == 4


def test_an_explanation_is_frozen(explanation: Explanation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.output = 1.0
