"""Messages of a detector in recordings, and the images that they belong to."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from bag_kit import SECOND, START, TYPES, BagKit, Sent
from detections_kit import OWN, ROI, TOPIC, VISION, VISION_FILES, Drawn, malformed, own, roi, sent, vision
from rosbags.rosbag2 import CompressionMode, Writer
from rosbags.typesys import get_types_from_msg

from explain_cnn_ros.bags import detections
from explain_cnn_ros.bags.detection_types import DEFINITIONS, DETECTION_TYPES
from explain_cnn_ros.bags.detections import DetectionMessage, detection_topic, read_detections
from explain_cnn_ros.bags.reader import BagError, BagReader
from explain_cnn_ros.scan.detections import DetectedBox, boxes_from

STORAGES = pytest.mark.parametrize("storage", [BagKit.MCAP, BagKit.SQLITE3], ids=["mcap", "sqlite3"])
IMAGES = "/camera/image/compressed"


def read(bag: Path, images: tuple[str, ...] = (IMAGES,), *interval: int | None) -> list[DetectionMessage]:
    with BagReader(bag) as reader:
        return list(read_detections(reader, detection_topic(reader, TOPIC), images, *interval))


def boxes(message: DetectionMessage) -> list[tuple]:
    return [(b.x, b.y, b.width, b.height, b.label, b.score) for b in boxes_from(message.message)]


def test_the_definitions_are_those_of_the_packages(kit) -> None:
    """Names, types and order of all fields."""
    root = Path(__file__).parents[2]
    upstream = {f"vision_msgs/msg/{name}": text for name, text in VISION_FILES.items()}
    for name in ("Detection", "Detections"):
        upstream[f"explain_cnn_ros/msg/{name}"] = (root / "msg" / f"{name}.msg").read_text()
    assert {name: get_types_from_msg(text, name) for name, text in DEFINITIONS.items()} == {
        name: get_types_from_msg(text, name) for name, text in upstream.items()
    }
    assert (VISION, OWN, ROI) == DETECTION_TYPES


@STORAGES
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.MESSAGE], ids=["plain", "zstd"])
def test_boxes_and_stamps(kit, tmp_path: Path, storage, compression) -> None:
    """The stamps are those of the headers, and not the log times."""
    drawn = [Drawn(-1.5, 2, 30, 60.25, "person", 0.75), Drawn(100, 50, 40, 80, "car", 0.5)]
    for name, make in (("vision", vision), ("own", own)):
        messages = [
            sent(make(START + 5, drawn, "left"), START + SECOND),
            sent(make(START + 7, []), START + 2 * SECOND),
        ]
        bag = kit.write(tmp_path / name, [kit.image(0), *messages], storage, compression)
        first, second = read(bag)
        assert (first.stamp, first.frame_id, first.frame, first.error) == (START + 5, "left", None, "")
        assert boxes(first) == [(-1.5, 2, 30, 60.25, "person", 0.75), (100, 50, 40, 80, "car", 0.5)]
        assert (second.stamp, second.frame_id, boxes(second)) == (START + 7, "camera", [])


def test_an_interval_of_log_times_does_not_hold_for_stamped_messages(kit, tmp_path: Path) -> None:
    bag = kit.write(tmp_path / "bag", [kit.image(0), sent(own(START, []), START + 9 * SECOND)])
    assert [m.stamp for m in read(bag, (IMAGES,), START, START + SECOND)] == [START]


@pytest.mark.parametrize(("theta", "size"), [(math.pi / 2, (80, 40)), (math.pi / 4, (84.852814, 84.852814))])
def test_the_upright_box_around_a_rotated_one(kit, tmp_path: Path, theta: float, size: tuple[float, float]) -> None:
    drawn = Drawn(80, 10, 40, 80, theta=theta)
    bag = kit.write(tmp_path / "bag", [sent(vision(START, [drawn]), START)])
    (message,) = read(bag)
    (box,) = boxes_from(message.message)
    assert (box.width, box.height) == pytest.approx(size)
    assert (box.x + box.width / 2, box.y + box.height / 2) == pytest.approx((100, 50))


def test_an_angle_that_is_not_finite_makes_no_box() -> None:
    (box,) = boxes_from(vision(START, [Drawn(1, 2, 3, 4, theta=math.inf)]))
    assert math.isnan(box.width) and math.isnan(box.x)


@STORAGES
def test_a_malformed_message_in_the_middle(kit, tmp_path: Path, storage) -> None:
    fine = [sent(vision(START + i, []), START + i * SECOND) for i in (0, 2)]
    bag = kit.write(tmp_path / "bag", [fine[0], malformed(START + SECOND), fine[1]], storage)
    first, broken, last = read(bag)
    assert (first.stamp, last.stamp) == (START, START + 2)
    assert broken.message is None
    assert broken.error.startswith(f"it is no {VISION}, with the fields of version 4 (ROS 2 Humble and later): ")


def test_messages_of_an_old_version_of_vision_msgs_are_no_boxes(kit, tmp_path: Path) -> None:
    """In version 2, a detection holds an image."""
    data = bytearray(sent(vision(START, [Drawn(1, 2, 3, 4)]), 0).data)
    data += bytes(100)
    bag = kit.write(tmp_path / "bag", [Sent(TOPIC, START, VISION, bytes(data))])
    (message,) = read(bag)
    assert message.message is None and "version 4" in message.error


@pytest.mark.parametrize("zeros", [0, 1, 4, 7])
def test_zeros_behind_a_message(kit, tmp_path: Path, zeros: int) -> None:
    """Some middleware pads messages to a multiple of eight bytes."""
    message = sent(own(START, [Drawn(1, 2, 3, 4)]), START)
    (found,) = read(kit.write(tmp_path / "bag", [message._replace(data=message.data + bytes(zeros))]))
    assert boxes(found) == [(1, 2, 3, 4, "person", 0.9)]


def test_large_messages_are_not_unpacked(kit, tmp_path: Path, monkeypatch) -> None:
    messages = [sent(own(START, [Drawn(1, 2, 3, 4)] * n), START + n) for n in (1, 100)]
    monkeypatch.setattr(detections, "BYTES_MAX", 1000)
    small, large = read(kit.write(tmp_path / "bag", messages))
    assert boxes(small) and large.error == "it has 0.0 MiB, the limit is 0.000953674 MiB"


class TestRegionsOfInterest:
    """They have no stamp."""

    @STORAGES
    def test_each_belongs_to_the_image_that_was_recorded_last_before_it(self, kit, tmp_path: Path, storage) -> None:
        images = [kit.image(i) for i in range(3)]
        tenth = SECOND // 10
        messages = [
            sent(roi(1, 2, 3, 4), START - 1),
            images[0],
            sent(roi(5, 6, 7, 8), START),  # of the same log time, and recorded after the image
            images[1],
            sent(roi(), START + tenth + 1),
            sent(roi(9, 9, 9, 9), START + 2 * tenth - 1),
            images[2],
            sent(roi(1, 1, 1, 1), START + 9 * SECOND),
        ]
        bag = kit.write(tmp_path / "bag", messages, storage)
        found = read(bag)
        assert [message.frame for message in found] == [-1, 0, 1, 1, 2]
        assert [boxes(message) for message in found] == [
            [(1, 2, 3, 4, "", 0)],
            [(5, 6, 7, 8, "", 0)],
            [],
            [(9, 9, 9, 9, "", 0)],
            [(1, 1, 1, 1, "", 0)],
        ]
        assert {(message.stamp, message.frame_id) for message in found} == {(0, "")}

    def test_frames_are_counted_within_the_interval(self, kit, tmp_path: Path) -> None:
        """The interval is the same as that of `BagSource.entries`."""
        tenth = SECOND // 10
        messages = [kit.image(i) for i in range(4)] + [sent(roi(i, 0, 1, 1), START + i * tenth + 1) for i in range(4)]
        bag = kit.write(tmp_path / "bag", sorted(messages, key=lambda m: m.stamp))
        found = read(bag, (IMAGES,), START + tenth, START + 3 * tenth)
        assert [(message.frame, boxes(message)[0][0]) for message in found] == [(0, 1), (1, 2)]

    def test_images_of_all_topics_count(self, kit, tmp_path: Path) -> None:
        messages = [kit.image(0, "/a"), kit.image(1, "/b"), sent(roi(1, 1, 1, 1), START + SECOND)]
        bag = kit.write(tmp_path / "bag", messages)
        assert [m.frame for m in read(bag, ("/a", "/b"))] == [1]
        assert [m.frame for m in read(bag, ("/a",))] == [0]

    def test_messages_of_another_type_on_the_image_topic_are_no_images(self, kit, tmp_path: Path) -> None:
        messages = [kit.string(0, IMAGES), kit.image(1), kit.string(2, IMAGES), sent(roi(1, 1, 1, 1), START + SECOND)]
        assert [m.frame for m in read(kit.write(tmp_path / "bag", messages))] == [0]


class TestTopics:
    """Each error names the cause and the topics that have detections."""

    def refused(self, bag: Path, name: str = TOPIC) -> str:
        with BagReader(bag) as reader, pytest.raises(BagError) as error:
            detection_topic(reader, name)
        return str(error.value).removeprefix(f"{bag}: ")

    def test_another_name(self, kit, tmp_path: Path) -> None:
        messages = [kit.image(0), sent(own(START, []), START, "/yolo"), sent(roi(), START, "/roi")]
        bag = kit.write(tmp_path / "bag", messages)
        assert self.refused(bag, "/detections") == (
            f"no topic /detections. Topics with detections: /roi ({ROI}, 1 messages), /yolo ({OWN}, 1 messages)"
        )

    def test_none_at_all(self, kit, tmp_path: Path) -> None:
        assert self.refused(kit.write(tmp_path / "bag", [kit.image(0)])) == (
            f"no topic {TOPIC}. No topic has detections ({VISION}, {OWN} or {ROI}): record the detector's topic as well"
        )

    def test_another_type(self, kit, tmp_path: Path) -> None:
        bag = kit.write(tmp_path / "bag", [kit.image(0), sent(vision(START, []), START)])
        assert self.refused(bag, IMAGES) == (
            f"{IMAGES} has the type sensor_msgs/msg/CompressedImage, not {VISION}, {OWN} or {ROI}. Topics with "
            f"detections: {TOPIC} ({VISION}, 1 messages)"
        )

    def test_no_messages(self, kit, tmp_path: Path) -> None:
        """A connection without messages, as recorders write it for a silent detector."""
        with Writer(tmp_path / "bag", version=9, storage_plugin=kit.SQLITE3) as writer:
            image = kit.image(0)
            writer.write(writer.add_connection(IMAGES, image.type, typestore=TYPES), START, image.data)
            writer.add_connection(TOPIC, VISION, typestore=TYPES)
        assert self.refused(tmp_path / "bag").startswith(f"{TOPIC} has no messages: the detector published nothing")

    def test_the_fitting_one_of_two_types(self, kit, tmp_path: Path) -> None:
        bag = kit.write(tmp_path / "bag", [kit.string(0, TOPIC), sent(own(START + 3, []), START + SECOND)])
        assert [message.stamp for message in read(bag)] == [START + 3]


def test_boxes_are_those_of_the_types() -> None:
    """A RegionOfInterest has neither class nor score; the class of a Detection2D is its best one."""
    assert boxes_from(roi(1, 2, 3, 4)) == (DetectedBox(1, 2, 3, 4, "", 0.0),)
    assert boxes_from(roi(1, 2, 3, 0)) == ()
    assert boxes_from(vision(START, [Drawn(1, 2, 3, 4, "dog", 0.5)])) == (DetectedBox(1, 2, 3, 4, "dog", 0.5),)
