"""The tools that measure and repair the network on the street video."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.analysis.label_file import read_labels as read_label_file
from explain_cnn_ros.analysis.labels import labels_of
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.detection import Matches, PersonLabel, read_labels
from tools import repair_demo
from tools.evaluate_scan import LABELS, matches, scan_frames

ROOT = Path(__file__).resolve().parent.parent

#: Labelled frames of the street video, which the sample recording holds from frame 200 on, every second one.
NAMES = ["0200.jpg", "0210.jpg", "0220.jpg"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled frames of the sample recording as files. The other labelled frames are no images."""
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
    written = read_label_file(tmp_path / "labels.csv")
    for number, name in enumerate(names):
        found = labels_of(written, "frames", round(number / repair_demo.RATE * 1e9), 0)
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
    assert repair_demo.held_out_frames(tmp_path, NAMES) == NAMES[1:]


def test_as_many_persons_are_found_with_fewer_false_alarms(street: Path) -> None:
    """A real search of one frame; a threshold that is higher leaves false alarms out, not persons."""
    found = scan_frames(PersonClassifier.load(), street, NAMES[:1], ScanSettings(person_height_min=50))
    low = repair_demo.at_threshold(found, 0.5)
    assert low["persons"] == sum(not label.ignore for label in read_labels(LABELS)[NAMES[0]])
    assert 0 < low["found"] <= low["persons"]
    as_many = repair_demo.at_persons(found, low["found"])
    assert as_many is not None
    assert as_many["found"] == low["found"]
    assert as_many["false_alarms"] <= low["false_alarms"]
    # At any higher threshold, fewer persons are found.
    assert repair_demo.at_threshold(found, as_many["threshold"] + 1e-6)["found"] < low["found"]
    assert repair_demo.at_persons(found, low["persons"] + 1) is None
