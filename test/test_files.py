"""A text file is replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain_cnn_ros import files
from explain_cnn_ros.files import replace_text


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
