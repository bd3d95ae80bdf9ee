"""The window classifier: logits, probabilities and positions of windows, against the network itself."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from networks_kit import CLASSES, SIZE, small_network
from torch import nn

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model import classifier as module
from explain_cnn_ros.model import int8
from explain_cnn_ros.model.network import VGGClassifier, initialise
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.model.winograd import WinogradConv2d
from explain_cnn_ros.scan.classifier import PersonClassifier

WINDOW = (64, 32, 3)


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *WINDOW), dtype=np.uint8)


def pictures(count: int) -> np.ndarray:
    """Return windows of the small networks."""
    return np.random.default_rng(0).integers(0, 256, (count, SIZE[1], SIZE[0], 3), dtype=np.uint8)


class TestProbability:
    def test_is_the_softmax_of_the_networks_logits(self, vgg11_classifier: PersonClassifier) -> None:
        """The reference normalises pixel by pixel and computes the softmax in float64."""
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
        """The batch is larger than one pass of the network."""
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
        """Mirrored windows, and windows with BGR swapped, are views with negative strides."""
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

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_are_in_the_data_type_of_the_network(self, dtype: torch.dtype) -> None:
        network, info = small_network("dense", dtype), ModelInfo(input_size=SIZE, classes=CLASSES)
        classifier = PersonClassifier(network, info, "cpu")
        pixels = classifier.to_pixels(pictures(3))
        assert classifier.normalise(pixels).dtype == dtype
        exact = PersonClassifier(copy.deepcopy(network).float(), info, "cpu")
        np.testing.assert_allclose(classifier.probability(pictures(3)), exact.probability(pictures(3)), atol=0.02)

    def test_half_precision_searches(self, vgg11_classifier: PersonClassifier, picture) -> None:
        torch.manual_seed(0)
        proposer, network = Proposer(4, (32, 64)).eval(), copy.deepcopy(vgg11_classifier.network)
        exact = PersonClassifier(network, vgg11_classifier.info, "cpu", proposer=proposer)
        half = PersonClassifier(copy.deepcopy(network).bfloat16(), vgg11_classifier.info, "cpu", proposer=proposer)
        frame = picture(48, 72)
        for found, expected in zip(half.propose_densely(frame), exact.propose_densely(frame), strict=True):
            np.testing.assert_array_equal(found, expected)
        for found, expected in zip(half.locate_densely(frame), exact.locate_densely(frame), strict=True):
            np.testing.assert_allclose(found, expected, atol=0.2 * np.abs(expected).max())


class TestOutputs:
    @pytest.mark.parametrize(
        ("head", "reason"),
        [
            (nn.Linear(4, 4), r"logits \[2, 4\]: they must be \[N, 2\].* Name all outputs in their order"),
            (nn.Linear(4, 1), r"logits \[2, 1\]: they must be \[N, 2\].*torch.cat\(\[torch.zeros_like\(z\), z\], 1\)"),
            (nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), r"logits \[2\]: .*torch.cat"),
        ],
        ids=["four", "one", "flat"],
    )
    def test_are_as_many_as_the_classes(self, head: nn.Module, reason: str) -> None:
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        classifier = PersonClassifier(network, ModelInfo(input_size=SIZE), "cpu")
        with pytest.raises(ValueError, match=reason):
            classifier.probability(pictures(2))


class TestContexts:
    """What PyTorch switches on around a call has no effect."""

    def test_weights_that_are_loaded_in_inference_mode_are_explained(
        self, vgg11_classifier: PersonClassifier, tmp_path: Path
    ) -> None:
        vgg11_classifier.save(tmp_path / "weights.safetensors")
        with torch.inference_mode():
            classifier = PersonClassifier.load(tmp_path / "weights.safetensors", "cpu")
        assert not any(parameter.is_inference() for parameter in classifier.network.parameters())
        settings = ExplainSettings.preset("live")
        assert Explainer(classifier, settings).explain(windows(1)[0]).rankings

    def test_a_network_is_wrapped_in_inference_mode(self) -> None:
        network, info = small_network("dense"), ModelInfo(input_size=SIZE, classes=CLASSES)
        with torch.inference_mode():
            classifier = PersonClassifier(network, info, "cpu")
        pixels = classifier.to_pixels(pictures(1)).requires_grad_()
        (gradient,) = torch.autograd.grad(classifier.network(classifier.normalise(pixels))[0, 1], pixels)
        assert gradient.any()

    def test_autocast_does_not_change_a_search(self, vgg11_classifier: PersonClassifier, picture) -> None:
        torch.manual_seed(0)
        proposer = Proposer(4, (32, 64)).eval()
        searching = PersonClassifier(vgg11_classifier.network, vgg11_classifier.info, "cpu", proposer=proposer)
        frame = picture(120, 150)
        expected = searching.scan(frame)
        with torch.autocast("cpu", torch.bfloat16):
            assert searching.scan(frame) == expected


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
        """Return a classifier that searches in float32 on every machine."""
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


class TestUntrained:
    def test_has_the_weights_that_training_starts_from(self, vgg11_classifier: PersonClassifier) -> None:
        torch.manual_seed(7)
        expected = VGGClassifier("vgg11", (32, 64), hidden=8).state_dict()
        untrained = vgg11_classifier.untrained(7)
        assert all(torch.equal(value, expected[name]) for name, value in untrained.network.state_dict().items())
        assert not torch.equal(vgg11_classifier.untrained(8).network.features[0].weight, expected["features.0.weight"])

    def test_is_a_classifier_of_the_same_kind(self, vgg11_classifier: PersonClassifier) -> None:
        before = {name: value.clone() for name, value in vgg11_classifier.network.state_dict().items()}
        state = torch.get_rng_state()
        untrained = vgg11_classifier.untrained()
        assert torch.equal(torch.get_rng_state(), state)
        assert type(untrained) is PersonClassifier
        assert (untrained.info, untrained.device) == (vgg11_classifier.info, vgg11_classifier.device)
        assert untrained.model_hash == ""
        assert all(torch.equal(value, before[name]) for name, value in vgg11_classifier.network.state_dict().items())


class TestWithoutBatchNorm:
    def test_a_network_without_it_is_returned_as_it_is(self, vgg11_classifier: PersonClassifier) -> None:
        assert vgg11_classifier.without_batch_norm() is vgg11_classifier

    def test_a_network_with_it_computes_the_same(self, picture) -> None:
        torch.manual_seed(0)
        network = VGGClassifier("vgg11_bn", (32, 32), hidden=4)
        network.features[1].running_mean.fill_(0.25)
        network.features[1].running_var.fill_(4.0)
        info = ModelInfo("vgg11_bn", 4, (32, 32), threshold=0.7)
        classifier = PersonClassifier(network, info, "cpu", "abc", torch.bfloat16)
        plain = classifier.without_batch_norm()
        assert type(plain) is PersonClassifier
        assert plain.info == ModelInfo("vgg11", 4, (32, 32), threshold=0.7)
        assert (plain.model_hash, plain.autocast) == ("abc", torch.bfloat16)
        window = picture(32, 32)[None]
        exact = [PersonClassifier(one.network, one.info, "cpu") for one in (plain, classifier)]
        torch.testing.assert_close(exact[0].logits(window), exact[1].logits(window), rtol=1e-4, atol=1e-6)


def test_the_network_is_ready_for_inference(vgg11_classifier: PersonClassifier) -> None:
    assert not any(m.training for m in vgg11_classifier.network.modules())
    assert not any(p.requires_grad for p in vgg11_classifier.network.parameters())


class TestPrepared:
    """The network in another precision, which is cached until the weights change."""

    def test_is_kept(self, full_classifier) -> None:
        assert full_classifier.prepared("winograd") is full_classifier.prepared("winograd")
        assert full_classifier.prepared("float32") is full_classifier.network

    def test_changed_weights_are_seen(self) -> None:
        """The randomisation check modifies one network from stage to stage."""
        network = VGGClassifier("vgg11", (32, 32), hidden=4)
        classifier = PersonClassifier(network, ModelInfo("vgg11", 4, (32, 32)), "cpu")
        before = classifier.prepared("winograd")
        initialise(classifier.network.features[11])
        after = classifier.prepared("winograd")
        assert after is not before
        assert isinstance(after.features[11], WinogradConv2d)
        batch = torch.randn(2, 3, 32, 32)
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
