"""The problems with the detections that the node subscribes to, each in its own sentence with its remedy.

The functions are pure, as those of `problems`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.bags.detection_types import DETECTION_TYPES, OWN, VISION
from explain_cnn_ros.files import quoted
from explain_cnn_ros.ros.distribution import apt_package
from explain_cnn_ros.ros.problems import IMAGES, NAMED, Problem, node_name


@dataclass(frozen=True)
class WatchedDetections:
    """The topic of the detections, and what is known about it.

    Attributes:
        topic: Name of the topic, after remapping.
        images: Name of the image topic, after remapping.
        installed: The types of messages that are installed here, of DETECTION_TYPES.
        publishers: Endpoints of the publishers, of any type.
        topics: Other topics with publishers, with their types, by name.
    """

    topic: str
    images: str
    installed: Sequence[str]
    publishers: Sequence[Any]
    topics: dict[str, list[str]]


@dataclass(frozen=True)
class Matching:
    """The state of the matching of images and detections.

    Attributes:
        arrived: Whether detections have arrived recently.
        wait: Maximum time that an image waits, in seconds.
        lateness: Time from the image to the newest detections, in seconds, if these were late; 0 otherwise.
        no_memory: Whether this image waited for a shorter time, because others needed the memory.
        stamp: Stamp of the newest detections, in nanoseconds.
        image_stamp: Stamp of the newest image, in nanoseconds.
    """

    arrived: bool
    wait: float
    lateness: float
    no_memory: bool
    stamp: int
    image_stamp: int


def unavailable(about: WatchedDetections) -> Problem | None:
    """Return the reason why there can be no subscription to the detections, or None.

    Args:
        about: What is known about the topic.
    """
    begin = f"regions is detections, but {about.topic}"
    if not about.publishers:
        fitting = sorted(name for name, types in about.topics.items() if set(DETECTION_TYPES) & set(types))[:NAMED]
        text = f"{begin} has no publisher"
        if fitting:
            which = fitting[0] if len(fitting) == 1 else "TOPIC"
            has = "has" if len(fitting) == 1 else "have"
            text += f", {', '.join(fitting)} {has}: start the node with -r detections:={which}"
        else:
            text += (
                ", and no other topic has detections: start the detector; then start the node with -r "
                "detections:=TOPIC, if the detector's topic is another one"
            )
        return Problem(IMAGES, "no detector", text)
    types = sorted({p.topic_type for p in about.publishers})
    if set(types) & set(about.installed):
        return None
    if VISION in types:
        return Problem(
            IMAGES,
            "no vision_msgs",
            f"{begin} has the type {VISION}, which is not installed here: install the package vision_msgs "
            f"({apt_package('vision_msgs')}) and start the node again, or publish {OWN}",
        )
    return Problem(
        IMAGES,
        "type of detections",
        f"{begin} has the type {', '.join(types)}: publish {VISION} or {OWN}, or start the node with -r "
        "detections:=TOPIC for another topic",
    )


def unmatched(about: WatchedDetections, matching: Matching, seconds: float) -> Problem:
    """Describe that images arrive, but that none of them has had detections for a time, and why.

    Args:
        about: What is known about the topic.
        matching: The state of the matching.
        seconds: The time.
    """
    begin = f"no image has had detections for {seconds:.0f} s, so that none is decided; "
    if not matching.arrived:
        names = ", ".join(sorted({node_name(p) for p in about.publishers}))
        text = (
            f"{names} publishes nothing on {about.topic}: check that the detector runs, that it receives "
            f"{about.images}, and that it also publishes empty arrays for images without a person"
        )
        return Problem(IMAGES, "detector silent", begin + text)
    if matching.stamp == 0:
        text = f"the stamps on {about.topic} are 0: let the detector copy the header of the image"
        return Problem(IMAGES, "detections without stamps", begin + text)
    if matching.no_memory:
        text = (
            f"the detections arrive {matching.lateness:.1f} s after their images, but the images need too much memory "
            "to wait for them: subscribe to compressed images (image_transport), or let the detector be faster"
        )
        return Problem(IMAGES, "detections late", begin + text)
    if matching.lateness:
        text = (
            f"the detections on {about.topic} arrive {matching.lateness:.1f} s after their images, which wait for "
            f"{matching.wait:g} s: raise the parameter detections_wait, or let the detector be faster"
        )
        return Problem(IMAGES, "detections late", begin + text)
    text = (
        f"no image has the stamps of {about.topic}: the newest detections have {_stamp_text(matching.stamp)}, the "
        f"newest image on {about.images} has {_stamp_text(matching.image_stamp)}; let the detector search the images "
        "of this topic and copy their headers"
    )
    return Problem(IMAGES, "stamps of detections", begin + text)


def _stamp_text(nanoseconds: int) -> str:
    """Return a stamp with all digits, which show a detector that rounds stamps."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def other_frame(about: WatchedDetections, frame_id: str, image_frame_id: str) -> Problem:
    """Note that detections have another frame_id than the images whose stamps they have.

    Args:
        about: What is known about the topic.
        frame_id: frame_id of the detections.
        image_frame_id: frame_id of the images.
    """
    return Problem(
        IMAGES,
        "frame_id of detections",
        f"the frame_id on {about.topic} is {quoted(frame_id)}, that of the images {quoted(image_frame_id)}: if the "
        "detector searches the images of another camera, its boxes do not fit these images",
        note=True,
    )


def refused(topic: str, count: int, reason: str) -> Problem:
    """Describe that boxes are refused.

    Args:
        topic: Name of the topic, after remapping.
        count: Number of boxes that have been refused in total.
        reason: Reason for the last one.
    """
    return Problem(
        IMAGES,
        "boxes refused",
        f"boxes on {topic} are refused ({count} in total): {reason}; check that the detector's boxes are in pixels of "
        "the original image, with its size before any resizing",
    )
