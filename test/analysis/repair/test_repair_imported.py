"""Neurons of an imported network are silenced for good, from the analysis to the weights file."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("torchvision")

from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.analysis.repair.cli import main
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo, write_weights
from explain_cnn_ros.scan.classifier import PersonClassifier

pytestmark = pytest.mark.timeout(600)

SIZE = (48, 64)
EXPLAIN = ExplainSettings.preset("live", proof="none", layer_names="layer3.1.conv1")


def test_a_cause_is_silenced_in_the_weights(studio, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TorchvisionClassifier("resnet18", SIZE).eval()
    weights = tmp_path / "own.safetensors"
    write_weights(network, ModelInfo("resnet18", source="torchvision", input_size=SIZE), weights)
    frames = [("/camera/image/compressed", 10 * i * 10**9, studio.jpeg(i)) for i in range(12)]
    bag = Path(studio.record(tmp_path / "bag", [], others=frames))
    # Whatever a random network decides, a half of the labels calls it wrong.
    labels = [Label(10 * i - 1, 10 * i + 1, i % 2 == 0) for i in range(12)]
    out = tmp_path / "out"
    settings = {"explain": EXPLAIN, "explain_every": 0, "explain_wrong": False}
    assert studio.analyse(out, bag, weights=weights, labels=labels, **settings).complete
    causes = json.loads((out / MANIFEST).read_text())["causes"]["causes"]
    repaired = tmp_path / "repaired"
    command = ["--weights", str(weights), "--device", "cpu", "--silence", "1", "--no-again", "--held-out", "0.4"]
    assert main([str(out), "--output", str(repaired), *command]) in (0, 4)
    (cure,) = json.loads((repaired / "repair.json").read_text())["cures"]
    before = PersonClassifier.load(weights, "cpu")
    adapter = adapt(before)
    channels: dict[int, list[int]] = defaultdict(list)
    for neuron in causes[0]["neurons"]:
        channels[neuron["layer"]].append(neuron["channel"])
    for one in cure["windows"]:
        jpeg = np.frombuffer(studio.jpeg(one["frame"]), np.uint8)
        image = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
        pixels = before.to_pixels(before.resize(image)[None])
        expected = torch.softmax(adapter.silence(pixels, [channels]), 1)[0, 1]
        assert one["after"] == pytest.approx(float(expected), abs=1e-5)
        assert one["after"] != pytest.approx(one["before"], abs=1e-3)
    assert PersonClassifier.load(repaired / cure["weights"], "cpu").info.command.startswith("neurons damped to 0 ")
