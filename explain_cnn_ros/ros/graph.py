"""The problems that `doctor` finds in the ROS graph: those of nodes of this package, and of image topics."""

from __future__ import annotations

import time
from collections import Counter

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros.ros import problems
from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import COMPRESSED, RAW, Problem
from explain_cnn_ros.ros.source import SILENCE, ImageSource
from explain_cnn_ros.ros.statistics import Statistics

#: Type of the service by which nodes of this package are recognised.
EXPLAIN = "explain_cnn_ros/srv/Explain"

#: Times for the discovery of the graph, for the images of a camera, and for the reports of nodes, in seconds. Nodes
#: report once per second.
DISCOVERY, IMAGES, REPORTS = 2.0, 3.0, 3.0

#: Maximum number of image topics that are subscribed.
TOPICS_MAX = 4


class Camera:
    """Subscribes to an image topic as the node does.

    Args:
        context: Context of the subscription.
        number: Number in the name of the ROS node that subscribes.
        topic: Name of the topic.
        raw: Whether the topic has raw images.
        simulated: Whether the clock is that of /clock.

    Attributes:
        topic: Name of the topic.
        node: The ROS node that subscribes.
    """

    def __init__(self, context: Context, number: int, topic: str, raw: bool, simulated: bool) -> None:
        self.topic = topic
        name = "image" if raw else "image/compressed"
        self.node = Node(
            f"explain_doctor_camera_{number}",
            context=context,
            cli_args=["--ros-args", "-r", f"{name}:={topic}"],
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("use_sim_time", value=simulated)],
        )
        self.node.get_logger().set_level(LoggingSeverity.ERROR)  # the problems are printed by `doctor`
        self._statistics = Statistics()
        parameters = NodeParameters(image_transport="raw" if raw else "compressed")
        self._source = ImageSource(self.node, lambda: True, lambda: parameters, self._statistics, self._on_image)
        self._first = 0.0

    def _on_image(self, image: Image | CompressedImage) -> None:
        self._first = self._first or time.monotonic()

    def watch(self) -> None:
        """Subscribe, as soon as that is possible."""
        self._source.watch()

    @property
    def judged(self) -> bool:
        """Whether enough has arrived, or nothing for long enough."""
        return self._source.silence > SILENCE or (self._first > 0 and time.monotonic() - self._first > IMAGES)

    def problems(self) -> list[Problem]:
        """Return the problems with the images."""
        return self._source.problems()


class Graph:
    """Watches the graph from a ROS node of its own.

    Args:
        context: Context of this node, initialised.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._node = Node("explain_doctor", context=context, use_global_arguments=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._reports: dict[str, DiagnosticStatus] = {}
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)
        self._cameras: list[Camera] = []

    def close(self) -> None:
        """Destroy the nodes."""
        self._executor.shutdown()
        for camera in self._cameras:
            camera.node.destroy_node()
        self._node.destroy_node()

    def _on_report(self, array: DiagnosticArray) -> None:
        self._reports |= {status.name: status for status in array.status}

    def problems(self) -> list[Problem]:
        """Watch the graph for some seconds, and return the problems and notes."""
        self._spin(DISCOVERY)
        nodes = self._nodes()
        topics = self._image_topics(nodes)
        self._subscribe(topics)
        end = time.monotonic() + REPORTS
        while not all(camera.judged for camera in self._cameras) or (
            time.monotonic() < end and not all(self._statuses(name) for name in nodes)
        ):
            self._spin(0.1)
        found = [problem for name, count in nodes.items() for problem in self._problems_of(name, count)]
        if not nodes:
            found.append(problems.no_node(topics))
        if others := sorted(topics)[TOPICS_MAX:]:
            found.append(Problem(problems.IMAGES, "not examined", f"not examined: {', '.join(others)}", note=True))
        reported = " ".join(problem.text for problem in found)
        return found + [p for camera in self._cameras for p in camera.problems() if p.text not in reported]

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for camera in self._cameras:
                camera.watch()
            self._executor.spin_once(timeout_sec=min(left, 0.1))

    def _nodes(self) -> Counter[str]:
        """Return the nodes of this package, and how many of each name there are."""
        services = self._node.get_service_names_and_types()
        names = {service.rpartition("/")[0] for service, types in services if EXPLAIN in types}
        running = Counter(
            f"{namespace.rstrip('/')}/{name}" for name, namespace in self._node.get_node_names_and_namespaces()
        )
        return Counter({name: running[name] for name in sorted(names) if running[name]})

    def _image_topics(self, nodes: Counter[str]) -> dict[str, list[str]]:
        """Return the topics with images that somebody publishes, without the results of this package."""
        return {
            name: types
            for name, types in self._node.get_topic_names_and_types()
            if {RAW, COMPRESSED} & set(types)
            and self._node.count_publishers(name)
            and not name.endswith("/compressedDepth")
            and not any(name.startswith(node + "/") for node in nodes)
        }

    def _subscribe(self, topics: dict[str, list[str]]) -> None:
        simulated = self._node.count_publishers("/clock") > 0
        for number, (topic, types) in enumerate(sorted(topics.items())[:TOPICS_MAX]):
            camera = Camera(self._context, number, topic, RAW in types, simulated)
            self._cameras.append(camera)
            self._executor.add_node(camera.node)

    def _statuses(self, name: str) -> list[DiagnosticStatus]:
        return [status for key, status in self._reports.items() if key.startswith(f"{name}: ")]

    def _problems_of(self, name: str, count: int) -> list[Problem]:
        """Return what a node reports, and that it has namesakes or does not report."""
        statuses = self._statuses(name)
        found = [
            Problem(status.name.rpartition(": ")[2], "reported", f"{status.name}: {status.message}")
            for status in statuses
            if status.level != DiagnosticStatus.OK
        ]
        others = [problems.namesakes(name, count), None if statuses else problems.no_report(name)]
        reported = " ".join(problem.text for problem in found)
        return found + [problem for problem in others if problem is not None and problem.text not in reported]


def graph_problems(domain_id: int | None = None) -> list[Problem]:
    """Return the problems and notes about the ROS graph. This takes some seconds.

    Args:
        domain_id: The domain; None for that of the environment.
    """
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain_id)
    try:
        graph = Graph(context)
        try:
            return graph.problems()
        finally:
            graph.close()
    finally:
        context.try_shutdown()
