"""The paper's experiments, and what it leaves open, on your data.

    ros2 run explain_cnn_ros experiments EXPERIMENT --data DIR --output DIR
    ros2 run explain_cnn_ros experiments localization SOURCE... --output FILE.png

--data is INRIAPerson as it is distributed, a folder with its windows (train/pos and train/neg), or any folder with
images and boxes.csv (columns image,x,y,width,height; a line with an empty box says that an image shows nobody).
Interrupted experiments go on where they stopped when they are started again with the same arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from explain_cnn_ros.analysis.sources import SourceError
from explain_cnn_ros.experiments import commands
from explain_cnn_ros.settings import PRESETS


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = made.add_subparsers(required=True, metavar="EXPERIMENT", dest="experiment")

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str, data: bool = True
    ) -> argparse.ArgumentParser:
        command = group.add_parser(name, help=text, description=text)
        command.set_defaults(run=run, parser=command)
        if data:
            command.add_argument("--data", type=Path, required=True, help="INRIA person, or a folder with boxes.csv")
            command.add_argument("--output", type=Path, required=True, help="folder for results, and to go on from")
        command.add_argument("--device", default="auto", help="[%(default)s]")
        return command

    def weights(command: argparse.ArgumentParser) -> None:
        command.add_argument("--weights", type=Path, help="[those that ship with the package]")

    def split(command: argparse.ArgumentParser, training: int, test: int) -> None:
        for name, count in (("training", training), ("test", test)):
            text = f"persons, and backgrounds, whose patches the secondary classifiers see in {name} [%(default)s]"
            command.add_argument(f"--{name}", type=int, default=count, help=text)
        command.add_argument("--seeds", type=int, default=3, help="of the secondary classifiers [%(default)s]")

    def windows(command: argparse.ArgumentParser, count: int, what: str = "persons, and backgrounds") -> None:
        command.add_argument("--windows", type=int, default=count, help=f"{what}, of test photos [%(default)s]")

    table = add("patches", commands.patches, "Table 1: what the patches of each metric meet and tell")
    weights(table)
    split(table, 150, 75)
    table.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="noise [%(default)s]")

    converge = add("convergence", commands.converge, "Figures 2 and 3: the metrics in the course of a training")
    split(converge, 32, 16)
    converge.add_argument("--epochs", type=int, default=5, help="[%(default)s]")
    converge.add_argument("--within", type=int, default=3, help="networks within the first epoch [%(default)s]")
    converge.add_argument("--batch", type=int, default=32, help="[%(default)s]")
    converge.add_argument("--seed", type=int, default=0, help="of the training [%(default)s]")
    converge.add_argument("--steps", type=int, default=150, help="of the secondary classifiers' training [%(default)s]")
    converge.add_argument("--architecture", default="vgg16", help="[%(default)s]")

    figure = add("localization", commands.localize, "Figure 4: a panel a metric, with its neurons' boxes", data=False)
    figure.add_argument("images", metavar="SOURCE", nargs="+", type=Path, help="images, videos, folders, bags")
    figure.add_argument("--output", type=Path, required=True, help="PNG or JPEG file")
    figure.add_argument("--frames", type=int, nargs="+", default=[0], help="of videos, folders and bags, from 0")
    figure.add_argument("--persons", type=int, default=1, help="of a frame at most, best first [%(default)s]")
    figure.add_argument("--regions", choices=("scan", "whole"), default="scan", help="[%(default)s]")
    figure.add_argument("--person-height-min", type=int, default=60, help="of scan, pixels [%(default)s]")
    weights(figure)
    figure.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="noise [%(default)s]")

    causal = add("causal", commands.silence, "what silencing the selected neurons does; how far metrics agree")
    windows(causal, 60)
    weights(causal)

    stability = add("stability", commands.stabilise, "would another seed select the same: over n and sigma")
    windows(stability, 8)
    weights(stability)
    stability.add_argument("--seeds", type=int, default=3, help="of the noise [%(default)s]")

    regions = add("regions", commands.compare_regions, "best regions: the metrics, LIME and Grad-CAM")
    windows(regions, 40, "persons")
    weights(regions)
    regions.add_argument("--samples", type=int, default=200, help="of LIME [%(default)s]")
    regions.add_argument("--seeds", type=int, default=2, help="of noise and of LIME [%(default)s]")

    guide = add("guide", commands.guide, "causal and stability in one figure: which metric, from which n on")
    windows(guide, 60)
    guide.add_argument("--stability-windows", type=int, default=8, help="as for stability [%(default)s]")
    guide.add_argument("--seeds", type=int, default=3, help="as for stability [%(default)s]")
    weights(guide)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 0 when there are results, 1 with the reason otherwise, 130 when interrupted."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (FileNotFoundError, ValueError, ImportError, SourceError, cv2.error) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
