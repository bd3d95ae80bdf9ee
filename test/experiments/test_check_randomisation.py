"""The command of the randomisation check, and the images that it reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from explain_cnn_ros.experiments.check_randomisation import main, read_images
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_command_without_an_image(vgg11_classifier, tmp_path: Path, capsys) -> None:
    weights, output = tmp_path / "weights.safetensors", tmp_path / "figures.json"
    vgg11_classifier.save(weights)
    arguments = ["--weights", str(weights), "--device", "cpu", "--output", str(output)]
    assert main([str(tmp_path / "none.png"), *arguments]) == 1
    assert "none.png is no image" in capsys.readouterr().err


def test_command_writes_figures(thin_classifier, picture, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(PersonClassifier, "load", lambda *_: thin_classifier)
    cv2.imwrite(str(tmp_path / "image.png"), picture(40, 60))
    assert main([str(tmp_path / "image.png"), "--output", str(tmp_path / "figures.json"), "--top-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith(
        "| random from the top to | influence | counter influence | activation output correlation"
    )
    assert lines[4].startswith("| `dense` |")
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["images"] == 1
    assert len(record["changes"]) == 14 * 8


def test_images_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((5, 6, 3), np.uint8)
    red[..., 2] = 255
    cv2.imwrite(str(tmp_path / "b.png"), red)
    cv2.imwrite(str(tmp_path / "a.png"), red[:3])
    (tmp_path / "notes.txt").write_text("no image")
    images = read_images([tmp_path])
    assert [image.shape for image in images] == [(3, 6, 3), (5, 6, 3)]
    assert images[0][0, 0].tolist() == [255, 0, 0]
    with pytest.raises(ValueError, match="no images in"):
        read_images([])
