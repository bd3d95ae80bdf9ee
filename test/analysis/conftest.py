"""Recordings of pictures, and quick analyses of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from explain_cnn_ros.analysis import run as run_module
from explain_cnn_ros.analysis.run import Job, Outcome, run
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.reader import BagReader
from explain_cnn_ros.settings import ExplainSettings

ROOT = Path(__file__).parents[2]
SECOND = 10**9
START = 1_700_000_000 * SECOND
TYPES = get_typestore(Stores.ROS2_JAZZY)

#: An explanation in a tenth of a second.
QUICK = ExplainSettings(perturbations=2, layers=(3, 5), metrics=("activation_precision", "activation_sum"), top_n=3)


class Studio:
    """Makes pictures and records them."""

    START, SECOND, QUICK, ROOT = START, SECOND, QUICK, ROOT

    def __init__(self) -> None:
        with BagReader(ROOT / "sample/street") as bag:
            messages = list(bag.messages([bag.image_topic().name]))
        self.jpegs = [bytes(TYPES.deserialize_cdr(m.data, m.type).data) for m in messages]
        whole: Any = cv2.imdecode(np.frombuffer(self.jpegs[0], np.uint8), cv2.IMREAD_COLOR)
        self.street: NDArray[np.uint8] = np.ascontiguousarray(whole[..., ::-1])

    def picture(self, i: int) -> NDArray[np.uint8]:
        """A part of the street, uint8 [120, 160, 3] RGB: another for each i."""
        top, left = (37 * i) % 400, (61 * i) % 600
        return np.ascontiguousarray(self.street[top : top + 120, left : left + 160])

    def jpeg(self, i: int) -> bytes:
        return bytes(cv2.imencode(".jpg", self.picture(i)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1])

    def record(
        self,
        path: Path,
        frames: Sequence[bytes | NDArray[np.uint8]],
        topic: str = "/camera/image/compressed",
        storage: StoragePlugin = StoragePlugin.MCAP,
        compression: CompressionMode = CompressionMode.NONE,
        others: Sequence[tuple[str, int, bytes | NDArray[np.uint8]]] = (),
        delay: int = 0,
    ) -> Path:
        """JPEG files or RGB images, ten a second; the header's stamp is `delay` ns before the log time.

        Args:
            others: (topic, log time after the start, image) beside them.
        """
        sent = [(topic, i * SECOND // 10, frame) for i, frame in enumerate(frames)]
        sent = sorted([*sent, *others], key=lambda s: s[1])
        names = {True: "sensor_msgs/msg/CompressedImage", False: "sensor_msgs/msg/Image"}
        writer = Writer(path, version=9, storage_plugin=storage)
        if compression != CompressionMode.NONE:
            writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for name, time, image in sent:
                compressed = isinstance(image, bytes)
                kind = names[compressed]
                if name not in connections:
                    connections[name] = writer.add_connection(name, kind, typestore=TYPES)
                stamp = START + time - delay
                header = TYPES.types["std_msgs/msg/Header"](
                    stamp=TYPES.types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND),
                    frame_id="camera",
                )
                if isinstance(image, bytes):
                    message = TYPES.types[kind](header=header, format="jpeg", data=np.frombuffer(image, np.uint8))
                else:
                    message = TYPES.types[kind](
                        header=header,
                        height=image.shape[0],
                        width=image.shape[1],
                        encoding="rgb8",
                        is_bigendian=0,
                        step=3 * image.shape[1],
                        data=np.ascontiguousarray(image).reshape(-1),
                    )
                writer.write(connections[name], START + time, bytes(TYPES.serialize_cdr(message, kind)))
        return path

    def record_texts(self, path: Path) -> Path:
        """A recording without images."""
        kind = "std_msgs/msg/String"
        with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            log = writer.add_connection("/log", kind, typestore=TYPES)
            writer.write(log, START, bytes(TYPES.serialize_cdr(TYPES.types[kind](data="x"), kind)))
        return path

    def settings(self, **changes: Any) -> AnalysisSettings:
        return AnalysisSettings(**({"explain": QUICK, "explain_every": 4, "threads": 1} | changes))

    def analyse(self, output: Path, *inputs: Path, resume: bool = False, labels: Any = (), **more: Any) -> Outcome:
        """An analysis in this process; settings by name, other arguments of `run` as they are."""
        arguments = {k: more.pop(k) for k in ("make_encoder", "distribute", "progress") if k in more}
        return run(Job(inputs, output, self.settings(**more), tuple(labels), device="cpu"), resume, **arguments)

    def table(self, output: Path, name: str) -> pa.Table:
        return pq.read_table(output / f"{name}.parquet")

    def files(self, output: Path) -> dict[str, bytes]:
        """The tables, byte by byte."""
        return {path.name: path.read_bytes() for path in sorted(output.glob("*.parquet"))}


@pytest.fixture(scope="session")
def studio() -> Studio:
    return Studio()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Parts of four frames."""
    monkeypatch.setattr(run_module, "PART_FRAMES", 4)
    return 4


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Starts the command in a process of its own, with parts of four frames; `before` is code that runs first."""

    def start(*arguments: object, before: str = "") -> subprocess.Popen[str]:
        code = (
            "import sys\nfrom explain_cnn_ros.analysis import cli, run\nrun.PART_FRAMES = 4\n"
            f"{before}\nsys.exit(cli.main())\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start
