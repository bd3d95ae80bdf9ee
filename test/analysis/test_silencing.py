"""Silencing the neurons that pushed the wrong way: sets, passes, counts, and how it is resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis import run as run_module
from explain_cnn_ros.analysis import silencing
from explain_cnn_ros.analysis.causes.cause import Causes
from explain_cnn_ros.analysis.cli import conclude
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.intervals import wilson
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.silencing import SilencedSet, effects, silenced_sets, spread
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, MISSED, Pushes, WrongWay
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import convolution_layers

pytestmark = pytest.mark.timeout(600)

#: Explanations by influence in a few milliseconds.
INFLUENCE = ExplainSettings.preset("live", layers=(3, 5), top_n=3, proof="each")
#: The last label belongs to no frame, and has no end.
LABELS = (Label(0, 0.55, True), Label(0.55, 1.25, False), Label(1e6, float("inf"), True))


def wrong_way(kind: str, *neurons: tuple[int, int]) -> list[WrongWay]:
    pushes = Pushes(4, 2, 1.0, 0.5)
    return [WrongWay(kind, layer, f"conv{layer}", channel, pushes, None, None) for layer, channel in neurons]


def test_sets_grow_and_random_ones_are_of_the_same_layers() -> None:
    neurons = [(5, 1), (3, 2), (5, 3), (5, 4), (3, 5), (5, 6)]
    ranked = {FALSE_ALARM: wrong_way(FALSE_ALARM, *neurons), MISSED: wrong_way(MISSED, (7, 0))}
    sets = silenced_sets(ranked, 5, {3: 8, 5: 16, 7: 4}, 1)
    assert [(s.kind, len(s.neurons), s.random) for s in sets] == [
        (MISSED, 1, False),
        (MISSED, 1, True),
        *((FALSE_ALARM, size, False) for size in (1, 3, 5)),
        (FALSE_ALARM, 5, True),
    ]
    assert [s.neurons for s in sets[2:5]] == [tuple(neurons[:size]) for size in (1, 3, 5)]
    assert sets[4].channels == {5: [1, 3, 4], 3: [2, 5]}
    for selected, random in ((sets[0], sets[1]), (sets[4], sets[5])):
        drawn = random.channels
        assert {layer: len(c) for layer, c in drawn.items()} == {
            layer: len(c) for layer, c in selected.channels.items()
        }
        assert not set(random.neurons) & set(selected.neurons)
    assert silenced_sets(ranked, 5, {3: 8, 5: 16, 7: 4}, 1) == sets
    assert silenced_sets({}, 5, {}, 1) == []


def test_spread() -> None:
    assert spread(range(9), 3) == [0, 4, 8]
    assert spread([1, 2], 3) == [1, 2]
    assert spread([1, 2], 0) == []


def test_counts_by_hand() -> None:
    """Frames as (label, person before, person with the set of missed persons, with that of false alarms)."""
    frames = [
        (True, False, True, False),
        (True, False, False, False),
        (True, True, True, False),
        (False, True, True, False),
        (False, False, True, False),
        (False, False, False, False),
        (None, True, True, False),
        (None, False, True, True),
    ]
    rows = []
    for i, (label, *decisions) in enumerate(frames):
        for kind, person in zip((None, MISSED, FALSE_ALARM), decisions, strict=True):
            count = 0 if kind is None else 3
            described = {"kind": kind, "neurons": count, "random": False, "label": label, "person": person}
            rows.append({"source": "walk", "frame": i, "probability": 0.5} | described)
    missed, alarm = effects([table_of("silencing", rows[:9]), table_of("silencing", rows[9:])])
    assert (missed.kind, missed.neurons, missed.random) == (MISSED, 3, False)
    assert (missed.turned_right, missed.wrong, missed.turned_wrong, missed.right) == (1, 2, 1, 3)
    assert (missed.changed, missed.unlabelled) == (1, 2)
    assert missed.turned_right_interval == wilson(1, 2)
    assert missed.turned_wrong_interval == wilson(1, 3)
    assert (alarm.turned_right, alarm.wrong, alarm.turned_wrong, alarm.right) == (1, 1, 1, 3)
    assert alarm.changed == 2
    assert effects([]) == []


def plain(studio: Any, window: np.ndarray, channels: dict[int, list[int]]) -> float:
    """P(person) with activations set to zero by hooks, in one pass for each set."""
    network = studio.classifier.network
    activation = {layer.number: network.features[layer.activation] for layer in convolution_layers(network.features)}

    def zero(chosen: list[int]) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> Any:
            output = output.clone()
            output[:, chosen] = 0
            return output

        return hook

    with ExitStack() as stack:
        for layer, chosen in channels.items():
            stack.callback(activation[layer].register_forward_hook(zero(chosen)).remove)
        return float(studio.classifier.probability(window[None])[0])


@pytest.fixture(scope="module")
def labelled(studio, bag, tmp_path_factory) -> Path:
    output: Path = tmp_path_factory.mktemp("silencing") / "out"
    assert studio.analyse(output, bag, labels=LABELS, explain=INFLUENCE, explain_every=2, silence_neurons=4).complete
    return output


def manifest(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "analysis.json").read_text())
    return content


def test_passes_are_those_of_a_plain_loop(studio, labelled) -> None:
    found = manifest(labelled)["wrong_way"]
    frames = {row["frame"]: row for row in studio.rows(labelled)}
    rows = studio.rows(labelled, "silencing")
    kinds = {MISSED: True, FALSE_ALARM: False}
    expected_kinds = {row["kind"] for row in rows} - {None}
    assert expected_kinds
    ranked = {
        kind: [(n["layer"], n["channel"]) for n in found["neurons"][kind]] for kind in kinds if found["neurons"][kind]
    }
    assert set(ranked) == expected_kinds
    assert {row["frame"] for row in rows} == {f for f, row in frames.items() if row["probability"] is not None}
    for row in rows:
        if row["random"]:
            continue
        image = cv2.imdecode(np.frombuffer(studio.jpeg(row["frame"]), np.uint8), 1)[..., ::-1]
        window = studio.classifier.resize(np.ascontiguousarray(image))
        channels: dict[int, list[int]] = {}
        for layer, channel in ranked.get(row["kind"], [])[: row["neurons"]]:
            channels.setdefault(layer, []).append(channel)
        p = plain(studio, window, channels)
        assert row["probability"] == pytest.approx(p, rel=1e-3, abs=1e-5)
        assert row["person"] == (row["probability"] >= studio.classifier.threshold)
        assert row["label"] == frames[row["frame"]]["label"]


def test_tables_carry_signed_scores_and_proofs(studio, labelled) -> None:
    frames = {row["frame"]: row for row in studio.rows(labelled)}
    neurons, proofs = studio.rows(labelled, "neurons"), studio.rows(labelled, "proofs")
    assert {n["metric"] for n in neurons} == {"influence", "counter_influence"}
    for neuron in neurons:
        supports = neuron["metric"] == "influence"
        assert (neuron["score"] > 0) == (frames[neuron["frame"]]["person"] == supports)
        assert neuron["silenced"] is not None
    explained = [f for f, row in frames.items() if row["trigger"]]
    assert [(p["frame"], p["metric"]) for p in proofs] == [
        (f, metric) for f in explained for metric in ("influence", "counter_influence")
    ]
    for proof in proofs:
        mine = [n for n in neurons if (n["frame"], n["metric"]) == (proof["frame"], proof["metric"])]
        assert proof["neurons"] == len(mine)
        assert proof["predicted"] == pytest.approx(sum(n["score"] for n in mine), rel=1e-4)
        assert proof["measured"] == pytest.approx(sum(n["silenced"] for n in mine), rel=1e-4)
        if proof["share"] is not None:
            output = frames[proof["frame"]]["output"]
            assert proof["share"] == pytest.approx(proof["together"] / output, rel=1e-4)


def test_the_summary_is_that_of_the_table(studio, labelled, capsys) -> None:
    found = manifest(labelled)["wrong_way"]
    table = studio.table(labelled, "silencing")
    assert found["frames"] == 17
    # Infinity is not JSON.
    assert manifest(labelled)["labels"][2] == {"start": 1e6, "end": None, "person": True, "source": ""}
    assert [e["neurons"] for e in found["effects"]] == [e.neurons for e in effects([table])]
    wrong = [row for row in studio.rows(labelled) if row["wrong"]]
    missed = sum(row["label"] for row in wrong)
    assert found["explained"][MISSED]["wrong"] == missed
    assert found["explained"][FALSE_ALARM]["wrong"] == len(wrong) - missed
    for effect in found["effects"]:
        assert effect["wrong"] == (missed if effect["kind"] == MISSED else len(wrong) - missed)
        assert effect["right"] == sum(row["wrong"] is False for row in studio.rows(labelled))
        assert effect["unlabelled"] == 17 - effect["right"] - len(wrong)
    outcome = studio.analyse(labelled, *map(Path, manifest(labelled)["inputs"]), resume=True, labels=LABELS,
                             explain=INFLUENCE, explain_every=2, silence_neurons=4)  # fmt: skip
    assert outcome.effects == found["effects"]
    conclude(studio.job(labelled), outcome)
    assert "neurons that pushed most towards" in capsys.readouterr().out


class Interrupts(ProgressReporter):
    """Ctrl-C in the second pass, after some of its parts."""

    def __init__(self, parts: int) -> None:
        self._left, self._pass = parts, 0
        self.begun: list[tuple[int, int]] = []

    def begin(self, total: int, done: int) -> None:
        self._pass += 1
        self.begun.append((total, done))

    def advance(self, frames: int, explained: int) -> None:
        self._left -= self._pass == 2
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of sets of each window that is decided again. Causes, which are measured afterwards, do not count."""
    monkeypatch.setattr(run_module, "find_causes", lambda *_: Causes())
    counted: list[int] = []
    real = Analyzer.silence

    def silence(self: Analyzer, window: Any, sets: Any) -> list[float]:
        counted.append(len(sets))
        return real(self, window, sets)

    monkeypatch.setattr(Analyzer, "silence", silence)
    return counted


@pytest.mark.usefixtures("small_parts")
def test_interrupted_in_the_middle_and_resumed(studio, bag, labelled, tmp_path, passes) -> None:
    """The frames that were decided again before are not decided once again, and the tables are the same."""
    output, settings = tmp_path / "out", {"explain": INFLUENCE, "explain_every": 2, "silence_neurons": 4}
    outcome = studio.analyse(output, bag, labels=LABELS, progress=Interrupts(2), **settings)
    assert outcome.interrupted
    assert not outcome.complete
    assert manifest(output)["status"] == "interrupted"
    assert (output / "parts").exists()
    assert "To continue" in (output / "report.html").read_text()
    assert len(passes) == 7  # eight frames, one of which is broken
    assert studio.table(output, "silencing").num_rows == 7 * passes[0]
    progress = Interrupts(0)
    assert studio.analyse(output, bag, labels=LABELS, resume=True, progress=progress, **settings).complete
    assert len(passes) == 17
    assert progress.begun[1] == (17, 7)
    large, small = (studio.rows(folder, "silencing") for folder in (labelled, output))
    assert [row["probability"] for row in small] == pytest.approx([row["probability"] for row in large], rel=1e-4)
    assert not (output / "parts").exists()


@pytest.mark.usefixtures("small_parts")
def test_results_of_other_sets_are_not_used(studio, bag, tmp_path, passes, monkeypatch) -> None:
    output, settings = tmp_path / "out", {"explain": INFLUENCE, "explain_every": 2, "silence_neurons": 4}
    studio.analyse(output, bag, labels=LABELS, progress=Interrupts(2), **settings)
    monkeypatch.setattr(silencing, "silenced_sets", lambda *_: [SilencedSet(MISSED, ((3, 0),))])
    assert studio.analyse(output, bag, labels=LABELS, resume=True, **settings).complete
    assert passes[7:] == [2] * 17
    assert studio.table(output, "silencing").num_rows == 2 * 17


def test_at_most_some_frames_are_decided_again(studio, bag, tmp_path, passes) -> None:
    output = tmp_path / "out"
    assert studio.analyse(
        output, bag, labels=LABELS, explain=INFLUENCE, explain_every=0, silence_neurons=1, silence_frames=2
    ).complete
    rows = {row["frame"]: row for row in studio.rows(output)}
    frames = {row["frame"] for row in studio.rows(output, "silencing")}
    groups = [[f for f, row in rows.items() if row["wrong"] is wrong and f in frames] for wrong in (True, False, None)]
    assert all(len(group) <= 2 for group in groups)
    assert len(groups[0]) == 2
    assert len(passes) == len(frames) > 2


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"labels": ()}, False),
        ({"silence_neurons": 0}, True),
        ({"explain": ExplainSettings(layers=(3,), metrics=("weight_sum",), top_n=2)}, True),
        ({"labels": [Label(1e7, 2e7, True)]}, False),
    ],
)
def test_nothing_to_silence(studio, bag, tmp_path, passes, changes, wrong) -> None:
    output = tmp_path / "out"
    given = {"labels": LABELS, "explain": INFLUENCE, "explain_every": 4} | changes
    outcome = studio.analyse(output, bag, **given)
    assert outcome.complete
    assert outcome.effects == []
    assert passes == []
    assert studio.table(output, "silencing").num_rows == 0
    assert bool(outcome.summary["wrong"]) == wrong
    assert manifest(output)["wrong_way"]["effects"] == []
