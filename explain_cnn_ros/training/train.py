"""Train the person classifier: main training, rounds of hard negatives, threshold, accuracy, weights file.

    explain-cnn train --inria DIR --background DIR --output runs/first
    explain-cnn train --inria DIR --background DIR --output runs/resnet --architecture resnet18 --input-size 96x192
    explain-cnn train --inria DIR --background DIR --output runs/own --init own.safetensors

Without --architecture, the network is a VGG-16 with three dense layers. For it, a small network is trained at the end
that proposes windows when a frame is searched. --add-proposer trains only this network, for weights that were trained
before. Other networks use the proposer of the package. --init continues from a weights file, of this command or of
import-weights; its last layer is replaced if its classes are not background and person. A training that was interrupted
continues from its last checkpoint when it is started again with the same arguments, and ends with the same weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.files import json_text, reason, replace_text, require_folder
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.model.proposer import PROPOSER_STRIDE, REDUCTION
from explain_cnn_ros.model.weights_file import Weights, read_weights
from explain_cnn_ros.options import options
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.data import TrainingData, read_data
from explain_cnn_ros.training.evaluation import scan_maxima
from explain_cnn_ros.training.networks import check, default_settings
from explain_cnn_ros.training.proposer import train_proposer
from explain_cnn_ros.training.settings import TrainSettings
from explain_cnn_ros.training.trainer import Trainer


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments: the folders, and every setting by its name."""
    built = argparse.ArgumentParser(
        prog="explain-cnn train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    built.add_argument("--inria", type=Path, required=True, help="Folder with train/pos and train/neg, or INRIAPerson.")
    built.add_argument("--background", type=Path, help="Folder of person-free photos, for hard negatives and alarms.")
    built.add_argument(
        "--own", type=Path, help="Folder with own windows of 96 x 160 pixels that join the data: person, background."
    )
    built.add_argument("--output", type=Path, required=True, help="Folder for checkpoints, history and weights.")
    weights = built.add_mutually_exclusive_group()
    weights.add_argument(
        "--init",
        type=Path,
        metavar="WEIGHTS",
        help="Start from the network of this weights file (fine-tuning).",
    )
    weights.add_argument(
        "--add-proposer",
        type=Path,
        metavar="WEIGHTS",
        help="Train only a proposer for this weights file. The network in it does not change.",
    )
    built.add_argument("--device", default="auto", help="Device: auto, cpu, cuda, cuda:1 and so on [%(default)s].")
    described = options(TrainSettings)
    for item in dataclasses.fields(TrainSettings):
        kind: Any = argparse.BooleanOptionalAction if isinstance(item.default, bool) else None
        extra = {"action": kind} if kind else {"type": type(item.default)}
        text = f"{described[item.name].description} [{item.default}]"
        # Without a value, the default depends on the network.
        built.add_argument("--" + item.name.replace("_", "-"), default=None, help=text, **extra)
    return built


def settings_of(arguments: argparse.Namespace, start: Weights | None = None) -> tuple[TrainSettings, TrainSettings]:
    """Return the settings that the arguments say, and the defaults for the same network.

    Args:
        arguments: Arguments of the command.
        start: The weights that the training starts from; None for a training from scratch.

    Raises:
        ValueError: A setting is out of range, or there is no such architecture.
    """
    names = [item.name for item in dataclasses.fields(TrainSettings)]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    defaults = default_settings(given.get("architecture", TrainSettings.architecture), start)
    return dataclasses.replace(defaults, **given), defaults


def command_line(settings: TrainSettings, defaults: TrainSettings, init: bool = False, own: bool = False) -> str:
    """Return the command that trains the same weights, without the folders of the machine.

    Args:
        settings: The settings.
        defaults: The default settings of the same network.
        init: Whether the training starts from weights, which determine the architecture.
        own: Whether own windows join the data.
    """
    words = ["train", "--inria", "inria", "--background", "background"]
    words += (["--own", "own"] if own else []) + (["--init", "weights"] if init else [])
    for item in dataclasses.fields(settings):
        value, flag = getattr(settings, item.name), item.name.replace("_", "-")
        named = item.name == "architecture" and not init
        if value != (item.default if named else getattr(defaults, item.name)):
            words += (
                [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
            )
    return " ".join(words)


def add_proposer(
    weights: Path, data: TrainingData, settings: TrainSettings, output: Path, device: torch.device
) -> PersonClassifier:
    """Train a proposer for weights that exist, and measure the alarms on the test photos with it.

    Args:
        weights: The weights file; it is not modified.
        data: The images.
        settings: Settings of the training; only those of the proposer have an effect.
        output: Folder of the checkpoint; it exists.
        device: Device of the training.

    Returns:
        The classifier with the proposer.

    Raises:
        ValueError: The weights cannot be read, or a proposer cannot process windows of their size.
    """
    classifier = PersonClassifier.load(weights, device)
    width, height = classifier.info.input_size
    unit = REDUCTION * PROPOSER_STRIDE
    if width % unit or height % unit:
        raise ValueError(
            f"{weights} is for windows of {width} x {height} pixels, but a proposer needs windows whose sides are "
            f"multiples of {unit}: use the weights without their own proposer"
        )
    classifier.proposer = train_proposer(classifier, data.images, settings, output)
    accuracy = dict(classifier.info.accuracy)
    if data.test_photos:
        maxima = scan_maxima(classifier, data.test_photos, "test photos")
        accuracy["photos_with_alarm"] = round(float((maxima >= classifier.threshold).mean()), 5)
    added = f"{command_line(settings, TrainSettings())} --add-proposer weights"
    command = "; ".join(filter(None, [classifier.info.command, added]))
    classifier.info = dataclasses.replace(classifier.info, accuracy=accuracy, command=command)
    return classifier


def resume(trainer: Trainer) -> None:
    """Continue from the checkpoint of a trainer, if there is one.

    Raises:
        ValueError: The checkpoint belongs to other settings, or is damaged. It stays unchanged.
    """
    try:
        trainer.resume()
    except (EOFError, LookupError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{trainer.checkpoint} cannot be loaded ({cause}): it is damaged, or does not fit into the memory of the "
            "device. Remove it to begin anew"
        ) from error


def train(arguments: argparse.Namespace) -> tuple[PersonClassifier, Path]:
    """Train as the arguments say, and write the weights.

    Returns:
        The classifier, and the path of its weights file.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: A setting, the data or the checkpoint are not suitable.
        RuntimeError: The device is not available, or has no memory left.
    """
    start = read_weights(arguments.init) if arguments.init else None
    settings, defaults = settings_of(arguments, start)
    # The network is checked at the start, before the data are read.
    check(settings, start)
    require_folder(arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = read_data(arguments.inria, arguments.background, settings, arguments.own)
    device = choose_device(arguments.device)
    if arguments.add_proposer:
        classifier = add_proposer(arguments.add_proposer, data, settings, arguments.output, device)
    else:
        trainer = Trainer(data, settings, arguments.output, device, start)
        resume(trainer)
        classifier = trainer.run()
        command = command_line(settings, defaults, start is not None, arguments.own is not None)
        classifier.info = dataclasses.replace(classifier.info, command=command)
        replace_text(arguments.output / "history.json", json_text(trainer.history, indent=1) + "\n")
    weights = arguments.output / f"{classifier.info.architecture}_inria.safetensors"
    classifier.save(weights)
    return classifier, weights


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        Exit code: 0 if the weights were written, 1 after an error whose reason is printed, 130 if it is interrupted.
    """
    arguments = parser().parse_args(argv)
    try:
        classifier, weights = train(arguments)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"train: {reason(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; start the same command again to continue from the last checkpoint", file=sys.stderr)
        return 130
    print("accuracy on the validation windows, on which the best round was chosen, and alarms on the test photos:")
    print(json_text(classifier.info.accuracy, indent=1))
    print(f"weights: {weights}, threshold {classifier.threshold}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
