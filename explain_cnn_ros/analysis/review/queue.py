"""The windows of a review, in the order in which they are shown, and those that are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.analysis.review.label_times import frame_interval
from explain_cnn_ros.analysis.review.labels_writer import LabelsWriter, WindowKey, window_key
from explain_cnn_ros.analysis.review.order import in_order
from explain_cnn_ros.analysis.review.scores import reasons, scores_of
from explain_cnn_ros.analysis.review.stored import FrameKey
from explain_cnn_ros.analysis.review.windows import UNKNOWN, DecidedWindows, ReviewedAnalysis
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.model.windows import Region


@dataclass(frozen=True)
class ReviewWindow:
    """A window that is shown.

    Attributes:
        number: Number of the window in the queue, counted from 0.
        key: The window in the labels file.
        source: Path of the recording.
        frame: Number of the frame.
        log_time: Log time of the frame, in ns.
        seconds: Time after the start of the recording, in seconds.
        person: The decision.
        region: The window, in pixels of the image, and P(person).
        size: Width and height of the image, in pixels.
        score: The score; see `scores.Scores`.
        reasons: The reasons for the score in words, the strongest first.
    """

    number: int
    key: WindowKey
    source: str
    frame: int
    log_time: int
    seconds: float
    person: bool
    region: Region
    size: tuple[int, int]
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class ReviewQueue:
    """The windows of a review.

    Attributes:
        windows: The windows, in the order in which they are shown.
        answered: Number of windows that are passed over because they have an answer or a label.
        missing: Number of windows, by recording, that are left out because the recording is not there.
        unclocked: Number of windows that are left out because they were recorded before the clock was set.
    """

    windows: tuple[ReviewWindow, ...]
    answered: int
    missing: Mapping[str, int]
    unclocked: int


def build_queue(
    analysis: ReviewedAnalysis,
    labels: LabelsWriter,
    starts: Mapping[str, int],
    stored: Collection[FrameKey],
    count: int,
) -> ReviewQueue:
    """Choose the windows of a review.

    All judged windows are brought into the order of `order.in_order`. Windows are passed over that have a label in the
    analysis or an answer in the labels file, and those whose picture cannot be shown.

    Args:
        analysis: The analysis.
        labels: The labels file.
        starts: Log time of the first message of the recordings that are there, in ns, by their paths.
        stored: Frames of which the analysis has a picture.
        count: Maximum number of windows.
    """
    found, threshold = analysis.windows, analysis.threshold
    scores = scores_of(found, threshold)
    total = scores.total
    windows: list[ReviewWindow] = []
    missing: Counter[str] = Counter()
    answered = unclocked = 0
    # Without the recording, its start is not known. It is needed only for times that are counted from there.
    begins = {source: int(line.times.min()) for source, line in analysis.timelines.items()} | dict(starts)
    by_source = LabelsBySource(labels.whole, map(printable, analysis.inputs))
    whole = {source: by_source.of(source, begins[source]) for source in found.sources}
    for position in in_order(found, total):
        source = found.sources[found.source[position]]
        frame, log_time = int(found.frame[position]), int(found.log_time[position])
        start = begins[source]
        x, y, width, height = found.region[position].tolist()
        region = Region(x, y, width, height, float(found.probability[position]))
        key = window_key(frame_interval(log_time, start), source, None if analysis.whole else region)
        # A person in the frame is taken for the one of its best window.
        person = whole[source].at(log_time).person
        labelled = person is False or (person is True and _is_best(found, position))
        if found.label[position] != UNKNOWN or key in labels.answered or labelled:
            answered += 1
            continue
        if source not in starts and (source, frame) not in stored:
            missing[source] += 1
            continue
        if log_time < start:
            unclocked += 1
            continue
        windows.append(
            ReviewWindow(
                number=len(windows),
                key=key,
                source=source,
                frame=frame,
                log_time=log_time,
                seconds=(log_time - start) / 1e9,
                person=bool(found.person[position]),
                region=region,
                size=(int(found.size[position, 0]), int(found.size[position, 1])),
                score=float(total[position]),
                reasons=tuple(reasons(found, scores, position, threshold)),
            )
        )
        if len(windows) == count:
            break
    return ReviewQueue(tuple(windows), answered, dict(missing), unclocked)


def _is_best(windows: DecidedWindows, position: int) -> bool:
    """Whether a window is the best one of its frame."""
    same = position > 0 and windows.frame[position - 1] == windows.frame[position]
    return not (same and windows.source[position - 1] == windows.source[position])
