"""Runs the node for an hour with frames, explanations, odd requests and transitions, and watches what it needs.

    python tools/soak.py [--minutes 60] [--rate 30] [--transport raw] [--output bench_output] [-p NAME:=VALUE ...]
    python tools/soak.py --day

The node and a camera run as processes, in a ROS domain of their own on this machine. The camera sends the sample at a
steady rate. Malformed frames are sent in between. Explanations are requested every few seconds, and so are parameters
and transitions that the node must refuse. Every few minutes, the node is deactivated or cleaned up, and activated
again; in between, live explanations are on for a while.

The command prints a line per minute. It writes the samples of memory, threads, file descriptors and counts to soak.csv,
the figures and the verdict to soak.json, and the node's output to soak_node.log. Ctrl-C ends the soak with the verdict
until then. The exit status is 1 if the node died, did not answer a request, granted a bad one, did not end within 3 s,
or if its memory, threads or file descriptors grow.

With --day, a day's frames (2.6 million) pass through the node's source, statistics and diagnostics in this process
instead, without a network: see tools/soak_day.py.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tools.processes import own_domain, running
from tools.soak_verdict import Finding, Record, Sample, as_json, verdict

ROOT = Path(__file__).resolve().parent.parent

#: Time for the start of the node, and time that an answer is waited for before the next request, in seconds. An answer
#: that comes later counts as well. On a busy machine, the explanations that wait take minutes.
START_MAX, ANSWER_MAX = 120.0, 300.0

#: Maximum share of the run that is taken for the warm-up, and its maximum duration in seconds. The memory of an
#: active node rises for about 20 minutes, until each thread has used as much as it needs at most.
WARM_UP_SHARE, WARM_UP_MAX = 1 / 3, 1200.0

#: Minimum time from a cleanup until the node has returned its memory to the system, in seconds.
SETTLE = 3.0

#: Number of explanations that are requested at once from time to time, and after how many requests.
BURST, BURST_EVERY = 8, 12

#: Minimum number of good requests of a kind of which one must be granted. The node refuses some while it is inactive.
GOOD_MIN = 3

#: The names of all requests for transitions begin with this. Each of these transitions fits the state of the node, so
#: the node may refuse none of them.
TRANSITION = "transition: "

#: Counts that are taken from the node's report on /diagnostics.
COUNTS = ("received", "classified", "explained", "rejected", "failed")

MB = 1e6


@dataclass(frozen=True)
class Pace:
    """Periods in seconds.

    Attributes:
        sample: Period of the samples.
        explain: Minimum time from one request for an explanation to the next one.
        odd: Minimum time from one odd request to the next one.
        malformed: Time from one odd frame to the next one.
        transition: Time from one sequence of transitions to the next one.
        live: Time for which live explanations are on, after each sequence.
        down: Time that the node spends in each state that is not active.
        line: Period of the printed lines, and of the JSON file.
    """

    sample: float = 5.0
    explain: float = 4.0
    odd: float = 4.0
    malformed: float = 2.0
    transition: float = 150.0
    live: float = 30.0
    down: float = 3.0
    line: float = 60.0

    def faster(self, factor: float) -> Pace:
        """Return the periods divided by a factor."""
        return Pace(**{name: value / factor for name, value in vars(self).items()})


# The node from outside.


def measure(pid: int, seconds: float, counts: dict[str, int]) -> Sample:
    """Read the memory, threads and file descriptors of a process from /proc.

    Args:
        pid: Its process id.
        seconds: Time since the beginning of the soak.
        counts: Counts of the sample.

    Raises:
        OSError: The process has ended.
    """
    folder = Path(f"/proc/{pid}")

    def fields(name: str) -> dict[str, str]:
        return dict(line.split(":", 1) for line in (folder / name).read_text().splitlines() if ":" in line)

    status, rollup = fields("status"), fields("smaps_rollup")

    def megabytes(text: str) -> float:
        return int(text.split()[0]) * 1024 / MB

    return Sample(
        seconds,
        rss=megabytes(status["VmRSS"]),
        pss=megabytes(rollup["Pss"]),
        own=megabytes(status["RssAnon"]) + megabytes(status["RssShmem"]),
        threads=int(status["Threads"]),
        descriptors=sum(1 for _ in (folder / "fd").iterdir()),
        counts=counts,
    )


class Ledger:
    """Counts requests and their answers. All methods may be called from any thread.

    Args:
        clock: Returns the time since the beginning of the soak, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._waiting: dict[int, tuple[str, float]] = {}
        self._numbers = itertools.count()
        self._good: set[str] = set()
        self._asked: Counter[str] = Counter()
        self._granted: Counter[str] = Counter()
        self._mistakes: list[str] = []
        self.answered = 0

    @property
    def asked(self) -> int:
        """Number of requests."""
        with self._lock:
            return sum(self._asked.values())

    def ask(self, kind: str, good: bool | None) -> int:
        """Note a request; return its number."""
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = (kind, self._clock())
            self._asked[kind] += 1
            if good:
                self._good.add(kind)
            return number

    def answer(self, number: int, good: bool | None, granted: bool, text: str = "") -> None:
        """Note the answer to a request.

        Args:
            number: Number of the request.
            good: Whether the request should be granted; None if either is right.
            granted: Whether it was granted.
            text: The response, for the description of a mistake.
        """
        with self._lock:
            kind, _ = self._waiting.pop(number)
            self.answered += 1
            self._granted[kind] += granted
            if good is False and granted:
                self._mistakes.append(f"{kind} was granted at {self._clock():.0f} s {text}".rstrip())
            if good and not granted and kind.startswith(TRANSITION):
                self._mistakes.append(f"{kind} was refused at {self._clock():.0f} s {text}".rstrip())

    def write_to(self, record: Record) -> None:
        """Write the state to a record."""
        with self._lock:
            record.asked, record.accepted = dict(self._asked), dict(self._granted)
            record.unanswered = list(self._waiting.values())
            record.mistakes = list(self._mistakes)
            record.never_accepted = sorted(
                kind for kind in self._good if self._asked[kind] >= GOOD_MIN and not self._granted[kind]
            )


class Partner:
    """The node's partner in the graph: it calls services, sends odd frames, and receives results and reports.

    Args:
        ledger: Ledger of the requests.
        transport: Transport of the images: "raw" or "compressed".
    """

    def __init__(self, ledger: Ledger, transport: str) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions
        from sensor_msgs.msg import CompressedImage, Image

        from explain_cnn_ros.msg import Classification, Explanation, Live
        from tools import soak_requests

        self._ledger = ledger
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._shut_down = rclpy.try_shutdown
        self._node = rclpy.create_node("soak")
        services = soak_requests.SERVICES
        self._clients = {
            name: self._node.create_client(kind, f"/explain_node/{name}") for name, kind in services.items()
        }
        self._granted = soak_requests.granted
        raw = transport == "raw"
        self._frames = self._node.create_publisher(
            Image if raw else CompressedImage, "/image" if raw else "/image/compressed", 10
        )
        self.counts: dict[str, int] = {}
        self.state = ""
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        # Results are computed and drawn only if somebody receives them.
        self.received: Counter[str] = Counter()
        results = {"classification": Classification, "explanation": Explanation, "live": Live, "overlay": Image}
        for name, kind in results.items():
            topic = f"/explain_node/{name}"
            self._node.create_subscription(kind, topic, lambda _, name=name: self.received.update([name]), 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._spinning = threading.Thread(target=self._executor.spin, daemon=True)
        self._spinning.start()

    def _on_report(self, report: Any) -> None:
        values = {item.key: item.value for status in report.status for item in status.values}
        self.counts = {name: int(values[name]) for name in COUNTS if name in values}
        self.state = values.get("state", "")

    def wait_for_services(self, seconds: float) -> bool:
        """Wait until all services are available; return whether they are."""
        end = time.monotonic() + seconds
        return all(client.wait_for_service(max(0.0, end - time.monotonic())) for client in self._clients.values())

    def call(self, *asks: Any, over: threading.Event) -> list[Any]:
        """Send requests at once and wait for their answers.

        Args:
            *asks: The requests.
            over: Set when the node has ended, and no answers can come.

        Returns:
            The responses; None for requests that were not answered in time.
        """
        waiting = [self._send(ask) for ask in asks]
        end, responses = time.monotonic() + ANSWER_MAX, []
        for done, answer in waiting:
            while not done.wait(0.1) and time.monotonic() < end and not over.is_set():
                pass
            responses.append(answer.result() if answer.done() else None)
        return responses

    def _send(self, ask: Any) -> tuple[threading.Event, Any]:
        number, done = self._ledger.ask(ask.kind, ask.good), threading.Event()

        def on_answer(answer: Any) -> None:
            response = answer.result()
            granted = self._granted(response)
            text = str(response)[:200] if ask.good is False and granted else ""
            self._ledger.answer(number, ask.good, granted, text)
            done.set()

        answer = self._clients[ask.service].call_async(ask.request)
        answer.add_done_callback(on_answer)
        return done, answer

    def send(self, message: Any) -> None:
        """Send a frame with the stamp of now."""
        message.header.stamp, message.header.frame_id = self._node.get_clock().now().to_msg(), "camera"
        self._frames.publish(message)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._spinning.join(10)
        self._node.destroy_node()
        self._shut_down()


# These functions disturb the node. Each of them runs in a thread of its own until the soak ends.


class Actors:
    """Sends requests and frames to the node, in threads.

    Args:
        partner: The partner in the graph.
        frame: A frame with persons, uint8 [H, W, 3] RGB.
        transport: Transport of the images: "raw" or "compressed".
        pace: The periods.
        at_rest: Called when the node has been cleaned up for a while.
    """

    def __init__(self, partner: Partner, frame: Any, transport: str, pace: Pace, at_rest: Callable[[], None]) -> None:
        self._partner, self._frame, self._transport, self._pace = partner, frame, transport, pace
        self._at_rest = at_rest
        self._end, self.over = threading.Event(), threading.Event()
        # Held while the node is not active, so that the only transitions then are those of the cycle.
        self._life = threading.Lock()
        self.sent: Counter[str] = Counter()
        self.cycles = 0
        self.failures: list[str] = []
        actions = (self._explain, self._ask, self._send_frames, self._cycle)
        self._threads = [threading.Thread(target=self._act, args=(action,), daemon=True) for action in actions]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, ledger: Ledger) -> None:
        """End the threads, and wait for the answers that are missing.

        Args:
            ledger: Ledger of the requests.
        """
        self._end.set()
        for thread in self._threads:
            thread.join()
        end = time.monotonic() + ANSWER_MAX
        while ledger.asked > ledger.answered and time.monotonic() < end and not self.over.is_set():
            time.sleep(0.1)

    def _act(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.failures.append(f"{action.__name__}: {type(error).__name__}: {error}")

    def _call(self, *asks: Any) -> list[Any]:
        return self._partner.call(*asks, over=self.over)

    def _every(self, period: float) -> Iterator[int]:
        """Yield numbers, one per period at most, until the end."""
        for number in itertools.count():
            begin = time.monotonic()
            yield number
            if self._end.wait(max(0.0, begin + period - time.monotonic())):
                return

    def _explain(self) -> None:
        from tools.soak_requests import burst, explanations

        asks = itertools.cycle(explanations(self._frame))
        for number in self._every(self._pace.explain):
            if number % BURST_EVERY == BURST_EVERY - 1:
                self._call(*burst(BURST))
            else:
                self._call(next(asks))

    def _ask(self) -> None:
        from tools.soak_requests import odd_requests

        asks = itertools.cycle(odd_requests())
        for _ in self._every(self._pace.odd):
            ask = next(asks)
            with self._life if ask.service == "change_state" else contextlib.nullcontext():
                self._call(ask)
                if ask.undo is not None:
                    self._call(ask.undo)

    def _send_frames(self) -> None:
        from tools.soak_requests import compressed_frames, raw_frames

        frames: dict[str, Any] = dict((raw_frames if self._transport == "raw" else compressed_frames)(self._frame))
        names = itertools.cycle(frames)
        for _ in self._every(self._pace.malformed):
            name = next(names)
            self._partner.send(frames[name])
            self.sent[name] += 1

    def _cycle(self) -> None:
        from tools.soak_requests import CLEANUP, CYCLES, set_parameters, string, transition

        def pause(seconds: float) -> bool:
            return self._end.wait(seconds)

        sequences = itertools.cycle(CYCLES)
        while not pause(self._pace.transition - self._pace.live):
            with self._life:
                for number in next(sequences):
                    self._call(transition(number))
                    # The last transition activates the node, also if the soak ends meanwhile.
                    if not pause(max(self._pace.down, SETTLE if number == CLEANUP else 0.0)) and number == CLEANUP:
                        self._at_rest()
            self.cycles += 1
            self._call(set_parameters("live", True, string("live", "influence")))
            pause(self._pace.live)
            self._call(set_parameters("not live", True, string("live", "none")))


# The soak.


class Output:
    """The files of a soak. Everything is written at once, so that an interruption loses nothing.

    Args:
        folder: Their folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.json, self.log = folder / "soak.json", folder / "soak_node.log"
        self._file: IO[str] = (folder / "soak.csv").open("w", newline="", buffering=1)
        self._writer: Any = None

    def write(self, sample: Sample) -> None:
        """Write a sample to the CSV file."""
        row: dict[str, Any] = {key: value for key, value in vars(sample).items() if key != "counts"} | sample.counts
        row = {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, row, restval=0)
            self._writer.writeheader()
        self._writer.writerow(row)

    def write_figures(self, figures: dict[str, Any]) -> None:
        """Write the JSON file. It is replaced as a whole."""
        partial = self.json.with_suffix(".partial")
        partial.write_text(json.dumps(figures, indent=1) + "\n")
        partial.replace(self.json)

    def close(self) -> None:
        """Close the files."""
        self._file.close()


def environment(domain: int) -> dict[str, str]:
    """Return the environment of the processes: a domain of their own on this machine, and the Fast DDS profile."""
    own = {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_PYTHON_CHECK_FIELDS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    profile = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config/fastdds.xml")}
    return profile | dict(os.environ) | own


def warm_up(seconds: float) -> float:
    """Return the time at the beginning of a run that the verdict leaves out, in seconds."""
    return min(WARM_UP_MAX, WARM_UP_SHARE * seconds)


def wait_until_ready(partner: Partner, node: subprocess.Popen[str]) -> None:
    """Wait until the node answers and is active.

    Raises:
        RuntimeError: It does not within START_MAX, or it has ended.
    """
    end = time.monotonic() + START_MAX
    while not partner.wait_for_services(1.0) or partner.state != "active":
        if node.poll() is not None:
            raise RuntimeError(f"the node ended at its start with status {node.poll()}: its log has the reason")
        if time.monotonic() > end:
            raise RuntimeError(f"the node was not active within {START_MAX:.0f} s: its log may have the reason")
        time.sleep(0.2)
    # A server drops answers to clients that it has not discovered yet.
    time.sleep(2.0)


class Soak:
    """One run.

    Args:
        arguments: The arguments of the command.
        domain: The ROS domain.
    """

    def __init__(self, arguments: argparse.Namespace, domain: int) -> None:
        self._arguments = arguments
        self._environment = environment(domain)
        os.environ.update(self._environment)
        self._seconds = 60.0 * arguments.minutes
        self._pace = Pace().faster(arguments.pace)
        self._record = Record(warm_up=warm_up(self._seconds))
        self._begin = time.monotonic()
        self._ledger = Ledger(self._now)
        self._output = Output(arguments.output)

    def _now(self) -> float:
        return time.monotonic() - self._begin

    def run(self) -> list[Finding]:
        """Run the soak until its end or until it is interrupted; return the verdict."""
        from tools.camera import pictures

        arguments = self._arguments
        flags = [part for value in arguments.parameters for part in ("-p", value)]
        flags += ["-p", f"image_transport:={arguments.transport}"]
        width, height = map(int, arguments.size.split("x"))
        frame = pictures(width, height, arguments.zoom)[0]
        camera = [
            sys.executable,
            str(ROOT / "tools/camera.py"),
            "--size",
            arguments.size,
            "--rate",
            str(arguments.rate),
        ]
        camera += ["--zoom", str(arguments.zoom), "--seconds", str(self._seconds + 2 * ANSWER_MAX)]
        camera += ["--topic", "/image/compressed", "--jpeg"] if arguments.transport == "compressed" else []
        # Ctrl-C in a terminal concerns this process only.
        options: dict[str, Any] = {"env": self._environment, "start_new_session": True}
        partner = Partner(self._ledger, arguments.transport)
        actors = Actors(partner, frame, arguments.transport, self._pace, lambda: self._sample_at_rest(node))
        with (
            contextlib.closing(partner),
            contextlib.closing(self._output),
            self._output.log.open("w") as log,
            running("explain_node", "--ros-args", *flags, stdout=log, stderr=subprocess.STDOUT, **options) as node,
        ):
            wait_until_ready(partner, node)
            with running(*camera, stdout=subprocess.DEVNULL, **options) as sender:
                self._begin = time.monotonic()
                actors.start()
                try:
                    self._watch(node, partner, actors)
                except KeyboardInterrupt:
                    print("interrupted: the verdict is about the time until now", flush=True)
                if node.poll() is not None:
                    self._record.died, self._record.status = True, node.poll()
                    actors.over.set()
                if sender.poll() is not None:
                    actors.failures.append(f"the camera ended with status {sender.poll()} before the soak")
                with contextlib.suppress(KeyboardInterrupt):
                    actors.stop(self._ledger)
                self._ledger.write_to(self._record)
                self._record.mistakes += actors.failures
                self._end(node)
            self._record.tracebacks = self._output.log.read_text(errors="replace").count("Traceback")
            return self._report(actors)

    def _watch(self, node: subprocess.Popen[str], partner: Partner, actors: Actors) -> None:
        """Take samples until the time is over or the node has ended."""
        next_line = self._pace.line
        while self._now() < self._seconds and node.poll() is None:
            self._sample(node, partner)
            if self._now() >= next_line:
                next_line += self._pace.line
                self._print_line(partner)
                self._ledger.write_to(self._record)
                self._report(actors)
            time.sleep(min(self._pace.sample, max(0.0, self._seconds - self._now())))
        if node.poll() is None:
            self._sample(node, partner)

    def _sample(self, node: subprocess.Popen[str], partner: Partner) -> None:
        counts = {name: partner.counts.get(name, 0) for name in COUNTS}
        counts |= {"live": partner.received["live"], "asked": self._ledger.asked, "answered": self._ledger.answered}
        with contextlib.suppress(OSError, KeyError):  # the node has ended
            sample = measure(node.pid, self._now(), counts)
            self._record.samples.append(sample)
            self._output.write(sample)

    def _sample_at_rest(self, node: subprocess.Popen[str]) -> None:
        with contextlib.suppress(OSError, KeyError):  # the node has ended
            self._record.rest.append(measure(node.pid, self._now(), {}))

    def _print_line(self, partner: Partner) -> None:
        sample = self._record.samples[-1]
        counts = ", ".join(f"{count} {name}" for name, count in sample.counts.items())
        print(
            f"{sample.seconds / 60:5.1f} min: RSS {sample.rss:.0f} MB, PSS {sample.pss:.0f} MB, own {sample.own:.0f} "
            f"MB, {sample.threads} threads, {sample.descriptors} descriptors; {partner.state}; {counts}",
            flush=True,
        )

    def _end(self, node: subprocess.Popen[str]) -> None:
        if node.poll() is not None:
            return
        begin = time.monotonic()
        node.send_signal(signal.SIGINT)
        try:
            self._record.status = node.wait(30)
        except subprocess.TimeoutExpired:
            node.kill()
            self._record.status = node.wait()
        self._record.end_seconds = time.monotonic() - begin

    def _report(self, actors: Actors) -> list[Finding]:
        findings = verdict(self._record)
        run = {name: str(value) for name, value in vars(self._arguments).items()}
        frames = {"cycles of transitions": actors.cycles, "odd frames sent": dict(actors.sent)}
        self._output.write_figures({"arguments": run} | as_json(self._record, findings) | frames)
        return findings


def print_verdict(findings: Sequence[Finding]) -> int:
    """Print a verdict; return the exit status."""
    words = {True: "passed", False: "FAILED", None: "unknown"}
    for finding in findings:
        print(f"{words[finding.passed]:<8}{finding.name}: {finding.text}")
    return 1 if any(finding.passed is False for finding in findings) else 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=_positive, default=60.0, help="duration [%(default)s]")
    parser.add_argument("--rate", type=_positive, default=30.0, help="frames per second [%(default)s]")
    parser.add_argument("--size", default="640x480", help="size of the frames [%(default)s]")
    parser.add_argument(
        "--zoom", type=float, default=2.5, help="factor by which the sample is enlarged; 0: noise [%(default)s]"
    )
    parser.add_argument(
        "--transport", choices=("raw", "compressed"), default="raw", help="transport of the frames [%(default)s]"
    )
    parser.add_argument(
        "--pace",
        type=_positive,
        default=1.0,
        help="factor by which requests, odd frames, transitions, samples and lines follow faster [%(default)s]",
    )
    parser.add_argument(
        "-p",
        "--parameter",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="parameter of the node",
    )
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    parser.add_argument("--day", action="store_true", help="simulate a day's frames in this process instead")
    parser.add_argument("--frames", type=int, default=0, help="with --day: number of frames [a day's, 2,592,000]")
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def main() -> int:
    """Run the command."""
    from explain_cnn_ros.ros.signals import interrupt_on_signals

    arguments = parse()
    # Also in the background, where a shell lets commands ignore Ctrl-C.
    interrupt_on_signals()
    if arguments.day:
        from tools.soak_day import simulate

        return print_verdict(simulate(arguments.output, arguments.frames))
    try:
        with own_domain() as domain:
            return print_verdict(Soak(arguments, domain).run())
    except RuntimeError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("soak: interrupted before the node was active", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
