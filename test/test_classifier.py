"""Windows to probabilities, weights to a file and back, and clear words about what does not fit."""

from __future__ import annotations

import copy
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

from explain_cnn_ros import classifier as module
from explain_cnn_ros import int8
from explain_cnn_ros.classifier import ModelInfo, PersonClassifier, check_image, choose_device, fast_low_precision
from explain_cnn_ros.network import VGGClassifier, initialise
from explain_cnn_ros.regions import crop
from explain_cnn_ros.scanning import ScanSettings

WINDOW = (64, 32, 3)


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *WINDOW), dtype=np.uint8)


class TestModelInfo:
    def test_metadata_round_trip(self) -> None:
        info = ModelInfo("vgg11", 8, (32, 64), (1, 2, 3), (4, 5, 6.5), threshold=0.83, accuracy={"recall": 0.98})
        metadata = info.to_metadata()
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items())
        assert ModelInfo.from_metadata(metadata) == info

    def test_unknown_metadata_is_ignored(self) -> None:
        assert ModelInfo.from_metadata(ModelInfo().to_metadata() | {"format": "pt"}) == ModelInfo()

    @pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(ModelInfo)])
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


class TestDevice:
    @pytest.mark.parametrize(("available", "kind"), [(True, "cuda"), (False, "cpu")])
    def test_auto_is_the_gpu_where_there_is_one(self, monkeypatch, available: bool, kind: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        assert choose_device("auto") == torch.device(kind)

    def test_cpu(self) -> None:
        assert choose_device("cpu") == torch.device("cpu")
        assert choose_device(torch.device("cpu")) == torch.device("cpu")

    @pytest.mark.parametrize("device", ["cuda", "cuda:1"])
    def test_a_gpu_that_is_not_there(self, monkeypatch, device: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(RuntimeError, match=f"'{device}'.*no CUDA GPU.*'auto' or 'cpu'"):
            choose_device(device)

    def test_nonsense(self) -> None:
        with pytest.raises(RuntimeError, match="toaster"):
            choose_device("toaster")

    @pytest.mark.parametrize(
        ("capabilities", "expected"),
        [
            ({"avx512_bf16": True}, torch.bfloat16),
            ({"amx_bf16": True}, torch.bfloat16),
            ({"avx2": True}, None),
            ({}, None),
        ],
    )
    def test_low_precision_only_where_the_cpu_has_it(self, monkeypatch, capabilities: dict, expected) -> None:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        assert fast_low_precision(torch.device("cpu")) == expected

    @pytest.mark.parametrize(
        ("capability", "expected"), [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
    )
    def test_low_precision_only_where_the_gpu_has_it(self, monkeypatch, capability: tuple, expected) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        assert fast_low_precision(torch.device("cuda")) == expected


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


class TestProbability:
    def test_is_the_softmax_of_the_networks_logits(self, vgg11_classifier: PersonClassifier) -> None:
        """By hand: normalised pixel by pixel, channels first, then the share of the second exponential."""
        batch = windows(5)
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        normalised = ((batch - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
        with torch.inference_mode():
            logits = vgg11_classifier.network(torch.from_numpy(normalised)).double().numpy()
        powers = np.exp(logits - logits.max(1, keepdims=True))
        actual = vgg11_classifier.probability(batch)
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, powers[:, 1] / powers.sum(1), rtol=1e-4)
        assert np.ptp(actual) > 0.01
        np.testing.assert_allclose(vgg11_classifier.logits(batch), logits, rtol=1e-4, atol=1e-4)

    def test_does_not_depend_on_the_batch(self, vgg11_classifier: PersonClassifier) -> None:
        """Nor on more windows than go through the network at once."""
        batch = windows(module.BATCH + 3)
        together = vgg11_classifier.probability(batch)
        assert together.shape == (module.BATCH + 3,)
        for index in (0, 1, module.BATCH - 1, module.BATCH, module.BATCH + 2):
            singly = vgg11_classifier.probability(batch[index : index + 1])
            np.testing.assert_allclose(together[index : index + 1], singly, rtol=1e-4, atol=1e-5)

    def test_is_repeatable(self, vgg11_classifier: PersonClassifier) -> None:
        """Dropout is off."""
        assert np.array_equal(vgg11_classifier.probability(windows(3)), vgg11_classifier.probability(windows(3)))

    def test_of_no_windows(self, vgg11_classifier: PersonClassifier) -> None:
        assert vgg11_classifier.probability(windows(0)).shape == (0,)
        assert vgg11_classifier.logits(windows(0)).shape == (0, 2)

    def test_of_strided_windows(self, vgg11_classifier: PersonClassifier) -> None:
        """Mirrored, or with BGR swapped, they are views of negative strides."""
        batch = windows(2)
        for view in (batch[:, :, ::-1], batch[..., ::-1]):
            expected = vgg11_classifier.probability(view.copy())
            assert np.array_equal(vgg11_classifier.probability(view), expected)
            assert not np.allclose(expected, vgg11_classifier.probability(batch))

    def test_leaves_the_windows_alone(self, vgg11_classifier: PersonClassifier) -> None:
        batch = windows(2)
        vgg11_classifier.probability(batch)
        assert np.array_equal(batch, windows(2))

    @pytest.mark.parametrize(
        "bad",
        [
            np.zeros(WINDOW, np.uint8),
            np.zeros((1, 32, 64, 3), np.uint8),
            np.zeros((1, *WINDOW), np.float32),
            np.zeros((1, 3, 64, 32), np.uint8),
            np.zeros((0,), np.uint8),
        ],
    )
    def test_of_what_are_no_windows(self, vgg11_classifier: PersonClassifier, bad: np.ndarray) -> None:
        with pytest.raises(ValueError, match=rf"windows are {bad.dtype} .*expected uint8 \[N, 64, 32, 3\]"):
            vgg11_classifier.probability(bad)

    def test_in_low_precision_is_nearly_the_same(self, vgg11_classifier: PersonClassifier) -> None:
        low = PersonClassifier(vgg11_classifier.network, vgg11_classifier.info, "cpu", autocast=torch.bfloat16)
        batch = windows(6)
        exact, actual = vgg11_classifier.probability(batch), low.probability(batch)
        assert actual.dtype == np.float32
        assert not np.array_equal(actual, exact)
        np.testing.assert_allclose(actual, exact, atol=0.05)


class TestPixels:
    def test_channels_come_first(self, vgg11_classifier: PersonClassifier) -> None:
        image = np.zeros((1, 4, 5, 3), np.uint8)
        image[0, 1, 2] = (10, 20, 30)
        pixels = vgg11_classifier.to_pixels(image)
        assert pixels.shape == (1, 3, 4, 5)
        assert pixels.dtype == torch.float32
        assert pixels[0, :, 1, 2].tolist() == [10, 20, 30]
        assert pixels.sum() == 60

    def test_normalising_undoes_mean_and_deviation(self) -> None:
        info = ModelInfo("vgg11", 4, (32, 32), mean=(10, 20, 30), std=(1, 2, 4))
        classifier = PersonClassifier(VGGClassifier("vgg11", (32, 32), 4), info, "cpu")
        pixels = torch.tensor([13.0, 26.0, 42.0]).view(1, 3, 1, 1)
        assert classifier.normalise(pixels).flatten().tolist() == [3, 3, 3]


class TestResize:
    def test_a_window_stays(self, vgg11_classifier: PersonClassifier) -> None:
        assert np.array_equal(vgg11_classifier.resize(windows(1)[0]), windows(1)[0])

    def test_shrinking_averages(self, vgg11_classifier: PersonClassifier) -> None:
        image = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
        expected = image.reshape(64, 2, 32, 3, 3).mean((1, 3))
        assert np.abs(vgg11_classifier.resize(image) - expected).max() <= 0.51

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (480, 640), (20, 500), (500, 20), (64, 33)])
    def test_any_size_becomes_a_window(self, vgg11_classifier: PersonClassifier, height: int, width: int) -> None:
        resized = vgg11_classifier.resize(np.full((height, width, 3), (9, 99, 199), np.uint8))
        assert resized.shape == WINDOW
        assert np.unique(resized.reshape(-1, 3), axis=0).tolist() == [[9, 99, 199]]

    def test_left_stays_left_and_top_stays_top(self, vgg11_classifier: PersonClassifier) -> None:
        image = np.zeros((300, 100, 3), np.uint8)
        image[:150, :50, 0] = 200
        resized = vgg11_classifier.resize(image)
        assert (resized[:31, :15, 0] == 200).all()
        assert not resized[33:].any() and not resized[:, 17:].any() and not resized[..., 1:].any()


class TestLocate:
    def test_is_person_minus_background_and_the_offset_in_shares_of_the_height(
        self, vgg11_classifier: PersonClassifier
    ) -> None:
        scores, offsets = vgg11_classifier.locate(windows(5))
        assert (scores.shape, scores.dtype, offsets.shape, offsets.dtype) == ((5,), np.float32, (5, 3), np.float32)
        batch = vgg11_classifier.normalise(vgg11_classifier.to_pixels(windows(5)))
        with torch.inference_mode():
            logits, expected = vgg11_classifier.network.forward_with_offsets(batch)
        np.testing.assert_allclose(scores, logits[:, 1] - logits[:, 0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(offsets, expected * torch.tensor([1 / 16, 1 / 16, 0.15]), rtol=1e-3, atol=1e-6)

    def test_agrees_with_probability(self, vgg11_classifier: PersonClassifier) -> None:
        scores, _ = vgg11_classifier.locate(windows(70))
        np.testing.assert_allclose(1 / (1 + np.exp(-scores)), vgg11_classifier.probability(windows(70)), rtol=1e-4)

    def test_of_no_windows(self, vgg11_classifier: PersonClassifier) -> None:
        scores, offsets = vgg11_classifier.locate(np.zeros((0, *WINDOW), np.uint8))
        assert (scores.shape, offsets.shape) == ((0,), (0, 3))


class TestLocateDensely:
    @pytest.fixture
    def exact(self, vgg11_classifier: PersonClassifier) -> PersonClassifier:
        """In float32, wherever this runs."""
        classifier = copy.copy(vgg11_classifier)
        classifier.search_autocast, classifier.search_int8 = None, False
        return classifier

    def test_of_one_window_is_where_it_is(self, exact: PersonClassifier) -> None:
        for window in windows(3):
            for dense, plain in zip(exact.locate_densely(window), exact.locate(window[None]), strict=True):
                assert dense.shape == (1, 1, *plain.shape[1:])
                np.testing.assert_allclose(dense[0, 0], plain[0], rtol=1e-3, atol=1e-4)

    def test_is_the_dense_pass_everywhere(self, exact: PersonClassifier) -> None:
        image = np.random.default_rng(0).integers(0, 256, (130, 100, 3), dtype=np.uint8)
        scores, offsets = exact.locate_densely(image)
        with torch.inference_mode():
            logits, expected = exact.network.dense_forward(exact.normalise(exact.to_pixels(image[None])))
        assert (scores.dtype, scores.shape, offsets.shape) == (np.float32, (3, 3), (3, 3, 3))
        np.testing.assert_allclose(scores, logits[0, 1] - logits[0, 0], rtol=1e-3, atol=1e-4)
        for axis, unit in enumerate((1 / 16, 1 / 16, 0.15)):
            np.testing.assert_allclose(offsets[..., axis], expected[0, axis] * unit, rtol=1e-3, atol=1e-5)

    def test_low_precision_is_nearly_the_same(self, exact: PersonClassifier) -> None:
        low = copy.copy(exact)
        low.search_autocast = torch.bfloat16
        image = np.random.default_rng(0).integers(0, 256, (130, 100, 3), dtype=np.uint8)
        for actual, expected in zip(low.locate_densely(image), exact.locate_densely(image), strict=True):
            assert actual.dtype == np.float32
            np.testing.assert_allclose(actual, expected, atol=0.1 * np.abs(expected).max())

    @pytest.mark.skipif(not int8.available(), reason="this CPU does not multiply integers of 8 bits (VNNI)")
    def test_in_8_bits_it_is_nearly_the_same(self, exact: PersonClassifier, picture) -> None:
        searching = copy.copy(exact)
        searching.search_int8, searching._prepared = True, {}
        image = picture(100, 130)
        for actual, expected in zip(searching.locate_densely(image), exact.locate_densely(image), strict=True):
            assert actual.dtype == np.float32
            assert not np.array_equal(actual, expected)
            np.testing.assert_allclose(actual, expected, atol=0.2 * np.abs(expected).max())
        window = searching.resize(image)[None]
        for actual, expected in zip(searching.locate(window), exact.locate(window), strict=True):
            np.testing.assert_array_equal(actual, expected)
        assert not np.array_equal(searching.locate(window, search=True)[0], exact.locate(window)[0])


class TestScan:
    settings = ScanSettings(person_height_min=48, person_height_max=60, candidates_max=6)

    def test_regions_are_what_the_network_says_of_them(self, vgg11_classifier: PersonClassifier, picture) -> None:
        """Best first, in pixels of the frame, each with the probability of its own crop."""
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


BAD_IMAGES = [
    (np.zeros((10, 10), np.uint8), r"uint8 \[10, 10\]"),
    (np.zeros((10, 10, 4), np.uint8), r"uint8 \[10, 10, 4\]"),
    (np.zeros((1, 10, 10, 3), np.uint8), r"uint8 \[1, 10, 10, 3\]"),
    (np.zeros((10, 10, 3), np.float32), r"float32 \[10, 10, 3\]"),
    (np.zeros((0, 10, 3), np.uint8), "empty .10 x 0 pixels"),
    (np.zeros((10, 0, 3), np.uint8), "empty .0 x 10 pixels"),
    (None, "NoneType"),
    ([[1, 2, 3]], "list"),
]


@pytest.mark.parametrize(("image", "reason"), BAD_IMAGES)
def test_bad_images_are_refused(vgg11_classifier: PersonClassifier, image, reason: str) -> None:
    for refuse in (check_image, vgg11_classifier.scan, vgg11_classifier.resize):
        with pytest.raises(ValueError, match=f"the image is {reason}"):
            refuse(image)


def test_good_images_are_not() -> None:
    check_image(np.zeros((1, 1, 3), np.uint8))
    check_image(np.zeros((10, 20, 3), np.uint8)[::-2, :, ::-1])


def test_the_network_is_ready_for_inference(vgg11_classifier: PersonClassifier) -> None:
    assert not any(m.training for m in vgg11_classifier.network.modules())
    assert not any(p.requires_grad for p in vgg11_classifier.network.parameters())


class TestPrepared:
    """The network in another arithmetic, kept as long as the weights stay as they are."""

    def test_is_kept(self, full_classifier) -> None:
        assert full_classifier.prepared("winograd") is full_classifier.prepared("winograd")
        assert full_classifier.prepared("float32") is full_classifier.network

    def test_changed_weights_are_seen(self) -> None:
        """`check_randomisation` changes one network from stage to stage."""
        classifier = PersonClassifier(VGGClassifier(hidden=4), ModelInfo(hidden=4), "cpu")
        before = classifier.prepared("winograd")
        initialise(classifier.network.features[21])
        after = classifier.prepared("winograd")
        assert after is not before
        batch = torch.randn(2, 3, 128, 64)
        with torch.inference_mode():
            torch.testing.assert_close(after(batch), classifier.network(batch), rtol=1e-3, atol=1e-5)

    def test_few_windows_and_many_get_the_same_decisions(self, full_classifier, picture) -> None:
        windows = np.stack([picture(64, 128, seed) for seed in range(4)])
        assert full_classifier._fast_network(torch.zeros(1, 3, 128, 64), None) is full_classifier.network
        assert full_classifier._fast_network(torch.zeros(4, 3, 128, 64), None) is not full_classifier.network
        assert full_classifier._fast_network(torch.zeros(4, 3, 128, 64), torch.bfloat16) is full_classifier.network
        scores, offsets = full_classifier.locate(windows)
        one_by_one = [full_classifier.locate(window[None]) for window in windows]
        np.testing.assert_allclose(scores, np.concatenate([s for s, _ in one_by_one]), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(offsets, np.concatenate([o for _, o in one_by_one]), rtol=1e-3, atol=1e-5)
