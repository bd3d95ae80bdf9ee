"""Shows live in the terminal what a node does.

    ros2 run explain_cnn_ros status [--node /explain_node] [--once]

The screen shows the state, rates, latencies, dropped frames, P(person) and the last explanation, and problems with
their remedies. Ctrl-C ends it. If the output is not a terminal, the screens are printed one below the other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from explain_cnn_ros import msg
from explain_cnn_ros.draw.captions import decision_text, probability_text, target_probability
from explain_cnn_ros.files import visible
from explain_cnn_ros.ros.playback.arguments import split_arguments
from explain_cnn_ros.ros.signals import start
from explain_cnn_ros.ros.spinning import created, until_stopped

#: Period of the screens, and time without a report after which the node counts as gone, in seconds.
PERIOD, GONE = 0.5, 5.0

#: The values of each part of a report that are shown, in order.
SHOWN = {
    "images": ("topic", "reliability", "age at arrival, median (ms)", "lost on the way (%)", "rejected"),
    "classification": (
        "state",
        "dropped, since a newer frame came",
        "median from arrival to decision (ms)",
        "95 % from arrival to decision (ms)",
        "failed",
    ),
    "explanations": (
        "waiting",
        "refused, since too many waited",
        "seconds, median",
        "live, age at publication, median (ms)",
    ),
    "device": ("architecture", "model", "threads", "resident memory (MiB)", "GPU memory in use (MiB)"),
}

CLEAR, BOLD, YELLOW, RED, PLAIN = "\x1b[H\x1b[2J", "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
#: Colour and sign of each level. The sign is for users who do not see the colour.
LEVELS = {DiagnosticStatus.OK: ("", " "), DiagnosticStatus.WARN: (YELLOW, "!"), DiagnosticStatus.ERROR: (RED, "X")}


class Watcher(Node):
    """Subscribes to the topics of one node.

    Args:
        watched: Name of the node, with its namespace.

    Attributes:
        watched: Name of the node, with its namespace.
        report: The newest statuses of the node on /diagnostics.
        heard: Time at which they arrived, by `time.monotonic`.
        classification: The newest decision; None before the first.
        explanation: The newest explanation; None before the first.
        model: Description of the network; None before it arrives.
    """

    def __init__(self, watched: str) -> None:
        super().__init__("explain_status", start_parameter_services=False)  # it has no parameters
        self.watched = watched
        self.report: list[DiagnosticStatus] = []
        self.heard = 0.0
        self.classification: msg.Classification | None = None
        self.explanation: msg.Explanation | None = None
        self.model: msg.ModelInfo | None = None
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        self.create_subscription(msg.Classification, f"{watched}/classification", self._on_classification, 1)
        self.create_subscription(msg.Explanation, f"{watched}/explanation", self._on_explanation, 1)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(msg.ModelInfo, f"{watched}/model", self._on_model, latched)

    def _on_report(self, array: DiagnosticArray) -> None:
        mine = [status for status in array.status if status.name.startswith(f"{self.watched}: ")]
        if mine:
            self.report, self.heard = mine, time.monotonic()

    def _on_classification(self, message: msg.Classification) -> None:
        self.classification = message

    def _on_explanation(self, message: msg.Explanation) -> None:
        self.explanation = message

    def _on_model(self, message: msg.ModelInfo) -> None:
        self.model = message

    @property
    def summary(self) -> list[str]:
        """The last explanation in words, by the last report; empty before the first."""
        values = {item.key: item.value for status in self.report for item in status.values}
        words = values.get("last", "-")
        return [] if words == "-" else words.split("; ")

    @property
    def alive(self) -> bool:
        """Whether the node has reported recently."""
        return bool(self.report) and time.monotonic() - self.heard < GONE


def screen(watcher: Watcher, colour: bool) -> list[str]:
    """Return the lines of a screen. They are not cut, because a remedy is at the end of its line.

    Args:
        watcher: The data to show.
        colour: Whether the lines contain colours.
    """

    def paint(text: str, code: str) -> str:
        return f"{code}{visible(text)}{PLAIN}" if colour and code else visible(text)

    lines = [paint(f"{watcher.watched}  {time.strftime('%H:%M:%S')}", BOLD)]
    if not watcher.alive:
        said = "has stopped reporting" if watcher.report else "does not report"
        lines.append(
            paint(f"! the node {said} on /diagnostics: check that it is running, its name, and ROS_DOMAIN_ID", RED)
        )
    for status in watcher.report:
        part = status.name.rpartition(": ")[2]
        code, sign = LEVELS.get(status.level, (RED, "X"))
        lines.append(paint(f"{sign} {part:<15} {status.message}", code))
        values = {item.key: item.value for item in status.values}
        shown = [f"{key} {values[key]}" for key in SHOWN.get(part, ()) if values.get(key, "-") != "-"]
        if shown:
            lines.append(f"{'':<18}" + visible(", ".join(shown)))
    if watcher.classification is not None:
        c = watcher.classification
        lines.append(
            f"  {'decision':<15} {'person' if c.person else 'no person'} {bar(c.probability)} "
            + decision_text(c.probability, c.threshold)
            + (", low confidence" if c.low_confidence else "")
        )
    explained = [] if watcher.explanation is None else explanation_lines(watcher.explanation)
    for i, line in enumerate([*explained, *watcher.summary]):
        lines.append(f"  {'' if i else 'explanation':<15} {visible(line)}")
    return lines


def bar(probability: float, length: int = 20) -> str:
    """Draw a probability as a bar of characters."""
    full = round(probability * length)
    return f"[{'#' * full}{'.' * (length - full)}]"


def explanation_lines(explanation: msg.Explanation) -> list[str]:
    """Summarise an explanation in a few lines."""
    seconds = sum(timing.seconds for timing in explanation.timings)
    unstable = sum(ranking.unstable for ranking in explanation.rankings)
    perturbed = sum(ranking.stability == ranking.stability for ranking in explanation.rankings)
    lines = [
        f"stamp {explanation.header.stamp.sec}.{explanation.header.stamp.nanosec:09d}, {explanation.trigger}, "
        f"{target_probability(explanation.target or 'person')} {probability_text(explanation.region.probability)}, "
        f"n = {explanation.perturbations}, {seconds:.2f} s",
    ]
    if perturbed:
        lines.append(f"unstable rankings {unstable} of {perturbed}, set similarity {explanation.set_similarity:.2f}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 with --once if the node does not report or has a problem, and 0 otherwise."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="status", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--node", default="/explain_node", help="full name of the node [%(default)s]")
    parser.add_argument(
        "--once", action="store_true", help="print one screen; the exit status is 0 if there is no problem"
    )
    options = parser.parse_args(split_arguments(arguments)[0])
    watcher = created("status", lambda: Watcher("/" + options.node.strip("/")), arguments)
    if watcher is None:
        return 1
    status = 0

    def work() -> None:
        nonlocal status
        status = watch(watcher, options.once)

    try:
        until_stopped(work)
    finally:
        watcher.destroy_node()
        rclpy.try_shutdown()
    return status


def watch(watcher: Watcher, once: bool) -> int:
    """Print screens until the process is stopped, or one screen.

    Args:
        watcher: The data to show.
        once: Whether to print only one screen, as soon as the node has reported, or after GONE seconds.

    Returns:
        0 if the node has reported and has no problem, and 1 otherwise.
    """
    terminal = sys.stdout.isatty()
    end = time.monotonic() + GONE
    while True:
        until = time.monotonic() + PERIOD
        while (left := until - time.monotonic()) > 0:
            rclpy.spin_once(watcher, timeout_sec=left)
        if once and not watcher.alive and time.monotonic() < end:
            continue
        lines = screen(watcher, terminal)
        print((CLEAR if terminal and not once else "") + "\n".join(lines), flush=True)
        if once:
            return 0 if watcher.alive and all(s.level == DiagnosticStatus.OK for s in watcher.report) else 1


if __name__ == "__main__":
    sys.exit(start("explain_cnn_ros.ros.status"))
