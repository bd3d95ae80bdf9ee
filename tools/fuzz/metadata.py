"""The metadata.yaml of a recording, and other texts of YAML."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from ruamel.yaml import YAML

from explain_cnn_ros.bags.qos import parse_qos
from tools.fuzz.kind import Kind, require
from tools.fuzz.mutation import Mutation
from tools.fuzz.recordings import QOS, mcap_files, read_recording, sent

_LAUNCH = Path(__file__).resolve().parents[2] / "launch" / "replay.launch.py"
_LAUNCH_MODULES = (
    *("launch", "launch.actions", "launch.event_handlers", "launch.events", "launch.events.process"),
    *("launch.launch_description_sources", "launch.substitutions", "launch_ros.actions", "launch_ros.substitutions"),
)


def _plain() -> dict[str, Any]:
    topics = []
    for topic, kind in dict.fromkeys((topic, kind) for topic, kind, _, _ in sent()):
        about = {"name": topic, "type": kind, "serialization_format": "cdr", "offered_qos_profiles": QOS}
        topics.append({"topic_metadata": about, "message_count": 4})
    return {
        "rosbag2_bagfile_information": {
            "version": 9,
            "storage_identifier": "mcap",
            "duration": {"nanoseconds": 300000009},
            "starting_time": {"nanoseconds_since_epoch": sent()[0][2]},
            "message_count": 12,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": ["bag_0.mcap"],
            "files": [{"path": "bag_0.mcap", "message_count": 12}],
        }
    }


def _text(value: Any) -> bytes:
    file = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, file)
    return file.getvalue().encode("utf-8", "surrogatepass")


@cache
def _valid() -> tuple[bytes, ...]:
    plain = _plain()
    parsed = _plain()
    for entry in parsed["rosbag2_bagfile_information"]["topics_with_message_count"]:
        entry["topic_metadata"]["offered_qos_profiles"] = [{"history": "keep_last", "depth": 3, "deadline": {"sec": 0}}]
    return (_text(plain), _text(parsed), _text(plain).replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + _text(plain))


@cache
def _bombs() -> tuple[bytes, ...]:
    """Return texts that are nested, that stand for much more than they say, or that name other files."""
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    head = "rosbag2_bagfile_information:\n  relative_file_paths:\n"
    names = (
        "../" * 20 + "etc/passwd",
        "/dev/zero",
        "x" * 5000,
        "a\0b",
        "..",
        ".",
        ".zstd",
        "bag_0.mcap.zstd",
        "\ud800",
    )
    found = [merges, laughs, "[" * 20_000, "{a: " * 20_000, "- " * 5000, "a:\n" + " " * 9999 + "b: c", "? " * 5000]
    found += [f"{head}  - {name!r}\n" for name in names]
    found += [
        "rosbag2_bagfile_information: *a",
        "!!python/object/apply:os.system ['true']",
        "%YAML 9.9\n---\na: b",
        "a: 1_0:5",
    ]
    found += [
        "a: 2001-99-99",
        "a: 0x" + "f" * 10_000,
        "a: " + "9" * 5000,
        "a: 1e" + "9" * 500,
        "\t",
        "---\n" * 3000,
        "a: &a a",
    ]
    found += ['"' + "\\x41" * 5000 + '"', "'" * 5000, "# " * 50_000, "a: " * 5000, "[a, " * 15 + "]" * 15]
    return tuple(text.encode("utf-8", "surrogatepass") for text in found)


def _mutated_text(mutation: Mutation, seeds: Sequence[bytes], plain: dict[str, Any]) -> bytes:
    if mutation.chance(0.5):
        return mutation.mutated(mutation.one(seeds), seeds)
    try:
        return _text(mutation.value(plain))
    except Exception:  # such a value has no spelling
        return mutation.mutated(_text(plain))


def _mutated(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    return _mutated_text(mutation, seeds, _plain())


def _read(data: bytes, folder: Path) -> str:
    bag = folder / "bag"
    bag.mkdir()
    (bag / "bag_0.mcap").write_bytes(mcap_files()[0])
    (bag / "metadata.yaml").write_bytes(data)
    parse_qos(data.decode("utf-8", "replace"))
    # The recording lies beside its metadata, and is read whatever they say.
    outcome = read_recording(bag)
    require(not outcome, f"the recording is not read: {outcome}")
    return ""


@cache
def _launch() -> Any:
    specification = importlib.util.spec_from_file_location("replay_launch", _LAUNCH)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # The function that is tried needs none of ROS's launch modules, which the wheels do not have.
    names = () if importlib.util.find_spec("launch_ros") else _LAUNCH_MODULES
    with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in names}):
        specification.loader.exec_module(module)
    return module


def _parameters() -> tuple[bytes, ...]:
    return (b"/**:\n  ros__parameters:\n    use_sim_time: true\n    scan:\n      scale_step: 1.4\n",)


def _mutated_parameters(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    plain = {"/**": {"ros__parameters": {"use_sim_time": True, "scan": {"scale_step": 1.4}}}}
    return _mutated_text(mutation, seeds, plain)


def _read_parameters(data: bytes, folder: Path) -> str:
    path = folder / "params.yaml"
    path.write_bytes(data)
    found = _launch().file_value(str(path), "use_sim_time")
    require(isinstance(found, str), f"{type(found).__name__} instead of a text")
    return "" if found else "no value"


KINDS = (
    Kind("metadata", _valid, _read, _mutated, _bombs),
    Kind("parameters", _parameters, _read_parameters, _mutated_parameters),
)
