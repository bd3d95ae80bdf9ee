"""The command `repair` from an analysis to the proof, on a small network and drawn data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from training_kit import draw_data, same_tensors

from explain_cnn_ros.analysis.causes.cli import main as causes
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.manifest import MANIFEST
from explain_cnn_ros.analysis.pages import page_data
from explain_cnn_ros.analysis.repair import repair as module
from explain_cnn_ros.analysis.repair import training
from explain_cnn_ros.analysis.repair.cli import main
from explain_cnn_ros.analysis.repair.shares import SHARES, TriedShare, best_share
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training import trainer

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

INFLUENCE = ExplainSettings.preset("live", layers=(3, 5), top_n=3, proof="none")
LABELS = (Label(0, 0.75, True), Label(0.75, 1.2, False), Label(1.2, 1.5, True), Label(1.5, 9, False))
STEPS = ("--steps", "4", "--held-out", "0.4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("data")
    draw_data(root)
    return ["--inria", str(root / "inria"), "--background", str(root / "background")]


@pytest.fixture(scope="module")
def slow_bag(studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen frames, one each ten seconds, so that the gap of the split leaves none out."""
    frames = [("/camera/image/compressed", 10 * i * 10**9, studio.jpeg(i)) for i in range(18)]
    return Path(studio.record(tmp_path_factory.mktemp("bags") / "slow", [], others=frames))


@pytest.fixture(scope="module")
def analysed(studio, slow_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("repair") / "out"
    labels = tuple(Label(100 * label.start, 100 * label.end, label.person) for label in LABELS)
    settings: dict[str, Any] = {"explain": INFLUENCE, "explain_every": 0, "explain_wrong": False}
    assert studio.analyse(output, slow_bag, labels=labels, **settings).complete
    return output


def command(studio, analysed: Path, output: Path, *more: str) -> list[str]:
    return [str(analysed), "--output", str(output), "--weights", str(studio.weights), "--device", "cpu", *STEPS, *more]


@pytest.fixture(scope="module")
def repaired(studio, analysed: Path, data: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    output = tmp_path_factory.mktemp("repaired") / "out"
    more = [*data, "--silence", "1", "--unseen", str(analysed)]
    return output, main(command(studio, analysed, output, *more))


def result(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "repair.json").read_text())
    return found


def test_both_cures_are_proved(studio, analysed: Path, repaired: tuple[Path, int]) -> None:
    output, status = repaired
    found = result(output)
    rows = studio.rows(analysed, "regions")
    total = sum(sum(found[side].values()) for side in ("training_windows", "held_out_windows"))
    assert total == sum(row["label"] is not None for row in rows)
    assert [cure["name"] for cure in found["cures"]] == ["training", "silencing"]
    useless = False
    for cure in found["cures"]:
        # The oracle reads the weights that were written, and decides the windows of the analysis again.
        network = PersonClassifier.load(output / cure["weights"], "cpu")
        assert len(cure["windows"]) == sum(found["held_out_windows"].values())
        fixed = broken = wrong = 0
        for one in cure["windows"]:
            row = next(r for r in rows if r["frame"] == one["frame"])
            jpeg = np.frombuffer(studio.jpeg(one["frame"]), np.uint8)
            image = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
            window = studio.classifier.resize(image)[None]
            assert one["before"] == pytest.approx(row["probability"], abs=1e-5)
            assert one["after"] == pytest.approx(float(network.probability(window)[0]), abs=1e-5)
            right = (one["after"] >= network.threshold) == one["person"]
            wrong += row["wrong"]
            fixed += row["wrong"] and right
            broken += not row["wrong"] and not right
        held_out = cure["held_out"]
        assert (held_out["fixed"]["count"], held_out["fixed"]["of"]) == (fixed, wrong)
        assert (held_out["broken"]["count"], held_out["broken"]["of"]) == (broken, len(cure["windows"]) - wrong)
        assert cure["harms"] == (broken > fixed)
        assert held_out["p_value"] == pytest.approx(binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1)
        assert cure["verdict"].startswith("THE ") == cure["harms"]
        useless |= cure["harms"] or not fixed
        assert set(cure["old"]) == set(found["old"])
        # The recordings were analysed again: its windows are the same, and so are the decisions.
        again = {row["frame"]: row for row in studio.rows(output / f"analysis_after_{cure['name']}", "regions")}
        alarms = sum(again[one["frame"]]["wrong"] and not one["person"] for one in cure["windows"])
        missed = sum(again[one["frame"]]["wrong"] and one["person"] for one in cure["windows"])
        assert (cure["frames"]["false_alarms"], cure["frames"]["missed"]) == (alarms, missed)
        # All windows of the other analysis count, not only those that are held out.
        (unseen,) = cure["unseen"].values()
        assert unseen["fixed"]["of"] + unseen["broken"]["of"] == total
    assert status == (4 if useless else 0)


def test_the_training_has_learned_from_the_first_part_only(repaired: tuple[Path, int]) -> None:
    output, _ = repaired
    found = result(output)
    files = [int(path.name.split("-")[1]) for path in (output / "windows").glob("*/*.png")]
    assert len(files) == sum(found["training_windows"].values()) > 0
    assert max(files) < min(one["frame"] for one in found["cures"][0]["windows"])
    trained = PersonClassifier.load(output / "training.safetensors", "cpu")
    share = found["trained_share"]
    assert trained.info.command.endswith(f"repair --steps 4 --own-share 0.3 --seed 0 --trained-share {share:g}")
    persons = len(list((output / "windows/person").iterdir()))
    assert f"Own windows: {persons} persons, {len(files) - persons} backgrounds" in trained.info.training_data


def test_the_best_share_of_the_training_is_taken(
    studio, analysed: Path, data: list[str], repaired: tuple[Path, int], tmp_path: Path
) -> None:
    """Each weight is the weighted mean of its values before and after the training. A share of 1 gives the latter."""
    output, _ = repaired
    found = result(output)
    assert [one["share"] for one in found["shares"]] == list(SHARES)
    assert found["trained_share"] == best_share([TriedShare(**one) for one in found["shares"]])
    # Two drawn persons and two drawn backgrounds are held out. One of each is used for the proof.
    assert (found["old"]["persons"], found["old"]["backgrounds"]) == (1, 1)
    files = []
    for share in ("1", "0.5"):
        main(command(studio, analysed, tmp_path / share, *data, "--no-again", "--trained-share", share))
        assert result(tmp_path / share)["trained_share"] == float(share)
        assert result(tmp_path / share)["shares"] == []
        files.append(PersonClassifier.load(tmp_path / share / "training.safetensors", "cpu").network.state_dict())
    whole, half = files
    before = PersonClassifier.load(studio.weights, "cpu").network.state_dict()
    for name, value in half.items():
        # The weights are stored in half precision.
        torch.testing.assert_close(value, (before[name] + whole[name]) / 2, rtol=2e-3, atol=1e-4)


def test_recordings_that_are_gone_are_named(
    studio, slow_bag: Path, data: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The windows of an earlier run are still in the output, but the recording is not there any more."""
    bag = Path(shutil.copytree(slow_bag, tmp_path / "bag"))
    labels = tuple(Label(100 * label.start, 100 * label.end, label.person) for label in LABELS)
    settings: dict[str, Any] = {"explain": INFLUENCE, "explain_every": 0, "explain_wrong": False}
    assert studio.analyse(tmp_path / "analysed", bag, labels=labels, **settings).complete
    arguments = command(studio, tmp_path / "analysed", tmp_path / "out", *data, "--no-again")
    assert main(arguments) in (0, 4)
    shutil.rmtree(bag)
    capsys.readouterr()
    assert main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("repair: the recordings that the network has to learn from cannot be read: put them")
    assert str(bag) in error


def test_an_interrupted_repair_goes_on(
    studio, analysed: Path, data: list[str], repaired: tuple[Path, int], tmp_path: Path, monkeypatch, capsys
) -> None:
    output, _ = repaired
    arguments = command(studio, analysed, tmp_path / "out", *data, "--no-again")
    original = trainer.prepared

    def interrupted(*args, **kwargs):
        for step, batch in original(*args, **kwargs):
            if step == 3:
                raise KeyboardInterrupt
            yield step, batch

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_EVERY", 2)
        patch.setattr(trainer, "prepared", interrupted)
        assert main(arguments) == 130
        assert "start the same command again" in capsys.readouterr().err
        patch.setattr(trainer, "prepared", original)
        assert main(arguments) in (0, 4)
        assert "continuing from step 2" in capsys.readouterr().err
    (phase,) = (phase for phase in result(tmp_path / "out")["phases"] if phase["name"] == "training")
    assert phase["continued"]
    one, other = (PersonClassifier.load(f / "training.safetensors", "cpu") for f in (output, tmp_path / "out"))
    assert same_tensors(one.network, other.network)


def test_other_windows_do_not_continue_a_training(
    studio, analysed: Path, data: list[str], repaired: tuple[Path, int], tmp_path: Path, capsys
) -> None:
    """With a larger --held-out, the network would be proved on windows that it has learned from."""
    output = shutil.copytree(repaired[0], tmp_path / "out")
    before = {path.name for path in (output / "windows").glob("*/*.png")}
    assert main(command(studio, analysed, output, *data, "--no-again", "--held-out", "0.7")) == 1
    assert "belongs to a training with other settings: give the same settings" in capsys.readouterr().err
    assert {path.name for path in (output / "windows").glob("*/*.png")} < before


def test_silencing_needs_no_data(studio, analysed: Path, repaired: tuple[Path, int], tmp_path: Path, capsys) -> None:
    status = main(command(studio, analysed, tmp_path / "out", "--silence", "1", "--no-again"))
    assert status in (0, 4)
    (cure,) = result(tmp_path / "out")["cures"]
    before = result(repaired[0])["cures"][1]
    assert {name: cure[name] for name in ("held_out", "windows", "verdict")} == {
        name: before[name] for name in ("held_out", "windows", "verdict")
    }
    assert cure["frames"] is None
    assert cure["old"] == {}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == cure["verdict"]
    assert any(line.endswith("silencing.safetensors") for line in lines)
    assert lines[-2].startswith("time: ")
    assert lines[-1] == f"page: {tmp_path / 'out' / 'repair.html'}"


def test_the_time_and_the_training_are_recorded(repaired: tuple[Path, int]) -> None:
    found = result(repaired[0])
    names = [phase["name"] for phase in found["phases"]]
    assert names[:5] == [
        "writing the windows for the training",
        "reading the old data",
        "training",
        "choosing the share of the training",
        "deciding the old data, before the repair",
    ]
    assert names.count("analysing the recordings, after the silencing") == 1
    assert all(phase["seconds"] > 0 and not phase["continued"] for phase in found["phases"])
    assert [point["step"] for point in found["history"]] == [4]
    assert found["settings"]["steps"] == 4 and found["settings"]["silence"] == [1]
    assert found["model"] != found["cures"][0]["model"] != found["cures"][1]["model"]


def test_the_page_is_written_again_with_names(
    studio, analysed: Path, repaired: tuple[Path, int], tmp_path, capsys
) -> None:
    named, output = tmp_path / "named", tmp_path / "out"
    shutil.copytree(analysed, named)
    output.mkdir()
    shutil.copy(repaired[0] / "repair.json", output)
    before = page_data((repaired[0] / "repair.html").read_text())
    assert causes([str(named), "--name", "1=lamp posts"]) == 0
    assert main([str(named), "--output", str(output), "--page"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"page: {output / 'repair.html'}"
    after = page_data((output / "repair.html").read_text())
    assert (before["causes"][0]["name"], after["causes"][0]["name"]) == ("", "lamp posts")
    assert after["pictures"] == before["pictures"] != []
    assert after["cures"] == before["cures"]
    assert [path.name for path in sorted(output.iterdir())] == ["repair.html", "repair.json"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"cures": []}', '{"cures": [{"windows": []}]}', '{"cures": [{}]}'])
def test_a_page_without_a_record(analysed: Path, tmp_path: Path, capsys, text: str | None) -> None:
    if text is not None:
        (tmp_path / "repair.json").write_text(text)
    assert main([str(analysed), "--output", str(tmp_path), "--page"]) == 1
    assert "give the --output of a finished repair" in capsys.readouterr().err


def test_a_record_of_another_analysis(analysed: Path, repaired: tuple[Path, int], tmp_path: Path, capsys) -> None:
    record = result(repaired[0])
    record["settings"]["silence"] = [99]
    (tmp_path / "repair.json").write_text(json.dumps(record))
    assert main([str(analysed), "--output", str(tmp_path), "--page"]) == 1
    assert "give the analysis that was repaired" in capsys.readouterr().err


def test_neurons_that_the_weights_cannot_silence(studio, analysed: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    def refuses(*args: object) -> None:
        raise ValueError("its activation function (softplus) is not 0 for an input of 0")

    monkeypatch.setattr(module, "damped", refuses)
    assert main(command(studio, analysed, tmp_path / "out", "--silence", "1")) == 1
    assert "repair: --silence: its activation function (softplus) is not 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "nothing to do: give --inria for a training, --silence"),
        (["--silence", "99"], "--silence 99: there are causes 1 to"),
        (["--silence", "1", "--unseen", "nowhere"], "nowhere: no analysis there"),
        (["--silence", "1", "--held-out", "0.99"], "the part to learn from has no wrong decision"),
        (["--inria", "nowhere"], "no INRIA person data under nowhere"),
    ],
)
def test_a_repair_that_is_not_possible(studio, analysed: Path, tmp_path: Path, capsys, more, reason) -> None:
    assert main(command(studio, analysed, tmp_path / "out", *more)) == 1
    assert f"repair: {reason}" in capsys.readouterr().err


def test_other_weights_are_refused(studio, analysed: Path, tmp_path: Path, capsys) -> None:
    assert main([str(analysed), "--output", str(tmp_path / "out"), "--silence", "1", "--device", "cpu"]) == 1
    assert "give the weights of the analysis" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["labels", "settings", "folder"])
def test_an_analysis_that_does_not_suit(studio, analysed: Path, tmp_path: Path, capsys, change: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(analysed, copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    if change == "labels":
        (copy / "regions.parquet").unlink()
        reason = "regions.parquet cannot be read"
    elif change == "settings":
        manifest["settings"]["future"] = 3
        (copy / MANIFEST).write_text(json.dumps(manifest))
        reason = "the settings are those of another version"
    else:
        copy = tmp_path / "empty"
        copy.mkdir()
        reason = "no analysis there"
    assert main(command(studio, copy, tmp_path / "out", "--silence", "1")) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--held-out", "1"],
        ["--damping", "2"],
        ["--own-share", "0"],
        ["--trained-share", "nan"],
        ["--steps", "0"],
        ["--seed", "-1"],
    ],
)
def test_arguments_out_of_range(studio, analysed: Path, tmp_path: Path, capsys, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command(studio, analysed, tmp_path / "out", "--silence", "1", *wrong))
    assert ended.value.code == 2
    assert f"{wrong[0]} is out of range" in capsys.readouterr().err
