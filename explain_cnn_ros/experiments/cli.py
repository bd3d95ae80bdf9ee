"""The paper's experiments, and what it leaves open, on your data.

    ros2 run explain_cnn_ros experiments patches --data DIR --output DIR
    ros2 run explain_cnn_ros experiments localization IMAGE... --output FILE.png

patches: Table 1, with baselines; --data is a folder with train/pos and train/neg windows, or INRIAPerson as it is
distributed. localization: Figure 4, of any images. Interrupted experiments go on where they stopped when they are
started again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import patch_table
from explain_cnn_ros.experiments.examples import read_examples
from explain_cnn_ros.experiments.panels import panels, stacked
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.settings import PRESETS, ExplainSettings


class Bar:
    """A bar for each step."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None
        self._step = ""

    def __call__(self, step: str, done: int, of: int) -> None:
        if step != self._step or self._bar is None:
            self.close()
            self._bar, self._step = tqdm(total=of, desc=step, mininterval=1 if sys.stderr.isatty() else 30), step
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def patches(arguments: argparse.Namespace) -> int:
    """Table 1."""
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    examples = read_examples(arguments.data, arguments.training, arguments.test)
    how = patch_table.PatchTable(ExplainSettings.preset(arguments.preset), seeds=arguments.seeds)
    bar = Bar()
    try:
        rows = patch_table.measure(classifier, examples, how, arguments.output, bar)
    finally:
        bar.close()
    text = patch_table.to_markdown(rows)
    print(text)
    made = {
        "model": classifier.model_hash,
        "preset": arguments.preset,
        "windows": len(examples),
        "rows": patch_table.to_json(rows),
    }
    for name, content in (("patches.md", text), ("patches.json", json.dumps(made, indent=1) + "\n")):
        partial = arguments.output / f"{name}.partial"
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, arguments.output / name)
    print(f"the table is in {arguments.output / 'patches.md'}")
    return 0


def localization(arguments: argparse.Namespace) -> int:
    """Figure 4."""
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    explainer = Explainer(classifier, ExplainSettings.preset(arguments.preset))
    scan = ScanSettings(person_height_min=arguments.person_height_min)
    rows = []
    for path in arguments.images:
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise ValueError(f"{path} cannot be read as an image")
        frame: Any = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        region = classifier.scan(frame, scan)[0] if arguments.regions == "scan" else None
        rows.append(panels(frame, explainer.explain(frame, region)))
    figure = stacked(rows, [path.name for path in arguments.images])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.output), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"{arguments.output} cannot be written: does its name end with .png or .jpg?")
    print(f"the figure is in {arguments.output}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="experiments", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(required=True, metavar="EXPERIMENT")
    table = commands.add_parser("patches", help="Table 1: what the patches of each metric meet and tell")
    table.set_defaults(run=patches)
    table.add_argument("--data", type=Path, required=True, help="INRIA person windows")
    table.add_argument("--output", type=Path, required=True, help="folder for the table, and what it takes to go on")
    table.add_argument("--weights", type=Path, help="[those that ship with the package]")
    table.add_argument("--device", default="auto", help="[%(default)s]")
    table.add_argument("--training", type=int, default=150, help="persons, and backgrounds, to train on [%(default)s]")
    table.add_argument("--test", type=int, default=75, help="persons, and backgrounds, to test on [%(default)s]")
    table.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="noise [%(default)s]")
    table.add_argument("--seeds", type=int, default=3, help="of the secondary classifier [%(default)s]")
    figure = commands.add_parser("localization", help="Figure 4: a panel a metric, with its neurons' boxes")
    figure.set_defaults(run=localization)
    figure.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    figure.add_argument("--output", type=Path, required=True, help="PNG or JPEG file")
    figure.add_argument("--regions", choices=("scan", "whole"), default="scan", help="[%(default)s]")
    figure.add_argument("--person-height-min", type=int, default=60, help="of scan, pixels [%(default)s]")
    figure.add_argument("--weights", type=Path, help="[those that ship with the package]")
    figure.add_argument("--device", default="auto", help="[%(default)s]")
    figure.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="noise [%(default)s]")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (FileNotFoundError, ValueError, cv2.error) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
