"""The source of the images, with publishers that are simulated."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image

from explain_cnn_ros.ros.parameters import NodeParameters
from explain_cnn_ros.ros.problems import RAW
from explain_cnn_ros.ros.source import CALIBRATION, ImageSource
from explain_cnn_ros.ros.statistics import Statistics
from tools.soak_day import BEGIN, SimulatedNode, SimulatedTime, publisher

DAY = 24 * 3600


class Simulation(SimulatedNode):
    """A node with some publishers of images, and its source.

    Args:
        publishers: Number of the publishers.

    Attributes:
        source: The source.
        active: Whether images are wanted.
        profiles: The QoS of the subscriptions, in their order, with the names of the topics.
    """

    def __init__(self, publishers: int) -> None:
        super().__init__(SimulatedTime())
        self.publishers = {"/image": [publisher(RAW, ReliabilityPolicy.RELIABLE) for _ in range(publishers)]}
        self.active = True
        self.profiles: list[tuple[str, Any]] = []
        node: Any = self
        parameters = NodeParameters()
        self.source = ImageSource(node, lambda: self.active, lambda: parameters, Statistics(), lambda image: None)

    def create_subscription(self, kind: Any, topic: str, callback: Any, qos: Any) -> Any:
        self.profiles.append((topic, qos))
        return super().create_subscription(kind, topic, callback, qos)

    def see(self, stamp: float, number: int | None = None, frame_id: str = "camera") -> None:
        """Let an image arrive.

        Args:
            stamp: Its stamp, in seconds after the beginning.
            number: Its number among those of its publisher; None if the middleware does not count them.
            frame_id: Its frame_id.
        """
        image = Image()
        image.header.frame_id = frame_id
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(round((BEGIN + stamp) * 1e9), 10**9)
        self.source._on_image(image, {"publication_sequence_number": number})

    @property
    def several_cameras(self) -> str:
        """The problem that there are several cameras; "" if there is none."""
        return "".join(p.text for p in self.source.problems() if p.kind == "several cameras")


def test_a_camera_and_a_recording_of_one_frame_id() -> None:
    """If the middleware does not count the images, the stamps show that there are two cameras."""
    node = Simulation(publishers=2)
    for index in range(5):
        node.see(index)
        node.see(index - DAY)
    assert "images of several publishers with the frame_id 'camera' arrive in turn on /image" in node.several_cameras


def test_two_cameras_whose_stamps_rise() -> None:
    """The sequence numbers of the images show that there are two cameras."""
    node = Simulation(publishers=2)
    for index in range(5):
        node.see(index, 700 + index)
        node.see(index + 0.5, index)
    assert node.several_cameras


@pytest.mark.parametrize("publishers", [1, 2])
def test_a_recording_in_a_loop_is_one_camera(publishers: int) -> None:
    """Without sequence numbers, a loop is recognised only if there is no other publisher."""
    counted, uncounted = Simulation(publishers), Simulation(publishers=1)
    for index in range(20):
        counted.see(index % 2, index)
        uncounted.see(index % 2)
    assert not counted.several_cameras
    assert not uncounted.several_cameras


def test_stamps_that_jitter_are_those_of_one_camera() -> None:
    node = Simulation(publishers=2)
    for index in range(20):
        node.see(0.4 * (index % 2))
    assert not node.several_cameras


def test_one_step_back_is_no_other_camera() -> None:
    """A camera that is started again counts from the beginning."""
    node = Simulation(publishers=2)
    for number in (5, 6, 7, 1, 2, 3):
        node.see(0, number)
    assert not node.several_cameras


def test_the_calibration_is_subscribed_as_it_is_offered() -> None:
    """This is done while no images are wanted as well. Messages of publishers that do not latch always arrive."""
    node = Simulation(publishers=0)
    node.active = False
    latching, other = (publisher(CALIBRATION, ReliabilityPolicy.RELIABLE) for _ in range(2))
    latching.qos_profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    offers = []
    for publishers in ([], [latching], [latching], [latching, other], []):
        node.publishers["/camera_info"] = publishers
        node.source.watch()
        topic, qos = node.profiles[-1]
        assert topic == "camera_info"
        offers.append((qos.reliability.name, qos.durability.name))
    reliable, volatile = ("RELIABLE", "TRANSIENT_LOCAL"), ("RELIABLE", "VOLATILE")
    assert offers == [("BEST_EFFORT", "VOLATILE"), reliable, reliable, volatile, volatile]
    assert (len(node.profiles), node.subscribed) == (3, 1)


def test_a_latched_image_is_subscribed_again() -> None:
    """It arrives when images are wanted again. Images of publishers that do not latch arrive without this."""
    node = Simulation(publishers=1)
    node.source.watch()
    node.source.reset()
    node.source.watch()
    assert node.subscriptions == 2, "one of the calibration, and one of the images"
    node.publishers["/image"][0].qos_profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    node.source.watch()
    assert node.subscriptions == 3
    node.source.reset()
    assert not node.source.subscribed
    node.source.watch()
    assert (node.subscriptions, node.subscribed) == (4, 2)
    assert node.profiles[-1][1].durability == DurabilityPolicy.TRANSIENT_LOCAL
