"""The page about a repair in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explain_cnn_ros.analysis.intervals import wilson
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.repair.analysed import LabelledAnalysis
from explain_cnn_ros.analysis.repair.page import PAGE, write_page
from explain_cnn_ros.explain.settings import ExplainSettings

pytest.importorskip("selenium")

from browser_kit import open_browser
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.timeout(600)

#: A name that would be HTML, and that would change the direction of the text after it.
HOSTILE = "<img src=x onerror=alert(1)>\u202ewalk"

PAGES = ("new", "old", "away")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser(1200, 900) as driver:
        yield driver


def counted(flags: list[bool]) -> dict[str, Any]:
    low, high = wilson(sum(flags), len(flags))
    return {"count": sum(flags), "of": len(flags), "low": low, "high": high}


def record_of_windows(analysis: LabelledAnalysis, old: bool) -> dict[str, Any]:
    """A record in which the training repairs every second wrong decision, and breaks every third right one."""
    threshold = analysis.manifest["threshold"]
    windows = []
    fixed, broken = [], []
    for window in analysis.windows:
        group = fixed if window.wrong else broken
        group.append(len(group) % (2 if window.wrong else 3) == 0)
        right = group[-1] == window.wrong
        row = {"source": window.source, "frame": window.frame, "region": window.number, "person": window.person}
        row |= {"cause": window.cause, "before": window.region.probability}
        windows.append(row | {"after": threshold + (0.05 if window.person == right else -0.05)})
    figures = {"persons_right": 0.99, "backgrounds_right": 0.98, "balanced_accuracy": 0.985}
    figures |= {"persons": 200, "backgrounds": 400}
    sides = {"missed": 1, "false_alarms": 2, "right": 3}
    proof = {"fixed": counted(fixed), "broken": counted(broken), "by_cause": {}}
    cure = {
        "name": "training",
        "weights": "training.safetensors",
        "held_out": proof,
        "unseen": {HOSTILE: proof},
        "old": figures | {"persons_right": 0.7, "balanced_accuracy": 0.84},
        "frames": {"frames": 8, "found": 3, "missed": 0, "false_alarms": 1},
        "windows": windows,
    }
    record = {"training_windows": sides, "held_out_windows": sides, "old": figures}
    record |= {"frames": {"frames": 8, "found": 2, "missed": 1, "false_alarms": 4}}
    second = cure | {"name": "silencing", "weights": "silencing.safetensors", "frames": None, "old": figures}
    record["cures"] = [cure, second]
    if not old:
        # The analysis was wrong about two of the persons whom the network recognises: its search missed them.
        recognised = [row for row in windows if row["person"] and row["before"] >= threshold]
        for row in recognised[:2]:
            row["wrong"] = True
        step = {"loss": 0.2, "persons_right": 0.98, "backgrounds_right": 0.97, "balanced_accuracy": 0.975}
        phases = [("training", 240.0, True), ("deciding the old data, before the repair", 60.0, False)]
        record |= {
            "settings": {"steps": 200, "own_share": 0.3, "seed": 4, "silence": [1], "damping": 0.0, "inria": HOSTILE},
            "history": [{"step": 100} | step, {"step": 200} | step | {"loss": 0.1}],
            "shares": [{"share": s, "fixed": s / 2, "kept": 1 - s / 4, "old": 1 - s / 10} for s in (0.0, 0.5, 1.0)],
            "trained_share": 0.5,
            "phases": [{"name": n, "seconds": s, "continued": c} for n, s, c in phases],
            "created": "2026-11-27T06:00:00+00:00",
            "device": "cpu",
            "threads": 2,
            "threshold": threshold,
            "model": "0123456789ab",
            "network": "vgg11",
            "versions": {"torch": "2"},
        }
    return record


@pytest.fixture(scope="module")
def folder(studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages about the repair of a recording with a hostile name; of one is the recording gone."""
    root = tmp_path_factory.mktemp("repair_pages")
    bag = studio.record(root / HOSTILE, [studio.jpeg(i) for i in range(18)])
    labels = [Label(0, 0.75, True), Label(0.75, 1.2, False), Label(1.2, 1.5, True), Label(1.5, 9, False)]
    explain = ExplainSettings.preset("live", layers=(3, 5), top_n=3, proof="none")
    out = root / f"out {HOSTILE}"
    assert studio.analyse(out, bag, labels=labels, explain=explain, explain_every=0, explain_wrong=False).complete
    analysis = LabelledAnalysis(out)
    assert analysis.causes
    for name in PAGES:
        (root / name).mkdir()
        if name == "away":
            analysis.inputs = [root / "away"]
        write_page(root / name, record_of_windows(analysis, old=name == "old"), analysis)
    return root


def page(browser: Any, folder: Path, name: str) -> Any:
    browser.get_log("performance")
    browser.get((folder / name / PAGE).as_uri())
    return browser


def text(browser: Any, name: str) -> str:
    return str(browser.find_element(By.ID, name).text)


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_are_texts_and_nothing_is_fetched(browser, folder: Path, name: str) -> None:
    page(browser, folder, name)
    assert browser.get_log("browser") == []
    asked = [e["message"] for e in browser.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
    assert not [a for a in asked if '"url":"http' in a]
    assert not browser.find_elements(By.CSS_SELECTOR, "img[onerror], img[src=x]")
    body = browser.find_element(By.TAG_NAME, "body").get_attribute("textContent")
    assert "\u202e" not in body
    assert "<img src=x onerror=alert(1)>\\u202ewalk" in text(browser, "proof-rows")
    assert "\\u202e" in browser.title


def test_the_verdict_is_the_first_thing(browser, folder: Path) -> None:
    page(browser, folder, "new")
    data = json.loads(browser.execute_script("return document.getElementById('data').textContent"))
    verdicts = browser.find_elements(By.CSS_SELECTOR, "#verdicts .verdict")
    assert [one.text.split("\n")[0] for one in verdicts] == [cure["verdict"] for cure in data["cures"]]
    assert verdicts[0].location["y"] < 200
    told = verdicts[0].text
    assert "⚠ Old data: “persons right” is clearly worse: 99.0 % before, 70.0 % after." in told
    assert "Unseen <img src=x" in told
    assert "⚠" not in verdicts[1].text


def test_both_cures_stand_side_by_side(browser, folder: Path) -> None:
    page(browser, folder, "new")
    head = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "#proof-head th")]
    assert head == ["decisions", "before", "after the training", "after the silencing"]
    cells = {
        row.find_element(By.TAG_NAME, "th").text: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#proof-rows tr:not(.group)")
    }
    assert cells["persons right"][0] == "99.0 % 198 of 200\n(96.4 to 99.7 %)"
    assert cells["persons right"][1].endswith("▼ worse")
    assert cells["false alarms a frame"] == ["0.50 4 in 8 frames", "0.12 1 in 8 frames", "\N{EN DASH}"]


def test_persons_that_only_the_search_missed(browser, folder: Path) -> None:
    page(browser, folder, "new")
    assert "2 persons were missed by the search, but the network recognises them" in text(browser, "subtitle")
    page(browser, folder, "old")
    assert "by the search" not in text(browser, "subtitle")


def test_pictures_of_the_windows(browser, folder: Path) -> None:
    page(browser, folder, "new")
    data = json.loads(browser.execute_script("return document.getElementById('data').textContent"))
    titles = [title.text for title in browser.find_elements(By.TAG_NAME, "h4")]
    counts = [cure["counts"][kind] for cure in data["cures"] for kind in ("fixed", "still_wrong", "broken")]
    assert [int(title.split(": ")[-1].split(",")[0]) for title in titles] == counts
    figures = browser.find_elements(By.CSS_SELECTOR, ".judged figure")
    windows = [w for cure in data["cures"] for some in cure["windows"].values() for w in some]
    assert len(figures) == len(windows) > 6
    for figure, window in zip(figures, windows, strict=True):
        change = figure.find_element(By.TAG_NAME, "b").text
        assert change == f"{window['before']:.2f} → {window['after']:.2f}"
        image = figure.find_element(By.TAG_NAME, "img")
        assert f"window of frame {window['frame']} with " in image.get_attribute("alt")
        assert image.get_attribute("src").startswith("data:image/jpeg;base64,")
    sizes = browser.execute_script("return [...document.images].map(i => [i.naturalWidth, i.naturalHeight])")
    # The studio's frames have 160 x 120 pixels, and one region each.
    assert {tuple(size) for size in sizes} == {(192, 144)}


def test_a_lost_recording_has_no_pictures(browser, folder: Path) -> None:
    page(browser, folder, "away")
    assert not browser.find_elements(By.TAG_NAME, "img")
    assert browser.find_element(By.CSS_SELECTOR, ".judged figure").text.startswith("no picture")


def test_time_and_training_are_shown(browser, folder: Path) -> None:
    page(browser, folder, "new")
    assert text(browser, "time-note").startswith("5.0 min in all, on cpu with 2 threads. Phases that were continued")
    rows = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "#phases tr")]
    assert rows == ["training (continued) 4.0 min 80 %", "deciding the old data, before the repair 1.0 min 20 %"]
    assert "200 steps with seed 4; 30 % of the persons" in text(browser, "training-note")
    curves = browser.find_elements(By.CSS_SELECTOR, "#curves svg")
    assert [len(svg.find_elements(By.TAG_NAME, "polyline")) for svg in curves] == [1, 2]
    for svg in curves:
        # The axis counts steps, not seconds.
        labels = [label.text for label in svg.find_elements(By.CSS_SELECTOR, "text[text-anchor=middle]")]
        assert labels[-1] == "200" and not any(":" in label for label in labels)
    assert "finished 2026-11-27" in text(browser, "created").replace("\n", " ")
    assert "explain-cnn compare" in text(browser, "more")
    assert text(browser, "more").count("report after") == 1


def test_an_older_record_says_what_it_lacks(browser, folder: Path) -> None:
    page(browser, folder, "old")
    assert text(browser, "time-note") == "The time of this repair was not recorded."
    assert not browser.find_element(By.ID, "phases-table").is_displayed()
    assert "The curves of the training were not recorded." in text(browser, "training-note")
    assert "Silenced neurons (layer, channel): not recorded." in text(browser, "silenced")
    assert "finished not recorded" in text(browser, "created").replace("\n", " ")


@pytest.mark.parametrize("width", [1280, 800, 360])
@pytest.mark.parametrize("name", ["new", "old"])
def test_nothing_scrolls_sideways(browser, folder: Path, width: int, name: str) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page(browser, folder, name)
        wide = """return [...document.querySelectorAll('table, main, figure, .verdict, td, th')].filter(
            e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1
            ).map(e => e.outerHTML.slice(0, 80))"""
        assert browser.execute_script(wide) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_readers_who_cannot_see(browser, folder: Path) -> None:
    """Pictures have words, tables have headings, headings do not skip a level, and contrast suffices."""
    page(browser, folder, "new")
    assert not browser.execute_script("return [...document.images].filter(i => !i.alt).length")
    unnamed = "return [...document.querySelectorAll('[role=img]')].filter(e => !e.ariaLabel).length"
    assert browser.execute_script(unnamed) == 0
    scopes = "return [...document.querySelectorAll('th')].filter(e => !e.scope || !e.textContent.trim()).length"
    assert browser.execute_script(scopes) == 0
    levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))
    contrast = """
        const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
            .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
        const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
        const texts = 'p, b, span, td, th, figcaption, dt, dd, h1, h2, h3, h4, a, caption, summary';
        return [...document.querySelectorAll(texts)].filter(e => e.textContent.trim()).map(e => {
            const [a, b] = [getComputedStyle(e).color, ground(e)].map(light);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); });"""
    for scheme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        ratios = browser.execute_script(contrast)
        assert len(ratios) > 100 and min(ratios) >= 4.5
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_share_of_the_training_is_shown(browser, folder: Path) -> None:
    page(browser, folder, "new")
    assert text(browser, "shares-note").startswith("Each weight is a weighted mean: 50 % of its value after the")
    rows = browser.find_elements(By.CSS_SELECTOR, "#shares tr")
    shown = [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows]
    assert shown == [
        ["0 %, before the training", "0.0 %", "100.0 %", "100.0 %"],
        ["50 %, taken", "25.0 %", "87.5 %", "95.0 %"],
        ["100 %", "50.0 %", "75.0 %", "90.0 %"],
    ]
    # Records of earlier versions have no shares: all of the training was taken.
    page(browser, folder, "old")
    assert not browser.find_element(By.ID, "shares-note").is_displayed()
    assert not browser.find_element(By.ID, "shares-table").is_displayed()
