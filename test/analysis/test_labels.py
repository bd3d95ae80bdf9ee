"""When there was a person, by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain_cnn_ros.analysis.labels import Label, label_of, read_labels

SECOND = 10**9


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_words_and_open_ends(tmp_path: Path) -> None:
    text = "start, end, person, source\n0, 2.5, yes, front\n2.5,,Background,\n1700000000,1700000009,1,\n"
    assert read_labels(write(tmp_path, text)) == [
        Label(0, 2.5, True, "front"),
        Label(2.5, float("inf"), False),
        Label(1_700_000_000, 1_700_000_009, True),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start,end\n0,1\n", "no column person"),
        ("", "no column end, person, start"),
        ("start,end,person\n0,1,yes\na,2,yes\n", "line 3: start and end are seconds, not 'a', '2'"),
        ("start,end,person\n3,1,yes\n", r"line 2: end \(1\) must lie after start \(3\)"),
        ("start,end,person\n0,1,maybe\n", "line 2: person is 'maybe': use person or background"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_labels(write(tmp_path, text))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the labels cannot be read: .*No such file"):
        read_labels(tmp_path / "none.csv")


def test_the_last_one_that_covers_a_frame_counts() -> None:
    start = 1_700_000_000 * SECOND
    labels = [
        Label(0, 10, False),
        Label(2, 4, True),
        Label(1_700_000_006, 1_700_000_007, True),
        Label(0, 99, True, "rear"),
    ]

    def at(seconds: float, source: str = "front.mcap") -> bool | None:
        return label_of(labels, source, start + round(seconds * SECOND), start)

    assert [at(t) for t in (0, 1.99, 2, 3.99, 4, 6.5, 7, 9.99, 10)] == [
        False, False, True, True, False, True, False, False, None,
    ]  # fmt: skip
    assert at(5, "rear.mcap") is True
