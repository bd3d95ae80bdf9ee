"""The worker with its real threads and a small network, without a graph. Events order what happens, not time."""

from __future__ import annotations

import dataclasses
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.explain.live import GAP, LiveExplainer, LiveExplanation
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros.images import to_compressed
from explain_cnn_ros.ros.messages import explanation_message
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.requests import ClassifiedFrame, ExplainRequest
from explain_cnn_ros.ros.worker import CLOSING, Worker, WorkerCallbacks, WorkerThreads
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider
from explain_cnn_ros.scan.detections import DetectedBox, person_windows
from explain_cnn_ros.scan.scanning import ScanSettings

#: Seconds that anything may take on a machine that is busy with other things. Waits end as soon as it happens.
PATIENCE = 100

QUICK = ExplainSettings(perturbations=4, layers=(5, 8))
ENDLESS = ExplainSettings(perturbations=100_000, layers=(5, 8))


class Classifier(PersonClassifier):
    """The thin network. Each call of it waits at a gate, and says so."""

    def __init__(self, thin: PersonClassifier) -> None:
        super().__init__(thin.network, thin.info, "cpu")
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.broken = False

    def probability(self, windows: Any) -> Any:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        if self.broken:
            raise RuntimeError("out of memory")
        return super().probability(windows)

    def hold(self) -> None:
        """Let the next call wait."""
        self.entered.clear()
        self.gate.clear()


class Bench:
    """A worker, its callbacks, and the parameters that it sees."""

    def __init__(self, classifier: PersonClassifier, threads: WorkerThreads) -> None:
        self.parameters = NodeParameters(
            regions="whole", device="cpu", explain=QUICK, confidence_threshold=0.0, explain_queue=2
        )
        self.classified: queue.Queue[ClassifiedFrame] = queue.Queue()
        self.rejected: queue.Queue[Exception] = queue.Queue()
        self.refused: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.failed: queue.Queue[str] = queue.Queue()
        self.explained: list[tuple[Any, ClassifiedFrame, str]] = []
        self.live: queue.Queue[tuple[LiveExplanation, ClassifiedFrame]] = queue.Queue()
        self.live_gate = threading.Event()
        self.live_gate.set()
        #: Set when the thread of live explanations reads the parameters.
        self.live_reads = threading.Event()
        self.wanted = True
        self.classifier = classifier
        callbacks = WorkerCallbacks(
            lambda frame, waited: self.classified.put(frame),
            self.on_explained,
            self.on_live,
            self.rejected.put,
            self.refused.put,
            self.failed.put,
        )
        self.worker = Worker(self.current, callbacks, threads, classifier)

    def current(self) -> NodeParameters:
        found = self.parameters
        if threading.current_thread().name.startswith("live"):
            self.live_reads.set()
        return found

    def on_explained(self, explanation: Any, frame: ClassifiedFrame, trigger: str) -> msg.Explanation | None:
        self.explained.append((explanation, frame, trigger))
        return explanation_message(frame.header, explanation, trigger) if self.wanted else None

    def on_live(self, live: LiveExplanation, frame: ClassifiedFrame) -> None:
        self.live.put((live, frame))
        assert self.live_gate.wait(PATIENCE)

    def change(self, **values: Any) -> None:
        self.parameters = dataclasses.replace(self.parameters, **values)

    def classify(self, image: Image) -> ClassifiedFrame:
        self.worker.submit(image)
        return self.classified.get(timeout=PATIENCE)

    def request(self, source: Any, settings: ExplainSettings = QUICK, region: Region | None = None) -> Answer:
        answer = Answer()
        request = ExplainRequest(source, settings, region, "service", [answer.put])
        answer.outcome = self.worker.explain(request)
        return answer


class Answer:
    """The answer to a request."""

    outcome = ""

    def __init__(self) -> None:
        self._results: queue.Queue[tuple[msg.Explanation | None, str]] = queue.Queue()

    def put(self, explanation: msg.Explanation | None, reason: str) -> None:
        self._results.put((explanation, reason))

    def get(self) -> tuple[msg.Explanation | None, str]:
        result = self._results.get(timeout=PATIENCE)
        assert self._results.empty(), "a listener is called once"
        return result


def ended(threads: WorkerThreads) -> bool:
    """Return whether the threads can be ended."""
    closing = threading.Thread(target=threads.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    return not closing.is_alive()


@pytest.fixture
def classifier(thin_classifier: PersonClassifier) -> Classifier:
    return Classifier(thin_classifier)


@pytest.fixture
def bench(classifier: Classifier) -> Iterator[Bench]:
    threads = WorkerThreads()
    bench = Bench(classifier, threads)
    yield bench
    classifier.gate.set()
    bench.live_gate.set()
    if hasattr(bench.worker, "classifier"):  # not closed by the test
        bench.worker.close()
    assert ended(threads)


@pytest.fixture
def image(raw_image: Callable[..., Image], picture: Callable[..., Any]) -> Callable[..., Image]:
    """Make an image message with a stamp."""
    return lambda stamp=7, seed=0: raw_image(picture(60, 90, seed), stamp=stamp)


def test_frames_are_decided_as_by_the_decider(bench: Bench, image: Any, picture: Any) -> None:
    frame = bench.classify(image(stamp=5))
    assert frame.header.stamp.sec == 5
    assert np.array_equal(frame.image, picture(60, 90))
    assert frame.decision == Decider(bench.classifier, bench.parameters).decide(picture(60, 90))
    assert frame.model == bench.classifier.model_hash
    assert frame.seconds > 0
    assert bench.failed.empty() and bench.rejected.empty()


def test_the_newest_frame_wins(bench: Bench, image: Any) -> None:
    bench.classifier.hold()
    assert bench.worker.submit(image(stamp=1)) is False
    assert bench.classifier.entered.wait(PATIENCE)
    # The first frame is in the network. One frame can wait; those before it are dropped.
    assert [bench.worker.submit(image(stamp=stamp)) for stamp in (2, 3, 4)] == [False, True, True]
    bench.classifier.gate.set()
    assert [bench.classified.get(timeout=PATIENCE).header.stamp.sec for _ in range(2)] == [1, 4]
    assert bench.classify(image(stamp=5)).header.stamp.sec == 5, "frames 2 and 3 do not come later"


def test_a_rejected_frame_and_the_next_one(bench: Bench, image: Any) -> None:
    broken = image()
    broken.encoding = "jpeg2000"
    bench.worker.submit(broken)
    assert bench.rejected.get(timeout=PATIENCE).reason == "encoding"
    assert bench.classify(image(stamp=8)).header.stamp.sec == 8
    assert bench.failed.empty()


class TestDetections:
    """Images with the boxes of a detector."""

    box = DetectedBox(10, 10, 20, 45)
    outside = DetectedBox(700, 10, 20, 45)

    @pytest.fixture
    def bench(self, bench: Bench) -> Bench:
        bench.change(regions="detections")
        return bench

    def test_the_boxes_are_judged(self, bench: Bench, image: Any, picture: Any) -> None:
        other = DetectedBox(30, 20, 20, 45, "car")
        bench.change(detections_classes="person,")
        bench.worker.submit(image(stamp=5), (dataclasses.replace(self.box, label="person"), other))
        frame = bench.classified.get(timeout=PATIENCE)
        found = person_windows([self.box], bench.classifier.info, (60, 90))
        assert frame.decision == Decider(bench.classifier, bench.parameters).judge(picture(60, 90), found.regions)
        assert [(r.x, r.y, r.width, r.height) for r in frame.decision.regions] == [(5, 2, 30, 60)]
        assert bench.refused.empty()

    def test_the_number_of_boxes_is_bounded(self, bench: Bench, image: Any) -> None:
        bench.change(scan=ScanSettings(candidates_max=2))
        bench.worker.submit(image(), (self.box,) * 5)
        assert len(bench.classified.get(timeout=PATIENCE).decision.regions) == 2

    def test_the_latency_begins_with_the_image(self, bench: Bench, image: Any) -> None:
        waits: queue.Queue[float] = queue.Queue()
        bench.worker._callbacks = dataclasses.replace(
            bench.worker._callbacks, classified=lambda frame, waited: waits.put(waited)
        )
        bench.worker.submit(image(), (self.box,), time.perf_counter() - 100)
        assert 100 <= waits.get(timeout=PATIENCE) < 100 + PATIENCE

    def test_refused_boxes_are_reported_and_the_others_judged(self, bench: Bench, image: Any) -> None:
        bench.worker.submit(image(), (self.outside, self.box))
        assert len(bench.classified.get(timeout=PATIENCE).decision.regions) == 1
        (reason,) = bench.refused.get(timeout=PATIENCE)
        assert "only 0.0% of the box at (700, 10)" in reason

    def test_an_image_without_a_box_that_fits_is_rejected(self, bench: Bench, image: Any) -> None:
        """It is not decided as "no person": the detector has found somebody."""
        bench.worker.submit(image(), (self.outside, self.outside))
        error = bench.rejected.get(timeout=PATIENCE)
        assert error.reason == "boxes"
        assert str(error).startswith("no box of the detector fits the image (2 refused): only 0.0%")
        assert len(bench.refused.get(timeout=PATIENCE)) == 2
        assert bench.classified.empty()

    def test_nobody(self, bench: Bench, image: Any) -> None:
        bench.change(live="influence")
        bench.worker.submit(image(stamp=1), ())
        frame = bench.classified.get(timeout=PATIENCE)
        assert (frame.decision.regions, frame.decision.probability) == ((), 0.0)
        answer = bench.request(frame)
        assert answer.get() == (None, "the detector found nobody in this image: name the region to explain")
        bench.worker.submit(image(stamp=2), (self.box,))
        _, explained = bench.live.get(timeout=PATIENCE)
        assert explained.header.stamp.sec == 2, "there is nothing to explain in the first one"
        assert bench.failed.empty()

    def test_the_parameter_changes_while_an_image_waits(self, bench: Bench, image: Any) -> None:
        bench.worker.submit(image(stamp=1))
        bench.worker.submit(image(stamp=2), (self.box,))
        assert bench.classified.get(timeout=PATIENCE).header.stamp.sec == 2
        bench.change(regions="whole")
        bench.worker.submit(image(stamp=3), (self.box,))
        (region,) = bench.classified.get(timeout=PATIENCE).decision.regions
        assert (region.width, region.height) == (60, 90)
        assert bench.failed.empty() and bench.rejected.empty()

    def test_images_in_requests_need_a_region(self, bench: Bench, image: Any) -> None:
        explanation, reason = bench.request(image()).get()
        assert explanation is None and "there are no detections for an image in a request" in reason
        explanation, reason = bench.request(image(), region=Region(5, 2, 30, 60, math.nan)).get()
        assert explanation is not None, reason
        explanation, reason = bench.request(image(), region=Region(5, 2, 2**31, 2**31, math.nan)).get()
        assert explanation is None and "it must be at least 10%" in reason
        explanation, reason = bench.request(image(), region=Region(900, 2, 2**31, 2**31, math.nan)).get()
        assert explanation is None and "lies outside of the frame" in reason


def test_images_that_declare_too_many_pixels_are_rejected(bench: Bench, picture: Any) -> None:
    header = Header(stamp=Time(sec=9))
    message = to_compressed(picture(120, 100), header)
    bench.parameters = dataclasses.replace(bench.parameters, megapixels_max=0.0119)
    bench.worker.submit(message)
    error = bench.rejected.get(timeout=PATIENCE)
    assert error.reason == "too_large"
    assert "100 x 120 pixels" in str(error) or "120 x 100 pixels" in str(error)
    assert "megapixels_max is 0.0119" in str(error)
    bench.parameters = dataclasses.replace(bench.parameters, megapixels_max=0.012)
    assert bench.classify(message).header == header


def test_a_failing_frame_and_the_next_one(bench: Bench, image: Any) -> None:
    bench.classifier.broken = True
    bench.worker.submit(image())
    assert bench.failed.get(timeout=PATIENCE) == "classification failed: RuntimeError: out of memory"
    bench.classifier.broken = False
    assert bench.classify(image(stamp=8)).header.stamp.sec == 8


def test_a_network_that_fails_while_it_warms_up(classifier: Classifier, image: Any) -> None:
    threads = WorkerThreads()
    classifier.broken = True
    bench = Bench(classifier, threads)
    assert bench.failed.get(timeout=PATIENCE) == "warming up failed: RuntimeError: out of memory"
    classifier.broken = False
    assert bench.classify(image(stamp=8)).header.stamp.sec == 8
    bench.worker.close()
    assert ended(threads)


def test_explanations_of_frames_and_of_messages(bench: Bench, image: Any) -> None:
    frame = bench.classify(image(stamp=3))
    explanation, reason = bench.request(frame).get()
    assert reason == ""
    assert (explanation.header.stamp.sec, explanation.trigger) == (3, "service")
    assert explanation.region.probability == pytest.approx(frame.decision.probability, abs=1e-5)
    explanation, _ = bench.request(image(stamp=4)).get()
    assert explanation.header.stamp.sec == 4
    region = Region(10, 20, 30, 60, 0.0)
    explanation, _ = bench.request(frame, region=region).get()
    assert (explanation.region.x, explanation.region.y, explanation.region.width) == (10, 20, 30)
    assert [shown.header.stamp.sec for _, shown, _ in bench.explained] == [3, 4, 3]


def test_requests_that_fail_get_the_reason(bench: Bench, image: Any) -> None:
    broken = image()
    broken.encoding = "jpeg2000"
    explanation, reason = bench.request(broken).get()
    assert explanation is None
    assert reason.startswith("encoding 'jpeg2000' is unknown")
    # It is not a frame of the camera.
    assert bench.rejected.empty()
    explanation, reason = bench.request(image(), region=Region(5000, 0, 10, 10, 0.0)).get()
    assert explanation is None
    assert reason.startswith("the region at (5000, 0), 10 x 10 pixels, lies outside of the frame of 60 x 90")
    explanation, reason = bench.request(image(), region=Region(50, 80, 100, 100, 0.0)).get()
    assert explanation is None
    assert reason.startswith("only 1.0% of the region at (50, 80), 100 x 100 pixels, lies in the frame of 60 x 90")
    assert bench.request(image()).get()[0] is not None


def test_requests_are_queued_joined_and_refused(bench: Bench, image: Any) -> None:
    bench.classifier.hold()
    running = bench.request(image(stamp=1))
    assert bench.classifier.entered.wait(PATIENCE)
    message = image(stamp=2)
    waiting, other = bench.request(message), bench.request(message, ExplainSettings(perturbations=2, layers=(3,)))
    joined, refused = bench.request(message), bench.request(image(stamp=3))
    answers = (running, waiting, other, joined, refused)
    assert [a.outcome for a in answers] == ["queued", "queued", "queued", "joined", "refused"]
    assert bench.worker.waiting == 2
    bench.classifier.gate.set()
    stamps = [answer.get()[0].header.stamp.sec for answer in (running, waiting, other, joined)]
    assert stamps == [1, 2, 2, 2]
    assert len(bench.explained) == 3
    assert [list(e.settings.layers) for e, _, _ in bench.explained] == [[5, 8], [5, 8], [3]]


def test_frames_are_classified_during_an_explanation(bench: Bench, image: Any) -> None:
    answer = bench.request(bench.classify(image()), ENDLESS)
    for stamp in range(3):
        assert bench.classify(image(stamp=stamp)).header.stamp.sec == stamp
    bench.worker.close()
    assert answer.get() == (None, CLOSING)


def test_pausing_cancels_and_resuming_accepts(bench: Bench, image: Any) -> None:
    frame = bench.classify(image())
    running, waiting = bench.request(frame, ENDLESS), bench.request(frame)
    bench.worker.pause("time for a break")
    assert running.get() == waiting.get() == (None, "time for a break")
    assert bench.request(frame).outcome == "refused"
    bench.worker.resume()
    assert bench.request(frame).get()[0] is not None
    assert len(bench.explained) == 1


def test_an_explanation_that_is_no_longer_wanted(bench: Bench, image: Any) -> None:
    bench.wanted = False
    assert bench.request(image()).get() == (None, "the explanation was cancelled")


def test_closing_cancels_what_runs_and_waits(bench: Bench, image: Any) -> None:
    frame = bench.classify(image())
    running, waiting = bench.request(frame, ENDLESS), bench.request(frame)
    bench.worker.close()
    assert running.get() == waiting.get() == (None, CLOSING)
    assert bench.request(frame).outcome == "refused"
    assert bench.explained == []


def test_the_threshold_in_force_counts_in_decision_and_explanation(bench: Bench, image: Any) -> None:
    own = bench.classifier.threshold
    frame = bench.classify(image())
    assert frame.decision.threshold == own
    p = frame.decision.probability
    for threshold, person in ((p * 0.5, True), (min(p * 1.5, 0.999), False)):
        bench.change(threshold=threshold)
        frame = bench.classify(image())
        assert (frame.decision.threshold, frame.decision.person) == (threshold, person)
        assert bench.request(frame).get()[0].threshold == pytest.approx(threshold)
        assert bench.request(image()).get()[0].threshold == pytest.approx(threshold)
    bench.change(threshold=0.0)
    assert bench.classify(image()).decision.threshold == own
    assert bench.classifier.info.threshold == own, "the description of the weights stays as it is"


def test_other_settings_count_from_the_next_frame(bench: Bench, image: Any) -> None:
    assert not bench.classify(image()).decision.low_confidence
    bench.change(confidence_threshold=1.0)
    assert bench.classify(image()).decision.low_confidence
    bench.change(regions="scan")
    decision = bench.classify(image()).decision
    assert decision == Decider(bench.classifier, bench.parameters).decide(bench.classify(image()).image)


def test_one_worker_after_the_other_in_the_same_threads(thin_classifier: PersonClassifier, image: Any) -> None:
    threads = WorkerThreads()
    names = []
    for stamp in range(2):
        bench = Bench(Classifier(thin_classifier), threads)
        assert bench.classify(image(stamp=stamp)).header.stamp.sec == stamp
        names.append(
            {
                thread.ident
                for thread in threading.enumerate()
                if thread.name.startswith(("classify", "explain", "live"))
            }
        )
        bench.worker.close()
    assert names[0] == names[1]
    assert ended(threads)


def test_decided_frames_are_explained_live_while_that_is_on(bench: Bench, image: Any) -> None:
    """The scores are influences of the image alone, averaged over the frames of the same person."""
    assert not bench.classify(image(stamp=1)).live
    bench.change(live="influence", live_smoothing=3.0, threshold=0.4)
    direct = LiveExplainer(bench.classifier, QUICK, 3.0)
    for count, stamp in enumerate((2, 3, 4), 1):
        decided = bench.classify(image(stamp=stamp, seed=stamp))
        live, frame = bench.live.get(timeout=PATIENCE)
        assert decided.live and frame is decided
        expected = direct.explain(frame.image, frame.decision.region, stamp * 10**9, 1, 0.4)
        assert (live.frames, live.track, live.smoothing, live.shown) == (count, 1, 3.0, expected.shown)
        assert live.explanation.rankings == expected.explanation.rankings
        assert live.explanation.settings.layers == QUICK.layers
        assert live.explanation.threshold == 0.4
    # Other settings begin a new average.
    bench.change(live_smoothing=0.5)
    bench.classify(image(stamp=5))
    assert bench.live.get(timeout=PATIENCE)[0].frames == 1
    bench.change(live="none")
    assert not bench.classify(image(stamp=6)).live
    # A full explanation is computed in the meantime, as it always is.
    assert bench.request(image(stamp=7)).get()[0].settings.perturbations == QUICK.perturbations
    assert bench.live.empty() and bench.failed.empty()


def test_without_stamps_persons_are_forgotten_by_the_time(bench: Bench, image: Any, monkeypatch: Any) -> None:
    times = iter(range(10**10, 10**12, 2 * 10**9))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(times))
    bench.change(live="influence", live_smoothing=3.0)
    tracks = []
    for seed in (1, 2):
        shown = image(stamp=0, seed=seed)
        shown.header.stamp.nanosec = 0
        bench.classify(shown)
        live, frame = bench.live.get(timeout=PATIENCE)
        tracks.append((live.track, live.frames))
        assert frame.header.stamp.sec == 0
    assert tracks == [(1, 1), (2, 1)]


def test_live_the_newest_frame_wins(bench: Bench, image: Any) -> None:
    bench.change(live="influence")
    bench.live_gate.clear()
    bench.classify(image(stamp=1))
    assert bench.live.get(timeout=PATIENCE)[1].header.stamp.sec == 1
    # The thread is busy with the first frame. The others are decided meanwhile.
    for stamp in (2, 3, 4):
        bench.classify(image(stamp=stamp))
    # A decided frame is handed on after its callback; the next frame is classified after that.
    bench.change(live="none")
    bench.classify(image(stamp=5))
    bench.change(live="influence")
    bench.live_gate.set()
    live, frame = bench.live.get(timeout=PATIENCE)
    assert frame.header.stamp.sec == 4
    # The person was followed through the frames that were not explained, which are too many for the average.
    assert (live.track, live.frames) == (1, 1)
    assert GAP < 4 - 1
    assert bench.live.empty()


def let_a_frame_wait(bench: Bench, image: Any) -> None:
    """Let frame 2 wait for its live explanation, while the thread is busy with frame 1."""
    bench.change(live="influence")
    bench.live_gate.clear()
    bench.classify(image(stamp=1))
    bench.live.get(timeout=PATIENCE)
    bench.classify(image(stamp=2))
    bench.change(live="none")
    bench.classify(image(stamp=3))  # frame 2 has been handed on before


def test_pausing_drops_the_frame_that_waits_for_its_live_explanation(bench: Bench, image: Any) -> None:
    let_a_frame_wait(bench, image)
    bench.worker.pause("a break")
    bench.change(live="influence")
    bench.live_gate.set()
    bench.worker.resume()
    bench.classify(image(stamp=4))
    assert bench.live.get(timeout=PATIENCE)[1].header.stamp.sec == 4


def test_switching_off_drops_the_frame_that_waits_for_its_live_explanation(bench: Bench, image: Any) -> None:
    let_a_frame_wait(bench, image)
    bench.live_reads.clear()
    bench.live_gate.set()
    assert bench.live_reads.wait(PATIENCE), "the thread looks whether the frame is still wanted"
    bench.change(live="influence")
    bench.classify(image(stamp=4))
    assert bench.live.get(timeout=PATIENCE)[1].header.stamp.sec == 4


def test_a_live_explanation_that_fails_and_the_next_one(
    bench: Bench, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    bench.change(live="influence")
    with monkeypatch.context() as patched:
        patched.setattr(LiveExplainer, "explain", fail)
        bench.classify(image(stamp=1))
        assert bench.failed.get(timeout=PATIENCE) == "live explanation failed: RuntimeError: out of memory"
    bench.classify(image(stamp=2))
    assert bench.live.get(timeout=PATIENCE)[1].header.stamp.sec == 2


def test_layers_that_the_network_does_not_have_are_an_error_at_the_start(classifier: Classifier) -> None:
    threads = WorkerThreads()
    parameters = NodeParameters(explain=ExplainSettings(layers=(16,)))
    nothing = WorkerCallbacks(*[lambda *_: None] * 6)
    with pytest.raises(ValueError, match=r"layers \[16\] do not exist"):
        Worker(lambda: parameters, nothing, threads, classifier)
    assert ended(threads)


NICE = """
import os, threading
from explain_cnn_ros.ros.worker import _lower_priority
for niceness in (10, 5):
    thread = threading.Thread(target=lambda: (_lower_priority(niceness), print(os.getpriority(os.PRIO_PROCESS, 0))))
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("more", [0, 7, 15])
def test_a_process_with_a_high_niceness_keeps_it(more: int) -> None:
    """Users without privileges may not lower it: the thread would end, and callers would wait forever."""
    started = min(19, os.nice(0) + more)
    command = ["nice", "-n", str(more), sys.executable, "-c", NICE]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(max(10, started)), str(max(5, started))]


def test_a_listener_that_fails_and_the_next_request(bench: Bench, image: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the caller is gone")

    answer = Answer()
    bench.worker.explain(ExplainRequest(image(0), QUICK, None, "service", [broken, answer.put]))
    assert answer.get()[0] is not None
    assert bench.failed.get(timeout=PATIENCE) == "an answer failed: RuntimeError: the caller is gone"
    assert bench.request(image(1)).get()[0] is not None


def test_interrupted_while_it_warms_up(classifier: Classifier) -> None:
    """Ctrl-C reaches the main thread, which waits, while the network is at work in the other one."""
    threads = WorkerThreads()
    classifier.hold()

    def interrupt() -> None:
        assert classifier.entered.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def on_interrupt(*_: Any) -> None:
        classifier.gate.set()
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGINT, on_interrupt)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            Bench(classifier, threads)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert ended(threads), "no thread is left that cannot be ended"
