"""Conversion of regions, decisions and explanations to messages, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, Proof, RankedNeuron, Silencing
from explain_cnn_ros.explain.live import LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.patches import Patch
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decision

# rclpy checks the types of fields in the tests only. A numpy scalar would arrive as garbage, without an error, so that
# every scalar is converted to a type of Python.


def region_message(region: Region) -> msg.Region:
    """Convert a Region to a message."""
    return msg.Region(
        x=int(region.x),
        y=int(region.y),
        width=int(region.width),
        height=int(region.height),
        probability=float(region.probability),
    )


def region_from(message: msg.Region) -> Region:
    """Convert a message to a Region."""
    return Region(message.x, message.y, message.width, message.height, message.probability)


def classification_message(
    header: Header, decision: Decision, image_size: tuple[int, int], inference_seconds: float, model: str
) -> msg.Classification:
    """Convert a decision to a message.

    Args:
        header: Header of the image.
        decision: The decision.
        image_size: Size (width, height) of the image, in pixels.
        inference_seconds: Duration of the decision; NaN if it is not known.
        model: Hash of the weights that decided.
    """
    return msg.Classification(
        header=header,
        person=bool(decision.person),
        probability=float(decision.probability),
        threshold=float(decision.threshold),
        low_confidence=bool(decision.low_confidence),
        regions=[region_message(region) for region in decision.regions],
        image_width=int(image_size[0]),
        image_height=int(image_size[1]),
        inference_seconds=float(inference_seconds),
        model=model,
    )


def model_message(classifier: PersonClassifier) -> msg.ModelInfo:
    """Convert the description of a classifier to a message without a stamp."""
    info = classifier.info
    return msg.ModelInfo(
        architecture=info.architecture,
        model=classifier.model_hash,
        source=info.source,
        input_width=int(info.input_size[0]),
        input_height=int(info.input_size[1]),
        classes=list(info.classes),
        person=list(info.person),
        threshold=float(info.threshold),
        training_data=info.training_data,
        command=info.command,
        created=info.created,
        accuracy_names=list(info.accuracy),
        accuracy_values=[float(value) for value in info.accuracy.values()],
        device=str(classifier.device),
    )


def settings_message(settings: ExplainSettings) -> msg.ExplainSettings:
    """Convert ExplainSettings to a message, whose fields have the same names."""
    return msg.ExplainSettings(
        **{name: getattr(settings, name) for name in _SETTINGS if name not in ("layers", "metrics")},
        layers=list(settings.layers),
        metrics=list(settings.metrics),
    )


_SETTINGS = tuple(msg.ExplainSettings.get_fields_and_field_types())


def explanation_message(header: Header, explanation: Explanation, trigger: str) -> msg.Explanation:
    """Convert an Explanation to a message, without the scores of the neurons that were not selected.

    Args:
        header: Header of the image.
        explanation: The explanation.
        trigger: Cause of the explanation: a TRIGGER_ constant of the message.
    """
    return msg.Explanation(
        header=header,
        trigger=trigger,
        region=region_message(explanation.region),
        image_width=int(explanation.image_size[0]),
        image_height=int(explanation.image_size[1]),
        target=explanation.target,
        threshold=float(explanation.threshold),
        perturbations=int(explanation.perturbations),
        output=float(explanation.output),
        output_mean=float(explanation.output_mean),
        output_stddev=float(explanation.output_stddev),
        settings=settings_message(explanation.settings),
        rankings=[_ranking_message(ranking) for ranking in explanation.rankings],
        set_similarity=float(explanation.set_similarity),
        set_similarity_by_layer=[
            msg.LayerSimilarity(layer=int(layer), jaccard=float(value))
            for layer, value in explanation.set_similarity_by_layer.items()
        ],
        proofs=[_proof_message(proof) for proof in explanation.proofs],
        silencing=[
            msg.Silencing(
                metric=silencing.metric,
                neurons=int(silencing.neurons),
                probability=float(silencing.probability),
                output=float(silencing.output),
                random_probabilities=[float(p) for p in silencing.random_probabilities],
                random_outputs=[float(o) for o in silencing.random_outputs],
            )
            for silencing in explanation.silencing
        ],
        timings=[msg.Timing(step=step, seconds=float(seconds)) for step, seconds in explanation.timings.items()],
        model=explanation.model_hash,
        device=explanation.device,
    )


#: Maximum number of regions in a Live message.
LIVE_REGIONS = 32


def live_message(header: Header, decision: Decision, live: LiveExplanation) -> msg.Live:
    """Convert a LiveExplanation to a message of bounded size.

    Args:
        header: Header of the image.
        decision: Decision about the image.
        live: The live explanation.
    """
    explanation = live.explanation
    return msg.Live(
        header=header,
        person=bool(decision.person),
        probability=float(decision.probability),
        threshold=float(decision.threshold),
        regions=[region_message(region) for region in decision.regions[:LIVE_REGIONS]],
        image_width=int(explanation.image_size[0]),
        image_height=int(explanation.image_size[1]),
        track=int(live.track),
        frames=int(live.frames),
        smoothing=float(live.smoothing),
        target=explanation.target,
        region=region_message(explanation.region),
        output=float(explanation.output),
        output_mean=float(live.output_mean),
        supporting=[_live_neuron(live, SUPPORTING, neuron) for neuron in live.strongest(SUPPORTING)],
        opposing=[_live_neuron(live, OPPOSING, neuron) for neuron in live.strongest(OPPOSING)],
        proofs=[_proof_message(proof) for proof in explanation.proofs],
        seconds=float(explanation.seconds),
        model=explanation.model_hash,
    )


def _live_neuron(live: LiveExplanation, metric: str, neuron: RankedNeuron) -> msg.LiveNeuron:
    return msg.LiveNeuron(
        layer=int(neuron.layer),
        channel=int(neuron.channel),
        score=float(neuron.score),
        share=float(live.share(neuron)),
        patch=_patch_message(neuron.patch),
        shown=bool(live.shows(metric, neuron)),
    )


def _patch_message(patch: Patch | None) -> list[msg.Patch]:
    return [msg.Patch(x=patch.x, y=patch.y, width=patch.width, height=patch.height)] if patch else []


def _proof_message(proof: Proof) -> msg.Proof:
    return msg.Proof(
        metric=proof.metric,
        neurons=int(proof.neurons),
        predicted=float(proof.predicted),
        measured=float(proof.measured),
        error=float(proof.error),
        agreeing=int(proof.agreeing),
        together=float(proof.together),
        share=float(proof.share),
        probability=float(proof.probability),
        disagrees=bool(proof.disagrees),
    )


def _ranking_message(ranking: LayerRanking) -> msg.LayerRanking:
    return msg.LayerRanking(
        metric=ranking.metric,
        layer=int(ranking.layer),
        layer_name=ranking.layer_name,
        stability=math.nan if ranking.stability is None else float(ranking.stability),
        unstable=bool(ranking.unstable),
        neurons=[_neuron_message(neuron) for neuron in ranking.neurons],
    )


def _neuron_message(neuron: RankedNeuron) -> msg.RankedNeuron:
    low, high = neuron.interval or (math.nan, math.nan)
    return msg.RankedNeuron(
        layer=int(neuron.layer),
        channel=int(neuron.channel),
        score=float(neuron.score),
        score_low=float(low),
        score_high=float(high),
        silenced=math.nan if neuron.silenced is None else float(neuron.silenced),
        patch=_patch_message(neuron.patch),
    )


def explanation_from(message: msg.Explanation) -> Explanation:
    """Convert a message to an Explanation, whose `scores` are empty because messages do not contain them."""
    sent = message.settings
    values = {name: _shortest(getattr(sent, name)) for name in _SETTINGS}
    values |= {"layers": tuple(int(layer) for layer in sent.layers), "metrics": tuple(sent.metrics)}
    return Explanation(
        region=region_from(message.region),
        image_size=(message.image_width, message.image_height),
        threshold=message.threshold,
        settings=ExplainSettings.received(**values),
        perturbations=message.perturbations,
        output=message.output,
        output_mean=message.output_mean,
        output_stddev=message.output_stddev,
        rankings=tuple(_ranking_from(ranking) for ranking in message.rankings),
        set_similarity=message.set_similarity,
        set_similarity_by_layer={entry.layer: entry.jaccard for entry in message.set_similarity_by_layer},
        timings={timing.step: timing.seconds for timing in message.timings},
        model_hash=message.model,
        device=message.device,
        silencing=tuple(
            Silencing(
                silencing.metric,
                silencing.neurons,
                silencing.probability,
                silencing.output,
                tuple(silencing.random_probabilities),
                tuple(silencing.random_outputs),
            )
            for silencing in message.silencing
        ),
        proofs=tuple(Proof(**{name: getattr(proof, name) for name in _PROOF}) for proof in message.proofs),
        target=message.target or PERSON,
    )


_PROOF = tuple(msg.Proof.get_fields_and_field_types())


def _shortest(value: Any) -> Any:
    """Round a float32 to its shortest decimal: 0.10000000149 could lie outside of a range that ends at 0.1."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _ranking_from(message: msg.LayerRanking) -> LayerRanking:
    return LayerRanking(
        metric=message.metric,
        layer=message.layer,
        layer_name=message.layer_name,
        neurons=tuple(
            RankedNeuron(
                neuron.layer,
                neuron.channel,
                neuron.score,
                Patch(*(getattr(neuron.patch[0], side) for side in ("x", "y", "width", "height")))
                if neuron.patch
                else None,
                None if math.isnan(neuron.score_low) else (neuron.score_low, neuron.score_high),
                None if math.isnan(neuron.silenced) else neuron.silenced,
            )
            for neuron in message.neurons
        ),
        stability=None if math.isnan(message.stability) else message.stability,
        unstable=message.unstable,
        scores=np.zeros(0),
    )
