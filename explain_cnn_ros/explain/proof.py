"""The proof of an influence: what silencing the selected neurons does, beside what was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from explain_cnn_ros.explain.explanation import PROOF_ERROR_MAX, Proof
from explain_cnn_ros.explain.metrics.registry import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.network_adapter import Channels, NetworkAdapter, Neuron
from explain_cnn_ros.explain.ranking import RankedWindow
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.explain.silencing import SilencedOutputs, silence
from explain_cnn_ros.model.precision import COARSE_PRECISIONS

#: The metrics that predict changes of the output.
PROVED_METRICS = (SUPPORTING, OPPOSING)


@dataclass(frozen=True)
class Proofs:
    """Proofs of one window.

    Attributes:
        by_metric: The proofs.
        silenced: Measured fall of the output for each neuron that was silenced by itself, by metric and neuron.
    """

    by_metric: tuple[Proof, ...]
    silenced: Mapping[tuple[str, Neuron], float]


def prove(
    adapter: NetworkAdapter, settings: ExplainSettings, ranked: RankedWindow, check: Callable[[], None] = lambda: None
) -> Proofs:
    """Silence the neurons that the metrics of influence selected, each by itself and all at once.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        ranked: The ranked window.
        check: Called before the passes; an exception that it raises ends the proof.
    """
    names = proved(settings)
    if not names:
        return Proofs((), {})
    check()
    sets: list[Channels] = [{}, *(ranked.of_metric(name) for name in names)]
    sets += [{neuron.layer: [neuron.channel]} for _, neuron in _alone(settings, ranked)]
    precision = proof_precision(settings)
    return conclude(adapter, settings, ranked, silence(adapter, ranked.pixels, sets, precision))


def proved(settings: ExplainSettings) -> list[str]:
    """Return the names of the metrics whose predictions are proved."""
    return [name for name in PROVED_METRICS if name in settings.metrics and settings.proof != "none"]


def proof_precision(settings: ExplainSettings) -> str:
    """Return the precision in which the changes are measured."""
    return "float32" if settings.compute_precision in COARSE_PRECISIONS else settings.compute_precision


def conclude(
    adapter: NetworkAdapter, settings: ExplainSettings, ranked: RankedWindow, answers: SilencedOutputs
) -> Proofs:
    """Compare the measured changes of the output with the predicted ones.

    Args:
        adapter: Adapter of the network.
        settings: Settings of the explanation.
        ranked: The ranked window.
        answers: The network's answers: for the window, with all selected neurons of each metric silenced, and, if
            `settings.proof` is "each", with each of these neurons silenced by itself, metric by metric.
    """
    names, alone = proved(settings), _alone(settings, ranked)
    neurons = {name: ranked.neurons_of(name) for name in names}
    before, *after = adapter.output(answers.logits, settings.output).tolist()
    carried = _carried(settings, before, margin=answers.outputs[0], person=ranked.evidence.person)
    silenced = {key: before - value for key, value in zip(alone, after[len(names) :], strict=True)}
    proofs = []
    for i, name in enumerate(names):
        predicted = [float(ranked.scores[name, n.layer][n.channel]) for n in neurons[name]]
        measured = [silenced[name, n] for n in neurons[name]] if settings.proof == "each" else []
        error = _error(predicted, measured)
        together = before - after[i]
        proofs.append(
            Proof(
                metric=name,
                neurons=len(predicted),
                predicted=sum(predicted),
                measured=sum(measured) if measured else math.nan,
                error=error,
                agreeing=sum(p * m > 0 for p, m in zip(predicted, measured, strict=False)),
                together=together,
                share=together / carried if carried else math.nan,
                probability=answers.probabilities[1 + i],
                disagrees=error > PROOF_ERROR_MAX,
            )
        )
    return Proofs(tuple(proofs), silenced)


def _alone(settings: ExplainSettings, ranked: RankedWindow) -> list[tuple[str, Neuron]]:
    """Return the neurons that are silenced by themselves, by metric."""
    return [(name, n) for name in proved(settings) for n in ranked.neurons_of(name) if settings.proof == "each"]


def _error(predicted: Sequence[float], measured: Sequence[float]) -> float:
    """Return the sum of the absolute errors as a share of the sum of the absolute measured changes; NaN for none."""
    total = sum(map(abs, measured))
    return sum(abs(p - m) for p, m in zip(predicted, measured, strict=True)) / total if total else math.nan


def _carried(settings: ExplainSettings, output: float, margin: float, person: bool) -> float:
    """Return the part of the output that the shown decision rests on; 0 if the margin argues for the other decision.

    The threshold of the decision need not be a margin of 0. For the decision "no person", the probability of the person
    is a fall from 1.
    """
    if (margin > 0) != person:
        return 0.0
    return output - 1 if settings.output == "probability" and not person else output
