"""The pages in a real browser, and how they react to clicks and keys."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explain_cnn_ros.analysis.compare import main as compare
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.pages import page_data, with_data
from explain_cnn_ros.analysis.rows import proof_of
from explain_cnn_ros.draw.captions import proof_text
from explain_cnn_ros.explain.settings import ExplainSettings

pytest.importorskip("selenium")

from browser_kit import open_browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

pytestmark = pytest.mark.timeout(600)

#: The minus sign of the pages.
MINUS = "\N{MINUS SIGN}"

#: Explanations with signed influence and two other metrics.
EXPLAIN = ExplainSettings(
    perturbations=2,
    layers=(3, 5),
    metrics=("influence", "counter_influence", "activation_precision", "activation_sum"),
    top_n=3,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser(1200, 900) as driver:
        yield driver


@pytest.fixture(scope="module")
def output(studio, tmp_path_factory) -> Path:
    """Two recordings, one of them labelled so that frames are wrong; one image is broken."""
    folder = tmp_path_factory.mktemp("pages")
    first = [studio.jpeg(i) for i in range(24)]
    first[7] = b"nothing"
    second = [studio.jpeg(50 + i) for i in range(8)]
    bags = [studio.record(folder / "front", first), studio.record(folder / "rear", second)]
    labels = [Label(0, 1.0, True, "front"), Label(1.0, 1.7, False, "front")]
    settings = {"labels": labels, "explain": EXPLAIN, "silence_neurons": 4}
    studio.analyse(folder / "out", *bags, explain_every=3, **settings)
    studio.analyse(folder / "again", *bags, explain_every=4, threshold=0.02, **settings)
    studio.analyse(folder / "unlabelled", bags[1], explain_every=3)
    studio.analyse(folder / "unexplained", bags[1], explain_every=0, confidence_threshold=0.0)
    studio.analyse(folder / "empty", bags[1], start=1e6)
    right = [Label(0, 1e6, bool(row["person"])) for row in studio.rows(folder / "unexplained")[:1]]
    studio.analyse(folder / "right", bags[1], labels=right, end=0.05)
    paper = ExplainSettings(perturbations=2, layers=(3,), metrics=("activation_sum",), top_n=2)
    studio.analyse(folder / "paper", bags[0], labels=labels, explain=paper)
    of_background = dataclasses.replace(EXPLAIN, target="background")
    studio.analyse(folder / "background", bags[0], explain_every=3, **(settings | {"explain": of_background}))
    for name in ("architecture", "target"):
        shutil.copytree(folder / "again", folder / name)
        path = folder / name / "analysis.json"
        manifest = json.loads(path.read_text())
        manifest["network"] |= {"architecture": "resnet18", "weights": "own.safetensors"} if name != "target" else {}
        path.write_text(json.dumps(manifest | ({"target": "background"} if name == "target" else {})))
    for name, page in (("again", "compare"), ("architecture", "compare_networks"), ("target", "compare_targets")):
        assert compare([str(folder / "out"), str(folder / name), "--output", str(folder / f"{page}.html")]) == 0
    return folder


@pytest.fixture
def report(browser, output) -> Any:
    browser.get((output / "out/report.html").as_uri())
    return browser


def text(browser: Any, name: str) -> str:
    return str(browser.find_element(By.ID, name).text)


def test_nothing_is_wrong_and_nothing_is_fetched(browser, output) -> None:
    for page in ("out/report.html", "compare.html"):
        browser.get_log("performance")
        browser.get((output / page).as_uri())
        assert browser.get_log("browser") == []
        asked = [e["message"] for e in browser.get_log("performance") if "Network.requestWillBeSent" in e["message"]]
        assert not [a for a in asked if '"url":"http' in a]
        assert browser.title


def test_the_head_says_what_came_out(report) -> None:
    tiles = text(report, "tiles").split("\n")
    assert tiles[:2] == ["32", "frames"]
    assert tiles[tiles.index("unreadable") - 1] == "1"
    assert "1 frame could not be analysed" in text(report, "problems")


def test_a_mark_opens_its_frame(report, studio, output) -> None:
    rows = {r["frame"]: r for r in studio.table(output / "out", "frames").to_pylist() if "front" in r["source"]}
    marks = report.find_elements(By.CSS_SELECTOR, "#timeline .mark")
    assert len(marks) == sum(bool(r["wrong"] or r["doubtful"] or r["trigger"]) for r in rows.values())
    pictures = set()
    for mark in marks[:6]:
        frame = int(mark.get_attribute("data-frame"))
        report.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", mark)
        assert f"frame {frame} at" in text(report, "caption")
        assert f"P(person) {rows[frame]['probability']:.3f}" in text(report, "caption")
        assert rows[frame]["trigger"].replace("_", " ") in text(report, "caption")
        assert "selected" in mark.get_attribute("class")
        image = report.find_element(By.ID, "image")
        assert report.execute_script("return arguments[0].complete && arguments[0].naturalWidth", image) == 160
        pictures.add(image.get_attribute("src"))
    assert len(pictures) == 6


def test_with_the_keyboard_alone(report) -> None:
    mark = report.find_elements(By.CSS_SELECTOR, "#timeline .mark[tabindex]")[3]
    report.execute_script("arguments[0].focus()", mark)
    mark.send_keys(Keys.ENTER)
    assert f"frame {mark.get_attribute('data-frame')} at" in text(report, "caption")
    before = text(report, "caption")
    report.find_element(By.ID, "next").send_keys(Keys.ENTER)
    assert text(report, "caption") != before
    report.find_element(By.ID, "previous").send_keys(Keys.SPACE)
    assert text(report, "caption") == before


def test_metric_and_layer_are_the_readers_choice(report, studio, output) -> None:
    """The picture agrees with the tables."""
    out = output / "out"
    neurons, patches = (studio.table(out, name).to_pylist() for name in ("neurons", "patches"))
    caption = text(report, "caption")
    frame, source = int(caption.partition("frame ")[2].partition(" ")[0]), caption.split(" ")[3].rstrip(",")
    for metric in ("activation_sum", "activation_precision", "influence", "counter_influence"):
        boxes = {
            (p["layer"], p["channel"]): (p["x"], p["y"], p["width"], p["height"])
            for p in patches
            if (p["frame"], p["source"], p["metric"]) == (frame, source, metric)
        }
        Select(report.find_element(By.ID, "metric")).select_by_value(metric)
        for layer in ("all", "3", "5"):
            Select(report.find_element(By.ID, "layer")).select_by_value(layer)
            expected = [
                (n["layer"], n["channel"])
                for n in neurons
                if (n["frame"], n["source"], n["metric"]) == (frame, source, metric)
                and layer in ("all", str(n["layer"]))
            ]
            assert expected
            found = report.find_elements(By.CSS_SELECTOR, "#neurons tr")
            shown = [(int(row.get_attribute("data-layer")), int(row.get_attribute("data-channel"))) for row in found]
            assert shown == expected
            drawn = [
                tuple(int(rect.get_attribute(side)) for side in ("x", "y", "width", "height"))
                for rect in report.find_elements(By.CSS_SELECTOR, "#boxes rect")[1:]
            ]
            assert drawn == [boxes[n] for n in expected if n in boxes]


def test_supporting_and_opposing_neurons_together(report, studio, output) -> None:
    """Signed scores, shares of the margin, proofs and lines that do not depend on colours."""
    select = Select(report.find_element(By.ID, "metric"))
    select.select_by_value("both")
    Select(report.find_element(By.ID, "layer")).select_by_value("all")
    caption = text(report, "caption")
    key = {"frame": int(caption.partition("frame ")[2].partition(" ")[0]), "source": caption.split(" ")[3].rstrip(",")}

    def rows(name: str) -> list[dict[str, Any]]:
        return [row for row in studio.rows(output / "out", name) if key.items() <= row.items()]

    (frame,), neurons, proofs = rows("frames"), rows("neurons"), rows("proofs")
    neurons = [n for n in neurons if n["metric"] in ("influence", "counter_influence")]
    table = report.find_elements(By.CSS_SELECTOR, "#neurons tr[data-channel]")
    assert [int(row.get_attribute("data-channel")) for row in table] == [n["channel"] for n in neurons]
    for row, neuron in zip(table, neurons, strict=True):
        _, score, share, silenced = (cell.text for cell in row.find_elements(By.TAG_NAME, "td"))
        assert float(score.replace(MINUS, "-")) == pytest.approx(neuron["score"], rel=1e-3)
        assert float(silenced.replace(MINUS, "-")) == pytest.approx(neuron["silenced"], rel=1e-3)
        if (frame["output"] > 0) == frame["person"]:
            assert float(share.rstrip(" %")) == pytest.approx(100 * neuron["score"] / frame["output"], abs=0.06)
    assert [th.text[2:] for th in report.find_elements(By.CSS_SELECTOR, "#neurons tr.group th")] == [
        "support the decision",
        "oppose the decision",
    ]
    for line, proof in zip(text(report, "proofs").split("\n"), proofs, strict=True):
        assert proof_text(proof_of(proof)) in line
        assert ("⚠" in line) == proof["disagrees"]
    with_patch = {(p["metric"], p["layer"], p["channel"]) for p in rows("patches")}
    dashes = [r.get_attribute("stroke-dasharray") for r in report.find_elements(By.CSS_SELECTOR, "#boxes rect")[1:]]
    drawn = [n for n in neurons if (n["metric"], n["layer"], n["channel"]) in with_patch]
    assert [bool(dash) for dash in dashes] == [n["metric"] == "counter_influence" for n in drawn]


def test_the_neurons_that_pushed_the_wrong_way(report, output) -> None:
    found = json.loads((output / "out" / "analysis.json").read_text())["wrong_way"]
    kinds = [kind for kind in ("missed", "false_alarm") if found["neurons"][kind]]
    assert len(kinds) == 2
    for kind in kinds:
        Select(report.find_element(By.ID, "kind")).select_by_value(kind)
        rows = report.find_elements(By.CSS_SELECTOR, "#wrong-way tr")
        assert len(rows) == len(found["neurons"][kind])
        for row, neuron in zip(rows, found["neurons"][kind], strict=True):
            cells = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            assert cells[0] == f"{neuron['layer_name']}, {neuron['channel']}"
            assert cells[1] == f"{neuron['wrong']['selected']} of {neuron['wrong']['frames']}"
        assert rows[0].find_elements(By.CSS_SELECTOR, ".gallery img")
        effects = [e for e in found["effects"] if e["kind"] == kind]
        rows = report.find_elements(By.CSS_SELECTOR, "#silencing tr")
        assert len(rows) == len(effects) > 1
        for row, effect in zip(rows, effects, strict=True):
            cells = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            low, high = (f"{100 * end:.0f}" for end in effect["turned_right_interval"])
            assert cells[1].startswith(f"{effect['turned_right']} of {effect['wrong']} ")
            assert f"({low} to {high} %)" in cells[1]
            assert cells[2].startswith(f"{effect['turned_wrong']} of {effect['right']} ")
            assert cells[3] == f"{effect['changed']} of {effect['unlabelled']}"
            assert ("random" in cells[0]) == effect["random"]


def test_the_neurons_table_says_which_windows_it_covers(browser, studio, output) -> None:
    """Only the best window of each frame counts in the table. Here, each frame has a single window."""
    manifest = json.loads((output / "out/analysis.json").read_text())
    wrong = [row["label"] for row in studio.rows(output / "out", "regions") if row["wrong"]]
    windows = manifest["wrong_way"]["windows"]
    assert windows == {"missed": wrong.count(True), "false_alarm": wrong.count(False)}
    browser.get((output / "out/report.html").as_uri())
    kind = Select(browser.find_element(By.ID, "kind")).first_selected_option.get_attribute("value")
    assert "best window" not in text(browser, "kind-note")
    page = (output / "out/report.html").read_text()
    data = page_data(page)
    explained = data["manifest"]["wrong_way"]["explained"][kind]["wrong"]
    data["manifest"]["wrong_way"]["windows"][kind] = explained + 5
    (output / "several.html").write_text(with_data(page, data))
    browser.get((output / "several.html").as_uri())
    name = {"missed": "missed persons", "false_alarm": "false alarms"}[kind]
    told = (
        f"Only the best window of each frame counts here: {explained} of the {explained + 5} windows that are {name}."
    )
    assert told in text(browser, "kind-note")


@pytest.mark.parametrize(
    ("name", "place", "texts"),
    [
        ("unlabelled", "wrong-way-empty", ("There are no labels", "start,end,person", "--labels labels.csv")),
        ("unexplained", "no-frames", ("No frame was explained: none was doubtful", "--explain-every 5")),
        ("unexplained", "recurring-empty", ("0 confident ones were explained", "explain-cnn analyze")),
        ("empty", "no-frames", ("No frame was analysed", "explain-cnn analyze")),
        ("empty", "wrong-way-empty", ("There are no frames",)),
        ("right", "wrong-way-empty", ("All 1 labelled frames were decided rightly",)),
        ("paper", "wrong-way-empty", ("influence of their neurons was not computed", "explain-cnn analyze")),
    ],
)
def test_pages_with_nothing_say_what_to_do(browser, output, name, place, texts) -> None:
    browser.get((output / name / "report.html").as_uri())
    assert browser.get_log("browser") == []
    assert all(t in text(browser, place) for t in texts)
    assert not browser.find_element(By.ID, "wrong-way-area").is_displayed()


@pytest.mark.parametrize("layer", ["conv3_1", "layer4.1.conv2", "features.denseblock4.denselayer16.conv2"])
@pytest.mark.parametrize("width", [1280, 800, 360])
def test_no_table_scrolls_sideways(browser, output, width, layer) -> None:
    page = output / f"{layer}.html"
    page.write_text((output / "out/report.html").read_text().replace("conv3_1", layer))
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(page.as_uri())
        wide = """return [...document.querySelectorAll('.scroll, table, main')].filter(
            e => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth + 1
            ).map(e => e.outerHTML.slice(0, 80))"""
        for metric in ("both", "activation_sum"):
            Select(browser.find_element(By.ID, "metric")).select_by_value(metric)
            assert browser.execute_script(wide) == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        # The heat map has the shape of the frames, 160 x 120, and is not larger.
        for box in browser.execute_script("""return [...document.querySelectorAll('#heat svg')].map(
                e => e.getBoundingClientRect()).map(r => [r.width, r.height])"""):
            assert box[0] <= 160
            assert box[0] / box[1] == pytest.approx(160 / 120, rel=0.02)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_another_recording(report) -> None:
    Select(report.find_element(By.ID, "source")).select_by_index(1)
    marks = report.find_elements(By.CSS_SELECTOR, "#timeline .mark")
    assert [m.get_attribute("data-frame") for m in marks if "explained" in m.get_attribute("class")]
    report.execute_script("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", marks[0])
    assert "rear, frame" in text(report, "caption")


def test_recurring_neurons_and_heat(report, studio, output) -> None:
    rows = report.find_elements(By.CSS_SELECTOR, "#recurring tr")
    assert rows
    assert all(row.find_elements(By.CSS_SELECTOR, ".gallery img") for row in rows)
    assert len(report.find_elements(By.CSS_SELECTOR, "#heat figure svg")) == 2
    before = text(report, "recurring")
    Select(report.find_element(By.ID, "recurring-metric")).select_by_value("activation_sum")
    assert text(report, "recurring") != before


@pytest.mark.parametrize("page", ["out/report.html", "compare.html"])
def test_small_screens_dark_ones_and_paper(browser, output, page) -> None:
    """Nothing is wider than the screen; dark is dark; and everything is on the paper."""
    browser.get((output / page).as_uri())
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert browser.execute_script(ground) == "rgb(20, 24, 31)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert browser.execute_script("return getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("page", ["out/report.html", "compare.html"])
def test_readers_who_cannot_see(browser, output, page) -> None:
    """Pictures have words, controls have names, colours are never alone, and contrast suffices."""
    browser.get((output / page).as_uri())
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert not browser.execute_script("return [...document.images].filter(i => !i.alt).length")
    unnamed = """return [...document.querySelectorAll('select, button, [role=button], [role=img]')]
        .filter(e => !(e.ariaLabel || e.textContent.trim() || e.closest('label'))).length"""
    assert browser.execute_script(unnamed) == 0
    contrast = """
        const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
            .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
        const paint = document.createElement('i'); document.body.append(paint);
        const of = name => { paint.style.color = `var(${name})`; return light(getComputedStyle(paint).color); };
        return ['--text', '--faint', '--wrong', '--doubtful', '--fine', '--accent'].map(name => {
            const [a, b] = [of(name), of('--panel')]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); });"""
    for scheme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        assert min(browser.execute_script(contrast)) >= 4.5
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_words_follow_the_target(browser, studio, output) -> None:
    browser.get((output / "background/report.html").as_uri())
    assert browser.get_log("browser") == []
    assert "the explanations are about “background”" in text(browser, "subtitle")
    assert "positive argues for “background”, negative against it" in text(browser, "metric-caption")
    assert "argues for the person" not in browser.find_element(By.TAG_NAME, "body").text
    rows = {row["frame"]: row for row in studio.rows(output / "background")}
    frames = set()
    for _ in range(4):
        caption = text(browser, "caption")
        row = rows[int(caption.partition("frame ")[2].partition(" ")[0])]
        p = 1 - row["probability"]
        decision = "background" if p >= 0.5 else "no background"
        assert f"P(person) {row['probability']:.3f}, decided {'person' if row['person'] else 'no person'}" in caption
        assert f"; the explanation is about “{decision}”, P(background) {p:.3f}" in caption
        groups = [group.text for group in browser.find_elements(By.CSS_SELECTOR, "#neurons tr.group")]
        assert [group[2:] for group in groups] == [
            f"support the decision “{decision}”",
            f"oppose the decision “{decision}”",
        ]
        # The margin has the sign of the decision about the target, whose threshold is 0.5.
        cells = browser.find_elements(By.CSS_SELECTOR, "#neurons tr:not(.group) td:nth-child(3)")
        assert cells and all(cell.text.endswith(" %") for cell in cells)
        frames.add(row["frame"])
        browser.find_element(By.ID, "next").click()
    assert len(frames) == 4


def test_explanations_of_another_class_do_not_explain_wrong_decisions(browser, studio, output) -> None:
    manifest = json.loads((output / "background/analysis.json").read_text())
    assert manifest["summary"]["wrong"] > 0
    assert manifest["wrong_way"]["neurons"] == {"missed": [], "false_alarm": []}
    assert manifest["wrong_way"]["effects"] == studio.rows(output / "background", "silencing") == []
    browser.get((output / "background/report.html").as_uri())
    told = text(browser, "wrong-way-empty")
    assert "the explanations are about “background”, so they do not say which neurons pushed" in told
    command = browser.find_element(By.CSS_SELECTOR, "#wrong-way-empty pre").text
    assert "--labels" in command and "--target" not in command


def test_neurons_of_different_networks_are_not_compared(browser, output) -> None:
    browser.get((output / "compare_networks.html").as_uri())
    assert browser.get_log("browser") == []
    assert "A and B are different networks (vgg11 and resnet18)" in text(browser, "incomparable")
    assert not browser.find_element(By.ID, "neurons-area").is_displayed()
    totals = text(browser, "totals")
    assert "network vgg11 resnet18" in totals and "weights vgg11.safetensors own.safetensors" in totals
    assert "vgg11, model" in text(browser, "subtitle") and "resnet18, model" in text(browser, "subtitle")
    assert "A decides for a person if P(person) is at least 0.7, B if it is at least 0.02" in text(
        browser, "changed-note"
    )
    assert len(browser.find_elements(By.CSS_SELECTOR, "#scatter .threshold")) == 2


def test_explanations_of_different_targets_are_named(browser, output) -> None:
    for page, said in (("compare", False), ("compare_targets", True)):
        browser.get((output / f"{page}.html").as_uri())
        assert not browser.find_element(By.ID, "incomparable").is_displayed()
        assert ("those of B about “background”" in text(browser, "neurons-note")) == said
        assert ("explanations about the person “background”" in text(browser, "totals")) == said


def test_two_analyses_without_a_difference(browser, output) -> None:
    page = output / "same.html"
    assert compare([str(output / "out"), str(output / "out"), "--output", str(page)]) == 0
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    assert text(browser, "changed-note").startswith("31 frames are in both; no decision differs")
    assert "thresholds differ" not in text(browser, "changed-note")
    assert text(browser, "changed") == "none"


def test_what_changed_between_two_analyses(browser, studio, output) -> None:
    browser.get((output / "compare.html").as_uri())
    a, b = (studio.table(output / name, "frames").to_pylist() for name in ("out", "again"))
    changed = sum(x["person"] != y["person"] for x, y in zip(a, b, strict=True) if x["person"] is not None)
    assert changed > 0
    assert f"31 frames are in both; the decisions about {changed} of them differ" in text(browser, "changed-note")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#changed tr")) == changed
    assert len(browser.find_elements(By.CSS_SELECTOR, "#scatter circle")) == 31
