"""The parts of a repair: the split, the windows, silencing for good, and the counts of the proof."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.intervals import wilson
from explain_cnn_ros.analysis.job import ProgressReporter
from explain_cnn_ros.analysis.repair.crops import judged_aspect, with_context, write_windows
from explain_cnn_ros.analysis.repair.frames import FrameCounts, count
from explain_cnn_ros.analysis.repair.job import RepairJob
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError, labelled_windows
from explain_cnn_ros.analysis.repair.phases import Phase, Phases
from explain_cnn_ros.analysis.repair.proof import Count, Judged, judge, window_proof
from explain_cnn_ros.analysis.repair.prover import Cure, Prover
from explain_cnn_ros.analysis.repair.record import record_of
from explain_cnn_ros.analysis.repair.splitting import LEARNED_MAX, Split, choose_learned, split
from explain_cnn_ros.analysis.repair.text import duration, held_out_judgement, judgement, lines
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.reader import CLOCK_UNSET
from explain_cnn_ros.bags.sources import SourceSettings, open_source
from explain_cnn_ros.explain.damping import damped
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.vgg.adapter import VGGAdapter
from explain_cnn_ros.model.network import convolution_layers
from explain_cnn_ros.model.windows import Region, crop
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.datasets import read_own

SECOND = 10**9


def window(
    seconds: float, wrong: bool = False, person: bool = True, source: str = "a", cause: int | None = None
) -> LabelledWindow:
    region = Region(10, 20, 40, 80, 0.5)
    return LabelledWindow(source, round(10 * seconds), round(seconds * SECOND), 0, region, person, wrong, cause)


def result_of(*cures: Cure, left_out: int = 0) -> SimpleNamespace:
    """The result of a repair with some cures."""
    return SimpleNamespace(
        job=RepairJob(Path("analysed"), Path("repaired")),
        before=SimpleNamespace(info=SimpleNamespace(architecture="vgg11"), model_hash="abc", device="cpu"),
        threshold=0.5,
        causes=[],
        split=Split((), (), left_out),
        old={},
        frames=FrameCounts(0, 0, 0, 0),
        cures=cures,
        trained=None,
        phases=[],
    )


class TestSplit:
    """The later part of each recording is held out."""

    def test_by_the_time_of_the_wrong_windows(self) -> None:
        """Three of nine wrong windows are held out. The frames in the two seconds before them are on neither side."""
        windows = [window(t, wrong=t % 2 == 0) for t in range(18)]
        parts = split(windows)
        assert [w.log_time // SECOND for w in parts.training] == list(range(10))
        assert [w.log_time // SECOND for w in parts.held_out] == list(range(12, 18))
        assert sum(w.wrong for w in parts.held_out) == 3

    def test_each_recording_has_its_own_cut(self) -> None:
        windows = [window(t, wrong=True, source=source) for source, t in [("a", 0), ("a", 10), ("b", 50), ("b", 60)]]
        parts = split(windows, held_out=0.5)
        assert [(w.source, w.log_time // SECOND) for w in parts.training] == [("a", 0), ("b", 50)]
        assert [(w.source, w.log_time // SECOND) for w in parts.held_out] == [("a", 10), ("b", 60)]

    def test_windows_of_one_frame_are_on_one_side(self) -> None:
        windows = [window(t, wrong=True) for t in (0, 0, 10, 10, 10)]
        parts = split(windows, held_out=0.5)
        assert [len(parts.training), len(parts.held_out)] == [2, 3]

    def test_without_wrong_windows_and_with_a_single_one(self) -> None:
        parts = split([window(10 * t) for t in range(9)])
        assert [len(parts.training), len(parts.held_out)] == [6, 3]
        parts = split([window(0, wrong=True), window(30)])
        assert parts.training == ()
        assert len(parts.held_out) == 2

    def test_no_window_is_near_a_held_out_one_of_another_recording(self) -> None:
        """Recording b begins half a second after the end of a: its first frames resemble the held-out ones of a."""
        start = CLOCK_UNSET // SECOND
        first = [window(start + t, wrong=True) for t in range(10)]
        second = [window(start + 9.5 + t, wrong=True, source="b") for t in range(10)]
        parts = split(first + second, held_out=0.5)
        assert [w.log_time // SECOND - start for w in parts.held_out] == [5, 6, 7, 8, 9, 14, 15, 16, 17, 18]
        # The first two windows of recording b, at 9.5 s and 10.5 s, are left out: they are less than two seconds after
        # the last held-out window of recording a, which is at 9 s.
        assert [w.log_time / SECOND - start for w in parts.training] == [0, 1, 2, 11.5]
        assert [w.source for w in parts.training] == ["a", "a", "a", "b"]

    def test_two_cameras_of_one_scene(self) -> None:
        """The cut of b is later than that of a. Windows of b exactly two seconds from a held-out one are left out."""
        start = CLOCK_UNSET // SECOND
        one = [window(start + t, wrong=True) for t in (0, 1, 20, 30)]
        other = [window(start + t, wrong=True, source="b") for t in (0, 17.5, 18, 20, 22, 22.5, 40, 41, 50, 51, 52, 53)]
        parts = split(one + other, held_out=0.5)
        assert [w.log_time / SECOND - start for w in parts.held_out] == [20, 30, 40, 41, 50, 51, 52, 53]
        assert [w.log_time / SECOND - start for w in parts.training] == [0, 1, 0, 17.5, 22.5]

    def test_times_without_a_real_clock_are_not_compared(self) -> None:
        """Both recordings count from their own start, for instance two videos."""
        windows = [window(t, wrong=True, source=source) for source in "ab" for t in (0, 5, 10, 20)]
        windows += [window(t, wrong=True, source="c") for t in (10, 20, 30, 40)]
        parts = split(windows, held_out=0.5)
        assert [w.log_time // SECOND for w in parts.training] == [0, 5, 0, 5, 10, 20]

    def test_windows_that_are_too_many_are_left_out(self) -> None:
        """All five wrong ones are chosen. Of the 90 right ones, 15 that are evenly spread are chosen."""
        windows = [window(t, wrong=t % 18 == 7) for t in range(95)]
        chosen = choose_learned(windows, 20)
        assert [w for w in chosen if w.wrong] == [w for w in windows if w.wrong]
        right = [number for number, w in enumerate(w for w in windows if not w.wrong) if w in chosen]
        assert len(right) == 15 and right[0] == 0 and right[-1] == 89
        assert {after - before for before, after in itertools.pairwise(right)} == {6, 7}
        assert chosen == sorted(chosen, key=lambda w: w.log_time)
        assert choose_learned(windows, 95) == windows

    @pytest.mark.parametrize(("right", "expected"), [(50, (10, 10)), (10, (10, 10)), (4, (16, 4)), (0, (20, 0))])
    def test_right_windows_keep_half_of_the_places(self, right: int, expected: tuple[int, int]) -> None:
        windows = [window(t, wrong=t >= right) for t in range(right + 50)]
        chosen = choose_learned(windows, 20)
        assert (sum(w.wrong for w in chosen), sum(not w.wrong for w in chosen)) == expected

    def test_the_number_of_windows_that_are_left_out_is_known(self) -> None:
        """A window takes 46 kB, so the windows of an hour in which each frame has labels would take some gigabytes."""
        shared = window(0)
        windows = [shared] * (LEARNED_MAX + 7) + [window(10, wrong=True)]
        parts = split(windows)
        assert (len(parts.training), len(parts.held_out), parts.left_out) == (LEARNED_MAX, 1, 7)


class TestTables:
    """Reading of the labelled windows of an analysis."""

    @pytest.fixture
    def output(self, tmp_path: Path) -> Path:
        """An analysis of 10,000 frames with 2 regions each. One region of frame 7 and two of frame 9000 have labels."""
        labels = {(7, 1): True, (9000, 0): False, (9000, 1): True}
        keys = [(frame, region) for frame in range(10_000) for region in range(2)]
        count = len(keys)
        regions = {"source": ["walk"] * count, "frame": [k[0] for k in keys], "region": [k[1] for k in keys]}
        regions |= {name: [k[1] for k in keys] for name in ("x", "y", "width", "height")}
        regions |= {"probability": [0.25] * count, "label": [labels.get(k) for k in keys]}
        regions |= {"wrong": [labels.get(k) for k in keys]}
        numbers = list(range(10_000))
        frames = {"source": ["walk"] * 10_000, "frame": numbers, "log_time": [SECOND * number for number in numbers]}
        for name, columns in (("regions", regions), ("frames", frames)):
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        return tmp_path

    def test_labelled_windows_are_found(self, output: Path) -> None:
        causes = [{"windows": []}, {"windows": [{"source": "walk", "frame": 9000, "region": 1}]}]
        found = labelled_windows(output, causes)
        assert found == [
            LabelledWindow("walk", 7, 7 * SECOND, 1, Region(1, 1, 1, 1, 0.25), True, True),
            LabelledWindow("walk", 9000, 9000 * SECOND, 0, Region(0, 0, 0, 0, 0.25), False, False),
            LabelledWindow("walk", 9000, 9000 * SECOND, 1, Region(1, 1, 1, 1, 0.25), True, True, 1),
        ]

    def test_regions_without_a_label_take_no_memory(self, output: Path) -> None:
        """The 20,000 regions and 10,000 frames would take more than 13 MB if they became Python values."""
        labelled_windows(output)
        tracemalloc.start()
        try:
            labelled_windows(output)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000


class TestWindows:
    """Windows with their surroundings, read from the recordings again."""

    def test_the_region_is_in_the_middle(self) -> None:
        """A region of 64 x 128 pixels with 16 pixels on each side is not resized."""
        image = np.random.default_rng(0).integers(0, 256, (400, 300, 3)).astype(np.uint8)
        found = with_context(image, Region(100, 120, 64, 128, 0.5))
        np.testing.assert_array_equal(found, image[104:264, 84:180])

    def test_square_regions_take_the_height(self) -> None:
        """The person in the middle of a region takes 0.75 of its height, whatever its width is."""
        image = np.random.default_rng(0).integers(0, 256, (400, 300, 3)).astype(np.uint8)
        one, other = (with_context(image, Region(x, 120, width, 128, 0.5)) for x, width in ((100, 64), (68, 128)))
        np.testing.assert_array_equal(one, other)

    def test_whole_frames_are_in_the_window_as_the_network_judges_them(self) -> None:
        """A frame of 640 x 480 pixels is resized to 64 x 128. It shows a red bar near its left edge."""
        image = np.full((480, 640, 3), 90, np.uint8)
        image[100:400, 20:40] = (255, 0, 0)
        region = Region(0, 0, 640, 480, 0.5)
        aspect = judged_aspect("whole", (64, 128), [dataclasses.replace(window(0), region=region)])
        middle = with_context(image, region, aspect)[16:144, 16:80].astype(int)
        judged = crop(image, 0, 0, 640, 480, (64, 128))
        assert np.abs(middle - judged).max() <= 1
        assert middle[64, 2].tolist() == [255, 0, 0]

    def test_windows_are_not_stretched(self) -> None:
        """Frames that are windows stay the same, and those of a search keep their shape."""
        image = np.random.default_rng(0).integers(0, 256, (128, 64, 3)).astype(np.uint8)
        cut = dataclasses.replace(window(0), region=Region(0, 0, 64, 128, 0.5))
        aspect = judged_aspect("whole", (64, 128), [cut])
        np.testing.assert_array_equal(with_context(image, cut.region, aspect), with_context(image, cut.region))
        wide = dataclasses.replace(cut, region=Region(0, 0, 128, 128, 0.5))
        assert judged_aspect("scan", (224, 224), [wide]) is None
        # The windows of a wide network cannot be held. This region is narrow enough to be held in its own shape.
        assert judged_aspect("whole", (224, 224), [cut]) is None

    def test_regions_that_a_training_window_cannot_hold_are_refused(self) -> None:
        frames = [dataclasses.replace(window(0), region=Region(0, 0, width, 480, 0.5)) for width in (200, 640)]
        assert judged_aspect("whole", (96, 128), frames) == 0.75
        with pytest.raises(RepairError, match=r"judged whole frames of 640 x 480 pixels .* in windows of 224 x 224"):
            judged_aspect("whole", (224, 224), frames)

    def test_they_are_written_for_a_training(self, studio, tmp_path: Path) -> None:
        frames = [studio.jpeg(i) for i in range(6)]
        bag = studio.record(tmp_path / "bag", frames, delay=1000)
        times = [entry.log_time for entry in open_source(bag).entries()]
        name = open_source(bag).name
        regions = {1: [Region(5, 6, 20, 40, 0.1)], 4: [Region(0, 0, 30, 60, 0.9), Region(9, 3, 16, 32, 0.2)]}
        windows = [
            LabelledWindow(name, frame, times[frame], number, region, number == 0, True)
            for frame, some in regions.items()
            for number, region in enumerate(some)
        ]
        lost = [
            LabelledWindow(name, 2, times[2] + 1, 0, Region(0, 0, 9, 9, 0.5), True, True),  # another recording
            LabelledWindow("away", 2, times[2], 0, Region(0, 0, 9, 9, 0.5), True, True),
        ]
        written = write_windows([bag, tmp_path / "away"], SourceSettings(), [*windows, *lost], tmp_path / "own")
        assert written == windows
        own = read_own(tmp_path / "own")
        assert [photo.path.name for photo in own.persons] == ["000-0000001-00.png", "000-0000004-00.png"]
        assert [photo.path.name for photo in own.backgrounds] == ["000-0000004-01.png"]
        images = {entry.index: entry.load().image for entry in open_source(bag).entries()}
        np.testing.assert_array_equal(own.persons[1].read(), with_context(images[4], regions[4][0]))
        np.testing.assert_array_equal(own.backgrounds[0].read(), with_context(images[4], regions[4][1]))

    @pytest.fixture
    def recorded(self, studio, tmp_path: Path) -> tuple[Path, list[LabelledWindow]]:
        """A recording of four frames, and a window of a person in each of them."""
        bag = Path(studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(4)]))
        source = open_source(bag)
        regions = [Region(5, 6, 20, 40, 0.1)]
        entries = list(source.entries())
        return bag, [LabelledWindow(source.name, e.index, e.log_time, 0, regions[0], True, True) for e in entries]

    def test_windows_of_an_earlier_run_are_removed(self, recorded, tmp_path: Path) -> None:
        """The second run holds out more frames, and a label was corrected. Files that are no images stay."""
        bag, windows = recorded
        own = tmp_path / "own"
        write_windows([bag], SourceSettings(), windows, own)
        (own / "person/notes.txt").write_text("mine")
        corrected = [dataclasses.replace(windows[0], person=False), windows[1]]
        assert write_windows([bag], SourceSettings(), corrected, own) == corrected
        assert sorted(path.name for path in (own / "person").iterdir()) == ["000-0000001-00.png", "notes.txt"]
        assert [path.name for path in (own / "background").iterdir()] == ["000-0000000-00.png"]

    def test_images_of_somebody_else_stay(self, recorded, tmp_path: Path) -> None:
        bag, windows = recorded
        own = tmp_path / "own"
        write_windows([bag], SourceSettings(), windows, own)
        (own / "background/holiday.PNG").write_bytes(b"mine")
        with pytest.raises(RepairError, match=r"holiday.PNG is no window of a repair: move it to another place"):
            write_windows([bag], SourceSettings(), windows[:1], own)
        assert len(list(own.glob("*/*"))) == len(windows) + 1

    def test_links_are_not_followed(self, recorded, tmp_path: Path) -> None:
        """A link to a folder or to a file is removed; what it names stays as it is."""
        bag, windows = recorded
        own, away = tmp_path / "own", tmp_path / "away"
        write_windows([bag], SourceSettings(), windows, away)
        before = {path: path.read_bytes() for path in (away / "person").iterdir()}
        (own / "background").mkdir(parents=True)
        (own / "background/000-0000003-00.png").symlink_to(away / "person/000-0000003-00.png")
        (own / "person").symlink_to(away / "person")
        write_windows([bag], SourceSettings(), windows[:1], own)
        assert {path: path.read_bytes() for path in (away / "person").iterdir()} == before
        assert not (own / "person").is_symlink()
        assert [path.name for path in own.glob("*/*")] == ["000-0000000-00.png"]


class TestSilencing:
    """Silencing and damping in the weights."""

    NEURONS = tuple(Neuron(*pair) for pair in ((3, 1), (3, 7), (5, 2), (8, 0)))

    def test_it_is_the_silencing_of_the_analysis(self, studio) -> None:
        """The oracle silences activations in the pass."""
        analyzer = Analyzer(studio.classifier, AnalysisSettings(threads=1))
        changed = damped(studio.classifier, self.NEURONS)
        for seed in range(3):
            window = studio.classifier.resize(studio.picture(seed))
            (expected,) = analyzer.silence(window, [{3: [1, 7], 5: [2], 8: [0]}])
            assert float(changed.probability(window[None])[0]) == pytest.approx(expected, abs=1e-5)
            assert expected != pytest.approx(float(studio.classifier.probability(window[None])[0]), abs=1e-5)

    def test_damping_multiplies_activations(self, studio) -> None:
        changed = damped(studio.classifier, [Neuron(3, 1)], 0.25)
        pixels = studio.classifier.to_pixels(studio.classifier.resize(studio.picture(0))[None])
        layer = convolution_layers(studio.classifier.network.features)[2]
        with torch.inference_mode():
            batch = studio.classifier.normalise(pixels)
            before, after = (c.network.features[: layer.activation + 1](batch)[0] for c in (studio.classifier, changed))
        assert before[1].max() > 0
        torch.testing.assert_close(after[1], 0.25 * before[1])
        others = [channel for channel in range(layer.channels) if channel != 1]
        torch.testing.assert_close(after[others], before[others], rtol=0, atol=0)

    def test_the_file_names_the_neurons(self, studio, tmp_path: Path) -> None:
        changed = damped(studio.classifier, self.NEURONS, 0.5)
        changed.save(tmp_path / "silenced.safetensors")
        loaded = type(studio.classifier).load(tmp_path / "silenced.safetensors", "cpu")
        assert loaded.info.command.endswith("neurons damped to 0.5 (layer:channel): 3:1, 3:7, 5:2, 8:0")
        assert loaded.info.threshold == studio.classifier.info.threshold
        window = studio.classifier.resize(studio.picture(0))[None]
        np.testing.assert_allclose(loaded.probability(window), changed.probability(window), atol=1e-3)

    def test_an_adapter_without_it_refuses(self, studio, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(VGGAdapter, "damped")
        with pytest.raises(ValueError, match=r"the neurons of vgg11 cannot be silenced in its weights.*VGGAdapter"):
            damped(studio.classifier, [Neuron(1, 1)])


class TestProof:
    """The counts before and after."""

    def test_by_hand(self) -> None:
        """The threshold rises from 0.5 to 0.6."""
        judged = [
            Judged(window(0, person=False, cause=0), 0.7, 0.59),  # fixed
            Judged(window(1, person=False, cause=0), 0.7, 0.61),  # still wrong
            Judged(window(2, person=False, cause=1), 0.7, 0.1),  # fixed
            Judged(window(3, person=True), 0.2, 0.6),  # fixed
            Judged(window(4, person=True), 0.55, 0.55),  # broken
            Judged(window(5, person=True), 0.9, 0.9),
            Judged(window(6, person=False), 0.2, 0.3),
        ]
        proof = window_proof(judged, (0.5, 0.6))
        assert proof.fixed == Count(3, 4, *wilson(3, 4))
        assert proof.broken == Count(1, 3, *wilson(1, 3))
        assert (proof.fixed_alarms.count, proof.fixed_alarms.of) == (2, 3)
        assert (proof.fixed_missed.count, proof.fixed_missed.of) == (1, 1)
        assert (proof.broken_alarms.count, proof.broken_alarms.of) == (0, 1)
        assert (proof.broken_missed.count, proof.broken_missed.of) == (1, 2)
        assert {number: (c.count, c.of) for number, c in proof.by_cause.items()} == {0: (1, 2), 1: (1, 1)}
        # Of four changes, three are for the better: by chance, 2 (1 + 4) / 16.
        assert proof.p_value == 0.625
        assert not proof.proves_benefit
        assert not proof.harms
        assert window_proof(judged[4:], (0.5, 0.6)).harms

    def test_a_benefit_is_proved_if_chance_is_improbable(self) -> None:
        """Six changes, all for the better: 2 / 64. Five are not enough: 2 / 32."""
        fixed = [Judged(window(i, person=False), 0.7, 0.1) for i in range(6)]
        assert window_proof(fixed, (0.5, 0.5)).proves_benefit
        assert not window_proof(fixed[:5], (0.5, 0.5)).proves_benefit
        broken = [Judged(window(i), 0.7, 0.1) for i in range(6)]
        assert not window_proof(broken, (0.5, 0.5)).proves_benefit

    @pytest.mark.parametrize(
        ("fixed", "broken", "text"),
        [
            (23, 1, "this proves a benefit on these windows (McNemar's exact test, p < 0.001)"),
            (6, 0, "this proves a benefit on these windows (McNemar's exact test, p = 0.031)"),
            (10, 4, "this does not prove a benefit: the difference may be chance (McNemar's exact test, p = 0.18)"),
            (1, 4, "this does not prove a benefit: the difference may be chance (McNemar's exact test, p = 0.38)"),
            (0, 6, "this proves harm on these windows (McNemar's exact test, p = 0.031)"),
            (0, 0, "no decision changes"),
        ],
    )
    def test_the_judgement_in_words(self, fixed: int, broken: int, text: str) -> None:
        assert judgement(fixed, broken) == text
        assert held_out_judgement("training", fixed, broken) == text
        # The held-out windows helped to find the neurons that are silenced, so they prove only that it does harm.
        found_there = "this does not prove a benefit, because the neurons were found with the help of these windows"
        expected = found_there if text.startswith("this proves a benefit") else text
        assert held_out_judgement("silencing", fixed, broken).startswith(expected)

    @pytest.mark.parametrize(("name", "proved"), [("training", True), ("silencing", False)])
    def test_held_out_windows_never_prove_a_silencing(self, name: str, proved: bool) -> None:
        """All windows become right. The record, the lines and the exit status of both cures agree."""
        judged = tuple(Judged(window(i, person=False), 0.7, 0.1) for i in range(6))
        proof = window_proof(judged, (0.5, 0.5))
        cure = Cure(name, Path(f"{name}.safetensors"), "abc", 0.5, judged, proof, {"walk": proof}, {}, None)
        assert cure.proves_benefit is proved
        assert proof.proves_benefit and not proof.harms
        result = result_of(cure)
        (recorded,) = record_of(result)["cures"]
        assert recorded["proves_benefit"] is proved
        told = lines(result, cure)
        assert told[0].startswith(f"{name}: of the held-out windows, 6 of 6")
        assert told[1].startswith("this proves a benefit") is proved
        assert ("only recordings that took no part (--unseen) can prove it" in told[1]) is not proved
        # Recordings that took no part prove both cures.
        assert "this proves a benefit on these windows" in told[-1] and told[-1].startswith("walk: ")

    def test_windows_that_were_left_out_are_named(self) -> None:
        proof = window_proof([Judged(window(0, person=False), 0.7, 0.1)], (0.5, 0.5))
        training, silencing = (
            Cure(name, Path(name), "abc", 0.5, (), proof, {}, {}, None) for name in ("training", "silencing")
        )
        result = result_of(training, silencing, left_out=12)
        assert "windows that were left out of the training, which takes at most 20000: 12" in lines(result, training)
        assert not any("left out" in line for line in lines(result, silencing))
        assert record_of(result)["left_out_windows"] == 12

    def test_the_time_in_words(self) -> None:
        phases = [Phase("reading", 3), Phase("training", 240), Phase("deciding", 50), Phase("writing", 1)]
        assert duration(phases) == "time: 4.9 minutes (training 4.0 minutes, deciding 50.0 s, reading 3.0 s)"
        phases[1].continued = True
        assert duration(phases).endswith("; the time before the interruption is not included)")

    def test_counts_in_words(self) -> None:
        assert Count.from_flags([True, True, False]).text == "2 of 3 (21% to 94%)"
        assert Count.from_flags([]).text == "none"

    def test_windows_are_judged_by_both_networks(self, studio) -> None:
        other = damped(studio.classifier, TestSilencing.NEURONS)
        image = studio.picture(3)
        windows = [window(0), window(1, person=False)]
        judged = judge((studio.classifier, other), [(image, windows)])
        pixels = crop(image, 10, 20, 40, 80, studio.classifier.info.input_size)[None]
        expected = [float(network.probability(pixels)[0]) for network in (studio.classifier, other)]
        assert [one.window for one in judged] == windows
        for one in judged:
            assert [one.before, one.after] == pytest.approx(expected, abs=1e-5)

    def test_frames_of_the_held_out_part_are_counted(self) -> None:
        windows = [window(t, wrong=t % 2 == 0, person=t % 4 < 2) for t in range(8)]
        windows += [window(9, source="b"), window(9, source="c", wrong=True)]
        assert count(windows, {"a": 2 * SECOND, "b": 0}) == FrameCounts(frames=7, found=2, missed=1, false_alarms=2)


def test_phases_are_measured_even_if_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    phases = Phases()
    with phases.measure("training") as phase:
        phase.continued = True
    with pytest.raises(KeyboardInterrupt), phases.measure("deciding"):
        raise KeyboardInterrupt
    assert phases.done == [Phase("training", 2.5, True), Phase("deciding", 1.0)]


def prover_of(analysis: SimpleNamespace, before: object, data: object = None) -> Prover:
    return Prover(
        output=Path(),
        device="cpu",
        again=False,
        before=before,
        analysis=analysis,
        others={},
        held_out=[window(30), window(20), window(40, source="b")],
        data=data,
        progress=ProgressReporter(),
        say=print,
        phases=Phases(),
    )


@pytest.mark.parametrize(("own", "expected"), [(0.0, 0.7), (0.2, 0.2)])
def test_decisions_use_the_threshold_of_the_analysis(own: float, expected: float) -> None:
    """The threshold of the settings comes first; without one, it is that of the weights."""
    analysis = SimpleNamespace(settings=AnalysisSettings(threshold=own))
    prover = prover_of(analysis, SimpleNamespace(threshold=0.7))
    assert prover.threshold(prover.before) == expected
    assert prover.starts == {"a": 20 * SECOND, "b": 40 * SECOND}
    # Without old data, there are no figures, and no time is spent.
    assert prover.old_figures(prover.before, "before") == {}
    assert prover.phases.done == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AnalysisSettings(regions="scan", scan=ScanSettings(proposer=False)), ScanSettings(proposer=False)),
        (AnalysisSettings(regions="whole", scan=ScanSettings(proposer=False)), ScanSettings()),
    ],
)
def test_old_photos_are_searched_as_the_recordings_were(settings: AnalysisSettings, expected: ScanSettings) -> None:
    """The search finds a region above the threshold in two of the four photos."""
    image = np.zeros((160, 96, 3), np.uint8)
    data = SimpleNamespace(persons=[image] * 2, backgrounds=[image] * 3, test_photos=[image] * 4)
    searches, best = [], iter([0.9, 0.2, 0.69, 0.7])

    def scan(photo: np.ndarray, search: ScanSettings) -> list[Region]:
        searches.append(search)
        return [Region(0, 0, 64, 128, next(best))]

    def probability(windows: np.ndarray) -> np.ndarray:
        return np.full(len(windows), 0.8, np.float32)

    info = SimpleNamespace(input_size=(64, 128))
    network = SimpleNamespace(threshold=0.7, info=info, scan=scan, probability=probability)
    figures = prover_of(SimpleNamespace(settings=settings), network, data).old_figures(network, "before")
    assert searches == [expected] * 4
    assert figures["photos_with_alarm"] == 0.5
    assert (figures["persons_right"], figures["backgrounds_right"], figures["photos"]) == (1.0, 0.0, 4)
