"""The report of the black box on /diagnostics, and its problems."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.time import Time

from explain_cnn_ros.ros.black_box.buffer import MessageBuffer
from explain_cnn_ros.ros.black_box.folder import RecordingFolder
from explain_cnn_ros.ros.black_box.settings import MIB, BlackBoxSettings
from explain_cnn_ros.ros.black_box.subscriptions import RecordedTopic
from explain_cnn_ros.ros.black_box.writing import RecordingWriter
from explain_cnn_ros.ros.problems import Problem

#: Name of the status, after the name of the node.
PART = "recordings"

#: Seconds without an image after which a problem is reported.
SILENCE = 5.0


def problems(
    settings: BlackBoxSettings,
    buffer: MessageBuffer,
    writer: RecordingWriter,
    image: RecordedTopic,
    topics: Sequence[RecordedTopic],
    silence: float,
) -> list[Problem]:
    """Return the problems of the black box, with their remedies.

    Args:
        settings: The settings in force.
        buffer: The messages in memory.
        writer: The writer of the recordings.
        image: The image topic.
        topics: All topics.
        silence: Time since the last image, or since the start, in seconds.
    """
    found = [Problem(PART, f"topic {watched.topic}", watched.problem) for watched in topics if watched.problem]
    for topic, why in writer.undefined.items():
        found.append(Problem(PART, f"definition of {topic}", f"{topic} is not recorded: {why}"))
    if silence > SILENCE and not image.problem:
        other = "compressed" if settings.image_transport == "raw" else "raw"
        text = (
            f"no image on {image.topic} for {silence:.0f} s: check that the camera is running, remap the topic, or set "
            f"image_transport to {other}"
        )
        found.append(Problem(PART, "no images", text))
    if buffer.short:
        text = (
            f"the memory holds {buffer.seconds:.1f} s of messages, less than `before`: raise memory_mib "
            f"({settings.memory_mib}), lower before, or record compressed images"
        )
        found.append(Problem(PART, "memory", text))
    return found


def report(
    name: str,
    now: Time,
    settings: BlackBoxSettings,
    buffer: MessageBuffer,
    folder: RecordingFolder,
    writer: RecordingWriter,
    topics: Sequence[RecordedTopic],
    found: Sequence[Problem],
    unusable: str,
) -> DiagnosticArray:
    """Make the report.

    Args:
        name: Name of the node, with its namespace.
        now: Time of the report.
        settings: The settings in force.
        buffer: The messages in memory.
        folder: The folder.
        writer: The writer of the recordings.
        topics: All topics.
        found: The problems.
        unusable: Why the folder cannot be used; "" if it can.
    """
    stored, progress = folder.stored(), writer.progress
    failure = unusable or progress.failure
    level, text = DiagnosticStatus.OK, f"{len(stored)} recordings, {buffer.seconds:.0f} s in memory"
    if progress.name:
        text = f"recording {progress.name}"
    if found:
        level, text = DiagnosticStatus.WARN, "; ".join(problem.text for problem in found)
    if failure:
        level, text = DiagnosticStatus.ERROR, "; ".join([failure, *(problem.text for problem in found)])
    values: list[tuple[str, object]] = [
        ("folder", folder.path),
        ("recordings in the folder", len(stored)),
        ("size of the recordings (MiB)", f"{sum(one.size for one in stored) / MIB:.1f}"),
        ("free space on the disk (MiB)", _number(lambda: shutil.disk_usage(folder.path).free / MIB)),
        ("recording now", progress.name or "-"),
        ("last recording", progress.last or "-"),
        ("written since the start", progress.written),
        ("recovered from a killed process", progress.recovered),
        ("removed to make room", folder.removed),
        ("messages in memory (MiB)", f"{buffer.bytes / MIB:.1f}"),
        ("messages in memory (s)", f"{buffer.seconds:.1f}"),
        ("messages lost", buffer.lost),
        *((f"messages on {watched.topic}", watched.count) for watched in topics),
    ]
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: {PART}",
        message=text,
        values=[KeyValue(key=key, value=str(value)) for key, value in values],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = now.to_msg()
    return array


def _number(read: Callable[[], float]) -> str:
    try:
        return f"{read():.0f}"
    except OSError:
        return "-"
