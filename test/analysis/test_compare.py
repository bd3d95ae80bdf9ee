"""The comparison of two analyses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explain_cnn_ros.analysis import compare as module
from explain_cnn_ros.analysis.compare import CompareError, compare, main
from explain_cnn_ros.analysis.tables import table_of
from explain_cnn_ros.explain.settings import ExplainSettings


@pytest.fixture
def analysis(tmp_path: Path) -> Callable[..., Path]:
    """An output with frames of given probabilities, and in each explained frame a set of channels."""

    def make(
        name: str,
        probabilities: list[float | None],
        channels: list[set[int]],
        shift: int = 0,
        labels: Callable[[int], bool | None] = lambda i: i % 2 == 0,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "analysis.json").write_text('{"model": "x", "threshold": 0.5, "summary": {}}')
        rows = [
            {"source": f"/{name}/walk", "frame": i, "stamp": i + shift, "probability": p, "label": labels(i)}
            | {"person": None if p is None else p >= 0.5, "trigger": "periodic" if i < len(channels) else None}
            for i, p in enumerate(probabilities)
        ]
        pq.write_table(table_of("frames", rows), folder / "frames.parquet")
        neurons = [
            {
                "source": f"/{name}/walk",
                "frame": i,
                "metric": "activation_sum",
                "layer": 4,
                "layer_name": "conv2_2",
                "channel": c,
            }
            for i, chosen in enumerate(channels)
            for c in chosen
        ]
        pq.write_table(table_of("neurons", neurons), folder / "neurons.parquet")
        return folder

    return make


def test_decisions_that_changed(analysis: Callable[..., Path]) -> None:
    a = analysis("a", [0.9, 0.9, 0.1, 0.2, None, 0.8], [])
    b = analysis("b", [0.9, 0.1, 0.8, 0.7, 0.9, None], [])
    found = compare(a, b)
    assert found["counts"] == {"common": 4, "changed": 3, "repaired": 2, "broken": 1}
    assert [(c["frame"], c["person"], c["label"]) for c in found["changed"]] == [
        (1, False, False),
        (2, True, True),
        (3, True, False),
    ]
    assert found["points"] == [(0.9, 0.9), (0.9, 0.1), (0.1, 0.8), (0.2, 0.7)]


def test_each_decision_is_judged_by_its_own_label(analysis: Callable[..., Path]) -> None:
    """The first decision misses a person, and the second one takes a tree for a person: both are wrong."""
    a = analysis("a", [0.1, 0.9, 0.1, 0.1], [], labels=[True, False, True, True].__getitem__)
    b = analysis("b", [0.9, 0.1, 0.9, 0.9], [], labels=[False, True, True, None].__getitem__)
    assert compare(a, b)["counts"] == {"common": 4, "changed": 4, "repaired": 1, "broken": 0}


def test_labels_of_one_analysis_are_enough(analysis: Callable[..., Path]) -> None:
    a = analysis("a", [0.1, 0.9], [], labels=[True, True].__getitem__)
    b = analysis("b", [0.9, 0.1], [], labels=[None, None].__getitem__)
    for pair in ((a, b), (b, a)):
        assert compare(*pair)["counts"] == {"common": 2, "changed": 2, "repaired": 1, "broken": 1}


@pytest.mark.parametrize(("count", "step"), [(9, 1), (15, 2), (20, 4), (23, 4)])
def test_only_what_is_shown_stays_in_memory(analysis: Callable[..., Path], monkeypatch, count: int, step: int) -> None:
    """The points are thinned while the tables are read, and only the largest changes are kept."""
    monkeypatch.setattr(module, "POINTS", 5)
    monkeypatch.setattr(module, "CHANGED", 3)
    kept: list[int] = []
    real = module._largest
    monkeypatch.setattr(module, "_largest", lambda changed: (kept.append(len(changed)), real(changed))[1])
    probabilities = [0.5 + 0.01 * ((7 * i) % 11) for i in range(count)]
    found = compare(analysis("a", [0.1] * count, []), analysis("b", probabilities, []))
    assert found["points"] == [(0.1, round(p, 4)) for p in probabilities[::step]]
    assert max(kept) <= 6
    assert found["counts"]["changed"] == count
    largest = sorted(range(count), key=lambda i: -abs(probabilities[i] - 0.1))[:3]
    assert [c["frame"] for c in found["changed"]] == largest


def test_recordings_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Their names are extended by parent folders until they differ."""

    def make(name: str, probabilities: dict[str, list[float]]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "analysis.json").write_text('{"model": "x", "threshold": 0.5, "summary": {}}')
        rows = [
            {"source": source, "frame": i, "stamp": i, "probability": p, "person": p >= 0.5}
            for source, values in probabilities.items()
            for i, p in enumerate(values)
        ]
        pq.write_table(table_of("frames", rows), folder / "frames.parquet")
        pq.write_table(table_of("neurons", []), folder / "neurons.parquet")
        return folder

    a = make("a", {"/old/monday/bag": [0.9, 0.1], "/old/tuesday/bag": [0.2, 0.8]})
    b = make("b", {"/new/tuesday/bag": [0.2, 0.8], "/new/monday/bag": [0.9, 0.7]})
    found = compare(a, b)
    assert (found["counts"]["common"], found["counts"]["changed"]) == (4, 1)
    assert [(c["source"], c["frame"]) for c in found["changed"]] == [("monday/bag", 1)]
    assert found["points"] == [(0.2, 0.2), (0.8, 0.8), (0.9, 0.9), (0.1, 0.7)]


def test_frames_of_other_recordings_are_not_the_same(analysis: Callable[..., Path], tmp_path: Path, capsys) -> None:
    a, b = analysis("a", [0.9] * 4, []), analysis("b", [0.1] * 4, [], shift=99)
    assert compare(a, b)["counts"]["common"] == 0
    for other, said in ((b, "no frame is in both analyses"), (a, "")):
        assert main([str(a), str(other), "--output", str(tmp_path / "page.html")]) == 0
        printed = capsys.readouterr().err
        assert said in printed if said else printed == ""


@pytest.mark.parametrize("stamped", [True, False])
def test_other_parts_of_a_recording_have_other_numbers(tmp_path: Path, stamped: bool) -> None:
    """The second analysis began with the third frame. Without stamps, the log times tell the frames apart."""

    def make(name: str, first: int, again: int = 0) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "analysis.json").write_text('{"model": "x", "threshold": 0.5, "summary": {}}')
        rows = [
            {"source": "/walk", "frame": i - first, "stamp": (100 + i) * stamped, "log_time": 200 + i + again}
            | {"topic": "/image", "probability": 0.1 * i, "person": i > 4}
            for i in range(first, 8)
        ]
        pq.write_table(table_of("frames", rows), folder / "frames.parquet")
        pq.write_table(table_of("neurons", []), folder / "neurons.parquet")
        return folder

    a = make("a", 0)
    found = compare(a, make("b", 3))
    assert found["counts"]["common"] == 5 and found["counts"]["changed"] == 0
    # The same images were recorded once more.
    assert compare(a, make("again", 0, again=1000))["counts"]["common"] == (8 if stamped else 0)


def test_frames_of_the_same_times_follow_each_other(analysis: Callable[..., Path]) -> None:
    a, b = (analysis(name, [0.1, 0.2, 0.9], []) for name in "ab")
    for folder in (a, b):
        table = pq.read_table(folder / "frames.parquet").to_pydict()
        table["stamp"] = table["log_time"] = [0, 0, 0]
        rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
        pq.write_table(table_of("frames", rows), folder / "frames.parquet")
    assert compare(a, b)["points"] == [(0.1, 0.1), (0.2, 0.2), (0.9, 0.9)]


def test_neurons_that_came_and_went(analysis: Callable[..., Path]) -> None:
    a = analysis("a", [0.5] * 40, [{1, 2} if i % 8 else {1, 2, 3} for i in range(40)])
    b = analysis("b", [0.5] * 30, [{1, 3}] * 30)
    neurons = compare(a, b)["neurons"]
    assert neurons["explained"] == [40, 30]
    of = neurons["by_metric"]["activation_sum"]
    assert [(r["channel"], r["a"], r["b"]) for r in of["came"]] == [(3, 5, 30)]
    assert [(r["channel"], r["a"], r["b"]) for r in of["went"]] == [(2, 40, 0)]
    assert of["neurons"] == 3


#: Entries of manifests about the network.
VGG, RESNET = ({"network": {"architecture": name, "weights": "w", "classes": []}} for name in ("vgg16", "resnet18"))
DIFFERENT = "A and B are different networks"


@pytest.mark.parametrize(
    ("entries", "layers", "cause"),
    [
        ((VGG, VGG), ({4: "conv2_2"}, {4: "conv2_2"}), ""),
        ((VGG, VGG), ({4: "conv2_2", 5: "conv3_1"}, {5: "conv3_1", 7: "conv3_3"}), ""),
        ((VGG, RESNET), ({4: "conv2_2"}, {5: "layer1.1.conv2"}), f"{DIFFERENT} (vgg16 and resnet18): a neuron of one"),
        # Earlier versions did not write the architecture. Different names tell the networks apart.
        (({}, RESNET), ({4: "conv2_2"}, {4: "layer1.0.conv2"}), f"{DIFFERENT}: a neuron of one has no counterpart"),
        (({}, {}), ({4: "conv2_2"}, {4: "conv2_2"}), ""),
        ((VGG, VGG), ({4: "conv2_2"}, {5: "conv3_1"}), "The explanations are about different layers"),
        # Nothing was explained in one of them.
        ((VGG, VGG), ({4: "conv2_2"}, {}), ""),
    ],
)
def test_neurons_of_different_networks_are_not_compared(
    analysis: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    entries: tuple[dict[str, Any], ...],
    layers: tuple[dict[int, str], ...],
    cause: str,
) -> None:
    folders = []
    for name, entry, names in zip("ab", entries, layers, strict=True):
        folder = analysis(name, [0.9], [set()])
        folders.append(folder)
        manifest = json.loads((folder / "analysis.json").read_text()) | entry
        (folder / "analysis.json").write_text(json.dumps(manifest))
        rows = [
            {"source": f"/{name}/walk", "frame": 0, "metric": "activation_sum", "channel": 1}
            | {"layer": number, "layer_name": layer_name}
            for number, layer_name in names.items()
        ]
        pq.write_table(table_of("neurons", rows), folder / "neurons.parquet")
    found = compare(*folders)["incomparable"]
    assert found.startswith(cause) and bool(found) == bool(cause)
    assert main([*map(str, folders), "--output", str(folders[0] / "page.html")]) == 0
    assert capsys.readouterr().err == (f"compare: {found}\n" if found else "")


def test_the_targets_of_the_explanations(analysis: Callable[..., Path]) -> None:
    """Earlier versions wrote them among the settings only, and still earlier ones not at all."""
    folders = [analysis("a", [0.9], []), analysis("b", [0.9], [])]
    for folder, entry in zip(folders, ({"target": "forklift,crane"}, {}), strict=True):
        manifest = json.loads((folder / "analysis.json").read_text()) | entry
        (folder / "analysis.json").write_text(json.dumps(manifest))
    assert [t["about"] for t in compare(*folders)["targets"]] == ["“forklift or crane”", "the person"]
    manifest = json.loads((folders[1] / "analysis.json").read_text())
    manifest["settings"] = {"explain": dataclasses.asdict(ExplainSettings(target="crane"))}
    (folders[1] / "analysis.json").write_text(json.dumps(manifest))
    assert [t["text"] for t in compare(*folders)["targets"]] == ["forklift or crane", "crane"]


def test_what_is_no_analysis_is_named(analysis: Callable[..., Path], tmp_path: Path, capsys) -> None:
    a = analysis("a", [0.9], [])
    with pytest.raises(CompareError, match=r"none: no analysis there: give the --output of `analyze`"):
        compare(a, tmp_path / "none")
    assert main([str(a), str(tmp_path / "none")]) == 1
    assert "no analysis there" in capsys.readouterr().err
    (a / "analysis.json").write_text("{")
    with pytest.raises(CompareError, match=r"a: analysis.json cannot be read \(.*\): give the --output of `analyze`"):
        compare(a, a)
    (a / "analysis.json").write_text('{"status": "running"}')
    with pytest.raises(CompareError, match=r"no results yet \(status running\)"):
        compare(a, a)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nothing at all"])
@pytest.mark.parametrize("name", ["frames", "neurons"])
def test_a_damaged_table_is_named(analysis: Callable[..., Path], capsys, name: str, content: bytes) -> None:
    a = analysis("a", [0.9], [])
    (a / f"{name}.parquet").write_bytes(content)
    assert main([str(a), str(a), "--output", str(a / "page.html")]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"compare: {a}/{name}.parquet cannot be read (") and printed.count("\n") == 1
    assert not (a / "page.html").exists()


def test_a_table_of_another_program_is_named(analysis: Callable[..., Path], capsys) -> None:
    a = analysis("a", [0.9], [])
    pq.write_table(pa.table({"x": [1]}), a / "neurons.parquet")
    assert main([str(a), str(a), "--output", str(a / "page.html")]) == 1
    assert "neurons.parquet cannot be read (" in capsys.readouterr().err


def test_outputs_that_cannot_be(analysis: Callable[..., Path], capsys) -> None:
    a = analysis("a", [0.9], [])
    (a / "folder").mkdir()
    for output, text in (("analysis.json/page.html", "analysis.json is a file: give a folder"), ("folder", "folder")):
        assert main([str(a), str(a), "--output", str(a / output)]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith("compare: ") and text in printed and printed.count("\n") == 1
