"""Explanations as messages and back: proofs, neurons and settings arrive exactly as they were sent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation, Proof
from explain_cnn_ros.explain.live import SELECTED, LiveExplainer
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros.messages import (
    LIVE_REGIONS,
    classification_message,
    explanation_from,
    explanation_message,
    live_message,
    model_message,
    region_from,
)
from explain_cnn_ros.scan.decider import Decision

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


def test_targets_and_names_of_layers_arrive_as_they_were_sent(
    thin_classifier: Any, picture: Callable[..., Any]
) -> None:
    settings = ExplainSettings(layers=(3,), metrics=("activation_sum",), target="background")
    sent = Explainer(thin_classifier, settings).explain(picture(60, 90))
    arrived = received(sent)
    assert (arrived.target, arrived.settings.target) == ("background", "background")
    assert (arrived.decision, arrived.threshold) == (sent.decision, 0.5)
    named = dataclasses.replace(
        sent,
        target="forklift,crane",
        settings=dataclasses.replace(settings, layers=(200, 255), layer_names="layer4.*.conv2,fc"),
        rankings=(dataclasses.replace(sent.rankings[0], layer=255, layer_name="features.denseblock4.conv2"),),
    )
    arrived = received(named)
    assert arrived.settings == named.settings
    assert arrived.target == "forklift,crane"
    assert [(r.layer, r.layer_name) for r in arrived.rankings] == [(255, "features.denseblock4.conv2")]
    assert arrived.to_dict()["target"] == "forklift,crane"


def test_a_message_without_a_target_is_about_persons(thin_classifier: Any, picture: Callable[..., Any]) -> None:
    settings = ExplainSettings(layers=(3,), metrics=("activation_sum",))
    message = explanation_message(Header(), Explainer(thin_classifier, settings).explain(picture(60, 90)), "service")
    assert message.target == "person"
    message.target = ""
    assert explanation_from(message).target == "person"


def test_the_model_says_what_counts_as_a_person(thin_classifier: Any) -> None:
    assert model_message(thin_classifier).source == "explain_cnn_ros"
    info = ModelInfo("resnet18", classes=("dog", "man", "woman"), person=("man", "woman"), source="torchvision")
    message = model_message(SimpleNamespace(info=info, model_hash="0", device="cpu"))
    assert list(message.person) == ["man", "woman"]
    assert (list(message.classes), message.source) == (["dog", "man", "woman"], "torchvision")


def test_every_setting_is_sent() -> None:
    assert set(msg.ExplainSettings.get_fields_and_field_types()) == {
        field.name for field in dataclasses.fields(ExplainSettings)
    }


def test_a_decision_without_regions(picture: Callable[..., Any]) -> None:
    """A detector that has found nobody."""
    sent = classification_message(Header(), Decision((), 0.5, False), (60, 90), 0.1, "")
    arrived = deserialize_message(serialize_message(sent), msg.Classification)
    assert (arrived.person, arrived.probability, list(arrived.regions)) == (False, 0.0, [])


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


class TestLive:
    """The message of a live explanation."""

    settings = ExplainSettings(layers=(3, 5, 8))

    def live(self, classifier: Any, image: Any, regions: int = 1, **changes: Any) -> tuple[Any, Decision, msg.Live]:
        region = Region(2, -3, 40, 80, 0.75)
        decision = Decision((region, *[Region(5, 6, 20, 40, 0.7)] * (regions - 1)), 0.5, False)
        explainer = LiveExplainer(classifier, self.settings, 0.5)
        explainer.explain(image, region, 10**9, 4)
        live = dataclasses.replace(explainer.explain(image, region, 2 * 10**9, 4, 0.5), **changes)
        sent = live_message(Header(frame_id="camera"), decision, live)
        return live, decision, deserialize_message(serialize_message(sent), msg.Live)

    def test_it_arrives_as_it_was_sent(self, thin_classifier: Any, picture: Callable[..., Any]) -> None:
        live, decision, arrived = self.live(thin_classifier, picture(60, 90), regions=3)
        explanation = live.explanation
        assert (arrived.header.frame_id, arrived.track, arrived.frames, arrived.smoothing) == ("camera", 4, 2, 0.5)
        assert (arrived.person, arrived.probability, arrived.threshold) == (True, 0.75, 0.5)
        assert (arrived.image_width, arrived.image_height) == (60, 90)
        assert arrived.target == "person"
        assert [region_from(r) for r in arrived.regions] == [
            dataclasses.replace(r, probability=pytest.approx(r.probability)) for r in decision.regions
        ]
        assert arrived.region.probability == pytest.approx(explanation.region.probability)
        assert (arrived.output, arrived.output_mean) == (explanation.output, live.output_mean)
        assert arrived.seconds == pytest.approx(explanation.seconds)
        assert arrived.model == thin_classifier.model_hash
        for name, neurons in (("influence", arrived.supporting), ("counter_influence", arrived.opposing)):
            assert len(neurons) == len(live.strongest(name)) > 0
            for sent, neuron in zip(live.strongest(name), neurons, strict=True):
                assert (neuron.layer, neuron.channel, neuron.score) == (sent.layer, sent.channel, sent.score)
                np.testing.assert_equal(neuron.share, live.share(sent))
                assert neuron.shown == live.shows(name, sent)
                boxes = [Patch(p.x, p.y, p.width, p.height) for p in neuron.patch]
                assert boxes == ([sent.patch] if sent.patch else [])
        assert [proof.metric for proof in arrived.proofs] == ["influence", "counter_influence"]
        assert [proof.together for proof in arrived.proofs] == [proof.together for proof in explanation.proofs]

    def test_its_size_is_bounded(self, thin_classifier: Any, picture: Callable[..., Any]) -> None:
        _, decision, arrived = self.live(thin_classifier, picture(60, 90), regions=50)
        assert len(decision.regions) == 50
        assert len(arrived.regions) == LIVE_REGIONS
        types = msg.Live.get_fields_and_field_types()
        assert types["regions"].endswith(f", {LIVE_REGIONS}>")
        assert types["supporting"].endswith(f", {SELECTED}>") and types["opposing"].endswith(f", {SELECTED}>")
        assert not [kind for kind in types.values() if kind.startswith("sequence") and "," not in kind]

    def test_numpy_scalars(self, thin_classifier: Any, picture: Callable[..., Any]) -> None:
        """They would arrive as garbage without an error, because fields are checked in tests only."""
        changes = {"output_mean": np.float64(1.5), "frames": np.int64(7), "smoothing": np.float32(0.25)}
        _, _, arrived = self.live(thin_classifier, picture(60, 90), **changes)
        assert (arrived.output_mean, arrived.frames, arrived.smoothing) == (1.5, 7, 0.25)
