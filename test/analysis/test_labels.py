"""When there was a person, by a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.labels import FrameLabels, Label, Span, uncovered
from explain_cnn_ros.analysis.recording_labels import LabelsBySource, RecordingLabels

SECOND = 10**9


START = 1_700_000_000


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("start,end,person\r\n0,0.5,person\r\n", "utf-8-sig"),
        ("start;end;person\r\n0,0;0,5;person\r\n", "utf-8-sig"),
        ("start\tend\tperson\r\n0\t0.5\tperson\r\n", "utf-16"),
        ("start\tend\tperson\n0\t0,5\tperson\n", "utf-16-le"),
        ("start;end;person;note\n0;0.5;person;für Jürgen\n", "cp1252"),
        ("Start,END, Person\n0,0.5,Person\n", "utf-8"),
        ("start , end , person \n0 , 0.5 , person \n", "utf-8"),
        ("start,end,person,,\n0,0.5,person,,\n,,,,\n\n", "utf-8"),
        ('"start","end","person"\n"0","0.5","person"\n', "utf-8"),
        ("# made by hand\nstart,end,person\n# a comment\n0,0.5,TRUE\n", "utf-8"),
        ("start,end,person\n00:00:00,0:00.5,person\n", "utf-8"),
        ("start,end,person\n+0.0,5e-1,1\n", "utf-8"),
        ("sep=;\r\nstart;end;person\r\n0;0,5;person\r\n", "utf-8-sig"),
        ("note,start,end,person,frame\nfar,0,0.5,person,7\n", "utf-8"),
    ],
)
def test_forms_of_spreadsheets(tmp_path: Path, text: str, encoding: str) -> None:
    if encoding == "utf-16-le":
        text = "\ufeff" + text
    assert read_labels(write(tmp_path, text, encoding)) == [Label(0, 0.5, True)]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (f"{START}", f"{START}.5"),
        (f"{START * 10**3}", f"{START * 10**3 + 500}"),
        (f"{START * 10**6}", f"{START * 10**6 + 500_000}"),
        (f"{START * 10**9}", f"{START * 10**9 + 500_000_000}.0"),
        ("1.7e18", "1.7000000005e18"),
        ("2023-11-14T22:13:20", "2023-11-14 22:13:20.500"),
        ("2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20.500Z"),
    ],
)
def test_times_from_1970_in_any_unit(tmp_path: Path, start: str, end: str) -> None:
    assert read_labels(write(tmp_path, f"start,end,person\n{start},{end},1\n")) == [Label(START, START + 0.5, True)]


def test_a_copied_log_time_is_the_time_of_its_frame(tmp_path: Path) -> None:
    """To the nanosecond, as far as a frame's time can be told from another."""
    for time in (1_700_000_000_123_456_789, 1_699_999_999_999_999_871):
        (label,) = read_labels(write(tmp_path, f"start,end,person\n{time},{time + 10**6},1\n"))
        found = RecordingLabels([label], 0)
        assert found.at(time).person is True and found.at(time + 10**6).person is None


def test_labels_that_cover_nothing_are_named() -> None:
    spans = [Span("/data/front.mcap", START * SECOND, (START + 20) * SECOND), Span("/data/clip.avi", 0, 0)]
    fine = [
        Label(0, 5, True, "front"),
        Label(19, 30, True, "front"),
        Label(START + 20, START + 21, True, "front"),
        Label(float("-inf"), 3, True),
        Label(3, float("inf"), True),
        Label(float("-inf"), START + 1, True),
        Label(900, 1000, True, "clip"),
    ]
    assert uncovered(fine, spans) == []
    assert uncovered([Label(100, 200, True, "front"), Label(0, 1, False, "rear")], spans) == [
        "the label from 100 to 200 s covers no frame: the longest of the recordings ends after 20 s",
        "the label from 0 to 1 s covers no frame: 'rear' is no part of the path of any input",
    ]
    (late,) = uncovered([Label(START + 21, START + 22, True, "front")], spans)
    assert late.endswith("the recordings were made from 1700000000 to 1700000020 s, counted from 1970")
    assert uncovered([Label(0, 5, True, "/data/front.mcap")], [*spans, Span("/data/front.mcap.old", 0, 0)]) == []
    (short,) = uncovered([Label(30, 31, True, "/data/front.mcap")], [*spans, Span("/data/front.mcap.old", 0, 0)])
    assert short.endswith("the longest of the recordings ends after 20 s")
    assert uncovered([Label(30, 31, True, "front")] * 9, spans)[-1] == "4 further labels cover no frame either"


def test_words_and_open_ends(tmp_path: Path) -> None:
    text = "start, end, person, source\n0, 2.5, yes, front\n2.5,,Background,\n1700000000,1700000009,1,\n,3,y,\n"
    assert read_labels(write(tmp_path, text)) == [
        Label(0, 2.5, True, "front"),
        Label(2.5, float("inf"), False),
        Label(1_700_000_000, 1_700_000_009, True),
        Label(float("-inf"), 3, True),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start,end\n0,1\n", "no column person"),
        ("", "no column end, person, start"),
        ("start,end,person\n", "there are no labels in it, only the names of the columns"),
        (
            "start,end,person\n0,1,yes\na,2,yes\n",
            "line 3: start and end are 'a', '2': each must be a number of seconds",
        ),
        ("start,end,person\n# x\n\nnan,2,yes\n", "line 4: start and end are 'nan'"),
        ("start,end,person\n14.11.2023 22:13:20,15.11.2023,yes\n", "or 2026-05-31T14:05:00"),
        ("start,end,person\n5,1700000000,yes\n", r"start \(5\) is counted from the start of the recording, and end"),
        ("start,end,person\n3,1,yes\n", r"line 2: end \(1\) must lie after start \(3\)"),
        ("start,end,person\n0,1,maybe\n", "line 2: person is 'maybe': use person or background"),
        ("start,end,person\n0,5,1,5,person\n", "line 2: it has more cells than there are columns; .* decimal commas"),
        ("start,end,person,bag\n0,1,1,run1\n", "the column bag is not read, .* call it source"),
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
        return LabelsBySource(labels).of(source, start).at(start + round(seconds * SECOND)).person

    assert [at(t) for t in (0, 1.99, 2, 3.99, 4, 6.5, 7, 9.99, 10)] == [
        False, False, True, True, False, True, False, False, None,
    ]  # fmt: skip
    assert at(5, "rear.mcap") is True


class TestBoxes:
    """Labels of parts of a frame."""

    @pytest.mark.parametrize(
        ("text", "box"),
        [
            ("start,end,person,source,x,y,width,height\n0,1,1,,10,20,30,60\n", (10, 20, 30, 60)),
            ("start;end;person;x;y;width;height\n0;1;1;-2,5;0;30;60\n", (-2.5, 0, 30, 60)),
            ("height,width,y,x,person,end,start\n60,30,20,10,1,1,0\n", (10, 20, 30, 60)),
            ("start,end,person,x,y,width,height\n0,1,1,,,,\n", None),
            ("start,end,person,x,y,width,height\n0,1,1\n", None),
            ("start,end,person\n0,1,1\n", None),
        ],
    )
    def test_columns(self, tmp_path: Path, text: str, box: tuple[float, ...] | None) -> None:
        assert read_labels(write(tmp_path, text)) == [Label(0, 1, True, box=box)]

    @pytest.mark.parametrize(
        "values", ["10,20,30", "10,20,30,0", "10,20,-1,5", "0.5,0.5,0.1,0.3", "a,b,c,d", "nan,0,1,1", "0,0,inf,1"]
    )
    def test_malformed_boxes(self, tmp_path: Path, values: str) -> None:
        with pytest.raises(ValueError, match=r"labels.csv, line 2: x, y, width and height are .* numbers of pixels"):
            read_labels(write(tmp_path, f"start,end,person,x,y,width,height\n0,1,1,{values}\n"))

    @pytest.mark.parametrize(
        "names",
        [
            "xmin,ymin,xmax,ymax",
            "x1,y1,x2,y2",
            "left,top,right,bottom",
            "bbox_x,bbox_y,bbox_w,bbox_h",
            "cx,cy,w,h",
            "x_center,y_center,w,h",
            "min_x,min_y,max_x,max_y",
            "bbox,note,a,b",
        ],
    )
    def test_columns_that_others_call_differently(self, tmp_path: Path, names: str) -> None:
        with pytest.raises(
            ValueError, match=r"seem to be those of a box, but they are not read: give .* x, y, width, hei"
        ):
            read_labels(write(tmp_path, f"start,end,person,{names}\n0,1,1,1,2,3,4\n"))

    def test_a_column_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no column width, height: a box needs the columns x, y, width, height"):
            read_labels(write(tmp_path, "start,end,person,x,y\n0,1,1,3,4\n"))

    def test_of_a_frame(self) -> None:
        here, there = (1, 2, 3, 4), (9, 2, 3, 4)
        labels = [
            Label(0, 10, False),
            Label(0, 10, True, box=here),
            Label(5, 6, False, box=here),
            Label(5, 10, True, box=there),
            Label(0, 10, True, "rear", box=(0, 0, 1, 1)),
        ]

        def at(seconds: float) -> FrameLabels:
            return LabelsBySource(labels).of("front.mcap", 0).at(round(seconds * SECOND))

        assert at(1) == FrameLabels(False, (here,), ())
        assert at(5.5) == FrameLabels(False, (there,), (here,))
        assert at(7) == FrameLabels(False, (here, there), ())
        assert at(11) == FrameLabels()

    def test_decisions_that_do_not_count(self, tmp_path: Path) -> None:
        head = "start,end,person,x,y,width,height\n"
        assert read_labels(write(tmp_path, f"{head}0,1,ignore,1,2,3,4\n")) == [
            Label(0, 1, False, box=(1, 2, 3, 4), ignore=True)
        ]
        with pytest.raises(ValueError, match=r"person is 'ignore': .*; ignore is for boxes only"):
            read_labels(write(tmp_path, f"{head}0,1,ignore,,,,\n"))
        box = (1, 2, 3, 4)
        labels = [Label(0, 9, True, box=box), Label(5, 9, False, box=box, ignore=True)]
        found = RecordingLabels(labels, 0)
        assert found.at(1 * SECOND) == FrameLabels(None, (box,))
        assert found.at(6 * SECOND) == FrameLabels(None, (), (), (box,))

    @pytest.mark.parametrize(
        "label",
        [
            Label(0, 1, True),
            Label(float("-inf"), float("inf"), False, "front"),
            Label(0, 1, True, box=(1, 2, 3, 4)),
            Label(0, 1, False, box=(1, 2, 3, 4.5), ignore=True),
        ],
    )
    def test_there_and_back(self, label: Label) -> None:
        assert Label.from_dict(json.loads(json.dumps(label.to_dict()))) == label

    def test_are_plain_values_for_json(self) -> None:
        assert Label(0, 1, True, box=(1, 2, 3, 4)).to_dict()["box"] == [1, 2, 3, 4]
        assert Label(0, 1, True).to_dict() == {"start": 0, "end": 1, "person": True, "source": ""}
