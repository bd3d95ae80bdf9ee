"""The command on a data set of a few drawn pictures: its weights, exact continuation, and error messages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from training_kit import FEW_STEPS, folders, interrupt_and_continue, same_tensors, same_weights

from explain_cnn_ros.model.device import fast_low_precision
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training import proposer, train, trainer
from explain_cnn_ros.training.batches import TrainingImages, make_batch
from explain_cnn_ros.training.data import read_data
from explain_cnn_ros.training.datasets import share_of
from explain_cnn_ros.training.settings import TrainSettings

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("thin_channels")]

TINY = ["--architecture", "vgg11", "--hidden", "8", "--proposer-steps", "8", "--proposer-width", "4", *FEW_STEPS]


def arguments(data: Path, output: Path) -> list[str]:
    return [*folders(data, output), *TINY]


@pytest.fixture(scope="module")
def whole_run(thin_channels, data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert train.main(arguments(data, output)) == 0
    return output


def test_the_weights_name_their_training(whole_run):
    classifier = PersonClassifier.load(whole_run / "vgg11_inria.safetensors", device="cpu")
    assert classifier.info.architecture == "vgg11"
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in classifier.network.modules())
    assert "persons, " in classifier.info.training_data
    assert classifier.info.command.startswith("train --inria inria --background background --small-steps 2 --steps 4")
    assert {"persons_right", "backgrounds_right", "balanced_accuracy", "photos_with_alarm"} <= set(
        classifier.info.accuracy
    )
    assert 0.5 <= classifier.threshold <= 0.99
    assert [entry["step"] for entry in json.loads((whole_run / "history.json").read_text())] == [2, 4, 6, 8]


def written_out(images: TrainingImages, settings: TrainSettings) -> nn.Module:
    """Train both stages of a VGG as the first version of this package did, step by step."""
    info = ModelInfo()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (info.mean, info.std))
    dtype = fast_low_precision(torch.device("cpu"))

    def stage(size: tuple[int, int], features: nn.Module | None, steps: range) -> VGGClassifier:
        torch.manual_seed(settings.seed)
        network = VGGClassifier("vgg11_bn", size, settings.hidden).train()
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, foreach=True)
        if features is not None:
            network.features.load_state_dict(features.state_dict())
        for step in steps:
            batch = make_batch(images, (64, 128), settings.batch, 0.0, settings.seed, step)
            torch.manual_seed(settings.seed + step)
            optimiser.param_groups[0]["lr"] = settings.rate(step)
            pixels = torch.from_numpy(batch.windows).permute(0, 3, 1, 2).float()
            pixels = pixels if size == (64, 128) else nn.functional.avg_pool2d(pixels, 2)
            x = ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                logits, offsets = network.forward_with_offsets(x)
            target = torch.from_numpy(batch.labels)
            person = (target == 1).float()[:, None]
            error = (offsets.float() - torch.from_numpy(batch.offsets)) * person
            distance = nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum")
            loss = nn.functional.cross_entropy(logits.float(), target)
            (loss + settings.offset_weight * distance / person.sum() / 3).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return network

    small = stage((32, 64), None, range(settings.small_steps))
    return stage((64, 128), small.features, range(settings.small_steps, settings.rounds_from))


def test_a_vgg_of_this_package_is_trained_as_ever(data, tmp_path, monkeypatch):
    """The training of VGGs does not depend on the other networks that can be trained."""
    networks = []
    monkeypatch.setattr(trainer.Trainer, "_end_round", lambda self, rounds: networks.append(self.network) or stop())

    def stop() -> None:
        raise KeyboardInterrupt

    assert train.main(arguments(data, tmp_path)) == 130
    settings = train.settings_of(train.parser().parse_args(arguments(data, tmp_path)))[0]
    images = read_data(data / "inria", data / "background", settings).images
    assert same_tensors(networks[0], written_out(images, settings))


@pytest.mark.parametrize("stop_at", [*(pytest.param(step, marks=pytest.mark.slow) for step in (1, 2, 5)), 7])
def test_an_interrupted_run_ends_with_the_same_weights(data, whole_run, tmp_path, monkeypatch, stop_at):
    """It is stopped in each stage, at the first step on whole windows, and in the round."""
    interrupt_and_continue(arguments(data, tmp_path), monkeypatch, trainer, stop_at)
    one, other = (PersonClassifier.load(f / "vgg11_inria.safetensors", device="cpu") for f in (whole_run, tmp_path))
    assert same_weights(one, other)
    assert one.info == other.info


@pytest.mark.parametrize("stop_at", [1, 5])
def test_an_interrupted_training_of_the_proposer_ends_with_the_same_weights(
    data, whole_run, tmp_path, monkeypatch, stop_at
):
    """It is stopped before and after hard negatives were added."""
    interrupt_and_continue(arguments(data, tmp_path), monkeypatch, proposer, stop_at)
    one, other = (PersonClassifier.load(f / "vgg11_inria.safetensors", device="cpu") for f in (whole_run, tmp_path))
    assert same_weights(one, other)


def test_a_proposer_is_added_to_weights_that_have_none(data, whole_run, tmp_path):
    """The network stays the same. The proposer is that of a whole training, which has the same windows."""
    whole = PersonClassifier.load(whole_run / "vgg11_inria.safetensors", device="cpu")
    old = PersonClassifier.load(whole_run / "vgg11_inria.safetensors", device="cpu")
    old.proposer = None
    old.save(tmp_path / "old.safetensors")
    assert PersonClassifier.load(tmp_path / "old.safetensors", "cpu").proposer is None
    extra = ["--add-proposer", str(tmp_path / "old.safetensors")]
    assert train.main([*arguments(data, tmp_path / "run"), *extra]) == 0
    added = PersonClassifier.load(tmp_path / "run/vgg11_inria.safetensors", device="cpu")
    assert same_weights(whole, added)
    assert (added.info.proposer, added.threshold) == (4, whole.threshold)
    assert added.info.command == f"{whole.info.command}; {whole.info.command} --add-proposer weights"


def test_without_steps_there_is_no_proposer(data, tmp_path):
    assert train.main([*arguments(data, tmp_path), "--proposer-steps", "0"]) == 0
    assert PersonClassifier.load(tmp_path / "vgg11_inria.safetensors", device="cpu").proposer is None


def test_other_settings_do_not_continue_a_checkpoint(data, whole_run, capsys):
    files = {file.name: file.read_bytes() for file in whole_run.iterdir()}
    assert train.main([*arguments(data, whole_run), "--seed", "1"]) == 1
    assert "belongs to a training with other settings" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in whole_run.iterdir()} == files


def own_windows(folder: Path, seed: int) -> Path:
    """Write windows of noise as own windows: two persons and a background."""
    rng = np.random.default_rng(seed)
    for name in ("person/a", "person/b", "background/c"):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (160, 96, 3)).astype(np.uint8))
    return folder


def test_own_windows_join_the_data(data, whole_run, tmp_path, capsys):
    own, output = own_windows(tmp_path / "own", 0), tmp_path / "run"
    assert train.main([*arguments(data, output), "--own", str(own), "--own-share", "0.5"]) == 0
    joined, plain = (PersonClassifier.load(f / "vgg11_inria.safetensors", device="cpu") for f in (output, whole_run))
    assert "Own windows: 2 persons, 1 backgrounds" in joined.info.training_data
    assert " --own own " in joined.info.command
    assert "--own-share 0.5" in joined.info.command
    assert not same_weights(joined, plain)
    # With other own windows, or without them, it is another training.
    for change in (["--own", str(own_windows(tmp_path / "other", 1))], []):
        assert train.main([*arguments(data, output), "--own-share", "0.5", *change]) == 1
        assert "belongs to a training with other settings" in capsys.readouterr().err


def test_own_windows_that_do_not_fit(data, tmp_path, capsys):
    assert train.main([*arguments(data, tmp_path / "run"), "--own", str(tmp_path / "nothing")]) == 1
    assert "no windows in" in capsys.readouterr().err
    own = own_windows(tmp_path / "own", 0)
    cv2.imwrite(str(own / "person/small.png"), np.zeros((128, 64, 3), np.uint8))
    assert train.main([*arguments(data, tmp_path / "run"), "--own", str(own)]) == 1
    assert "small.png has 64 x 128 pixels: own windows must have 96 x 160" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("begins_with", "change", "steps"),
    [
        ("score_round", ["--round-steps", "3"], [2, 4, 6, 8, 9]),
        ("enlarge", ["--steps", "6"], [2, 4, 6, 8, 10]),
    ],
)
def test_settings_of_a_stage_may_change_until_it_begins(data, tmp_path, monkeypatch, begins_with, change, steps):
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, begins_with, lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train.main(arguments(data, tmp_path)) == 130
    assert train.main([*arguments(data, tmp_path), *change]) == 0
    assert [entry["step"] for entry in json.loads((tmp_path / "history.json").read_text())] == steps


def test_the_threshold_may_be_given_even_to_a_run_that_has_ended(data, whole_run, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(whole_run, output)
    assert train.main([*arguments(data, output), "--threshold", "0.87"]) == 0
    chosen, given = (PersonClassifier.load(f / "vgg11_inria.safetensors", device="cpu") for f in (whole_run, output))
    assert given.threshold == 0.87 != chosen.threshold
    assert "--threshold 0.87" in given.info.command
    assert same_weights(chosen, given)


def test_a_checkpoint_of_an_earlier_version_is_continued(data, whole_run, tmp_path):
    """It lacks the settings and entries that were added later."""
    output = tmp_path / "run"
    shutil.copytree(whole_run, output)
    state = torch.load(output / "checkpoint.pt", weights_only=True)
    del state["settings"]["input_size"], state["start"]
    torch.save(state, output / "checkpoint.pt")
    assert train.main(arguments(data, output)) == 0
    assert train.main([*arguments(data, output), "--input-size", "128x256"]) == 1


@pytest.mark.parametrize("threshold", ["-0.1", "1"])
def test_an_impossible_threshold_is_refused_before_anything_is_trained(data, tmp_path, capsys, threshold):
    assert train.main([*arguments(data, tmp_path / "run"), "--threshold", threshold]) == 1
    assert "threshold is" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_held_out_copies_of_training_images_are_dropped(data, tmp_path, capsys):
    """Every validation image of a copy is absent, and the numbers are in the description and in the output."""
    inria, settings = tmp_path / "inria", TrainSettings(held_out=0.3, background_held_out=0.5)
    shutil.copytree(data / "inria", inria)
    before = read_data(inria, data / "background", settings)
    assert "dropped as duplicates of training images: 0 persons, 0 backgrounds, 0 photos" in before.description
    for folder, name in (("pos", "crop{:03d}a"), ("neg", "{:03d}_1")):
        sides = {True: [], False: []}
        for i in range(12):
            photo = f"{folder}/{name.format(i).rstrip('a').removesuffix('_1')}"
            sides[share_of(photo) < 0.3].append(inria / "train" / folder / f"{name.format(i)}.png")
        shutil.copy(sides[False][0], sides[True][0])
    after = read_data(inria, data / "background", settings)
    assert "dropped as duplicates of training images: 1 persons, 1 backgrounds, 0 photos" in after.description
    assert (len(after.persons), len(after.backgrounds)) == (len(before.persons) - 1, len(before.backgrounds) - 1)
    assert len(after.images.persons) == len(before.images.persons)
    assert "dropped as duplicates of training images: 1 persons, 1 backgrounds" in capsys.readouterr().err


@pytest.mark.parametrize("held_out", [False, True])
def test_windows_of_persons_have_the_size_of_inria(data, tmp_path, capsys, held_out):
    """A window of another size is named, on which side of the split it may be."""
    inria = tmp_path / "inria"
    shutil.copytree(data / "inria", inria)
    name = next(f"own{i}" for i in range(100) if (share_of(f"pos/own{i}") < 0.3) is held_out)
    image = np.random.default_rng(9).integers(0, 256, (600, 300, 3)).astype(np.uint8)
    cv2.imwrite(str(inria / f"train/pos/{name}.png"), image)
    assert train.main(["--inria", str(inria), "--output", str(tmp_path / "run"), *TINY]) == 1
    expected = f"train: {inria}/train/pos/{name}.png has 300 x 600 pixels: windows of persons must have 96 x 160\n"
    assert capsys.readouterr().err.endswith(expected)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--held-out", "0"], "all 12 persons in INRIA/train/pos are for the training, but both sides need some"),
        (["--held-out", "1"], "all 12 persons in INRIA/train/pos are held out, but both sides need some"),
        ([], "all 1 backgrounds in INRIA/train/neg are for the training, but both sides need some. The names of their"),
    ],
)
def test_data_that_cannot_be_split_are_refused(data, tmp_path, capsys, change, message):
    inria = tmp_path / "inria"
    shutil.copytree(data / "inria", inria)
    if not change:
        files = sorted((inria / "train/neg").iterdir())
        training = [file for file in files if share_of(f"neg/{file.stem.removesuffix('_1')}") >= 0.3]
        for file in set(files) - {training[0]}:
            file.unlink()
    assert train.main(["--inria", str(inria), "--output", str(tmp_path / "run"), *TINY, *change]) == 1
    assert f"train: {message.replace('INRIA', str(inria))}" in capsys.readouterr().err
    assert not list((tmp_path / "run").iterdir())


def test_frames_with_running_numbers_are_trained(data, tmp_path):
    inria = tmp_path / "inria"
    shutil.copytree(data / "inria", inria)
    for number, file in enumerate(sorted((inria / "train/neg").iterdir())):
        file.rename(file.with_name(f"frame_{number:04d}.png"))
    few = ["--small-steps", "0", "--steps", "1", "--rounds", "0", "--proposer-steps", "0"]
    assert train.main(["--inria", str(inria), "--output", str(tmp_path / "run"), *TINY, *few]) == 0


@pytest.mark.parametrize("what", ["the loss", "a weight"])
def test_a_training_that_diverges_ends(data, tmp_path, monkeypatch, capsys, what):
    """The last checkpoint stays, and no weights are written."""
    original = trainer.Trainer._train_step

    def diverges(self, classifier, step, batch):
        if step == 3 and what == "the loss":
            monkeypatch.setattr(self, "_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
        result = original(self, classifier, step, batch)
        if step == 3:
            next(self.network.parameters()).data[0] = float("inf")
        return result

    monkeypatch.setattr(trainer.Trainer, "_train_step", diverges)
    assert train.main(arguments(data, tmp_path)) == 1
    assert f"train: {what} is not finite at step 4: the training diverged. Begin anew" in capsys.readouterr().err
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in checkpoint["network"].values())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_missing_data_ends_with_the_reason(tmp_path, capsys):
    assert train.main(arguments(tmp_path, tmp_path / "output")) == 1
    assert "no INRIA person data under" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"\x80\x02}q\x00."])
def test_a_damaged_checkpoint_is_named(data, tmp_path, capsys, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    assert train.main(arguments(data, tmp_path)) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith(f"train: {tmp_path}/checkpoint.pt cannot be loaded (")
    assert printed.endswith("Remove it to begin anew")
    assert (tmp_path / "checkpoint.pt").read_bytes() == content


def test_an_output_that_cannot_be_written_is_named(data, whole_run, tmp_path, capsys):
    """Before anything is trained, and also if the place is lost until the end."""
    (tmp_path / "file").write_text("x")
    assert train.main(arguments(data, tmp_path / "file/run")) == 1
    assert capsys.readouterr().err == f"train: {tmp_path}/file is a file: give a folder\n"
    output = tmp_path / "run"
    shutil.copytree(whole_run, output)
    (output / "vgg11_inria.safetensors").unlink()
    (output / "vgg11_inria.safetensors").mkdir()
    assert train.main(arguments(data, output)) == 1
    printed = capsys.readouterr().err
    assert "vgg11_inria.safetensors" in printed.splitlines()[-1] and "Traceback" not in printed
