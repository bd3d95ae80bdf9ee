"""Labels of recordings: times at which there was a person, or none, in the whole frame or in a box."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

#: A box (x, y, width, height), in pixels of the image.
Box = tuple[float, float, float, float]

#: Seconds below this are counted from the start of the recording, others from 1970.
RELATIVE_MAX = 1e8

#: Maximum number of labels without a frame that are named one by one.
NAMED = 5


@dataclass(frozen=True)
class Label:
    """An interval of time with a person in front of the camera, or without.

    A label with a box says whether the box holds a person, or that decisions in it do not count; "no" without a box
    says that nobody is in the frame except in boxes.

    Attributes:
        start: Beginning of the interval, in seconds: from the start of the recording if it is below RELATIVE_MAX, else
            from 1970. -inf for the beginning of the recording.
        end: End of the interval, in the same way; it does not belong to the interval. inf for the end of the recording.
        person: Whether there was a person.
        source: Path of the recording that the label belongs to, or a part of the paths of several recordings; "" for
            all recordings.
        box: The extent of the person, or of the object that is none; None for the whole frame.
        ignore: Whether decisions in the box do not count, for instance because the person is hidden by half.
    """

    start: float
    end: float
    person: bool
    source: str = ""
    box: Box | None = None
    ignore: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON. An interval without a beginning or an end has null there.

        Labels of whole frames have no box.
        """
        times = {"start": self.start, "end": self.end}
        plain = dataclasses.asdict(self) | {n: time if math.isfinite(time) else None for n, time in times.items()}
        box, ignore = plain.pop("box"), plain.pop("ignore")
        return plain | ({} if box is None else {"box": list(box)}) | ({"ignore": True} if ignore else {})

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Label:
        """Convert the values that `to_dict` returned."""
        start = -math.inf if plain["start"] is None else plain["start"]
        end = math.inf if plain["end"] is None else plain["end"]
        box = None if plain.get("box") is None else tuple(plain["box"])
        return cls(start, end, plain["person"], plain["source"], box, plain.get("ignore", False))

    @property
    def absolute(self) -> bool:
        """Whether the times are counted from 1970."""
        time = self.start if math.isfinite(self.start) else self.end
        return math.isfinite(time) and time >= RELATIVE_MAX

    def belongs_to(self, source: str, sources: Collection[str]) -> bool:
        """Whether this label belongs to a recording.

        A label with the whole path of a recording belongs to that recording only. Otherwise, the label of "run1" would
        belong to "run10" as well.

        Args:
            source: Path of the recording.
            sources: Paths of all recordings, among them this one.
        """
        return self.source == source if self.source in sources else self.source in source


class Span(NamedTuple):
    """The time that a recording covers.

    Attributes:
        source: Path of the recording.
        start: Log time of its first message, in ns.
        end: Log time of its last message, in ns; 0 if it is not known.
    """

    source: str
    start: int
    end: int


@dataclass(frozen=True)
class FrameLabels:
    """The labels of a frame.

    Attributes:
        person: Whether there is a person in the frame, by the last label without a box; None without such a label.
        persons: Boxes that hold a person.
        others: Boxes that hold none.
        ignored: Boxes in which decisions do not count.
    """

    person: bool | None = None
    persons: tuple[Box, ...] = ()
    others: tuple[Box, ...] = ()
    ignored: tuple[Box, ...] = ()


def uncovered(labels: Sequence[Label], spans: Sequence[Span]) -> list[str]:
    """Return a sentence for each label that covers no frame of any recording.

    Args:
        labels: The labels.
        spans: The recordings.
    """
    sources = {span.source for span in spans}
    found = [text for label in labels if (text := _fault(label, spans, sources))]
    more = len(found) - NAMED
    return found[:NAMED] + ([f"{more} further labels cover no frame either"] if more > 0 else [])


def _fault(label: Label, spans: Sequence[Span], sources: Collection[str]) -> str:
    name = f"the label from {label.start:.10g} to {label.end:.10g} s covers no frame"
    own = [span for span in spans if label.belongs_to(span.source, sources)]
    if not own:
        return f"{name}: {label.source!r} is no part of the path of any input"
    if any(_overlaps(label, span) for span in own):
        return ""
    if label.absolute:
        times = ", ".join(f"{span.start / 1e9:.10g} to {span.end / 1e9:.10g} s" for span in own[:NAMED])
        return f"{name}: the recordings were made from {times}, counted from 1970"
    longest = max(span.end - span.start for span in own) / 1e9
    return f"{name}: the longest of the recordings ends after {longest:.10g} s"


def _overlaps(label: Label, span: Span) -> bool:
    start, end = span.start / 1e9, span.end / 1e9 if span.end else math.inf
    if not label.absolute:
        start, end = 0.0, end - start
    return label.start <= end and label.end > start
