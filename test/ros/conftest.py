"""A ROS graph of its own for each test: the real node in its own process, and a partner that talks to it over DDS."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

ROOT = Path(__file__).parents[2]

_domains = itertools.count()


@pytest.fixture(scope="session")
def sample_frames() -> list[bytes]:
    """The sample's frames, as JPEG."""
    with AnyReader([ROOT / "sample/street"]) as reader:
        chosen = [c for c in reader.connections if c.topic.endswith("/compressed")]
        return [bytes(reader.deserialize(data, c.msgtype).data) for c, _, data in reader.messages(connections=chosen)]


class Graph:
    """A partner node in this process, and nodes in processes of theirs, in a domain of their own."""

    def __init__(self, domain: int, folder: Path) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self._domain, self._folder = domain, folder
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self.node = Node("partner", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[Path] = []

    def start(
        self, *arguments: str, module: str = "explain_cnn_ros.ros.node", code: str = "", **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a module's command, or code, with environment variables; its output is in `log`."""
        log = self._folder / f"{len(self._logs)}.log"
        self._logs.append(log)
        environment = os.environ | {"ROS_DOMAIN_ID": str(self._domain), "PYTHONUNBUFFERED": "1"} | variables
        code = code or f"import sys; from {module} import main; sys.exit(main())"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self._folder,
            )
        self._processes.append(process)
        return process

    def start_node(self, *arguments: str, **parameters: Any) -> subprocess.Popen[bytes]:
        """Start the node with parameters; `__` stands for the dot in a name."""
        flags = [f"-p {name.replace('__', '.')}:={_yaml(value)}" for name, value in parameters.items()]
        joined = [part for flag in flags for part in flag.split(" ", 1)]
        return self.start("--ros-args", *joined, *arguments)

    @property
    def log(self) -> str:
        """What all processes have said so far."""
        return "\n".join(path.read_text(errors="replace") for path in self._logs)

    def collect(self, kind: Any, topic: str, qos: Any = 50) -> list[Any]:
        """A list that fills with what arrives on a topic."""
        arrived: list[Any] = []
        self.node.create_subscription(kind, topic, arrived.append, qos)
        return arrived

    def spin(self, seconds: float = 0.05) -> None:
        self._executor.spin_once(timeout_sec=seconds)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Spin until something holds; fails with the processes' output."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:.0f} s in vain for {what}; the processes said:\n{self.log}")
            self.spin()

    def call(self, kind: Any, name: str, request: Any, seconds: float = 100.0) -> Any:
        """Call a service and wait for its answer."""
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, f"service {name}", seconds)
        answer = client.call_async(request)
        self.wait_for(answer.done, f"an answer of {name}", seconds)
        return answer.result()

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """A publisher that somebody listens to already."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f"a subscription to {topic}")
        return publisher

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """End a process as Ctrl-C does; its exit code."""
        process.send_signal(signal.SIGINT)
        return process.wait(30)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, list | tuple) else str(value)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Graph]:
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
    graph = Graph(101 + (os.getpid() * 7 + next(_domains)) % 80, tmp_path)
    yield graph
    graph.close()


@pytest.fixture
def raw_image() -> Callable[..., Any]:
    """Makes a sensor_msgs/Image from uint8 [H, W, 3] RGB."""
    from sensor_msgs.msg import Image

    def make(pixels: Any, stamp: int = 7, frame_id: str = "camera") -> Image:
        message = Image(encoding="rgb8", height=pixels.shape[0], width=pixels.shape[1], step=3 * pixels.shape[1])
        message.header.stamp.sec, message.header.stamp.nanosec = stamp, 123
        message.header.frame_id = frame_id
        message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
        return message

    return make
