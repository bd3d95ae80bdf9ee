"""The node with an imported network of torchvision, over DDS: from the .pth file to decisions and explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.importing.cli import main as import_weights
from explain_cnn_ros.msg import Classification, Live, ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, DecisionSettings
from explain_cnn_ros.srv import Explain

pytestmark = [pytest.mark.ros, pytest.mark.timeout(300)]

CLASSES = ("background", "person", "forklift", "pallet")
#: The last convolutions of the four stages of a ResNet-18.
LAYERS = [f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights, imported as a user would do it."""
    torchvision = pytest.importorskip("torchvision")
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=len(CLASSES)).state_dict(), folder / "own.pth")
    output = folder / "own.safetensors"
    flags = ["--architecture", "resnet18", "--classes", ",".join(CLASSES), "--input-size", "64x64"]
    assert import_weights([str(folder / "own.pth"), *flags, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def processes(new_processes: Any, weights: Path) -> Any:
    """The node that the tests share. It is told nothing but the file and that images are windows."""
    new_processes.start_node(
        weights=str(weights), regions="whole", confidence_threshold=0.0, explain__perturbations=4, device="cpu"
    )
    return new_processes


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Large areas of random colours, uint8 [90, 120, 3] RGB."""
    colours = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return np.ascontiguousarray(colours.repeat(10, axis=0).repeat(10, axis=1))


def test_decisions_are_those_of_the_network(
    shared_graph: Any, raw_image: Any, weights: Path, picture: np.ndarray
) -> None:
    classifier = PersonClassifier.load(weights, "cpu")
    expected = Decider(classifier, DecisionSettings(regions="whole")).decide(picture)
    decided = shared_graph.collect(Classification, "/explain_node/classification")
    camera = shared_graph.publisher(Image, "/image")
    shared_graph.wait_for_subscribers("/explain_node/classification")

    def arrived() -> bool:
        camera.publish(raw_image(picture))
        shared_graph.spin(0.2)
        return bool(decided)

    shared_graph.wait_for(arrived, "a decision")
    assert decided[0].probability == pytest.approx(expected.probability, abs=1e-5)
    assert decided[0].person == expected.person


def test_the_model_is_described(shared_graph: Any, weights: Path) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    models = shared_graph.collect(ModelInfo, "/explain_node/model", latched)
    shared_graph.wait_for(lambda: models, "the description of the model")
    found = models[0]
    assert (found.architecture, found.source) == ("resnet18", "torchvision")
    assert (tuple(found.classes), tuple(found.person)) == (CLASSES, ("person",))
    assert (found.input_width, found.input_height) == (64, 64)
    assert found.model == PersonClassifier.load(weights, "cpu").model_hash


@pytest.mark.parametrize("target", ["", "forklift"])
def test_explanations_name_layers_and_classes(
    shared_graph: Any, raw_image: Any, picture: np.ndarray, target: str
) -> None:
    request = Explain.Request(image=raw_image(picture), target=target)
    answer = shared_graph.call(Explain, "/explain_node/explain", request)
    assert answer.success, answer.message
    found = answer.explanation
    assert found.target == (target or "person")
    assert [r.layer_name for r in found.rankings if r.metric == "influence"] == LAYERS
    assert {r.metric for r in found.rankings} == set(ExplainSettings().metrics)
    neurons = [n for r in found.rankings if r.metric == "influence" for n in r.neurons]
    assert neurons
    # Patches are in pixels of the image.
    patches = [n.patch[0] for n in neurons if n.patch]
    assert patches
    assert all(p.x >= 0 and p.x + p.width <= 120 and p.y >= 0 and p.y + p.height <= 90 for p in patches)


def test_a_class_that_the_network_lacks(shared_graph: Any, raw_image: Any, picture: np.ndarray) -> None:
    request = Explain.Request(image=raw_image(picture), target="cat")
    answer = shared_graph.call(Explain, "/explain_node/explain", request)
    assert not answer.success
    assert "background, person, forklift, pallet" in answer.message


def test_live_explanations(shared_graph: Any, raw_image: Any, weights: Path, picture: np.ndarray) -> None:
    live = shared_graph.collect(Live, "/explain_node/live")
    overlays = shared_graph.collect(Image, "/explain_node/overlay")
    camera = shared_graph.publisher(Image, "/image")
    shared_graph.wait_for_subscribers("/explain_node/live", "/explain_node/overlay")
    assert shared_graph.set_parameters("/explain_node", live="influence")[0].successful

    def arrived() -> bool:
        camera.publish(raw_image(picture, stamp=9))
        shared_graph.spin(0.2)
        return bool(live and overlays)

    try:
        shared_graph.wait_for(arrived, "a live explanation and its picture")
    finally:
        assert shared_graph.set_parameters("/explain_node", live="none")[0].successful
    layers = Explainer(PersonClassifier.load(weights, "cpu")).adapter.layers
    named = {layers[neuron.layer].name for neuron in (*live[0].supporting, *live[0].opposing)}
    assert named <= set(LAYERS)
    assert live[0].supporting
    assert (overlays[-1].width, overlays[-1].height) == (120, 90)
