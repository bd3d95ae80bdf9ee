"""metadata.yaml and QoS: of all distributions, edited by hand, and damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rosbags.interfaces import QosDurability, QosHistory, QosReliability

from explain_cnn_ros.bags.metadata import read_metadata
from explain_cnn_ros.bags.qos import parse_qos
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.bags.storage import message_type

HEAD = "rosbag2_bagfile_information:\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "  relative_file_paths: 7\n",
        HEAD + "  relative_file_paths: [1, [2], {a: b}, null, '']\n",
        HEAD + "  relative_file_paths: {bag.mcap: 1}\n",
        HEAD + "  topics_with_message_count: yes\n",
        HEAD + "  topics_with_message_count: [1, null, {topic_metadata: 3}, {topic_metadata: {name: [1]}}]\n",
        HEAD + "  topics_with_message_count: [{message_count: many, topic_metadata: {name: /log}}]\n",
        HEAD + "  topics_with_message_count:\n  - topic_metadata: {name: /log, offered_qos_profiles: {a: 1}}\n",
        HEAD + "  topics_with_message_count:\n  - topic_metadata: {name: /log, offered_qos_profiles: [[], 1, {}]}\n",
        HEAD + f"  topics_with_message_count: [{{message_count: 0x{'f' * 3600}, topic_metadata: {{name: /log}}}}]\n",
        HEAD + "  version: [\n",
        "\ufeff" + HEAD + "  version: 10\r\n",
        HEAD + "  ros_distro: \xe9\n",
    ],
)
def test_wrong_kinds_of_values_cost_no_message(kit: Any, tmp_path: Path, text: str) -> None:
    sent = [kit.image(i) for i in range(3)]
    path = kit.write(tmp_path / "bag", sent)
    (path / "metadata.yaml").write_bytes(text.encode("latin-1" if "\xe9" in text else "utf-8"))
    with BagReader(path) as bag:
        assert list(bag.messages()) == sent


def test_paths_of_older_versions_and_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "metadata.yaml"
    file.write_text(HEAD + "  relative_file_paths: [run/run_0.db3, 'C:\\runs\\run_1.db3', ../../run_2.db3]\n")
    assert read_metadata(file).files == ("run_0.db3", "run_1.db3", "run_2.db3")


@pytest.mark.parametrize(
    "name", ["../other/other.mcap", "{other}/other.mcap", "..\\\\other\\\\other.mcap", "link/other.mcap"]
)
def test_a_recording_has_no_files_outside_of_its_folder(kit: Any, tmp_path: Path, name: str) -> None:
    """A relative or absolute path names a file of the folder, and there is none of this name."""
    other, path = kit.write(tmp_path / "other", [kit.string(0)]), kit.write(tmp_path / "bag", [kit.string(1)])
    assert (other / "other.mcap").is_file()
    metadata = path / "metadata.yaml"
    text = metadata.read_text()
    metadata.write_text(text.replace("bag.mcap", name.format(other=other)))
    assert text != metadata.read_text()
    with BagReader(path) as bag:
        assert bag.problems == ["the files that metadata.yaml lists are missing: those beside it are read"]
        assert list(bag.messages()) == [kit.string(1)]


def test_messages_that_metadata_announces_and_that_are_not_there(kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(i) for i in range(3)])
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 3", "message_count: 5"))
    with BagReader(path) as bag:
        assert bag.problems == ["/log: 3 of the 5 messages that metadata.yaml announces are there"]


def test_a_file_that_metadata_does_not_list_is_named(kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)])
    (path / "bag.mcap").with_name("other.mcap").write_bytes((path / "bag.mcap").read_bytes())
    with BagReader(path) as bag:
        assert bag.message_count == 1
        assert bag.notes == ["other.mcap is left out: metadata.yaml does not list it"]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [("5", 5), ("0", 0), ("-1", 0), ("2147483647", 10_000), ("18446744073709551615", 10_000), ("x", 0), ("null", 0)],
)
def test_depths(depth: str, expected: int) -> None:
    (qos,) = parse_qos(f"- history: keep_all\n  depth: {depth}\n")
    assert (qos.history, qos.depth) == (QosHistory.KEEP_ALL, expected)
    assert (qos.reliability, qos.durability) == (QosReliability.UNKNOWN, QosDurability.UNKNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "- history: 1\n  depth: 5\n  reliability: 2\n  durability: 1\n",
        "- history: keep_last\n  depth: 5\n  reliability: best_effort\n  durability: transient_local\n",
        "- {history: KEEP_LAST, depth: 5, reliability: BEST_EFFORT, durability: TRANSIENT_LOCAL, deadline: 3}\n",
    ],
)
def test_policies_as_numbers_and_names(text: str) -> None:
    (qos,) = parse_qos(text)
    assert qos[:4] == (QosHistory.KEEP_LAST, 5, QosReliability.BEST_EFFORT, QosDurability.TRANSIENT_LOCAL)


@pytest.mark.parametrize("text", ["", "7", "not yaml: [", "{a: 1}", None, 3, "- history: {a: b}\n  depth: [1]\n"])
def test_malformed_profiles_are_no_error(text: Any) -> None:
    assert all(qos.history == QosHistory.UNKNOWN for qos in parse_qos(text))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sensor_msgs/msg/Image", "sensor_msgs/msg/Image"),
        ("sensor_msgs/Image", "sensor_msgs/msg/Image"),
        ("sensor_msgs::msg::Image", "sensor_msgs/msg/Image"),
        ("sensor_msgs::msg::dds_::Image_", "sensor_msgs/msg/Image"),
        ("sensor_msgs.msg.Image ", "sensor_msgs/msg/Image"),
        ("example/srv/Add_Request", "example/srv/Add_Request"),
        ("foxglove.CompressedImage", "foxglove/msg/CompressedImage"),
        ("", ""),
        ("Image", "Image"),
    ],
)
def test_types_as_other_writers_spell_them(name: str, expected: str) -> None:
    assert message_type(name) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "aliases"),
        ("[" * 20_000, "nested too deeply"),
        ("- " * 5000 + "a", "nested too deeply"),
        ("{a: " * 30 + "1" + "}" * 30, "nested too deeply"),
        ("%YAML 1.1\n---\na: 1" + ":1" * 200_000, "directives"),
    ],
)
def test_yaml_that_stands_for_more_than_it_says(kit: Any, tmp_path: Path, text: str, named: str) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)])
    (path / "metadata.yaml").write_text(text)
    with BagReader(path) as bag:
        (problem,) = bag.problems
        assert named in problem and problem.endswith("the files beside it are read")
        assert list(bag.messages()) == [kit.string(0)]


def test_names_that_no_file_can_have(kit: Any, tmp_path: Path) -> None:
    path = kit.write(tmp_path / "bag", [kit.string(0)])
    metadata = path / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("bag.mcap", "x" * 300))
    with BagReader(path) as bag:
        assert list(bag.messages()) == [kit.string(0)]


def test_problems_are_few_and_short(kit: Any, tmp_path: Path) -> None:
    """The time for them does not grow with the square of their number."""
    broken = [kit.string(i)._replace(data=b"\x28\xb5\x2f\xfd" + i.to_bytes(4, "little")) for i in range(500)]
    named = kit.string(0, "/" + "a" * 5000 + "\u202e")._replace(data=b"\x28\xb5\x2f\xfd\0")
    with BagReader(kit.write(tmp_path / "bag", [named, *broken])) as bag:
        assert list(bag.messages()) == []
        assert len(bag.problems) == 101 and bag.problems[-1] == "there are further problems"
        assert all(len(problem) < 510 and "\u202e" not in problem for problem in bag.problems)
