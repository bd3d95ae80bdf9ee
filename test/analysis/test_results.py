"""How the results of an analysis are written."""

from __future__ import annotations

import pytest

from explain_cnn_ros.analysis import results


class CountedTable:
    """A table that counts how often its number of rows is read."""

    def __init__(self, rows: int) -> None:
        self.rows, self.asked = rows, 0

    @property
    def num_rows(self) -> int:
        self.asked += 1
        return self.rows


def test_tables_are_written_in_groups_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis without explanations has an empty table of neurons in each of its parts."""
    monkeypatch.setattr(results, "ROWS_TOGETHER", 10)
    tables = [CountedTable(rows) for rows in (0, 4, 0, 4, 4, 0, 12, 0, 3, 0)]
    groups = [[table.rows for table in group] for group in results._groups(tables)]
    assert groups == [[4, 4, 4], [12], [3]]
    assert [table.asked for table in tables] == [1] * len(tables)
    assert list(results._groups([CountedTable(0)] * 3)) == []
