"""Labels from the boxes that a detector recorded in the same bag."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bag_kit import SECOND, START, Sent
from detections_kit import OWN, ROI, TOPIC, VISION, Drawn, copy_into, malformed, own, roi, sent, stamp_of, vision
from rosbags.rosbag2 import StoragePlugin

from explain_cnn_ros.analysis import cluster
from explain_cnn_ros.analysis import detection_labels as module
from explain_cnn_ros.analysis.cli import job_of, main, parser
from explain_cnn_ros.analysis.commands import suggestions
from explain_cnn_ros.analysis.detection_labels import DetectionLabels, FrameKey
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.inputs import Inputs, open_input, recording_of
from explain_cnn_ros.analysis.job import AnalysisError, Outcome, no_encoder
from explain_cnn_ros.analysis.labelled_source import LabelledSource
from explain_cnn_ros.analysis.labels import FrameLabels, Label
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.bags.bag_source import BagSource
from explain_cnn_ros.bags.detections import DetectionMessage
from explain_cnn_ros.bags.frame_source import Frame
from explain_cnn_ros.bags.storage import Topic
from explain_cnn_ros.scan.detections import person_windows

pytestmark = pytest.mark.timeout(600)

#: The header's stamps of the images are this many ns before their log times.
LATE = 1000

#: A person of the detector.
SOMEBODY = Drawn(40, 20, 30, 60)


def message(stamp: int, *boxes: Drawn, frame_id: str = "camera") -> DetectionMessage:
    return DetectionMessage(stamp, frame_id, None, own(START, list(boxes)))


def frame(stamp: int, index: int = 0, frame_id: str = "camera") -> Frame:
    return Frame(index, stamp, stamp, "/image", frame_id, None)


def labels_of(studio: Any, *messages: DetectionMessage, kind: str = OWN, **changes: Any) -> DetectionLabels:
    return DetectionLabels(Topic(TOPIC, kind, len(messages)), messages, studio.settings(label_topic=TOPIC, **changes))


class TestLabels:
    """Which frames have labels, and which boxes are persons."""

    def test_the_list_of_the_detector_is_complete(self, studio) -> None:
        found = labels_of(studio, message(5, SOMEBODY, Drawn(1.5, 2, 3, 4)), message(6))
        assert found.of(frame(5)) == FrameLabels(False, ((40, 20, 30, 60), (1.5, 2, 3, 4)))
        assert found.of(frame(6)) == FrameLabels(False)
        assert found.of(frame(7)) is None

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, [1, 2, 3, 4]),
            ({"label_classes": "person"}, [1, 2]),
            ({"label_classes": "0, person"}, [1, 2, 4]),
            ({"label_classes": "0,"}, [4]),
            ({"label_score_min": 0.5}, [1, 3]),
            ({"label_classes": "person", "label_score_min": 0.4}, [1, 2]),
            ({"label_classes": "person", "label_score_min": 0.41}, [1]),
        ],
    )
    def test_classes_and_scores(self, studio, changes: dict[str, Any], expected: list[int]) -> None:
        drawn = [
            Drawn(1, 0, 1, 1, "person", 0.9),
            Drawn(2, 0, 1, 1, "person", 0.4),
            Drawn(3, 0, 1, 1, "car", 0.9),
            Drawn(4, 0, 1, 1, "0", math.nan),
        ]
        found = labels_of(studio, message(5, *drawn), **changes).of(frame(5))
        assert found is not None
        assert [box[0] for box in found.persons] == expected
        assert found.person is False

    def test_a_stamp_of_0_belongs_to_no_image(self, studio) -> None:
        assert labels_of(studio, message(0, SOMEBODY)).of(frame(0)) is None

    def test_the_first_of_several_messages_counts(self, studio) -> None:
        found = labels_of(studio, message(5, SOMEBODY), message(5)).of(frame(5))
        assert found is not None and len(found.persons) == 1

    def test_cameras_with_the_same_stamps_are_told_apart_by_their_frame_ids(self, studio) -> None:
        both = (message(5, SOMEBODY, frame_id="left"), message(6, frame_id=""))
        one = labels_of(studio, *both)
        assert one.of(frame(5, frame_id="right")) == FrameLabels(False, (SOMEBODY[:4],))
        several = labels_of(studio, *both, topics=("/left", "/right"))
        assert several.of(frame(5, frame_id="left")) == FrameLabels(False, (SOMEBODY[:4],))
        assert several.of(frame(5, frame_id="right")) is None
        assert several.of(frame(6, frame_id="right")) == FrameLabels(False)

    def test_messages_without_stamps_belong_to_numbers_of_frames(self, studio) -> None:
        messages = [DetectionMessage(0, "", number, roi(x, 2, 3, 4)) for number, x in ((-1, 7), (2, 8), (2, 9))]
        found = labels_of(studio, *messages, kind=ROI)
        assert found.of(frame(5, index=2)) == FrameLabels(False, ((8, 2, 3, 4),))
        assert found.of(frame(2, index=0)) is None

    @pytest.mark.parametrize("box", [(math.nan, 0, 1, 1), (0, 0, math.inf, 1), (0, 0, 1, 0), (0, 0, -1, 1)])
    def test_a_message_with_a_person_that_is_no_box_is_not_used(self, studio, box: tuple) -> None:
        """Its list is not complete without this person."""
        found = labels_of(studio, message(5, SOMEBODY, Drawn(*box)), message(6))
        assert found.of(frame(5)) is None and found.of(frame(6)) is not None
        (problem,) = found.problems()
        assert problem.startswith(
            f"{TOPIC}: 1 of 2 messages cannot be used, and their images have no labels from them;"
        )
        assert "a box has the edges" in problem
        others = labels_of(studio, message(5, SOMEBODY, Drawn(*box, label="car")), label_classes="person")
        assert others.of(frame(5)) is not None and others.problems() == []

    def test_a_message_with_very_many_persons_is_not_used(self, studio, monkeypatch) -> None:
        monkeypatch.setattr(module, "BOXES_MAX", 2)
        found = labels_of(studio, message(5, *[SOMEBODY] * 3), message(6, *[SOMEBODY] * 2))
        assert found.of(frame(5)) is None and found.of(frame(6)) is not None
        assert "it has 3 persons, the limit is 2" in found.problems()[0]


class TestMismatches:
    """Most messages belong to no image."""

    @staticmethod
    def problems(labels: DetectionLabels, *stamps: int) -> list[str]:
        return labels.problems([FrameKey(i, stamp, "camera") for i, stamp in enumerate(stamps)])

    def test_gaps_of_one_side_are_none(self, studio) -> None:
        """A detector skips images, and a recorder images that the detector has searched."""
        labels = labels_of(studio, *(message(stamp) for stamp in range(1, 11)))
        assert self.problems(labels, 2, 5) == []
        assert self.problems(labels, *range(1, 100)) == []
        assert self.problems(labels, *range(1, 6), *range(100, 105)) == []
        assert self.problems(labels) == []
        assert self.problems(labels_of(studio), 1, 2) == []

    def test_stamps_that_no_image_has(self, studio) -> None:
        labels = labels_of(studio, *(message(START + stamp) for stamp in range(1, 11)))
        (problem,) = self.problems(labels, START + 1, START + 2, *range(START + 100, START + 108))
        assert problem == (
            f"{TOPIC}: 8 of 10 messages belong to no image with the same stamp; 2 of 10 images have labels from them. "
            "The first message has the stamp 1700000000.000000001, the first image 1700000000.000000001: select the "
            "images that the detector has searched by --topics, and let the detector copy their headers"
        )

    def test_stamps_of_0(self, studio) -> None:
        (problem,) = self.problems(labels_of(studio, message(0), message(0)), 1, 2, 3)
        assert problem == (
            f"{TOPIC}: 2 of 2 messages belong to no image, since their stamps are 0; 0 of 3 images have labels from "
            "them. Let the detector copy the header of the image"
        )

    def test_frame_ids_of_several_cameras(self, studio) -> None:
        labels = labels_of(studio, message(1, frame_id="other"), topics=("/a", "/b"))
        assert "belong to no image with the same stamp and frame_id;" in self.problems(labels, 1)[0]

    def test_messages_without_stamps(self, studio) -> None:
        labels = labels_of(studio, *(DetectionMessage(0, "", -1, roi()) for _ in range(3)), kind=ROI)
        assert self.problems(labels, 1, 2, 3)[0].startswith(
            f"{TOPIC}: 3 of 3 messages belong to no image: they come before the first image"
        )


@pytest.fixture(scope="module")
def pictures(studio, tmp_path_factory) -> Path:
    """Twelve images, whose stamps are LATE ns before their log times."""
    folder = tmp_path_factory.mktemp("pictures") / "images"
    return studio.record(folder, [studio.jpeg(i) for i in range(12)], delay=LATE)


def array(i: int, *boxes: Drawn, make: Any = vision, stamp: int | None = None, topic: str = TOPIC) -> Sent:
    """The boxes in image i, which the detector publishes 0.25 s after the image: more than two images later."""
    found = make(stamp_of(i, LATE) if stamp is None else stamp, list(boxes))
    return sent(found, stamp_of(i) + SECOND // 4, topic)


#: Frames with a person, by the detector of `walk`. It has skipped frame 3, and frame 7 is malformed.
SEEN = {0: True, 1: False, 2: True, 4: False, 5: True, 6: False, 8: True, 9: True, 10: False, 11: False}


def walk_messages(make: Any = vision) -> list[Sent]:
    kind = make(START, []).__msgtype__
    arrays = [array(i, *([SOMEBODY] if person else []), make=make) for i, person in SEEN.items()]
    return [*arrays, malformed(stamp_of(7) + SECOND // 4, kind)]


@pytest.fixture(scope="module")
def walk(pictures, tmp_path_factory) -> Path:
    """The images, and the boxes that a detector found in them."""
    return copy_into(tmp_path_factory.mktemp("walks") / "walk", pictures, walk_messages())


def labels_in(studio: Any, output: Path) -> dict[int, bool]:
    return {row["frame"]: row["label"] for row in studio.rows(output) if row["label"] is not None}


PROBLEM = (
    f"{TOPIC}: 1 of 11 messages cannot be used, and their images have no labels from them; the first one: it is no"
)


class TestAnalysis:
    """A recording with the messages of a detector, analysed."""

    @pytest.mark.parametrize(
        ("make", "storage"), [(vision, StoragePlugin.MCAP), (vision, StoragePlugin.SQLITE3), (own, StoragePlugin.MCAP)]
    )
    def test_frames_have_the_labels_of_their_stamps(self, studio, pictures, tmp_path, make, storage) -> None:
        bag = copy_into(tmp_path / "bag", pictures, walk_messages(make), storage)
        output = tmp_path / "out"
        outcome = studio.analyse(output, bag, label_topic=TOPIC, label_classes="person")
        assert labels_in(studio, output) == SEEN
        assert len(outcome.problems) == 1 and outcome.problems[0].startswith(f"{bag}: {PROBLEM}")
        assert outcome.summary["labelled"] == 10
        rows = studio.rows(output)
        assert [row["wrong"] for row in rows] == [
            row["person"] != SEEN[i] if i in SEEN else None for i, row in enumerate(rows)
        ]
        assert 0 < outcome.summary["wrong"] < 10
        assert {row["trigger"] for row in rows if row["wrong"]} == {"wrong"}

    def test_regions_of_interest(self, studio, pictures, tmp_path) -> None:
        """They belong to the image that was recorded last before them."""
        messages = [sent(roi(*box), stamp_of(i) + 7) for i, box in ((0, ()), (3, (40, 20, 30, 60)), (4, ()))]
        bag = copy_into(tmp_path / "bag", pictures, messages)
        assert studio.analyse(tmp_path / "out", bag, label_topic=TOPIC).problems == []
        assert labels_in(studio, tmp_path / "out") == {0: False, 3: True, 4: False}

    def test_labels_of_a_person_count_more(self, studio, walk, tmp_path) -> None:
        """The boxes of the detector do not count in frames that have a label from the file, even of a single box."""
        labels = [Label(0.05, 0.25, True), Label(0.75, 0.85, False, box=(0, 0, 5, 5)), Label(0.25, 0.35, True)]
        studio.analyse(tmp_path / "out", walk, labels=labels, label_topic=TOPIC)
        assert labels_in(studio, tmp_path / "out") == {i: v for i, v in SEEN.items() if i != 8} | {1: True, 3: True}

    def test_an_image_that_cannot_be_decoded_has_its_label(self, studio, tmp_path) -> None:
        images = studio.record(tmp_path / "images", [studio.jpeg(0), studio.jpeg(1)[:700], b"", studio.jpeg(3)])
        arrays = [array(i, *boxes, stamp=stamp_of(i)) for i, boxes in ((0, ()), (1, (SOMEBODY,)), (2, ()), (3, ()))]
        bag = copy_into(tmp_path / "bag", images, arrays)
        studio.analyse(tmp_path / "out", bag, label_topic=TOPIC)
        assert labels_in(studio, tmp_path / "out") == {0: False, 1: True, 2: False, 3: False}

    def test_persons_that_the_search_missed_and_false_alarms(self, studio, walk, tmp_path) -> None:
        output = tmp_path / "out"
        studio.analyse(
            output, walk, label_topic=TOPIC, regions="scan", end=0.15, explain_every=0, confidence_threshold=0.0
        )
        regions = studio.rows(output, "regions")
        (window,) = person_windows([module.DetectedBox(*SOMEBODY[:4])], studio.classifier.info, (160, 120)).regions
        missed = [row for row in regions if row["missed"]]
        assert [(r["frame"], r["x"], r["y"], r["width"], r["height"]) for r in missed] == [
            (0, window.x, window.y, window.width, window.height)
        ]
        assert all(row["label"] is False for row in regions if not row["missed"])
        assert {row["frame"] for row in regions} == {0, 1}

    def test_wrong_decisions_are_silenced_without_other_labels(self, studio) -> None:
        metrics = studio.QUICK.__class__(perturbations=0, layers=(3,), metrics=("influence",))
        assert Analyzer(studio.classifier, studio.settings(label_topic=TOPIC, explain=metrics)).silences
        assert not Analyzer(studio.classifier, studio.settings(explain=metrics)).silences

    @pytest.mark.usefixtures("small_parts")
    def test_resumed(self, studio, walk, tmp_path) -> None:
        """The tables are the same, only the same labels are resumed, and the fault is named once."""
        whole = studio.analyse(tmp_path / "whole", walk, label_topic=TOPIC)
        output = tmp_path / "out"
        studio.interrupt(output, walk, parts=2, label_topic=TOPIC)
        for changes in ({}, {"label_topic": "/other"}, {"label_topic": TOPIC, "label_classes": "person"}):
            with pytest.raises(AnalysisError, match="was created with other settings"):
                studio.analyse(output, walk, resume=True, **changes)
        outcome = studio.analyse(output, walk, resume=True, label_topic=TOPIC)
        assert outcome.complete
        assert outcome.problems == whole.problems
        assert studio.files(output) == studio.files(tmp_path / "whole")
        settings = json.loads((output / "analysis.json").read_text())["settings"]
        assert (settings["label_topic"], settings["label_classes"], settings["label_score_min"]) == (TOPIC, "", 0.0)

    def test_stamps_that_no_image_has_are_a_problem(self, studio, pictures, tmp_path) -> None:
        """The stamps of the messages are those of the detector and not those of the images."""
        arrays = [array(i, SOMEBODY, stamp=stamp_of(i) + SECOND // 4) for i in range(12)]
        bag = copy_into(tmp_path / "bag", pictures, arrays)
        outcome = studio.analyse(tmp_path / "out", bag, label_topic=TOPIC)
        assert len(outcome.problems) == 1
        assert (
            f"{TOPIC}: 12 of 12 messages belong to no image with the same stamp; 0 of 12 images have labels"
            in outcome.problems[0]
        )
        assert labels_in(studio, tmp_path / "out") == {}

    def test_the_command(self, studio, walk, tmp_path, capsys) -> None:
        arguments = [walk, "--output", tmp_path / "out", *studio.flags, "--label-topic", TOPIC]
        assert main([*map(str, arguments), "--label-classes", "person", "--label-score-min", "0.5"]) == 3
        captured = capsys.readouterr()
        assert PROBLEM in captured.err
        assert "of 10 wrong" in captured.out
        assert labels_in(studio, tmp_path / "out") == SEEN

    def test_the_command_refuses_a_topic_that_is_not_there(self, studio, walk, tmp_path, capsys) -> None:
        arguments = [walk, "--output", tmp_path / "out", *studio.flags, "--label-topic", "/detections"]
        assert main([*map(str, arguments)]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"analyze: --label-topic has no labels. {walk}: no topic /detections. Topics with detections: {TOPIC} "
            f"({VISION}, 11 messages)"
        )
        assert not (tmp_path / "out").exists()


class TestInputs:
    """The command names options and topics that do not fit before the analysis begins."""

    def notes(self, studio: Any, output: Path, *paths: Path, **changes: Any) -> list[str]:
        inputs = Inputs(studio.job(output, *paths, **({"label_topic": TOPIC} | changes)))
        inputs.close()
        return inputs.notes

    def test_one_of_several_recordings_without_the_topic(self, studio, walk, pictures, tmp_path) -> None:
        (note,) = self.notes(studio, tmp_path, walk, pictures)
        assert note.startswith(f"no labels from --label-topic: {pictures}: no topic {TOPIC}. No topic has detections")
        with pytest.raises(AnalysisError, match=r"--label-topic has no labels\. .*: no topic"):
            self.notes(studio, tmp_path, pictures)
        # The recording that has the topic may be away.
        assert len(self.notes(studio, tmp_path, pictures, tmp_path / "away")) == 1

    def test_folders_and_videos_have_no_topics(self, studio, walk, tmp_path) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "0.jpg").write_bytes(studio.jpeg(0))
        video = studio.film(tmp_path / "clip.avi")
        assert [note.partition(": ")[2] for note in self.notes(studio, tmp_path, walk, folder, video)] == [
            f"{path} is {kind}, which has no topics: --label-topic is for recordings, use --labels instead"
            for path, kind in ((folder, "a folder of images"), (video, "a video"))
        ]

    @pytest.mark.parametrize(
        ("changes", "lacks"), [({"label_classes": "person"}, "class"), ({"label_score_min": 0.5}, "score")]
    )
    def test_regions_of_interest_have_no_classes_and_scores(self, studio, pictures, tmp_path, changes, lacks) -> None:
        bag = copy_into(tmp_path / "bag", pictures, [sent(roi(), stamp_of(1))])
        with pytest.raises(AnalysisError, match=f"has the type {ROI}, which has no {lacks}: leave out --label-{lacks}"):
            self.notes(studio, tmp_path, bag, **changes)
        assert self.notes(studio, tmp_path, bag) == []

    def test_nothing_can_be_read(self, studio, pictures, tmp_path) -> None:
        bag = copy_into(tmp_path / "bag", pictures, [malformed(stamp_of(i)) for i in range(3)])
        with pytest.raises(AnalysisError, match=f"none of the first 3 messages on {TOPIC} can be read: it is no"):
            self.notes(studio, tmp_path, bag)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, "are of the classes car (2), 0 (1), and all count as persons: --label-classes selects some"),
            ({"label_classes": "person"}, "is of the classes in --label-classes (person), and nobody counts"),
            ({"label_classes": "0"}, ""),
            ({"label_classes": "car", "label_score_min": 0.7}, "(--label-score-min), and nobody counts as a person"),
            ({"label_classes": "car", "label_score_min": 0.6}, ""),
        ],
    )
    def test_classes_and_scores_that_do_not_fit(self, studio, pictures, tmp_path, changes, expected) -> None:
        boxes = [Drawn(1, 2, 3, 4, "car", 0.6), Drawn(1, 2, 3, 4, "0", 0.8), Drawn(1, 2, 3, 4, "car", 0.5)]
        bag = copy_into(tmp_path / "bag", pictures, [array(0, *boxes)])
        found = self.notes(studio, tmp_path, bag, **changes)
        assert [expected in note for note in found] == ([True] if expected else [])

    def test_boxes_of_another_camera(self, studio, pictures, tmp_path) -> None:
        messages = [sent(own(stamp_of(0, LATE), [], "right"), stamp_of(1))]
        bag = copy_into(tmp_path / "bag", pictures, messages)
        assert self.notes(studio, tmp_path, bag) == [
            f"{bag}: the frame_id on {TOPIC} is 'right', that of the images 'camera': if the detector has searched the "
            "images of another camera, its boxes do not fit these images"
        ]

    @pytest.mark.parametrize(
        ("box", "fits"),
        [
            (Drawn(40, 20, 30, 60), True),
            (Drawn(-20, 20, 30, 60), True),
            (Drawn(0.45, 0.35, 0.1, 0.3), False),
            (Drawn(900, 500, 60, 120), False),
        ],
    )
    def test_boxes_in_other_pixels(self, studio, pictures, tmp_path, box: Drawn, fits: bool) -> None:
        notes = self.notes(studio, tmp_path, copy_into(tmp_path / "bag", pictures, [array(0, box)]))
        assert [f"1 of 1 boxes among the first messages on {TOPIC} do not fit the images of" in n for n in notes] == (
            [] if fits else [True]
        )

    @pytest.mark.parametrize("changes", [{"label_classes": "person"}, {"label_score_min": 0.5}])
    def test_settings_without_a_topic(self, studio, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(changes))} is .* without label_topic"):
            studio.settings(**changes)

    def test_commands_repeat_the_options(self) -> None:
        words = ["bag", "--output", "out", "--label-topic", TOPIC, "--label-classes", "0,person"]
        job = job_of(parser().parse_args([*words, "--label-score-min", "0.25"]))
        assert (job.settings.label_topic, job.settings.person_classes) == (TOPIC, ("0", "person"))
        repeated = shlex.split(suggestions(job)["resume"])[2:]
        assert job_of(parser().parse_args(repeated)).settings == job.settings


class TestCluster:
    """The same labels in actors, without Ray."""

    @pytest.fixture
    def readings(self, monkeypatch) -> Iterator[list[Path]]:
        """The recordings whose detections are read, in their order."""
        found: list[Path] = []
        real = BagSource.detections

        def detections(self: BagSource, topic: Topic) -> Any:
            found.append(self.path)
            return real(self, topic)

        monkeypatch.setattr(BagSource, "detections", detections)
        return found

    def test_the_same_tables_and_problems(self, studio, walk, pictures, tmp_path, monkeypatch) -> None:
        class InThisProcess(cluster.Ray):
            """Does the tasks in an actor that is no process."""

            def _connect(self) -> None:
                return None

            def _work(self, ray: Any, job: Any, tasks: Any, results: Any, outcome: Outcome) -> None:
                actor = cluster.AnalysisActor(job, self._make_encoder)
                for task in tasks:
                    results.add(task, actor.analyze(task))

        here = studio.analyse(tmp_path / "here", walk, pictures, label_topic=TOPIC)
        distribute = InThisProcess("", 1, no_encoder)
        there = studio.analyse(tmp_path / "there", walk, pictures, label_topic=TOPIC, distribute=distribute)
        assert there.complete
        assert there.problems == here.problems and len(here.problems) == 1
        assert studio.files(tmp_path / "there") == studio.files(tmp_path / "here")

    def test_an_actor_has_the_labels_of_one_recording_in_memory(self, studio, walk, tmp_path, readings) -> None:
        other = copy_into(tmp_path / "other", walk, [])
        job = studio.job(tmp_path / "out", walk, other, label_topic=TOPIC, explain_every=0, end=0.35)
        actor = cluster.AnalysisActor(job, no_encoder)
        for source in (0, 0, 1, 0):
            actor.analyze(cluster.Slice(source, 0, 1, None, frozenset()))
        # The first reading of each is the sample.
        assert readings == [walk, walk, other, other, walk]

    def test_the_labels_are_freed_when_a_recording_is_finished(self, studio, walk, tmp_path, readings) -> None:
        studio.analyse(tmp_path / "out", walk, label_topic=TOPIC)
        assert readings == [walk, walk]
        source, _ = open_input(walk, studio.settings(label_topic=TOPIC))
        assert isinstance(source, LabelledSource)
        first = recording_of(source, studio.settings(label_topic=TOPIC), LabelsBySource()).detected
        assert source.labels is first
        source.release()
        assert source.labels is not first
        source.close()
