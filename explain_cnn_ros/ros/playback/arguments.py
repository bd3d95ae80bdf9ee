"""Arguments of the player."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

#: Default rate of --clock, in messages per second of wall-clock time, and its maximum.
CLOCK_RATE, CLOCK_RATE_MAX = 40.0, 10_000.0

#: Maximum of all numbers, among them durations in seconds: 30 years.
NUMBER_MAX = 1e9

#: Default of --skip-gaps, in seconds.
GAP_MAX = 3600.0


def number(text: str) -> float:
    """Parse a number from 0 to NUMBER_MAX, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= NUMBER_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to {NUMBER_MAX:g}")
    return value


def frequency(text: str) -> float:
    """Parse a rate of messages, for argparse."""
    value = number(text)
    if not 0 < value <= CLOCK_RATE_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {CLOCK_RATE_MAX:.0f}")
    return value


def remapping(text: str) -> tuple[str, str]:
    """Parse FROM:=TO, for argparse."""
    old, separator, new = text.partition(":=")
    if not (old and separator and new):
        raise argparse.ArgumentTypeError(f"{text} is not of the form /from:=/to")
    return old, new


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments into those of a command and those of ROS.

    Arguments of ROS begin at `--ros-args` and end with `--`, or at the end. rclpy's remove_ros_args cannot be used,
    because it also removes the FROM:=TO of `play_bag --remap`, and raises an error if an argument of ROS is wrong.
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
        type=number,
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
        type=number,
        metavar="S",
    )
    parser.add_argument(
        "--skip-gaps",
        default=GAP_MAX,
        help="skip parts without messages that are longer than this many seconds; 0: skip none [%(default).0f]",
        type=number,
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
        "-d", "--delay", default=0.0, help="seconds to wait before the first message", type=number, metavar="S"
    )
    parser.add_argument(
        "--wait-for-subscribers",
        default=0.0,
        help="wait for subscribers, at most this many seconds",
        type=number,
        metavar="S",
    )
    parser.add_argument(
        "--wait-for-topics",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="with --wait-for-subscribers, wait until all of these topics have a subscriber",
    )
    options = parser.parse_args(argv)
    if options.wait_for_topics and not options.wait_for_subscribers:
        parser.error("--wait-for-topics needs --wait-for-subscribers, the maximum number of seconds")
    return options
