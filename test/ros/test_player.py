"""The player, in a process of its own, heard over real DDS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from explain_cnn_ros.bags.reader import BagReader, Topic

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String

from explain_cnn_ros.ros.playback import publishers
from explain_cnn_ros.ros.playback.arguments import split_arguments
from explain_cnn_ros.ros.playback.message_types import message_class
from explain_cnn_ros.ros.playback.publishers import Publishers, playback_qos
from explain_cnn_ros.ros.player import main

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

IMAGES = "/camera/image_raw/compressed"
INFOS = "/camera/camera_info"

WAIT = ("--wait-for-subscribers", 20)


class Arrival(NamedTuple):
    """A message that arrived, and when by `time.monotonic`."""

    topic: str
    message: Any
    at: float


class PlayerGraph:
    """A listening node in this process, which spins in a thread, and players in processes of their own."""

    def __init__(self, domain: int) -> None:
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
        player = subprocess.Popen(
            [sys.executable, "-m", "explain_cnn_ros.ros.player", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ROS_DOMAIN_ID": str(self._domain)},
        )
        self._players.append(player)
        return player

    def play(self, *arguments: object) -> tuple[int, str]:
        """Run play_bag to its end; return its exit status and output."""
        player = self.start_player(*arguments)
        _, said = player.communicate(timeout=100)
        return player.returncode, said

    def wait_until(self, condition: Callable[[], bool], seconds: float = 100.0) -> bool:
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


@pytest.fixture
def graph(domain: int) -> Iterator[PlayerGraph]:
    with contextlib.closing(PlayerGraph(domain)) as graph:
        yield graph


def offer(**changes: Any) -> Qos:
    infinite = QosTime(9223372036, 854775807)
    qos = Qos(
        QosHistory.UNKNOWN,
        0,
        QosReliability.RELIABLE,
        QosDurability.VOLATILE,
        infinite,
        infinite,
        QosLiveliness.AUTOMATIC,
        infinite,
        False,
    )
    return qos._replace(**changes)


def nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


@pytest.mark.parametrize("rate", [4, 0])
def test_the_sample_arrives_as_recorded(graph: Any, sample: Path, rate: int) -> None:
    graph.listen(IMAGES, CompressedImage, raw=True)
    graph.listen(INFOS, CameraInfo)
    status, said = graph.play(sample, "--rate", rate, *WAIT)
    assert status == 0
    assert "100 messages published" in said
    with BagReader(sample) as bag:
        images = list(bag.messages([IMAGES]))
        infos = list(bag.messages([INFOS]))
    assert graph.wait_until(lambda: len(graph.arrived) == 100), (len(graph.arrived), said)
    got = [arrival.message for arrival in graph.arrived if arrival.topic == IMAGES]
    # Byte by byte and in order. DDS pads to a multiple of four bytes.
    assert [raw[: len(image.data)] for raw, image in zip(got, images, strict=True)] == [i.data for i in images]
    assert all(len(raw) - len(image.data) < 4 for raw, image in zip(got, images, strict=True))
    got = [arrival.message for arrival in graph.arrived if arrival.topic == INFOS]
    assert [nanoseconds(info.header.stamp) for info in got] == [info.stamp for info in infos]
    assert got == [deserialize_message(info.data, CameraInfo) for info in infos]


def test_pace(graph: Any, kit: Any, tmp_path: Path) -> None:
    """1.9 s of recording take 1.9 s, and at twice the speed 0.95 s. On a busy machine, that takes several attempts."""
    path = kit.write(tmp_path / "bag", [kit.string(i) for i in range(20)])
    graph.listen("/log", String)

    def span(rate: float) -> float:
        graph.arrived.clear()
        status, _ = graph.play(path, "--rate", rate, *WAIT)
        assert status == 0
        assert graph.wait_until(lambda: len(graph.arrived) == 20)
        assert [arrival.message.data for arrival in graph.arrived] == [f"text {i}" for i in range(20)]
        return graph.arrived[-1].at - graph.arrived[0].at

    assert any(1.7 < span(1) < 2.3 for _ in range(8))
    assert any(0.8 < span(2) < 1.3 for _ in range(8))


def test_types_that_are_not_installed_are_skipped(graph: Any, kit: Any, tmp_path: Path) -> None:
    messages = [m for i in range(10) for m in (kit.thing(i), kit.string(i))]
    path = kit.write(tmp_path / "bag", messages)
    graph.listen("/log", String)
    status, said = graph.play(path, "--rate", 10, *WAIT)
    assert status == 0
    assert "skipping /thing (10 messages): the type nowhere_msgs/msg/Thing is not installed" in said
    assert f"ros-{os.environ.get('ROS_DISTRO') or 'jazzy'}-nowhere-msgs" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 10)


def test_nothing_but_types_that_are_not_installed(graph: Any, kit: Any, tmp_path: Path) -> None:
    status, said = graph.play(kit.write(tmp_path / "bag", [kit.thing(0)]))
    assert status == 1
    assert "nothing to play" in said


def test_broken_messages_are_skipped(graph: Any, kit: Any, tmp_path: Path) -> None:
    messages = [kit.image(i) for i in range(13)]
    messages[1] = messages[1]._replace(data=b"")
    messages[2] = messages[2]._replace(data=messages[2].data[:60])
    messages[4] = messages[4]._replace(data=b"\x00\x01\x00\x00" + b"\xff" * 100)
    path = kit.write(tmp_path / "bag", messages)
    graph.listen("/camera/image/compressed", CompressedImage)
    status, said = graph.play(path, "--rate", 5, *WAIT)
    assert status == 0
    assert "10 messages published, 3 broken ones skipped" in said
    assert "broken message of /camera/image/compressed at 0.200 s, 60 bytes" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 10)
    got = [arrival.message.header.frame_id for arrival in graph.arrived]
    assert got == [f"frame {i}" for i in range(13) if i not in (1, 2, 4)]


def test_a_cut_off_recording_is_played_as_far_as_it_goes(graph: Any, kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.image(i, size=300_000) for i in range(20)])
    (path / "metadata.yaml").unlink()
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[:3_300_000])
    graph.listen("/camera/image/compressed", CompressedImage)
    status, said = graph.play(path, "--rate", 5, *WAIT)
    assert status == 0
    assert "no metadata.yaml" in said and "cut off" in said
    assert "10 messages published" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 10)


def test_clock(graph: Any, kit: Any, tmp_path: Path) -> None:
    """It runs from the first to the last message, never back, and is not ahead of the messages."""
    path = kit.write(tmp_path / "bag", [kit.string(i) for i in range(10)])
    graph.listen("/clock", Clock, 1000)
    graph.listen("/log", String)
    status, _ = graph.play(path, "--rate", 0.5, "--clock", 10, "--delay", 0.5, *WAIT)
    assert status == 0
    assert graph.wait_until(lambda: sum(arrival.topic == "/log" for arrival in graph.arrived) == 10)
    clocks = [nanoseconds(a.message.clock) for a in graph.arrived if a.topic == "/clock"]
    # 10 a second of the wall clock, at half speed: every 50 ms of the recording.
    assert clocks == [kit.START + i * 5 * 10**7 for i in range(19)]


def test_clock_for_a_node_with_use_sim_time(graph: Any, kit: Any, tmp_path: Path) -> None:
    from rclpy.parameter import Parameter

    path = kit.write(tmp_path / "bag", [kit.string(i) for i in range(10)])
    graph.node.set_parameters([Parameter("use_sim_time", value=True)])
    graph.listen("/log", String)
    status, _ = graph.play(path, "--rate", 5, "--clock", "--delay", 1, *WAIT)
    assert status == 0
    last = kit.START + 9 * kit.SECOND // 10
    assert graph.wait_until(lambda: graph.node.get_clock().now().nanoseconds > last - kit.SECOND // 4)
    assert graph.node.get_clock().now().nanoseconds <= last


def test_loop_until_interrupted(graph: Any, kit: Any, tmp_path: Path) -> None:
    """The clock jumps back with each round, and Ctrl-C ends the player with a summary and no traceback."""
    path = kit.write(tmp_path / "bag", [kit.string(i) for i in range(4)])
    graph.listen("/log", String)
    graph.listen("/clock", Clock, 1000)
    player = graph.start_player(path, "--loop", "--rate", 2, "--clock", *WAIT)
    assert graph.wait_until(lambda: sum(arrival.topic == "/log" for arrival in graph.arrived) >= 9)
    player.send_signal(signal.SIGINT)
    _, said = player.communicate(timeout=100)
    assert player.returncode == 0
    assert "messages published" in said and "Traceback" not in said
    texts = [a.message.data for a in graph.arrived if a.topic == "/log"]
    assert texts[:8] == [f"text {i}" for i in range(4)] * 2
    clocks = [nanoseconds(a.message.clock) for a in graph.arrived if a.topic == "/clock"]
    assert min(np.diff(clocks)) < 0
    assert min(clocks) == kit.START and max(clocks) <= kit.START + 3 * kit.SECOND // 10


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_waiting(graph: Any, kit: Any, tmp_path: Path, interrupt: signal.Signals) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0), kit.string(600)])
    graph.listen("/log", String)
    player = graph.start_player(path, *WAIT)
    assert graph.wait_until(lambda: len(graph.arrived) == 1)
    player.send_signal(interrupt)
    _, said = player.communicate(timeout=100)
    assert player.returncode == 0
    assert "1 messages published" in said and "Traceback" not in said


def test_log_times_before_the_clock_was_set(graph: Any, kit: Any, tmp_path: Path) -> None:
    """Recorded with simulated time before the first /clock: these messages are counted, and not waited for."""
    early = [kit.string(i)._replace(stamp=0) for i in range(3)]
    path = kit.write(tmp_path / "bag", [*early, *(kit.string(i) for i in range(3, 6))])
    graph.listen("/log", String)
    graph.listen("/clock", Clock, 1000)
    status, said = graph.play(path, "--clock", *WAIT)
    assert status == 0
    assert "have log times before the clock was set" in said
    assert "skipping the 3 messages with earlier log times" in said
    assert "3 messages published" in said
    assert graph.wait_until(lambda: sum(a.topic == "/log" for a in graph.arrived) == 3)
    assert [a.message.data for a in graph.arrived if a.topic == "/log"] == ["text 3", "text 4", "text 5"]
    assert min(nanoseconds(a.message.clock) for a in graph.arrived if a.topic == "/clock") > kit.START


@pytest.mark.parametrize("rate", [4, 0])
def test_a_gap_of_decades(graph: Any, kit: Any, tmp_path: Path, rate: int) -> None:
    """The clock was set while recording, to a year that /clock cannot hold. Nobody waits for it."""
    late = [kit.string(i)._replace(stamp=kit.START + (10**9 + i) * kit.SECOND) for i in range(2, 4)]
    path = kit.write(tmp_path / "bag", [kit.string(0), kit.string(1), *late])
    graph.listen("/log", String)
    status, said = graph.play(path, "--clock", "--rate", rate, *WAIT)
    assert status == 0
    assert "skipping 31.7 years without messages after 0.1 s" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 4)


def test_topics_offset_remapping_and_ros_arguments(graph: Any, kit: Any, tmp_path: Path) -> None:
    messages = [kit.string(i, topic) for i in range(15) for topic in ("/a", "/b", "/c")]
    path = kit.write(tmp_path / "bag", messages)
    for topic in ("/a", "/b", "/robot/relative", "/other", "/c"):
        graph.listen(topic, String)
    status, said = graph.play(
        path,
        *("--topics", "/a", "/b", "--remap", "/a:=relative", "/x:=/y", "--start-offset", 0.5, "--rate", 5),
        *("--wait-for-subscribers", 20, "--ros-args", "-r", "__ns:=/robot", "-r", "/b:=/other"),
    )
    assert status == 0
    assert "nothing to remap: /x" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 20)
    texts = [f"text {i}" for i in range(5, 15)]
    for topic in ("/robot/relative", "/other"):
        assert [a.message.data for a in graph.arrived if a.topic == topic] == texts


def test_the_named_topics_are_waited_for(graph: Any, kit: Any, tmp_path: Path) -> None:
    """A node that loads a network subscribes to the images seconds after its other topics."""
    path = kit.write(tmp_path / "bag", [kit.string(i, topic) for i in range(4) for topic in ("/infos", "/images")])
    graph.listen("/infos", String)
    player = graph.start_player(path, *WAIT, "--wait-for-topics", "/images")
    assert graph.wait_until(lambda: graph.node.count_publishers("/infos") > 0)
    time.sleep(2.5)  # without the names, the player starts when nobody has subscribed for a second
    assert not graph.arrived
    graph.listen("/images", String)
    _, said = player.communicate(timeout=100)
    assert player.returncode == 0, said
    assert graph.wait_until(lambda: len(graph.arrived) == 8), said
    assert [a.message.data for a in graph.arrived if a.topic == "/images"] == [f"text {i}" for i in range(4)]


def test_a_named_topic_that_nobody_subscribes_to(graph: Any, kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0, topic) for topic in ("/infos", "/images")])
    graph.listen("/infos", String)
    status, said = graph.play(path, "--wait-for-subscribers", 0.5, "--wait-for-topics", "/images")
    assert status == 0
    assert "not all of /images had a subscriber within 0.5 s" in said


def test_nobody_listens(graph: Any, kit: Any, tmp_path: Path) -> None:
    status, said = graph.play(kit.write(tmp_path / "bag", [kit.string(0)]), "--wait-for-subscribers", 0.3)
    assert status == 0
    assert "nobody subscribed within 0.3 s" in said


def test_quality_of_service_is_that_of_the_recording(graph: Any, kit: Any, tmp_path: Path) -> None:
    """A latched topic reaches who asks for a latched one, a best-effort one who asks for no more."""
    path = kit.write(
        tmp_path / "bag",
        [kit.string(i, topic) for i in range(10) for topic in ("/latched", "/sensor")],
        qos={
            "/latched": [offer(durability=QosDurability.TRANSIENT_LOCAL)],
            "/sensor": [offer(reliability=QosReliability.BEST_EFFORT)],
        },
    )
    latched = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.listen("/latched", String, latched)
    # Deep enough for all of them: a busy machine may take them late.
    graph.listen("/sensor", String, QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT))
    player = graph.start_player(path, "--delay", 1.5, *WAIT)
    assert graph.wait_until(lambda: graph.node.count_publishers("/sensor") > 0)
    (info,) = graph.node.get_publishers_info_by_topic("/sensor")
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    player.communicate(timeout=100)
    assert graph.wait_until(lambda: len(graph.arrived) == 20)


def test_what_latched_topics_hold_at_the_start(graph: Any, kit: Any, tmp_path: Path) -> None:
    """Without /tf_static from the beginning, nothing after it can be placed. Other topics begin at the start."""
    messages = [*(kit.string(i, "/latched") for i in range(3)), *(kit.string(i) for i in range(10))]
    qos = {"/latched": [offer(durability=QosDurability.TRANSIENT_LOCAL, history=QosHistory.KEEP_LAST, depth=1)]}
    path = kit.write(tmp_path / "bag", messages, qos=qos)
    latched = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.listen("/latched", String, latched)
    graph.listen("/log", String)
    status, said = graph.play(path, "--start-offset", 0.5, "--rate", 5, *WAIT)
    assert status == 0
    assert "8 messages published" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 8)
    texts = {topic: [a.message.data for a in graph.arrived if a.topic == topic] for topic in ("/latched", "/log")}
    assert texts == {"/latched": [f"text {i}" for i in range(3)], "/log": [f"text {i}" for i in range(5, 10)]}


def test_latched_messages_from_before_the_clock_was_set(graph: Any, kit: Any, tmp_path: Path) -> None:
    """They are published, and the others are counted. The newest ones are those that their publishers still hold."""
    early = [kit.string(i, "/latched")._replace(stamp=i) for i in range(300)]
    messages = [*early, kit.string(0)._replace(stamp=0), *(kit.string(i) for i in range(1, 4))]
    qos = {"/latched": [offer(durability=QosDurability.TRANSIENT_LOCAL, history=QosHistory.KEEP_LAST, depth=1)]}
    path = kit.write(tmp_path / "bag", messages, qos=qos)
    latched = QoSProfile(depth=300, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.listen("/latched", String, latched)
    graph.listen("/log", String)
    status, said = graph.play(path, *WAIT)
    assert status == 0
    assert "skipping the 201 messages with earlier log times" in said
    assert "103 messages published" in said
    assert graph.wait_until(lambda: len(graph.arrived) == 103)
    texts = [arrival.message.data for arrival in graph.arrived if arrival.topic == "/latched"]
    assert texts == [f"text {i}" for i in range(200, 300)]


def test_playback_qos() -> None:
    def qos(*offers: Qos, count: int = 5) -> tuple[bool, bool, int]:
        profile = playback_qos(Topic("/x", "std_msgs/msg/String", count, offers))
        reliable = profile.reliability == ReliabilityPolicy.RELIABLE
        return reliable, profile.durability == DurabilityPolicy.TRANSIENT_LOCAL, profile.depth

    best_effort = offer(reliability=QosReliability.BEST_EFFORT)
    latched = offer(durability=QosDurability.TRANSIENT_LOCAL, history=QosHistory.KEEP_LAST, depth=1)
    assert qos() == (True, False, 10)
    assert qos(offer()) == (True, False, 10), "the depth was not recorded"
    assert qos(offer(depth=3)) == (True, False, 3)
    assert qos(best_effort) == (False, False, 10)
    assert qos(offer(), best_effort) == (False, False, 10)
    assert qos(latched) == (True, True, 5), "as many as two publishers may have latched"
    assert qos(latched, count=1000) == (True, True, 100)
    assert qos(latched, offer()) == (True, False, 1)


def test_message_class() -> None:
    for name in ("std_msgs/msg/String", "std_msgs/String", "std_msgs::msg::dds_::String_"):
        assert message_class(name) is String
    for name in ("nowhere_msgs/msg/Thing", "std_msgs/msg/Strong"):
        with pytest.raises(LookupError, match="not installed"):
            message_class(name)
    for name in ("String", ""):
        with pytest.raises(LookupError, match="is not the name of a message type"):
            message_class(name)


def test_messages_of_services(kit: Any) -> None:
    """Recorded by `ros2 bag record --service`."""
    assert message_class("std_srvs/srv/Trigger_Event").__name__ == "Trigger_Event"
    with pytest.raises(LookupError, match="this machine does not have it"):
        message_class("std_srvs/srv/Triggered_Event")


def test_no_module_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording names a type. Only packages of interfaces, which ament knows, are imported for it."""
    (tmp_path / "planted" / "msg").mkdir(parents=True)
    (tmp_path / "planted" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("planted/msg/Thing", "planted/Thing", "planted::msg::Thing", "antigravity/msg/X", "this/msg/X"):
        with pytest.raises(LookupError, match="not installed"):
            message_class(name)
    for name in (
        *("os/path/join", "os.path/msg/X", "../planted/msg/Thing", "std_msgs/msg/__class__", "std_msgs/msg/string"),
        *("std_msgs/../planted/msg/X", "rosidl_parser/definition/Message", "std_msgs/msg/Str ing", "Planted/msg/X"),
    ):
        with pytest.raises(LookupError, match="is not the name of a message type"):
            message_class(name)
    # An interface package, and a module in it that is no interface.
    with pytest.raises(LookupError, match="not installed"):
        message_class("rosidl_parser/msg/X")
    assert {"planted", "antigravity", "this"}.isdisjoint(sys.modules)


def publishers_of(kit: Any, context: Context, said: list[str]) -> Publishers:
    node = Node("player", context=context)
    return Publishers(node, [Topic("/log", "std_msgs/msg/String", 1)], remap={}, clock=False, report=said.append)


@pytest.fixture
def context(domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    yield context
    context.try_shutdown()


def test_a_subscriber_that_does_not_acknowledge(kit: Any, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its topic is not held back for it again: a stopped process would stop the player for good."""
    said: list[str] = []
    waits: list[float] = []

    def never(publisher: Any, deadline: float) -> bool:
        waits.append(deadline)
        return False

    monkeypatch.setattr(publishers, "_wait_for_all_acked", never)
    tested = publishers_of(kit, context, said)
    for i in range(35):
        tested.hold_back(kit.string(i))
    assert len(waits) == 1
    assert said == ["a subscriber of /log has not acknowledged messages for 10 s: playing on, it may miss some"]


def test_waiting_for_acknowledgements_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls are short, since Python handles Ctrl-C between them."""
    now, waits = [0.0], []

    class Silent:
        def wait_for_all_acked(self, timeout: Any) -> bool:
            waits.append(timeout.nanoseconds / 1e9)
            now[0] += waits[-1]
            return False

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    assert not publishers._wait_for_all_acked(Silent(), 1.0)
    assert sum(waits) == pytest.approx(1.0)
    assert max(waits) <= publishers.SLICE


def test_an_interruption_is_no_broken_message(kit: Any, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal while rclpy converts a message becomes an error of the conversion."""
    tested = publishers_of(kit, context, [])
    message = kit.string(0)
    assert tested.publish(message) is None
    broken = message._replace(data=b"")
    assert tested.publish(broken) is not None
    monkeypatch.setattr(publishers, "interrupted", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        tested.publish(broken)
    assert (tested.published, tested.broken["/log"]) == (1, 1)


def test_split_arguments() -> None:
    assert split_arguments(["bag", "-m", "a:=b", "--ros-args", "-r", "c:=d", "--", "--loop"]) == (
        ["bag", "-m", "a:=b", "--loop"],
        ["--ros-args", "-r", "c:=d", "--"],
    )
    assert split_arguments(["bag", "--ros-args"]) == (["bag"], ["--ros-args"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rate", "-1"], "-1 is not a number from 0 to 1e+09"),
        (["--start-offset", "1e300"], "1e300 is not a number"),
        (["--clock", "1e9"], "at most 10000"),
        (["--rate", "fast"], "fast is not a number"),
        (["--clock", "0"], "must be above 0"),
        (["--remap", "/a"], "/a is not of the form /from:=/to"),
        (["--delay", "inf"], "inf is not a number"),
        (["--wait-for-topics", "/a"], "--wait-for-topics needs --wait-for-subscribers"),
    ],
)
def test_wrong_options(sample: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(sample), *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_what_cannot_be_played(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere"]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main([str(sample), "--topics", "/nothing"]) == 1
    assert f"no topic /nothing. It holds {INFOS}, {IMAGES}" in capsys.readouterr().err
    assert main([str(sample), "--wait-for-subscribers", "1", "--wait-for-topics", INFOS, "/nothing"]) == 1
    assert f"--wait-for-topics names /nothing, and played are: {INFOS}, {IMAGES}" in capsys.readouterr().err
    assert main([str(sample), "--start-offset", "60"]) == 1
    assert "the recording lasts 9.8 s" in capsys.readouterr().err
    assert main([str(sample), "--ros-args", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--topics", "/log"]])
def test_why_nothing_can_be_played(
    kit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)], encoding="ros1")
    assert main([str(path), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out /log: its messages are 'ros1', not 'cdr'" in line


def test_the_sample_is_what_rclpy_takes_it_for(sample: Path) -> None:
    """ROS deserializes what rosbags has serialized."""
    with BagReader(sample) as bag:
        for message in bag.messages([INFOS]):
            info = deserialize_message(message.data, CameraInfo)
            assert nanoseconds(info.header.stamp) == message.stamp
            assert (info.width, info.height, info.distortion_model) == (768, 576, "plumb_bob")
            assert info.k[0] == info.p[0] > 0
