"""The recorder writes the explanations of a running node to a folder, as pictures and JSON."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from sensor_msgs.msg import CompressedImage

from explain_cnn_ros import Explainer, ExplainSettings
from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.msg import Classification, LayerRanking, Region
from explain_cnn_ros.ros.frame_cache import FrameCache, remember
from explain_cnn_ros.ros.messages import explanation_message
from explain_cnn_ros.ros.recorder import Recorder, main, write_png
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


def test_writes_explanation_overlay_sheet_and_table(graph, sample_frames, tmp_path):
    classifications = graph.collect(Classification, "/explain_node/classification")
    recorder = graph.start(
        *("--output", str(tmp_path / "out"), "--node", "/explain_node", "--image", "/image/compressed"),
        module="explain_cnn_ros.ros.recorder",
    )
    graph.start_node(
        image_transport="compressed", explain__perturbations=4, explain__layers=[5, 8], confidence_threshold=0.0
    )
    publisher = graph.node.create_publisher(CompressedImage, "/image/compressed", 10)
    graph.wait_for(lambda: publisher.get_subscription_count() == 2, "node and recorder")
    graph.wait_for(
        lambda: graph.node.count_subscribers("/explain_node/explanation") == 1, "the recorder's subscriptions"
    )
    frame = CompressedImage(format="jpeg", data=sample_frames[0])
    frame.header.stamp.sec, frame.header.frame_id = 42, "camera"

    table = tmp_path / "out/classifications.csv"

    def recorded():
        publisher.publish(frame)
        graph.spin(0.1)
        return classifications and len(table.read_text().splitlines()) > 1

    graph.wait_for(recorded, "a decision in the table")
    sheets = []

    def drawn():
        # The publisher may have found the recorder before the recorder found the publisher: the first frames are lost.
        publisher.publish(frame)
        graph.spin(0.5)
        assert graph.call(Explain, "/explain_node/explain", Explain.Request()).success
        sheets[:] = sorted((tmp_path / "out").glob("*_sheet.png"))
        return sheets

    graph.wait_for(drawn, "a sheet")
    number = sheets[0].name[:3]
    written = [
        tmp_path / "out" / f"{number}_{kind}" for kind in ("explanation.json", "overlay.png", "slide.png", "sheet.png")
    ]
    graph.wait_for(lambda: all(path.exists() for path in written), "the files")
    assert graph.stop(recorder) == 0

    record = json.loads(written[0].read_text())
    assert (record["stamp"], record["frame_id"], record["trigger"]) == ("42.000000000", "camera", "service")
    assert record["settings"]["perturbations"] == 4
    assert [(r["metric"], r["layer"]) for r in record["rankings"]] == [
        (metric, layer) for metric in ExplainSettings().metrics for layer in (5, 8)
    ]
    assert record["summary"].startswith("no person: P(person) ")
    assert "; for it: these 10 neurons carry " in record["summary"]
    overlay = cv2.imread(str(written[1]))
    original = cv2.imdecode(np.frombuffer(sample_frames[0], np.uint8), cv2.IMREAD_COLOR)
    assert overlay.shape == original.shape
    assert (overlay != original).any()
    slide, sheet = (cv2.imread(str(path)) for path in written[2:])
    assert slide.shape == sheet.shape == (1080, 1920, 3)
    assert (slide != sheet).any()
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["probability"]) == pytest.approx(classifications[0].probability, abs=1e-5)


class Recording:
    """A recorder without a graph, whose callbacks are called by the test."""

    def __init__(self, recorder, classifier):
        self.recorder, self._classifier = recorder, classifier
        self.said = []
        recorder.get_logger = lambda: self

    def warning(self, text, **_):
        self.said.append(text)

    error = warning

    def see(self, image):
        self.recorder._on_image(image)

    def decide(self, image):
        self.recorder._on_classification(Classification(header=image.header))

    def explain(self, image, **changes):
        """Send the explanation of an image, and return the names of the files."""
        explainer = Explainer(self._classifier, ExplainSettings(perturbations=0, layers=(3,), metrics=("influence",)))
        message = explanation_message(image.header, explainer.explain(to_rgb(image).copy()), "service")
        for name, value in changes.items():
            setattr(message, name, value)
        self.recorder._on_explanation(message)
        return self.files

    @property
    def files(self):
        return sorted(path.name for path in self.recorder.output.glob("[0-9]*"))


@pytest.fixture
def recording(tmp_path, domain, thin_classifier):
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    recorder = Recorder(tmp_path / "out", "/explain_node", "/image", context=context)
    yield Recording(recorder, thin_classifier)
    recorder.destroy_node()
    context.try_shutdown()


def test_nothing_that_comes_over_the_graph_can_end_it(recording):
    """rclpy raises exceptions for odd requests to the services of parameters, and the recorder has no parameters."""
    assert not [service.srv_name for service in recording.recorder.services if "parameter" in service.srv_name]


PICTURES = ["000_explanation.json", "000_overlay.png", "000_slide.png"]


def test_a_picture_is_of_the_explained_image(recording, picture, raw_image):
    """The images before and after it differ in their stamps."""
    images = [raw_image(picture(32, 64, seed), stamp=seed + 1) for seed in range(3)]
    for image in images:
        recording.see(image)
    assert recording.explain(images[1]) == PICTURES
    overlay = cv2.imread(str(recording.recorder.output / "000_overlay.png"))[..., ::-1].astype(int)
    distances = [np.abs(overlay - to_rgb(image)).mean() for image in images]
    assert np.argmin(distances) == 1
    assert not recording.said


def test_an_image_may_arrive_after_its_explanation(recording, picture, raw_image):
    """The two are separate topics: their order is chance."""
    image = raw_image(picture(32, 64))
    assert recording.explain(image) == PICTURES[:1]
    recording.see(image)
    recording.recorder._draw_all()
    assert recording.files == PICTURES
    assert not recording.said


def test_an_image_that_does_not_arrive(recording, picture, raw_image, monkeypatch):
    monkeypatch.setattr("explain_cnn_ros.ros.recorder.PATIENCE", 0.0)
    recording.see(raw_image(picture(32, 64), stamp=1))
    assert recording.explain(raw_image(picture(32, 64), stamp=2)) == PICTURES[:1]
    assert recording.said == ["no pictures of explanation 000: its image did not arrive here"]


def test_stamps_of_zero_identify_no_image(recording, picture, raw_image):
    """Not even if only one image has arrived: the recorder may have missed the explained one."""
    image = raw_image(picture(32, 64), stamp=0)
    image.header.stamp.nanosec = 0
    recording.see(image)
    assert recording.explain(image) == PICTURES[:1]
    assert "its stamp is 0" in recording.said[0]


def test_doubled_stamps_identify_no_image(recording, picture, raw_image):
    first, second = (raw_image(picture(32, 64, seed)) for seed in range(2))
    recording.see(first)
    recording.see(second)
    recording.see(first)
    assert recording.explain(first) == PICTURES[:1]
    assert "several different images have its stamp" in recording.said[0]


def test_a_recording_in_a_loop_repeats_the_same_image(recording, picture, raw_image):
    image = raw_image(picture(32, 64))
    for _ in range(3):
        recording.see(image)
        recording.decide(image)
    assert recording.explain(image) == PICTURES


def test_two_cameras_with_one_stamp(recording, picture, raw_image):
    left, right = (raw_image(picture(32, 64, seed), frame_id=f"camera_{seed}") for seed in range(2))
    recording.see(left)
    recording.see(right)
    assert recording.explain(left) == PICTURES


def test_an_image_of_another_size_is_another_image(recording, picture, raw_image):
    recording.see(raw_image(picture(30, 60)))
    assert recording.explain(raw_image(picture(32, 64))) == PICTURES[:1]
    assert "30 x 60 pixels, the explained one 32 x 64" in recording.said[0]


def test_invalid_messages_are_logged(recording, picture, raw_image):
    """Any node can publish them. The recording goes on."""
    image = raw_image(picture(32, 64))
    recording.see(image)
    recording.explain(image, image_width=0)
    assert "no pictures of explanation 000" in recording.said.pop()
    recording.explain(image, region=Region(x=-(2**31), y=-(2**31), width=2**32 - 1, height=0))
    recording.explain(image, rankings=[LayerRanking(metric="nonsense", layer=99)])
    recording.said.clear()
    assert "003_overlay.png" in recording.explain(image)
    assert not recording.said


def test_a_full_disk(recording, picture, raw_image):
    """Rows that could not be written stay in the memory of the file, which fails again when it is closed."""
    recorder = recording.recorder
    recorder._table.close()
    with Path("/dev/full").open("w", newline="") as table:
        recorder._table, recorder._rows = table, csv.writer(table)
        recording.decide(raw_image(picture(32, 64)))
        recorder.destroy_node()
        assert table.closed
    assert [text.split(":")[0] for text in recording.said] == [
        "the decision was not written",
        "the last decisions were not written",
    ]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        write_png(tmp_path / "000_overlay.png", np.zeros((4, 4, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_second_recording_in_a_folder_continues_the_first(tmp_path, domain, thin_classifier, picture, raw_image):
    """Pictures of the first are never beside explanations of the second."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    image = raw_image(picture(32, 64))
    for number in range(2):
        recorder = Recorder(tmp_path, "/explain_node", "/image", context=context)
        recording = Recording(recorder, thin_classifier)
        recording.see(image)
        recording.decide(image)
        assert f"{number:03d}_overlay.png" in recording.explain(image)
        recorder.destroy_node()
    context.try_shutdown()
    assert len(recording.files) == 6
    with (tmp_path / "classifications.csv").open() as file:
        assert [row["stamp"] for row in csv.DictReader(file)] == ["7.000000123"] * 2


@pytest.mark.parametrize("where", ["a_file", "a_file/folder"])
def test_a_place_that_cannot_be_written(tmp_path, capsys, where):
    (tmp_path / "a_file").touch()
    assert main(["--output", str(tmp_path / where)]) == 1
    assert f"record_explanations: cannot write to {tmp_path / where}: " in capsys.readouterr().err


def frames(raw_image, count=10, size=(20, 10)):
    return [raw_image(np.full((*size, 3), i, np.uint8), stamp=i + 1) for i in range(count)]


def test_images_are_bounded_by_bytes(raw_image):
    """Raw images of 600 bytes, in 2000 bytes."""
    cache = FrameCache(2000)
    images = frames(raw_image)
    for image in images:
        cache.add(image)
        assert cache.size <= 2000
    assert (len(cache), cache.size) == (3, 1800)
    assert cache.find(images[-1].header) is images[-1]
    with pytest.raises(LookupError, match="is not stored any more, since images have at most 0 MiB: raise --memory"):
        cache.find(images[0].header)
    cache.add(raw_image(np.zeros((100, 100, 3), np.uint8), stamp=99))
    assert cache.size == 1800, "one that is larger than all of the memory is not stored"


def test_images_that_the_node_has_skipped_are_removed_first(raw_image):
    cache = FrameCache(3000)
    images = frames(raw_image)
    for i in (0, 1, 2, 3):
        cache.add(images[i])
    for i in (0, 3):
        cache.decide(images[i].header)
    for i in (4, 5, 6):
        cache.add(images[i])
    stored = []
    for i, image in enumerate(images):
        with contextlib.suppress(LookupError):
            stored += [i] if cache.find(image.header) is image else []
    # 1 and 2 had to go: images after the last decided one may still be decided.
    assert stored == [0, 3, 4, 5, 6]
    cache.add(images[7])
    assert cache.find(images[3].header) is images[3]
    with pytest.raises(LookupError):
        cache.find(images[0].header)


def test_a_decision_may_arrive_before_its_image(raw_image):
    cache = FrameCache(1200)
    images = frames(raw_image)
    cache.decide(images[0].header)
    cache.add(images[0])
    cache.add(images[1])
    cache.decide(images[2].header)
    cache.add(images[2])
    assert cache.find(images[0].header) is images[0]


def test_identities_are_bounded(monkeypatch, raw_image):
    monkeypatch.setattr("explain_cnn_ros.ros.frame_cache.remember", functools.partial(remember, size=3))
    cache = FrameCache(600)
    for image in frames(raw_image):
        cache.decide(image.header)
        cache.add(image)
    assert len(cache._checksums) == len(cache._decided) == 3


@pytest.mark.parametrize("text", ["0", "-1", "much", "1e3"])
def test_the_memory_is_a_number(text, capsys):
    with pytest.raises(SystemExit):
        main(["--output", "nowhere", "--memory", text])
    assert f"{text} is not a whole number" in capsys.readouterr().err
