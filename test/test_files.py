"""A file is replaced completely or not at all, links are not followed, texts show what they say, and JSON is JSON."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from explain_cnn_ros import files
from explain_cnn_ros.files import finite, json_text, reason, replace_text, replacing, require_folder, visible


def test_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep/table.md"
    replace_text(path, "one")
    replace_text(path, "two, \u00fc")
    assert path.read_text(encoding="utf-8") == "two, \u00fc"
    assert list(path.parent.iterdir()) == [path]

    def full(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="full"):
        replace_text(path, "three")
    assert path.read_text(encoding="utf-8") == "two, \u00fc"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("target", ["precious", "nothing"])
def test_links_are_not_followed(tmp_path: Path, target: str) -> None:
    """Neither one of the file's name nor one of the name that the new file has at first."""
    (tmp_path / "precious").write_text("precious")
    for name in ("page.html", "page.html.partial"):
        (tmp_path / name).symlink_to(tmp_path / target)
    replace_text(tmp_path / "page.html", "page")
    assert (tmp_path / "page.html").read_text() == "page"
    assert (tmp_path / "precious").read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "precious"]


def test_what_is_left_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt.partial").write_text("a long rest")
    replace_text(tmp_path / "a.txt", "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "new")]


def test_an_interruption_leaves_no_rest(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "a.bin") as partial:
            partial.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "new/deep", Path("new"), Path()):
        require_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for place in ("file", "file/deep/er"):
        with pytest.raises(NotADirectoryError, match=r"file is a file: give a folder"):
            require_folder(tmp_path / place)
    for place in ("dangling", "dangling/deep"):
        with pytest.raises(FileNotFoundError, match="dangling is a link to a place that does not exist"):
            require_folder(tmp_path / place)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written: permission denied"):
        require_folder(tmp_path / "new")


def test_reasons_have_no_numbers() -> None:
    assert reason(FileNotFoundError(2, "No such file", "a\u202eb")) == "a\\u202eb: No such file"
    assert reason(OSError(28, "No space left")) == "No space left"
    assert reason(OSError("lost")) == "lost"


def test_texts_show_what_they_say() -> None:
    """Names of other scripts stay as they are."""
    assert visible("walk\u202egpj.exe \x1b[2J \x85 \u2066") == "walk\\u202egpj.exe \\u001b[2J \\u0085 \\u2066"
    plain = "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u65e5\u672c fr\u00fch\n\tx \U0001f600"
    assert visible(plain) == plain


def test_json_has_no_numbers_that_json_does_not_have() -> None:
    value = {1: [math.nan, 0.5, (math.inf, -math.inf)], "text": "NaN", "none": None, "flag": True}
    text = json_text(value, separators=(",", ":"))
    assert text == '{"1":[null,0.5,[null,null]],"text":"NaN","none":null,"flag":true}'
    assert json.loads(text) == finite(value)
    assert json_text({1: [0.5]}) == '{"1": [0.5]}'
