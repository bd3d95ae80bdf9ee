"""Networks of torchvision as classifiers: they compute what torchvision computes, from files as from memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
import torchvision
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from explain_cnn_ros.model import classifier as classifier_module
from explain_cnn_ros.model import torchvision_network as module
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.randomise import randomised, stages
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier, architectures, unsupported
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, ModelInfo, shipped_proposer
from explain_cnn_ros.scan.classifier import PersonClassifier

CLASSES = ("background", "person", "forklift", "cyclist")

#: A network with batch norm and few weights.
SMALL = "shufflenet_v2_x0_5"


def reference(architecture: str = SMALL, classes: int = 4) -> torch.nn.Module:
    """Return torchvision's own network with seeded weights, and statistics of batch norm that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return network.eval().requires_grad_(False)


def build(
    architecture: str = SMALL, size: tuple[int, int] = (64, 96), person: tuple[str, ...] = ("person",)
) -> PersonClassifier:
    """Return a classifier with the weights of `reference`."""
    network = TorchvisionClassifier(architecture, size, len(CLASSES))
    network.network.load_state_dict(reference(architecture).state_dict())
    info = ModelInfo(architecture, input_size=size, classes=CLASSES, threshold=0.3, source="torchvision", person=person)
    return PersonClassifier(network, info, "cpu")


@pytest.fixture(scope="module")
def small() -> PersonClassifier:
    """Return a classifier with the small network. It is shared, so tests must not modify it."""
    return build()


def windows(classifier: PersonClassifier, count: int, seed: int = 0) -> NDArray[np.uint8]:
    width, height = classifier.info.input_size
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


class TestNames:
    def test_networks_of_convolutions_are_supported(self) -> None:
        named = {"resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "vgg11_bn", "vgg16"}
        named |= {"densenet121", "squeezenet1_1", "convnext_tiny", "googlenet", "inception_v3", "regnet_y_400mf"}
        assert named <= set(architectures())
        assert all(unsupported(name) == "" for name in named)

    def test_every_classification_network_is_supported_or_a_transformer(self) -> None:
        known = torchvision.models.list_models(module=torchvision.models)
        transformers = [name for name in known if "transformer" in unsupported(name)]
        assert sorted([*architectures(), *transformers]) == sorted(known)
        assert {name.partition("_")[0] for name in transformers} == {"vit", "swin", "maxvit"}

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("vit_b_16", "it is a transformer"),
            ("swin_v2_t", "it is a transformer"),
            ("maxvit_t", "it is a transformer"),
            ("vit_base_patch16_224", "it is a transformer"),  # timm's name, which torchvision does not know
            ("fcn_resnet50", "it classifies pixels"),
            ("fasterrcnn_resnet50_fpn", "it finds objects in images"),
            ("r3d_18", "it classifies videos"),
            ("raft_small", "it computes optical flow"),
            ("quantized_resnet18", "it computes with 8-bit integers.*use resnet18 in floating point"),
            ("resnet8", "no network of this name: did you mean resnet18 or"),
            ("ResNet18", r"did you mean resnet18\?"),
            ("efficientnet-b0", r"did you mean efficientnet_b0\?"),
            ("resnext50", r"did you mean resnext50_32x4d\?"),
            ("yolo", r"list_models\(\) returns the names"),
        ],
    )
    def test_others_are_refused_with_the_reason(self, name: str, reason: str) -> None:
        assert re.search(reason, unsupported(name))
        with pytest.raises(ValueError, match=f"unknown architecture '{name}'.*{reason}"):
            TorchvisionClassifier(name)

    def test_torchvision_that_is_not_installed_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
        module._subpackages.cache_clear()
        with pytest.raises(ValueError, match=r"need the Python package torchvision.*pip install torchvision"):
            unsupported("resnet18")

    def test_own_weights_do_not_need_torchvision(self) -> None:
        code = (
            "import sys; from explain_cnn_ros.scan.classifier import PersonClassifier; "
            "PersonClassifier.load(device='cpu'); assert 'torchvision' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestNetwork:
    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", SMALL, "convnext_tiny"])
    def test_logits_are_torchvisions(self, name: str) -> None:
        """The reference normalises pixel by pixel."""
        classifier = build(name)
        batch = windows(classifier, 2)
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        pixels = torch.from_numpy(((batch - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
        expected = reference(name)(pixels)
        torch.testing.assert_close(classifier.logits(batch), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 1e-3
        logits, offsets = classifier.network.forward_with_offsets(pixels)
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        assert (offsets.shape, offsets.any()) == ((2, 3), False)

    def test_auxiliary_outputs_are_left_out(self) -> None:
        with torch.device("meta"):
            for name in module.AUXILIARY:
                network = TorchvisionClassifier(name, (299, 299), 4)
                assert not any(key.startswith(module.AUXILIARY[name]) for key in network.network.state_dict())
                assert network.train()(torch.empty(2, 3, 299, 299)).shape == (2, 4)

    @pytest.mark.parametrize("name", [SMALL, "regnet_y_400mf", "densenet121", "mnasnet0_5", "efficientnet_b0"])
    def test_the_meta_device_has_the_same_tensors(self, name: str) -> None:
        with torch.device("meta"):
            built = TorchvisionClassifier(name, classes=4).network
        assert all(value.is_meta for value in built.parameters())
        expected = {key: value.shape for key, value in reference(name).state_dict().items()}
        assert {key: value.shape for key, value in built.state_dict().items()} == expected

    def test_weights_for_training_are_those_of_torchvision(self) -> None:
        torch.manual_seed(5)
        expected = torchvision.models.get_model(SMALL, weights=None, num_classes=4).state_dict()
        state = build().untrained(5).network.network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in expected.items())


class TestClassifier:
    def test_several_classes_may_count_as_a_person(self) -> None:
        classifier = build(person=("cyclist", "person"))
        assert classifier.info.targets == (1, 3)
        batch = windows(classifier, 3)
        logits = classifier.logits(batch).double().numpy()
        powers = np.exp(logits)
        expected = powers[:, [1, 3]].sum(1) / powers.sum(1)
        np.testing.assert_allclose(classifier.probability(batch), expected, rtol=1e-5)
        margins, offsets = classifier.locate(batch)
        np.testing.assert_allclose(margins, np.log(expected / (1 - expected)), rtol=1e-4, atol=1e-5)
        assert (offsets.shape, offsets.any()) == ((3, 3), False)

    def test_does_not_depend_on_the_batch(self, small: PersonClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
        """Large windows go through the network few at a time."""
        sizes: list[int] = []
        forward = small.network.forward_with_offsets
        monkeypatch.setattr(
            small.network, "forward_with_offsets", lambda batch: (sizes.append(len(batch)), forward(batch))[1]
        )
        monkeypatch.setattr(classifier_module, "BATCH_PIXELS", 2 * 64 * 96 + 1)
        batch = windows(small, 5)
        together = small.probability(batch)
        assert sizes == [2, 2, 1]
        singly = np.concatenate([small.probability(window[None]) for window in batch])
        np.testing.assert_allclose(together, singly, rtol=1e-4)

    def test_precisions_that_are_for_vggs_are_refused(self, small: PersonClassifier, full_classifier) -> None:
        assert small.precisions == ("float32", "tf32", "bfloat16", "float16")
        assert full_classifier.precisions == ("float32", "winograd", "tf32", "bfloat16", "float16")
        assert all(small.prepared(precision) is small.network for precision in small.precisions)
        for precision in ("winograd", "int8"):
            with pytest.raises(ValueError, match=f"{SMALL} cannot be computed with the precision '{precision}'.*auto"):
                small.prepared(precision)

    def test_searching_has_the_precision_of_decisions(self, small: PersonClassifier) -> None:
        assert (small.search_int8, small.has_dense_pass, small.searches_exactly) == (False, False, True)
        assert small.without_batch_norm() is small

    def test_a_dense_pass_is_refused(self, small: PersonClassifier) -> None:
        with pytest.raises(ValueError, match=f"{SMALL} cannot judge all windows.*proposer"):
            small.locate_densely(np.zeros((300, 300, 3), np.uint8))

    def test_any_module_can_be_a_classifier(self, small: PersonClassifier, tmp_path: Path) -> None:
        """It is not stored in a weights file, which holds no code."""
        own = PersonClassifier(small.network.network, small.info, "cpu")
        batch = windows(small, 2)
        assert torch.equal(own.logits(batch), small.logits(batch))
        assert (own.locate(batch)[1].shape, own.prepared("float32")) == ((2, 3), own.network)
        assert own.without_batch_norm() is own
        assert [name for name, _ in randomised(own, 0)] == [name for name, _ in randomised(small, 0)]
        for use in (own.untrained, lambda: own.save(tmp_path / "own.safetensors")):
            with pytest.raises(
                ValueError, match=r"ShuffleNetV2 .*: use a VGG of this package or a network of torchvision"
            ):
                use()
        assert not list(tmp_path.iterdir())

    def test_blocks_become_random_from_the_output_down(self, small: PersonClassifier) -> None:
        before = {name: value.clone() for name, value in small.network.network.state_dict().items()}
        names, random = [], set()
        for name, changed in randomised(small, 0):
            names.append(name)
            random |= {key for key in before if key.startswith(f"{name}.")}
            after = changed.network.network.state_dict()
            changes = {key for key, value in after.items() if not torch.equal(value, before[key])}
            assert changes <= random
            assert {key for key in random if key.endswith(("0.weight", "fc.weight", "running_mean"))} <= changes
            assert changed.logits(windows(changed, 1)).isfinite().all()
        assert len(names) == len(set(names)) == stages(small)
        assert (names[0], names[-1]) == ("fc", "conv1.0") and "stage3.2" in names
        assert all(torch.equal(value, before[name]) for name, value in small.network.network.state_dict().items())


class TestFile:
    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
    def test_full_precision_is_exact(self, name: str, tmp_path: Path) -> None:
        classifier = build(name, person=("person", "cyclist"))
        path = tmp_path / "own.safetensors"
        classifier.save(path, torch.float32)
        assert load_file(path).keys() == reference(name).state_dict().keys()
        loaded = PersonClassifier.load(path, "cpu")
        assert loaded.info == classifier.info
        assert type(loaded.network) is TorchvisionClassifier
        state, expected = loaded.network.network.state_dict(), reference(name).state_dict()
        assert all(torch.equal(state[key], value) and not state[key].is_meta for key, value in expected.items())
        assert torch.equal(loaded.logits(windows(loaded, 2)), classifier.logits(windows(loaded, 2)))

    def test_half_precision_rounds_weights_only(self, small: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "own.safetensors"
        small.save(path)
        loaded = PersonClassifier.load(path, "cpu").network.network.state_dict()
        for name, value in small.network.network.state_dict().items():
            exact = not value.is_floating_point() or "running" in name
            assert torch.equal(loaded[name], value if exact else value.half().float()), name
        torch.testing.assert_close(
            PersonClassifier.load(path, "cpu").logits(windows(small, 2)),
            small.logits(windows(small, 2)),
            rtol=0.01,
            atol=0.01,
        )

    def test_values_that_half_precision_cannot_hold_are_exact(self, tmp_path: Path) -> None:
        classifier = build()
        state = classifier.network.network.state_dict()
        state["conv1.0.weight"][0, 0, 0, 0] = 1e5
        state["conv1.1.running_var"][0] = 1e-7
        classifier.save(tmp_path / "own.safetensors")
        loaded = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").network.network.state_dict()
        for name in ("conv1.0.weight", "conv1.1.running_var"):
            assert torch.equal(loaded[name], state[name])

    def test_metadata_has_source_and_person(self, small: PersonClassifier, tmp_path: Path) -> None:
        small.save(tmp_path / "own.safetensors")
        with safetensors.safe_open(tmp_path / "own.safetensors", framework="numpy") as file:
            metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        assert (metadata["source"], metadata["architecture"]) == ("torchvision", SMALL)
        assert (metadata["classes"], metadata["person"]) == (list(CLASSES), ["person"])

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda state: state.pop("fc.bias"), f"it lacks the tensor fc.bias of the network .*{SMALL}"),
            (lambda state: state.update(x=torch.zeros(2)), "it has the tensor x, which"),
            (lambda state: state.update({"fc.bias": torch.zeros(5)}), r"fc.bias has the shape \[5\], .* has \[4\]"),
            (
                lambda state: state.update({"fc.bias": torch.zeros(4, dtype=torch.int32)}),
                "fc.bias has the type 'I32': it must be F16",
            ),
            (lambda state: state["conv1.0.weight"].view(-1)[3:5].fill_(torch.nan), "has 2 values of 648 that are not"),
            (lambda state: state["conv1.1.running_var"].fill_(-1), "conv1.1.running_var has negative values"),
        ],
    )
    def test_damaged_tensors_are_named(self, small: PersonClassifier, tmp_path: Path, change, reason: str) -> None:
        path = tmp_path / "own.safetensors"
        state = {name: value.clone().contiguous() for name, value in small.network.network.state_dict().items()}
        change(state)
        save_file(state, path, small.info.to_metadata())
        with pytest.raises(ValueError, match=f"own.safetensors holds no weights of explain_cnn_ros: .*{reason}"):
            PersonClassifier.load(path, "cpu")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"architecture": '"vit_b_16"'}, "it is a transformer"),
            ({"architecture": '"resnet81"'}, "did you mean"),
            ({"architecture": '"shufflenet_v2_x1_0"'}, "has the shape"),
            ({"source": '"timm"'}, "source is 'timm': it must be one of explain_cnn_ros, torchvision"),
            ({"source": '"explain_cnn_ros"'}, "unknown architecture"),
            ({"classes": '["background", "person"]'}, r"fc.bias has the shape \[4\]"),
            ({"classes": '["background", "person", "person", "x"]'}, "classes is .*different classes"),
            ({"person": "[]"}, "person is .*one or more"),
            ({"person": '["pedestrian"]'}, "it must contain pedestrian"),
            ({"person": '["background", "person", "forklift", "cyclist"]'}, "at least one class must not"),
        ],
    )
    def test_unsuitable_metadata_is_named(
        self, small: PersonClassifier, tmp_path: Path, change: dict[str, str], reason: str
    ) -> None:
        path = tmp_path / "own.safetensors"
        state = {name: value.contiguous() for name, value in small.network.network.state_dict().items()}
        save_file(state, path, small.info.to_metadata() | change)
        with pytest.raises(ValueError, match=f"own.safetensors holds no weights of explain_cnn_ros: .*{reason}"):
            PersonClassifier.load(path, "cpu")

    def test_a_header_that_looks_like_a_pickle_is_read(self, small: PersonClassifier, tmp_path: Path) -> None:
        """Its length has the bytes with which a file of torch.save begins."""
        path = tmp_path / "own.safetensors"
        small.save(path)
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        padded = length + (0x280 - length) % 0x10000
        path.write_bytes(padded.to_bytes(8, "little") + content[8 : 8 + length].ljust(padded) + content[8 + length :])
        assert path.read_bytes()[:2] == b"\x80\x02"
        assert PersonClassifier.load(path, "cpu").info == small.info


class TestProposer:
    def test_that_of_the_shipped_weights_is_attached(self, small: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "own.safetensors"
        small.save(path)
        loaded = PersonClassifier.load(path, "cpu")
        shipped = PersonClassifier.load(DEFAULT_WEIGHTS, "cpu")
        assert loaded.info.proposer == 0
        assert loaded.proposer.window == (32, 64)
        for name, value in shipped.proposer.state_dict().items():
            assert torch.equal(loaded.proposer.state_dict()[name], value)

    def test_it_has_its_own_normalisation(self, tmp_path: Path, picture) -> None:
        network = TorchvisionClassifier(SMALL, (64, 64), 4)
        info = ModelInfo(
            SMALL, input_size=(64, 64), mean=(1, 2, 3), std=(4, 5, 6), classes=CLASSES, source="torchvision"
        )
        other = PersonClassifier(network, info, "cpu", proposer=shipped_proposer())
        image = picture(96, 128)
        for actual, expected in zip(
            other.propose_densely(image), PersonClassifier.load(device="cpu").propose_densely(image), strict=True
        ):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    def test_it_is_not_written(self, tmp_path: Path) -> None:
        classifier = build()
        classifier.proposer = shipped_proposer()
        classifier.save(tmp_path / "own.safetensors")
        assert not any(name.startswith("proposer.") for name in load_file(tmp_path / "own.safetensors"))

    def test_one_of_the_file_is_used(self, tmp_path: Path) -> None:
        classifier = build(size=(64, 64))
        classifier.proposer = Proposer(2, (64, 64)).half().float()
        classifier.save(tmp_path / "own.safetensors")
        loaded = PersonClassifier.load(tmp_path / "own.safetensors", "cpu")
        assert (loaded.info.proposer, loaded.proposer.width, loaded.proposer.window) == (2, 2, (32, 32))
        assert loaded.proposer.mean is None
        for name, value in classifier.proposer.state_dict().items():
            assert torch.equal(loaded.proposer.state_dict()[name], value)
