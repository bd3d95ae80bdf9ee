"""The tools that measure and repair the network on the street video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.analysis.label_file import read_labels as read_label_file
from explain_cnn_ros.analysis.labels import labels_of
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS
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


def repaired(folder: Path, weights: Path) -> Path:
    """A repair whose held-out windows begin with the second of three frames."""
    folder.mkdir()
    windows = [{"frame": 2}, {"frame": 1}, {"frame": 2}]
    (folder / "repair.json").write_text(json.dumps({"cures": [{"windows": windows}]}))
    (folder / "training.safetensors").write_bytes(weights.read_bytes())
    return folder


def test_networks_are_compared_on_the_held_out_frames(street: Path, tmp_path: Path) -> None:
    settings = ScanSettings(person_height_min=50)
    same = repaired(tmp_path / "same", DEFAULT_WEIGHTS)
    figures = repair_demo.compare_searches(street, NAMES, None, same, settings, 0.0)
    threshold = PersonClassifier.load().threshold
    labels = {name: read_labels(LABELS)[name] for name in NAMES[1:]}
    expected = matches(scan_frames(PersonClassifier.load(), street, labels, settings), labels, threshold)
    assert figures["frames"] == 2
    assert figures["before"] == figures["after"]
    assert figures["before"]["found"] == expected.found > 0
    # A higher threshold may find as many persons with fewer false alarms.
    as_many = figures["after, as many persons found"]
    assert as_many["found"] == expected.found
    assert as_many["threshold"] >= threshold
    assert as_many["false_alarms"] <= expected.false_alarms


def test_a_network_that_finds_fewer_persons_at_every_threshold(street: Path, tmp_path: Path) -> None:
    network = PersonClassifier.load()
    last = network.network.classifier[-1]
    last.bias.data = last.bias.data - last.bias.data.new_tensor([-50.0, 50.0])
    network.save(tmp_path / "blind.safetensors")
    blind = repaired(tmp_path / "blind", tmp_path / "blind.safetensors")
    figures = repair_demo.compare_searches(street, NAMES, None, blind, ScanSettings(person_height_min=50), 0.0)
    assert figures["after"]["found"] == 0 < figures["before"]["found"]
    assert "after, as many persons found" not in figures
    assert np.isclose(figures["after"]["threshold"], network.threshold)
