"""The search on the device, run on a CPU, against the search on the host."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fake_cuda_kit import CUDA, Copies, fake_cuda
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from operations_kit import count_operations

from bench.gpu import STREET
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.windows import Region, crop
from explain_cnn_ros.scan import dense, on_device, scanning
from explain_cnn_ros.scan.candidates import Candidate
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.dense import Windows, pass_of
from explain_cnn_ros.scan.on_device import DeviceSearch, candidates_of, moved_boxes
from explain_cnn_ros.scan.scanning import ScanSettings

Frame = NDArray[np.uint8]

#: The host waits for the candidates, and for the confirmed margins.
WAITS = 2

#: Number of operations of a search of 640 x 480 pixels with the shipped weights.
OPERATIONS_MAX = 800

#: Settings of a search that is fast in a small frame.
FAST = ScanSettings(person_height_min=48, person_height_max=60, candidates_max=6)


@pytest.fixture(scope="module")
def shipped() -> PersonClassifier:
    """Return the shipped weights, whose search computes in float32 in both ways. Tests must not modify them."""
    classifier = PersonClassifier.load(device="cpu")
    classifier.search_int8, classifier.search_autocast = False, None
    return classifier


@pytest.fixture(scope="module")
def street() -> Frame:
    """Return a frame with six persons, 640 x 480 pixels."""
    return np.ascontiguousarray(
        cv2.resize(cv2.imread(str(STREET)), (640, 480), interpolation=cv2.INTER_AREA)[..., ::-1]
    )


@pytest.fixture(scope="module", params=[False, True], ids=["classifier", "proposer"])
def thin(request: pytest.FixtureRequest, thin_network: Callable[..., VGGClassifier]) -> PersonClassifier:
    """Return a thin random network, alone and with a random proposer. Tests must not modify it."""
    like = request.getfixturevalue("thin_classifier")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        proposer = Proposer(2, (32, 64)) if request.param else None
    classifier = PersonClassifier(thin_network(), like.info, "cpu", proposer=proposer)
    classifier.search_int8, classifier.search_autocast = False, None
    return classifier


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let modes with any support become candidates, because a network without training finds no windows that agree."""
    for name in ("SUPPORT_MIN", "PROPOSER_SUPPORT_MIN"):
        monkeypatch.setattr(dense, name, 0.0)
    for name in ("MARGIN_MIN", "PROPOSER_MARGIN_MIN"):
        monkeypatch.setattr(dense, name, -100.0)


def assert_same(found: Sequence[Region], expected: Sequence[Region], pixels: int = 0, tolerance: float = 1e-4) -> None:
    """Check that regions are those of the host, in any order if their probabilities are nearly equal."""
    assert len(found) == len(expected)
    rest = list(found)
    for region in expected:
        nearest = min(rest, key=lambda other: abs(other.x - region.x) + abs(other.y - region.y))
        rest.remove(nearest)
        moves = [abs(getattr(nearest, side) - getattr(region, side)) for side in ("x", "y", "width", "height")]
        assert max(moves) <= pixels, (nearest, region)
        # Rounding may move a window by a pixel. For a network with random weights, this is another window.
        if not any(moves):
            assert nearest.probability == pytest.approx(region.probability, abs=tolerance)
    probabilities = [region.probability for region in found]
    assert probabilities == sorted(probabilities, reverse=True)


def test_is_off_by_default(thin_classifier: PersonClassifier, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceSearch, "scan", lambda *_: pytest.fail("searched on the device"))
    assert thin_classifier.search_on_device is False
    thin_classifier.scan(picture(40, 50), FAST)


class TestStreet:
    @pytest.mark.parametrize("settings", [ScanSettings(), ScanSettings(refine=False)], ids=["refine", "once"])
    def test_finds_the_same_persons(
        self, shipped: PersonClassifier, street: Frame, settings: ScanSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = shipped.scan(street, settings)
        assert len(expected) >= 4
        monkeypatch.setattr(shipped, "search_on_device", True, raising=False)
        found = shipped.scan(street, settings)
        assert_same(found, expected, pixels=3, tolerance=0.02)
        best = found[0]
        window = crop(street, best.x, best.y, best.width, best.height, shipped.info.input_size)
        assert best.probability == pytest.approx(float(shipped.probability(window[None])[0]), abs=1e-6)

    def test_finds_the_same_persons_in_low_precision(
        self, shipped: PersonClassifier, street: Frame, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The windows are still proposed in float32."""
        expected = shipped.scan(street)
        monkeypatch.setattr(shipped, "search_autocast", torch.bfloat16)
        found = DeviceSearch(shipped).scan(street, ScanSettings(), shipped.threshold)
        assert_same(found, expected, pixels=3, tolerance=0.02)

    @pytest.mark.slow
    def test_the_host_waits_twice(self, shipped: PersonClassifier, street: Frame) -> None:
        search = DeviceSearch(shipped)
        arguments = street, ScanSettings(), shipped.threshold
        expected = search.scan(*arguments)
        with count_operations() as counter:
            found = search.scan(*arguments)
        assert found == expected
        assert counter.waits == {"cpu": WAITS}
        assert counter.total <= OPERATIONS_MAX


class TestAnyFrame:
    @pytest.mark.parametrize(
        ("width", "height"), [(1, 1), (1, 300), (300, 1), (30, 40), (32, 64), (64, 128), (203, 90)]
    )
    def test_regions_are_those_of_the_host(
        self, thin: PersonClassifier, picture, lenient: None, width: int, height: int
    ) -> None:
        frame = picture(width, height)
        settings = dataclasses.replace(FAST, person_height_max=120)
        found = DeviceSearch(thin).scan(frame, settings, 1e-9)
        assert_same(found, scanning.scan(thin, frame, settings, 1e-9), pixels=1, tolerance=0.02)

    def test_without_support_there_is_one_region(self, thin: PersonClassifier, picture) -> None:
        frame = picture(60, 90)
        settings = dataclasses.replace(FAST, person_height_max=0)
        for margin_min in (0.0, 100.0):
            with pytest.MonkeyPatch.context() as patch:
                for name in ("SUPPORT_MIN", "PROPOSER_SUPPORT_MIN"):
                    patch.setattr(dense, name, 1e9)
                for name in ("MARGIN_MIN", "PROPOSER_MARGIN_MIN"):
                    patch.setattr(dense, name, margin_min)
                (found,) = DeviceSearch(thin).scan(frame, settings, 0.999)
                assert_same([found], scanning.scan(thin, frame, settings, 0.999), pixels=1, tolerance=0.02)

    @pytest.mark.parametrize("count", [1, 2, 40])
    def test_candidates_max(self, thin: PersonClassifier, picture, lenient: None, count: int) -> None:
        frame = picture(203, 90)
        settings = dataclasses.replace(FAST, candidates_max=count, overlap_max=0.2)
        found = DeviceSearch(thin).scan(frame, settings, 1e-9)
        assert 1 <= len(found) <= count
        assert_same(found, scanning.scan(thin, frame, settings, 1e-9), pixels=1, tolerance=0.02)

    def test_many_candidates_are_judged_in_batches(
        self, thin: PersonClassifier, picture, lenient: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        frame = picture(203, 90)
        at_once = DeviceSearch(thin).scan(frame, FAST, 1e-9)
        assert len(at_once) > 2
        monkeypatch.setattr(on_device, "BATCH", 2)
        assert_same(DeviceSearch(thin).scan(frame, FAST, 1e-9), at_once)

    def test_without_the_proposer(self, thin: PersonClassifier, picture, lenient: None) -> None:
        frame = picture(120, 90)
        settings = dataclasses.replace(FAST, proposer=False)
        found = DeviceSearch(thin).scan(frame, settings, 1e-9)
        assert_same(found, scanning.scan(thin, frame, settings, 1e-9), pixels=1, tolerance=0.02)

    def test_refused_frames(self, thin: PersonClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(thin, "search_on_device", True, raising=False)
        with pytest.raises(ValueError, match="empty"):
            thin.scan(np.zeros((0, 3, 3), np.uint8))


class TestState:
    def test_no_gradients(self, thin: PersonClassifier, picture) -> None:
        """The search leaves no gradients, and works whether gradients are on or off."""
        search, frame = DeviceSearch(thin), picture(60, 90)
        expected = search.scan(frame, FAST, 0.6)
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not any(p.requires_grad or p.grad is not None for p in thin.network.parameters())
        with torch.no_grad():
            assert search.scan(frame, FAST, 0.6) == expected

    def test_pyramids_are_prepared_once(self, thin: PersonClassifier, picture, monkeypatch: pytest.MonkeyPatch) -> None:
        prepared: list[Any] = []
        prepare = on_device.Pyramid.prepare

        def count(*arguments: Any) -> Any:
            prepared.append(arguments[0])
            return prepare(*arguments)

        monkeypatch.setattr(on_device.Pyramid, "prepare", count)
        search = DeviceSearch(thin)
        for width, height in ((60, 90), (60, 90), (90, 60), (60, 90)):
            search.scan(picture(width, height), FAST, 0.6)
        assert prepared == [(60, 90), (90, 60)]
        search.scan(picture(60, 90), dataclasses.replace(FAST, scale_step=1.5), 0.6)
        assert prepared == [(60, 90), (90, 60), (60, 90)]

    def test_the_next_search_sees_new_weights(self, thin_network, thin_classifier: PersonClassifier, picture) -> None:
        """Weights in low precision are copies, which are renewed."""
        classifier = PersonClassifier(thin_network(), thin_classifier.info, "cpu")
        classifier.search_int8, classifier.search_autocast = False, torch.bfloat16
        search = DeviceSearch(classifier)
        first = search._network()
        assert search._network() is first
        assert {p.dtype for p in first.parameters()} == {torch.bfloat16}
        with torch.no_grad():
            classifier.network.classifier[-1].bias += 3.0
        second = search._network()
        assert second is not first
        assert torch.equal(second.classifier[-1].bias, classifier.network.classifier[-1].bias.bfloat16())
        assert {p.dtype for p in classifier.network.parameters()} == {torch.float32}

    def test_low_precision_is_confirmed(
        self, thin_network, thin_classifier: PersonClassifier, picture, lenient: None
    ) -> None:
        """Regions near the threshold and the best one have the probability of the decision."""
        classifier = PersonClassifier(thin_network(), thin_classifier.info, "cpu")
        classifier.search_int8, classifier.search_autocast = False, torch.bfloat16
        frame, threshold = picture(203, 90), 0.5
        found = DeviceSearch(classifier).scan(frame, dataclasses.replace(FAST, overlap_max=0.2), threshold)
        windows = [crop(frame, r.x, r.y, r.width, r.height, classifier.info.input_size) for r in found]
        exact = classifier.probability(np.stack(windows))
        for index, (region, p) in enumerate(zip(found, exact, strict=True)):
            near = abs(math.log(region.probability / (1 - region.probability))) < scanning.DOUBT - 0.1
            if index == 0 or near:
                assert region.probability == pytest.approx(float(p), abs=1e-5)


class TestCandidatesOf:
    @given(seed=st.integers(0, 10_000), count=st.integers(1, 80), candidates_max=st.integers(1, 8))
    def test_are_those_of_the_host(self, seed: int, count: int, candidates_max: int) -> None:
        """Windows gather around few persons; some have low margins, too little support, or too small a height."""
        rng = np.random.default_rng(seed)
        persons = rng.uniform((0, 0, math.log(70)), (300, 200, math.log(200)), (4, 3))
        places = persons[rng.integers(0, 4, count)] + rng.normal(0, (2, 3, 0.05), (count, 3))
        margins = np.sort(rng.uniform(-6, 6, count))[::-1].copy()
        scorer: Any = SimpleNamespace(
            info=SimpleNamespace(input_size=(64, 128)),
            proposer=None,
            has_dense_pass=True,
            locate_densely=lambda image: None,
        )
        settings = ScanSettings(candidates_max=candidates_max)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scanning, "dense_windows", lambda *_: Windows(places, margins, 0.5))
            expected = scanning.propose(scorer, np.zeros((100, 100, 3), np.uint8), settings)
        modes, support, exists = candidates_of(
            torch.from_numpy(places), torch.from_numpy(margins), pass_of(scorer, True), settings
        )
        found = int(exists.sum())
        assert exists.tolist() == [True] * found + [False] * (len(exists) - found)
        np.testing.assert_allclose(modes[exists].numpy(), [c.place for c in expected], rtol=1e-6)
        np.testing.assert_allclose(support[exists].numpy(), [c.support for c in expected], rtol=1e-6)


@given(
    box=st.tuples(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 90), st.integers(1, 90)),
    offset=st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15), st.floats(-0.25, 0.25)),
)
def test_boxes_move_like_candidates(box: tuple[int, int, int, int], offset: tuple[float, float, float]) -> None:
    moved = Candidate(*box, 0.0).moved(np.array(offset))
    result = moved_boxes(torch.tensor([box], dtype=torch.float64), torch.tensor([offset], dtype=torch.float64))
    np.testing.assert_allclose(result[0].numpy(), [moved.x, moved.y, moved.width, moved.height], atol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no NVIDIA GPU on this machine")
class TestOnCuda:
    @pytest.fixture(scope="class")
    def on_gpu(self) -> PersonClassifier:
        return PersonClassifier.load(device="cuda")

    def test_finds_the_persons_of_the_cpu(
        self, on_gpu: PersonClassifier, shipped: PersonClassifier, street: Frame
    ) -> None:
        found = DeviceSearch(on_gpu).scan(street, ScanSettings(), on_gpu.threshold)
        assert_same(found, shipped.scan(street), pixels=4, tolerance=0.02)
        best = found[0]
        window = crop(street, best.x, best.y, best.width, best.height, on_gpu.info.input_size)
        assert best.probability == pytest.approx(float(on_gpu.probability(window[None])[0]), abs=1e-4)

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (30, 40), (1280, 720)])
    def test_any_size(self, on_gpu: PersonClassifier, picture, width: int, height: int) -> None:
        assert DeviceSearch(on_gpu).scan(picture(width, height), ScanSettings(), on_gpu.threshold)

    @pytest.mark.parametrize("proposer", [True, False])
    def test_nothing_waits_before_the_download(self, on_gpu: PersonClassifier, street: Frame, proposer: bool) -> None:
        search, settings = DeviceSearch(on_gpu), ScanSettings(proposer=proposer)
        search._search(street, settings)  # the pyramid is prepared, and libraries allocate their workspaces
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            search._search(street, settings)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings", [ScanSettings(), ScanSettings(proposer=False, refine=False)], ids=["proposer", "classifier"]
)
def test_only_the_frame_is_uploaded(shipped: PersonClassifier, settings: ScanSettings) -> None:
    """The search runs on a simulated CUDA device. The only copy between host and device is the upload of the frame."""
    frame = np.zeros((120, 160, 3), np.uint8)
    with fake_cuda(shipped) as classifier:
        search = DeviceSearch(classifier)
        # In inference mode, PyTorch does not report the operations. The undecorated method runs without it.
        run = DeviceSearch._search.__wrapped__
        run(search, frame, settings)  # The first run also uploads the tables of the pyramid.
        with Copies() as copies:
            judged = run(search, frame, settings)
    assert judged.device == CUDA
    assert copies.found == ["aten.lift_fresh.default", "aten._to_copy.default"]
