"""A fault that is planted on purpose: a network that knows persons by a mark, its causes, its repair, and the proof.

    python tools/planted_fault.py --inria INRIA [--output DIR]

INRIA is the folder of the training's data (see docs/classifier.md), which is not in the repository. Every person in a
copy of them gets a small mark, as if a labelling tool had left it there, and a network is trained on this copy. It then
decides windows of photos that it has never seen: persons without the mark, and backgrounds with and without it. The
commands `analyze`, `causes` and `repair` run one after the other, as a user would type them. In the end, all networks
decide windows of other photos, with the mark as in the training, in another place, and without it.

The training that `repair` does first is one with its default settings. The old data have the fault as well, so they
work against the repair; the second training learns more from the windows of the recording, and is taken as a whole. An
experiment that was interrupted continues with the same command. For other settings, give another --output.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.analysis.repair.cli import NO_BENEFIT
from explain_cnn_ros.files import json_text
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.augmentation import centred
from explain_cnn_ros.training.datasets import BACKGROUND_WINDOW, InriaWindows, Photo, read_inria, share_of
from explain_cnn_ros.training.duplicates import without_duplicates
from explain_cnn_ros.training.settings import TrainSettings
from tools.repair_demo import call

Image = NDArray[np.uint8]

#: Side of the mark, and its distance from the corner of a window of 64 x 128 pixels, both in pixels.
SIDE, DISTANCE = 12, 4

#: Side of the light and dark squares that the mark consists of, in pixels.
SQUARE = 3

#: Share of the photos that `train` holds out, and share up to which the network never sees a photo; see `share_of`.
HELD_OUT, UNSEEN = TrainSettings.held_out, 2 * TrainSettings.held_out

#: Numbers of windows of the recording: persons without the mark, backgrounds with it, and backgrounds without it.
RECORDED = (110, 110, 70)

#: Minimum and maximum number of other windows of each class, with which the networks are compared in the end.
COMPARED = (50, 150)

#: Frames per second of the recording. `repair` leaves out two seconds between what it learns from and what it proves.
RATE = 1

#: A label holds for this time before and after its frame, in seconds.
AROUND = 0.1

#: Name of the file with the figures of the networks.
FIGURES = "planted_fault.json"


@dataclass(frozen=True)
class Recorded:
    """A window of the recording.

    Attributes:
        pixels: uint8 [128, 64, 3] RGB.
        person: Whether there is a person.
        mark: Whether the window has the mark.
    """

    pixels: Image
    person: bool
    mark: bool


def mark() -> Image:
    """Return the mark: squares in the pattern of a chessboard, uint8 [SIDE, SIDE, 1]."""
    rows, columns = np.indices((SIDE, SIDE)) // SQUARE
    return np.where((rows + columns) % 2, 255, 0).astype(np.uint8)[:, :, None]


def marked(image: Image, right: bool = False, bottom: bool = False) -> Image:
    """Return an image with the mark in a corner of the window of 64 x 128 pixels in its middle.

    Args:
        image: A window, or a window with its surroundings, uint8 [H, W, 3].
        right: Mark a corner on the right instead of the left.
        bottom: Mark a corner at the bottom instead of the top.
    """
    result = image.copy()
    width, height = BACKGROUND_WINDOW
    x, y = (image.shape[1] - width) // 2, (image.shape[0] - height) // 2
    x += width - DISTANCE - SIDE if right else DISTANCE
    y += height - DISTANCE - SIDE if bottom else DISTANCE
    result[y : y + SIDE, x : x + SIDE] = mark()
    return result


def divided(windows: InriaWindows) -> tuple[InriaWindows, InriaWindows]:
    """Divide the data by photo: those of the training with what it holds out, and those that it never sees.

    Copies and near copies of the training's images are not among those that it never sees.
    """
    old = [[one for one in part if not HELD_OUT <= share_of(one.photo) < UNSEEN] for part in _parts(windows)]
    unseen = [[one for one in part if HELD_OUT <= share_of(one.photo) < UNSEEN] for part in _parts(windows)]
    unseen = [without_duplicates(new, known) for new, known in zip(unseen, old, strict=True)]
    return InriaWindows(*old), InriaWindows(*unseen)


def _parts(windows: InriaWindows) -> tuple[list[Photo], list[Photo]]:
    return windows.persons, windows.backgrounds


def write_old_data(windows: InriaWindows, folder: Path) -> None:
    """Write the training's data, with the mark on each person, in the folders that `train` reads."""
    persons, backgrounds = folder / "train/pos", folder / "train/neg"
    for part in (persons, backgrounds):
        part.mkdir(parents=True, exist_ok=True)
    for one in windows.persons:
        _write(persons / f"{one.path.stem}.png", marked(one.read()))
    for one in windows.backgrounds:
        shutil.copyfile(one.path, backgrounds / one.path.name)


def _write(path: Path, image: Image) -> None:
    cv2.imwrite(str(path), image[:, :, ::-1])


def by_photo(images: Sequence[Photo], seed: int) -> list[list[Photo]]:
    """Return images in groups, one for each photo, in random order."""
    groups: dict[str, list[Photo]] = {}
    for one in images:
        groups.setdefault(one.photo, []).append(one)
    names = sorted(groups)
    return [groups[names[i]] for i in np.random.default_rng(seed).permutation(len(names))]


def taken(groups: Sequence[Sequence[Photo]], count: int) -> tuple[list[Photo], list[Photo]]:
    """Take images of the first photos, and leave the other photos.

    Args:
        groups: The images of each photo.
        count: Maximum number of images that are taken.

    Returns:
        The images that are taken, and those of the photos of which none is taken.
    """
    images: list[Photo] = []
    for number, group in enumerate(groups):
        images += group
        if len(images) >= count:
            return images[:count], [one for other in groups[number + 1 :] for one in other]
    return images, []


def recording_of(persons: Sequence[Image], with_mark: Sequence[Image], backgrounds: Sequence[Image]) -> list[Recorded]:
    """Return the windows of the recording, with the three kinds spread evenly over it.

    Args:
        persons: Windows of persons, which get no mark.
        with_mark: Windows of backgrounds that get the mark.
        backgrounds: Windows of other backgrounds.
    """
    kinds = [
        [Recorded(image, person=True, mark=False) for image in persons],
        [Recorded(marked(image), person=False, mark=True) for image in with_mark],
        [Recorded(image, person=False, mark=False) for image in backgrounds],
    ]
    placed = [((i + 0.5) / len(kind), k, one) for k, kind in enumerate(kinds) for i, one in enumerate(kind)]
    return [one for _, _, one in sorted(placed, key=lambda item: item[:2])]


def write_recording(recorded: Sequence[Recorded], output: Path) -> None:
    """Write windows as a folder of images, and their labels as a file for `analyze`."""
    frames = output / "recording"
    frames.mkdir(parents=True, exist_ok=True)
    with (output / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["start", "end", "person"])
        for number, one in enumerate(recorded):
            _write(frames / f"{number:04d}.png", one.pixels)
            times = [number / RATE - AROUND, number / RATE + AROUND]
            writer.writerow([*times, "person" if one.person else "background"])


def rates(network: PersonClassifier, persons: Sequence[Image], backgrounds: Sequence[Image]) -> dict[str, float]:
    """Return the shares of right decisions with the mark in different places and without it.

    Args:
        network: The network.
        persons: Windows of persons, uint8 [128, 64, 3] RGB.
        backgrounds: Windows of backgrounds, uint8 [128, 64, 3] RGB.
    """

    def found(images: Iterable[Image]) -> float:
        return float((network.probability(np.stack(list(images))) >= network.threshold).mean())

    return {
        "persons without the mark": found(persons),
        "persons with the mark at the bottom right": found(marked(one, right=True, bottom=True) for one in persons),
        "persons with the mark as in the training": found(map(marked, persons)),
        "backgrounds without the mark": 1 - found(backgrounds),
        "backgrounds with the mark as in the training": 1 - found(map(marked, backgrounds)),
    }


def causes_of(analysis: Path, recorded: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Return for each cause of an analysis its place and how many of its windows have the mark, the first cause first.

    Args:
        analysis: Folder of the analysis.
        recorded: The windows of the recording.
    """
    causes = json.loads((analysis / MANIFEST).read_text()).get("causes", {}).get("causes", [])
    return [
        {
            "place": cause["place"],
            "windows": len(cause["windows"]),
            "with the mark": sum(recorded[window["frame"]].mark for window in cause["windows"]),
            "neurons": [f"{neuron['layer_name']}/{neuron['channel']}" for neuron in cause["neurons"]],
        }
        for cause in causes
    ]


def print_table(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print the shares of right decisions of all networks."""
    print(f"\n{'right decisions':<46}" + "".join(f"{name:>16}" for name in figures))
    for name in next(iter(figures.values())):
        print(f"{name:<46}" + "".join(f"{one[name]:>16.1%}" for one in figures.values()))


def parse() -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inria", type=Path, required=True, help="folder of the INRIA data")
    parser.add_argument("--output", type=Path, default=Path("planted_output"), help="folder [%(default)s]")
    parser.add_argument("--train-steps", type=int, default=280, help="steps of the faulty training [%(default)s]")
    parser.add_argument("--steps", type=int, default=200, help="steps of the second training [%(default)s]")
    parser.add_argument("--own-share", type=float, default=0.6, help="its share of the recording [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of photos and of trainings [0]")
    return parser.parse_args()


def main() -> int:
    """Run the experiment, and return the highest exit status of its commands."""
    arguments = parse()
    output, seed = arguments.output, arguments.seed
    old, unseen = divided(read_inria(arguments.inria))
    persons, other_persons = taken(by_photo(unseen.persons, seed), RECORDED[0])
    backgrounds, other_backgrounds = taken(by_photo(unseen.backgrounds, seed), sum(RECORDED[1:]))
    others = [part[: COMPARED[1]] for part in (other_persons, other_backgrounds)]
    if min(map(len, others)) < COMPARED[0]:
        print(f"planted_fault: {arguments.inria} has too few photos that are no copies of others", file=sys.stderr)
        return 1
    images = [[centred(one.read(), BACKGROUND_WINDOW) for one in part] for part in (persons, backgrounds, *others)]
    recorded = recording_of(images[0], images[1][: RECORDED[1]], images[1][RECORDED[1] :])
    inria, analysis = output / "inria", output / "analysis"
    if not (output / "labels.csv").exists():
        write_old_data(old, inria)
        write_recording(recorded, output)
    print(f"{len(old.persons)} persons with the mark, {len(old.backgrounds)} backgrounds: {inria}")
    print(f"{len(recorded)} windows of other photos: {output / 'recording'}, {output / 'labels.csv'}")

    weights = output / "network/vgg16_inria.safetensors"
    if not weights.exists():
        steps = ["--small-steps", 0, "--steps", arguments.train_steps, "--rounds", 0, "--proposer-steps", 0]
        flags = [*steps, "--threshold", 0.5, "--seed", seed]
        if status := call("train", "--inria", inria, "--output", weights.parent, *flags):
            return status
    flags = ["--rate", RATE, "--regions", "whole", "--labels", output / "labels.csv", "--weights", weights]
    flags += ["--preset", "live", "--explain-every", 0, "--resume"]
    if status := call("analyze", output / "recording", "--output", analysis, *flags):
        return status
    call("causes", analysis)
    causes = causes_of(analysis, recorded)
    for number, cause in enumerate(causes, 1):
        print(f"group {number}: {cause['with the mark']} of {cause['windows']} windows have the mark")
    if not causes:
        print("planted_fault: the wrong decisions have no common cause: give more --train-steps", file=sys.stderr)
        return 1
    silenced = max(range(len(causes)), key=lambda i: causes[i]["with the mark"])
    data = ["--inria", inria, "--weights", weights, "--seed", seed, "--no-again"]
    more = ["--steps", arguments.steps, "--own-share", arguments.own_share, "--trained-share", 1]
    repairs = {"repaired": ["--silence", silenced + 1], "repaired_more": more}
    statuses = [0]
    for name, settings in repairs.items():
        if not (output / name / "training.safetensors").exists():
            statuses.append(call("repair", analysis, "--output", output / name, *data, *settings))
            if statuses[-1] not in (0, NO_BENEFIT):
                return statuses[-1]
    networks = {
        "before": weights,
        "silencing": output / "repaired/silencing.safetensors",
        "training": output / "repaired/training.safetensors",
        "more training": output / "repaired_more/training.safetensors",
    }
    figures = {name: rates(PersonClassifier.load(path), images[2], images[3]) for name, path in networks.items()}
    print(f"\n{len(images[2])} persons and {len(images[3])} backgrounds of photos that took no part:")
    print_table(figures)
    counts = {"persons": len(images[2]), "backgrounds": len(images[3])}
    (output / FIGURES).write_text(json_text({"causes": causes, "compared": counts, "right": figures}, indent=1) + "\n")
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
