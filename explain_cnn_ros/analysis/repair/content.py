"""The contents of the page about a repair, from its record. Their size is bounded, even for many windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from explain_cnn_ros.analysis.intervals import mean_interval, wilson
from explain_cnn_ros.analysis.repair.proof import is_benefit
from explain_cnn_ros.analysis.repair.prover import SILENCING
from explain_cnn_ros.analysis.repair.text import OLD, held_out_judgement, judgement, left_out
from explain_cnn_ros.analysis.silencing import spread

#: Maximum numbers of windows of a kind and of a cause that are shown, and of points of a scatter plot.
SHOWN, OF_CAUSE, POINTS = 18, 4, 1500

#: Key of a window: path of the recording, number of the frame, number of the region.
WindowKey = tuple[str, int, int]

#: Plain values of a window in the record.
Row = Mapping[str, Any]

#: The kinds of windows by their decisions before and after a cure: whether these are right, and their title.
KINDS = {
    "fixed": (False, True, "Fixed: wrong before, right after"),
    "still_wrong": (False, False, "Still wrong"),
    "broken": (True, False, "Broken: right before, wrong after"),
}

#: The kinds of windows in the figures on the old data, and the name of their number.
_OLD_NUMBERS = {"persons_right": "persons", "backgrounds_right": "backgrounds", "photos_with_alarm": "photos"}

#: Figures of which less is better.
_LESS_IS_BETTER = ("photos_with_alarm",)


def page_content(record: Row, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the page, as plain values for JSON, without pictures.

    Args:
        record: The record of the repair. Records of earlier versions lack some entries, which the page names.
        manifest: Manifest of the analysis whose wrong decisions were repaired.
    """
    threshold = record.get("threshold", manifest["threshold"])
    cures = [_cure(cure, threshold, record) for cure in record["cures"]]
    causes = manifest.get("causes", {}).get("causes", [])
    return {
        "threshold": threshold,
        "cures": cures,
        "sets": [*_held_out_sets(record, threshold), *_unseen_sets(record), *_old_sets(record)],
        "causes": _causes(record, causes, threshold),
        "silenced": [neuron for number in _silenced(record) for neuron in causes[number]["neurons"]],
        "missed_by_search": _missed_by_search(record["cures"][0]["windows"], threshold),
        "sides": {side: record[f"{side}_windows"] for side in ("training", "held_out")},
        "history": record.get("history"),
        "shares": record.get("shares", []),
        "trained_share": record.get("trained_share"),
        "phases": record.get("phases"),
        "record": {
            name: record.get(name)
            for name in ("created", "settings", "network", "model", "device", "threads", "versions")
        },
        "analysis": {name: manifest.get(name) for name in ("inputs", "model", "network", "versions", "fingerprints")},
    }


def shown_windows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the windows that the page shows, as in the data of the page."""
    lists = [rows for cure in content["cures"] for rows in cure["windows"].values()]
    lists += [cause["windows"] for cause in content["causes"]]
    return [row for rows in lists for row in rows]


def key_of(row: Row) -> WindowKey:
    """Return the key of a window in the record."""
    return row["source"], row["frame"], row["region"]


def _missed_by_search(rows: Iterable[Row], threshold: float) -> int:
    """Count the held-out persons that the search missed although the network recognises them in a window of their own.

    Records of earlier versions do not say which windows the analysis decided wrongly; 0 is returned for these.
    """
    return sum(row["person"] and row.get("wrong", False) and _right(row, "before", threshold) for row in rows)


def _silenced(record: Row) -> list[int]:
    return [number - 1 for number in record.get("settings", {}).get("silence", ())]


def _cure(cure: Row, before: float, record: Row) -> dict[str, Any]:
    """Return the verdict, the chosen windows and the points of a cure."""
    after = cure.get("threshold", before)
    fixed, broken = cure["held_out"]["fixed"], cure["held_out"]["broken"]
    windows: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for row in cure["windows"]:
        was, is_now = _right(row, "before", before), _right(row, "after", after)
        for kind, (first, second, _) in KINDS.items():
            if (was, is_now) == (first, second):
                windows[kind].append(row)
    points = spread(cure["windows"], POINTS)
    return {
        "name": cure["name"],
        "weights": cure["weights"],
        "model": cure.get("model"),
        "threshold": after,
        "verdict": _verdict(cure["name"], fixed["count"], broken["count"], fixed["of"] + broken["of"]),
        "detail": _detail(cure, record),
        "unseen": [_unseen_verdict(folder, proof) for folder, proof in cure["unseen"].items()],
        "status": _status(cure["name"], fixed["count"], broken["count"]),
        "again": cure["frames"] is not None,
        "counts": {kind: len(rows) for kind, rows in windows.items()},
        "windows": {kind: _chosen(rows, SHOWN) for kind, rows in windows.items()},
        "points": [[row["before"], row["after"], row["person"]] for row in points],
    }


def _chosen(rows: Sequence[Row], count_max: int) -> list[dict[str, Any]]:
    """Return copies of some windows, evenly spread."""
    return [dict(row) for row in spread(rows, count_max)]


def _right(row: Row, when: str, threshold: float) -> bool:
    return bool((row[when] >= threshold) == row["person"])


def _counted(count: Row) -> str:
    """Return a number of windows in words, with the interval in percent."""
    if not count["of"]:
        return "none of 0"
    return f"{count['count']} of {count['of']} ({100 * count['low']:.0f} to {100 * count['high']:.0f} %)"


def _detail(cure: Row, record: Row) -> str:
    """Return the changes of decisions in words, and what else one has to know about a cure."""
    fixed, broken = cure["held_out"]["fixed"], cure["held_out"]["broken"]
    text = f"{_counted(fixed)} wrong decisions become right, and {_counted(broken)} right ones become wrong."
    if cure["name"] == "training" and (count := record.get("left_out_windows", 0)):
        text += f" {left_out(count).capitalize()}."
    return text


def _verdict(name: str, fixed: int, broken: int, total: int) -> str:
    judged = held_out_judgement(name, fixed, broken)
    counted = f"the {name} fixes {fixed} and breaks {broken} of {total} held-out windows"
    if broken > fixed:
        return f"THE {name.upper()} BREAKS MORE THAN IT FIXES: {counted}; {judged}."
    if not fixed:
        return f"The {name} fixes nothing: {counted}; {judged}."
    return f"{counted[0].upper()}{counted[1:]}: {judged}."


def _unseen_verdict(folder: str, proof: Row) -> str:
    fixed, broken = proof["fixed"], proof["broken"]
    total = fixed["of"] + broken["of"]
    counted = f"fixes {fixed['count']} and breaks {broken['count']} of {total} windows"
    return f"Unseen {folder}: {counted}; {judgement(fixed['count'], broken['count'])}."


def _status(name: str, fixed: int, broken: int) -> str:
    if broken > fixed or not fixed:
        return "harms"
    return "proved" if name != SILENCING and is_benefit(fixed, broken) else "unproved"


# The table: sets of rows, each with a cell for the network before and for each cure.


def _share(count: int, of: int, less: bool = False) -> dict[str, Any] | None:
    """Return a cell with a share and its interval; None without windows.

    Args:
        count: Number of windows.
        of: Number of all of them.
        less: Whether a lower share is better.
    """
    low, high = wilson(count, of)
    return {"count": count, "of": of, "low": low, "high": high, "less": less} if of else None


def _row(name: str, before: Any, after: Iterable[Any]) -> dict[str, Any]:
    """Return a row. Cells after a cure say if they are clearly better or worse: the intervals do not overlap."""
    cells = [before]
    for cell in after:
        change = ""
        if before and cell and "low" in before and "low" in cell:
            rises, falls = cell["low"] > before["high"], cell["high"] < before["low"]
            better, worse = (falls, rises) if cell.get("less") else (rises, falls)
            change = "better" if better else "worse" if worse else ""
        cells.append(cell and cell | {"change": change})
    return {"name": name, "cells": cells}


def _held_out_sets(record: Row, threshold: float) -> list[dict[str, Any]]:
    cures = record["cures"]

    def cells(counted: Callable[[Row, str, float], Any]) -> tuple[Any, list[Any]]:
        before = counted(cures[0], "before", threshold)
        return before, [counted(cure, "after", cure.get("threshold", threshold)) for cure in cures]

    def right(cure: Row, when: str, limit: float) -> Any:
        return _share(sum(_right(row, when, limit) for row in cure["windows"]), len(cure["windows"]))

    def wrong_of(person: bool) -> Callable[[Row, str, float], Any]:
        def counted(cure: Row, when: str, limit: float) -> Any:
            rows = [row for row in cure["windows"] if row["person"] == person]
            return _share(sum(not _right(row, when, limit) for row in rows), len(rows), less=True)

        return counted

    windows = {
        "name": "Held-out windows",
        "note": _held_out_note([cure["name"] for cure in cures]),
        "rows": [
            _row("decided rightly", *cells(right)),
            _row("false alarms, of the windows without a person", *cells(wrong_of(person=False))),
            _row("missed, of the windows with a person", *cells(wrong_of(person=True))),
            *_changes([cure["held_out"] for cure in cures]),
        ],
    }
    found = [cure["frames"] for cure in cures]
    if not any(found):
        return [windows]
    frames = [record["frames"], *found]
    persons = [_share(f["found"], f["found"] + f["missed"]) if f else None for f in frames]
    alarms = [
        {
            "text": f"{f['false_alarms'] / max(1, f['frames']):.2f}",
            "counted": f"{f['false_alarms']} in {f['frames']} frames",
        }
        if f
        else None
        for f in frames
    ]
    searched = {
        "name": "Held-out frames, analysed again",
        "note": "the whole frames of the same part, searched by each network",
        "rows": [
            _row("persons found", persons[0], persons[1:]),
            _row("false alarms a frame", alarms[0], alarms[1:]),
        ],
    }
    return [windows, searched]


def _held_out_note(names: Sequence[str]) -> str:
    """Return what the held-out windows are, and which part they had in the cures with some names."""
    parts = ["labelled windows of the last part of each recording"]
    if names != [SILENCING]:
        parts.append("the training did not learn from them")
    if SILENCING in names:
        parts.append("the neurons that are silenced were found with their help")
    return "; ".join(parts)


def _changes(proofs: Sequence[Row | None]) -> list[dict[str, Any]]:
    """Return the rows of decisions that change."""
    return [
        _row(text, None, [proof and _share(proof[key]["count"], proof[key]["of"]) for proof in proofs])
        for key, text in (("fixed", "wrong ones that become right"), ("broken", "right ones that become wrong"))
    ]


def _unseen_sets(record: Row) -> list[dict[str, Any]]:
    folders = dict.fromkeys(folder for cure in record["cures"] for folder in cure["unseen"])
    sets = []
    for folder in folders:
        proofs = [cure["unseen"].get(folder) for cure in record["cures"]]
        known = [proof for proof in proofs if proof]
        rows = []
        if known:
            total = known[0]["fixed"]["of"] + known[0]["broken"]["of"]
            after = [
                p and _share(p["fixed"]["count"] + p["broken"]["of"] - p["broken"]["count"], total) for p in proofs
            ]
            rows.append(_row("decided rightly", _share(known[0]["broken"]["of"], total), after))
        rows += _wrong_unseen(proofs)
        sets.append(
            {
                "name": f"Unseen: {folder}",
                "note": "recordings that took no part",
                "rows": rows + _changes(proofs),
            }
        )
    return sets


def _wrong_unseen(proofs: Sequence[Row | None]) -> list[dict[str, Any]]:
    """Return the rows of wrong decisions by kind. Earlier versions did not record them."""
    rows = []
    for text, fixed, broken in (
        ("false alarms, of the windows without a person", "fixed_alarms", "broken_alarms"),
        ("missed, of the windows with a person", "fixed_missed", "broken_missed"),
    ):
        known = [proof for proof in proofs if proof and broken in proof]
        if known:
            total = known[0][fixed]["of"] + known[0][broken]["of"]
            after = [
                _share(p[fixed]["of"] - p[fixed]["count"] + p[broken]["count"], total, less=True)
                if p and broken in p
                else None
                for p in proofs
            ]
            rows.append(_row(text, _share(known[0][fixed]["of"], total, less=True), after))
    return rows


def _old_sets(record: Row) -> list[dict[str, Any]]:
    figures = [record["old"], *(cure["old"] for cure in record["cures"])]
    if not any(figures):
        return []
    rows = []
    for key, text in OLD.items():
        cells = [_old_cell(key, one) for one in figures]
        if any(cells):
            rows.append(_row(text, cells[0], cells[1:]))
    return [
        {
            "name": "Old data",
            "note": "a held-out part of the data of the first training: what must not be forgotten",
            "old": True,
            "rows": rows,
        }
    ]


def _old_cell(key: str, figures: Row) -> dict[str, Any] | None:
    if key not in figures:
        return None
    if key in _OLD_NUMBERS:
        of = figures[_OLD_NUMBERS[key]]
        return _share(round(figures[key] * of), of, less=key in _LESS_IS_BETTER)
    shares = [(round(figures[k] * figures[_OLD_NUMBERS[k]]), figures[_OLD_NUMBERS[k]]) for k in list(_OLD_NUMBERS)[:2]]
    low, high = mean_interval(shares)
    return {"share": figures[key], "low": low, "high": high, "less": False}


# The causes.


def _causes(record: Row, causes: Sequence[Row], threshold: float) -> list[dict[str, Any]]:
    """Return each cause before and after the cures, and the wrong windows that belong to none."""
    cures = record["cures"]
    wrong = [row for row in cures[0]["windows"] if not _right(row, "before", threshold)]
    found = []
    for number, cause in [*enumerate(causes), (None, {})]:
        own = [row for row in wrong if row["cause"] == number]
        if number is None and not own:
            continue
        keys = {key_of(row) for row in own}
        after = []
        for cure in cures:
            limit = cure.get("threshold", threshold)
            rows = [row for row in cure["windows"] if key_of(row) in keys]
            after.append(_share(sum(not _right(row, "after", limit) for row in rows), len(rows), less=True))
        found.append(
            {
                "number": number,
                "kind": cause.get("kind"),
                "name": cause.get("name", ""),
                "size": len(cause.get("windows", ())),
                "place": cause.get("place", ""),
                "neurons": [f"{n['layer_name']}, {n['channel']}" for n in cause.get("neurons", ())],
                "silenced": number in _silenced(record),
                "before": len(own),
                "after": after,
                "windows": _chosen(own, OF_CAUSE),
            }
        )
    return found
