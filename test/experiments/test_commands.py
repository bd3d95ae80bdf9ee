"""The commands: from data on disk to tables and figures, and what they say when something is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments import causal, commands, convergence, course, figures, regions, stability
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.cli import main, parser
from explain_cnn_ros.experiments.frames import frames_of
from explain_cnn_ros.experiments.made import Made, command_line

ROOT = Path(__file__).parents[2]
MADE = Made("experiments figure", "0123 (1 person, 1 background)", "4567")
SOME = Mean(0.5, 0.4, 0.7)


def causal_rows() -> list[causal.Row]:
    return [causal.Row(name, n, *[SOME] * 6) for name in causal.SELECTORS for n in (1, 5, 20)]


def stability_rows() -> list[stability.Row]:
    how = stability.Stability()
    return [
        stability.Row(preset, sigma, n, metric, Mean(0.9, 0.8, 1.0), 0.9)
        for preset, sigma, ns in stability.points(how)
        for n in ns
        for metric in ("activation_output_correlation", "activation_precision")
    ]


def convergence_rows() -> list[convergence.Row]:
    by_layer = {preset: dict.fromkeys((3, 4), SOME) for preset in convergence.NOISES}
    similarity = dict.fromkeys(convergence.NOISES, SOME)
    secondary = dict.fromkeys(convergence.SELECTORS, (0.7, 0.01))
    return [convergence.Row(step, step / 8, 0.9, secondary, similarity, by_layer) for step in (0, 1, 4, 8, 16)]


def region_rows() -> list[regions.Row]:
    return [regions.Row(method, *[SOME] * 5) for method in regions.METHODS]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: figures.accuracies(convergence_rows(), MADE, path),
        lambda path: figures.similarity(convergence_rows(), 0.02, MADE, path),
        lambda path: figures.stabilities(stability_rows(), 0.8, MADE, path),
        lambda path: figures.influences(causal_rows(), MADE, path),
        lambda path: figures.guide(causal_rows(), stability_rows(), 0.8, MADE, path),
        lambda path: figures.best_regions(region_rows(), MADE, path),
        lambda path: figures.matrix(["weight_sum", "LIME"], [[1, 0.5], [0.5, 1]], "agreement", MADE, path),
    ],
)
def test_figures_are_the_same_each_time(draw: Callable[[Path], None], tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / "new" / f"{name}.png")
    one, other = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in "ab")
    assert one == other
    image = cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) > 400 and image.std() > 10


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


def test_the_command_without_this_machines_folders() -> None:
    line = ["patches", "--data", "/home/me/inria", "--output", "/tmp/out", "--test", "60", "--preset", "paper"]
    assert command_line(parser().parse_args(line)) == "experiments patches --data inria --test 60"
    line = ["localization", "/home/me/a.png", "/home/me/street", "--frames", "3", "5", "--output", "/tmp/x.png"]
    assert command_line(parser().parse_args(line)) == "experiments localization a.png street --frames 3 5"


def test_the_guide_and_its_tables(
    quick_classifier: PersonClassifier,
    inria: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of one person and one background; the second time from what was kept, with the same tables and figures."""
    monkeypatch.setattr(causal, "Causal", partial(causal.Causal, top_ns=(1, 5), draws=1, layers=(2,)))
    small = partial(stability.Stability, presets=("stable",), ns=(10,), sigmas=(0.1,), layers=(2,))
    monkeypatch.setattr(stability, "Stability", small)
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
    assert set(record["rows"]) == {"all windows", "persons", "backgrounds", "agreement"}
    assert str(out / "causal") in capsys.readouterr().out


def test_weights_for_other_windows(
    vgg11_classifier: PersonClassifier, inria: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vgg11_classifier.save(tmp_path / "small.safetensors")
    arguments = ["--data", str(inria), "--output", str(tmp_path), "--weights", str(tmp_path / "small.safetensors")]
    assert main(["causal", *arguments]) == 1
    assert "are weights for windows of 32 x 64 pixels: the experiments need 64 x 128" in capsys.readouterr().err


def test_interrupted(inria: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "read_examples", interrupt)
    assert main(["causal", "--data", str(inria), "--output", str(inria)]) == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_frames_of_everything(tmp_path: Path, picture: Callable[..., NDArray[np.uint8]]) -> None:
    """Images, folders, videos and bags."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), picture(64, 48, i)[..., ::-1])
    ((name, image),) = frames_of(folder / "2.png", [0])
    assert name == "2.png" and np.array_equal(image, picture(64, 48, 2))
    found = list(frames_of(folder, [1, 3]))
    assert [name for name, _ in found] == ["frames, frame 1", "frames, frame 3"]
    assert np.array_equal(found[1][1], picture(64, 48, 3))
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for i in range(3):
        video.write(np.full((48, 64, 3), (0, 0, 60 + 60 * i), np.uint8))
    video.release()
    ((_, frame),) = frames_of(tmp_path / "v.avi", [2])
    assert np.abs(frame.astype(int) - (180, 0, 0)).max() < 12
    ((name, frame),) = frames_of(ROOT / "sample/street", [5])
    assert name == "street, frame 5" and frame.shape == (576, 768, 3)
    with pytest.raises(ValueError, match="frames has no frame 9"):
        list(frames_of(folder, [9]))


def test_convergence_from_its_networks_to_its_figures(
    quick_classifier: PersonClassifier, inria: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training itself is tested elsewhere."""
    path, out = tmp_path / "network.safetensors", tmp_path / "out"
    quick_classifier.save(path)
    networks = [course.Checkpoint(0, 0.0, path), course.Checkpoint(4, 1.0, path)]
    monkeypatch.setattr(course, "train_course", lambda *_: networks)
    monkeypatch.setattr(convergence, "Convergence", partial(convergence.Convergence, layers=(2,), top_n=2))
    arguments = ["--training", "1", "--test", "1", "--steps", "2", "--seeds", "2"]
    assert main(["convergence", "--data", str(inria), "--output", str(out), *arguments]) == 0
    text = (out / "convergence.md").read_text()
    assert text.count("\n| 0 |") == text.count("\n| 1 |") == 3
    assert "Rank correlation of the network's accuracy with the similarity, authors noise" in text
    record = json.loads((out / "convergence.json").read_text())
    # The same network twice: the same figures.
    one, other = ({k: v for k, v in row.items() if k not in ("step", "epoch")} for row in record["rows"])
    assert one == other
    assert (out / "accuracy.png").exists() and (out / "similarity.png").exists()
