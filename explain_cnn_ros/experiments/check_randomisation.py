"""Check that explanations depend on what the network has learnt: re-initialise its layers, from the top down.

    explain-cnn check-randomisation IMAGE... [--weights FILE] [--preset stable] [--output FILE]

IMAGE is an image file or a folder of image files. Each step re-initialises one more layer, and the images are explained
again: influence and the paper's metrics explain the decision that the trained network shows. 'same neurons' is the
Jaccard index of the neurons that a metric selects before and after. 'same area' is the intersection over union of the
pixels that their patches cover. Both are means over images and layers. A metric that still selects the same neurons
when the network knows nothing any more does not explain what the network knows (Adebayo et al. 2018, Sanity Checks for
Saliency Maps).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments.randomisation import check, table
from explain_cnn_ros.experiments.selectors import settings_with
from explain_cnn_ros.explain.settings import PRESETS
from explain_cnn_ros.files import json_text, reason, replace_text, require_folder
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Suffixes of the files in a folder that are read as images.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"})


def read_images(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Read image files, and the image files of folders.

    Args:
        paths: Files and folders.

    Returns:
        Images uint8 [H, W, 3] RGB; those of a folder are sorted by name.

    Raises:
        ValueError: A file is no image, or there are no images.
    """
    files = [
        file
        for path in paths
        for file in (
            sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        )
    ]
    images = []
    for file in files:
        image: Any = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{file} is no image that OpenCV can read")
        images.append(np.ascontiguousarray(image[:, :, ::-1]))
    if not images:
        raise ValueError(f"no images in {', '.join(map(str, paths))}")
    return images


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    built = argparse.ArgumentParser(
        prog="explain-cnn check-randomisation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    built.add_argument("images", type=Path, nargs="+", help="Image files, or folders of image files.")
    built.add_argument("--weights", type=Path, help="Weights file [the weights that ship with the package].")
    built.add_argument("--device", default="auto", help="Device: auto, cpu, cuda, cuda:1 and so on [%(default)s].")
    built.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="Noise [%(default)s].")
    built.add_argument("--top-n", type=int, default=5, help="Number of neurons of each layer [%(default)s].")
    built.add_argument("--seed", type=int, default=0, help="Seed of the noise and of the new weights [%(default)s].")
    built.add_argument("--output", type=Path, help="JSON file for the results.")
    return built


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        Exit code: 0 on success, 1 after an error whose reason is printed, 130 if it is interrupted.
    """
    arguments = parser().parse_args(argv)
    try:
        if arguments.output:
            require_folder(arguments.output.parent)
        settings = settings_with(arguments.preset, top_n=arguments.top_n, seed=arguments.seed)
        images = read_images(arguments.images)
        classifier = PersonClassifier.load(arguments.weights, arguments.device)
        rows = check(classifier, images, settings, arguments.seed)
        print(table(rows))
        if arguments.output:
            record = {
                "images": len(images),
                "weights": classifier.model_hash,
                "settings": dataclasses.asdict(settings),
                "changes": [dataclasses.asdict(row) for row in rows],
            }
            replace_text(arguments.output, json_text(record, indent=1) + "\n")
    except (OSError, ValueError, RuntimeError) as error:
        print(f"check_randomisation: {reason(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("check_randomisation: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
