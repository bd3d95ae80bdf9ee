"""The output folders of the tools. Files that do not belong to a tool are not deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.folders import begin_anew


def test_a_folder_is_created_and_the_output_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "output"
    for _ in range(2):
        begin_anew(folder, "node.log")
        assert not any(folder.iterdir())
        (folder / "node.log").touch()
        (folder / "picture.png").touch()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    begin_anew(tmp_path, "node.log")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_anything_else_is_left_alone(kind: str, tmp_path: Path) -> None:
    mine = tmp_path / "photos" / "me.jpg"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(FileExistsError, match="is not the output of an earlier run: name another folder"):
        begin_anew(mine.parent if kind == "folder" else mine, "node.log")
    assert mine.exists()
