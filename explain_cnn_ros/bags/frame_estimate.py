"""An estimate of how many frames are read from a recording of which only a part is to be read."""

from __future__ import annotations

from explain_cnn_ros.bags.frame_source import SourceSettings


def estimated_frames(count: int, duration: int, settings: SourceSettings) -> int:
    """Estimate how many frames are read. It is assumed that all frames have the same distance in time.

    Args:
        count: Number of frames of the whole recording; 0 if it is not known.
        duration: Duration of the whole recording, in ns; 0 or less if it is not known.
        settings: The part of the recording that is read.

    Returns:
        The number of frames: `count` if the whole recording is read, at least 1 if only a part is read, and 0 if the
        number cannot be estimated.
    """
    if not (settings.start or settings.end):
        return count
    if not count or duration <= 0:
        return 0
    start = min(settings.start * 1e9, duration)
    end = min(settings.end * 1e9, duration) if settings.end else duration
    return max(1, round(count * (end - start) / duration))
