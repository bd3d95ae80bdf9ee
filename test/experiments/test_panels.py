"""Figure 4: the boxes that are drawn are the patches of the explanation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from explain_cnn_ros.draw.canvas import line_height
from explain_cnn_ros.draw.style import layer_style, layer_styles
from explain_cnn_ros.experiments.cli import main
from explain_cnn_ros.experiments.panels import GAP, HEIGHT, TEXT_SIZE, WIDTH_MAX, panels, stacked
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.windows import Region
from explain_cnn_ros.scan.classifier import PersonClassifier


def test_a_panel_a_metric_with_its_boxes(
    thin_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    settings = ExplainSettings(perturbations=4, layers=(3,), metrics=("activation_sum", "activation_variance"), top_n=1)
    frame = picture(200, 150)
    explanation = Explainer(thin_classifier, settings).explain(frame, Region(20, 10, 64, 128, 0.0))
    drawn = panels(frame, explanation)
    width = HEIGHT // 2
    assert drawn.shape[1] == 3 * width + 2 * GAP
    for i, metric in enumerate([None, *settings.metrics]):
        panel = drawn[-HEIGHT:, i * (width + GAP) : i * (width + GAP) + width]
        coloured = (panel == layer_style(3).colour).all(2)
        if metric is None:
            plain = panel
            assert not coloured.any()
            continue
        (neuron,) = explanation.ranking(metric, 3)
        patch = neuron.patch
        assert patch is not None
        rows, columns = np.nonzero(coloured)
        # Three pixels of the panel to one of the window; lines lie around the box.
        box = [3 * v for v in (patch.x - 20, patch.y - 10, patch.x - 20 + patch.width, patch.y - 10 + patch.height)]
        limits = [max(0, box[0] - 1), max(0, box[1] - 1), min(width - 1, box[2]), min(HEIGHT - 1, box[3])]
        assert [columns.min(), rows.min(), columns.max(), rows.max()] == limits
        assert np.array_equal(panel[~coloured], plain[~coloured])


def test_the_colours_of_other_networks(
    residual_classifier: PersonClassifier, picture: Callable[..., NDArray[np.uint8]]
) -> None:
    """Layers have the colours of their rank, and a legend below the panels names them."""
    settings = ExplainSettings(perturbations=4, layer_names="stem.0,second", metrics=("activation_sum",), top_n=1)
    frame = picture(40, 32)
    explanation = Explainer(residual_classifier, settings).explain(frame)
    drawn = panels(frame, explanation)
    styles = layer_styles({1: "stem.0", 3: "second"})
    colours = [layer_style(layer, styles).colour for layer in (1, 3)]
    assert colours[0] != layer_style(1).colour and colours[0] != colours[1]
    width = round(HEIGHT * 40 / 32)
    legend = drawn[-GAP - line_height(TEXT_SIZE) :]
    for layer, colour in zip((1, 3), colours, strict=True):
        (neuron,) = explanation.ranking("activation_sum", layer)
        assert neuron.patch is not None
        assert (drawn[: -len(legend), width + GAP :] == colour).all(2).any()
        assert (legend == colour).all(2).any()
    assert drawn.shape[1] == 2 * width + GAP


def test_rows_of_different_width_stand_below_each_other() -> None:
    rows = [np.full((40, w, 3), 200, np.uint8) for w in (300, 500)]
    figure = stacked(rows, ["one", "two"])
    assert figure.shape[1] == 500 + 2 * GAP
    assert (figure == 200).all(2).sum() == 40 * 800


def test_the_command(
    tmp_path: Path,
    thin_classifier: PersonClassifier,
    picture: Callable[..., NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(PersonClassifier, "load", lambda *_: thin_classifier)
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), picture(100, 130)[..., ::-1])
    out = tmp_path / "figures" / "out.png"
    assert main(["localization", str(image), "--output", str(out), "--regions", "whole", "--preset", "stable"]) == 0
    # A window and eight panels, 499 pixels wide each, are shown smaller.
    assert cv2.imread(str(out)).shape[1] == WIDTH_MAX
    (tmp_path / "broken.png").write_bytes(b"nothing")
    assert main(["localization", str(tmp_path / "broken.png"), "--output", str(out)]) == 1
    assert "broken.png cannot be read as an image" in capsys.readouterr().err
