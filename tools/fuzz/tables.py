"""Tables and files of results that the package reads back: labels, boxes, annotations, manifests, caches and pages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explain_cnn_ros.analysis.compare import CompareError, compare
from explain_cnn_ros.analysis.finished import ResultsError, read_results, read_table
from explain_cnn_ros.analysis.label_file import read_labels
from explain_cnn_ros.analysis.manifest import MANIFEST, _check_results, read_manifest
from explain_cnn_ros.analysis.pages import page_data, render
from explain_cnn_ros.analysis.parts import PartStore
from explain_cnn_ros.analysis.review.labels_writer import LabelsWriter
from explain_cnn_ros.analysis.review.stored import stored_pictures
from explain_cnn_ros.analysis.review.windows import ReviewError
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.analysis.tables import COLUMNS, schema
from explain_cnn_ros.experiments.layouts import read_pascal, read_sources
from explain_cnn_ros.experiments.results_cache import read as read_cache
from tools.fuzz.kind import Kind, refused
from tools.fuzz.mutation import Mutation

_LABELS = (
    "start,end,person\n0,2.5,person\n2.5,1:02:03.5,background\n",
    "start;end;person;source\n0,5;2,5;1;street\n1700000000;1700000001;no;\n",
    "# a note\nsource\tstart\tend\tperson\tx\ty\twidth\theight\nstreet\t0\t5\tignore\t1\t2\t30\t60\n\t\t\tyes\n",
    "start,end,person\n2026-05-31T14:05:00,2026-05-31T14:06:00Z,yes\n1700000000000000000,1700000001000000000,0\n",
)

_BOXES = (
    "image,x,y,width,height,photo\na.png,1,2,30,60,one\nb.png,,,,,\n",
    "\ufeffimage,x,y,width,height\na.png,1,2,3,4\n",
)

_PASCAL = (
    'Objects with ground truth : 2 { "PASperson" "PASperson" }\n'
    'Bounding box for object 1 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (250, 151) - (299, 294)\n'
    'Bounding box for object 2 "PASperson" (Xmin, Ymin) - (Xmax, Ymax) : (1, 2) - (3, 4)\n',
)


def _encoded(texts: Sequence[str]) -> tuple[bytes, ...]:
    utf_16 = texts[0].encode("utf-16")
    return (*(text.encode() for text in texts), *([utf_16] if texts is _LABELS else []))


def _harmful_table() -> tuple[bytes, ...]:
    head = "start,end,person,source,image,x,y,width,height\n"
    texts = [
        head + "a" * 200_000 + "\n",
        head + '"' + "a" * 200_000,
        head + "0,1,person," + "a" * 4000 + "," + "b" * 4000 + ",1,2,3,4\n",
        head + "0,1," + "a" * 50_000 + ",,,,,,\n",
        head + "9" * 5000 + ":1:1,1,1,,,,,,\n",
        head + "1e999999999,1e9999999999999,1,,,,,,\n",
        head + "0,1,1,a\0b,a\0b,1,2,3,4\n",
        head + "0,1,1,,../../etc/passwd,nan,inf,-1,1e308\n",
        head + "0001-01-01,9999-12-31T23:59:60,1,,,,,,\n",
        head + "0,1,1,,,1,2,3,4\n" * 3000,
        "," * 100_000,
        "\n" * 100_000,
        "Objects with ground truth : " + "9" * 5000,
        "Bounding box for object " + "1" * 20_000,
        "Bounding box for object 1 " + ":" * 5000 + "\n",
        "Bounding box for object 1 " * 2000,
    ]
    return (
        *(text.encode() for text in texts),
        b"\xff\xfe" + b"\xd8\x00" * 50,
        b"\xfe\xff\x00",
        b"PK\x03\x04" + bytes(99),
    )


def _mutated_table(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    data = mutation.one(seeds)
    if mutation.chance(0.35) or len(data) > 5000:
        return mutation.mutated(data, seeds)
    text = data.decode("utf-8", "replace")
    delimiter = max(",;\t", key=text.count)
    rows = list(csv.reader(io.StringIO(text.replace("\0", "")), delimiter=delimiter)) or [[""]]
    for _ in range(1 + mutation.below(3)):
        row = mutation.one(rows)
        kind = mutation.below(6)
        if kind == 0 and row:
            del row[mutation.below(len(row))]
        elif kind == 1:
            row.insert(mutation.below(len(row) + 1), mutation.text("0"))
        elif kind == 2:
            rows.append(list(row) * mutation.one((1, 2, 40)))
        elif row:
            at = mutation.below(len(row))
            row[at] = mutation.one((mutation.text(row[at]), str(mutation.real()), str(mutation.number(64, 5))))
    text = "\n".join(delimiter.join(row) for row in rows)
    return text.encode("utf-8", "surrogatepass")


def _read_labels(data: bytes, folder: Path) -> str:
    path = folder / "labels.csv"
    path.write_bytes(data)
    try:
        labels = read_labels(path)
    except ValueError as error:
        return refused(error)
    for label in labels:
        json.dumps(label.to_dict(), allow_nan=False)
    return "" if labels else "none"


def _read_answers(data: bytes, folder: Path) -> str:
    path = folder / "labels.csv"
    path.write_bytes(data)
    try:
        LabelsWriter(path).counts()
    except ReviewError as error:
        return refused(error)
    return ""


def _read_boxes(data: bytes, folder: Path) -> str:
    (folder / "boxes.csv").write_bytes(data)
    for name in ("a.png", "b.png"):
        (folder / name).touch()
    try:
        read_sources(folder)
    except (FileNotFoundError, ValueError) as error:
        return refused(error)
    return ""


def _read_pascal(data: bytes, folder: Path) -> str:
    path = folder / "a.txt"
    path.write_bytes(data)
    try:
        read_pascal(path)
    except ValueError as error:
        return refused(error)
    return ""


# Files of results.


def _manifest() -> dict[str, Any]:
    return {
        "settings": AnalysisSettings().to_dict(),
        "inputs": ["sample/street"],
        "labels": [{"start": 0.0, "end": None, "person": True, "source": ""}],
        "model": "abc",
        "threshold": 0.5,
        "target": "person",
        "network": {"architecture": "vgg16", "weights": "", "classes": ["background", "person"]},
        "input_size": [64, 128],
        "device": "cpu",
        "threads": 2,
        "versions": {"numpy": "1"},
        "status": "complete",
        "summary": dict.fromkeys(("frames", "person", "doubtful", "labelled", "wrong", "explained", "errors"), 1),
        "problems": ["a problem"],
        "fingerprints": {"sample/street": {"size": 1}},
        "wrong_way": {"effects": []},
        "causes": {},
    }


def _results(folder: Path, manifest: bytes) -> Path:
    output = folder / "results"
    output.mkdir()
    for name in COLUMNS:
        pq.write_table(schema(name).empty_table(), output / f"{name}.parquet")
    (output / MANIFEST).write_bytes(manifest)
    return output


def _read_manifest(data: bytes, folder: Path) -> str:
    output = _results(folder, data)
    other = folder / "other"
    other.mkdir()
    _results(other, json.dumps(_manifest()).encode())
    outcome = ""
    try:
        manifest = read_manifest(output)
        if manifest is not None:
            _check_results(manifest)
    except ValueError as error:
        outcome = refused(error)
    try:
        AnalysisSettings.from_dict(read_results(output).get("settings", {}))
    except (ResultsError, ValueError) as error:
        outcome = outcome or refused(error)
    try:
        found = compare(output, other / "results")
        render("compare", "a and b", found)
    except CompareError as error:
        outcome = outcome or refused(error)
    return outcome


def _read_record(data: bytes, folder: Path) -> str:
    store = PartStore(folder / "parts")
    (store.folder / "00000.json").write_bytes(data)
    return "" if store.finished(0) else "none"


def _read_cache(data: bytes, folder: Path) -> str:
    path = folder / "cache.jsonl"
    path.write_bytes(data)
    try:
        return "" if read_cache(path, "key") else "none"
    except ValueError as error:
        return refused(error)


def _read_page(data: bytes, folder: Path) -> str:
    (folder / "report.html").write_bytes(data)
    for picture in stored_pictures(folder).values():
        picture.decode()
    try:
        page_data(data.decode("utf-8", "replace"))
    except ValueError as error:
        return refused(error)
    return ""


def _read_parquet(data: bytes, folder: Path) -> str:
    output = _results(folder, json.dumps(_manifest()).encode())
    (output / "frames.parquet").write_bytes(data)
    try:
        table = read_table(output, "frames", ("source", "frame", "probability"))
        table.to_pylist()
    except ResultsError as error:
        return refused(error)
    return ""


@cache
def _parquets() -> tuple[bytes, ...]:
    found = []
    for codec in ("zstd", "snappy", "none"):
        sink = pa.BufferOutputStream()
        pq.write_table(schema("frames").empty_table(), sink, compression=codec)
        found.append(sink.getvalue().to_pybytes())
    return tuple(found)


def _nested() -> tuple[bytes, ...]:
    texts = [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        "[1e999]",
        '{"summary": {"frames": 1e999}}',
        "null",
        "5",
        '"a"',
        "",
    ]
    return tuple(text.encode() for text in texts)


def _mutated_json(
    plain: Callable[[], Any], write: Callable[[Any], bytes], mutation: Mutation, seeds: Sequence[bytes]
) -> bytes:
    if mutation.chance(0.3):
        return mutation.mutated(mutation.one(seeds), seeds)
    try:
        return write(mutation.value(plain()))
    except (ValueError, RecursionError, TypeError, LookupError, AttributeError):
        return write(plain())[: mutation.below(500)]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _lines(value: Any) -> bytes:
    return b"".join(_json(line) + b"\n" for line in value)


def _page(value: Any) -> bytes:
    return render("report", "title", value).encode("utf-8", "surrogatepass")


def _shown() -> dict[str, Any]:
    return {"shown": [{"source": "street", "frame": 3, "image": "data:image/jpeg;base64,/9j/", "size": [640, 480]}]}


def _cached() -> list[Any]:
    return [{"key": "key"}, ["a", {"x": 1}], ["b", [1.5, None]]]


def _finished() -> dict[str, Any]:
    return {"frames": 3, "problems": ["a"], "fingerprint": {"size": 1}}


def _of_json(
    name: str, plain: Callable[[], Any], write: Callable[[Any], bytes], read: Callable[[bytes, Path], str]
) -> Kind:
    return Kind(name, lambda: (write(plain()),), read, partial(_mutated_json, plain, write), _nested)


def _of_text(name: str, texts: Sequence[str], read: Callable[[bytes, Path], str]) -> Kind:
    return Kind(name, lambda: _encoded(texts), read, _mutated_table, _harmful_table)


KINDS = (
    _of_text("labels", _LABELS, _read_labels),
    _of_text("answers", ("start,end,person,source,x,y,width,height\n",), _read_answers),
    _of_text("boxes", _BOXES, _read_boxes),
    _of_text("annotations", _PASCAL, _read_pascal),
    _of_json("manifest", _manifest, _json, _read_manifest),
    _of_json("record", _finished, _json, _read_record),
    _of_json("cache", _cached, _lines, _read_cache),
    _of_json("page", _shown, _page, _read_page),
    Kind("parquet", _parquets, _read_parquet, lambda mutation, seeds: mutation.mutated(mutation.one(seeds), seeds)),
)
