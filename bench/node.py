"""Measures how fast the node decides and explains, and how many images arrive.

    python bench/node.py [--seconds 10] [--output DIR]

The node receives raw images of 640 x 480 pixels at 30 Hz from another process, over DDS with the profile of this
package. For comparison, the network alone is measured on one window, and in a node that does nothing else with the same
images. The latency is the time from the image's stamp to the arrival of the decision in a third process. The first and
the tenth decision are measured by the node itself. In the rows with live explanations, somebody subscribes to the
overlay; they show how many live explanations arrive, and how long after the image's stamp. A second table shows how
many of the images arrive, for each reliability and image size. The command prints tables and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.processes import running

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config/fastdds.xml"))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))


@dataclass(frozen=True)
class Case:
    """One row of the first table.

    Attributes:
        name: Name of the row.
        command: Command of the node.
        parameters: Parameters of the node.
        explain: Whether explanations are requested one after the other.
        zoom: Factor by which the camera enlarges the sample; 0 for noise.
    """

    name: str
    command: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    explain: bool = False
    zoom: float = 2.5


BARE = (sys.executable, str(ROOT / "bench/bare_node.py"))
NODE = ("explain_node", "--ros-args", "-p", "confidence_threshold:=0.0")
CAMERA = (sys.executable, str(ROOT / "tools/camera.py"))
SCAN = {"regions": "scan", "scan.person_height_min": 160}
LIVE = {"live": "influence"}

#: Image sizes and reliabilities of the second table.
SIZES, RELIABILITIES = ("640x480", "1280x720"), ("reliable", "best_effort")

CASES = (
    Case("a node with the network alone", BARE),
    Case("whole", NODE, {"regions": "whole"}),
    Case("whole, while explaining", NODE, {"regions": "whole"}, explain=True),
    Case("whole, live", NODE, {"regions": "whole"} | LIVE),
    Case("scan from 160 px", NODE, SCAN),
    Case("scan from 160 px, while explaining", NODE, SCAN, explain=True),
    Case("scan from 160 px, live", NODE, SCAN | LIVE),
    Case("scan", NODE, {"regions": "scan"}),
    Case("scan, live", NODE, {"regions": "scan"} | LIVE),
)


def bare_network(count: int = 100) -> float:
    """Return the median duration of the network on one window, in seconds, in a process that does nothing else."""
    code = (
        "import numpy as np, time, statistics, torch\n"
        "from explain_cnn_ros import PersonClassifier\n"
        "c = PersonClassifier.load()\n"
        "x = c.normalise(c.to_pixels(np.zeros((1, 128, 64, 3), np.uint8)))\n"
        "times = []\n"
        "with torch.inference_mode():\n"
        f"    for _ in range({count}):\n"
        "        start = time.perf_counter(); c.network(x); times.append(time.perf_counter() - start)\n"
        "print(statistics.median(times[10:]))\n"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


class Listener:
    """Measures when decisions arrive, and requests explanations.

    Attributes:
        latencies: Time from the stamp to the arrival of each decision, in seconds.
        decisions: Duration of each decision by the node's own measurement, in seconds.
        live: Time from the stamp to the arrival of each live explanation, in seconds.
        explained: Number of explanations.
        received: Number of images that the node has received, by its newest report.
    """

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import Image
        from std_msgs.msg import Header

        from explain_cnn_ros.msg import Classification, Live
        from explain_cnn_ros.srv import Explain

        self._rclpy = rclpy
        rclpy.init()
        self._node = rclpy.create_node("listener")
        qos = QoSProfile(depth=50)
        self._node.create_subscription(Classification, "/explain_node/classification", self._on_decision, qos)
        self._node.create_subscription(Live, "/explain_node/live", self._on_live, qos)
        self._node.create_subscription(Header, "/bare_node/done", self._on_done, qos)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, qos)
        self._client = self._node.create_client(Explain, "/explain_node/explain")
        self._request = Explain.Request
        self._image = Image
        self._answer: Any = None
        self.latencies: list[float] = []
        self.decisions: list[float] = []
        self.live: list[float] = []
        self.explained = self.received = 0

    def _on_report(self, report: Any) -> None:
        values = {item.key: item.value for status in report.status for item in status.values}
        self.received = int(values["received"])

    def _on_decision(self, message: Any) -> None:
        self._on_done(message.header)
        self.decisions.append(message.inference_seconds)

    def _on_live(self, message: Any) -> None:
        self.live.append(self._age(message.header))

    def _on_done(self, header: Any) -> None:
        self.latencies.append(self._age(header))

    def _age(self, header: Any) -> float:
        stamp: float = header.stamp.sec + header.stamp.nanosec / 1e9
        return float(self._node.get_clock().now().nanoseconds / 1e9 - stamp)

    def listen(self, camera: subprocess.Popen[str], explain: bool, overlay: bool = False) -> None:
        """Listen until the camera has sent all images.

        Args:
            camera: The process of the camera.
            explain: Whether explanations are requested one after the other.
            overlay: Whether the overlay is received as well. It is drawn only if somebody subscribes to it.
        """
        subscription = None
        if overlay:
            subscription = self._node.create_subscription(self._image, "/explain_node/overlay", lambda _: None, 1)
        self.latencies, self.decisions, self.live, self.explained, self.received = [], [], [], 0, 0
        while camera.poll() is None:
            self._rclpy.spin_once(self._node, timeout_sec=0.05)
            if explain and self.latencies and (self._answer is None or self._answer.done()):
                self.explained += self._answer is not None
                self._answer = self._client.call_async(self._request())
        self._answer = None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def wait_for_report(self) -> None:
        """Wait for a report that was made after this call."""
        # A report is made once per second. The first one may have been on its way.
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            self._rclpy.spin_once(self._node, timeout_sec=0.05)

    def close(self) -> None:
        """End the node."""
        self._node.destroy_node()
        self._rclpy.try_shutdown()


def measure(case: Case, listener: Listener, seconds: float) -> dict[str, Any]:
    """Measure one row of the first table."""
    flags = [part for key, value in case.parameters.items() for part in ("-p", f"{key}:={value}")]
    # The camera waits for the node.
    with (
        running(*case.command, *flags),
        running(*CAMERA, "--seconds", str(seconds), "--zoom", str(case.zoom)) as camera,
    ):
        listener.listen(camera, case.explain, overlay="live" in case.parameters)
        sent = int(camera.stdout.read()) if camera.stdout else 0
    ordered, live = sorted(listener.latencies), sorted(listener.live)
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
        "live_per_second": len(live) / seconds,
        "live_latency_median": statistics.median(live) if live else None,
        "live_latency_95": live[int(0.95 * (len(live) - 1))] if live else None,
    }


def arrivals(size: str, reliability: str, listener: Listener, seconds: float) -> dict[str, Any]:
    """Measure one row of the second table: how many images of a size arrive in the node."""
    flags = ["--best-effort"] if reliability == "best_effort" else []
    with running(*NODE), running(*CAMERA, "--seconds", str(seconds), "--size", size, *flags) as camera:
        listener.listen(camera, explain=False)
        listener.wait_for_report()
        sent = int(camera.stdout.read()) if camera.stdout else 0
    return {"size": size, "reliability": reliability, "sent": sent, "received": listener.received}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each row [%(default)s]")
    parser.add_argument(
        "--output", type=Path, default=Path("bench_output"), help="folder of the JSON file [%(default)s]"
    )
    arguments = parser.parse_args()
    network = bare_network()
    listener = Listener()
    print(f"the network alone takes {1e3 * network:.1f} ms for a window")
    columns = (
        "decisions/s",
        "latency ms",
        "95 %",
        "decision ms",
        "first",
        "tenth",
        "explained/s",
        "live/s",
        "live ms",
        "95 %",
    )
    print(f"{'':<36}" + "".join(f"{column:>12}" for column in columns))
    rows, transport = [], []
    try:
        for case in CASES:
            row = measure(case, listener, arguments.seconds)
            rows.append(row)
            names = ("latency_median", "latency_95", "decision_median", "first_decision", "tenth_decision")
            print(
                f"{case.name:<36}{row['decisions_per_second']:>12.1f}"
                + "".join(f"{1e3 * row[name]:>12.1f}" if row[name] else f"{'-':>12}" for name in names)
                + f"{row['explanations_per_second']:>12.2f}{row['live_per_second']:>12.2f}"
                + "".join(
                    f"{1e3 * row[name]:>12.1f}" if row[name] else f"{'-':>12}"
                    for name in ("live_latency_median", "live_latency_95")
                ),
                flush=True,
            )
        print(f"\n{'':<36}{'sent':>12}{'received':>12}")
        for reliability in RELIABILITIES:
            for size in SIZES:
                row = arrivals(size, reliability, listener, arguments.seconds)
                transport.append(row)
                print(f"{f'{reliability}, {size}':<36}{row['sent']:>12}{row['received']:>12}", flush=True)
    finally:
        listener.close()
    ratio = rows[1]["latency_median"] / rows[0]["latency_median"]
    print(f"with whole, the latency is {ratio:.2f} times that of a node with the network alone (PyTorch, float32)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "node.json"
    figures = {"network_seconds": network, "latency_ratio": ratio, "rows": rows, "transport": transport}
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
