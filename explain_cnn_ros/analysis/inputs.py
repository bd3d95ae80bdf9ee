"""The inputs of an analysis: those that can be opened now, and those that cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from explain_cnn_ros.analysis.detection_labels import FrameKey
from explain_cnn_ros.analysis.engine import Recording
from explain_cnn_ros.analysis.job import AnalysisError, Job
from explain_cnn_ros.analysis.labelled_source import LabelledSource
from explain_cnn_ros.analysis.labels import Span, uncovered
from explain_cnn_ros.analysis.parts import PART_FRAMES, PartStore, StoredFrame
from explain_cnn_ros.analysis.provenance import fingerprint_or_none
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.sources import Entry, Source, SourceError, open_source

#: Beginning of the sentence about labels of which none covers a frame.
NO_LABEL = "no label covers a frame"


class Inputs:
    """The inputs of a job, by number.

    An input that cannot be opened may have been there before, for instance on a disk that is not mounted now. Its
    results stay.

    Args:
        job: The job.

    Attributes:
        sources: The inputs that are open.
        missing: Reasons why the other inputs cannot be opened.
        notes: Sentences about unusual properties of inputs and labels that are no faults, and about choices.

    Raises:
        AnalysisError: All inputs are there, and none has labels from the detector whose topic the settings name.
    """

    def __init__(self, job: Job) -> None:
        self.sources: dict[int, Source] = {}
        self.missing: dict[int, str] = {}
        self.notes: list[str] = []
        self._label_problems: list[str] = []
        self._paths = job.inputs
        unlabelled: list[str] = []
        for number, path in enumerate(job.inputs):
            try:
                self.sources[number], without = open_input(path, job.settings)
                unlabelled += [without] if without else []
            except SourceError as error:
                self.missing[number] = str(error)
            except OSError as error:
                self.missing[number] = f"{printable(path)} cannot be read: {error.strerror or error}"
        for source in self.sources.values():
            self.notes += [f"{source.name}: {note}" for note in source.notes]
        if unlabelled and len(unlabelled) == len(job.inputs):
            self.close()
            raise AnalysisError(f"--label-topic has no labels. {'; '.join(unlabelled)}")
        self.notes += [f"no labels from --label-topic: {reason}" for reason in unlabelled]
        self._check_labels(job)

    def _check_labels(self, job: Job) -> None:
        """Name labels that cover no frame. They may belong to recordings that are not analysed, unless all are so."""
        spans = [Span(source.name, source.start, source.end) for source in self.sources.values()]
        spans += [Span(printable(self._paths[number]), 0, 0) for number in self.missing]
        faults = uncovered(job.labels, spans)
        if faults and all(uncovered([label], spans) for label in job.labels):
            self._label_problems = [f"{NO_LABEL}: {faults[0]}", *faults[1:]]
        else:
            self.notes += faults
        if len(job.settings.topics) > 1 and any(label.box for label in job.labels):
            self.notes.append(
                "labels with boxes hold for the images of all topics, although a box fits one camera only: analyse one "
                "topic at a time"
            )

    def close(self) -> None:
        """Close the sources."""
        for source in self.sources.values():
            source.close()

    def lose(self, number: int, reason: str) -> None:
        """Close an input that cannot be read any more.

        Args:
            number: Number of the input.
            reason: The reason, a sentence.
        """
        self.sources.pop(number).close()
        self.missing[number] = reason

    def unfinished(self, store: PartStore) -> list[tuple[int, Source]]:
        """Return the open inputs that were not read to their end, with their numbers."""
        return [(number, source) for number, source in self.sources.items() if store.finished(number) is None]

    def finished(self, store: PartStore) -> bool:
        """Whether all inputs were read to their end, now or before."""
        return all(store.finished(number) is not None for number in range(len(self._paths)))

    def progress(self, store: PartStore) -> tuple[int, int]:
        """Return the number of frames if it is known, and the number of those that are analysed."""
        done = {number: PART_FRAMES * len(store.numbers(number)) for number in range(len(self._paths))}
        total = sum(source.total for source in self.sources.values()) + sum(done[number] for number in self.missing)
        return total, sum(done.values())

    def problems(self, store: PartStore) -> list[str]:
        """Return the faults of all inputs, a sentence each."""
        problems = list(self._label_problems)
        for number, path in enumerate(self._paths):
            finished = store.finished(number)
            if finished is not None:
                problems += [f"{printable(path)}: {text}" for text in finished["problems"]]
            elif number in self.sources:
                problems += [f"{printable(path)}: {text}" for text in self.sources[number].problems]
            else:
                frames = store.frames(number)
                before = f" ({frames} of its frames were analysed before and are in the results)" if frames else ""
                problems.append(self.missing[number] + before)
        return problems

    def fingerprints(self, store: PartStore, previous: dict[str, dict]) -> dict[str, dict]:
        """Return the fingerprint of each input, if it is known.

        Args:
            store: The store, which has the fingerprints of the inputs that were read to their end.
            previous: Fingerprints from the manifest before, by path.
        """
        found: dict[str, dict] = {}
        for number, path in enumerate(self._paths):
            fingerprint = (store.finished(number) or {}).get("fingerprint")
            if fingerprint is None and number in self.sources:
                fingerprint = fingerprint_or_none(path, store.output)
            fingerprint = fingerprint or previous.get(str(path))
            if fingerprint is not None:
                found[str(path)] = fingerprint
        return found


def open_input(path: Path, settings: AnalysisSettings) -> tuple[Source, str]:
    """Open an input, with the labels of a detector if the settings name its topic.

    Args:
        path: Path of the input.
        settings: Settings of the analysis.

    Returns:
        The source, and the reason why it has no labels of the detector; "" if it has, or needs none.

    Raises:
        SourceError: There is no source at the path, or it cannot be read.
        OSError: The path cannot be read.
    """
    source = open_source(path, settings)
    if not settings.label_topic:
        return source, ""
    try:
        return LabelledSource(source, settings), ""
    except SourceError as error:
        return source, str(error)
    except OSError:
        source.close()
        raise


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Read from a source in the body. If the source has gone meanwhile, the data that were read are not valid.

    Raises:
        SourceError: The source has gone, or it cannot be read any more.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(f"{source.name} cannot be read any more: {error.strerror or error}") from error
    if not source.path.exists():
        raise SourceError(f"{source.name}: it has gone while it was read")


def unchanged(source: Source, entries: Iterable[Entry], stored: StoredFrame | None) -> Iterator[Entry]:
    """Yield the entries of a source, unless the last frame that was analysed before is another one now.

    The numbers of frames would shift if, for instance, images had been added to a folder: some frames would be analysed
    twice, and others not at all.

    Args:
        source: The source.
        entries: The entries of the source. They must include the frame `stored`, if there is one.
        stored: The last frame that was analysed before; None if no frame was analysed.

    Raises:
        SourceError: The source has changed.
    """
    found = stored is None
    for entry in entries:
        if stored is not None and entry.index == stored.index:
            # A folder gives its images the same times, whatever their names are.
            found = entry.log_time == stored.log_time and entry.load().topic == stored.topic
            if not found:
                break
        yield entry
    # If the source has gone, it may come back as it was.
    if not found and source.path.exists():
        raise SourceError(
            f"{source.name} has changed since a part of it was analysed, so the rest does not fit: give another "
            "--output to analyse it from its beginning"
        )


def finish(store: PartStore, number: int, frames: int, source: Source, found: Sequence[str] = ()) -> None:
    """Record in the store that an input was read to its end, and free the memory of its labels.

    Args:
        store: The store.
        number: Number of the input.
        frames: Number of its frames.
        source: The input.
        found: Faults that other processes have found while they read the input, a sentence each.

    Raises:
        DamagedPartError: A part of the input cannot be read.
        OSError: The record cannot be written, or the input cannot be read any more.
    """
    of_labels: list[str] = []
    if isinstance(source, LabelledSource):
        of_labels = source.labels.problems(_frame_keys(store, number))
        source.release()
    problems = list(dict.fromkeys([*source.problems, *of_labels, *found]))
    store.finish(number, frames, problems, fingerprint_or_none(source.path, store.output))


def _frame_keys(store: PartStore, number: int) -> Iterator[FrameKey]:
    """Yield the frames of a recording."""
    for part in store.numbers(number):
        table = store.read(number, part, "frames", ["frame", "stamp", "frame_id"])
        columns = (table[name].to_pylist() for name in ("frame", "stamp", "frame_id"))
        yield from map(FrameKey, *columns)


def recording_of(
    source: Source, settings: AnalysisSettings, labels: LabelsBySource, chosen: frozenset[int] | None = None
) -> Recording:
    """Return what the analysis needs to know about a source. The labels of a detector are read.

    Args:
        source: The source.
        settings: Settings of the analysis.
        labels: The labels of all recordings.
        chosen: Numbers of the frames that are explained in any case; None to find them by `explain_at`.

    Raises:
        OSError: The source cannot be read any more.
    """
    found = chosen_frames(source, settings) if chosen is None else chosen
    detected = source.labels if isinstance(source, LabelledSource) else None
    own = labels.of(source.name, source.start)
    return Recording(source.name, own, found, settings.window_stride(source.total), detected)


def chosen_frames(source: Source, settings: AnalysisSettings) -> frozenset[int]:
    """Return the numbers of the first frames at or after the times of `explain_at`."""
    if not settings.explain_at:
        return frozenset()
    times = sorted(settings.explain_at)
    chosen = set()
    for entry in source.entries():
        while times and (entry.log_time - source.start) / 1e9 >= times[0]:
            chosen.add(entry.index)
            times.pop(0)
        if not times:
            break
    return frozenset(chosen)
