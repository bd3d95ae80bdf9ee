"""Results are cached as they are computed; results of other settings stay."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.results_cache import cache_file, compute, key_of, read
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

ITEMS = {"a": 1, "b": 2, "c": 3}


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("name", ["cache.jsonl", "cache-0123.jsonl"])
def test_interrupted_anywhere_and_continued(tmp_path: Path, name: str) -> None:
    """At every byte: only results that were not complete are computed again, and the file becomes the same."""

    def function(item: int) -> Any:
        seen.append(item)
        return {"twice": 2 * item, "none": math.nan}

    seen: list[int] = []
    whole = tmp_path / "whole"
    expected = compute(whole / "cache.jsonl", "0123", ITEMS, function, silent)
    data = (whole / "cache-0123.jsonl").read_bytes()
    header = data.index(b"\n") + 1
    path = tmp_path / name
    # An earlier version had written a complete first line before it gave the file its results.
    for end in range(header if name == "cache.jsonl" else 0, len(data) + 1):
        path.write_bytes(data[:end])
        seen.clear()
        found = compute(tmp_path / "cache.jsonl", "0123", ITEMS, function, silent)
        assert repr(found) == repr(expected)
        assert path.read_bytes() == data
        assert len(seen) == 3 - max(0, data[:end].count(b"\n") - 1)


def test_results_of_other_settings_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed argument and back: nothing is overwritten, and nothing is computed twice."""
    path = tmp_path / "silenced.jsonl"
    computed: list[tuple[str, int]] = []

    def run(key: str) -> dict[str, Any]:
        return compute(path, key, ITEMS, lambda item: computed.append((key, item)) or f"{key}{item}", silent)

    first = run("0a")
    assert capsys.readouterr().err == ""
    contents = (tmp_path / "silenced-0a.jsonl").read_bytes()
    assert run("0b") == {"a": "0b1", "b": "0b2", "c": "0b3"}
    assert "are in" in (err := capsys.readouterr().err)
    assert "silenced-0b.jsonl; silenced-0a.jsonl of other arguments stay unchanged" in err
    assert (tmp_path / "silenced-0a.jsonl").read_bytes() == contents
    assert run("0a") == first
    assert len(computed) == 6
    assert read(tmp_path / "silenced-0a.jsonl", "0b") == {}


def test_a_file_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "silenced.jsonl"
    path.write_text(json.dumps({"key": "0a"}) + '\n["a", 7]\n["b", 8')
    found = compute(path, "0a", ITEMS, lambda item: -item, silent)
    assert found == {"a": 7, "b": -2, "c": -3}
    assert [file.name for file in tmp_path.iterdir()] == ["silenced.jsonl"]
    contents = path.read_bytes()
    assert compute(path, "0b", ITEMS, lambda item: item, silent) == ITEMS
    assert path.read_bytes() == contents
    assert cache_file(path, "0a") == path
    assert cache_file(path, "0b").name == "silenced-0b.jsonl"


def test_an_incomplete_file_of_another_key_is_not_cut(tmp_path: Path) -> None:
    """Its last line belongs to another run, which may be in progress."""
    path = tmp_path / "silenced.jsonl"
    path.write_text(json.dumps({"key": "0a"}) + '\n["a", 7]\n["b", 8')
    contents = path.read_bytes()
    compute(path, "0b", ITEMS, lambda item: item, silent)
    assert path.read_bytes() == contents


def test_other_caches_are_not_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compute(tmp_path / "patches-untrained.jsonl", "0a", ITEMS, lambda item: item, silent)
    compute(tmp_path / "patches.jsonl", "0b", ITEMS, lambda item: item, silent)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ['{"key": "0b"}\n["a", 1]\n', "no JSON\n", '{"key": "0a"}\nno JSON\n'])
def test_damaged_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cache-0a.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"cache-0a.jsonl is damaged: .* Move it away"):
        compute(tmp_path / "cache.jsonl", "0a", ITEMS, lambda item: item, silent)
    assert path.read_text() == text


def test_progress_counts_cached_results(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        compute(tmp_path / "cache", "0a", ITEMS, lambda item: item, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


@dataclass(frozen=True)
class One:
    number: int
    part: object = None


@dataclass(frozen=True)
class Renamed:
    number: int
    part: object = None


@dataclass(frozen=True)
class OtherField:
    count: int
    part: object = None


def test_the_key_depends_on_everything(
    thin_network: Callable[..., VGGClassifier],
    thin_classifier: PersonClassifier,
    examples: Callable[..., list[Example]],
) -> None:
    one, other = examples(2)
    network = thin_network()
    with torch.no_grad():
        network.features[0].weight[0, 0, 0, 0] += 1e-6
    changed = PersonClassifier(network, thin_classifier.info, "cpu")
    questions = [
        (thin_classifier, one),
        (changed, one),
        (thin_classifier, other),
        (thin_classifier, one, other),
        (thin_classifier, Example(one.name, one.photo, one.image, one.box, not one.is_test)),
        (thin_classifier, Example(one.name, one.photo, one.image, None, one.is_test)),
        (thin_classifier, one, 3),
        (thin_classifier, one, One(3)),
        (thin_classifier, one, One(4)),
        (thin_classifier, one, One(3, [One(4)])),
        (thin_classifier, one, One(3, {"a": One(4)})),
        (thin_classifier, one, OtherField(3)),
    ]
    assert len({key_of(*question) for question in questions}) == len(questions)
    assert key_of(thin_classifier, one) == key_of(thin_classifier, one)


@pytest.mark.parametrize(
    "changes",
    [{"mean": (1.0, 2.0, 3.0)}, {"std": (1.0, 2.0, 3.0)}, {"threshold": 0.3}, {"person": ("forklift",)}],
    ids=lambda changes: next(iter(changes)),
)
def test_the_key_of_other_networks(residual_classifier: PersonClassifier, changes: dict[str, Any]) -> None:
    """It also depends on the statistics of batch norm, which are no parameters, and on the metadata."""
    key = key_of(residual_classifier)
    assert key_of(copy.deepcopy(residual_classifier)) == key
    info = dataclasses.replace(residual_classifier.info, **changes)
    assert key_of(PersonClassifier(residual_classifier.network, info, "cpu")) != key
    network = copy.deepcopy(residual_classifier.network)
    network.network.first_norm.running_mean += 0.1
    assert key_of(PersonClassifier(network, residual_classifier.info, "cpu")) != key


def test_the_key_of_vggs_stays(thin_channels: None) -> None:
    """Results that took hours to compute are stored under the keys of VGGs, so these keys must not change.

    They were made with the threshold and the other values of the weights that ship. Other values give other keys.
    """
    network = VGGClassifier("vgg11", hidden=8)
    for i, parameter in enumerate(network.parameters()):
        parameter.data.fill_(i / 64)
    info = ModelInfo("vgg11", 8, threshold=0.9)
    key = key_of(PersonClassifier(network, info, "cpu"))
    assert key == "63bd90779e02c33c"
    others = [
        {"threshold": 0.7},
        {"threshold": 0.5},
        {"mean": (1.0, 2.0, 3.0)},
        {"std": (1.0, 2.0, 3.0)},
        {"classes": ("person", "background")},
        {"classes": ("background", "pedestrian"), "person": ("pedestrian",)},
        {"person": ("background",)},
    ]
    keys = {key_of(PersonClassifier(network, dataclasses.replace(info, **other), "cpu")) for other in others}
    assert len(keys | {key}) == 1 + len(others)


def test_the_key_does_not_depend_on_names_of_classes() -> None:
    """A class that is renamed keeps its results."""
    assert key_of(One(3, [One(4)])) == key_of(Renamed(3, [Renamed(4)]))


def test_the_key_of_windows_stays(examples: Callable[..., list[Example]]) -> None:
    """Published tables name the hash of their data, so it must not change."""
    assert key_of(*examples(2)) == "a1f31e5ac252374f"
