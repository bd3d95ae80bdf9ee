"""Frames that are decoded ahead."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from explain_cnn_ros.analysis import engine
from explain_cnn_ros.analysis.engine import batches
from explain_cnn_ros.analysis.prefetch import THREADS, decoded
from explain_cnn_ros.bags.sources import Entry, Frame, open_source


def test_decoding_ahead_keeps_the_order_and_its_bounds(studio, tmp_path) -> None:
    bag = studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(12)])
    source = open_source(bag)
    taken = []

    def entries():
        for entry in source.entries():
            taken.append(entry.index)
            yield entry

    stream = decoded(entries(), depth=3)
    for expected in range(12):
        assert next(stream).index == expected
        assert len(taken) <= expected + 3
    assert list(stream) == []
    early = decoded(entries(), depth=3)
    next(early)
    early.close()
    source.close()


def test_large_frames_are_not_decoded_far_ahead(studio, tmp_path, monkeypatch) -> None:
    """The memory is bounded, whatever the number of frames."""
    monkeypatch.setattr("explain_cnn_ros.analysis.prefetch.BYTES_MAX", 3 * studio.picture(0).nbytes)
    source = open_source(studio.record(tmp_path / "bag", [studio.jpeg(i) for i in range(30)]))
    taken = []

    def entries():
        for entry in source.entries():
            taken.append(entry.index)
            yield entry

    for count, frame in enumerate(decoded(entries()), 1):
        assert frame.index == count - 1
        assert len(taken) <= max(count + 2, 8)
    assert count == 30
    source.close()


class Memory:
    """Entries whose frames have given sizes, and the number of bytes that nobody has taken yet."""

    def __init__(self) -> None:
        self.held = self.most = 0
        self._lock = threading.Lock()

    def entries(self, sizes: list[int]) -> Iterator[Entry]:
        for index, size in enumerate(sizes):
            yield Entry(index, index, lambda index=index, size=size: self._load(index, size))

    def _load(self, index: int, size: int) -> Frame:
        image = np.zeros((1, size, 1), np.uint8) if size else None
        with self._lock:
            self.held += size
            self.most = max(self.most, self.held)
        return Frame(index, index, index, "", "", image)

    def take(self, frame: Frame) -> None:
        with self._lock:
            self.held -= 0 if frame.image is None else frame.image.nbytes


@pytest.mark.parametrize(
    "sizes",
    [
        [10] * 100,
        [10] * 50 + [800] * 30 + [10] * 50,
        [800, 10] * 50,
        [0] * 20 + [800] * 20,
        [2000] * 20,
        [10] * 45 + [5000] * 5,
    ],
)
def test_decoded_frames_take_bounded_memory(sizes: list[int], monkeypatch) -> None:
    """Whatever the order of small and large frames: a bound, and a frame for each thread."""
    monkeypatch.setattr("explain_cnn_ros.analysis.prefetch.BYTES_MAX", 1000)
    memory, found = Memory(), []
    for frame in decoded(memory.entries(sizes)):
        found.append(frame.index)
        memory.take(frame)
    assert found == list(range(len(sizes)))
    assert memory.most <= 1000 + THREADS * max(sizes)


def test_an_error_or_an_end_leaves_no_thread_behind(monkeypatch) -> None:
    monkeypatch.setattr("explain_cnn_ros.analysis.prefetch.BYTES_MAX", 1000)

    def fails() -> Frame:
        raise MemoryError("no memory")

    entries = [*Memory().entries([900] * 3), Entry(3, 3, fails), *Memory().entries([900] * 3)]
    stream = decoded(entries)
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(MemoryError):
        next(stream)
    early = decoded(Memory().entries([900] * 20))
    next(early)
    early.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_batches_are_bounded_by_number_and_by_bytes(monkeypatch) -> None:
    monkeypatch.setattr(engine, "BATCH", 4)
    monkeypatch.setattr(engine, "BATCH_BYTES", 100)
    sizes = [10] * 9 + [60, 60, 60] + [150] + [0] * 5 + [99, 1, 1]
    frames = (entry.load() for entry in Memory().entries(sizes))
    groups: list[list[int]] = []
    for group in batches(frames):
        groups.append([0 if frame.image is None else frame.image.nbytes for frame in group])
    assert groups == [[10] * 4, [10] * 4, [10, 60, 60], [60, 150], [0] * 4, [0, 99, 1], [1]]


def test_a_batch_is_not_in_memory_while_the_next_one_is_read() -> None:
    alive: list[weakref.ref[Frame]] = []

    def frames() -> Iterator[Frame]:
        for i in range(3 * engine.BATCH):
            if i and i % engine.BATCH == 0:
                # The one frame is the last that this function has yielded.
                assert sum(ref() is not None for ref in alive[:-1]) == 0
            frame = Frame(i, i, i, "", "", np.zeros((1, 1, 3), np.uint8))
            alive.append(weakref.ref(frame))
            yield frame

    assert sum(len(group) for group in batches(frames())) == 3 * engine.BATCH
