"""How fast the node decides, and what is left of that while it explains.

    python bench/node.py [--seconds 10] [--output DIR]

The real node, fed raw images of 640 x 480 at 30 Hz from another process, over DDS with the profile that ships. Beside
it, in the same run: the bare network on one window, by itself; and in a node that does nothing else with the same
images. Latency is from the image's stamp, when it was sent, to the decision's arrival in a third process; first and
tenth are the node's own times for these frames. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config/fastdds.xml"))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))


@dataclass(frozen=True)
class Case:
    """What is measured.

    zoom: how large the camera shows the sample; 0 for noise.
    """

    name: str
    command: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    explain: bool = False
    zoom: float = 2.5


BARE = (sys.executable, str(ROOT / "bench/bare_node.py"))
NODE = ("explain_node", "--ros-args", "-p", "confidence_threshold:=0.0")
SCAN = {"regions": "scan", "scan.person_height_min": 160}

CASES = (
    Case("a node with the bare network", BARE),
    Case("whole", NODE, {"regions": "whole"}),
    Case("whole, while explaining", NODE, {"regions": "whole"}, explain=True),
    Case("scan from 160 px", NODE, SCAN),
    Case("scan from 160 px, while explaining", NODE, SCAN, explain=True),
)


def bare_network(count: int = 100) -> float:
    """Median seconds of the network alone, on one window, in a process that does nothing else."""
    code = (
        "import numpy as np, time, statistics, torch\n"
        "from explain_cnn_ros.classifier import PersonClassifier\n"
        "c = PersonClassifier.load()\n"
        "x = c.normalise(c.to_pixels(np.zeros((1, 128, 64, 3), np.uint8)))\n"
        "times = []\n"
        "with torch.inference_mode():\n"
        f"    for _ in range({count}):\n"
        "        start = time.perf_counter(); c.network(x); times.append(time.perf_counter() - start)\n"
        "print(statistics.median(times[10:]))\n"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended at the end."""
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


class Listener:
    """Notes when decisions arrive, and keeps explanations coming if asked to."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.qos import QoSProfile
        from std_msgs.msg import Header

        from explain_cnn_ros.msg import Classification
        from explain_cnn_ros.srv import Explain

        self._rclpy = rclpy
        rclpy.init()
        self._node = rclpy.create_node("listener")
        qos = QoSProfile(depth=50)
        self._node.create_subscription(Classification, "/explain_node/classification", self._on_decision, qos)
        self._node.create_subscription(Header, "/bare_node/done", self._on_done, qos)
        self._client = self._node.create_client(Explain, "/explain_node/explain")
        self._request = Explain.Request
        self._answer: Any = None
        self.latencies: list[float] = []
        self.decisions: list[float] = []
        self.explained = 0

    def _on_decision(self, message: Any) -> None:
        self._on_done(message.header)
        self.decisions.append(message.inference_seconds)

    def _on_done(self, header: Any) -> None:
        stamp = header.stamp.sec + header.stamp.nanosec / 1e9
        self.latencies.append(self._node.get_clock().now().nanoseconds / 1e9 - stamp)

    def listen(self, camera: subprocess.Popen[str], explain: bool) -> None:
        """Until the camera has sent everything."""
        self.latencies, self.decisions, self.explained = [], [], 0
        while camera.poll() is None:
            self._rclpy.spin_once(self._node, timeout_sec=0.05)
            if explain and self.latencies and (self._answer is None or self._answer.done()):
                self.explained += self._answer is not None
                self._answer = self._client.call_async(self._request())
        self._answer = None

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.try_shutdown()


def measure(case: Case, listener: Listener, seconds: float) -> dict[str, Any]:
    """One row of the table."""
    flags = [part for key, value in case.parameters.items() for part in ("-p", f"{key}:={value}")]
    camera_command = [
        sys.executable,
        str(ROOT / "tools/camera.py"),
        "--seconds",
        str(seconds),
        "--zoom",
        str(case.zoom),
    ]
    # The camera waits for the node.
    with running(*case.command, *flags), running(*camera_command) as camera:
        listener.listen(camera, case.explain)
        sent = int(camera.stdout.read()) if camera.stdout else 0
    ordered = sorted(listener.latencies)
    return {
        "case": case.name,
        "sent": sent,
        "decided": len(ordered),
        "decisions_per_second": len(ordered) / seconds,
        "first_decision": listener.decisions[0] if listener.decisions else None,
        "tenth_decision": listener.decisions[9] if len(listener.decisions) > 9 else None,
        "latency_median": statistics.median(ordered),
        "latency_95": ordered[int(0.95 * (len(ordered) - 1))],
        "decision_median": statistics.median(listener.decisions) if listener.decisions else None,
        "explanations_per_second": listener.explained / seconds,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    network = bare_network()
    listener = Listener()
    print(f"the bare network by itself takes {1e3 * network:.1f} ms a window")
    columns = ("decisions/s", "latency ms", "95 %", "decision ms", "first", "tenth", "explained/s")
    print(f"{'':<36}" + "".join(f"{column:>12}" for column in columns))
    rows = []
    try:
        for case in CASES:
            row = measure(case, listener, arguments.seconds)
            rows.append(row)
            names = ("latency_median", "latency_95", "decision_median", "first_decision", "tenth_decision")
            print(
                f"{case.name:<36}{row['decisions_per_second']:>12.1f}"
                + "".join(f"{1e3 * row[name]:>12.1f}" if row[name] else f"{'-':>12}" for name in names)
                + f"{row['explanations_per_second']:>12.2f}",
                flush=True,
            )
    finally:
        listener.close()
    ours = rows[1]["latency_median"] - rows[0]["latency_median"]
    print(f"our share of a frame, beside the node with the bare network: {1e3 * ours:.1f} ms")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "node.json"
    path.write_text(json.dumps({"network_seconds": network, "our_share_seconds": ours, "rows": rows}, indent=1) + "\n")
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
