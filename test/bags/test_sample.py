"""The recording that ships with the repository, and the tool that made it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from explain_cnn_ros.bags.reader import BagReader

TOOL = Path(__file__).parents[2] / "tools" / "make_sample.py"


def pixels(data: Any) -> Any:
    return cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR)


def test_images(sample: Path, kit: Any) -> None:
    with BagReader(sample) as bag:
        assert bag.problems == []
        topic = bag.image_topic()
        assert (topic.name, topic.type, topic.count) == (
            "/camera/image_raw/compressed",
            "sensor_msgs/msg/CompressedImage",
            50,
        )
        recorded = list(bag.messages([topic.name]))
    images = [kit.deserialize(message) for message in recorded]
    stamps = [image.header.stamp.sec * 10**9 + image.header.stamp.nanosec for image in images]
    assert set(np.diff(stamps)) == {200_000_000}
    assert stamps == [message.stamp for message in recorded]
    assert {(image.header.frame_id, image.format) for image in images} == {("camera_optical_frame", "jpeg")}
    assert {pixels(image.data).shape for image in images} == {(576, 768, 3)}


def test_calibration(sample: Path, kit: Any) -> None:
    with BagReader(sample) as bag:
        images = list(bag.messages(["/camera/image_raw/compressed"]))
        infos = list(bag.messages(["/camera/camera_info"]))
    assert [info.stamp for info in infos] == [image.stamp for image in images]
    info = kit.deserialize(infos[0])
    assert (info.width, info.height, info.header.frame_id) == (768, 576, "camera_optical_frame")
    assert info.header == kit.deserialize(images[0]).header
    k, p = info.k.reshape(3, 3), info.p.reshape(3, 4)
    assert np.allclose(k, p[:, :3]) and not p[:, 3].any() and not info.d.any()
    assert 2 * np.degrees(np.arctan(768 / 2 / k[0, 0])) == pytest.approx(50)


def test_size(sample: Path) -> None:
    assert sum(file.stat().st_size for file in sample.iterdir()) <= 3_000_000


def test_metadata_is_that_of_jazzy(sample: Path) -> None:
    metadata = YAML(typ="safe").load((sample / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (metadata["version"], metadata["storage_identifier"]) == (9, "mcap")
    assert (metadata["message_count"], metadata["relative_file_paths"]) == (100, ["street.mcap"])
    # From the Jazzy packages: share/sensor_msgs/msg/<type>.json.
    hashes = {
        "sensor_msgs/msg/CameraInfo": "b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275",
        "sensor_msgs/msg/CompressedImage": "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
    }
    for entry in metadata["topics_with_message_count"]:
        topic = entry["topic_metadata"]
        assert topic["serialization_format"] == "cdr"
        assert topic["type_description_hash"] == f"RIHS01_{hashes[topic['type']]}"
        assert topic["offered_qos_profiles"][0]["reliability"] == "reliable"


def test_source_is_named(sample: Path) -> None:
    text = (sample.parent / "README.md").read_text()
    assert "vtest.avi" in text and "Apache-2.0" in text and "make_sample.py" in text


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Eight frames of noise, 0000.jpg to 0014.jpg."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(8):
        image = np.random.default_rng(i).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(folder / f"{2 * i:04d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


def make_sample(*arguments: object) -> int:
    status: int = runpy.run_path(str(TOOL))["main"]([str(argument) for argument in arguments])
    return status


def test_tool_takes_frames_as_they_are_if_they_fit(frames: Path, tmp_path: Path, kit: Any) -> None:
    assert make_sample(frames, "--output", tmp_path / "bag", "--first", 3, "--count", 5) == 0
    with BagReader(tmp_path / "bag") as bag:
        images = [kit.deserialize(message) for message in bag.messages([bag.image_topic().name])]
    files = [frames / f"{number:04d}.jpg" for number in (4, 6, 8, 10, 12)]
    assert [bytes(image.data) for image in images] == [file.read_bytes() for file in files]


def test_tool_encodes_again_if_they_do_not_fit(
    frames: Path, tmp_path: Path, kit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [frames, "--output", tmp_path / "bag", "--first", 0, "--count", 8, "--max-bytes", 50_000]
    assert make_sample(*arguments) == 0
    assert "JPEG quality" in capsys.readouterr().out
    assert 40_000 < sum(file.stat().st_size for file in (tmp_path / "bag").iterdir()) <= 50_000
    with BagReader(tmp_path / "bag") as bag:
        images = [kit.deserialize(message) for message in bag.messages([bag.image_topic().name])]
    assert [pixels(image.data).shape for image in images] == [(96, 128, 3)] * 8


def test_tool_refuses(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bag"
    assert make_sample(frames, "--output", output, "--first", 4, "--count", 7) == 1
    assert "6 frames" in capsys.readouterr().err
    assert make_sample(frames, "--output", output, "--first", 0, "--count", 8, "--max-bytes", 5_000) == 1
    assert "take fewer" in capsys.readouterr().err
    assert not output.exists()
    assert make_sample(frames, "--output", frames, "--first", 0, "--count", 8, "--force") == 1
    assert "exists" in capsys.readouterr().err
    assert len(list(frames.iterdir())) == 8
