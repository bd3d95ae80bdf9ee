"""Imported networks: neurons are silenced for good, and networks of other classes are trained, or refused."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_kit import draw_data

pytest.importorskip("torchvision")

from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.analysis.repair.cli import main
from explain_cnn_ros.analysis.repair.crops import with_context
from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo, write_weights
from explain_cnn_ros.model.windows import Region
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


def analysed(studio, folder: Path, **info: object) -> tuple[Path, Path]:
    """Write a small network that takes every frame for one class, and analyse twelve frames with it.

    Returns:
        The weights, and the folder of the analysis, in which half of the decisions are wrong.
    """
    described = ModelInfo(**({"architecture": "mobilenet_v3_small", "source": "torchvision"} | info))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TorchvisionClassifier(described.architecture, described.input_size, len(described.classes)).eval()
    network.network.classifier[3].bias.data[0] += 1
    weights = folder / "own.safetensors"
    write_weights(network, described, weights)
    frames = [("/camera/image/compressed", 10 * i * 10**9, studio.jpeg(i)) for i in range(12)]
    bag = Path(studio.record(folder / "bag", [], others=frames))
    labels = [Label(10 * i - 1, 10 * i + 1, i % 2 == 0) for i in range(12)]
    # The explanations are about the first class, whatever it is called.
    explain = ExplainSettings.preset("live", proof="none", target=described.classes[0])
    settings = {"explain": explain, "explain_every": 0, "explain_wrong": False, "silence_neurons": 0}
    done = studio.analyse(folder / "out", bag, weights=weights, labels=labels, causes_windows=0, **settings)
    assert done.complete
    return weights, folder / "out"


@pytest.mark.parametrize("classes", [("person", "x"), ("x", "person")])
def test_a_network_with_other_names_or_another_order_of_two_classes_is_trained(
    studio, tmp_path: Path, classes: tuple[str, str]
) -> None:
    """It begins with the decisions of the network before, so that a share of 0 changes nothing."""
    weights, out = analysed(studio, tmp_path, classes=classes, input_size=(32, 64))
    draw_data(tmp_path / "data")
    data = ["--inria", str(tmp_path / "data/inria"), "--background", str(tmp_path / "data/background")]
    flags = ["--weights", str(weights), "--device", "cpu", "--held-out", "0.4", "--steps", "2"]
    assert main([str(out), "--output", str(tmp_path / "repaired"), *flags, *data]) in (0, 4)
    found = json.loads((tmp_path / "repaired/repair.json").read_text())
    first = found["shares"][0]
    assert (first["share"], first["fixed"], first["kept"]) == (0, 0, 1)
    # Two steps at a small learning rate change P(person) a little.
    assert all(one["after"] == pytest.approx(one["before"], abs=0.03) for one in found["cures"][0]["windows"])
    assert {one["before"] >= 0.5 for one in found["cures"][0]["windows"]} == {classes[0] == "person"}
    trained = PersonClassifier.load(tmp_path / "repaired/training.safetensors", "cpu")
    assert (trained.info.classes, trained.info.person) == (("background", "person"), ("person",))
    # Explanations are about the same class, whose name has changed.
    again = json.loads((tmp_path / "repaired/analysis_after_training" / MANIFEST).read_text())
    assert again["target"] == ("person" if classes[0] == "person" else "background")
    # The network learned from the frames in the shape in which it judged them.
    written = sorted((tmp_path / "repaired/windows/person").iterdir())[0]
    jpeg = np.frombuffer(studio.jpeg(int(written.name.split("-")[1])), np.uint8)
    image = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    expected = with_context(image, Region(0, 0, 160, 120, 0.5), 0.5)
    np.testing.assert_array_equal(cv2.imread(str(written))[..., ::-1], expected)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"classes": ("a", "person", "b", "c"), "input_size": (32, 64)}, "the network has 4 classes, not two"),
        ({"classes": ("x", "person"), "input_size": (64, 64)}, "the network judged whole frames of 160 x 120 pixels"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_at_the_start(
    studio, tmp_path: Path, capsys: pytest.CaptureFixture[str], info: dict[str, tuple[object, ...]], reason: str
) -> None:
    weights, out = analysed(studio, tmp_path, **info)
    flags = ["--weights", str(weights), "--device", "cpu", "--held-out", "0.4", "--inria", "nowhere"]
    assert main([str(out), "--output", str(tmp_path / "repaired"), *flags]) == 1
    error = capsys.readouterr().err
    assert f"repair: {reason}" in error
    assert "give --silence without --inria" in error
    assert not (tmp_path / "repaired").exists()
