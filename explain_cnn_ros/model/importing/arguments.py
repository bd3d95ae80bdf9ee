"""The metadata of the new weights file, from the texts on the command line."""

from __future__ import annotations

import argparse
import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path

from explain_cnn_ros.files import visible
from explain_cnn_ros.model.torchvision_network import INPUT_SIZE, INPUT_SIZES, unsupported
from explain_cnn_ros.model.weights_file import ModelInfo

#: Names of classes that count as a person if none is named, in lower case.
PERSONS = ("person", "pedestrian", "people", "human")

#: Maximum of each side of the input, in pixels.
SIDE_MAX = 4096

#: Maximum number of classes that the printed list names.
LISTED = 20


def info_of(arguments: argparse.Namespace) -> ModelInfo:
    """Return the metadata that the arguments of the command describe.

    Raises:
        ValueError: An argument is not suitable. The message names the cause and the cure.
        OSError: The file with the names of the classes cannot be read.
    """
    if why := unsupported(arguments.architecture):
        raise ValueError(f"--architecture {visible(arguments.architecture)}: {why}")
    classes, scale = _classes(arguments.classes), colour_scale(arguments)
    return ModelInfo(
        architecture=arguments.architecture,
        input_size=_size(arguments.input_size, arguments.architecture),
        mean=_scaled("mean", arguments.mean, scale),
        std=_scaled("std", arguments.std, scale),
        classes=classes,
        threshold=arguments.threshold,
        command=_command(arguments),
        created=datetime.date.today().isoformat(),
        source="torchvision",
        person=_persons(arguments.person, classes),
    )


def _classes(text: str) -> tuple[str, ...]:
    """Return the names of the classes that the argument lists, or that the file it names has."""
    path = Path(text)
    try:
        from_file = path.is_file()
    except (OSError, ValueError):  # a long list is no name of a file
        from_file = False
    if not from_file and "," not in text and (path.suffix or "/" in text):
        raise ValueError(f"--classes {visible(text)}: there is no such file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if from_file else text.split(",")
    except UnicodeDecodeError as error:
        raise ValueError(f"--classes {visible(text)}: the file is no text ({error})") from error
    names = [line.strip() for line in lines]
    while from_file and names and not names[-1]:
        names.pop()
    for index, name in enumerate(names):
        if not name:
            raise ValueError(f"--classes: the name of output {index} is empty")
        if visible(name) != name:
            raise ValueError(f"--classes: the name of output {index} has characters that do not show ({visible(name)})")
        if name in names[:index]:
            raise ValueError(
                f"--classes: outputs {names.index(name)} and {index} are both called {name}: give them different names"
            )
    if len(names) < 2:
        raise ValueError(
            f"--classes names {len(names)} class{'' if len(names) == 1 else 'es'}: name all outputs, separated by "
            "commas, for instance background,person"
        )
    return tuple(names)


def _persons(text: str | None, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes that count as a person."""
    if text is None:
        found = [name for name in classes if name.lower() in PERSONS]
        if len(found) != 1:
            several = f"several classes are called so: {', '.join(found)}" if found else "no class is called person"
            raise ValueError(f"--person is needed, because {several}. The classes are {outputs_of(classes)}")
        return (found[0],)
    names = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part in classes:
            names.append(part)
        elif part.isascii() and part.isdecimal() and int(part) < len(classes):
            names.append(classes[int(part)])
        else:
            raise ValueError(f"--person {visible(part)}: no class is called so. The classes are {outputs_of(classes)}")
    if not names or len(set(names)) == len(classes):
        amount = "all classes" if names else "no class"
        raise ValueError(f"--person names {amount}: at least one class must count as a person, and one must not")
    return tuple(dict.fromkeys(names))


def _size(text: str | None, architecture: str) -> tuple[int, int]:
    if text is None:
        return INPUT_SIZES.get(architecture, INPUT_SIZE)
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise ValueError(f"--input-size {visible(text)}: it must be WIDTHxHEIGHT in pixels, for instance 224x224")
    width, height = int(sides[0]), int(sides[-1])
    if not 0 < width <= SIDE_MAX or not 0 < height <= SIDE_MAX:
        raise ValueError(f"--input-size {text}: both sides must be between 1 and {SIDE_MAX} pixels")
    return width, height


def colour_scale(arguments: argparse.Namespace) -> float:
    """Return the factor of the mean and the standard deviation on the command line, if there are any.

    Both are for the same pixel values. If neither exceeds 1, these are between 0 and 1, and the factor is 255. If not,
    they are between 0 and 255, and the factor is 1. A mean of 0 is for any.

    Raises:
        ValueError: An argument is not three numbers, or the two are for different pixel values.
    """
    texts = {"mean": arguments.mean, "std": arguments.std}
    given = {name: _colours(name, text) for name, text in texts.items() if text is not None}
    small = {name: max(map(abs, values)) <= 1 for name, values in given.items()}
    if small == {"mean": True, "std": False} and any(given["mean"]):
        raise ValueError(
            f"--mean {numbered(given['mean'])} is for pixel values between 0 and 1, and --std {numbered(given['std'])} "
            "for those between 0 and 255: give both as they are in the training"
        )
    return 255.0 if all(small.values()) else 1.0


def _scaled(name: str, text: str | None, scale: float) -> tuple[float, float, float]:
    """Return the values of an argument for pixel values between 0 and 255, or the default if it is not given."""
    if text is None:
        default: tuple[float, float, float] = getattr(ModelInfo(), name)
        return default
    red, green, blue = _colours(name, text)
    return round(red * scale, 6), round(green * scale, 6), round(blue * scale, 6)


def _colours(name: str, text: str) -> tuple[float, float, float]:
    """Return the values of R, G and B of an argument as they are given."""
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        example = numbered(getattr(ModelInfo(), name))
        raise ValueError(f"--{name} {visible(text)}: it must be three numbers, for instance {example}") from None
    return red, green, blue


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that imports the same weights, without the folders of the machine."""
    words = ["import-weights", arguments.file.name]
    for name in ("architecture", "classes", "person", "input_size", "mean", "std", "entry"):
        if value := getattr(arguments, name):
            words += [f"--{name.replace('_', '-')}", Path(value).name if name == "classes" else value]
    return shlex.join(words)


def numbered(values: Sequence[float]) -> str:
    """Return numbers as the arguments have them."""
    return ",".join(f"{value:g}" for value in values)


def outputs_of(classes: Sequence[str]) -> str:
    """Return the numbers and names of classes, at most LISTED."""
    named = [f"{index} {name}" for index, name in enumerate(classes[:LISTED])]
    more = f" and {len(classes) - LISTED:,} more" if len(classes) > LISTED else ""
    return ", ".join(named) + more
