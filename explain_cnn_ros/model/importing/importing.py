"""Import of a state dict: it is read, fitted to the architecture, and written as a weights file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from explain_cnn_ros.files import visible
from explain_cnn_ros.model.importing.fitting import Fitted, explain_misfit, fit, with_outputs
from explain_cnn_ros.model.importing.state_dict_file import StateDict, read_state_dict
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo, write_weights


@dataclass(frozen=True)
class Import:
    """A state dict that fits an architecture.

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


def read_import(file: Path, info: ModelInfo, entry: str = "") -> Import:
    """Read a file, and fit its tensors to an architecture.

    Args:
        file: The file; see `read_state_dict`.
        info: Metadata of the new weights file: the architecture, its classes and its input.
        entry: Entry of a checkpoint that holds the weights; "" for the likeliest one.

    Raises:
        ValueError: The file or the metadata is not suitable. The message names the cause and the cure.
        OSError: The file cannot be read.
    """
    _check_size(info)
    try:
        found = read_state_dict(file, entry)
        fitted = fit(found.tensors, info.architecture)
        if fitted.problems:
            raise ValueError(explain_misfit(found.tensors, fitted))
        tensors, notes = with_outputs(fitted, info)
    except ValueError as error:
        raise ValueError(f"{visible(file)} cannot be imported: {error}") from error
    return Import(found, fitted, info, tensors, (*fitted.notes, *notes))


def write_import(done: Import, output: Path, dtype: torch.dtype = torch.float16) -> None:
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
            f"input size {width}x{height}: {info.architecture} cannot process images of this size ({cause}): give "
            "that of the training"
        ) from error
