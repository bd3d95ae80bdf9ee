"""Weights of torchvision become weights files; damaged and wrong files are refused with the reason and the cure."""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
import torchvision
from safetensors.torch import save_file

from explain_cnn_ros import cli
from explain_cnn_ros.model.importing import fitting
from explain_cnn_ros.model.importing.cli import _hints, main
from explain_cnn_ros.model.importing.fitting import TensorLayout, fit
from explain_cnn_ros.model.importing.state_dict_file import read_state_dict
from explain_cnn_ros.model.weights_file import DEFAULT_WEIGHTS, ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier

#: A network with batch norm and few weights.
SMALL = "shufflenet_v2_x0_5"

CLASSES = "background,person,forklift,pallet"

State = dict[str, torch.Tensor]


def reference(architecture: str = SMALL, classes: int = 4) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.get_model(architecture, weights=None, num_classes=classes).eval()


@pytest.fixture(scope="module")
def small() -> State:
    """Return a state dict of the small network. It is shared, so tests must not modify it."""
    return reference().state_dict()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command for a file in the folder of the test; return exit code, stdout and stderr."""

    def call(name: str = "own.pth", *words: str, architecture: str = SMALL, classes: str = CLASSES) -> Any:
        common = ["--architecture", architecture, "--classes", classes]
        status = main([str(tmp_path / name), *common, "--output", str(tmp_path / "own.safetensors"), *words])
        return status, *capsys.readouterr()

    return call


def value_of(output: str, name: str) -> str:
    """Return the text after a name in the printed list."""
    found = re.search(rf"^{name} +(.*)$", output, re.M)
    assert found, output
    return found[1]


class TestRoundTrip:
    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", SMALL])
    def test_logits_are_those_of_torchvision(self, name: str, tmp_path: Path, run) -> None:
        network = reference(name)
        torch.save(network.state_dict(), tmp_path / "own.pth")
        size = "64x96"
        for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-2)):
            status, output, _ = run("own.pth", "--input-size", size, "--dtype", dtype, architecture=name)
            assert status == 0, output
            classifier = PersonClassifier.load(tmp_path / "own.safetensors", "cpu")
            windows = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3), dtype=np.uint8)
            with torch.inference_mode():
                expected = network(classifier.normalise(classifier.to_pixels(windows)))
            torch.testing.assert_close(classifier.logits(windows), expected, rtol=tolerance, atol=tolerance)
            assert classifier.info.classes == tuple(CLASSES.split(","))

    def test_metadata(self, small: State, tmp_path: Path, run) -> None:
        torch.save(small, tmp_path / "own.pth")
        status, output, _ = run(
            *("own.pth", "--person", "person,3", "--input-size", "96x64", "--threshold", "0.75"),
            *("--mean", "0.5,0.25,0", "--std", "0.25,0.5,1"),
        )
        assert status == 0
        info = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").info
        assert (info.architecture, info.source, info.person) == (SMALL, "torchvision", ("person", "pallet"))
        assert (info.input_size, info.threshold) == ((96, 64), 0.75)
        assert (info.mean, info.std) == ((127.5, 63.75, 0), (63.75, 127.5, 255))
        assert str(tmp_path) not in info.command and info.command.startswith("import-weights own.pth --architecture")
        assert value_of(output, "mean") == "127.5,63.75,0 (0.5,0.25,0 times 255)"
        assert value_of(output, "std") == "63.75,127.5,255 (0.25,0.5,1 times 255)"
        assert value_of(output, "person") == "person, pallet"
        assert f"--weights {tmp_path / 'own.safetensors'}" in value_of(output, "analyze:")
        assert f"weights:={tmp_path / 'own.safetensors'}" in value_of(output, "node:")

    @pytest.mark.parametrize(
        ("mean", "std", "scaled", "expected"),
        [
            # Caffe and mmdetection divide by 1.
            ("123.675,116.28,103.53", "1,1,1", False, ((123.675, 116.28, 103.53), (1, 1, 1))),
            ("1,2,3", "0.5,1,1", False, ((1, 2, 3), (0.5, 1, 1))),
            ("0,0,0", "50,60,70", False, ((0, 0, 0), (50, 60, 70))),
            ("0,0,0", "1,1,1", True, ((0, 0, 0), (255, 255, 255))),
            ("0.5,0.5,0.5", "1,1,1", True, ((127.5, 127.5, 127.5), (255, 255, 255))),
            ("0.5,0.5,0.5", None, True, ((127.5, 127.5, 127.5), ModelInfo().std)),
            (None, "0.2,0.2,0.2", True, (ModelInfo().mean, (51, 51, 51))),
        ],
    )
    def test_mean_and_deviation_are_for_the_same_pixel_values(
        self, small: State, tmp_path: Path, run, mean: str | None, std: str | None, scaled: bool, expected: tuple
    ) -> None:
        torch.save(small, tmp_path / "own.pth")
        given = {name: text for name, text in (("mean", mean), ("std", std)) if text}
        status, output, _ = run("own.pth", *(word for name, text in given.items() for word in (f"--{name}", text)))
        assert status == 0
        info = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").info
        assert (info.mean, info.std) == expected
        for name, text in given.items():
            unit = f"({text} times 255)" if scaled else "(for pixel values between 0 and 255)"
            assert value_of(output, name).endswith(unit)

    def test_a_file_of_safetensors(self, small: State, tmp_path: Path, run) -> None:
        save_file(
            {name: value.bfloat16() if value.dim() == 4 else value for name, value in small.items()},
            tmp_path / "weights.safetensors",
        )
        status, output, _ = run("weights.safetensors")
        assert status == 0
        assert "(safetensors, " in value_of(output, "file")

    def test_the_dry_run_writes_nothing(self, small: State, tmp_path: Path, capsys) -> None:
        torch.save(small, tmp_path / "own.pth")
        arguments = [str(tmp_path / "own.pth"), "--architecture", SMALL, "--classes", CLASSES, "--dry-run"]
        assert cli.main(["import-weights", *arguments]) == 0
        output = capsys.readouterr().out
        assert output.endswith("Nothing was written (--dry-run).\n")
        assert value_of(output, "architecture") == f"{SMALL} of torchvision, 0.3 million parameters"
        assert value_of(output, "outputs") == "4: 0 background, 1 person, 2 forklift, 3 pallet"
        assert value_of(output, "person") == "person (default)"
        assert value_of(output, "input size") == "224 x 224 pixels (default)"
        assert value_of(output, "threshold") == "0.5"
        assert [path.name for path in tmp_path.iterdir()] == ["own.pth"]
        with pytest.raises(SystemExit):
            main(arguments[:-1])
        assert "--output is needed" in capsys.readouterr().err


class TestContainers:
    def test_torchvisions_training_script(self, small: State, tmp_path: Path, run) -> None:
        """It saves its arguments beside the weights, and averages of the weights."""
        average = {f"module.{name}": value + 1 if value.is_floating_point() else value for name, value in small.items()}
        average["n_averaged"] = torch.tensor(7)
        content = {
            "model_ema": average,
            "model": small,
            "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
            "lr_scheduler": {"last_epoch": 3},
            "epoch": 3,
            "args": argparse.Namespace(lr=0.1, data_path="/data"),
        }
        torch.save(content, tmp_path / "own.pth")
        status, output, _ = run()
        assert status == 0
        assert value_of(output, "weights") == f"{len(small)} tensors, entry model"
        assert value_of(output, "other weights") == "model_ema (--entry NAME imports them instead)"
        assert value_of(output, "ignored") == "optimizer, lr_scheduler, epoch, args"
        status, output, _ = run("own.pth", "--entry", "model_ema", "--dtype", "float32")
        assert value_of(output, "weights") == f"{len(small)} tensors, entry model_ema, prefix module. removed"
        assert "n_averaged" in value_of(output, "ignored")
        loaded = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").network.network.state_dict()
        assert torch.equal(loaded["fc.weight"], small["fc.weight"] + 1)

    @pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "net", "network", "ema", "my_own"])
    def test_entries(self, small: State, tmp_path: Path, entry: str) -> None:
        torch.save({"epoch": 1, entry: small, "optimizer": {"state": {}}}, tmp_path / "own.pth")
        found = read_state_dict(tmp_path / "own.pth")
        assert (found.entry, found.ignored, found.others) == (entry, ("epoch", "optimizer"), ())
        assert found.tensors.keys() == small.keys()

    def test_an_entry_in_an_entry(self, small: State, tmp_path: Path) -> None:
        torch.save({"a": {"state_dict": small, "loss": 1.0}, "b": {"c": {"d": {"e": small}}}}, tmp_path / "own.pth")
        found = read_state_dict(tmp_path / "own.pth")
        assert (found.entry, found.ignored) == ("a.state_dict", ("b", "a.loss"))

    def test_values_among_the_tensors_are_ignored(self, small: State, tmp_path: Path) -> None:
        torch.save(collections.OrderedDict({**small, "epoch": 3}), tmp_path / "own.pth")
        found = read_state_dict(tmp_path / "own.pth")
        assert (found.entry, found.ignored, found.tensors.keys()) == ("", ("epoch",), small.keys())

    def test_a_file_without_checksums(self, small: State, tmp_path: Path) -> None:
        before = torch.serialization.get_crc32_options()
        try:
            torch.serialization.set_crc32_options(False)
            torch.save(small, tmp_path / "own.pth")
        finally:
            torch.serialization.set_crc32_options(before)
        with zipfile.ZipFile(tmp_path / "own.pth") as archive:
            assert archive.testzip() is not None
        assert read_state_dict(tmp_path / "own.pth").tensors.keys() == small.keys()

    def test_the_form_before_pytorch_1_6(self, small: State, tmp_path: Path) -> None:
        torch.save(small, tmp_path / "own.pth", _use_new_zipfile_serialization=False)
        assert read_state_dict(tmp_path / "own.pth").tensors.keys() == small.keys()


class TestNames:
    @pytest.mark.parametrize(
        "prefix", ["module.", "model.", "_orig_mod.", "backbone.", "module.model.", "_orig_mod.module.", "net.0."]
    )
    def test_prefixes_are_removed(self, small: State, prefix: str) -> None:
        fitted = fit({prefix + name: value for name, value in small.items()}, SMALL)
        assert fitted.problems == []
        assert fitted.prefix == prefix.replace("_orig_mod.", "")
        assert bool(fitted.notes) is ("_orig_mod." in prefix)
        assert all(fitted.tensors[name] is value for name, value in small.items())

    def test_tensors_outside_of_the_prefix_are_ignored(self, small: State) -> None:
        state = {f"model.{name}": value for name, value in small.items()} | {"criterion.weight": torch.ones(4)}
        fitted = fit(state, SMALL)
        assert (fitted.problems, fitted.ignored) == ([], ["criterion.weight"])

    def test_files_without_counters(self, small: State) -> None:
        """PyTorch has them since 0.4.1."""
        fitted = fit({name: v for name, v in small.items() if not name.endswith("num_batches_tracked")}, SMALL)
        assert fitted.problems == []
        assert fitted.tensors.keys() == small.keys()

    @pytest.mark.parametrize(
        "counter", [torch.tensor(3.0).half(), torch.tensor([3]), torch.tensor(3, dtype=torch.int32)]
    )
    def test_counters_of_another_form(self, small: State, tmp_path: Path, run, counter: torch.Tensor) -> None:
        """For instance, if all tensors of the state dict were converted or averaged."""
        state = {name: counter if name.endswith("num_batches_tracked") else value for name, value in small.items()}
        torch.save(state, tmp_path / "own.pth")
        assert run()[0] == 0
        loaded = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").network.network.state_dict()
        assert loaded["conv1.1.num_batches_tracked"].dtype == torch.int64

    def test_auxiliary_outputs_are_ignored(self) -> None:
        with torch.device("meta"):
            state = torchvision.models.googlenet(num_classes=4, aux_logits=True, init_weights=False).state_dict()
        fitted = fit(state, "googlenet")
        assert fitted.problems == []
        assert all(name.startswith(("aux1.", "aux2.")) for name in fitted.ignored) and len(fitted.ignored) > 10

    def test_names_of_the_first_densenets(self) -> None:
        with torch.device("meta"):
            state = torchvision.models.densenet121(num_classes=4).state_dict()
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in state.items()}
        assert old.keys() != state.keys()
        fitted = fit(old, "densenet121")
        assert (fitted.problems, fitted.tensors.keys(), len(fitted.notes)) == ([], state.keys(), 1)

    @pytest.mark.parametrize("layer", ["fc.1", "head", "fc.dense.0"])
    def test_a_replaced_last_layer(self, small: State, layer: str) -> None:
        """`network.fc = nn.Sequential(nn.Dropout(), nn.Linear(1024, 4))` names it fc.1."""
        state = {name.replace("fc.", f"{layer}."): value for name, value in small.items()}
        fitted = fit(state, SMALL)
        assert fitted.problems == []
        assert torch.equal(fitted.tensors["fc.weight"], small["fc.weight"])
        assert f"The layer {layer} is the last layer, fc of torchvision." in fitted.notes[0]

    def test_a_last_layer_of_two_layers_is_refused(self, small: State) -> None:
        state = {name: value for name, value in small.items() if not name.startswith("fc.")}
        state |= {"fc.0.weight": torch.zeros(9, 1024), "fc.0.bias": torch.zeros(9)}
        state |= {"fc.2.weight": torch.zeros(4, 9), "fc.2.bias": torch.zeros(4)}
        assert "it lacks the tensors fc.weight, fc.bias" in fit(state, SMALL).problems[0]

    def test_all_layouts_have_one_last_layer(self) -> None:
        """The last layer is found by the number of its outputs."""
        for name in ("resnet18", "vgg11_bn", "squeezenet1_1", "mobilenet_v3_small", "densenet121", "convnext_tiny"):
            layout = TensorLayout.of(name)
            assert len(layout.head) == 2
            assert {part.rpartition(".")[2] for part in layout.head} == {"weight", "bias"}


class TestOutputs:
    @pytest.mark.parametrize("classes", ["background,person", "person,vehicle"])
    def test_a_single_output_is_a_sigmoid(self, classes: str, tmp_path: Path, run) -> None:
        """It is the probability of the label 1, of the second class in ImageFolder."""
        first, second = classes.split(",")
        network = reference(classes=1)
        torch.save(network.state_dict(), tmp_path / "own.pth")
        status, output, _ = run("own.pth", "--dtype", "float32", "--input-size", "64x64", classes=classes)
        assert status == 0
        assert f"It becomes the output of {second}, and that of {first} is 0." in output
        assert f"If the sigmoid is P({first}), swap the names: --classes {second},{first}." in output
        classifier = PersonClassifier.load(tmp_path / "own.safetensors", "cpu")
        windows = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
        with torch.inference_mode():
            expected = network(classifier.normalise(classifier.to_pixels(windows))).sigmoid().flatten()
        if first == "person":
            expected = 1 - expected
        np.testing.assert_allclose(classifier.probability(windows), expected, rtol=1e-5)

    def test_classes_of_a_file(self, small: State, tmp_path: Path, run) -> None:
        torch.save(small, tmp_path / "own.pth")
        (tmp_path / "names.txt").write_text("\ufeffbackground\nPedestrian, walking\n forklift \nhuman\n\n")
        status, _, _ = run(classes=str(tmp_path / "names.txt"))
        assert status == 0
        info = PersonClassifier.load(tmp_path / "own.safetensors", "cpu").info
        assert info.classes == ("background", "Pedestrian, walking", "forklift", "human")
        assert info.person == ("human",)
        assert "--classes names.txt" in info.command

    @pytest.mark.parametrize(
        ("words", "classes", "reason"),
        [
            (
                ["--person", "dog"],
                CLASSES,
                "--person dog: no class is called so. The classes are 0 background, 1 person",
            ),
            (["--person", "4"], CLASSES, "--person 4: no class is called so"),
            (["--person", ","], CLASSES, "--person names no class"),
            (["--person", "0,1,2,3"], CLASSES, "--person names all classes"),
            ([], "background,worker,forklift,pallet", "--person is needed, because no class is called person"),
            ([], "person,Human,x,y", "--person is needed, because several classes are called so: person, Human"),
            ([], "background,person,x,person", "outputs 1 and 3 are both called person: give them different names"),
            ([], "background,,person,x", "the name of output 1 is empty"),
            ([], "person", "--classes names 1 class: name all outputs"),
            ([], "names.txt", "--classes names.txt: there is no such file"),
            ([], "background,person\u202e,x,y", r"has characters that do not show \(person\\u202e\)"),
            (["--input-size", "224,224"], CLASSES, "--input-size 224,224: it must be WIDTHxHEIGHT"),
            (["--input-size", "0x64"], CLASSES, "--input-size 0x64: both sides must be between 1 and 4096"),
            (["--input-size", "99999"], CLASSES, "both sides must be between"),
            (["--mean", "1,2"], CLASSES, "--mean 1,2: it must be three numbers, for instance 123.675,116.28,103.53"),
            (["--mean", "nan,1,2"], CLASSES, "mean is .*: it must be three numbers"),
            (["--std", "0,0,0"], CLASSES, "std is .*: it must be three numbers between 1e-6"),
            (
                ["--mean", "0.5,0.5,0.5", "--std", "50,60,70"],
                CLASSES,
                "--mean 0.5,0.5,0.5 is for pixel values between 0 and 1, and --std 50,60,70 for those between 0",
            ),
            (["--mean", "123,116,103", "--std", "0.2,0.2,0.2"], CLASSES, "std is .*Multiply those for pixel values"),
            (["--threshold", "1"], CLASSES, "threshold is 1.0: it must be a number between 0 and 1"),
            (["--output", "own.pth"], CLASSES, "--output own.pth: the name must end with .safetensors"),
            (["--output", "/dev/null/x.safetensors"], CLASSES, "/dev/null is a file: give a folder"),
        ],
    )
    def test_arguments_that_do_not_fit(
        self, small: State, tmp_path: Path, run, words: list[str], classes: str, reason: str
    ) -> None:
        torch.save(small, tmp_path / "own.pth")
        status, output, error = run("own.pth", *words, classes=classes)
        assert (status, output) == (1, "")
        assert re.match(f"import-weights: .*{reason}", error), error
        assert error.count("\n") == 1
        assert not (tmp_path / "own.safetensors").exists()

    def test_images_that_are_too_small(self, tmp_path: Path, run) -> None:
        torch.save(reference("squeezenet1_1").state_dict(), tmp_path / "own.pth")
        status, _, error = run("own.pth", "--input-size", "8x8", architecture="squeezenet1_1")
        assert status == 1
        assert re.search(r"input size 8x8: squeezenet1_1 cannot process images of this size \(.*\): give", error)

    def test_the_file_is_not_its_own_output(self, small: State, tmp_path: Path, run) -> None:
        save_file(small, tmp_path / "own.safetensors")
        before = (tmp_path / "own.safetensors").read_bytes()
        status, _, error = run("own.safetensors")
        assert status == 1
        assert "is the file itself: give another name" in error
        assert (tmp_path / "own.safetensors").read_bytes() == before

    def test_networks_that_torchvision_normalises_once_more(self, tmp_path: Path, run) -> None:
        """The weights cannot say so."""
        arguments = argparse.Namespace(architecture="inception_v3", mean=None)
        assert "transform_input" in _hints(arguments)[0]
        assert _hints(argparse.Namespace(architecture="inception_v3", mean="0.5,0.5,0.5")) == []


class Unwelcome:
    """An object that only code can build."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/this-must-not-exist",)


def saved(content: Any, **options: Any) -> bytes:
    """Return the bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    """Return a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return buffer.getvalue()


def scripted() -> bytes:
    """Return a TorchScript archive."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)), buffer)
    return buffer.getvalue()


def changed(state: State, **changes: Any) -> State:
    """Return a copy of a state dict with other tensors; None removes one. Dots are written as two underscores."""
    result = {name: value.clone() for name, value in state.items()}
    for name, value in changes.items():
        result[name.replace("__", ".")] = value
    return {name: value for name, value in result.items() if value is not None}


def flipped(content: bytes) -> bytes:
    """Return a file of which a byte of a tensor is another."""
    position = content.index(b"FB", len(content) // 2) + 3000
    return content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]


SAVE = re.escape("torch.save(model.state_dict()")


@pytest.mark.filterwarnings("ignore")
class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda s: b"", "it is empty: copy or download it again"),
            (lambda s: b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS .*git lfs pull"),
            (lambda s: b"\n<!DOCTYPE html><html></html>", "it is a web page .*Download it again"),
            (lambda s: gzip.compress(saved(s)), "it is compressed by gzip: unpack it first"),
            (lambda s: b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "it is an HDF5 file, as Keras writes them"),
            (lambda s: b"\x93NUMPY" + b"\0" * 99, "it is an array of numpy"),
            (lambda s: b"\x08\x07\x12\x07pytorch" * 9, f"neither a file of torch.save nor of safetensors: .*{SAVE}"),
            (lambda s: saved(s)[:200_000], r"it is not complete, or damaged \(.*copy or download it again"),
            (lambda s: flipped(saved(s)), r"it is not complete, or damaged \(.*copy or download it again"),
            (
                lambda s: saved(s, _use_new_zipfile_serialization=False)[:100_000],
                r"it is not complete, or damaged \(.*copy or download it again",
            ),
            (lambda s: archive(**{"notes.txt": b"x"}), f"a zip archive that torch.save has not written: .*{SAVE}"),
            (lambda s: scripted(), f"it is a TorchScript archive .*a program and not only weights: .*{SAVE}"),
            (lambda s: archive(**{"x/archive_format": b"pt2"}), f"it is a program of torch.export .*{SAVE}"),
            (lambda s: saved(reference()), rf"a whole pickled network \(torchvision.*ShuffleNetV2\).*{SAVE}"),
            (
                lambda s: saved({"model": torch.nn.DataParallel(reference())}),
                rf"a whole pickled network \(torch.nn.*DataParallel\), which only code can build: .*{SAVE}",
            ),
            (lambda s: saved({"model": s, "hook": Unwelcome()}), rf"an object of Python \(posix.system\).*{SAVE}"),
            (
                lambda s: saved({"model": s, "best": np.float64(0.9)}),
                rf"it holds numbers of numpy \(numpy.*scalar\), which only code can build, beside or .*{SAVE}",
            ),
            (lambda s: pickle.dumps(dict(s)), f"pickled by another function than torch.save.*{SAVE}"),
            (lambda s: saved([*s.values()]), f"it holds a list and no state dict: .*{SAVE}"),
            (lambda s: saved(s["fc.weight"]), f"it holds a Tensor and no state dict: .*{SAVE}"),
            (lambda s: saved({}), "it holds an empty dictionary"),
            (
                lambda s: saved(torch.optim.AdamW(reference().parameters()).state_dict()),
                f"it holds the state of an optimizer and no weights: .*{SAVE}",
            ),
            (
                lambda s: saved({"epoch": 3, "loss": torch.ones(())}),
                f"it holds no weights of a network, but epoch, loss: .*{SAVE}",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.full((4, 1024), torch.nan))),
                r"its tensor fc.weight has 4,096 values of 4,096 that are not finite",
            ),
            (
                lambda s: saved(changed(s, conv1__1__running_var=torch.full((24,), -1.0))),
                "its tensor conv1.1.running_var has negative values",
            ),
            (
                lambda s: saved(changed(s, fc__bias=torch.zeros(4, dtype=torch.int64))),
                "its tensor fc.bias has the type torch.int64: it must have floating-point numbers",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.zeros(4, 1024).to_sparse())),
                "its tensor fc.weight is sparse: convert it by to_dense",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.empty(4, 1024, device="meta"))),
                "its tensor fc.weight is on the meta device and has no values",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.zeros(1000, 1024), fc__bias=torch.zeros(1000))),
                "its last layer, fc, has 1,000 outputs, and --classes names 4: these are the 1,000 classes of ImageNet",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.zeros(3, 1024), fc__bias=torch.zeros(3))),
                "its last layer, fc, has 3 outputs, and --classes names 4: name all outputs in their order",
            ),
            (
                lambda s: saved(changed(s, fc__weight=torch.zeros(3, 1024))),
                "its tensors fc.weight and fc.bias have different numbers of outputs",
            ),
            (
                lambda s: saved(changed(s, conv1__0__weight=None)),
                rf"it fits neither {SMALL} \(it lacks the tensor conv1.0.weight\) nor any other network",
            ),
            (
                lambda s: saved(changed(s, x__weight=torch.zeros(1), y__weight=torch.zeros(1))),
                rf"it fits neither {SMALL} \(it has the tensors x.weight, y.weight besides\)",
            ),
            (
                lambda s: saved(changed(s, conv1__0__weight=torch.zeros(24, 1, 3, 3))),
                r"conv1.0.weight has the shape \[24, 1, 3, 3\] instead of \[24, 3, 3, 3\]\)",
            ),
            (
                lambda s: saved(changed(s, conv1__0__weight=None, conv1__0__weight_orig=torch.zeros(24, 3, 3, 3))),
                "it does not fit .*it was pruned: call torch.nn.utils.prune.remove",
            ),
            (
                lambda s: saved({f"blocks.0.attn.{name}": torch.zeros(2) for name in ("weight", "bias")}),
                "it looks like a transformer, which the method cannot explain",
            ),
        ],
    )
    def test_unsuitable_files(
        self, small: State, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch, make: Any, reason: str
    ) -> None:
        # Few other architectures are tried, because building all takes seconds.
        monkeypatch.setattr(fitting, "architectures", lambda: (SMALL, "squeezenet1_1"))
        (tmp_path / "own.pth").write_bytes(make(small))
        status, output, error = run()
        assert (status, output) == (1, "")
        assert re.match(rf"import-weights: \S*own.pth cannot be imported: .*{reason}", error), error
        assert error.count("\n") == 1
        assert not (tmp_path / "own.safetensors").exists()
        assert not Path("/tmp/this-must-not-exist").exists()

    def test_another_architecture_is_named(self, tmp_path: Path, run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fitting, "architectures", lambda: (SMALL, "shufflenet_v2_x1_0", "squeezenet1_1"))
        torch.save({f"module.{k}": v for k, v in reference("squeezenet1_1").state_dict().items()}, tmp_path / "own.pth")
        status, _, error = run()
        assert status == 1
        assert (
            f"these are the weights of squeezenet1_1, and not of {SMALL} (it lacks the tensors conv1.0.weight" in error
        )
        assert error.endswith("give --architecture squeezenet1_1\n")

    @pytest.mark.parametrize(
        ("architecture", "reason"),
        [
            ("resnet81", r"torchvision has no network of this name: did you mean resnet18"),
            ("vit_b_16", "it is a transformer"),
            ("deeplabv3_resnet50", "it classifies pixels"),
            ("ssd300_vgg16", "it finds objects in images"),
            ("r2plus1d_18", "it classifies videos"),
            ("quantized_mobilenet_v2", "8-bit integers"),
        ],
    )
    def test_architectures_are_refused_before_the_file_is_read(self, run, architecture: str, reason: str) -> None:
        status, _, error = run("nowhere.pth", architecture=architecture)
        assert status == 1
        assert re.match(f"import-weights: --architecture {architecture}: .*{reason}", error)

    def test_a_file_that_does_not_exist_and_a_folder(self, tmp_path: Path, run) -> None:
        status, _, error = run("nowhere.pth")
        assert status == 1
        assert re.match(r"import-weights: \S*nowhere.pth: No such file or directory\n", error)
        (tmp_path / "folder.pth").mkdir()
        assert "it is a folder: give the path of a .pth or .safetensors file" in run("folder.pth")[2]

    def test_a_weights_file_of_this_package(self, tmp_path: Path, run) -> None:
        (tmp_path / "shipped.safetensors").write_bytes(DEFAULT_WEIGHTS.read_bytes())
        status, _, error = run("shipped.safetensors")
        assert status == 1
        assert "it is a weights file of this package already: give it to the node" in error

    def test_safetensors_that_are_damaged(self, small: State, tmp_path: Path, run) -> None:
        save_file(small, tmp_path / "cut.safetensors")
        content = (tmp_path / "cut.safetensors").read_bytes()
        (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
        assert "it is not complete: it has" in run("cut.safetensors")[2]
        (tmp_path / "cut.safetensors").write_bytes(content[:9] + b"x" + content[10:])
        assert "it is damaged: its header cannot be read" in run("cut.safetensors")[2]

    def test_entries_that_do_not_exist(self, small: State, tmp_path: Path, run) -> None:
        torch.save({"model": small, "epoch": 3}, tmp_path / "own.pth")
        assert "it has no state dict in an entry ema: it has model\n" in run("own.pth", "--entry", "ema")[2]
        torch.save(small, tmp_path / "own.pth")
        assert "it has no state dict in an entry ema: leave out --entry\n" in run("own.pth", "--entry", "ema")[2]

    def test_weights_that_float16_cannot_hold_stay_exact(self, small: State, tmp_path: Path, run) -> None:
        torch.save(changed(small, conv1__1__running_var=torch.full((24,), 1e6)), tmp_path / "own.pth")
        assert run()[0] == 0
        with safetensors.safe_open(tmp_path / "own.safetensors", framework="numpy") as file:
            assert (file.get_tensor("conv1.1.running_var") == 1e6).all()
            assert file.get_tensor("conv1.0.weight").dtype == np.float16
            assert json.loads(file.metadata()["source"]) == "torchvision"
