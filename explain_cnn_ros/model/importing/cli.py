r"""Import the weights of a classification network of torchvision, so that this package can run and explain it.

    explain-cnn import-weights own.pth --architecture resnet18 --classes background,person,forklift,pallet \
        --output own.safetensors

FILE is a state dict as torch.save or safetensors write it: model.state_dict() itself, or a checkpoint that contains it.
Code in the file is not run. The classes are named in the order of the network's outputs. For torchvision's ImageFolder,
this is the alphabetical order (`dataset.classes`). --dry-run prints what was found in the file and writes nothing.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from explain_cnn_ros.files import reason, require_folder, visible
from explain_cnn_ros.model.importing.arguments import LISTED, PERSONS, colour_scale, info_of, numbered, outputs_of
from explain_cnn_ros.model.importing.importing import Import, read_import, write_import
from explain_cnn_ros.model.weights_file import ModelInfo

#: Architectures that torchvision builds with another normalisation if it loads its own weights into them.
RENORMALISED = ("googlenet", "inception_v3")

#: Ends of the names of tensors that are no parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

#: Types of the stored weights.
DTYPES = {"float16": torch.float16, "float32": torch.float32}


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
            help=f"{text}, as in training. If neither the mean nor the deviation exceeds 1, they are for pixel values "
            f"between 0 and 1, and are multiplied by 255 [{numbered(values)}, those of ImageNet].",
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


def summary(path: Path, done: Import, given: argparse.Namespace) -> str:
    """Return what was found in a file, one line for each part.

    Args:
        path: The file.
        done: The import.
        given: Arguments of the command.
    """
    info, found, fitted = done.info, done.found, done.fitted
    scale = colour_scale(given)
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
        ("outputs", f"{len(info.classes)}: {outputs_of(info.classes)}"),
        ("person", ", ".join(info.person) + ("" if given.person else " (default)")),
        (
            "input size",
            f"{info.input_size[0]} x {info.input_size[1]} pixels" + ("" if given.input_size else " (default)"),
        ),
        ("mean", numbered(info.mean) + _unit(given.mean, scale)),
        ("std", numbered(info.std) + _unit(given.std, scale)),
        ("threshold", f"{info.threshold:g}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in lines), *done.notes, *_hints(given)])


def _unit(text: str | None, scale: float) -> str:
    """Return where the values of a colour argument come from."""
    if text is None:
        return " (default, for pixel values between 0 and 255)"
    return f" ({text} times {scale:g})" if scale != 1 else " (for pixel values between 0 and 255)"


def _hints(arguments: argparse.Namespace) -> list[str]:
    """Return sentences about what the file cannot say."""
    if arguments.architecture not in RENORMALISED or arguments.mean is not None:
        return []
    return [
        f"If the training started from torchvision's own weights of {arguments.architecture}, its inputs were "
        "normalised in a different way (transform_input=True). In this case, use --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5."
    ]


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
        done = read_import(arguments.file, info_of(arguments), arguments.entry)
        print(summary(arguments.file, done, arguments))
        if arguments.dry_run:
            print("\nNothing was written (--dry-run).")
            return 0
        write_import(done, arguments.output, DTYPES[arguments.dtype])
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
