"""Tracks: the same persons in one frame after the other, of which one is followed.

A live explanation stays with the followed person, so that its neurons can be averaged over the frames of one person.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from explain_cnn_ros.model.windows import Region

#: Minimum overlap (intersection over union) of the person's predicted box and its box in the frame.
OVERLAP_MIN = 0.2

#: The followed person is left for the best one if its P(person) is lower by more than this.
WORSE_MAX = 0.25

#: Of the regions whose P(person) is lower than the best by at most this, the tallest is followed first: it is usually
#: the nearest person.
ALIKE_MAX = 0.05

#: A person that has not been found for this time is forgotten, in seconds. All persons are if the stamps jump back.
FORGET_AFTER = 1.0

#: Weight of the newest displacement in the velocity.
NEWEST_WEIGHT = 0.5

#: Minimum time by which a displacement is divided to get a velocity, in seconds. The regions of a person who stands
#: still differ by a few pixels from frame to frame. Divided by the time between two frames of a burst, this would be a
#: high velocity.
STEP_MIN = 1 / 30

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Track:
    """A person in the frames until now.

    Attributes:
        id: Number of the track. Numbers ascend from 1 and are not used again.
        region: The person's region in the last frame in which it was found.
        stamp: Stamp of this frame, in nanoseconds.
        frames: Number of frames in which the person was found.
        velocity: Velocity (x, y) of the person's centre, in pixels per second.
    """

    id: int
    region: Region
    stamp: int
    frames: int = 1
    velocity: tuple[float, float] = (0.0, 0.0)

    def predict(self, stamp: int) -> Box:
        """Return the box (x, y, width, height) of the person at a stamp, at the same velocity and in the same size."""
        seconds = (stamp - self.stamp) / 1e9
        x, y, width, height = self.region.person_box
        return x + seconds * self.velocity[0], y + seconds * self.velocity[1], width, height

    def found(self, region: Region, stamp: int) -> Track:
        """Return the track with one more frame."""
        seconds, velocity = (stamp - self.stamp) / 1e9, self.velocity
        if seconds > 0:
            # The first displacement is the only one.
            weight = NEWEST_WEIGHT if self.frames > 1 else 1.0
            elapsed = max(seconds, STEP_MIN)
            (x, y), (last_x, last_y) = _centre(region), _centre(self.region)
            velocity = (
                weight * (x - last_x) / elapsed + (1 - weight) * velocity[0],
                weight * (y - last_y) / elapsed + (1 - weight) * velocity[1],
            )
        return dataclasses.replace(self, region=region, stamp=stamp, frames=self.frames + 1, velocity=velocity)


class Tracker:
    """Finds persons again from frame to frame, and follows one of them.

    The tallest of the regions that are about as sure as the best one is followed first. It is followed until it is not
    found any more, or until its P(person) is lower than that of the best region by more than WORSE_MAX. A region that
    is no person is followed in the same way.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        """Forget all persons."""
        self._tracks: list[Track] = []
        self._followed = 0

    def follow(self, regions: Sequence[Region], stamp: int) -> Track:
        """Find the persons of a frame again, and return the one that is followed.

        Args:
            regions: The regions of the frame, best first; at least one.
            stamp: Stamp of the frame, in nanoseconds.

        Returns:
            The track of one of the regions.
        """
        if any(track.stamp > stamp for track in self._tracks):
            self.reset()
        known = [track for track in self._tracks if (stamp - track.stamp) / 1e9 <= FORGET_AFTER]
        continued = _associate(known, regions, stamp)
        tracks = [
            track.found(region, stamp) if (track := continued.get(index)) else Track(next(self._ids), region, stamp)
            for index, region in enumerate(regions)
        ]
        lost = [track for track in known if track.id not in {other.id for other in tracks}]
        sure = regions[0].probability
        first = max(
            (track for track in tracks if sure - track.region.probability <= ALIKE_MAX), key=lambda t: t.region.height
        )
        own = next((track for track in tracks if track.id == self._followed), first)
        chosen = own if sure - own.region.probability <= WORSE_MAX else first
        self._tracks, self._followed = [*tracks, *lost], chosen.id
        return chosen


def overlap(one: Box, other: Box) -> float:
    """Compute the intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def _associate(tracks: Sequence[Track], regions: Sequence[Region], stamp: int) -> dict[int, Track]:
    """Return the track of each region that continues one, by the region's index. The largest overlaps come first."""
    pairs = [
        (overlap(track.predict(stamp), region.person_box), track, index)
        for track in tracks
        for index, region in enumerate(regions)
    ]
    found: dict[int, Track] = {}
    taken: set[int] = set()
    for shared, track, index in sorted(pairs, key=lambda pair: -pair[0]):
        if shared >= OVERLAP_MIN and index not in found and track.id not in taken:
            found[index] = track
            taken.add(track.id)
    return found


def _centre(region: Region) -> tuple[float, float]:
    return region.x + region.width / 2, region.y + region.height / 2
