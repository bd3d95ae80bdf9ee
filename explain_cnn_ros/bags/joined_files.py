"""The files of a recording as one series of messages, without copies, also if the files overlap in time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence

from explain_cnn_ros.bags.names import listed
from explain_cnn_ros.bags.storage import TIME_MAX, TIME_MIN, Message, Report, StorageFile
from explain_cnn_ros.bags.topic_choice import IMAGE_TYPES
from explain_cnn_ros.files import visible

#: Maximum overlap of files with images on the same topic, in ns. When a recorder begins a new file, the overlap is
#: shorter.
OVERLAP_NS = 10**9

#: Maximum number of files that are read at the same time. Each may hold unpacked chunks in memory.
OPEN_MAX = 8


def without_copies(files: Sequence[StorageFile], note: Callable[[str], None]) -> list[StorageFile]:
    """Return the files without those that hold the same messages as an earlier one.

    Files are the same if they have the same times and numbers of messages, and the same first and last messages.

    Args:
        files: The files.
        note: Called with a sentence for each file that is left out.
    """
    kept: list[StorageFile] = []
    known: dict[tuple[object, ...], StorageFile] = {}
    for file in files:
        counts = frozenset((topic.name, topic.type, topic.count) for topic in file.topics if topic.count)
        first = known.setdefault((file.start, file.end, counts), file)
        if first is not file and counts and _fingerprint(first) == _fingerprint(file):
            note(visible(f"{file.name} is left out: it holds the same messages as {first.name}"))
        else:
            kept.append(file)
    return kept


def report_overlaps(files: Sequence[StorageFile], report: Report) -> None:
    """Report files with images on the same topic at the same time, because one may be a copy of a part of the other.

    Args:
        files: The files, in the order of their first messages.
        report: Called with a sentence for each file that overlaps with an earlier one.
    """
    latest: dict[str, StorageFile] = {}
    for file in files:
        names = {topic.name for topic in file.topics if topic.type in IMAGE_TYPES and topic.count}
        shared = sorted(name for name in names & latest.keys() if _overlap(latest[name], file) > OVERLAP_NS)
        if shared:
            other = latest[shared[0]]
            report(
                f"{other.name} and {file.name} hold {_overlap(other, file) / 1e9:.1f} s of the same time, both with "
                f"images on {listed(shared[:1])}: if one is a copy of the other, its frames are read twice; give only "
                "one of them"
            )
        for name in names:
            if name not in latest or file.end > latest[name].end:
                latest[name] = file


def merged(
    files: Sequence[StorageFile], topics: Collection[str], start: int, stop: int, report: Report
) -> Iterator[Message]:
    """Yield the messages of several files in the order of their log times.

    Reading a file begins when its first message is the next one, so that files which follow each other are not read at
    the same time. Of messages with the same log time, those of the earlier file come first.

    Args:
        files: The files, in the order of their first messages.
        topics: Names of topics.
        start: Only messages logged at or after this time, in ns.
        stop: Only messages logged before this time, in ns.
        report: Called with a sentence if messages are not in order, because too many files overlap.
    """
    waiting: list[tuple[int, int, Message, Iterator[Message]]] = []
    last = TIME_MIN
    for number, file in enumerate(files):
        while waiting and (waiting[0][0] < file.start or len(waiting) >= OPEN_MAX):
            last = waiting[0][0]
            yield waiting[0][2]
            _advance(waiting)
        messages = file.messages(topics, start, stop)
        if (first := next(messages, None)) is not None:
            if first.stamp < last:
                report(f"{file.name}: too many files overlap in time: not all messages are in order")
            heapq.heappush(waiting, (first.stamp, number, first, messages))
    while len(waiting) > 1:
        yield waiting[0][2]
        _advance(waiting)
    # The messages of the last file need not be compared with others.
    for _, _, first, messages in waiting:
        yield first
        yield from messages


def _advance(waiting: list[tuple[int, int, Message, Iterator[Message]]]) -> None:
    """Replace the first message of a heap by the next one of its file."""
    _, number, _, messages = waiting[0]
    following = next(messages, None)
    if following is None:
        heapq.heappop(waiting)
    else:
        heapq.heapreplace(waiting, (following.stamp, number, following, messages))


def _overlap(before: StorageFile, file: StorageFile) -> int:
    """Return the time that two files share, in ns; 0 or less if they share none. The first one begins first."""
    return min(before.end, file.end) - file.start


def _fingerprint(file: StorageFile) -> int:
    """Return a number that is the same for files with the same messages at the first and at the last log time.

    The messages of one log time may have any order.
    """
    names = {topic.name for topic in file.topics}
    stretches = [(time, min(time + 1, TIME_MAX)) for time in {file.start, file.end}]
    return sum(hash(message) for start, stop in stretches for message in file.messages(names, start, stop))
