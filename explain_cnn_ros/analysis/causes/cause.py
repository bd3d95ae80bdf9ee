"""A cause of wrong decisions: the windows, the neurons that they share, and where these neurons push."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class StoredWindow:
    """A stored window.

    Attributes:
        source: Path of the recording.
        frame: Number of the frame.
        region: Number of the region in the frame.
    """

    source: str
    frame: int
    region: int


@dataclass(frozen=True)
class SharedNeuron:
    """A neuron that pushes in the windows of a cause.

    Attributes:
        layer: Layer of the neuron, counted from 1.
        layer_name: Name of the layer.
        channel: Channel of the neuron, counted from 0.
        push: Mean of its push against the label over the windows of the cause.
        elsewhere: The same over the rightly decided windows with the same label; None without such windows.
        windows: Number of windows of the cause in which it pushes against the label.
    """

    layer: int
    layer_name: str
    channel: int
    push: float
    elsewhere: float | None
    windows: int


@dataclass(frozen=True)
class Silenced:
    """The effect of silencing the neurons of a cause together.

    Attributes:
        wrong: Number of windows of the cause.
        turned_right: Number of those whose decision becomes right.
        turned_right_interval: 95 % confidence interval of their share.
        right: Number of rightly decided windows that were decided again.
        turned_wrong: Number of those whose decision becomes wrong.
        turned_wrong_interval: 95 % confidence interval of their share.
    """

    wrong: int
    turned_right: int
    turned_right_interval: tuple[float, float]
    right: int
    turned_wrong: int
    turned_wrong_interval: tuple[float, float]


@dataclass(frozen=True)
class Cause:
    """Wrong decisions of one kind that the same neurons pushed.

    Attributes:
        kind: Kind of wrong decisions, one of `wrong_way.KINDS`.
        name: Name that the user has given; "" for none.
        windows: All windows, the most typical first.
        frames: Number of frames with these windows.
        neurons: The neurons that push most compared with right decisions, at most NEURONS.
        carried: Share of the margin that these neurons carry together, to first order, in the mean over the windows.
        place: Where they push, in words, for instance "at the top left".
        map: Where they push more than in right decisions: shares by position, rows from the top, [32][16]; they sum up
            to 1.
        silenced: The effect of silencing these neurons.
    """

    kind: str
    name: str
    windows: tuple[StoredWindow, ...]
    frames: int
    neurons: tuple[SharedNeuron, ...]
    carried: float
    place: str
    map: tuple[tuple[float, ...], ...]
    silenced: Silenced


@dataclass(frozen=True)
class Causes:
    """The causes of all wrong decisions.

    Attributes:
        causes: The causes, the largest first.
        alone: Number of windows without a common cause, by kind.
        skipped: Number of windows that were not grouped, because there are more than `causes_windows`, by kind.
        search: Number of persons that only the search missed: the network decides about their window rightly.
    """

    causes: tuple[Cause, ...] = ()
    alone: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    search: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self)
