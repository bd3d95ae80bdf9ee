"""Searching a frame with a person classifier."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bench.gpu import STREET
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, DecisionSettings
from explain_cnn_ros.scan.scanning import ScanSettings


class TestScan:
    settings = ScanSettings(person_height_min=48, person_height_max=60, candidates_max=6)

    def test_regions_are_what_the_network_says_of_them(self, vgg11_classifier: PersonClassifier, picture) -> None:
        """The regions are sorted, in pixels of the frame, and each has the probability of its own crop."""
        frame = picture(120, 100)
        regions = vgg11_classifier.scan(frame, self.settings)
        assert 1 <= len(regions) <= 6
        probabilities = [r.probability for r in regions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(regions) == 1 or min(probabilities) >= vgg11_classifier.threshold
        crops = [crop(frame, r.x, r.y, r.width, r.height, (32, 64)) for r in regions]
        np.testing.assert_allclose(vgg11_classifier.probability(np.stack(crops)), probabilities, rtol=1e-4, atol=1e-5)
        assert vgg11_classifier.scan(frame, self.settings) == regions

    def test_without_settings_it_uses_the_defaults(self, vgg11_classifier: PersonClassifier, picture) -> None:
        frame = picture(40, 50)
        assert vgg11_classifier.scan(frame) == vgg11_classifier.scan(frame, ScanSettings())


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> PersonClassifier:
    """Return a random network of three classes that was read from a file."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TorchvisionClassifier("shufflenet_v2_x0_5", (96, 96), 3)
    classes = ("background", "pedestrian", "cyclist")
    info = ModelInfo(
        "shufflenet_v2_x0_5",
        input_size=(96, 96),
        classes=classes,
        threshold=0.1,
        source="torchvision",
        person=("pedestrian", "cyclist"),
    )
    path: Path = tmp_path_factory.mktemp("imported") / "own.safetensors"
    PersonClassifier(network, info, "cpu").save(path)
    return PersonClassifier.load(path, "cpu")


class TestNetworkOfTorchvision:
    def test_searching_has_the_windows_of_the_shipped_proposer(self, imported: PersonClassifier) -> None:
        frame = np.ascontiguousarray(cv2.resize(cv2.imread(str(STREET)), (640, 480))[..., ::-1])
        regions = imported.scan(frame, ScanSettings(refine=False))
        shipped = PersonClassifier.load(device="cpu").scan(frame, ScanSettings(refine=False), 1e-9)
        assert len(regions) == len(shipped) >= 4
        assert {round(r.y + r.height / 2, -1) for r in regions} == {round(r.y + r.height / 2, -1) for r in shipped}
        assert sorted(r.height for r in regions) == sorted(r.height for r in shipped)
        windows = np.stack([crop(frame, r.x, r.y, r.width, r.height, (96, 96)) for r in regions])
        np.testing.assert_allclose(imported.probability(windows), [r.probability for r in regions], rtol=1e-5)
        assert all(abs(r.width - r.height) <= 1 for r in regions)

    def test_whole_frames_are_decided(self, imported: PersonClassifier, picture) -> None:
        frame = picture(200, 150)
        decision = Decider(imported, DecisionSettings(regions="whole"), fast=True).decide(frame)
        assert decision.region.covers((200, 150))
        logits = imported.logits(imported.resize(frame)[None])
        assert decision.probability == pytest.approx(float(logits.softmax(1)[0, 1:].sum()), rel=1e-6)

    def test_searching_on_the_device_is_refused(
        self, imported: PersonClassifier, picture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(imported, "search_on_device", True, raising=False)
        with pytest.raises(ValueError, match="search_on_device is set, but shufflenet_v2_x0_5 cannot search"):
            imported.scan(picture(200, 150))
