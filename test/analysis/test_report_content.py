"""The contents of the report, from invented results with a known pattern."""

from __future__ import annotations

import base64
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
from explain_cnn_ros.analysis.tables import ALL, table_of
from explain_cnn_ros.explain.settings import ExplainSettings

WIDTH, HEIGHT = 320, 240


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., PartStore]:
    """Fills a store: every third frame is wrong, and then channel 7 looks at the upper left corner."""

    def fill(frames: int, explained: int = 1, source: str = "walk", part: int = 40) -> PartStore:
        parts = PartStore(tmp_path / "parts")
        _, jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for number, first in enumerate(range(0, frames, part)):
            rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ALL}
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
                    rows["patches"].append(key | {"stamp": i} | neuron | place | {"width": 40, "height": 30})
                rows["pictures"].append(key | {"scale": 1.0, "jpeg": jpeg.tobytes()})
            parts.write(0, number, {name: table_of(name, rows[name]) for name in ALL})
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
