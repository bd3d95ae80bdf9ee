"""How fast the node decides, and what is left of that while it explains.

    python bench/node.py [--seconds 10] [--output DIR]

The real node, fed raw images of 640 x 480 at 30 Hz from another process, over DDS with the profile that ships. Beside
it, in the same run: the bare network on one window, by itself. Latency is from the image's stamp, when it was sent, to
the decision's arrival in a third process. Prints a table and writes JSON.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(ROOT / "config/fastdds.xml"))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))


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

        from explain_cnn_ros.msg import Classification
        from explain_cnn_ros.srv import Explain

        self._rclpy = rclpy
        rclpy.init()
        self._node = rclpy.create_node("listener")
        self._node.create_subscription(
            Classification, "/explain_node/classification", self._on_decision, QoSProfile(depth=50)
        )
        self._client = self._node.create_client(Explain, "/explain_node/explain")
        self._request = Explain.Request
        self._answer: Any = None
        self.latencies: list[float] = []
        self.decisions: list[float] = []
        self.explained = 0

    def _on_decision(self, message: Any) -> None:
        stamp = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        self.latencies.append(self._node.get_clock().now().nanoseconds / 1e9 - stamp)
        self.decisions.append(message.inference_seconds)

    def listen(self, camera: subprocess.Popen[str], explain: bool) -> None:
        """Until the camera has sent everything."""
        self.latencies, self.decisions, self.explained = [], [], 0
        while camera.poll() is None:
            self._rclpy.spin_once(self._node, timeout_sec=0.05)
            if explain and self.latencies and (self._answer is None or self._answer.done()):
                self.explained += self._answer is not None
                self._answer = self._client.call_async(self._request())

    def wait(self) -> None:
        """Until the node is there."""
        if not self._client.wait_for_service(120):
            raise RuntimeError("the node did not come up")

    def close(self) -> None:
        self._node.destroy_node()
        self._rclpy.try_shutdown()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("bench_output"), help="folder [%(default)s]")
    arguments = parser.parse_args()
    network = bare_network()
    listener = Listener()
    print(f"the bare network takes {1e3 * network:.1f} ms a window")
    print(f"{'mode':<24} {'decisions/s':>11} {'latency ms':>10} {'95 %':>6} {'decision ms':>11} {'explained/s':>11}")
    cases = (
        ("whole", {"regions": "whole"}, False),
        ("whole, while explaining", {"regions": "whole"}, True),
        ("scan from 160 px", {"regions": "scan", "scan.person_height_min": 160}, False),
    )
    rows = []
    try:
        for name, parameters, explain in cases:
            flags = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
            with running("explain_node", "--ros-args", "-p", "confidence_threshold:=0.0", *flags):
                listener.wait()
                camera_command = [sys.executable, str(ROOT / "tools/camera.py"), "--seconds", str(arguments.seconds)]
                with running(*camera_command) as camera:
                    listener.listen(camera, explain)
                    sent = int(camera.stdout.read()) if camera.stdout else 0
            ordered = sorted(listener.latencies)
            row = {
                "mode": name,
                "sent": sent,
                "decided": len(ordered),
                "decisions_per_second": len(ordered) / arguments.seconds,
                "latency_median": statistics.median(ordered),
                "latency_95": ordered[int(0.95 * (len(ordered) - 1))],
                "decision_median": statistics.median(listener.decisions),
                "explanations_per_second": listener.explained / arguments.seconds,
            }
            rows.append(row)
            print(
                f"{name:<24} {row['decisions_per_second']:>11.1f} {1e3 * row['latency_median']:>10.1f} "
                f"{1e3 * row['latency_95']:>6.1f} {1e3 * row['decision_median']:>11.1f} "
                f"{row['explanations_per_second']:>11.2f}",
                flush=True,
            )
    finally:
        listener.close()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "node.json"
    path.write_text(json.dumps({"network_seconds": network, "rows": rows}, indent=1) + "\n")
    print(f"figures are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
