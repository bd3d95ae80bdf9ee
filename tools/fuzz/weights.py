"""Weights: the package's own files (safetensors), and files of torch.save that are imported."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from explain_cnn_ros.model.importing.fitting import fit
from explain_cnn_ros.model.importing.state_dict_file import read_state_dict
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo, read_weights, write_weights
from tools.fuzz.kind import Kind, check_text, refused, require
from tools.fuzz.mutation import Mutation

#: A small network.
_INFO = ModelInfo("squeezenet1_1", input_size=(64, 64), source="torchvision")


@cache
def _weights() -> tuple[bytes, ...]:
    network = TorchvisionClassifier(_INFO.architecture, _INFO.input_size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()  # so that a stored input is small
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_weights(network, _INFO, path)
        return (path.read_bytes(),)


def _joined(header: bytes, tensors: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@cache
def _harmful_weights() -> tuple[bytes, ...]:
    """Return files whose metadata describe networks that no machine holds, or that are nested."""
    header, tensors = _split(_weights()[0])
    texts = header["__metadata__"]
    found = []
    for name, value in (
        ("architecture", '"vgg16"'),
        ("architecture", '"' + "x" * 100_000 + '"'),
        ("architecture", '"\\u202e"'),
        ("architecture", '"vit_b_16"'),
        ("classes", json.dumps([f"class {i}" for i in range(200_000)])),
        ("input_size", "[2147483647, 2147483647]"),
        ("input_size", "[1, 1]"),
        ("hidden", "2147483647"),
        ("proposer", "2147483647"),
        ("proposer", "4"),
        ("threshold", "1e-400"),
        ("mean", "[" * 50_000),
        ("accuracy", '{"a": 1e400}'),
        ("source", '"explain_cnn_ros"'),
        ("person", "[]"),
    ):
        changed = json.dumps(header | {"__metadata__": texts | {name: value}}).encode()
        found.append(_joined(changed, tensors))
    many = {f"t{i}": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for i in range(10_000)}
    found.append(_joined(json.dumps(header | many).encode(), tensors))
    found.append(_joined(b"{" + b'"a":' * 10, tensors[:100]))
    found.append(_joined(b"[" * 100_000, b""))
    found.append(struct.pack("<Q", 2**63) + b"{}")
    return tuple(found)


def _mutated_weights(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    data = _weights()[0]
    kind = mutation.below(5)
    header, tensors = _split(data)
    if kind == 0:
        begin = len(data) - len(tensors)
        return mutation.mutated(data[:begin]) + tensors
    if kind == 1:
        name = mutation.one(tuple(header["__metadata__"]))
        value = mutation.inner(json.loads(header["__metadata__"][name]))
        header["__metadata__"][name] = _json(value)
    elif kind == 2:
        header["__metadata__"] = mutation.value(header["__metadata__"])
    elif kind == 3:
        name = mutation.one(tuple(header))
        header[mutation.text(name) if mutation.chance(0.2) else name] = mutation.inner(header.pop(name))
    else:
        at = mutation.below(len(tensors)) & ~1
        tensors = tensors[:at] + mutation.one((b"\0\x7c", b"\1\x7e", b"\xff\xff")) + tensors[at + 2 :]
    return _joined(_json(header).encode("utf-8", "surrogatepass"), tensors)


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):  # numbers and depths that Python does not spell
        return "[" * 3000


def _read_weights(data: bytes, folder: Path) -> str:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    try:
        weights = read_weights(path)
    except (ValueError, FileNotFoundError) as error:
        return refused(error)
    finite = all(bool(torch.isfinite(p).all()) for p in weights.network.parameters())
    require(finite, "weights that are not finite")
    return ""


# Imports.


@cache
def _checkpoints() -> tuple[bytes, ...]:
    state = {"features.0.weight": torch.zeros(4, 3, 3, 3), "features.0.bias": torch.ones(4), "n": torch.tensor(3)}
    found = []
    for content, legacy in (
        (state, False),
        ({"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}, False),
        (state, True),
    ):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=not legacy)
        found.append(file.getvalue())
    return (*found, safetensors.torch.save(state))


def _archive(entries: Sequence[tuple[str, bytes]], packed: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


@cache
def _harmful_checkpoints() -> tuple[bytes, ...]:
    """Return archives that unpack to much more than they have, and pickles that call functions."""
    entries = _entries(_checkpoints()[0])
    huge = [(name, bytes(80_000_000) if name.endswith("data/0") else content) for name, content in entries]
    found = [_archive(huge, packed=True), _archive([*entries, ("archive/data/9", bytes(80_000_000))], packed=True)]
    for pickled in (
        b"\x80\x02cos\nsystem\nX\4\0\0\0true\x85R.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" + b"]a" * 50_000 + b".",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
        b"\x80\x02}q\0(" + b"K\1K\2" * 100 + b"u.",
        b"\x80\x02N.",
    ):
        found.append(_archive([(n, pickled if n.endswith("data.pkl") else c) for n, c in entries]))
        found.append(pickled)
    return tuple(found)


def _mutated_checkpoint(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    data = mutation.one(_checkpoints())
    if mutation.chance(0.5) or not data.startswith(b"PK"):
        return mutation.mutated(data, _checkpoints())
    entries = _entries(data)
    for _ in range(1 + mutation.below(2)):
        at = mutation.below(len(entries))
        name, content = entries[at]
        if mutation.chance(0.7):
            entries[at] = name, mutation.mutated(content)
        elif mutation.chance(0.5):
            entries[at] = mutation.text(name).replace("\0", "_") or "a", content
        else:
            del entries[at]
            entries = entries or [("a", b"")]
    return _archive([(name.encode("utf-8", "replace").decode()[:60_000], content) for name, content in entries])


def _read_checkpoint(data: bytes, folder: Path) -> str:
    path = folder / "weights.pth"
    path.write_bytes(data)
    try:
        found = read_state_dict(path)
    except (ValueError, OSError) as error:
        return refused(error, reserves=True)
    require(all(isinstance(tensor, torch.Tensor) for tensor in found.tensors.values()), "no tensors")
    for problem in fit(found.tensors, _INFO.architecture).problems:
        check_text(problem)
    return ""


KINDS = (
    Kind("weights", _weights, _read_weights, _mutated_weights, _harmful_weights),
    Kind("checkpoint", _checkpoints, _read_checkpoint, _mutated_checkpoint, _harmful_checkpoints),
)
