"""Plays a recording into a ROS graph.

    play_bag sample/street --rate 2 --loop --clock

Messages are published byte by byte as they were recorded, with their recorded stamps. Any message type that is
installed on this machine can be played. ROS's own rosbag2 is not needed.
"""

from __future__ import annotations

import argparse
import importlib
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock

from explain_cnn_ros.bags.reader import BagError, BagReader, Message, Topic

#: Number of messages that a publisher stores for slow subscribers, or for late ones on latched topics.
DEPTH = 10
LATCHED_DEPTH = 100

#: Default rate of --clock, in messages per second of wall-clock time.
CLOCK_RATE = 40.0

#: Time to wait for further subscribers after the first ones were discovered, in seconds.
SETTLING = 1.0

#: Time to wait after all subscribers were discovered, in seconds: they may discover the publishers later.
MATCHING = 0.5

#: Maximum time to wait for acknowledgements, in seconds. Fast DDS needs milliseconds if the publisher's queue is full,
#: and up to the 3 s between two heartbeats if it is not.
ACKNOWLEDGE = 10.0

#: Number of broken messages that are reported one by one; further ones are only counted.
REPORTED = 5


def say(text: str) -> None:
    """Print to stderr, because ROS logs to stdout."""
    print(f"play_bag: {text}", file=sys.stderr, flush=True)


class ProgressLine:
    """A line on the terminal that shows the progress. It shows nothing if stderr is not a terminal."""

    INTERVAL = 0.5  # seconds

    def __init__(self) -> None:
        self._shown = -math.inf
        self._terminal = sys.stderr.isatty()

    def show(self, seconds: float, total: float, published: int) -> None:
        """Show the position and the duration of the recording in seconds, at most every INTERVAL seconds."""
        now = time.monotonic()
        if self._terminal and now - self._shown >= self.INTERVAL:
            self._shown = now
            print(
                f"\r{seconds:8.1f} of {total:.1f} s, {published} messages ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        """End the line."""
        if self._shown > -math.inf:
            print(file=sys.stderr, flush=True)


class Pace:
    """Maps log times to a monotonic clock.

    All times are relative to the start, so that delays do not add up.

    Args:
        start: Log time, in ns, that corresponds to the current time.
        rate: Speed: 1 is as recorded; 0 never waits.
    """

    def __init__(self, start: int, rate: float) -> None:
        self._start = start
        self._rate = rate
        self._began = time.monotonic()

    def left(self, stamp: int) -> float:
        """Return the time until log time `stamp` (ns), in seconds; negative if it has passed."""
        if self._rate == 0:
            return 0.0
        return self._began + (stamp - self._start) / 1e9 / self._rate - time.monotonic()


class Player:
    """Publishes the messages of a recording.

    Args:
        node: The node that publishes.
        bag: The recording.
        topics: The topics to play. A topic whose type is not installed is skipped.
        remap: Names to publish under, by recorded name.
        rate: Speed: 1 is as recorded; 0 is as fast as reliable subscribers acknowledge.
        start: Log time of the first message to play, in ns.
        clock: Rate of /clock, in messages per second of wall-clock time; 0 for no clock.

    Attributes:
        publishers: Publishers by recorded name and type.
        published: Number of published messages.
        broken: Number of broken messages, which were skipped, by recorded name.
    """

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        topics: Sequence[Topic],
        *,
        remap: dict[str, str],
        rate: float = 1.0,
        start: int = 0,
        clock: float = 0.0,
    ) -> None:
        self._bag = bag
        self._rate = rate
        self._start = max(start, bag.start)
        self._types: dict[tuple[str, str], Any] = {}
        self.publishers: dict[tuple[str, str], Publisher] = {}
        self.published = 0
        self.broken: Counter[str] = Counter()
        self._unacknowledged: Counter[str] = Counter()
        self._progress = ProgressLine()
        for name in remap.keys() - {topic.name for topic in topics}:
            say(f"nothing to remap: {name} is not played")
        for topic in topics:
            key = topic.name, topic.type
            try:
                self._types[key] = message_class(topic.type)
                name = remap.get(topic.name, topic.name)
                self.publishers[key] = node.create_publisher(self._types[key], name, playback_qos(topic))
            except Exception as error:  # the package is missing or incomplete, or ROS refuses the name
                say(f"skipping {topic.name} ({topic.count} messages): {error}")
        self._clock = node.create_publisher(Clock, "/clock", DEPTH) if clock else None
        # The step is in log time. The rate is that of wall-clock time, at any speed.
        self._clock_step = round(1e9 * (rate or 1.0) / clock) if clock else 0

    def wait_for_subscribers(self, seconds: float) -> bool:
        """Wait until all topics have a subscriber, or until no further subscribers join.

        Args:
            seconds: Maximum time to wait.

        Returns:
            Whether there is a subscriber.
        """
        deadline = time.monotonic() + seconds
        counts: list[int] = []
        changed = time.monotonic()
        while time.monotonic() < deadline:
            now = [publisher.get_subscription_count() for publisher in self.publishers.values()]
            if now != counts:
                counts, changed = now, time.monotonic()
            if all(counts) or (any(counts) and time.monotonic() - changed > SETTLING):
                time.sleep(MATCHING)
                return True
            time.sleep(0.02)
        return any(counts)

    def play(self) -> None:
        """Play the recording once."""
        pace = Pace(self._start, self._rate)
        for stamp, message in self._events():
            self._wait(pace, stamp)
            if message is None:
                self._publish_clock(stamp)
            else:
                self._publish(message)

    def pause_between_loops(self) -> None:
        """Wait for the mean time between two messages, so that the last and the first do not coincide."""
        span = (self._bag.end - self._start) / 1e9
        count = sum(topic.count for topic in self._bag.topics if (topic.name, topic.type) in self.publishers)
        if self._rate:
            time.sleep(span / (count - 1) / self._rate if span > 0 and count > 1 else 1.0)

    def finish(self) -> None:
        """Wait until subscribers have received everything: a destroyed publisher repeats no lost message."""
        deadline = time.monotonic() + ACKNOWLEDGE
        for publisher in self.publishers.values():
            left = max(deadline - time.monotonic(), 0.0)
            publisher.wait_for_all_acked(Duration(seconds=left))
        time.sleep(0.2)  # for best-effort subscribers, which do not acknowledge

    def end_progress(self) -> None:
        """End the line that shows the progress."""
        self._progress.end()

    def _events(self) -> Iterator[tuple[int, Message | None]]:
        """Yield the messages with their log times (ns), and None wherever /clock is due."""
        tick = self._start
        names = {name for name, _ in self.publishers}
        for message in self._bag.messages(names, self._start):
            while self._clock_step and tick <= message.stamp:
                yield tick, None
                tick += self._clock_step
            yield message.stamp, message

    def _wait(self, pace: Pace, stamp: int) -> None:
        total = (self._bag.end - self._bag.start) / 1e9
        while True:
            left = pace.left(stamp)
            at = stamp / 1e9 - max(left, 0.0) * self._rate - self._bag.start / 1e9
            self._progress.show(at, total, self.published)
            if left <= 0:
                return
            time.sleep(min(left, ProgressLine.INTERVAL))

    def _publish(self, message: Message) -> None:
        key = message.topic, message.type
        publisher = self.publishers.get(key)
        if publisher is None:
            return
        try:
            # This finds messages that no subscriber could deserialize (0.2 ms per megabyte).
            deserialize_message(message.data, self._types[key])
            publisher.publish(message.data)
        except Exception as error:  # rclpy raises RCLError, RMWError or MemoryError
            self._note_broken(message, error)
            return
        self.published += 1
        if self._rate == 0:
            self._hold_back(message.topic, publisher)

    def _hold_back(self, topic: str, publisher: Publisher) -> None:
        """Wait for acknowledgements at full speed, before the publisher's queue overflows."""
        self._unacknowledged[topic] += 1
        if self._unacknowledged[topic] >= publisher.qos_profile.depth:
            self._unacknowledged[topic] = 0
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE))

    def _publish_clock(self, stamp: int) -> None:
        if self._clock:
            clock = Clock()
            clock.clock.sec, clock.clock.nanosec = divmod(stamp, 10**9)
            self._clock.publish(clock)

    def _note_broken(self, message: Message, error: Exception) -> None:
        self.broken[message.topic] += 1
        if self.broken.total() <= REPORTED:
            seconds = (message.stamp - self._bag.start) / 1e9
            size = len(message.data)
            reason = str(error).split(", at /")[0]  # without the position in the source code of rmw
            say(f"skipping a broken message of {message.topic} at {seconds:.3f} s, {size} bytes: {reason}")


def message_class(name: str) -> Any:
    """Return the class of a message type such as `sensor_msgs/msg/Image`.

    Raises:
        LookupError: The type is not installed.
    """
    package, _, message = name.partition("/")
    kind, _, message = message.rpartition("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind or 'msg'}"), message)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the last two: not the name of a module
        raise LookupError(
            f"the type {name} is not installed. Install ros-jazzy-{package.replace('_', '-')}, "
            f"or source the workspace that holds {package}"
        ) from error


def playback_qos(topic: Topic) -> QoSProfile:
    """Return the QoS for publishing a recorded topic.

    Reliability and durability are the recorded ones. If several publishers differed, the weaker value applies, which
    all of them offered. The depth is the recorded one, if there is one. Deadline, lifespan and liveliness are left out,
    because they describe the timing of the robot and not of the replay.
    """
    offers = topic.qos
    reliable = all(offer.reliability != QosReliability.BEST_EFFORT for offer in offers)
    latched = bool(offers) and all(offer.durability == QosDurability.TRANSIENT_LOCAL for offer in offers)
    depth = max((offer.depth for offer in offers), default=0) or DEPTH
    if latched:  # one publisher replaces several, and stores what all of them latched
        depth = max(depth, min(topic.count, LATCHED_DEPTH))
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def choose_topics(bag: BagReader, names: Sequence[str], clock: bool) -> list[Topic]:
    """Return the topics to play.

    Args:
        bag: The recording.
        names: Names of the topics; empty for all.
        clock: Whether the player publishes /clock. The recorded /clock is then left out.

    Raises:
        BagError: The recording has no topic with such a name, or no messages to play.
    """
    unknown = sorted(set(names) - {topic.name for topic in bag.topics})
    if unknown:
        have = ", ".join(topic.name for topic in bag.topics) or "no topics"
        raise BagError(f"{bag.path}: no topic {', '.join(unknown)}. It holds {have}.")
    topics = [topic for topic in bag.topics if topic.count and (not names or topic.name in names)]
    if clock and any(topic.name == "/clock" for topic in topics):
        say("skipping the recorded /clock, because --clock publishes one")
        topics = [topic for topic in topics if topic.name != "/clock"]
    if not topics:
        raise BagError(f"{bag.path}: no messages to play.")
    return topics


def at_least_zero(text: str) -> float:
    """Parse a number that is at least 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def frequency(text: str) -> float:
    """Parse a number above 0, for argparse."""
    value = at_least_zero(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def remapping(text: str) -> tuple[str, str]:
    """Parse FROM:=TO, for argparse."""
    old, separator, new = text.partition(":=")
    if not (old and separator and new):
        raise argparse.ArgumentTypeError(f"{text} is not of the form /from:=/to")
    return old, new


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into those of this command and those of ROS.

    Arguments of ROS begin at `--ros-args` and end with `--`, or at the end. rclpy's remove_ros_args cannot be used,
    because it also removes the FROM:=TO of this command's `--remap`.
    """
    ours: list[str] = []
    ros: list[str] = []
    for_ros = False
    for argument in argv:
        if argument == "--ros-args":
            for_ros = True
        (ros if for_ros else ours).append(argument)
        if argument == "--":
            for_ros = False
    return ours, ros


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of this command; see `split_arguments`."""
    parser = argparse.ArgumentParser(
        prog="play_bag",
        description="Play a rosbag2 recording (MCAP or sqlite3) into the ROS graph.",
        epilog="Arguments after --ros-args are passed to ROS.",
    )
    parser.add_argument("bag", metavar="BAG", help="rosbag2 directory, or .mcap or .db3 file; before the options")
    parser.add_argument(
        "-r",
        "--rate",
        type=at_least_zero,
        default=1.0,
        help="speed; 0: as fast as reliable subscribers acknowledge",
    )
    parser.add_argument("-l", "--loop", action="store_true", help="start again at the end, until Ctrl-C")
    parser.add_argument("--topics", nargs="+", default=[], metavar="TOPIC", help="play only these topics")
    parser.add_argument(
        "-m",
        "--remap",
        type=remapping,
        nargs="+",
        default=[],
        metavar="FROM:=TO",
        help="publish topics under other names",
    )
    parser.add_argument(
        "--start-offset",
        default=0.0,
        help="skip this many seconds of the recording",
        type=at_least_zero,
        metavar="S",
    )
    parser.add_argument(
        "--clock",
        type=frequency,
        nargs="?",
        const=CLOCK_RATE,
        default=0.0,
        metavar="HZ",
        help=f"publish the log time on /clock, for nodes with use_sim_time [{CLOCK_RATE:.0f} Hz]",
    )
    parser.add_argument(
        "-d", "--delay", default=0.0, help="seconds to wait before the first message", type=at_least_zero, metavar="S"
    )
    parser.add_argument(
        "--wait-for-subscribers",
        default=0.0,
        help="wait for subscribers, at most this many seconds",
        type=at_least_zero,
        metavar="S",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        The exit status: 0 if the recording was played or stopped by Ctrl-C, 1 if it cannot be played, 2 if the
        arguments of ROS are wrong.
    """
    ours, for_ros = split_arguments(sys.argv[1:] if argv is None else argv)
    options = parse_arguments(ours)
    if threading.current_thread() is threading.main_thread():
        # SIGINT is included, because a shell lets commands in the background ignore Ctrl-C.
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, signal.default_int_handler)
    context = Context()
    try:
        with BagReader(options.bag) as bag:
            for problem in bag.problems:
                say(problem)
            known = len(bag.problems)
            topics = choose_topics(bag, options.topics, bool(options.clock))
            start = bag.start + round(options.start_offset * 1e9)
            if start > bag.end:
                seconds = (bag.end - bag.start) / 1e9
                raise BagError(f"{bag.path}: --start-offset is beyond the end; the recording lasts {seconds:.1f} s.")
            try:
                rclpy.init(args=for_ros, context=context)
            except Exception as error:  # rclpy's C++ part raises several kinds
                say(f"the arguments after --ros-args are not valid: {error}")
                return 2
            node = Node("play_bag", context=context, start_parameter_services=False)
            player = Player(
                node,
                bag,
                topics,
                remap=dict(options.remap),
                rate=options.rate,
                start=start,
                clock=options.clock,
            )
            if not player.publishers:
                raise BagError(f"{bag.path}: nothing to play, because no type of its messages is installed.")
            run(player, options)
            for problem in bag.problems[known:]:
                say(problem)
    except BagError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped")
    finally:
        context.try_shutdown()
    return 0


def run(player: Player, options: argparse.Namespace) -> None:
    """Wait for subscribers, play once or in a loop, and print a summary.

    Args:
        player: The player.
        options: Arguments of the command.
    """
    try:
        if options.wait_for_subscribers and not player.wait_for_subscribers(options.wait_for_subscribers):
            say(f"nobody subscribed within {options.wait_for_subscribers:g} s; playing without subscribers")
        time.sleep(options.delay)
        say(f"playing {', '.join(publisher.topic_name for publisher in player.publishers.values())}")
        player.play()
        while options.loop:
            player.pause_between_loops()
            player.play()
        player.finish()
    finally:
        player.end_progress()
        broken = f", {player.broken.total()} broken ones skipped" if player.broken else ""
        say(f"{player.published} messages published{broken}")


if __name__ == "__main__":
    sys.exit(main())
