"""The contents of the report, from invented results with a known pattern."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from explain_cnn_ros.analysis import report_content
from explain_cnn_ros.analysis.pages import render
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.report_content import collect
from explain_cnn_ros.analysis.rows import picture_row
from explain_cnn_ros.analysis.tables import OF_PART, table_of
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, KINDS, MISSED, wrong_ways
from explain_cnn_ros.explain.explanation import Proof
from explain_cnn_ros.explain.settings import ExplainSettings

WIDTH, HEIGHT = 320, 240


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., PartStore]:
    """Fills a store: every third frame is wrong, and then channel 7 looks at the upper left corner."""

    def fill(frames: int, explained: int = 1, source: str = "walk", part: int = 40) -> PartStore:
        parts = PartStore(tmp_path / "parts")
        _, jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for number, first in enumerate(range(0, frames, part)):
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in OF_PART}
            for i in range(first, min(first + part, frames)):
                key, wrong = {"source": source, "frame": i}, i % 3 == 0
                trigger = ("wrong" if wrong else "periodic") if i % explained == 0 else None
                rows["frames"].append(
                    key
                    | {"stamp": i * 10**8, "log_time": i * 10**8, "width": WIDTH, "height": HEIGHT}
                    | {"probability": (i * 37 % 100) / 100, "person": False, "doubtful": False, "wrong": wrong}
                    | {"label": wrong, "trigger": trigger, "set_similarity": 0.25 if trigger else None}
                    | {"region_x": 0, "region_y": 0, "region_width": WIDTH, "region_height": HEIGHT}
                )
                if trigger is None:
                    continue
                for rank, channel in enumerate((1, 7) if wrong else (1, 2), 1):
                    neuron = {"layer": 5, "layer_name": "conv3_1", "channel": channel}
                    place = {"x": 0, "y": 0} if channel == 7 else {"x": 200, "y": 180}
                    scored = {"metric": "activation_sum", "rank": rank, "score": 1.5, "unstable": False}
                    rows["neurons"].append(key | {"stamp": i} | neuron | scored)
                    del neuron["layer_name"]
                    box = {"metric": "activation_sum"} | place | {"width": 40, "height": 30}
                    rows["patches"].append(key | {"stamp": i} | neuron | box)
                rows["pictures"].append(key | {"scale": 1.0, "jpeg": jpeg.tobytes()})
            parts.write(0, number, {name: table_of(name, rows[name]) for name in OF_PART})
        return parts

    return fill


def test_the_pattern_is_found(store: Callable[..., PartStore]) -> None:
    data = collect(store(300), 0.5, ExplainSettings())
    first, *rest = data["recurring"]["activation_sum"]
    assert (first["channel"], first["attention"], first["attention_frames"], first["confident"]) == (7, 100, 100, 0)
    assert first["low"] > 10
    assert len(first["gallery"]) == report_content.PATCHES
    assert all(r["low"] < 1.1 for r in rest)
    heat = {group: np.array(rows) for group, rows in data["heat"]["activation_sum"].items()}
    across, down = report_content.HEAT
    # Half of the patches of wrong frames lie in the corner: 40 of 320 and 30 of 240 pixels are 4 x 3 cells.
    corner = np.zeros((down, across))
    corner[:3, :4] = 0.5
    assert np.array_equal(heat["attention"][:10, :15], corner[:10, :15])
    assert heat["confident"][:10, :15].sum() == 0
    assert heat["confident"].max() == 1.0


def test_curves_hold_every_extreme(store: Callable[..., PartStore]) -> None:
    (curve,) = collect(store(3000, explained=30), 0.5, ExplainSettings())["curves"]
    assert curve["frames"] == 3000
    band = np.array(curve["band"])
    assert len(band) == report_content.POINTS
    assert (np.diff(band[:, 0]) > 0).all()
    assert (band[:, 1].min(), band[:, 2].max()) == (0.0, pytest.approx(0.99))
    assert (band[:, 1] <= band[:, 2]).all()


@pytest.mark.parametrize(("frames", "explained"), [(20, 1), (2000, 1), (400, 7)])
def test_what_is_shown_is_bounded(store: Callable[..., PartStore], frames: int, explained: int) -> None:
    data = collect(store(frames, explained), 0.5, ExplainSettings())
    count = -(-frames // explained)
    assert len(data["shown"]) == min(count, report_content.SHOWN)
    assert data["explained"] == count
    wrong = [s for s in data["shown"] if s["trigger"] == "wrong"]
    assert len(wrong) >= len(data["shown"]) // 3
    (curve,) = data["curves"]
    assert len(curve["marks"]) <= report_content.MARKS
    shown = {m["shown"] for m in curve["marks"] if m["shown"] is not None}
    assert shown <= set(range(len(data["shown"])))
    for mark in curve["marks"]:
        if mark["shown"] is not None:
            assert data["shown"][mark["shown"]]["frame"] == mark["frame"]
    for s in data["shown"]:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(s["image"].partition(",")[2]), np.uint8), 1)
        assert image.shape == (HEIGHT, WIDTH, 3)
        channels = [n[0] for n in s["rankings"]["activation_sum"]["5"]["neurons"]]
        assert channels == ([1, 7] if s["frame"] % 3 == 0 else [1, 2])
    assert len(json.dumps(data)) < 2_000_000


def test_names_cannot_break_the_page(store: Callable[..., PartStore]) -> None:
    evil = "</script><script>alert(1)</script>"
    page = render("report", evil, {"x": evil} | collect(store(3, source=evil), 0.5, ExplainSettings()))
    assert evil not in page
    assert page.count("<script") == 3


def test_nothing_at_all(tmp_path: Path) -> None:
    data = collect(PartStore(tmp_path / "parts"), 0.5, ExplainSettings())
    assert data["curves"] == data["shown"] == []
    assert data["groups"] == {"attention": 0, "confident": 0}


@pytest.fixture
def wrong_store(tmp_path: Path) -> PartStore:
    """Twelve frames of one brightness each: a missed person, a false alarm, a person that is found, and so on."""
    parts = PartStore(tmp_path / "parts")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in OF_PART}
    for i in range(12):
        label, person = ((True, False), (False, True), (True, True))[i % 3]
        key = {"source": "walk", "frame": i}
        rows["frames"].append(
            key
            | {"stamp": i, "log_time": i * 10**8, "width": WIDTH, "height": HEIGHT, "probability": 0.5}
            | {"person": person, "label": label, "wrong": label != person, "doubtful": False}
            | {"trigger": "periodic" if label == person else "wrong", "output": 2.0 if person else -2.0}
            | {"region_x": 0, "region_y": 0, "region_width": WIDTH, "region_height": HEIGHT}
        )
        for metric, score in (("influence", 1.0), ("counter_influence", -1.0)):
            scored = {"metric": metric, "layer": 5, "layer_name": "conv3_1", "channel": 7, "rank": 1}
            signed = score if person else -score
            rows["neurons"].append(key | scored | {"score": signed, "silenced": 0.9 * signed, "unstable": False})
        box = {"layer": 5, "channel": 7, "x": 0, "y": 0, "width": 40, "height": 30}
        rows["patches"].append(key | {"metric": "influence"} | box)
        rows["patches"].append(key | {"metric": "counter_influence"} | box | {"x": 200})
        # The left half shows the number of the frame, the right half is white.
        picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        picture[:, : WIDTH // 2] = 20 * i
        rows["pictures"].append(key | {"scale": 1.0, "jpeg": cv2.imencode(".jpg", picture)[1].tobytes()})
        proof = Proof("influence", 35, 1.0, 0.9, 0.1 if i else 0.42, 35, 1.42, 0.71, 0.6, not i)
        rows["proofs"].append(key | dataclasses.asdict(proof))
    parts.write(0, 0, {name: table_of(name, rows[name]) for name in OF_PART})
    return parts


def brightness(image: str) -> float:
    decoded: Any = cv2.imdecode(np.frombuffer(base64.b64decode(image.partition(",")[2]), np.uint8), 0)
    return float(decoded.mean())


def test_galleries_of_wrong_ways_have_the_wrong_frames_of_their_kind(wrong_store: PartStore) -> None:
    found = wrong_ways(wrong_store)
    listed = {kind: [dataclasses.asdict(n) for n in found.neurons(kind, 10)] for kind in KINDS}
    assert [[n["channel"] for n in listed[kind]] for kind in KINDS] == [[7], [7]]
    data = collect(wrong_store, 0.5, ExplainSettings(), listed)
    for kind, frames in ((MISSED, (0, 3, 6, 9)), (FALSE_ALARM, (1, 4, 7, 10))):
        (gallery,) = data["wrong_way_galleries"][kind]
        assert [brightness(image) for image in gallery] == pytest.approx([20 * i for i in frames], abs=2)
    # The patches of the opposing neuron lie elsewhere.
    (opposing,) = data["recurring"]["counter_influence"]
    assert all(brightness(image) > 250 for image in opposing["gallery"])


def test_shown_frames_have_signed_scores_and_proofs(wrong_store: PartStore) -> None:
    data = collect(wrong_store, 0.5, ExplainSettings())
    assert data["first_metric"] == "influence"
    assert data["heat_size"] == (WIDTH, HEIGHT)
    for shown in data["shown"]:
        sign = 1 if shown["person"] else -1
        assert shown["output"] == 2.0 * sign
        assert shown["rankings"]["influence"]["5"]["neurons"] == [[7, sign, 0.9 * sign, 0, 0, 40, 30]]
        assert shown["rankings"]["counter_influence"]["5"]["neurons"] == [[7, -sign, -0.9 * sign, 200, 0, 40, 30]]
        proof = shown["proofs"]["influence"]
        assert proof["text"] == "these 35 neurons carry 71 % of the margin"
        assert ("42 %" in proof["warning"]) == (shown["frame"] == 0)
        assert bool(proof["warning"]) == (shown["frame"] == 0)


def test_another_target_than_the_person(tmp_path: Path) -> None:
    """The explained decision is that about the target, whatever the decision about the person is."""
    parts = PartStore(tmp_path / "parts")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in OF_PART}
    _, jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    for i, (person, output) in enumerate([(True, -3.0), (False, 800.0), (False, -800.0), (True, None)]):
        key = {"source": "walk", "frame": i}
        rows["frames"].append(
            key
            | {"stamp": i, "log_time": i, "width": WIDTH, "height": HEIGHT, "probability": 0.5, "trigger": "periodic"}
            | {"person": person, "wrong": False, "doubtful": False, "output": output}
            | {"region_x": 0, "region_y": 0, "region_width": WIDTH, "region_height": HEIGHT}
        )
        rows["pictures"].append(key | {"scale": 1.0, "jpeg": jpeg.tobytes()})
        proof = Proof("influence", 35, 1.0, 0.9, 0.1, 35, 1.42, float("nan"), 0.6, False)
        rows["proofs"].append(key | dataclasses.asdict(proof) | {"share": None})
    parts.write(0, 0, {name: table_of(name, rows[name]) for name in OF_PART})
    settings = ExplainSettings(target=" crane ,forklift")
    data = collect(parts, 0.9, settings, target="crane,forklift")
    assert data["target"] == {
        "person": False,
        "text": "crane or forklift",
        "about": "“crane or forklift”",
        "probability": "P(crane or forklift)",
    }
    assert [(s["person"], s["decided"]) for s in data["shown"]] == [
        (True, False),
        (False, True),
        (False, False),
        (True, True),
    ]
    assert [s["of_target"] for s in data["shown"]] == [pytest.approx(0.047426, rel=1e-4), 1.0, pytest.approx(0), None]
    assert {s["proofs"]["influence"]["text"] for s in data["shown"]} == {
        "without these 35 neurons P(crane or forklift) would be 0.60"
    }
    data = collect(parts, 0.9, ExplainSettings(output="probability"), target="crane")
    assert data["shown"][0]["of_target"] == -3.0


def test_the_person_is_the_usual_target(wrong_store: PartStore) -> None:
    data = collect(wrong_store, 0.5, ExplainSettings())
    assert data["target"] == {"person": True, "text": "person", "about": "the person", "probability": "P(person)"}
    assert all(s["decided"] == s["person"] and s["of_target"] is None for s in data["shown"])


def test_characters_that_mislead_are_visible(store: Callable[..., PartStore]) -> None:
    """A change of direction would show `walk_gpj.exe` as `walk_exe.jpg`."""
    name = "walk_\u202egpj.exe \\\u2066 \u05e9\u05dc\u05d5\u05dd"
    page = render("report", name, {"x": name, name: [name]})
    assert "<title>walk_\\u202egpj.exe \\\\u2066 \u05e9\u05dc\u05d5\u05dd</title>" in page
    assert not any(character in page for character in "\u202e\u2066")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    shown = "walk_\\u202egpj.exe \\\\u2066 \u05e9\u05dc\u05d5\u05dd"
    assert data == {"x": shown, shown: [shown]}


def test_numbers_that_json_does_not_have_are_null() -> None:
    page = render("report", "t", {"a": [float("nan"), 1.5], "b": (float("inf"), {"c": -float("inf")})})
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data == {"a": [None, 1.5], "b": [None, {"c": None}]}


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        # Recorded with simulated time before the first /clock.
        ([0, 0, 0, 1_700_000_000 * 10**9, 1_700_000_001 * 10**9], [0, 0, 0, 0, 1]),
        ([5 * 10**8, 1_700_000_000 * 10**9], [0, 0]),
        # The first image of a folder has the time 0.
        ([0, 10**8, 2 * 10**8], [0, 0.1, 0.2]),
        # Times of a robot without a clock, since it was switched on.
        ([90 * 10**9, 91 * 10**9], [0, 1]),
    ],
)
def test_the_time_axis_starts_when_the_clock_is_set(tmp_path: Path, times: list[int], seconds: list[float]) -> None:
    parts = PartStore(tmp_path / "parts")
    rows = [
        {"source": "walk", "frame": i, "log_time": time, "probability": 0.5, "person": True, "doubtful": True}
        | {"width": 9, "height": 9, "trigger": None}
        for i, time in enumerate(times)
    ]
    tables = {name: table_of(name, rows if name == "frames" else []) for name in OF_PART}
    parts.write(0, 0, tables)
    (curve,) = collect(parts, 0.5, ExplainSettings())["curves"]
    assert [point[0] for point in curve["band"]] == pytest.approx(seconds)
    assert [mark["t"] for mark in curve["marks"]] == pytest.approx(seconds)
    (curve,) = collect(parts, 0.5, ExplainSettings(), starts={"walk": times[-1] - 10**9})["curves"]
    assert curve["marks"][-1]["t"] == pytest.approx(1)


@pytest.mark.parametrize("shape", [(1, 5000, 3), (5000, 1, 3), (3, 3, 3)])
def test_pictures_of_any_shape(shape: tuple[int, int, int]) -> None:
    row = picture_row(np.zeros(shape, np.uint8))
    picture: Any = cv2.imdecode(np.frombuffer(row["jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert max(picture.shape) <= max(960, 3)
    assert report_content._fitted(picture, 2).shape[:2] == tuple(min(side, 2) for side in picture.shape[:2])
