"""Trainings of networks of torchvision, and trainings that start from weights."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_kit import FEW_STEPS, folders, interrupt_and_continue, same_tensors, same_weights

from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo, read_weights, shipped_proposer
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training import networks, train, trainer
from explain_cnn_ros.training.batches import TrainingImages
from explain_cnn_ros.training.data import TrainingData, read_data
from explain_cnn_ros.training.evaluation import accuracy, probabilities
from explain_cnn_ros.training.settings import TrainSettings
from explain_cnn_ros.training.trainer import Trainer

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("thin_channels")]

#: The smallest network here, for small windows.
NETWORK, SIZE = "mobilenet_v3_small", (32, 64)
SMALL = ["--architecture", NETWORK, "--input-size", "32x64", *FEW_STEPS]

#: Arguments of a training without a first stage.
FROM_WEIGHTS = [*FEW_STEPS[:4], *FEW_STEPS[6:]]

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole_run(thin_channels, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert train.main([*folders(data, output), *SMALL]) == 0
    return output


def weights_of(folder: Path, architecture: str = NETWORK) -> Path:
    return folder / f"{architecture}_inria.safetensors"


def load(folder: Path, architecture: str = NETWORK) -> PersonClassifier:
    return PersonClassifier.load(weights_of(folder, architecture), "cpu")


def untrained(**info: object) -> PersonClassifier:
    """Return a small network with classes and other metadata of its own."""
    described = ModelInfo(**({"architecture": NETWORK, "input_size": SIZE, "source": "torchvision"} | info))
    torch.manual_seed(5)
    network = TorchvisionClassifier(described.architecture, described.input_size, len(described.classes))
    return PersonClassifier(network, described, "cpu")


def no_images() -> TrainingData:
    return TrainingData(TrainingImages([], []), [], [], [], [], "nothing")


def start_of(classifier: PersonClassifier, path: Path) -> trainer.Weights:
    classifier.save(path, torch.float32)
    return read_weights(path)


def test_the_file_describes_the_network(data, whole_run):
    classifier = load(whole_run)
    info = classifier.info
    assert (info.architecture, info.input_size, info.source) == (NETWORK, SIZE, "torchvision")
    assert (info.classes, info.person) == (("background", "person"), ("person",))
    assert info.command == (
        "train --inria inria --background background --small-steps 2 --steps 4 --batch 4 --warm-up 1 --rounds 1 "
        f"--round-steps 2 --held-out 0.3 --background-held-out 0.5 --architecture {NETWORK} --input-size 32x64 "
        "--checkpoint-every 2"
    )
    assert [entry["step"] for entry in json.loads((whole_run / "history.json").read_text())] == [2, 4, 6, 8]
    # The proposer is that of the package, which the file does not repeat.
    assert info.proposer == 0
    assert same_tensors(classifier.proposer, shipped_proposer())


def test_the_figures_are_those_of_the_file(data, whole_run):
    """The tensors in the file are rounded as those that were measured."""
    classifier = load(whole_run)
    images = read_data(data / "inria", data / "background", TrainSettings(held_out=0.3, background_held_out=0.5))
    persons, backgrounds = (probabilities(classifier, part) for part in (images.persons, images.backgrounds))
    figures = accuracy(persons, backgrounds, 0.5)
    assert {name: round(value, 5) for name, value in figures.items()}.items() <= classifier.info.accuracy.items()
    best = TorchvisionClassifier(NETWORK, SIZE)
    best.load_state_dict(torch.load(whole_run / "best.pt", weights_only=True))
    rounded = trainer.shipped(best.eval())
    assert same_tensors(rounded, classifier.network)
    assert any(value.dtype == torch.float32 and "running_var" in name for name, value in rounded.state_dict().items())


@pytest.mark.slow
def test_resnet18(data, tmp_path):
    extra = ["--architecture", "resnet18", "--input-size", "32x64", *FEW_STEPS, "--rounds", "0"]
    assert train.main([*folders(data, tmp_path), *extra]) == 0
    assert load(tmp_path, "resnet18").info.accuracy["persons_right"] >= 0


@pytest.mark.parametrize("stop_at", [*(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2)), 7])
def test_an_interrupted_run_ends_with_the_same_weights(data, whole_run, tmp_path, monkeypatch, stop_at):
    """It is stopped in the first stage, at the first step on whole windows, and in the round."""
    interrupt_and_continue([*folders(data, tmp_path), *SMALL], monkeypatch, trainer, stop_at)
    one, other = load(whole_run), load(tmp_path)
    assert same_weights(one, other)
    assert one.info == other.info


def test_the_round_has_hard_negatives_that_the_proposer_proposes(whole_run):
    hard = torch.load(whole_run / "checkpoint.pt", weights_only=True)["hard"]
    assert hard.shape[1:] == (64, 32, 3)


@pytest.mark.parametrize(
    ("architecture", "size", "low"),
    [
        ("resnet18", (48, 96), True),  # the last convolution with a stride has a map of 3 x 6 and a kernel of 3 x 3
        ("resnet18", (32, 96), False),
        ("mobilenet_v3_small", (80, 80), True),
        ("mobilenet_v3_small", (64, 80), False),
    ],
)
def test_small_maps_are_trained_in_float32(monkeypatch, architecture, size, low):
    """PyTorch's gradients of convolutions with a stride in bfloat16 are sometimes wrong there, on CPUs."""
    monkeypatch.setattr(networks, "fast_low_precision", lambda device: torch.bfloat16)
    with torch.device("meta"):
        network = TorchvisionClassifier(architecture, size)
    assert networks.low_precision(network, CPU) == (torch.bfloat16 if low else None)
    assert networks.low_precision(network, torch.device("cuda")) == torch.bfloat16


def test_the_loss_is_that_of_the_decision(tmp_path):
    made = Trainer(no_images(), settings_of("--architecture", NETWORK, "--input-size", "32x64"), tmp_path, CPU)
    logits, target = torch.tensor([[0.5, 2.0], [1.0, 0.0]]), torch.tensor([1, 0])
    loss = made._loss(logits, torch.zeros(2, 3), target, torch.ones(2, 3))
    assert torch.equal(loss, nn.functional.cross_entropy(logits, target))


# Start from weights.


def test_without_a_main_training_the_rounds_have_whole_windows(tmp_path, monkeypatch):
    """The first stage is done, and there are no steps of the main training. It is interrupted in the first round."""
    rounds = []

    def interrupted(made: Trainer, number: int) -> None:
        rounds.append((number, made.network))
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_end_round", interrupted)
    settings = TrainSettings(small_steps=1, steps=0, architecture="vgg11", hidden=8)
    made = Trainer(no_images(), settings, tmp_path, CPU)
    features = made.network.features.state_dict()
    made.step = 1
    made.save()
    for _ in range(2):
        made = Trainer(no_images(), settings, tmp_path, CPU)
        assert made.resume()
        # A part of it is saved: the second time, the network is not enlarged again.
        assert made.small is (not rounds)
        with pytest.raises(KeyboardInterrupt):
            made.run()
        assert not made.small
        assert made.network.eval()(torch.zeros(1, 3, 128, 64)).shape == (1, 2)
    (number, first), (_, second) = rounds
    assert number == 0
    assert same_tensors(first, second)
    assert all(torch.equal(value, features[name]) for name, value in first.features.state_dict().items())


def test_the_network_of_the_weights_goes_on(whole_run, tmp_path):
    start = read_weights(weights_of(whole_run))
    made = Trainer(no_images(), train.default_settings("", start), tmp_path, CPU, start)
    assert same_tensors(made.network, start.network)
    assert made.network is not start.network
    assert made.info.accuracy == {}


def test_other_classes_have_a_new_last_layer(tmp_path):
    info = {"classes": ("forklift", "person", "floor"), "mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0)}
    start = start_of(untrained(**info), tmp_path / "own.safetensors")
    made = Trainer(no_images(), train.default_settings("", start), tmp_path, CPU, start)
    assert (made.info.mean, made.info.std, made.info.classes) == (info["mean"], info["std"], ("background", "person"))
    states = made.network.state_dict(), start.network.state_dict()
    differ = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    assert differ == {"network.classifier.3.weight", "network.classifier.3.bias"}
    assert states[0]["network.classifier.3.weight"].shape[0] == 2


def test_the_same_number_of_other_classes_has_a_new_last_layer(tmp_path):
    """The outputs of the weights may mean something else, although their shapes fit."""
    start = start_of(untrained(classes=("person", "forklift")), tmp_path / "own.safetensors")
    made = Trainer(no_images(), train.default_settings("", start), tmp_path, CPU, start)
    heads = [network.network.classifier[3].weight for network in (made.network, start.network)]
    assert heads[0].shape == heads[1].shape and not torch.equal(*heads)
    assert torch.equal(made.network.network.classifier[0].weight, start.network.network.classifier[0].weight)


@pytest.mark.parametrize("classes", [("person", "forklift"), ("forklift", "person")])
def test_two_classes_get_the_names_and_the_order_of_a_training(tmp_path, classes):
    """The decisions stay, and a training goes on from the last layer."""
    own = untrained(classes=classes)
    own.network.network.classifier[3].bias.data.copy_(torch.tensor([0.3, -0.4]))
    windows = np.random.default_rng(0).integers(0, 256, (4, 64, 32, 3)).astype(np.uint8)
    expected = own.probability(windows)
    network, info = networks.as_background_and_person(own.network, own.info)
    renamed = PersonClassifier(network, info, "cpu")
    assert (info.classes, info.person) == (("background", "person"), ("person",))
    np.testing.assert_allclose(renamed.probability(windows), expected, rtol=1e-5)
    np.testing.assert_array_equal(own.probability(windows), expected)
    start = start_of(renamed, tmp_path / "own.safetensors")
    made = Trainer(no_images(), train.default_settings("", start), tmp_path, CPU, start)
    assert same_tensors(made.network, renamed.network)


def test_more_classes_have_no_order_of_a_training():
    own = untrained(classes=("background", "person", "forklift"))
    with pytest.raises(ValueError, match="the network has 3 classes, not two of which one is a person"):
        networks.as_background_and_person(own.network, own.info)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_hard_negatives_of_a_checkpoint_stay_on_the_host(tmp_path):
    """The device has no values. Its tensors cannot become arrays, like those of a GPU."""
    settings = settings_of("--architecture", "vgg11", "--hidden", "8", "--small-steps", "0")
    made = Trainer(no_images(), settings, tmp_path, CPU)
    made.data.images.hard = [np.full((128, 64, 3), 7, np.uint8)]
    made.step = 5
    made.save()
    continued = Trainer(no_images(), settings, tmp_path, torch.device("meta"))
    assert continued.resume()
    assert continued.step == 5
    np.testing.assert_array_equal(continued.data.images.hard, made.data.images.hard)


def test_a_vgg_of_this_package_keeps_its_proposer(data, tmp_path, capsys):
    source = tmp_path / "source"
    own = ["--architecture", "vgg11", "--hidden", "8", "--proposer-steps", "2", "--proposer-width", "4"]
    assert train.main([*folders(data, source), *own, *FEW_STEPS, "--rounds", "0"]) == 0
    init = ["--init", str(weights_of(source, "vgg11"))]
    assert train.main([*folders(data, tmp_path / "fine"), *init, *FROM_WEIGHTS, "--rounds", "0"]) == 0
    before, after = load(source, "vgg11"), load(tmp_path / "fine", "vgg11")
    assert same_tensors(before.proposer, after.proposer)
    assert not same_tensors(before.network, after.network)
    assert after.info.proposer == 4
    assert after.info.hidden == 8
    # The network of the file has no batch norm, and cannot get it.
    assert train.main([*folders(data, tmp_path / "normed"), *init, "--batch-norm"]) == 1
    assert "batch_norm is True, but the network of the weights has no batch norm" in capsys.readouterr().err


def test_fine_tuning_is_continued_exactly(data, whole_run, tmp_path, monkeypatch, capsys):
    init = ["--init", str(weights_of(whole_run)), *FROM_WEIGHTS]
    assert train.main([*folders(data, tmp_path / "whole"), *init]) == 0
    interrupt_and_continue([*folders(data, tmp_path / "parts"), *init], monkeypatch, trainer, 3)
    one, other = load(tmp_path / "whole"), load(tmp_path / "parts")
    assert same_weights(one, other)
    assert one.info == other.info
    started = read_weights(weights_of(whole_run))
    assert f"The training started from the weights {started.model_hash} (INRIA person:" in one.info.training_data
    assert one.info.command.startswith("train --inria inria --background background --init weights --steps 4")
    # A checkpoint belongs to the weights that it started from.
    untrained().save(tmp_path / "other.safetensors")
    other_init = ["--init", str(tmp_path / "other.safetensors"), *FROM_WEIGHTS]
    assert train.main([*folders(data, tmp_path / "parts"), *other_init]) == 1
    assert "belongs to a training with other settings" in capsys.readouterr().err


# Settings and errors.


def settings_of(*arguments: str) -> TrainSettings:
    parsed = train.parser().parse_args(["--inria", "i", "--output", "o", *arguments])
    return train.settings_of(parsed)[0]


def test_defaults_of_networks():
    assert settings_of() == TrainSettings()
    assert settings_of("--architecture", "vgg11") == TrainSettings(architecture="vgg11")
    chosen = settings_of("--architecture", "resnet18")
    assert (chosen.window, chosen.learning_rate, chosen.proposer_steps) == ((224, 224), 1e-3, 0)
    assert settings_of("--architecture", "squeezenet1_1").learning_rate == 2e-4
    assert settings_of("--architecture", "resnet18", "--learning-rate", "0.3").learning_rate == 0.3
    assert settings_of("--architecture", "inception_v3").window == (299, 299)


def test_defaults_of_weights(tmp_path):
    start = start_of(untrained(), tmp_path / "own.safetensors")
    chosen = train.default_settings("", start)
    assert (chosen.architecture, chosen.window, chosen.learning_rate, chosen.small_steps) == (NETWORK, SIZE, 1e-4, 0)


@pytest.mark.parametrize("size", ["64", "64x", "0x64", "64 x 128", "64x99999", "axb"])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match=f"input_size is '{re.escape(size)}': it must be WIDTHxHEIGHT in pixels"):
        TrainSettings(input_size=size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--architecture", "resnet"],
            "architecture is 'resnet': torchvision has no network of this name: did you mean",
        ),
        (["--architecture", "vit_b_16"], "architecture is 'vit_b_16': it is a transformer"),
        (["--architecture", "vgg11_bn", "--no-batch-norm"], "batch_norm is False, but vgg11_bn has batch norm"),
        (["--input-size", "60x120"], "input_size is '60x120': vgg16 needs windows whose sides are multiples of 32"),
        (
            ["--architecture", "alexnet", "--input-size", "32x64"],
            "input_size is '32x64': alexnet cannot process windows",
        ),
        (
            ["--init", "OWN", "--architecture", "resnet18"],
            f"architecture is 'resnet18', but the weights are of {NETWORK}",
        ),
        (
            ["--init", "OWN", "--input-size", "64x128"],
            "input_size is '64x128', but the weights are for windows of 32x64",
        ),
        (
            ["--init", "OWN", "--small-steps", "3"],
            "small_steps is 3, but a training that starts from weights has no stage",
        ),
        (["--init", "NONE"], "no weights at NONE: give the path of a .safetensors file"),
    ],
)
def test_errors_name_cause_and_cure(data, tmp_path, capsys, arguments, message):
    untrained().save(tmp_path / "own.safetensors")
    given = [str(tmp_path / "own.safetensors") if word == "OWN" else word for word in arguments]
    assert train.main([*folders(data, tmp_path / "run"), *given]) == 1
    assert f"train: {message}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_first_stage_is_left_out_where_the_windows_are_too_small(tmp_path, capsys):
    settings = settings_of("--architecture", "vgg11", "--hidden", "8", "--input-size", "96x96")
    made = Trainer(no_images(), settings, tmp_path, CPU)
    assert (made.small, made.settings) == (False, dataclasses.replace(settings, small_steps=0))
    assert "no first stage on 48 x 48 pixels: vgg11 needs windows whose sides are multiples of 32" in (
        capsys.readouterr().err
    )


def test_a_vgg_may_be_named_with_its_batch_norm(tmp_path):
    named, plain = (
        Trainer(no_images(), settings_of("--architecture", name, "--hidden", "8"), tmp_path, CPU)
        for name in ("vgg11_bn", "vgg11")
    )
    assert named.info == plain.info == ModelInfo("vgg11", 8, (32, 64))
    assert same_tensors(named.network, plain.network)


def test_a_proposer_needs_windows_that_it_can_halve(data, tmp_path, capsys):
    untrained(input_size=(40, 64)).save(tmp_path / "own.safetensors")
    extra = ["--add-proposer", str(tmp_path / "own.safetensors")]
    assert train.main([*folders(data, tmp_path / "run"), *extra]) == 1
    assert "40 x 64 pixels, but a proposer needs windows whose sides are multiples of 16" in capsys.readouterr().err


def test_a_proposer_is_added_to_a_network_of_torchvision(data, whole_run, tmp_path):
    shutil.copy(weights_of(whole_run), tmp_path / "own.safetensors")
    extra = ["--add-proposer", str(tmp_path / "own.safetensors"), "--proposer-steps", "2", "--proposer-width", "4"]
    assert train.main([*folders(data, tmp_path / "run"), *extra]) == 0
    added = load(tmp_path / "run")
    assert (added.info.proposer, added.proposer.window) == (4, (16, 32))
    assert same_tensors(added.network, load(whole_run).network)
    assert added.scan(np.zeros((90, 120, 3), np.uint8))
