"""Frames that are decoded ahead."""

from __future__ import annotations

from explain_cnn_ros.analysis.prefetch import decoded
from explain_cnn_ros.bags.sources import open_source


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
