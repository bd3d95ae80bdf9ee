"""Plays a recording into a ROS graph.

    play_bag sample/street --rate 2 --loop --clock

Messages are published byte by byte as they were recorded, with their recorded stamps. Any message type that is
installed on this machine can be played. ROS's own rosbag2 is not needed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Collection, Sequence
from contextlib import ExitStack

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.reader import BagError, BagReader, Message, Topic
from explain_cnn_ros.ros import security
from explain_cnn_ros.ros.playback.arguments import parse_arguments, split_arguments
from explain_cnn_ros.ros.playback.progress import ProgressLine, say
from explain_cnn_ros.ros.playback.publishers import Publishers, latched_depth, playback_qos
from explain_cnn_ros.ros.playback.schedule import Schedule, duration
from explain_cnn_ros.ros.signals import interrupted, start

#: Time to wait for further subscribers after the first ones were discovered, in seconds.
SETTLING = 1.0

#: Time to wait after all subscribers were discovered, in seconds: they may discover the publishers later.
MATCHING = 0.5

#: Maximum time between two rounds of a loop, in seconds.
PAUSE_MAX = 10.0

#: A wait for the next message that is longer than this is announced, in seconds.
ANNOUNCED = 10.0

#: Number of broken messages that are reported one by one; further ones are only counted.
REPORTED = 5

#: Maximum number of problems of a recording that are named if nothing of it can be played.
REASONS = 3


class Player:
    """Publishes the messages of a recording.

    Args:
        bag: The recording.
        publishers: Publishers of its topics.
        rate: Speed: 1 is as recorded; 0 is as fast as reliable subscribers acknowledge.
        begin: Log time of the first message to play, in ns.
        clock: Rate of /clock, in messages per second of wall-clock time; 0 for no clock.
        gap_max: Maximum length of a part without messages, in seconds; longer ones are skipped.
    """

    def __init__(
        self,
        bag: BagReader,
        publishers: Publishers,
        *,
        rate: float = 1.0,
        begin: int = 0,
        clock: float = 0.0,
        gap_max: float = math.inf,
    ) -> None:
        self._bag, self._publishers, self._rate = bag, publishers, rate
        self._begin = max(begin, bag.start)
        self._problems = len(bag.problems)
        self._progress = ProgressLine()
        self._schedule = Schedule(self._begin, rate, clock, gap_max, self._say)

    def wait_for_subscribers(self, seconds: float, names: Collection[str] = ()) -> bool:
        """Wait until all topics have a subscriber, or until no further subscribers join.

        Args:
            seconds: Maximum time to wait.
            names: Recorded names of the topics that must have a subscriber, whether others have one or not; empty for
                any.

        Returns:
            Whether there is a subscriber, or one of each of the named topics.
        """
        deadline = time.monotonic() + seconds
        counts: list[int] = []
        changed = time.monotonic()
        while time.monotonic() < deadline:
            now = self._publishers.subscribers(names)
            if now != counts:
                counts, changed = now, time.monotonic()
            settled = not names and any(counts) and time.monotonic() - changed > SETTLING
            if all(counts) or settled:
                time.sleep(MATCHING)
                return True
            time.sleep(0.02)
        return not names and any(counts)

    def play(self) -> None:
        """Play the recording once."""
        self._publish_latched()
        messages = self._bag.messages(self._publishers.recorded_names, self._begin)
        for stamp, message in self._schedule.events(messages):
            self._wait(stamp)
            if message is None:
                self._publishers.publish_clock(stamp)
            else:
                self._publish(message)
        self._progress.end()
        for problem in self._bag.problems[self._problems :]:
            say(problem)
        self._problems = len(self._bag.problems)

    def pause_between_loops(self) -> None:
        """Wait for the mean time between two messages, so that the last and the first do not coincide."""
        names = self._publishers.recorded_names
        count = sum(topic.count for topic in self._bag.topics if topic.name in names)
        if self._rate:
            played = self._schedule.played
            time.sleep(min(played / (count - 1) / self._rate if played > 0 and count > 1 else 1.0, PAUSE_MAX))

    def end_progress(self) -> None:
        """End the line that shows the progress."""
        self._progress.end()

    def _publish_latched(self) -> None:
        """Publish what latched topics, for instance /tf_static, hold when the first message is played."""
        # The reader notes messages before the start of the recording.
        early = self._begin > self._bag.start or bool(self._bag.notes)
        newest = {key: deque[Message](maxlen=depth) for key, depth in self._publishers.latched.items()}
        if not (early and newest):
            return
        for message in self._bag.messages({name for name, _ in newest}, None, self._begin):
            if (key := (message.topic, message.type)) in newest:
                newest[key].append(message)
        for messages in newest.values():
            for message in messages:
                self._publish(message)

    def _say(self, text: str) -> None:
        self._progress.end()
        say(text)

    def _wait(self, stamp: int) -> None:
        total = (self._bag.end - self._bag.start) / 1e9
        announced = False
        while True:
            left = self._schedule.left(stamp)
            at = stamp / 1e9 - max(left, 0.0) * self._rate - self._bag.start / 1e9
            self._progress.show(at, total, self._publishers.published)
            if left <= 0:
                return
            if left > ANNOUNCED and not announced:
                announced = True
                self._say(f"the next message is due in {duration(left)}")
            time.sleep(min(left, ProgressLine.INTERVAL))

    def _publish(self, message: Message) -> None:
        error = self._publishers.publish(message)
        if error is not None:
            self._report_broken(message, error)
        elif self._rate == 0:
            self._publishers.hold_back(message)

    def _report_broken(self, message: Message, error: Exception) -> None:
        if self._publishers.broken.total() <= REPORTED:
            seconds = (message.stamp - self._bag.start) / 1e9
            size = len(message.data)
            reason = str(error).split(", at /")[0]  # without the position in the source code of rmw
            self._say(f"skipping a broken message of {message.topic} at {seconds:.3f} s, {size} bytes: {reason}")


def choose_topics(bag: BagReader, names: Sequence[str], clock: bool) -> list[Topic]:
    """Return the topics to play.

    Args:
        bag: The recording.
        names: Names of the topics; empty for all.
        clock: Whether the player publishes /clock. The recorded /clock is then left out.

    Raises:
        BagError: The recording has no topic with such a name, or no messages to play.
    """
    path = printable(bag.path)
    problems = "; ".join(bag.problems[:REASONS])
    because = f" ({problems})" if problems else ""
    unknown = sorted(set(names) - {topic.name for topic in bag.topics})
    if unknown:
        have = ", ".join(topic.name for topic in bag.topics) or "no topics"
        raise BagError(f"{path}: no topic {', '.join(unknown)}. It holds {have}.{because}")
    topics = [topic for topic in bag.topics if topic.count and (not names or topic.name in names)]
    if clock and any(topic.name == "/clock" for topic in topics):
        say("skipping the recorded /clock, because --clock publishes one")
        topics = [topic for topic in topics if topic.name != "/clock"]
    if not topics:
        raise BagError(f"{path}: no messages to play.{because}")
    return topics


def require_played(bag: BagReader, topics: Sequence[Topic], names: Sequence[str]) -> None:
    """Check that all topics that are waited for are played.

    Args:
        bag: The recording.
        topics: The topics to play.
        names: Names of the topics that are waited for.

    Raises:
        BagError: One is not played.
    """
    played = {topic.name for topic in topics}
    if others := sorted(set(names) - played):
        raise BagError(
            f"{printable(bag.path)}: --wait-for-topics names {', '.join(others)}, and played are: "
            f"{', '.join(sorted(played))}."
        )


def report_recording(bag: BagReader, topics: Sequence[Topic]) -> None:
    """Print the problems and notes about a recording, and how many of the messages before its start are skipped."""
    before = Counter[tuple[str, str]]()
    if bag.notes:
        earlier = bag.messages({topic.name for topic in topics}, None, bag.start)
        before.update((message.topic, message.type) for message in earlier)
        before.subtract({(topic.name, topic.type): latched_depth(playback_qos(topic)) for topic in topics})
    for text in [*bag.problems, *bag.notes]:
        say(text)
    if skipped := (+before).total():
        say(f"skipping the {skipped} messages with earlier log times")


def first_time(bag: BagReader, offset: float) -> int:
    """Return the log time of the first message to play, in ns.

    Args:
        bag: The recording.
        offset: Number of seconds of the recording to skip.

    Raises:
        BagError: The recording is not longer than that.
    """
    seconds = (bag.end - bag.start) / 1e9
    if offset > seconds:
        raise BagError(f"{printable(bag.path)}: --start-offset is beyond the end; the recording lasts {seconds:.1f} s.")
    return bag.start + round(offset * 1e9)


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
    context = Context()
    try:
        with BagReader(options.bag) as bag, ExitStack() as cleanup:
            topics = choose_topics(bag, options.topics, bool(options.clock))
            require_played(bag, topics, options.wait_for_topics)
            report_recording(bag, topics)
            begin = first_time(bag, options.start_offset)
            try:
                rclpy.init(args=for_ros, context=context)
            except Exception as error:  # rclpy's C++ part raises several kinds
                if failure := security.failure(error):
                    say(failure)
                    return 1
                cause = "the arguments after --ros-args are not valid" if for_ros else "ROS cannot be initialised"
                say(f"{cause}: {error}")
                return 2 if for_ros else 1
            node = Node("play_bag", context=context, start_parameter_services=False)
            cleanup.callback(node.destroy_node)
            publishers = Publishers(node, topics, remap=dict(options.remap), clock=bool(options.clock), report=say)
            if not publishers.names:
                raise BagError(f"{printable(bag.path)}: nothing to play, because no type of its messages is installed.")
            player = Player(
                bag,
                publishers,
                rate=options.rate,
                begin=begin,
                clock=options.clock,
                gap_max=options.skip_gaps or math.inf,
            )
            run(player, publishers, options)
    except (BagError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopped")
    except RuntimeError:
        # An interruption in a conversion of rclpy becomes one.
        if not interrupted():
            raise
        say("stopped")
    finally:
        context.try_shutdown()
    return 0


def run(player: Player, publishers: Publishers, options: argparse.Namespace) -> None:
    """Wait for subscribers, play once or in a loop, and print a summary.

    Args:
        player: The player.
        publishers: Its publishers.
        options: Arguments of the command.
    """
    try:
        seconds, awaited = options.wait_for_subscribers, options.wait_for_topics
        if seconds and not player.wait_for_subscribers(seconds, awaited):
            missed = f"not all of {', '.join(awaited)} had a subscriber" if awaited else "nobody subscribed"
            say(f"{missed} within {seconds:g} s; playing without subscribers")
        time.sleep(options.delay)
        say(f"playing {', '.join(publishers.names)}")
        player.play()
        while options.loop:
            player.pause_between_loops()
            player.play()
        publishers.finish()
    finally:
        player.end_progress()
        broken = f", {publishers.broken.total()} broken ones skipped" if publishers.broken else ""
        say(f"{publishers.published} messages published{broken}")


if __name__ == "__main__":
    sys.exit(start("explain_cnn_ros.ros.player"))
