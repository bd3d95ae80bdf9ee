"""The tools that measure and repair the network on the street video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.analysis.label_file import read_labels as read_label_file
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import Matches, PersonLabel, read_labels
from tools import repair_demo
from tools.evaluate_scan import LABELS, matches, scan_frames

ROOT = Path(__file__).resolve().parent.parent

#: Three labelled frames of the street video. The sample recording contains them, since it holds every second frame of
#: the video from frame 200 on.
NAMES = ["0200.jpg", "0210.jpg", "0220.jpg"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the three frames as files. The files of all other labelled frames are not images."""
    folder = tmp_path_factory.mktemp("street")
    for name in read_labels(LABELS):
        (folder / name).write_bytes(b"not in the repository")
    with BagReader(ROOT / "sample" / "street") as bag:
        for number, message in enumerate(bag.messages([bag.image_topic().name])):
            if (name := f"{200 + 2 * number:04d}.jpg") in NAMES:
                image = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(message.data, message.type)
                (folder / name).write_bytes(bytes(image.data))
    return folder


def test_labels_cover_their_frame_only(street: Path, tmp_path: Path) -> None:
    names = repair_demo.write_inputs(street, tmp_path)
    labels = read_labels(LABELS)
    assert names == sorted(labels)
    assert [(tmp_path / "frames" / name).read_bytes() for name in names] == [(street / n).read_bytes() for n in names]
    written = LabelsBySource(read_label_file(tmp_path / "labels.csv")).of("frames", 0)
    for number, name in enumerate(names):
        found = written.at(round(number / repair_demo.RATE * 1e9))
        assert list(found.persons) == [label.box for label in labels[name] if not label.ignore]
        assert list(found.ignored) == [label.box for label in labels[name] if label.ignore]
        assert found.person is False  # Outside of the boxes, there is nobody.


def test_frames_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"0000\.jpg"):
        repair_demo.write_inputs(tmp_path / "nothing", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no frame 0000\.jpg in .*give the folder"):
        scan_frames(PersonClassifier.load(), tmp_path, ["0000.jpg"], ScanSettings())


def test_matches_count_regions_from_the_threshold_on() -> None:
    window = {"width": 60, "height": 120}
    person = Region(0, 0, probability=0.8, **window)
    alarm = Region(300, 0, probability=0.6, **window)
    labels = {"a": [PersonLabel(person.person_box, False)], "b": []}
    found = {"a": [person], "b": [alarm]}
    counted = [matches(found, labels, threshold) for threshold in (0.6, 0.8, 0.81)]
    assert counted == [Matches(1, 1, 1, 2), Matches(1, 1, 0, 2), Matches(1, 0, 0, 2)]


def test_the_held_out_frames_begin_with_the_first_held_out_window(tmp_path: Path) -> None:
    windows = [{"frame": 2}, {"frame": 1}, {"frame": 2}]
    (tmp_path / "repair.json").write_text(json.dumps({"cures": [{"windows": windows}]}))
    assert repair_demo.held_out_names(tmp_path, NAMES) == NAMES[1:]


def test_as_many_persons_are_found_with_fewer_false_alarms(street: Path) -> None:
    """A higher threshold removes false alarms as long as no person is lost. The frame is a real one."""
    found = scan_frames(PersonClassifier.load(), street, NAMES[:1], ScanSettings(person_height_min=50))
    labels = read_labels(LABELS)
    low = repair_demo.at_threshold(found, labels, 0.5)
    assert low["persons"] == sum(not label.ignore for label in labels[NAMES[0]])
    assert 0 < low["found"] <= low["persons"]
    as_many = repair_demo.at_persons(found, labels, low["found"])
    assert as_many is not None
    assert as_many["found"] == low["found"]
    assert as_many["false_alarms"] <= low["false_alarms"]
    # At any higher threshold, fewer persons are found.
    assert repair_demo.at_threshold(found, labels, as_many["threshold"] + 1e-6)["found"] < low["found"]
    assert repair_demo.at_persons(found, labels, low["persons"] + 1) is None


def test_both_networks_search_the_held_out_frames(street: Path, tmp_path: Path) -> None:
    """With the same weights before and after, the figures are the same. The test computes them with its own search."""
    (tmp_path / "frames").symlink_to(street)
    search = ScanSettings(person_height_min=50)
    held_out = repair_demo.search_before(tmp_path, NAMES[1:2], None, search, 0.0)
    figures = repair_demo.search_after(held_out, DEFAULT_WEIGHTS, 0.0)
    network = PersonClassifier.load()
    found = scan_frames(network, street, NAMES[1:2], search)
    assert figures["before"] == figures["after"]
    assert figures["before"] == repair_demo.at_threshold(found, read_labels(LABELS), network.threshold)
    assert figures["as many persons found"]["found"] == figures["before"]["found"] > 0
