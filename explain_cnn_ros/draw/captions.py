"""Texts about explanations, without their drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from explain_cnn_ros.draw.canvas import abbreviated
from explain_cnn_ros.explain.explanation import Explanation, LayerRanking, Proof, Silencing
from explain_cnn_ros.explain.metrics import OPPOSING, metric
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.explain.settings import ExplainSettings

#: Texts for the causes of an explanation.
TRIGGERS = {"service": "requested by service", "low_confidence": "low confidence"}

#: Shapes of noise that depend on `ExplainSettings.noise_length`.
NOISES_WITH_LENGTH = ("smooth", "orthogonal")

#: Maximum number of characters of the names of the classes of a target, also in P(...) and in headings.
TARGET_LENGTH, P_LENGTH, HEADING_LENGTH = 40, 24, 18


def metric_title(name: str) -> str:
    """Return the title of a metric.

    An explanation that another process computed may contain a metric that is not registered here. Its title is its name
    with blanks.
    """
    try:
        return metric(name).title
    except KeyError:
        return name.replace("_", " ")


def metric_caption(name: str, settings: ExplainSettings) -> str:
    """Return the meaning of a high score by a metric, or "" if the metric is not registered."""
    try:
        entry = metric(name)
    except KeyError:
        return ""
    return entry.caption(settings)


def probability_text(probability: float) -> str:
    """Return a probability with at most three digits, for instance "0.98", "0.004", ">0.999" or "<0.001"."""
    if math.isnan(probability):
        return "unknown"
    if probability >= 0.9995:
        return ">0.999"
    if probability < 0.0005:
        return "<0.001"
    return f"{probability:.{2 if 0.01 <= probability <= 0.99 else 3}f}"


def threshold_text(threshold: float) -> str:
    """Return a threshold with two digits, or three if two are not enough, for instance "0.90" or "0.995"."""
    return f"{threshold:.3f}".removesuffix("0")


def target_text(target: str, length: int = TARGET_LENGTH) -> str:
    """Return the names of the classes of a target in words.

    Args:
        target: The names, separated by commas.
        length: Maximum number of characters.

    Returns:
        For instance "person", "forklift or crane", or "African elephant or 2 others" if there is not enough room.
    """
    names = target.split(",")
    text = " or ".join(names)
    if len(text) > length and len(names) > 1:
        others = f" or {len(names) - 1} other{'s' if len(names) > 2 else ''}"
        return abbreviated(names[0], length - len(others)) + others
    return abbreviated(text, length)


def target_probability(target: str) -> str:
    """Return the name of the probability of a target, for instance "P(person)"; "P" if the target's name is long."""
    text = target_text(target)
    return f"P({text})" if len(text) <= P_LENGTH else "P"


def decision_title(explanation: Explanation) -> str:
    """Return the decision as a title, for instance "Person", "No person" or "No forklift"."""
    text = target_text(explanation.target)
    return f"{text[0].upper()}{text[1:]}" if explanation.person else f"No {text}"


def decision_text(probability: float, threshold: float, target: str = PERSON) -> str:
    """Return P(person) beside the threshold, for instance "P(person) 0.97, threshold 0.90".

    The numbers have three digits if two do not tell them apart. If three do not either, the text says which is larger.

    Args:
        probability: P(person), or P of another target.
        threshold: The threshold of the decision.
        target: Names of the classes that the probability is of, separated by commas.
    """
    name = target_probability(target)
    text, limit = probability_text(probability), threshold_text(threshold)
    if probability == threshold:
        return f"{name} is the threshold {limit}"
    if f"{probability:.3f}" == f"{threshold:.3f}":
        return f"{name} just {'above' if probability > threshold else 'below'} the threshold {limit}"
    if f"{probability:.2f}" == f"{threshold:.2f}" and 0.0005 <= probability < 0.9995:
        text, limit = f"{probability:.3f}", f"{threshold:.3f}"
    return f"{name} {text}, threshold {limit}"


def decision_of(explanation: Explanation) -> str:
    """Return the probability that an explanation is about beside the threshold; see `decision_text`."""
    return decision_text(explanation.region.probability, explanation.threshold, explanation.target)


def headlines(explanation: Explanation, note: str) -> list[str]:
    """Return a headline about the decision in several versions, from the longest to the empty one.

    Args:
        explanation: The explanation.
        note: Text that the longest version adds; "" for none.
    """
    decision = decision_of(explanation)
    long = f"{decision_title(explanation)}: {decision}"
    short = probability_text(explanation.region.probability)
    return ([f"{long}   {note}"] if note else []) + [long, decision, f"P {short}", short, ""]


def trigger_text(trigger: str) -> str:
    """Return the cause of an explanation in words. Unknown causes are returned unchanged."""
    return TRIGGERS.get(trigger, trigger)


def settings_text(explanation: Explanation) -> str:
    """Return the settings of the perturbations, for instance "n 50, sigma 0.1 (white), seed 0"."""
    settings = explanation.settings
    length = f", {settings.noise_length:g} px" if settings.noise in NOISES_WITH_LENGTH else ""
    if not explanation.perturbations:
        return "no perturbations"
    return f"n {explanation.perturbations}, sigma {settings.sigma:g} ({settings.noise}{length}), seed {settings.seed}"


def stability_text(rankings: Sequence[LayerRanking]) -> str:
    """Return the mean stability of rankings of several layers, and whether they are stable.

    Returns:
        For instance "stability 0.52: unstable in 1 of 2 layers". "" if no ranking has a stability.
    """
    values = [ranking.stability for ranking in rankings if ranking.stability is not None]
    if not values:
        return ""
    finite = [value for value in values if math.isfinite(value)]
    mean = f"stability {sum(finite) / len(finite):.2f}" if finite else "stability unknown"
    unstable = sum(ranking.unstable for ranking in rankings)
    if unstable == 0:
        return f"{mean}: stable"
    if unstable == len(values):
        return f"{mean}: unstable"
    return f"{mean}: unstable in {unstable} of {len(values)} layers"


def silencing_text(silencing: Silencing, target: str = PERSON) -> str:
    """Return P(person) without the selected neurons, and P(person) without random neurons for comparison.

    Args:
        silencing: The result of silencing.
        target: Names of the classes that the probability is of, separated by commas.
    """
    return (
        f"{target_probability(target)} without them {probability_text(silencing.probability)}, without random neurons "
        f"{probability_text(silencing.random_probability_mean)} +-{silencing.random_probability_stddev:.2f}"
    )


def percent(share: float) -> str:
    """Return a share in percent with at most three digits: "204 %", "71 %" or "-2.5 %"; NaN is "unknown"."""
    if math.isnan(share):
        return "unknown"
    value = 100 * share
    if abs(value) >= 999.5:
        return ">999 %" if value > 0 else "<-999 %"
    text = f"{value:.{1 if abs(value) < 9.95 else 0}f}"
    return f"{text} %" if float(text) else "0 %"


def proof_text(proof: Proof, subject: str = "", target: str = PERSON) -> str:
    """Return what silencing the selected neurons at once does to the margin.

    The margin is the output, which says how far the decision is from the other one.

    Args:
        proof: The proof.
        subject: The neurons in other words; "" for, for instance, "these 35 neurons".
        target: Names of the classes that the explanation is about, separated by commas.

    Returns:
        For instance "these 35 neurons carry 71 % of the margin", or "without these 35 neurons the margin would be 23 %
        larger".
    """
    if not proof.neurons:
        return f"no neuron {'opposes' if proof.metric == OPPOSING else 'supports'} the decision"
    one = proof.neurons == 1
    these = subject or ("this neuron" if one else f"these {proof.neurons} neurons")
    share = proof.share
    if proof.metric != OPPOSING and share > 0:
        carry = f"{these} {'carries' if one else 'carry'}"
        if share > 1 and percent(share) != "100 %":
            return f"{carry} more than the whole margin ({percent(share)})"
        return f"{carry} {percent(share)} of the margin"
    if math.isnan(share) or share > 1:
        return f"without {these} {target_probability(target)} would be {probability_text(proof.probability)}"
    if percent(share) == "0 %":
        return f"without {these} the margin would be the same"
    return f"without {these} the margin would be {percent(abs(share))} {'smaller' if share > 0 else 'larger'}"


def proof_warning(proof: Proof) -> str:
    """Return a warning if the predicted and the measured changes differ by much, otherwise "".

    Returns:
        For instance "predicted and measured change differ by 42 %: do not rely on it".
    """
    if not proof.disagrees:
        return ""
    return f"predicted and measured change differ by {percent(proof.error)}: do not rely on it"


def argument_title(person: bool, name: str, target: str = PERSON) -> str:
    """Return a heading for the neurons that support or oppose a decision, in words that need no explanation.

    Args:
        person: Whether the decision is "person", or the other target.
        name: Name of the metric that selects the neurons.
        target: Names of the classes that the explanation is about, separated by commas.
    """
    opposing = name == OPPOSING
    side = "against" if person == opposing else "for"
    name = target_text(target)
    about = "a person" if target == PERSON else f'"{name}"' if len(name) <= HEADING_LENGTH else "it"
    return f"What speaks {side} {about}{', and is too weak' if opposing else ''}"


def proof_sentences(explanation: Explanation, proof: Proof) -> str:
    """Return `proof_text` as a sentence, and what the decision would be without the supporting neurons."""
    these = f"the {proof.neurons} strongest neurons" if proof.neurons > 1 else "this neuron"
    text, name = proof_text(proof, these, explanation.target), target_probability(explanation.target)
    sentence = f"{text[0].upper()}{text[1:]}"
    if not proof.neurons:
        return f"{sentence}."
    p = probability_text(proof.probability)
    said = f"{name} would be" in text
    if (proof.probability >= explanation.threshold) != explanation.person:
        if said:
            return f"{sentence}, and the decision would be the other one."
        return f"{sentence}. The decision would be the other one without them: {name} {p}."
    if said or proof.metric == OPPOSING:
        return f"{sentence}."
    return f"{sentence}. {name} would be {p} without them."


def proof_details(proof: Proof) -> str:
    """Return how well the neurons' predicted changes agree with the measured ones; "" if they were not measured."""
    if math.isnan(proof.error):
        return ""
    return (
        f"Proof, neuron by neuron: {proof.agreeing} of {proof.neurons} change the output in the predicted direction, "
        f"by amounts that differ by {percent(proof.error)}."
    )


def _argues_for_the_decision(explanation: Explanation) -> bool:
    """Return whether the output has the sign of the decision, whose threshold may lie elsewhere."""
    return explanation.settings.output == "logit" and (explanation.output > 0) == explanation.person


def effect_text(explanation: Explanation, change: float) -> str:
    """Return the effect of switching a neuron off.

    Args:
        explanation: The explanation.
        change: Predicted or measured fall of the output.

    Returns:
        The change as a share of the margin, for instance "12 %"; or P(person) without the neuron, for instance
        "P 0.78", if the margin does not argue for the decision.
    """
    if _argues_for_the_decision(explanation):
        return percent(change / explanation.output)
    output = explanation.output - change
    if explanation.settings.output == "logit":
        output = 1 / (1 + math.exp(-output)) if output > -500 else 0.0
    return f"P {probability_text(min(max(output, 0.0), 1.0))}"


def effect_unit(explanation: Explanation) -> str:
    """Return what stands after a text of `effect_text`, in other letters."""
    return "of the margin" if _argues_for_the_decision(explanation) else "without it"


def effect_meaning(explanation: Explanation) -> str:
    """Return what the texts of `effect_text` mean."""
    if _argues_for_the_decision(explanation):
        return (
            "Percentages: the share of the margin that is lost when this neuron alone is switched off; minus: that is "
            "gained. Neurons of different layers build on each other, so their shares do not add up."
        )
    return f"P: {target_probability(explanation.target)} when this neuron alone is switched off."


def margin_text(explanation: Explanation) -> str:
    """Return what the margin is, and its value."""
    if explanation.settings.output != "logit":
        return f"The explanation is about {target_probability(explanation.target)} itself."
    if _argues_for_the_decision(explanation):
        return f"Margin: how far the decision is from the other one, here {abs(explanation.output):.3g} (logit)."
    about = "a person" if explanation.target == PERSON else f'"{target_text(explanation.target)}"'
    if explanation.person:
        return f"The network leans against {about}, but the threshold is low."
    return f"The network leans to {about}, but not enough for the threshold."
