"""The contents of the page about a repair, from records that were written by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from explain_cnn_ros.analysis.intervals import wilson
from explain_cnn_ros.analysis.repair.content import OF_CAUSE, POINTS, SHOWN, page_content, shown_windows


def counted(count: int, of: int) -> dict[str, Any]:
    low, high = wilson(count, of)
    return {"count": count, "of": of, "low": low, "high": high}


#: Held-out windows: person, cause, P(person) before, after the training, after the silencing. The threshold is 0.5.
WINDOWS = [
    (False, 0, 0.9, 0.1, 0.2),
    (False, 0, 0.8, 0.2, 0.9),
    (False, 0, 0.8, 0.7, 0.9),
    (True, 1, 0.1, 0.6, 0.1),
    (False, None, 0.7, 0.3, 0.7),
    (True, None, 0.9, 0.9, 0.9),
    (True, None, 0.8, 0.9, 0.2),
    (False, None, 0.2, 0.1, 0.6),
]


def proof(fixed: tuple[int, int], broken: tuple[int, int], **more: tuple[int, int]) -> dict[str, Any]:
    return {"fixed": counted(*fixed), "broken": counted(*broken)} | {k: counted(*pair) for k, pair in more.items()}


def cure(name: str, column: int, held_out: dict[str, Any], **more: Any) -> dict[str, Any]:
    rows = [
        {
            "source": "bag",
            "frame": frame,
            "region": 0,
            "person": w[0],
            "cause": w[1],
            "before": w[2],
            "after": w[column],
        }
        for frame, w in enumerate(WINDOWS)
    ]
    return {
        "name": name,
        "weights": f"{name}.safetensors",
        "held_out": held_out,
        "unseen": {},
        "old": {},
        "frames": None,
        "windows": rows,
    } | more


def old_record() -> dict[str, Any]:
    """A record as earlier versions wrote it."""
    figures = {"persons_right": 0.99, "backgrounds_right": 0.98, "balanced_accuracy": 0.985}
    figures |= {"persons": 200, "backgrounds": 400, "photos_with_alarm": 0.02, "photos": 50}
    worse = figures | {"persons_right": 0.8, "balanced_accuracy": 0.89, "photos_with_alarm": 0.4}
    frames = {"frames": 8, "found": 2, "missed": 1, "false_alarms": 4}
    return {
        "training_windows": {"missed": 1, "false_alarms": 2, "right": 3},
        "held_out_windows": {"missed": 1, "false_alarms": 4, "right": 3},
        "old": figures,
        "frames": frames,
        "cures": [
            cure(
                "training",
                3,
                proof((4, 5), (0, 3)),
                old=worse,
                frames=frames | {"found": 3, "missed": 0, "false_alarms": 1},
                unseen={"walk": proof((30, 40), (2, 60))},
            ),
            cure("silencing", 4, proof((1, 5), (2, 3)), old=figures),
        ],
    }


def manifest() -> dict[str, Any]:
    neurons = [{"layer": 3, "layer_name": "conv2_1", "channel": 7}]
    causes = [
        {"kind": "false_alarm", "name": "lamp posts", "windows": [0] * 9, "place": "at the top", "neurons": neurons},
        {"kind": "missed", "name": "", "windows": [0] * 4, "place": "all over the window", "neurons": []},
        {"kind": "missed", "name": "bags", "windows": [0] * 3, "place": "in the middle", "neurons": []},
    ]
    return {"threshold": 0.5, "model": "abc", "inputs": ["bag"], "causes": {"causes": causes}}


def rows(content: dict[str, Any], name: str) -> dict[str, list[Any]]:
    (found,) = (part for part in content["sets"] if part["name"] == name)
    return {row["name"]: row["cells"] for row in found["rows"]}


def brief(cells: list[Any]) -> list[Any]:
    return [cell and (cell["count"], cell["of"], cell.get("change", "")) for cell in cells]


def test_persons_that_only_the_search_missed_are_counted() -> None:
    record = old_record()
    assert page_content(record, manifest())["missed_by_search"] == 0
    # Two persons have P(person) of at least 0.5 before the repair. The analysis was wrong about one of them, about a
    # person whom the network does not recognise, and about a window without a person.
    for frame in (3, 5, 7):
        record["cures"][0]["windows"][frame]["wrong"] = True
    assert page_content(record, manifest())["missed_by_search"] == 1


def test_the_table_before_and_after() -> None:
    content = page_content(old_record(), manifest())
    held_out = rows(content, "Held-out windows")
    assert {name: brief(cells) for name, cells in held_out.items()} == {
        "decided rightly": [(3, 8, ""), (7, 8, ""), (2, 8, "")],
        "false alarms, of the windows without a person": [(4, 5, ""), (1, 5, ""), (4, 5, "")],
        "missed, of the windows with a person": [(1, 3, ""), (0, 3, ""), (2, 3, "")],
        "wrong ones that become right": [None, (4, 5, ""), (1, 5, "")],
        "right ones that become wrong": [None, (0, 3, ""), (2, 3, "")],
    }
    cell = held_out["decided rightly"][1]
    assert (cell["low"], cell["high"]) == wilson(7, 8)
    frames = rows(content, "Held-out frames, analysed again")
    assert brief(frames["persons found"]) == [(2, 3, ""), (3, 3, ""), None]
    alarms = frames["false alarms a frame"]
    assert [cell and (cell["text"], cell["counted"]) for cell in alarms] == [
        ("0.50", "4 in 8 frames"),
        ("0.12", "1 in 8 frames"),
        None,
    ]


def test_clear_changes_of_the_old_data_are_named() -> None:
    """Two percent of 50 photos with an alarm and 40 % do not overlap; nor do 99 % and 80 % of 200 persons."""
    old = rows(page_content(old_record(), manifest()), "Old data")
    assert brief(old["persons right"]) == [(198, 200, ""), (160, 200, "worse"), (198, 200, "")]
    assert brief(old["photos with an alarm"]) == [(1, 50, ""), (20, 50, "worse"), (1, 50, "")]
    assert brief(old["backgrounds right"])[1] == (392, 400, "")
    balanced = old["balanced accuracy"]
    assert [cell["share"] for cell in balanced] == [0.985, 0.89, 0.985]
    assert balanced[1]["change"] == "worse"


def test_recordings_that_took_no_part() -> None:
    content = page_content(old_record(), manifest())
    unseen = rows(content, "Unseen: walk")
    # Earlier versions did not record which decisions were broken.
    assert {name: brief(cells) for name, cells in unseen.items()} == {
        "decided rightly": [(60, 100, ""), (88, 100, "better"), None],
        "wrong ones that become right": [None, (30, 40, ""), None],
        "right ones that become wrong": [None, (2, 60, ""), None],
    }
    (sentence,) = content["cures"][0]["unseen"]
    assert sentence.startswith("Unseen walk: fixes 30 and breaks 2 of 100 windows; this proves a benefit")
    record = old_record()
    kinds = {"fixed_alarms": (20, 25), "fixed_missed": (10, 15), "broken_alarms": (2, 35), "broken_missed": (0, 25)}
    record["cures"][0]["unseen"]["walk"] = proof((30, 40), (2, 60), **kinds)
    unseen = rows(page_content(record, manifest()), "Unseen: walk")
    assert brief(unseen["false alarms, of the windows without a person"])[:2] == [(25, 60, ""), (7, 60, "better")]
    assert brief(unseen["missed, of the windows with a person"])[:2] == [(15, 40, ""), (5, 40, "")]


@pytest.mark.parametrize(
    ("fixed", "broken", "status", "text"),
    [
        (23, 1, "proved", "The training fixes 23 and breaks 1 of 100 held-out windows: this proves a benefit"),
        (4, 1, "unproved", "The training fixes 4 and breaks 1 of 100 held-out windows: this does not prove a benefit"),
        (1, 9, "harms", "THE TRAINING BREAKS MORE THAN IT FIXES: the training fixes 1 and breaks 9 of 100"),
        (
            0,
            0,
            "harms",
            "The training fixes nothing: the training fixes 0 and breaks 0 of 100 held-out windows; no deci",
        ),
    ],
)
def test_the_verdict_comes_first(fixed: int, broken: int, status: str, text: str) -> None:
    record = old_record()
    record["cures"][0]["held_out"] = proof((fixed, 40), (broken, 60))
    first = page_content(record, manifest())["cures"][0]
    assert first["status"] == status
    assert first["verdict"].startswith(text)


def test_held_out_windows_never_prove_a_silencing() -> None:
    """The same numbers prove a training. Only recordings that took no part can prove a silencing."""
    record = old_record()
    for one in record["cures"]:
        one |= {"held_out": proof((23, 40), (1, 60)), "unseen": {"walk": proof((30, 40), (2, 60))}}
    content = page_content(record, manifest())
    training, silencing = content["cures"]
    assert (training["status"], silencing["status"]) == ("proved", "unproved")
    assert "this does not prove a benefit, because the neurons were found with" in silencing["verdict"]
    assert silencing["unseen"] == training["unseen"]
    assert "this proves a benefit" in silencing["unseen"][0]
    notes = {}
    for cures in (record["cures"][:1], record["cures"][1:], record["cures"]):
        (found,) = (part for part in page_content(record | {"cures": cures}, manifest())["sets"][:1])
        notes[tuple(one["name"] for one in cures)] = found["note"].split("; ")[1:]
    learned, helped = "the training did not learn from them", "the neurons that are silenced were found with their help"
    assert notes == {
        ("training",): [learned],
        ("silencing",): [helped],
        ("training", "silencing"): [learned, helped],
    }
    # Harm is proved all the same.
    record["cures"][1]["held_out"] = proof((1, 40), (23, 60))
    silencing = page_content(record, manifest())["cures"][1]
    assert silencing["status"] == "harms"
    assert "this proves harm" in silencing["verdict"]


def test_windows_that_were_left_out_are_named() -> None:
    record = old_record()
    before = [one["detail"] for one in page_content(record, manifest())["cures"]]
    record["left_out_windows"] = 12
    after = [one["detail"] for one in page_content(record, manifest())["cures"]]
    assert after[0] == before[0] + " Windows that were left out of the training, which takes at most 20000: 12."
    assert after[1] == before[1]


def test_windows_by_what_became_of_them() -> None:
    training, silencing = page_content(old_record(), manifest())["cures"]
    frames = {kind: [row["frame"] for row in some] for kind, some in training["windows"].items()}
    assert frames == {"fixed": [0, 1, 3, 4], "still_wrong": [2], "broken": []}
    frames = {kind: [row["frame"] for row in some] for kind, some in silencing["windows"].items()}
    assert frames == {"fixed": [0], "still_wrong": [1, 2, 3, 4], "broken": [6, 7]}
    assert training["points"][3] == [0.1, 0.6, True]


def test_causes_before_and_after() -> None:
    record = old_record() | {"settings": {"silence": [1]}}
    content = page_content(record, manifest())
    found = [
        (
            cause["number"],
            cause["name"],
            cause["before"],
            [cell and (cell["count"], cell["of"]) for cell in cause["after"]],
        )
        for cause in content["causes"]
    ]
    assert found == [
        (0, "lamp posts", 3, [(1, 3), (2, 3)]),
        (1, "", 1, [(0, 1), (1, 1)]),
        (2, "bags", 0, [None, None]),
        (None, "", 1, [(0, 1), (1, 1)]),
    ]
    assert [cause["silenced"] for cause in content["causes"]] == [True, False, False, False]
    assert content["silenced"] == manifest()["causes"]["causes"][0]["neurons"]
    assert [cause["size"] for cause in content["causes"]] == [9, 4, 3, 0]


def test_thresholds_of_the_record_are_used() -> None:
    record = old_record() | {"threshold": 0.85}
    record["cures"][0]["threshold"] = 0.15
    training = page_content(record, manifest())["cures"][0]
    assert training["threshold"] == 0.15
    # Wrong before: a person below 0.85, or nobody above it. Right after: a person above 0.15, nobody below it.
    frames = {kind: [row["frame"] for row in some] for kind, some in training["windows"].items()}
    assert frames == {"fixed": [0, 3, 6], "still_wrong": [], "broken": [1, 2, 4]}


def test_what_earlier_versions_did_not_record() -> None:
    content = page_content(old_record(), manifest())
    assert content["history"] is content["phases"] is content["record"]["settings"] is None
    assert content["silenced"] == []
    assert content["cures"][0]["model"] is None


def test_the_size_is_bounded() -> None:
    record = old_record()
    for one in record["cures"]:
        one["windows"] = [dict(row, frame=8 * n + row["frame"]) for n in range(500) for row in one["windows"]]
    content = page_content(record, manifest())
    before = copy.deepcopy(record)
    assert all(len(one["points"]) == POINTS for one in content["cures"])
    assert content["cures"][1]["counts"] == {"fixed": 500, "still_wrong": 2000, "broken": 1000}
    assert all(len(some) <= SHOWN for one in content["cures"] for some in one["windows"].values())
    assert [len(cause["windows"]) for cause in content["causes"]] == [OF_CAUSE, OF_CAUSE, 0, OF_CAUSE]
    # The windows are copies, which the page may change.
    for row in shown_windows(content):
        row["picture"] = 1
    assert record == before
