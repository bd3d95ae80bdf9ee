"""Recordings written for the tests, and a ROS graph of its own for each test that needs one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

import explain_cnn_ros

SECOND = 10**9
START = 1_700_000_000 * SECOND

TYPES = get_typestore(Stores.ROS2_JAZZY)
#: A type that no machine has installed.
TYPES.register(get_types_from_msg("int32 x", "nowhere_msgs/msg/Thing"))


class Sent(NamedTuple):
    """A message to be recorded."""

    topic: str
    stamp: int
    type: str
    data: bytes


class BagKit:
    """Messages, and recordings of them."""

    SECOND = SECOND
    START = START
    MCAP = StoragePlugin.MCAP
    SQLITE3 = StoragePlugin.SQLITE3

    def image(self, i: int, topic: str = "/camera/image/compressed", size: int = 200, period: float = 0.1) -> Sent:
        """The i-th compressed image, `period` seconds after the one before: noise, so that it stays large."""
        stamp = START + round(i * period * SECOND)
        cls = TYPES.types
        message = cls["sensor_msgs/msg/CompressedImage"](
            header=cls["std_msgs/msg/Header"](
                stamp=cls["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND),
                frame_id=f"frame {i}",
            ),
            format="jpeg",
            data=np.random.default_rng(i).integers(0, 256, size, np.uint8),
        )
        name = "sensor_msgs/msg/CompressedImage"
        return Sent(topic, stamp, name, bytes(TYPES.serialize_cdr(message, name)))

    def string(self, i: int, topic: str = "/log", text: str | None = None) -> Sent:
        """The i-th text, a tenth of a second after the one before."""
        message = TYPES.types["std_msgs/msg/String"](data=text or f"text {i}")
        data = bytes(TYPES.serialize_cdr(message, "std_msgs/msg/String"))
        return Sent(topic, START + i * SECOND // 10, "std_msgs/msg/String", data)

    def thing(self, i: int, topic: str = "/thing") -> Sent:
        """A message of a type that is not installed."""
        message = TYPES.types["nowhere_msgs/msg/Thing"](x=i)
        data = bytes(TYPES.serialize_cdr(message, "nowhere_msgs/msg/Thing"))
        return Sent(topic, START + i * SECOND // 10, "nowhere_msgs/msg/Thing", data)

    def deserialize(self, message: Any) -> Any:
        return TYPES.deserialize_cdr(message.data, message.type)

    def write(
        self,
        path: Path,
        messages: list[Sent],
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
        qos: dict[str, list[Qos]] | None = None,
        encoding: str = "cdr",
    ) -> Path:
        """Record the messages; returns the bag's directory."""
        writer = Writer(path, version=9, storage_plugin=storage)
        writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections: dict[tuple[str, str], Any] = {}
            for message in messages:
                key = message.topic, message.type
                if key not in connections:
                    connections[key] = writer.add_connection(
                        message.topic,
                        message.type,
                        typestore=TYPES,
                        serialization_format=encoding,
                        offered_qos_profiles=(qos or {}).get(message.topic, []),
                    )
                writer.write(connections[key], message.stamp, message.data)
        return path


@pytest.fixture
def kit() -> BagKit:
    return BagKit()


@pytest.fixture(scope="session")
def sample() -> Path:
    """The recording that ships with the repository."""
    return Path(__file__).parents[2] / "sample" / "street"


class Arrival(NamedTuple):
    topic: str
    message: Any
    at: float
    """time.monotonic()"""


class Graph:
    """A ROS graph of its own: a listening node in this process, players in processes of theirs."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.arrived: list[Arrival] = []
        self._domain = domain
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self.node = Node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spinning: threading.Thread | None = None
        self._players: list[subprocess.Popen[str]] = []

    def listen(self, topic: str, cls: Any, qos: Any = 100, raw: bool = False) -> None:
        """Collect what arrives on a topic. Call this before the first `play`."""

        def keep(message: Any) -> None:
            self.arrived.append(Arrival(topic, message, time.monotonic()))

        self.node.create_subscription(cls, topic, keep, qos, raw=raw)

    def start_player(self, *arguments: object) -> subprocess.Popen[str]:
        """Run play_bag in a process of its own."""
        if self._spinning is None:
            self._spinning = threading.Thread(target=self._executor.spin, daemon=True)
            self._spinning.start()
        root = Path(explain_cnn_ros.__file__).parents[1]
        player = subprocess.Popen(
            [sys.executable, "-m", "explain_cnn_ros.bags.player", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "ROS_DOMAIN_ID": str(self._domain),
                "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
            },
        )
        self._players.append(player)
        return player

    def play(self, *arguments: object) -> tuple[int, str]:
        """Run play_bag to its end; returns exit status and what it said."""
        player = self.start_player(*arguments)
        _, said = player.communicate(timeout=60)
        return player.returncode, said

    def wait_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> bool:
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        return condition()

    def close(self) -> None:
        for player in self._players:
            if player.poll() is None:
                player.kill()
            player.communicate()
        self._executor.shutdown()
        self._context.try_shutdown()


_count = itertools.count()


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
    graph = Graph(domain=20 + (os.getpid() * 7 + next(_count)) % 80)
    yield graph
    graph.close()
