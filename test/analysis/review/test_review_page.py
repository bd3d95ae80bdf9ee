"""The page of a review in a real browser, used by keys and with the mouse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.review.labels_writer import Answer
from explain_cnn_ros.analysis.review.server import ReviewServer

pytest.importorskip("selenium")

from browser_kit import open_browser
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = pytest.mark.timeout(600)

SECOND = 10**9
START = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser(1280, 720) as driver:
        yield driver


@pytest.fixture
def serve(review) -> Iterator[Callable[..., Any]]:
    """Begin a review, and serve it."""
    servers: list[ReviewServer] = []

    def begin(**more: Any) -> Any:
        one = review(**more)
        one.server = ReviewServer(one.session)
        servers.append(one.server)
        threading.Thread(target=one.server.serve_forever, args=(0.02,), daemon=True).start()
        return one

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def many(tables):
    """A hundred and twenty windows, the first of them the most doubtful."""
    frames = [[(0.5 + i / 300, 40, 20, 32, 64)] for i in range(120)]
    return tables.add("walk", frames, times=[START + i * 2 * SECOND for i in range(120)])


def text(browser: Any, name: str) -> str:
    return str(browser.find_element(By.ID, name).text)


def settled(browser: Any, position: str) -> None:
    """Wait until the page shows a position and takes answers."""

    def ready(_: Any) -> bool:
        idle = "return busy === false"
        return text(browser, "position") == position and bool(browser.execute_script(idle))

    WebDriverWait(browser, 60, poll_frequency=0.02).until(ready)


def press(browser: Any, key: str) -> None:
    ActionChains(browser).send_keys(key).perform()


#: Every key, in turn.
KEYS = (("p", "person"), (Keys.ARROW_LEFT, "nobody"), ("n", "nobody"), (Keys.ARROW_RIGHT, "person"), ("P", "person"))
KEYS += (("s", "skip"), ("N", "nobody"), (" ", "skip"), ("S", "skip"))


@pytest.mark.slow
def test_a_hundred_windows_by_keys(browser, many, serve) -> None:
    one = serve()
    browser.get_log("browser")
    browser.get(one.server.address)
    for i in range(100):
        settled(browser, f"{i + 1} of 100")
        assert text(browser, "facts").startswith(f"frame {i} at ")
        press(browser, KEYS[i % len(KEYS)][0])
    settled(browser, "100 of 100")
    assert text(browser, "end-title") == "All windows have an answer"
    expected = [KEYS[i % len(KEYS)][1] for i in range(100)]
    counts = {answer: expected.count(answer) for answer in ("person", "nobody", "skip")}
    assert text(browser, "summary") == (
        f"{counts['person'] + counts['nobody']} labels in this review: {counts['person']} person, "
        f"{counts['nobody']} nobody; {counts['skip']} skipped."
    )
    found = [(label.person, round(label.start - START / SECOND) // 2) for label in read_labels(one.file.path)]
    assert found == [(answer == "person", i) for i, answer in enumerate(expected) if answer != "skip"]
    press(browser, Keys.ENTER)
    assert one.session.ended.wait(20)
    WebDriverWait(browser, 20).until(lambda b: text(b, "end").startswith("The review has ended"))
    assert browser.get_log("browser") == []


def test_back_and_the_mouse(browser, many, serve) -> None:
    one = serve(count=4)
    browser.get(one.server.address)
    settled(browser, "1 of 4")
    assert not browser.find_element(By.ID, "back").is_enabled()
    for name in ("person", "nobody", "skip"):
        browser.find_element(By.ID, name).click()
        settled(browser, f"{['person', 'nobody', 'skip'].index(name) + 2} of 4")
        # The space bar must not press the button again.
        assert browser.execute_script("return document.activeElement === document.body")
    for key, position in (("z", "3 of 4"), (Keys.BACKSPACE, "2 of 4")):
        press(browser, key)
        settled(browser, position)
    assert text(browser, "facts").startswith("frame 1 at 2.00 s of walk · P(person) 0.50, decided person")
    browser.find_element(By.ID, "back").click()
    settled(browser, "1 of 4")
    assert one.file.counts() == dict.fromkeys(Answer, 0)


def test_with_the_keyboard_alone(browser, many, serve) -> None:
    """The tabulator reaches every button, and the space bar presses the one that has the focus."""
    one = serve(count=4)
    browser.get(one.server.address)
    settled(browser, "1 of 4")
    found = []
    for _ in range(3):
        press(browser, Keys.TAB)
        found.append(browser.switch_to.active_element.get_attribute("id"))
    assert found == ["nobody", "skip", "person"]
    press(browser, " ")
    settled(browser, "2 of 4")
    assert one.file.counts()[Answer.PERSON] == 1
    # Keys with modifiers are the browser's own.
    ActionChains(browser).key_down(Keys.CONTROL).send_keys("p").key_up(Keys.CONTROL).perform()
    settled(browser, "2 of 4")
    assert one.session.state()["done"] == 1


def test_a_key_that_is_held_down_answers_once(browser, many, serve) -> None:
    one = serve(count=4)
    browser.get(one.server.address)
    settled(browser, "1 of 4")
    for repeat in (False, True, True, True):
        event = f"new KeyboardEvent('keydown', {{key: 'p', bubbles: true, repeat: {str(repeat).lower()}}})"
        browser.execute_script(f"document.body.dispatchEvent({event})")
        settled(browser, "2 of 4")
    assert one.session.state()["done"] == 1


def test_two_pages_at_once(browser, many, serve) -> None:
    """The page that is late shows the next window, and changes nothing."""
    one = serve(count=4)
    browser.get(one.server.address)
    settled(browser, "1 of 4")
    one.session.answer(0, Answer.NOBODY)
    content = one.file.path.read_bytes()
    press(browser, "p")
    settled(browser, "2 of 4")
    assert text(browser, "problem") == "This window was answered in another page. That answer stays."
    assert one.file.path.read_bytes() == content
    press(browser, "p")
    settled(browser, "3 of 4")
    assert not browser.find_element(By.ID, "problem").is_displayed()


def test_errors_are_told_and_nothing_is_lost(browser, many, serve) -> None:
    one = serve(count=4)
    browser.get(one.server.address)
    settled(browser, "1 of 4")
    one.file.path.mkdir()
    press(browser, "p")
    WebDriverWait(browser, 20).until(lambda b: text(b, "problem").startswith("the answer could not be stored"))
    settled(browser, "1 of 4")
    one.file.path.rmdir()
    press(browser, "p")
    settled(browser, "2 of 4")
    assert not browser.find_element(By.ID, "problem").is_displayed()
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    press(browser, "p")
    WebDriverWait(browser, 20).until(lambda b: "`explain-cnn review` again to continue" in text(b, "problem"))
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
    one.session.close()
    press(browser, "p")
    WebDriverWait(browser, 20).until(lambda b: text(b, "problem").startswith("the review has ended"))
    assert one.session.state()["done"] == 1


def test_the_box_is_where_the_window_is(browser, many, serve) -> None:
    one = serve(count=1)
    browser.get(one.server.address)
    settled(browser, "1 of 1")
    region = one.queue.windows[0].region
    left, top = max(0, region.x - 48), max(0, region.y - 48)
    right, bottom = min(160, region.x + region.width + 48), min(120, region.y + region.height + 48)
    box, frame = (
        browser.execute_script("return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", name)
        for name in (".box", "#context")
    )
    scale = frame["width"] / (right - left)
    assert frame["height"] / (bottom - top) == pytest.approx(scale, rel=0.01)
    assert (box["x"] - frame["x"]) / scale == pytest.approx(region.x - left, abs=0.5)
    assert (box["y"] - frame["y"]) / scale == pytest.approx(region.y - top, abs=0.5)
    assert box["width"] / scale == pytest.approx(region.width, abs=0.5)
    assert box["height"] / scale == pytest.approx(region.height, abs=0.5)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (800, 1000), (390, 844), (360, 640)])
def test_everything_is_on_the_screen(browser, many, serve, width, height) -> None:
    one = serve(count=2)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(one.server.address)
        settled(browser, "1 of 2")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script("return document.documentElement.scrollHeight") <= height
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('.frame')].map(e => e.getBoundingClientRect().height)"
        )
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
        assert min(sizes) > height / 4
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_readers_who_cannot_see(browser, many, serve) -> None:
    one = serve(count=2)
    browser.get(one.server.address)
    settled(browser, "1 of 2")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert not browser.execute_script("return [...document.images].filter(i => !i.alt).length")
    names = [b.accessible_name for b in browser.find_elements(By.CSS_SELECTOR, "footer button")]
    assert [name.split()[0] for name in names] == ["Nobody", "Skip", "Back", "Person"]
    assert browser.find_element(By.ID, "progress").accessible_name == "1 of 2"
    assert browser.find_element(By.ID, "problem").get_attribute("role") == "alert"


def test_nothing_is_fetched_from_elsewhere(browser, many, serve) -> None:
    one = serve(count=2)
    browser.get_log("performance")
    browser.get(one.server.address)
    settled(browser, "1 of 2")
    sent = [e["message"] for e in browser.get_log("performance") if 'Network.requestWillBeSent"' in e["message"]]
    urls = [part.partition('"')[0] for message in sent for part in message.split('"url":"')[1:2]]
    assert urls
    assert not [url for url in urls if not url.startswith((one.server.address, "data:"))]


class ForeignPage(BaseHTTPRequestHandler):
    """An empty page of another local server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_foreign_page_gets_nothing(browser, many, serve) -> None:
    """A page of another origin that knows the address can neither read the state nor send answers."""
    one = serve(count=2)
    with ThreadingHTTPServer(("127.0.0.1", 0), ForeignPage) as foreign:
        threading.Thread(target=foreign.serve_forever, args=(0.02,), daemon=True).start()
        browser.get(f"http://127.0.0.1:{foreign.server_port}/")
        script = """
            const [url, done] = [arguments[0], arguments[1]];
            const body = '{"window":0,"answer":"person"}';
            const json = {method: "POST", headers: {"Content-Type": "application/json"}, body};
            const plain = {method: "POST", mode: "no-cors", body};
            const picture = new Promise((loaded, failed) =>
                Object.assign(new Image(), {onload: loaded, onerror: failed, src: url + "window/0"}));
            const all = [fetch(url + "state"), fetch(url + "answer", json), fetch(url + "answer", plain), picture];
            Promise.allSettled(all).then(all => done(all.map(r => r.value ? r.value.type : r.status)));"""
        found = browser.execute_async_script(script, one.server.address)
        foreign.shutdown()
    # The third one was sent, and what came back is hidden from the page.
    assert found == ["rejected", "rejected", "opaque", "rejected"]
    assert one.session.state()["done"] == 0
    assert not one.file.path.exists()
    browser.get_log("browser")
