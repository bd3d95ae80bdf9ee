r"""Import the weights of a classification network of torchvision, so that this package can run and explain it.

    explain-cnn import-weights own.pth --architecture resnet18 --classes background,person,forklift,pallet \
        --output own.safetensors

FILE is a state dict as torch.save or safetensors write it: model.state_dict() itself, or a checkpoint that contains it.
Code in the file is not run. The classes are named in the order of the network's outputs. For torchvision's ImageFolder,
this is the alphabetical order (`dataset.classes`). --dry-run prints what was found in the file and writes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from explain_cnn_ros.files import reason, require_folder, visible
from explain_cnn_ros.model.fitting import Fitted, explain_misfit, fit, with_outputs
from explain_cnn_ros.model.state_dict_file import StateDict, read_state_dict
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier, unsupported
from explain_cnn_ros.model.weights_file import ModelInfo, write_weights

#: Names of classes that count as a person if none is named, in lower case.
PERSONS = ("person", "pedestrian", "people", "human")

#: Size (width, height) of the input if none is given, and that of other architectures.
INPUT_SIZE = (224, 224)
INPUT_SIZES = {"inception_v3": (299, 299)}

#: Maximum of each side of the input, in pixels.
SIDE_MAX = 4096

#: Architectures that torchvision builds with another normalisation if it loads its own weights into them.
RENORMALISED = ("googlenet", "inception_v3")

#: Maximum number of classes that the printed list names.
LISTED = 20

#: Ends of the names of tensors that are no parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

#: Types of the stored weights.
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclasses.dataclass(frozen=True)
class Import:
    """A state dict that fits the arguments of the command.

    Attributes:
        found: The state dict in the file.
        fitted: Its tensors by their names in the architecture.
        info: Metadata of the new weights file.
        tensors: Copies of the tensors that are written.
        notes: Sentences about changes of the tensors.
    """

    found: StateDict
    fitted: Fitted
    info: ModelInfo
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    """Build the parser of the arguments."""
    built = argparse.ArgumentParser(
        prog="explain-cnn import-weights", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    built.add_argument("file", metavar="FILE", type=Path, help="File of torch.save (.pth, .pt, .bin) or safetensors.")
    built.add_argument(
        "--architecture",
        metavar="NAME",
        required=True,
        help="Name of the network, as in torchvision.models.list_models(): resnet18, mobilenet_v3_small and so on.",
    )
    built.add_argument(
        "--classes",
        metavar="NAME,NAME,...|FILE",
        required=True,
        help="Names of the classes in the order of the outputs, or a text file with one name a line.",
    )
    built.add_argument(
        "--person",
        metavar="NAME|INDEX[,...]",
        help="Classes that count as a person, by name or by index from 0 "
        f"[the class that is called {', '.join(PERSONS[:-1])} or {PERSONS[-1]}, if there is exactly one].",
    )
    built.add_argument(
        "--input-size",
        metavar="WIDTHxHEIGHT",
        help="Size of the images that the network was trained on, in pixels [224x224; 299x299 for inception_v3].",
    )
    default = ModelInfo()
    for name, values, text in (
        ("mean", default.mean, "Mean of R, G and B that is subtracted from pixel values"),
        ("std", default.std, "Standard deviation of R, G and B by which pixel values are divided"),
    ):
        built.add_argument(
            f"--{name}",
            metavar="R,G,B",
            help=f"{text}, as in training. Values of at most 1 are for pixel values between 0 and 1, and are "
            f"multiplied by 255 [{_numbers(values)}, those of ImageNet].",
        )
    built.add_argument(
        "--threshold",
        type=float,
        default=default.threshold,
        help="The decision is person if P(person) is at least this [%(default)s].",
    )
    built.add_argument(
        "--entry",
        default="",
        help="Entry of a checkpoint that holds the weights, for instance model_ema [the likeliest one].",
    )
    built.add_argument(
        "--dtype",
        choices=tuple(DTYPES),
        default="float16",
        help="Type of the stored weights. float32 takes twice the space and is exact [%(default)s].",
    )
    built.add_argument("--output", type=Path, help="The weights file that is written, ending with .safetensors.")
    built.add_argument("--dry-run", action="store_true", help="Print what was found, and write nothing.")
    return built


def read(arguments: argparse.Namespace) -> Import:
    """Read and check a file, as the arguments of the command say.

    Raises:
        ValueError: The file or an argument is not suitable. The message names the cause and the cure.
        OSError: A file cannot be read.
    """
    if why := unsupported(arguments.architecture):
        raise ValueError(f"--architecture {visible(arguments.architecture)}: {why}")
    classes = _classes(arguments.classes)
    info = ModelInfo(
        architecture=arguments.architecture,
        input_size=_size(arguments.input_size, arguments.architecture),
        mean=_colours("mean", arguments.mean, ModelInfo().mean),
        std=_colours("std", arguments.std, ModelInfo().std),
        classes=classes,
        threshold=arguments.threshold,
        command=_command(arguments),
        created=datetime.date.today().isoformat(),
        source="torchvision",
        person=_persons(arguments.person, classes),
    )
    _check_size(info)
    try:
        found = read_state_dict(arguments.file, arguments.entry)
        fitted = fit(found.tensors, info.architecture)
        if fitted.problems:
            raise ValueError(explain_misfit(found.tensors, fitted))
        tensors, notes = with_outputs(fitted, info)
    except ValueError as error:
        raise ValueError(f"{visible(arguments.file)} cannot be imported: {error}") from error
    return Import(found, fitted, info, tensors, (*fitted.notes, *notes, *_hints(arguments)))


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
            raise ValueError(f"--person is needed, because {several}. The classes are {_outputs(classes)}")
        return (found[0],)
    names = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part in classes:
            names.append(part)
        elif part.isascii() and part.isdecimal() and int(part) < len(classes):
            names.append(classes[int(part)])
        else:
            raise ValueError(f"--person {visible(part)}: no class is called so. The classes are {_outputs(classes)}")
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


def _check_size(info: ModelInfo) -> None:
    """Check that the network accepts images of the input size. The pass computes shapes only.

    Raises:
        ValueError: It does not.
    """
    width, height = info.input_size
    with torch.device("meta"):
        network = TorchvisionClassifier(info.architecture, info.input_size, len(info.classes)).eval()
    try:
        with torch.no_grad():
            network(torch.empty(1, 3, height, width, device="meta"))
    except (RuntimeError, ValueError) as error:
        cause = str(error).partition("\n")[0]
        raise ValueError(
            f"--input-size {width}x{height}: {info.architecture} cannot process images of this size ({cause}): give "
            "that of the training"
        ) from error


def _colours(name: str, text: str | None, default: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the values of R, G and B of an argument, for pixel values between 0 and 255."""
    if text is None:
        return default
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--{name} {visible(text)}: it must be three numbers, for instance {_numbers(default)}"
        ) from None
    scale = 255.0 if max(abs(red), abs(green), abs(blue)) <= 1 else 1.0
    return round(red * scale, 6), round(green * scale, 6), round(blue * scale, 6)


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that imports the same weights, without the folders of the machine."""
    words = ["import-weights", arguments.file.name]
    for name in ("architecture", "classes", "person", "input_size", "mean", "std", "entry"):
        if value := getattr(arguments, name):
            words += [f"--{name.replace('_', '-')}", Path(value).name if name == "classes" else value]
    return shlex.join(words)


def _hints(arguments: argparse.Namespace) -> list[str]:
    """Return sentences about what the file cannot say."""
    if arguments.architecture not in RENORMALISED or arguments.mean is not None:
        return []
    return [
        f"If the training started from torchvision's own weights of {arguments.architecture}, its inputs were "
        "normalised in a different way (transform_input=True). In this case, use --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5."
    ]


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _outputs(classes: Sequence[str]) -> str:
    """Return the numbers and names of classes, at most LISTED."""
    named = [f"{index} {name}" for index, name in enumerate(classes[:LISTED])]
    more = f" and {len(classes) - LISTED:,} more" if len(classes) > LISTED else ""
    return ", ".join(named) + more


def summary(path: Path, done: Import, given: argparse.Namespace) -> str:
    """Return what was found in a file, one line for each part.

    Args:
        path: The file.
        done: The import.
        given: Arguments of the command.
    """
    info, found, fitted = done.info, done.found, done.fitted
    count = sum(value.numel() for name, value in done.tensors.items() if not name.endswith(BUFFERS))
    place = [f"entry {found.entry}"] if found.entry else []
    place += [f"prefix {fitted.prefix} removed"] if fitted.prefix else []
    lines = [("file", f"{visible(path)} ({found.container}, {path.stat().st_size / 1e6:.1f} MB)")]
    lines += [("weights", ", ".join([f"{len(done.tensors)} tensors", *place]))]
    if found.others:
        lines += [("other weights", f"{', '.join(found.others)} (--entry NAME imports them instead)")]
    if ignored := [*found.ignored, *map(visible, fitted.ignored)]:
        more = f" and {len(ignored) - LISTED} more" if len(ignored) > LISTED else ""
        lines += [("ignored", ", ".join(ignored[:LISTED]) + more)]
    lines += [
        ("architecture", f"{info.architecture} of torchvision, {count / 1e6:.1f} million parameters"),
        ("outputs", f"{len(info.classes)}: {_outputs(info.classes)}"),
        ("person", ", ".join(info.person) + ("" if given.person else " (default)")),
        (
            "input size",
            f"{info.input_size[0]} x {info.input_size[1]} pixels" + ("" if given.input_size else " (default)"),
        ),
        ("mean", _numbers(info.mean) + _unit(given.mean)),
        ("std", _numbers(info.std) + _unit(given.std)),
        ("threshold", f"{info.threshold:g}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in lines), *done.notes])


def _unit(text: str | None) -> str:
    """Return where the values of a colour argument come from."""
    if text is None:
        return " (default, for pixel values between 0 and 255)"
    scaled = max(abs(float(part)) for part in text.split(",")) <= 1
    return f" ({text} times 255)" if scaled else " (for pixel values between 0 and 255)"


def write(done: Import, output: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the weights file of an import.

    Raises:
        OSError: The file cannot be written.
    """
    with torch.device("meta"):
        network = TorchvisionClassifier(done.info.architecture, done.info.input_size, len(done.info.classes))
    state = network.network.state_dict()
    state.update(done.tensors)
    network.network.load_state_dict(state, assign=True)
    write_weights(network, done.info, output, dtype)


def next_steps(output: Path) -> str:
    """Return how to use a weights file, one line for each way."""
    place, own = shlex.quote(str(output)), shlex.quote(f"weights:={output.resolve()}")
    return "\n".join(
        [
            f"node:     ros2 run explain_cnn_ros explain_node --ros-args -r image:=/camera/image_raw -p {own}",
            f"analyze:  explain-cnn analyze BAG --weights {place} --output DIR",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments of the command; None for those of the process.

    Returns:
        Exit code: 0 on success, 1 after an error whose reason is printed, 130 if it is interrupted.
    """
    built = parser()
    arguments = built.parse_args(argv)
    if arguments.output is None and not arguments.dry_run:
        built.error("--output is needed, or --dry-run to write nothing")
    try:
        if arguments.output is not None:
            if arguments.output.suffix != ".safetensors":
                raise ValueError(f"--output {visible(arguments.output)}: the name must end with .safetensors")
            if arguments.output.resolve() == arguments.file.resolve():
                raise ValueError(f"--output {visible(arguments.output)} is the file itself: give another name")
            require_folder(arguments.output.parent)
        done = read(arguments)
        print(summary(arguments.file, done, arguments))
        if arguments.dry_run:
            print("\nNothing was written (--dry-run).")
            return 0
        write(done, arguments.output, DTYPES[arguments.dtype])
        size = arguments.output.stat().st_size / 1e6
        print(f"\nwritten:  {visible(arguments.output)} ({size:.1f} MB, {arguments.dtype})")
        print(next_steps(arguments.output))
    except OSError as error:
        print(f"import-weights: {reason(error)}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"import-weights: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("import-weights: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
