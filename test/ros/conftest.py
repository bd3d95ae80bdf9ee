"""ROS graphs for tests: nodes in processes of their own, and a partner in this process that talks to them over DDS.

Each graph has a domain of its own. The tests of a file may share processes, since starting a node takes seconds: a file
that does so defines a fixture `processes` of module scope, and its tests use `shared_graph`.
"""

from __future__ import annotations

import contextlib
import gc
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
from bag_kit import SAMPLE, BagKit
from rosbags.highlevel import AnyReader

from tools.processes import own_domain

ROOT = Path(__file__).parents[2]

# Before any node is created: nothing of the tests leaves this machine, and wrong types in messages are errors.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"


#: Number of participants and of failures before a test.
BEFORE = pytest.StashKey[tuple[int, int]]()


class Processes:
    """Processes in one domain, and their output."""

    def __init__(self, domain: int, folder: Path) -> None:
        self.domain, self._folder = domain, folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def start(
        self, *arguments: str, module: str = "explain_cnn_ros.ros.node", code: str = "", **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a module's command, or code, with environment variables. Its output is added to the log."""
        log = self._folder / f"{len(self.logs)}.log"
        self.logs.append(log)
        environment = os.environ | {"ROS_DOMAIN_ID": str(self.domain), "PYTHONUNBUFFERED": "1"} | variables
        code = code or f"import sys; from explain_cnn_ros.ros.signals import start; sys.exit(start({module!r}))"
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
        """Start the node with parameters; `__` stands for the dot in a name. Frames are not searched by default."""
        parameters = {"regions": "whole"} | parameters
        flags = [f"-p {name.replace('__', '.')}:={_yaml(value)}" for name, value in parameters.items()]
        joined = [part for flag in flags for part in flag.split(" ", 1)]
        return self.start("--ros-args", *joined, *arguments)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(_yaml, value)) + "]" if isinstance(value, list | tuple) else str(value)


#: Seconds after which a request of a service that changes nothing is repeated.
REPEAT_AFTER = 10.0


class Graph:
    """A partner in this process, in the domain of some processes."""

    def __init__(self, processes: Processes) -> None:
        import rclpy
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self._processes = processes
        self.start, self.start_node = processes.start, processes.start_node
        # The log of a test begins with the test.
        self._skipped = {path: path.stat().st_size for path in processes.logs}
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=processes.domain)
        self.node = Node("partner", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    @property
    def log(self) -> str:
        """Output of all processes since the beginning of the test."""
        return "\n".join(
            path.read_bytes()[self._skipped.get(path, 0) :].decode(errors="replace") for path in self._processes.logs
        )

    def add(self, node: Any) -> None:
        """Spin another node of this process together with the partner."""
        self._executor.add_node(node)

    @property
    def context(self) -> Any:
        """The context for nodes that are added."""
        return self._context

    def collect(self, kind: Any, topic: str, qos: Any = 50) -> list[Any]:
        """Return a list that fills with the messages that arrive on a topic."""
        arrived: list[Any] = []
        self.node.create_subscription(kind, topic, arrived.append, qos)
        return arrived

    def spin(self, seconds: float = 0.05) -> None:
        self._executor.spin_once(timeout_sec=seconds)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 100.0) -> None:
        """Spin until something holds; fail with the processes' output after the time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds:.0f} s in vain for {what}; the processes printed:\n{self.log}")
            self.spin()

    def client(self, kind: Any, name: str) -> Any:
        """Create a client of a service that is available."""
        client = self.node.create_client(kind, name)
        self.wait_for(client.service_is_ready, f"service {name}")
        return client

    def call(self, kind: Any, name: str, request: Any, read_only: bool = False) -> Any:
        """Call a service and wait for its answer.

        Args:
            kind: Type of the service.
            name: Name of the service.
            request: The request.
            read_only: The service changes nothing, so the request is repeated if there is no answer. On a busy machine,
                a server drops its answer if it has not discovered the new client yet.
        """
        client = self.client(kind, name)
        answers = [client.call_async(request)]
        sent = time.monotonic()

        def answered() -> bool:
            nonlocal sent
            if read_only and time.monotonic() > sent + REPEAT_AFTER:
                answers.append(client.call_async(request))
                sent = time.monotonic()
            return any(answer.done() for answer in answers)

        self.wait_for(answered, f"an answer of {name}")
        self.node.destroy_client(client)
        return next(answer for answer in answers if answer.done()).result()

    def set_parameters(self, node: str, **values: Any) -> list[Any]:
        """Set parameters of a node, `__` for the dot in a name; return the results."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        request = SetParameters.Request(parameters=parameters)
        return list(self.call(SetParameters, f"{node}/set_parameters", request).results)

    def publisher(self, kind: Any, topic: str, qos: Any = 10) -> Any:
        """Create a publisher that has a subscriber already."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.wait_for(lambda: publisher.get_subscription_count() > 0, f"a subscription to {topic}")
        return publisher

    def wait_for_subscribers(self, *topics: str) -> None:
        """Wait until the partner's subscriptions have found the publishers of some topics, and the reverse."""
        for topic in topics:
            self.wait_for(lambda topic=topic: self.node.count_publishers(topic) > 0, f"a publisher of {topic}")

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """End a process as Ctrl-C does; return its exit status."""
        process.send_signal(signal.SIGINT)
        return process.wait(60)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


def participants() -> int:
    """Number of DDS participants in this process. Each has a thread for its events."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            names.append((task / "comm").read_text())
    return sum(name.startswith("dds.ev.") for name in names)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a test begins with, for the check after it."""
    item.stash[BEFORE] = (participants(), item.session.testsfailed)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Check that each test leaves no participant in this process.

    A node that is destroyed stays in the graph as long as anything refers to it. It never answers, and it would be a
    second node of its name for the next test in its domain, which may run in another process.
    """
    result = yield
    item.funcargs.clear()  # pytest refers to fixtures until after this hook
    before, failed = item.stash[BEFORE]
    deadline = time.monotonic() + 60
    # A test that has failed is kept for its report, with all that it refers to.
    while participants() > before and item.session.testsfailed == failed:
        gc.collect()
        assert time.monotonic() < deadline, "the test leaves a participant: let nothing refer to its nodes and context"
        time.sleep(0.01)
    return result


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """A graph of this test's own, without processes."""
    pytest.importorskip("rclpy")
    with (
        own_domain() as domain,
        contextlib.closing(Processes(domain, tmp_path)) as processes,
        contextlib.closing(Graph(processes)) as graph,
    ):
        yield graph


@pytest.fixture
def shared_graph(processes: Processes) -> Iterator[Graph]:
    """A partner of this test's own, and the processes that the tests of a file share."""
    with contextlib.closing(Graph(processes)) as graph:
        yield graph


@pytest.fixture(scope="module")
def new_processes_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Processes]]:
    """Make processes for the tests of a file, in a domain of their own; none is started. Another name, other ones."""
    pytest.importorskip("rclpy")
    made: dict[str, Processes] = {}
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Processes:
            if name not in made:
                domain = stack.enter_context(own_domain())
                processes = Processes(domain, tmp_path_factory.mktemp("processes"))
                made[name] = stack.enter_context(contextlib.closing(processes))
            return made[name]

        yield make


@pytest.fixture(scope="module")
def new_processes(new_processes_of: Callable[[str], Processes]) -> Processes:
    """Processes for the tests of a file, in a domain of their own; none is started."""
    return new_processes_of("")


@pytest.fixture
def domain() -> Iterator[int]:
    """A domain of this test's own."""
    with own_domain() as number:
        yield number


@pytest.fixture(scope="session")
def sample_frames() -> list[bytes]:
    """The sample's frames, as JPEG."""
    with AnyReader([SAMPLE]) as reader:
        chosen = [c for c in reader.connections if c.topic.endswith("/compressed")]
        return [bytes(reader.deserialize(data, c.msgtype).data) for c, _, data in reader.messages(connections=chosen)]


@pytest.fixture
def raw_image() -> Callable[..., Any]:
    """Make a sensor_msgs/Image from uint8 [H, W, 3] RGB."""
    from sensor_msgs.msg import Image

    def make(pixels: Any, stamp: int = 7, frame_id: str = "camera") -> Image:
        message = Image(encoding="rgb8", height=pixels.shape[0], width=pixels.shape[1], step=3 * pixels.shape[1])
        message.header.stamp.sec, message.header.stamp.nanosec = stamp, 123
        message.header.frame_id = frame_id
        message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
        return message

    return make


@pytest.fixture
def kit() -> BagKit:
    """Messages, and recordings of them."""
    return BagKit()


@pytest.fixture(scope="session")
def sample() -> Path:
    """The recording that ships with the repository."""
    return SAMPLE
