"""The commands: from data on disk to tables and figures, and their error messages."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from explain_cnn_ros.experiments import causal, checkpoints, commands, convergence, stability
from explain_cnn_ros.experiments.cli import main
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.torchvision_network import TorchvisionClassifier
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Said at once, before the data are even looked for."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["causal", "--data", "nowhere", "--output", "nowhere"]) == 1
    assert (
        "figures need matplotlib: pip install matplotlib, or apt install python3-matplotlib" in capsys.readouterr().err
    )


def test_without_captum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inria: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert main(["regions", "--data", str(inria), "--output", str(tmp_path / "o"), "--windows", "1"]) == 1
    assert "LIME and Grad-CAM need captum: pip install captum" in capsys.readouterr().err


@pytest.mark.slow
def test_the_guide_and_its_tables(
    thin_channels: None,
    quick_classifier: PersonClassifier,
    inria: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With one person and one background. The second time, the cache gives the same tables and figures."""
    quick = partial(causal.CausalSettings, top_ns=(1, 5), draws=1, further_draws=1, layers=(2,))
    monkeypatch.setattr(causal, "CausalSettings", quick)
    small = partial(stability.StabilitySettings, presets=("stable",), ns=(10,), sigmas=(0.1,), layers=(2,))
    monkeypatch.setattr(stability, "StabilitySettings", small)
    weights, out = tmp_path / "quick.safetensors", tmp_path / "out"
    quick_classifier.save(weights)
    common = ["--data", str(inria), "--output", str(out), "--weights", str(weights), "--seeds", "2"]
    contents = []
    for _ in range(2):
        assert main(["guide", *common, "--windows", "1", "--stability-windows", "1"]) == 0
        assert main(["stability", *common, "--windows", "1"]) == 0
        assert main(["causal", *common[:-2], "--windows", "1"]) == 0
        names = ("guide.png", "stability.md", "stability.json", "causal.md", "causal.json", "causal.png")
        contents.append([(out / name).read_bytes() for name in (*names, "stability.png", "agreement.png")])
    assert contents[0] == contents[1]
    record = json.loads((out / "causal.json").read_text())
    assert record["command"] == "experiments causal --data " + inria.name + " --windows 1 --weights quick.safetensors"
    assert record["data"].endswith("(1 persons, 1 backgrounds)")
    (of_network,) = record["rows"]["networks"].values()
    assert of_network == record["rows"]["summary"]
    assert {row["kind"] for row in of_network["rows"]} == {"all windows", "persons", "backgrounds"}
    assert (out / "causal.md").read_text().startswith("### Claims about influence\n")
    assert str(out / "causal") in capsys.readouterr().out


@pytest.mark.slow
def test_several_networks(
    thin_channels: None,
    inria: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A block for each network, and their mean and range in front of them; each network has a cache of its own."""
    small = partial(stability.StabilitySettings, presets=("stable",), ns=(10,), sigmas=(0.1,), layers=(2,))
    monkeypatch.setattr(stability, "StabilitySettings", small)
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = PersonClassifier(VGGClassifier("vgg11", hidden=8), ModelInfo("vgg11", 8), "cpu")
        weights += ["--weights", str(tmp_path / f"{seed}.safetensors")]
        network.save(weights[-1])
    common = ["stability", "--data", str(inria), "--windows", "1", "--seeds", "2"]
    alone = []
    for i in range(2):
        out = tmp_path / f"alone{i}"
        assert main([*common, "--output", str(out), *weights[2 * i : 2 * i + 2]]) == 0
        alone.append((out / "stability.md").read_text())
    out = tmp_path / "both"
    assert main([*common, "--output", str(out), *weights]) == 0
    text = (out / "stability.md").read_text()
    assert text.startswith("## Over 2 networks: mean (smallest to largest network)\n")
    assert text.count("## Network") == 2 and all(table in text for table in alone)
    assert len(list(out.glob("stability-*.jsonl"))) == 2
    record = json.loads((out / "stability.json").read_text())
    assert record["model"] == f"of 2 networks: {', '.join(record['rows']['networks'])}"
    one, other = record["rows"]["networks"].values()
    for row, *both in zip(record["rows"]["summary"], one, other, strict=True):
        values = [each["seeds"]["value"] for each in both]
        assert row["seeds"] == {"value": sum(values) / 2, "low": min(values), "high": max(values)}
    assert main([*common, "--output", str(out), *weights[:2], *weights[:2]]) == 1
    assert "--weights names the same network twice" in capsys.readouterr().err


@pytest.fixture
def squeezenet(tmp_path: Path) -> Path:
    """Weights of a small network of torchvision, for windows of 48 x 64 pixels."""
    pytest.importorskip("torchvision")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TorchvisionClassifier("squeezenet1_1", (48, 64), 3)
    info = ModelInfo(
        "squeezenet1_1", input_size=(48, 64), source="torchvision", classes=("background", "person", "forklift")
    )
    PersonClassifier(network, info, "cpu").save(tmp_path / "squeezenet.safetensors")
    return tmp_path / "squeezenet.safetensors"


@pytest.mark.slow
def test_any_network(squeezenet: Path, inria: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows have its size, and layers their names."""
    quick = partial(causal.CausalSettings, top_ns=(1, 5), draws=1, further_draws=1)
    monkeypatch.setattr(causal, "CausalSettings", quick)
    small = partial(stability.StabilitySettings, presets=("stable",), ns=(10,), sigmas=(0.1,))
    monkeypatch.setattr(stability, "StabilitySettings", small)
    out = tmp_path / "out"
    common = ["--data", str(inria), "--output", str(out), "--weights", str(squeezenet), "--windows", "1"]
    names = ["--layer-names", "features.3.*, features.12.expand3x3"]
    assert main(["causal", *common, *names]) == 0
    record = json.loads((out / "causal.json").read_text())
    explained = ["features.3.squeeze", "features.3.expand1x1", "features.3.expand3x3", "features.12.expand3x3"]
    rows = record["rows"]["summary"]["layers"]
    assert [row["name"] for row in rows if (row["selector"], row["kind"]) == ("influence", "persons")] == explained
    assert f"| neurons by | {' | '.join(explained)} |" in (out / "causal.md").read_text()
    assert (out / "layers.png").exists()
    assert record["command"].endswith("--layer-names features.3.*, features.12.expand3x3")
    assert main(["guide", *common, *names, "--stability-windows", "1", "--seeds", "2"]) == 0
    assert (out / "guide.png").exists()


def test_networks_that_an_experiment_cannot_take(
    thin_channels: None,
    quick_classifier: PersonClassifier,
    squeezenet: Path,
    inria: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message names the cause, before anything is computed."""
    quick_classifier.save(tmp_path / "vgg.safetensors")
    deeper = VGGClassifier("vgg16", hidden=8)
    PersonClassifier(deeper, ModelInfo("vgg16", 8), "cpu").save(tmp_path / "vgg16.safetensors")
    data = ["--data", str(inria), "--output", str(tmp_path / "out")]
    vgg, vgg16 = ["--weights", str(tmp_path / "vgg.safetensors")], ["--weights", str(tmp_path / "vgg16.safetensors")]
    other = ["--weights", str(squeezenet)]
    for arguments, cause in (
        (["causal", *vgg, *other], "windows of 64 x 128 and 48 x 64 pixels, which do not see the same windows"),
        (["causal", *vgg, *vgg16], "conv4_1, conv4_2 of vgg16), so their results cannot be averaged by layer"),
        (["differences", *other], "which number the layers of VGG-16. squeezenet1_1 has other layers"),
        (["convergence", "--architecture", "resnet18"], "'resnet18': the experiment convergence trains VGGs of this"),
        (["stability", *other, "--layer-names", "conv3_1"], "layer_names is 'conv3_1': no layer of squeezenet1_1"),
        (["regions", *other, "--layer-names", "conv3_1"], "layer_names is 'conv3_1': no layer of squeezenet1_1"),
    ):
        assert main([*arguments, *data]) == 1
        assert cause in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.jsonl"))


@pytest.mark.parametrize("experiment", ["patches", "convergence", "causal", "stability", "regions", "guide"])
def test_an_output_that_cannot_be_written(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named before the data are read."""
    (tmp_path / "file").write_text("x")
    assert main([experiment, "--data", "nowhere", "--output", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"experiments: {tmp_path}/file is a file: give a folder\n"
    assert main(["localization", "nowhere.png", "--output", str(tmp_path / "file/panel.png")]) == 1
    assert capsys.readouterr().err == f"experiments: {tmp_path}/file is a file: give a folder\n"


def test_weights_that_are_none(inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    flags = ["--data", str(inria), "--output", str(tmp_path / "out"), "--weights", str(tmp_path / "w.safetensors")]
    assert main(["stability", *flags]) == 1
    assert "w.safetensors holds no weights of explain_cnn_ros: it is a pointer of Git LFS" in capsys.readouterr().err


def test_interrupted(inria: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "read_examples", interrupt)
    assert main(["causal", "--data", str(inria), "--output", str(inria)]) == 130
    assert "start the same command again to continue" in capsys.readouterr().err


@pytest.mark.slow
def test_convergence_from_its_checkpoints_to_its_figures(
    thin_channels: None,
    quick_classifier: PersonClassifier,
    inria: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The training itself is tested elsewhere."""
    path, out = tmp_path / "network.safetensors", tmp_path / "out"
    quick_classifier.save(path)
    networks = [checkpoints.Checkpoint(0, 0.0, path), checkpoints.Checkpoint(4, 1.0, path)]
    monkeypatch.setattr(checkpoints, "train_checkpoints", lambda *_: networks)
    quick = partial(convergence.ConvergenceSettings, layers=(2,), top_n=2)
    monkeypatch.setattr(convergence, "ConvergenceSettings", quick)
    arguments = ["--training", "1", "--test", "1", "--steps", "2", "--seeds", "2"]
    assert main(["convergence", "--data", str(inria), "--output", str(out), *arguments]) == 0
    text = (out / "convergence.md").read_text()
    assert text.count("\n| 0 |") == text.count("\n| 1 |") == 3
    assert "| rank correlation of accuracy and similarity, authors noise | 0.41 |" in text
    record = json.loads((out / "convergence.json").read_text())
    # The same network twice: the same figures.
    one, other = ({k: v for k, v in row.items() if k not in ("step", "epoch")} for row in record["rows"]["checkpoints"])
    assert one == other
    assert (out / "accuracy.png").exists() and (out / "similarity.png").exists()
    # A second run with another seed gives the same here, because the networks are the same.
    both = tmp_path / "both"
    assert main(["convergence-summary", str(out), str(out), "--output", str(both)]) == 0
    assert (
        "Rank correlation of accuracy and similarity in each run, paper noise"
        in (both / "convergence-summary.md").read_text()
    )
    assert (both / "accuracy.png").exists() and (both / "similarity.png").exists()
