"""Simulates a day of frames in this process, without a network or a graph.

2,592,000 frames (30 per second for a day) pass through the node's source, statistics and diagnostics in minutes, by a
simulated clock. As in a real day, the camera pauses and restarts, stamps jitter and jump, frames are rejected,
decisions and explanations are counted, and a report is made every second. Resident memory, the sizes of containers and
the number of allocated objects are measured 24 times, and must not grow.

Ctrl-C ends the day with the verdict until then.
"""

from __future__ import annotations

import contextlib
import gc
import json
import random
import statistics as stats
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image

from explain_cnn_ros import msg
from explain_cnn_ros.bags.detection_types import OWN
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.ros import source as source_module
from explain_cnn_ros.ros.detections import DetectionSource
from explain_cnn_ros.ros.diagnostics import REJECTED, report, resident_memory
from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import RAW, Announcer, clock
from explain_cnn_ros.ros.requests import ExplainRequest, RequestQueue
from explain_cnn_ros.ros.source import ImageSource
from explain_cnn_ros.ros.statistics import Statistics
from explain_cnn_ros.scan.tracks import Tracker
from tools.soak_verdict import Finding

#: Frames per second, and frames of a day.
RATE = 30
FRAMES = 24 * 3600 * RATE

#: Number of measurements.
MEASUREMENTS = 24

#: Minimum number of measurements for a verdict, if the day was interrupted.
MEASUREMENTS_MIN = 6

#: Maximum growth from the first third of the measurements to the last one: of the number of objects that Python has
#: allocated, and of resident memory in MB. One object per second would be 86,400 objects in a day; the containers with
#: the values of the last 10 seconds vary by some hundred.
OBJECTS_MAX, MEMORY_MAX = 2000, 5.0

#: Every how many frames one is decided, one of the decided is rejected, and one is explained.
DECIDED, REJECTED_EVERY, EXPLAINED_EVERY = 4, 250, 150

#: Every how many frames a calibration arrives.
CALIBRATED = 3

#: Reasons of the rejections.
REASONS = ("encoding", "step", "truncated", "zero_size")

#: Time at which the day begins, in seconds since 1970.
BEGIN = 1_800_000_000.0


class SimulatedTime:
    """A clock that is turned by hand. It stands for the steady clock and for the node's clock.

    Attributes:
        now_seconds: The time, in seconds since 1970.
        ros_time_is_active: As of a node's clock.
    """

    ros_time_is_active = False

    def __init__(self) -> None:
        self.now_seconds = BEGIN

    def __call__(self) -> float:
        return self.now_seconds

    def now(self) -> Time:
        """Return the time as of a node's clock."""
        return Time(nanoseconds=round(self.now_seconds * 1e9))


class SimulatedNode:
    """A node as the source sees it, with cameras that come and go.

    Args:
        time: The clock.

    Attributes:
        publishers: The publishers by topic.
        subscribed: Number of subscriptions at present.
        subscriptions: Number of subscriptions until now.
        messages: Number of log messages.
    """

    def __init__(self, time: SimulatedTime) -> None:
        self._time = time
        self.publishers: dict[str, list[Any]] = {}
        self.subscribed = self.subscriptions = self.messages = 0

    def get_clock(self) -> SimulatedTime:
        return self._time

    def create_subscription(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> Any:
        self.subscribed += 1
        self.subscriptions += 1
        return SimpleNamespace(topic_name=f"/{topic}", callback=callback)

    def destroy_subscription(self, subscription: Any) -> None:
        self.subscribed -= 1

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name}"

    def get_fully_qualified_name(self) -> str:
        return "/explain_node"

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return self.publishers.get(topic, [])

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [("/image", [RAW]), ("/detections", [OWN])]

    def count_publishers(self, topic: str) -> int:
        return len(self.publishers.get(topic, []))

    def get_logger(self) -> Any:
        return SimpleNamespace(info=self.log, warning=self.log)

    def log(self, text: str) -> None:
        """Count a log message."""
        self.messages += 1


def publisher(kind: str, reliability: ReliabilityPolicy) -> Any:
    """Return the endpoint of a publisher.

    Args:
        kind: Type of its messages.
        reliability: Its reliability.
    """
    profile = SimpleNamespace(reliability=reliability, durability=DurabilityPolicy.VOLATILE)
    return SimpleNamespace(node_name="camera", topic_type=kind, qos_profile=profile)


@dataclass(frozen=True)
class Measurement:
    """The contents of the memory at one moment of the day.

    Attributes:
        frames: Number of frames until then.
        objects: Number of objects that Python has allocated.
        elements: Number of elements in all containers of the simulated parts.
        memory: Resident memory, in MB.
    """

    frames: int
    objects: int
    elements: int
    memory: float


@dataclass
class Day:
    """The results of a day.

    Attributes:
        frames: Number of frames; fewer than intended if the day was interrupted.
        seconds: Duration of the simulation.
        counts: Counts of the node's statistics, and of reports and log messages.
        measurements: The measurements.
    """

    frames: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)


def elements(*roots: Any) -> int:
    """Return the number of elements in all containers that are reachable from objects of this package."""
    total, seen, waiting = 0, set(), list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Mapping):
            total += len(item)
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset | deque):
            total += len(item)
            waiting.extend(item)
        elif type(item).__module__.startswith("explain_cnn_ros") and hasattr(item, "__dict__"):
            waiting.extend(vars(item).values())
    return total


class DayOfFrames:
    """The parts of a node that count frames, and what happens to them in a day.

    Args:
        frames: Number of frames.
    """

    def __init__(self, frames: int) -> None:
        self._frames, self._hour = frames, max(1, frames // MEASUREMENTS)
        self._draw = random.Random(0)
        self._time, self._active = SimulatedTime(), True
        self._node = SimulatedNode(self._time)
        reliable = ReliabilityPolicy.RELIABLE
        self._node.publishers = {
            "/image": [publisher(RAW, reliable)],
            "/detections": [publisher(OWN, reliable)],
        }
        self._statistics = Statistics(clock=self._time)
        self._slot: NewestSlot[Any] = NewestSlot()
        self._waits = False  # whether a frame is in the slot
        self._parameters = NodeParameters()
        node: Any = self._node
        self._source = ImageSource(
            node, lambda: self._active, lambda: self._parameters, self._statistics, self._on_image
        )
        self._detections = DetectionSource(
            node, self._source, lambda: self._parameters, lambda image: self._submit(image.message)
        )
        self._detections.matcher._clock = self._time
        self._announcer = Announcer(self._node.log, self._node.log, self._time)
        self._tracker, self._queue = Tracker(), RequestQueue(4)
        self._reports = 0

    def run(self, progress: Callable[[str], object]) -> Day:
        """Pass the frames through; return the results, also if Ctrl-C ends it.

        Args:
            progress: Called with a line of text after each measurement.
        """
        day, begin = Day(), time.perf_counter()
        with self._simulated_clock(), contextlib.suppress(KeyboardInterrupt):
            self._source.reset()
            for number in range(1, self._frames + 1):
                self._happen(number)
                self._receive(number)
                if number % RATE == 0:
                    self._report()
                day.frames = number
                if number % self._hour == 0:
                    day.measurements.append(self._measure(number))
                    measured = day.measurements[-1]
                    progress(
                        f"{number:,} frames ({number / self._frames:.0%}) in {time.perf_counter() - begin:.0f} s: "
                        f"{measured.objects:,} objects, {measured.elements:,} elements, RSS {measured.memory:.1f} MB"
                    )
        day.seconds = time.perf_counter() - begin
        day.counts = self._statistics.counts | {
            **{f"detections {name}": count for name, count in self._detections.matcher.counts.items()},
            "reports": self._reports,
            "log messages": self._node.messages,
            "subscriptions": self._node.subscriptions,
        }
        return day

    @contextlib.contextmanager
    def _simulated_clock(self) -> Iterator[None]:
        # Objects that existed before are not searched for garbage, which would take most of the time of a short day.
        gc.collect()
        gc.freeze()
        with (
            contextlib.ExitStack() as stack,
            mock.patch.object(source_module, "steady_seconds", self._time),
            mock.patch.object(time, "monotonic", self._time),
        ):
            stack.callback(gc.unfreeze)
            yield

    def _happen(self, number: int) -> None:
        """Turn the clock to the next frame. Once per hour, something happens to the camera or to the node."""
        self._time.now_seconds += 1 / RATE
        hour, phase = divmod(number, self._hour)
        if phase == self._hour // 3:  # the camera pauses: silence is reported
            for _ in range(20):
                self._time.now_seconds += 1.0
                self._report()
        if phase == 0:  # in every fourth hour, a detector gives the regions
            regions = "detections" if hour % 4 == 2 else "scan"
            self._parameters = NodeParameters(regions=regions)
        if phase == self._hour // 2:
            if hour % 3 == 0:  # it is started again with another reliability
                other = ReliabilityPolicy.BEST_EFFORT if hour % 2 else ReliabilityPolicy.RELIABLE
                self._node.publishers["/image"] = [publisher(RAW, other)]
            elif hour % 3 == 1:  # the node is deactivated and activated
                self._active = False
                for _ in range(5):
                    self._time.now_seconds += 1.0
                    self._report()
                self._active = True
                self._source.reset()
                self._detections.reset()

    def _receive(self, number: int) -> None:
        """Let one frame arrive, with its calibration; decide and explain some of them."""
        phase = number % self._hour
        stamp = self._time.now_seconds - 0.02 + self._draw.uniform(-0.002, 0.002)
        if phase < self._hour // 60:  # for a minute, the driver sets no stamps
            stamp = 0.0
        elif self._draw.random() < 0.01:  # lost on the way
            return
        image = Image(width=640, height=480, encoding="rgb8")
        header = image.header
        header.stamp = Time(nanoseconds=round(stamp * 1e9)).to_msg()
        header.frame_id = "other camera" if self._draw.random() < 0.001 else "camera"
        if number % CALIBRATED == 0:
            self._source._on_camera_info(CameraInfo(header=header))
        self._source._on_image(image, {"publication_sequence_number": number})
        if self._detections.wanted and self._draw.random() < 0.97:
            boxes = [msg.Detection(x=5.0, y=6.0, width=30.0, height=60.0, label="person", score=0.9)]
            self._detections._on_detections(msg.Detections(header=header, detections=boxes))
        if number % DECIDED == 0 and self._waits and (taken := self._slot.take()) is not None:
            self._waits = False
            self._decide(number // DECIDED, taken)

    def _on_image(self, message: Any) -> None:
        if self._detections.wanted:
            self._detections.add_image(message)
        else:
            self._submit(message)

    def _submit(self, message: Any) -> None:
        self._waits = True
        if self._slot.put(message):
            self._statistics.count("dropped")

    def _decide(self, number: int, image: Any) -> None:
        draw = self._draw
        if number % REJECTED_EVERY == 0:
            self._statistics.add("rejected")
            self._statistics.count(REJECTED + REASONS[number // REJECTED_EVERY % len(REASONS)])
            return
        probability = draw.random()
        regions = [
            Region(draw.randrange(500), draw.randrange(300), 64, 128, probability * draw.random())
            for _ in range(draw.randrange(1, 4))
        ]
        self._tracker.follow(regions, source_module.nanoseconds(image.header))
        self._statistics.add("classified", 0.1 + 0.01 * probability)
        self._statistics.add("latency", 0.12 + 0.01 * probability)
        self._statistics.add("probability", probability)
        self._source.camera_info(image.header)
        if number % EXPLAINED_EVERY == 0:
            for _ in range(6):  # more than may wait
                request = ExplainRequest(image, ExplainSettings(top_n=draw.randrange(1, 9)), None, "service")
                self._statistics.count(f"explanations {self._queue.put(request)}")
            while len(self._queue):
                explained = self._queue.take()
                if explained is not None:
                    explained.done(msg.Explanation())
            self._statistics.add("explained", 1.0 + probability)

    def _report(self) -> None:
        self._source.watch()
        self._detections.watch()
        found = [clock(False, self._time.now().nanoseconds, 0), self._source.calibration_problem()]
        of_images = [*self._source.problems(), *self._detections.problems()]
        problems = [*of_images, *(problem for problem in found if problem is not None)]
        self._announcer.announce(problems)
        state = "active" if self._active else "inactive"
        now, parts = self._time.now(), (self._source, self._detections, self._statistics)
        report("/explain_node", now, state, True, *parts, None, f"at {now}", problems)
        self._reports += 1

    def _measure(self, number: int) -> Measurement:
        gc.collect()
        parts = (
            *(self._source, self._detections, self._statistics, self._announcer),
            *(self._slot, self._tracker, self._queue),
        )
        return Measurement(number, sys.getallocatedblocks(), elements(*parts), resident_memory() / 1e6)


def judge(day: Day) -> list[Finding]:
    """Return the verdict: whether objects, elements of containers, or memory grow.

    Growth is the difference between the medians of the last and of the first third of the measurements. There is no
    verdict if an interrupted day has too few of them.
    """
    if len(day.measurements) < MEASUREMENTS_MIN:
        text = f"{len(day.measurements)} of {MEASUREMENTS} measurements, which is too few"
        return [Finding(name, None, text) for name in ("objects", "elements", "memory in MB")]
    third = len(day.measurements) // 3
    first, last = day.measurements[:third], day.measurements[-third:]
    findings = []
    for name, key, limit in (
        ("objects", "objects", OBJECTS_MAX),
        ("elements", "elements", OBJECTS_MAX),
        ("memory in MB", "memory", MEMORY_MAX),
    ):
        early, late = (stats.median(getattr(measured, key) for measured in part) for part in (first, last))
        text = f"{early:,.1f} in the first third, {late:,.1f} in the last third, {late - early:+,.1f} (limit {limit:g})"
        findings.append(Finding(name, late - early <= limit, text))
    return findings


def simulate(output: Path, frames: int = 0) -> list[Finding]:
    """Simulate a day, print the measurements, and write the figures to soak_day.json; return the verdict.

    Args:
        output: Folder of the file.
        frames: Number of frames; 0 for those of a day.
    """
    frames = frames or FRAMES
    day = DayOfFrames(frames).run(lambda line: print(line, flush=True))
    if day.frames < frames:
        print("interrupted: the verdict is about the frames until now")
    findings = judge(day)
    output.mkdir(parents=True, exist_ok=True)
    verdict = {finding.name: {"passed": finding.passed, "text": finding.text} for finding in findings}
    (output / "soak_day.json").write_text(json.dumps(asdict(day) | {"verdict": verdict}, indent=1) + "\n")
    counts = ", ".join(f"{count} {name}" for name, count in day.counts.items())
    print(f"{day.frames:,} frames in {day.seconds:.0f} s: {counts}")
    return findings
