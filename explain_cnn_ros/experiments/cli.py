"""Run the paper's experiments, and further ones, on your data.

    explain-cnn experiments EXPERIMENT --data DIR --output DIR
    explain-cnn experiments localization SOURCE... --output FILE.png

--data is INRIAPerson as it is distributed, a folder with its windows (train/pos and train/neg), or any folder with
images and boxes.csv (columns image,x,y,width,height; a line with an empty box says that an image shows nobody).
--weights is any weights file of this package. Windows are cut in the size that its network was trained on.
An experiment that was interrupted continues when it is started again with the same arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from explain_cnn_ros.bags.sources import SourceError
from explain_cnn_ros.experiments import commands
from explain_cnn_ros.experiments.patch_accuracy import SPLITS
from explain_cnn_ros.explain.settings import PRESETS
from explain_cnn_ros.files import reason, require_folder
from explain_cnn_ros.scan.decider import REGIONS

Run = Callable[[argparse.Namespace], None]


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    built = argparse.ArgumentParser(
        prog="explain-cnn experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = built.add_subparsers(required=True, metavar="EXPERIMENT", dest="experiment")

    def add(name: str, run: Run, text: str, data: bool = True) -> argparse.ArgumentParser:
        command = group.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, parser=command)
        if data:
            command.add_argument("--data", type=Path, required=True, help="INRIAPerson, or a folder with boxes.csv.")
            command.add_argument("--output", type=Path, required=True, help="Folder for results and caches.")
        command.add_argument("--device", default="auto", help="Device of the networks [%(default)s].")
        return command

    _add_patches(add("patches", commands.patches, "Table 1: position and information of the patches of each metric."))
    _add_convergence(add("convergence", commands.converge, "Figures 2 and 3: the metrics during a training."))
    text = "Figures 2 and 3 over several runs of convergence, which differ in their seeds."
    _add_summary(add("convergence-summary", commands.summarise_convergence, text, data=False))
    text = "Figure 4: a panel for each metric, with the boxes of its neurons."
    _add_localization(add("localization", commands.localize, text, data=False))
    causal = add("causal", commands.silence, "Effect of silencing the selected neurons, and agreement of the metrics.")
    _add_windows(causal, 100)
    _add_networks(causal)
    _add_layers(causal)
    _add_stability(add("stability", commands.stabilise, "Agreement of the rankings of different seeds."))
    _add_regions(add("regions", commands.compare_regions, "Best regions of the metrics, of LIME and of Grad-CAM."))
    text = "Points in which the paper, its published code and this package differ, and what each of them does."
    differences = add("differences", commands.compare_differences, text)
    _add_windows(differences, 20)
    _add_networks(differences)
    text = "Causal and stability in one figure: which metric to use, with how many perturbations."
    _add_guide(add("guide", commands.guide, text))
    return built


def _add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=Path, help="Weights file [the weights that ship with the package].")
    _add_layers(command)


def _add_layers(command: argparse.ArgumentParser) -> None:
    text = "Explained convolutions by name or pattern, separated by commas (layer4.*.conv2) [the default layers]."
    command.add_argument("--layer-names", default="", metavar="NAMES", help=text)


def _add_networks(command: argparse.ArgumentParser) -> None:
    text = (
        "Weights file; may be given several times: there is a table for each network, and their mean and range "
        "[the weights that ship with the package]."
    )
    command.add_argument("--weights", type=Path, action="append", help=text)


def _add_preset(command: argparse.ArgumentParser) -> None:
    command.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="Noise [%(default)s].")


def _add_split(command: argparse.ArgumentParser, training: int, test: int) -> None:
    for name, count in (("training", training), ("test", test)):
        text = f"Number of persons, and of backgrounds, for the {name} of the secondary classifiers [%(default)s]."
        command.add_argument(f"--{name}", type=int, default=count, help=text)
    command.add_argument("--seeds", type=int, default=3, help="Number of secondary classifiers [%(default)s].")


def _add_windows(command: argparse.ArgumentParser, count: int, text: str = "persons, and of backgrounds,") -> None:
    command.add_argument("--windows", type=int, default=count, help=f"Number of {text} of test photos [%(default)s].")


def _add_patches(command: argparse.ArgumentParser) -> None:
    _add_weights(command)
    _add_split(command, 60, 40)
    text = "Splits of the patches between training and test: by photo, by patch, or by patch of few pictures [all]."
    command.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help=text)
    text = "Steps of the secondary classifiers, except by patch of few pictures [%(default)s]."
    command.add_argument("--steps", type=int, default=200, help=text)
    text = "Number of pictures of the split by patch of few pictures, half of them persons [%(default)s]."
    command.add_argument("--pictures", type=int, default=2, help=text)
    _add_preset(command)


def _add_convergence(command: argparse.ArgumentParser) -> None:
    _add_split(command, 32, 16)
    command.add_argument("--epochs", type=int, default=5, help="Number of epochs [%(default)s].")
    command.add_argument("--within", type=int, default=3, help="Checkpoints within the first epoch [%(default)s].")
    command.add_argument("--batch", type=int, default=32, help="Batch size of the training [%(default)s].")
    command.add_argument("--seed", type=int, default=0, help="Seed of the training [%(default)s].")
    command.add_argument("--steps", type=int, default=150, help="Steps of the secondary classifiers [%(default)s].")
    command.add_argument("--architecture", default="vgg16", help="Architecture of the network [%(default)s].")


def _add_summary(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="Folders of runs of convergence.")
    command.add_argument("--output", type=Path, required=True, help="Folder for the tables and figures.")


def _add_localization(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", metavar="SOURCE", nargs="+", type=Path, help="Images, videos, folders or bags.")
    command.add_argument("--output", type=Path, required=True, help="PNG or JPEG file.")
    command.add_argument(
        "--frames", type=int, nargs="+", default=[0], help="Frames of videos, folders and bags, counted from 0."
    )
    command.add_argument("--persons", type=int, default=1, help="Maximum number of persons in a frame [%(default)s].")
    command.add_argument("--regions", choices=REGIONS, default="scan", help="Regions of a frame [%(default)s].")
    command.add_argument(
        "--person-height-min", type=int, default=60, help="Height of the smallest persons, in pixels [%(default)s]."
    )
    _add_weights(command)
    _add_preset(command)


def _add_stability(command: argparse.ArgumentParser) -> None:
    _add_windows(command, 8)
    _add_networks(command)
    _add_layers(command)
    command.add_argument("--seeds", type=int, default=3, help="Number of seeds of the noise [%(default)s].")


def _add_regions(command: argparse.ArgumentParser) -> None:
    _add_windows(command, 40, "persons")
    _add_networks(command)
    _add_layers(command)
    command.add_argument("--samples", type=int, default=200, help="Number of samples of LIME [%(default)s].")
    command.add_argument("--seeds", type=int, default=2, help="Number of seeds of the noise and of LIME [%(default)s].")


def _add_guide(command: argparse.ArgumentParser) -> None:
    _add_windows(command, 100)
    command.add_argument(
        "--stability-windows", type=int, default=8, help="--windows of the experiment stability [%(default)s]."
    )
    command.add_argument("--seeds", type=int, default=3, help="--seeds of the experiment stability [%(default)s].")
    _add_networks(command)
    _add_layers(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        Exit code: 0 on success, 1 after an error whose reason is printed, 130 if it is interrupted.
    """
    arguments = parser().parse_args(argv)
    try:
        # The folder is checked before hours of computation and not after them.
        is_file = arguments.experiment == "localization"
        require_folder(arguments.output.parent if is_file else arguments.output)
        arguments.run(arguments)
    except OSError as error:
        print(f"experiments: {reason(error)}", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, ImportError, SourceError, cv2.error) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: interrupted; start the same command again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
