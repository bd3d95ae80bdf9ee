from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import cv2
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOK = EXAMPLES / "explain_image.ipynb"


@pytest.fixture
def explain_image() -> ModuleType:
    spec = importlib.util.spec_from_file_location("explain_image", EXAMPLES / "explain_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quick(output: Path, *arguments: str) -> list[str]:
    few = ["--perturbations", "4", "--top-n", "2", "--draws", "2", "--person-height-min", "110"]
    return [*few, "--output", str(output), *arguments]


def pictures(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_script_explains_the_sample_by_influence(explain_image, tmp_path, capsys):
    assert explain_image.main(quick(tmp_path, "--preset", "live")) == 0
    printed = capsys.readouterr().out
    assert "Decision: person, P(person) = 1.0000 (threshold 0.90)" in printed
    assert "4 perturbations" in printed
    assert "Influence, supporting: these 14 neurons carry" in printed
    assert "Influence, opposing: without these 14 neurons the margin would be" in printed
    # Two supporting and two opposing neurons of each of the layers 3 to 9, each with a patch.
    neurons = [line for line in printed.splitlines() if line.startswith("  conv")]
    assert len(neurons) == 28
    assert all("(" in line for line in neurons)
    assert pictures(tmp_path) == {"overlay.png", "slide.png"}
    assert cv2.imread(str(tmp_path / "slide.png")).shape == (1080, 1920, 3)


def test_the_script_explains_a_photo_by_a_chosen_metric(explain_image, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    frame = explain_image.read_frame(explain_image.SAMPLE, 20)
    cv2.imwrite(str(photo), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    output = tmp_path / "output"
    arguments = [str(photo), "--preset", "paper", "--metric", "activation_sum"]
    assert explain_image.main(quick(output, *arguments)) == 0
    printed = capsys.readouterr().out
    assert "Neurons by activation sum (most active):" in printed
    assert len([line for line in printed.splitlines() if line.startswith("  conv")]) == 14
    assert pictures(output) == {"overlay.png", "sheet.png"}
    assert cv2.imread(str(output / "sheet.png")).shape == (1080, 1920, 3)


def test_the_script_explains_another_class(explain_image, tmp_path, capsys):
    """The classifier has two classes, so the margin of the background is minus that of the person."""
    arguments = ["--preset", "live", "--regions", "whole", "--layer-names", "conv3_*"]
    printed = {}
    for target in ("", "background"):
        assert explain_image.main(quick(tmp_path / f"of {target}", *arguments, "--target", target)) == 0
        printed[target] = capsys.readouterr().out
    assert "Decision: no person, P(person) = 0.0" in printed[""]
    assert "Decision: background, P(background) = 0.9" in printed["background"]
    assert "(threshold 0.50)" in printed["background"]
    margins = {
        target: float(
            text.partition(f"the margin of {target or 'person'} against all other classes, is ")[2].split(". ")[0]
        )
        for target, text in printed.items()
    }
    assert margins["background"] == -margins[""] > 0
    assert "It rises by these amounts" in printed[""] and "It falls by these amounts" in printed["background"]
    # The same neurons support "no person" and "background".
    for text in printed.values():
        assert {line.split()[0] for line in text.splitlines() if line.startswith("  conv")} == {
            "conv3_1",
            "conv3_2",
            "conv3_3",
        }
    assert pictures(tmp_path / "of background") == {"overlay.png", "slide.png"}


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["missing.jpg"], "missing.jpg cannot be read as an image"),
        (["--frame", "50"], "50 frames: give a --frame from 0 to 49"),
        (["--perturbations", "1"], "perturbations is 1: it must be 0, or at least 2"),
        (["--weights", "missing.safetensors"], "missing.safetensors"),
        (["--target", "forklift"], "target is 'forklift': there is no class 'forklift'"),
        (["--layer-names", "layer4.*"], "layer_names is 'layer4.*': no layer of vgg16"),
    ],
)
def test_the_script_names_the_cause_of_a_failure(explain_image, tmp_path, capsys, arguments, cause):
    assert explain_image.main(quick(tmp_path, *arguments)) == 1
    assert cause in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_notebook_has_no_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat

    # The kernel reads no settings of the user, and leaves no files in the user's folders.
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += "\nPRESET, PERTURBATIONS, TOP_N, DRAWS, PERSON_HEIGHT_MIN = 'live', 4, 2, 2, 110\n"
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": os.fspath(EXAMPLES)}}
    ).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert "person: P(person) = 1.0" in text or "person: P(person) = 0.99" in text
    assert "conv3_3 after 4 perturbations" in text
    assert "without random neurons (mean of 2 draws)" in text
    assert "influence, supporting: these 14 neurons carry" in text
    # The frame, the window, its patches, the overlay and the slide.
    assert len(shown) == 5
