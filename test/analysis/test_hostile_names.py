"""Names that want to do something: as text on the terminal, in pages and in tables, of recordings, images, labels,
classes and causes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from explain_cnn_ros.analysis import cli
from explain_cnn_ros.analysis.causes.cli import main as causes
from explain_cnn_ros.analysis.compare import main as compare
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.files import MISLEADING
from explain_cnn_ros.model.weights_file import write_weights

#: Markup that runs a script, a formula of spreadsheets, an escape sequence of terminals, a new line that looks like a
#: message of the command, and a change of the direction of writing. File names have no slash.
HOSTILE = '=1+cmd|"<img src=x onerror=alert(1)>\x1b[2J\x1b]0;title\x07\u202egpj'

#: The same where a text may have a slash and a new line.
MORE = HOSTILE + "</script><script>alert(2)</script>\r\nanalyze: all decisions are right"


@pytest.fixture(scope="module")
def weights(studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose metadata have hostile names of classes, and a hostile source."""
    path = Path(tmp_path_factory.mktemp("hostile") / "weights.safetensors")
    info = dataclasses.replace(
        studio.classifier.info,
        classes=(MORE, f"person {HOSTILE}"),
        person=(f"person {HOSTILE}",),
        training_data=MORE,
        command=MORE,
    )
    write_weights(studio.classifier.network, info, path)
    return path


@pytest.fixture(scope="module")
def analysed(studio, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analysis of a folder of images, some of them not decodable, with labels of the folder."""
    root = tmp_path_factory.mktemp("analysis")
    folder = root / HOSTILE
    folder.mkdir()
    for i in range(12):
        data = studio.jpeg(i)
        (folder / f"{i:02d} {HOSTILE}.jpg").write_bytes(data[:500] if i == 5 else data)
    bag = studio.record(root / f"bag {HOSTILE}", [studio.jpeg(i) for i in range(18)])
    output = root / f"out {HOSTILE}"
    labels = [Label(0, 0.75, True), Label(0.75, 1.2, False), Label(1.2, 1.5, True), Label(1.5, 9, False)]
    explain = ExplainSettings.preset("live", layers=(3, 5), top_n=3, proof="none")
    assert studio.analyse(output, folder, bag, labels=labels, weights=weights, explain=explain).complete
    return output


def harmless(printed: str) -> None:
    """A terminal shows the text and does nothing else, except that the line of the progress is drawn again."""
    printed = re.sub(r"\r(?= *\d+%\|)", "", printed)
    assert MISLEADING.findall(printed) == [], ascii(printed)


def page_is_harmless(page: str) -> None:
    """The page has its own elements only, and no character that misleads."""
    assert MISLEADING.findall(page) == []
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img src=x" not in page
    assert "alert(1)>" in page, "the name is there"
    assert "default-src 'none'" in re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[0]


def test_the_report(analysed: Path) -> None:
    page_is_harmless((analysed / "report.html").read_text(encoding="utf-8"))


def test_tables_have_the_names_as_they_are(studio, analysed: Path) -> None:
    """Parquet has types: a text is no formula. Names can be compared with those of the files."""
    rows = studio.rows(analysed)
    assert {row["source"].rpartition("/")[2] for row in rows} == {HOSTILE, f"bag {HOSTILE}"}
    assert rows[0]["topic"] == f"00 {HOSTILE}.jpg"
    assert sum(row["error"] is not None for row in rows) == 1


def test_the_comparison(analysed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / f"{HOSTILE}.html"
    assert compare([str(analysed), str(analysed), "--output", str(page)]) == 0
    harmless("".join(capsys.readouterr()))
    page_is_harmless(page.read_text(encoding="utf-8"))
    assert compare([str(tmp_path / f"none {HOSTILE}"), str(analysed), "--output", str(page)]) == 1
    harmless("".join(capsys.readouterr()))


def test_the_causes(analysed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert causes([str(analysed)]) == 0
    assert capsys.readouterr().out
    assert causes([str(analysed), "--name", f"1={HOSTILE}"]) == 0
    harmless("".join(capsys.readouterr()))
    page_is_harmless((analysed / "report.html").read_text(encoding="utf-8"))
    for wrong in (f"9={HOSTILE}", HOSTILE, f"1={MORE}"):
        causes([str(analysed), "--name", wrong])
        harmless("".join(capsys.readouterr()))
    assert causes([f"{analysed} {HOSTILE}"]) == 1
    harmless("".join(capsys.readouterr()))


def test_the_command(studio, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its progress, results, problems and errors."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    (folder / f"{HOSTILE}.jpg").write_bytes(studio.jpeg(0))
    (folder / f"{HOSTILE}.png").write_bytes(b"no image")
    labels = tmp_path / f"{HOSTILE}.csv"
    labels.write_text(f'source,start,end,person\n"no {MORE}",0,1,{HOSTILE!r}\n', encoding="utf-8", newline="")
    output = tmp_path / f"out {HOSTILE}"
    flags = ["--weights", weights, "--device", "cpu", *studio.QUICK_FLAGS, "--output", output]

    def run(*arguments: Any) -> int:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:  # wrong arguments
            status = int(end.code or 0)
        harmless("".join(capsys.readouterr()))
        return status

    assert run(folder, folder, *flags) == 3, "one image could not be analysed"
    assert run(folder, *flags, "--resume") == 3
    assert run(tmp_path / f"none {HOSTILE}", *flags) != 0
    assert run(folder, *flags, "--labels", labels) != 0
    assert run(folder, "--weights", tmp_path / HOSTILE, "--output", tmp_path / "new") != 0
