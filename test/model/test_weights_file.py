"""Weights are written to a file and read back, and unsuitable files are refused with their reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from explain_cnn_ros.model import classifier as module
from explain_cnn_ros.model import network as network_module
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.weights_file import LATER, ModelInfo, read_weights
from explain_cnn_ros.scan.classifier import PersonClassifier


def saved(classifier: PersonClassifier) -> dict[str, torch.Tensor]:
    """Return copies of the weights, as they are saved."""
    return {name: value.clone().contiguous() for name, value in classifier.network.state_dict().items()}


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

    def test_files_of_the_first_versions_lack_later_fields(self) -> None:
        metadata = ModelInfo(hidden=9).to_metadata()
        for name in LATER:
            del metadata[name]
        expected = ModelInfo(hidden=9, proposer=0, source="explain_cnn_ros", person=("person",))
        assert ModelInfo.from_metadata(metadata) == expected

    @pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(ModelInfo) if f.name not in LATER])
    def test_missing_metadata_is_named(self, name: str) -> None:
        metadata = ModelInfo().to_metadata()
        del metadata[name]
        with pytest.raises(ValueError, match=f"lacks {name}"):
            ModelInfo.from_metadata(metadata)

    @pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, math.nan])
    def test_threshold_lies_between_0_and_1(self, threshold: float) -> None:
        with pytest.raises(ValueError, match="threshold"):
            ModelInfo(threshold=threshold)

    @pytest.mark.parametrize(
        ("classes", "person", "reason"),
        [
            (("cat", "dog"), ("person",), "classes is .*it must contain person"),
            (("cat", "dog"), ("dog", "wolf", "fox"), "classes is .*it must contain wolf, fox"),
            (("person",), ("person",), "classes is .*two or more different classes"),
            ((), ("person",), "classes is .*two or more"),
            (("person", "person"), ("person",), "classes is .*different"),
            (("person", ""), ("person",), "classes is .*names"),
            (("person", 3), ("person",), "classes is .*names"),
            (("person", "dog"), (), "person is .*one or more"),
            (("person", "dog"), ("person", "person"), "person is .*different"),
            (("person", "dog"), ("dog", "person"), "person is .*at least one class must not"),
        ],
    )
    def test_some_classes_count_as_a_person_and_some_do_not(self, classes: Any, person: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            ModelInfo(classes=classes, person=person)

    def test_targets_are_the_indices_of_the_classes_that_count_as_a_person(self) -> None:
        assert ModelInfo().targets == (1,)
        assert ModelInfo(classes=("person", "dog")).targets == (0,)
        assert ModelInfo(classes=("a", "b", "c", "d"), person=("d", "b")).targets == (1, 3)

    @pytest.mark.parametrize(("name", "value"), [("mean", (1, 2)), ("std", (1, 2, 3, 4)), ("std", (1, 0, 1))])
    def test_normalisation_fits_three_colours(self, name: str, value: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match=f"{name} is .*: it must be three numbers"):
            ModelInfo(**{name: value})

    def test_the_deviation_is_for_pixel_values_of_0_to_255(self) -> None:
        with pytest.raises(ValueError, match=r"std is .*: it must be .* values of 0 to 1 by 255, and the mean as well"):
            ModelInfo(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        assert ModelInfo(mean=(123.675, 116.28, 103.53), std=(1, 1, 1)).std == (1, 1, 1)

    def test_lists_become_tuples(self) -> None:
        expected = ModelInfo(input_size=(224, 224), mean=(1, 2, 3), std=(4, 5, 6), classes=("a", "b"), person=("b",))
        info = ModelInfo(input_size=[224, 224], mean=[1, 2, 3], std=[4, 5, 6], classes=["a", "b"], person=["b"])
        assert info == expected
        assert hash(info.classes)

    def test_figures_that_json_does_not_have_are_left_out(self) -> None:
        metadata = ModelInfo(accuracy={"recall": math.nan, "alarms": 0.25, "f1": math.inf}).to_metadata()
        assert json.loads(metadata["accuracy"]) == {"alarms": 0.25}
        metadata["accuracy"] = '{"recall": NaN, "f1": null, "alarms": 0.5}'
        assert ModelInfo.from_metadata(metadata).accuracy == {"alarms": 0.5}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("architecture", "16"),
            ("hidden", "true"),
            ("hidden", "0"),
            ("hidden", "8.5"),
            ("hidden", "1" + "0" * 400),
            ("input_size", "null"),
            ("input_size", "[64]"),
            ("input_size", '["64", 128]'),
            ("mean", "[1, NaN, 3]"),
            ("mean", '{"r": 1}'),
            ("std", "[1, 2, 1e300]"),
            ("std", "[1, 2, 1e-300]"),
            ("classes", "3"),
            ("threshold", '"0.5"'),
            ("threshold", "NaN"),
            ("training_data", "[]"),
            ("command", "0"),
            ("created", "{}"),
            ("accuracy", "[0.5]"),
            ("accuracy", '{"recall": "high"}'),
            ("proposer", "false"),
            ("proposer", "-1"),
            ("source", '"keras"'),
            ("source", "null"),
            ("person", '"person"'),
            ("person", "[1]"),
        ],
    )
    def test_a_value_of_the_wrong_kind_is_named(self, name: str, value: str) -> None:
        with pytest.raises(ValueError, match=f"^{name} is .*: it must be "):
            ModelInfo.from_metadata(ModelInfo().to_metadata() | {name: value})

    @pytest.mark.parametrize("text", ["", "seven", "[" * 100_000, "{"])
    def test_metadata_that_is_no_json_is_named(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^threshold in its metadata is .*: it must be JSON"):
            ModelInfo.from_metadata(ModelInfo().to_metadata() | {"threshold": text})


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

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"cannot be read: .*File name too long"):
            PersonClassifier.load(tmp_path / ("x" * 300), "cpu")

    @pytest.mark.parametrize("share", [0.002, 0.02, 0.5, 0.999])
    def test_truncated(self, vgg11_classifier: PersonClassifier, tmp_path: Path, share: float) -> None:
        """In the header, and in the tensors."""
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path)
        content = path.read_bytes()
        path.write_bytes(content[: round(len(content) * share)])
        announced = re.escape(f"of {len(content):,} bytes") if share > 0.01 else ""
        self.assert_refused(path, f"it is not complete: it has .*{announced}.*download it again")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "it is empty: copy or download it again"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
                "pointer of Git LFS.*git lfs pull",
            ),
            (b"not weights at all", "it is no safetensors file"),
            (b"<!DOCTYPE html><html></html>", "it is no safetensors file"),
            (b"\0" * 100, "it is no safetensors file"),
            (b"\xff" * 7 + b"\x7f{}", "it is no safetensors file"),
            ((2).to_bytes(8, "little") + b"{)", "it is damaged: its header"),
            ((14).to_bytes(8, "little") + b'{"a": {"b": 1}', "it is damaged: its header"),
            ((11).to_bytes(8, "little") + b'{"a": null}', "it is damaged: its header .* tensor a "),
            ((24).to_bytes(8, "little") + b'{"__metadata__": [1, 2]}', "it is damaged: its header"),
            ((2).to_bytes(8, "little") + b"{}", "its metadata lacks architecture"),
        ],
    )
    def test_garbage(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(content)
        self.assert_refused(path, reason)

    def test_pickle(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pt"
        torch.save({"x": torch.zeros(3)}, path)
        self.assert_refused(path, "it is a file of torch.save, which is not loaded because it may run any code")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", ["features.3.weight", "classifier.7.bias", "offset.weight"])
    def test_weights_that_are_not_finite(
        self, vgg11_classifier: PersonClassifier, tmp_path: Path, name: str, value: float
    ) -> None:
        path = tmp_path / "weights.safetensors"
        state = saved(vgg11_classifier)
        state[name].view(-1)[1] = value
        save_file(state, path, vgg11_classifier.info.to_metadata())
        self.assert_refused(path, f"its tensor {name} has 1 values of {state[name].numel():,} that are not finite")

    def test_a_variance_that_is_negative(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        network = VGGClassifier("vgg11_bn", (32, 32), hidden=4)
        network.features[1].running_var[2] = -1
        PersonClassifier(network, ModelInfo("vgg11_bn", 4, (32, 32)), "cpu").save(path)
        self.assert_refused(path, "its tensor features.1.running_var has negative values")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda state: state.pop("classifier.7.bias"), "it lacks the tensor classifier.7.bias of the network"),
            (
                lambda state: [state.pop(name) for name in list(state) if name.startswith("features")],
                "it lacks the tensors features.0.bias, features.0.weight, features.11.bias and 13 more",
            ),
            (lambda state: state.update(x=torch.zeros(3)), "it has the tensor x, which the network .* does not have"),
            (
                lambda state: state.update({"classifier.7.bias": torch.zeros(3)}),
                r"its tensor classifier.7.bias has the shape \[3\], the network .* has \[2\]",
            ),
            (
                lambda state: state.update({"classifier.7.bias": torch.zeros(2, dtype=torch.int32)}),
                "its tensor classifier.7.bias has the type 'I32': it must be F16 or BF16 or F32 or F64",
            ),
            (lambda state: state.pop("offset.bias"), "it lacks the tensor offset.bias of the network"),
        ],
    )
    def test_other_tensors(self, vgg11_classifier: PersonClassifier, tmp_path: Path, change, reason: str) -> None:
        path = tmp_path / "weights.safetensors"
        state = saved(vgg11_classifier)
        change(state)
        save_file(state, path, vgg11_classifier.info.to_metadata())
        self.assert_refused(path, reason)

    def test_files_of_the_first_versions_have_no_offsets(
        self, vgg11_classifier: PersonClassifier, tmp_path: Path
    ) -> None:
        path = tmp_path / "weights.safetensors"
        state = {name: value for name, value in saved(vgg11_classifier).items() if not name.startswith("offset.")}
        save_file(state, path, vgg11_classifier.info.to_metadata())
        offset = PersonClassifier.load(path, "cpu").network.offset
        assert not offset.weight.any() and not offset.bias.any()

    def test_weights_do_not_change_with_their_file(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        vgg11_classifier.save(path, torch.float32)
        loaded = PersonClassifier.load(path, "cpu")
        path.write_bytes(b"\0" * path.stat().st_size)
        for name, value in vgg11_classifier.network.state_dict().items():
            assert torch.equal(loaded.network.state_dict()[name], value), name

    def test_a_link_beside_the_file_is_not_followed(self, vgg11_classifier: PersonClassifier, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("precious")
        (tmp_path / "w.safetensors.partial").symlink_to(tmp_path / "precious")
        vgg11_classifier.save(tmp_path / "w.safetensors")
        assert (tmp_path / "precious").read_text() == "precious"
        assert PersonClassifier.load(tmp_path / "w.safetensors", "cpu").info == vgg11_classifier.info
        assert sorted(p.name for p in tmp_path.iterdir()) == ["precious", "w.safetensors"]

    def test_a_place_that_cannot_be_written(self, vgg11_classifier: PersonClassifier) -> None:
        with pytest.raises(OSError, match="/proc/weights"):
            vgg11_classifier.save("/proc/weights.safetensors")

    def test_without_metadata(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        save_file({"x": torch.zeros(3)}, path)
        self.assert_refused(path, "lacks architecture")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"architecture": '"resnet18"'}, "unknown architecture"),
            ({"architecture": '"vgg13"'}, r"it lacks the tensors features.10.bias.* \(vgg13, windows of 32 x 64\)"),
            ({"architecture": "12"}, "architecture is 12: it must be a text"),
            ({"hidden": "9"}, r"has the shape \[8\], the network .* has \[9\]"),
            ({"input_size": "[60, 64]"}, "multiples of 32"),
            ({"input_size": "null"}, "input_size is None: it must be two whole numbers"),
            ({"proposer": "4"}, "it lacks the tensors proposer.layers.0.bias"),
            ({"proposer": "2000000000"}, ""),
            ({"mean": "[1, 2]"}, "mean is"),
            ({"threshold": "7"}, "threshold"),
            ({"threshold": "seven"}, "threshold in its metadata is 'seven': it must be JSON"),
            ({"classes": '["cat", "dog"]'}, "it must contain person"),
            ({"classes": '["background", "person", "dog"]'}, r"classifier.7.bias has the shape \[2\], .* has \[3\]"),
            ({"source": '"torchvision"'}, "lacks|has the tensor"),
        ],
    )
    def test_foreign(self, vgg11_classifier: PersonClassifier, tmp_path: Path, change: dict, reason: str) -> None:
        path = tmp_path / "weights.safetensors"
        save_file(saved(vgg11_classifier), path, vgg11_classifier.info.to_metadata() | change)
        self.assert_refused(path, reason)

    @staticmethod
    def assert_refused(path: Path, reason: str = "") -> None:
        with pytest.raises(ValueError, match=f"(?s){path.name} holds no weights of explain_cnn_ros.*{reason}"):
            PersonClassifier.load(path, "cpu")


class TestAnyDamage:
    """Whatever a file holds, it is read, or refused with a ValueError that names the file."""

    #: Values of JSON, also those that Python alone accepts.
    VALUES = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )

    @pytest.fixture
    def content(self, monkeypatch: pytest.MonkeyPatch) -> bytes:
        """A file of a few kilobytes, with a proposer."""
        monkeypatch.setattr(network_module, "CHANNELS", (2, 2, 2, 2, 512))
        torch.manual_seed(0)
        network, proposer = VGGClassifier("vgg11", (32, 32), hidden=2), Proposer(1, (32, 32))
        state = dict(network.state_dict()) | proposer.state_dict(prefix="proposer.")
        info = ModelInfo("vgg11", 2, (32, 32), proposer=1)
        return save({k: v.half().contiguous() for k, v in state.items()}, info.to_metadata())

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        changes=st.dictionaries(
            st.sampled_from([f.name for f in dataclasses.fields(ModelInfo)]),
            VALUES.map(json.dumps) | st.text(max_size=8),
            min_size=1,
            max_size=3,
        )
    )
    def test_metadata(self, content: bytes, tmp_path: Path, changes: dict[str, str]) -> None:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"] |= changes
        encoded = json.dumps(header).encode()
        self.check(tmp_path, len(encoded).to_bytes(8, "little") + encoded + content[8 + length :])

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_bytes(self, content: bytes, tmp_path: Path, data: st.DataObject) -> None:
        """Bytes of the header are exchanged, left out or added; or the file ends early."""
        header_end = 8 + int.from_bytes(content[:8], "little")
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, 8) | st.integers(0, header_end) | st.integers(0, len(content)))
            changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        self.check(tmp_path, bytes(changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]))

    @staticmethod
    def check(folder: Path, content: bytes) -> None:
        path = folder / "weights.safetensors"
        path.write_bytes(content)
        refusal = ""
        try:
            read = read_weights(path)
        except ValueError as error:
            refusal = str(error)
        if refusal:
            assert refusal.startswith(f"{path} holds no weights of explain_cnn_ros: ")
        else:
            assert all(value.isfinite().all() for value in read.network.state_dict().values())
