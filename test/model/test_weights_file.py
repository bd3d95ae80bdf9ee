"""Weights are written to a file and read back, and unsuitable files are refused with their reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file

from explain_cnn_ros.model import classifier as module
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 32, 3), dtype=np.uint8)


class TestModelInfo:
    def test_metadata_round_trip(self) -> None:
        info = ModelInfo("vgg11", 8, (32, 64), (1, 2, 3), (4, 5, 6.5), threshold=0.83, accuracy={"recall": 0.98})
        metadata = info.to_metadata()
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items())
        assert ModelInfo.from_metadata(metadata) == info

    def test_unknown_metadata_is_ignored(self) -> None:
        assert ModelInfo.from_metadata(ModelInfo().to_metadata() | {"format": "pt"}) == ModelInfo()

    def test_files_of_the_first_versions_have_no_proposer(self) -> None:
        metadata = ModelInfo(hidden=9).to_metadata()
        del metadata["proposer"]
        assert ModelInfo.from_metadata(metadata) == ModelInfo(hidden=9, proposer=0)

    @pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(ModelInfo) if f.name != "proposer"])
    def test_missing_metadata_is_named(self, name: str) -> None:
        metadata = ModelInfo().to_metadata()
        del metadata[name]
        with pytest.raises(ValueError, match=f"lacks {name}"):
            ModelInfo.from_metadata(metadata)

    @pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, math.nan])
    def test_threshold_lies_between_0_and_1(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="threshold"):
            ModelInfo(threshold=threshold)

    @pytest.mark.parametrize("classes", [("person", "background"), ("cat", "dog"), ("background", "person", "car"), ()])
    def test_classes_are_background_and_person(self, classes: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="background and person"):
            ModelInfo(classes=classes)

    @pytest.mark.parametrize(("name", "value"), [("mean", (1, 2)), ("std", (1, 2, 3, 4)), ("std", (1, 0, 1))])
    def test_normalisation_fits_three_colours(self, name: str, value: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match=r"mean is .* std"):
            ModelInfo(**{name: value})


class TestFile:
    def test_round_trip(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "new folder" / "weights.safetensors"
        vgg11_classifier.save(path)
        loaded = PersonClassifier.load(path, "cpu")
        assert loaded.info == vgg11_classifier.info
        assert loaded.threshold == 0.7
        assert loaded.model_hash == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        state = vgg11_classifier.network.state_dict()
        assert loaded.network.state_dict().keys() == state.keys()
        for name, value in loaded.network.state_dict().items():
            assert torch.equal(value, state[name].half().float()), name
        expected = vgg11_classifier.probability(windows(4))
        np.testing.assert_allclose(loaded.probability(windows(4)), expected, atol=0.02)

    def test_half_precision_takes_two_bytes_a_weight(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path)
        weights = sum(p.numel() for p in vgg11_classifier.network.parameters())
        assert 2 * weights < path.stat().st_size < 2 * weights + 10_000
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_full_precision_is_exact(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path, torch.float32)
        loaded = PersonClassifier.load(path, "cpu")
        for name, value in vgg11_classifier.network.state_dict().items():
            assert torch.equal(loaded.network.state_dict()[name], value), name
        assert np.array_equal(loaded.probability(windows(3)), vgg11_classifier.probability(windows(3)))

    def test_everybody_may_read_it(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path)
        assert path.stat().st_mode & 0o777 == 0o644

    def test_saving_replaces(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_text("something else")
        vgg11_classifier.save(path)
        assert PersonClassifier.load(path, "cpu").info == vgg11_classifier.info

    def test_metadata_is_readable_without_this_package(
        self, vgg11_classifier: PersonClassifier, tmp_path: Path
    ) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        assert metadata["architecture"] == "vgg11"
        assert metadata["input_size"] == [32, 64]
        assert metadata["threshold"] == 0.7
        assert metadata["accuracy"] == {"none": 0.5}

    def test_batch_norm_is_saved_and_folded_when_loaded(self, tmp_path: Path, picture) -> None:
        torch.manual_seed(0)
        network = VGGClassifier("vgg11_bn", (32, 32), hidden=4)
        network.features[1].running_mean.fill_(0.25)
        network.features[1].running_var.fill_(4.0)
        path = tmp_path / "weights.safetensors"
        saved = PersonClassifier(network, ModelInfo("vgg11_bn", 4, (32, 32)), "cpu")
        saved.save(path, torch.float32)
        loaded = PersonClassifier.load(path, "cpu")
        assert loaded.info.architecture == loaded.network.architecture == "vgg11"
        assert loaded.model_hash == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        window = picture(32, 32)[None]
        torch.testing.assert_close(loaded.logits(window), saved.logits(window), rtol=1e-4, atol=1e-6)

    def test_no_path_means_the_shipped_weights(
        self, vgg11_classifier: PersonClassifier, tmp_path: Path, monkeypatch
    ) -> None:
        path = tmp_path / "shipped.safetensors"
        vgg11_classifier.save(path)
        monkeypatch.setattr(module, "DEFAULT_WEIGHTS", path)
        assert PersonClassifier.load(device="cpu").info == vgg11_classifier.info

    def test_never_a_file_has_no_hash(self, vgg11_classifier: PersonClassifier) -> None:
        assert vgg11_classifier.model_hash == ""

    @pytest.mark.parametrize("path", ["nowhere.safetensors", "."])
    def test_no_file(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(FileNotFoundError, match=r"no weights at .*train"):
            PersonClassifier.load(tmp_path / path, "cpu")

    def test_truncated(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path)
        path.write_bytes(path.read_bytes()[:100_000])
        self.assert_refused(path)

    @pytest.mark.parametrize("content", [b"", b"not weights at all", b"\0" * 100])
    def test_garbage(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(content)
        self.assert_refused(path)

    def test_pickle(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.pt"
        torch.save({"x": torch.zeros(3)}, path)
        self.assert_refused(path)

    def test_without_metadata(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        save_file({"x": torch.zeros(3)}, path)
        self.assert_refused(path, "lacks architecture")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"architecture": '"resnet18"'}, "unknown architecture"),
            ({"architecture": '"vgg13"'}, "Missing key"),
            ({"architecture": "12"}, "unknown architecture"),
            ({"hidden": "9"}, "size mismatch"),
            ({"input_size": "[60, 64]"}, "multiples of 32"),
            ({"input_size": "null"}, ""),
            ({"mean": "[1, 2]"}, "mean is"),
            ({"threshold": "7"}, "threshold"),
            ({"threshold": "seven"}, ""),
            ({"classes": '["cat", "dog"]'}, "background and person"),
        ],
    )
    def test_foreign(self, vgg11_classifier: PersonClassifier, tmp_path: Path, change: dict, reason: str) -> None:
        path = tmp_path / "weights.safetensors"
        state = {name: value.contiguous() for name, value in vgg11_classifier.network.state_dict().items()}
        save_file(state, path, vgg11_classifier.info.to_metadata() | change)
        self.assert_refused(path, reason)

    @staticmethod
    def assert_refused(path: Path, reason: str = "") -> None:
        with pytest.raises(ValueError, match=f"(?s){path.name} holds no weights of explain_cnn_ros.*{reason}"):
            PersonClassifier.load(path, "cpu")
