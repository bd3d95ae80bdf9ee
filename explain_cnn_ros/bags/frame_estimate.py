"""The number of frames that lie in the part of a recording that is read, estimated before it is read."""

from __future__ import annotations

from explain_cnn_ros.bags.frame_source import SourceSettings


def estimated_frames(count: int, duration: int, settings: SourceSettings) -> int:
    """Return about how many frames are read, as if all were equally far apart.

    Args:
        count: Number of frames of the whole recording; 0 if it is not known.
        duration: Duration of the whole recording, in ns; 0 or less if it is not known.
        settings: The part of the recording that is read.

    Returns:
        The number: `count` if the whole recording is read, otherwise at least 1; 0 if it is not known.
    """
    if not (settings.start or settings.end):
        return count
    if not count or duration <= 0:
        return 0
    start = min(settings.start * 1e9, duration)
    end = min(settings.end * 1e9, duration) if settings.end else duration
    return max(1, round(count * (end - start) / duration))
