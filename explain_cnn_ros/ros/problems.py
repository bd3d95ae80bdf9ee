"""The problems that the node reports in its log, on /diagnostics and thereby in `status`, each in its own sentence.

`doctor` finds some of them without the node, and uses the same sentences.

The functions are pure: they get what is known about the graph and the images, and return the sentence with its remedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from explain_cnn_ros.files import quoted

#: Parts of the report on /diagnostics that problems belong to.
IMAGES, CLASSIFICATION, EXPLANATIONS = "images", "classification", "explanations"

#: Minimum time between two log messages about the same problem, in seconds.
REPEAT = 20.0

#: Stamps before 2000-01-01 do not come from a clock that has been set. Nanoseconds since 1970.
YEAR_2000 = 946_684_800 * 10**9

#: Maximum age of an image when it arrives, and maximum lead of its stamp, that are not reported, in seconds.
LATE, EARLY = 2.0, 0.5

#: Images that are older than this when they arrive are taken for a recording. In seconds.
RECORDED = 3600.0

RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"

#: Maximum number of topics that a remedy names.
NAMED = 3

#: The remedy if no topic has images.
START_CAMERA = "start the camera, and check that ROS_DOMAIN_ID is the same"


@dataclass(frozen=True)
class Problem:
    """A problem, or a note.

    Attributes:
        part: Part of the report that it belongs to.
        kind: A word for the kind of problem. The text may change from report to report.
        text: Description and remedy.
        note: Whether it is only a note: the level of the report stays OK, and the log has it once.
    """

    part: str
    kind: str
    text: str
    note: bool = False


class Announcer:
    """Passes problems to a log: each at once, again after a while, and again when it comes back.

    Args:
        warn: Logs a problem.
        inform: Logs a note.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, warn: Callable[[str], Any], inform: Callable[[str], Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._warn, self._inform, self._clock = warn, inform, clock
        self._logged: dict[str, float] = {}

    def announce(self, problems: Sequence[Problem]) -> None:
        """Log the problems that there are now, unless they have been logged recently."""
        now = self._clock()
        for problem in problems:
            last = self._logged.get(problem.kind)
            if last is None or (not problem.note and now - last >= REPEAT):
                self._logged[problem.kind] = now
                # In two lines: a logger of rclpy allows one severity for each line that calls it.
                if problem.note:
                    self._inform(problem.text)
                else:
                    self._warn(problem.text)
        for kind in [kind for kind, last in self._logged.items() if now - last >= REPEAT]:
            if kind not in {problem.kind for problem in problems}:
                del self._logged[kind]


@dataclass(frozen=True)
class WatchedTopic:
    """The image topic, and what is known about it.

    Attributes:
        topic: Name of the topic, after remapping.
        remapped: Name that has to be remapped: "image" or "image/compressed".
        raw: Whether the node expects raw images.
        reliability: Reliability of the subscription: "reliable", "best_effort", or "" without a subscription.
        publishers: Endpoints of the publishers, of any type.
        received: Whether an image has arrived since the node was activated.
        topics: Other topics with publishers, with their types, by name.
    """

    topic: str
    remapped: str
    raw: bool
    reliability: str
    publishers: Sequence[Any]
    received: bool
    topics: dict[str, list[str]]

    @property
    def type(self) -> str:
        """The type that the node expects."""
        return RAW if self.raw else COMPRESSED

    @property
    def other_transport(self) -> str:
        """The other value of the parameter image_transport."""
        return "compressed" if self.raw else "raw"


def silence(about: WatchedTopic, seconds: float) -> Problem:
    """Describe that no image has arrived for a time, and why.

    Args:
        about: What is known about the topic.
        seconds: The time.
    """
    begin = f"no image on {about.topic} for {seconds:.0f} s; "
    publishers = [p for p in about.publishers if p.topic_type == about.type]
    if not about.publishers:
        return Problem(IMAGES, "no publisher", begin + _no_publisher(about))
    if not publishers:
        types = ", ".join(sorted({p.topic_type for p in about.publishers}))
        remedy = f"start the node with -r {about.remapped}:=TOPIC for another topic"
        if types == (COMPRESSED if about.raw else RAW):
            remedy += f", or with -p image_transport:={about.other_transport} -r {_other(about)}:={about.topic}"
        return Problem(IMAGES, "type", f"{begin}its type is {types}, not {about.type}: {remedy}")
    offered = ", ".join(f"{node_name(p)} {p.qos_profile.reliability.name.lower()}" for p in publishers)
    if about.reliability == "reliable" and any(
        p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers
    ):
        text = (
            f"its publishers' QoS does not match: the node requests reliable, the publishers offer: {offered}; the "
            "parameter reliability is read-only: start the node with -p reliability:=auto"
        )
        return Problem(IMAGES, "qos", begin + text)
    if about.received and all(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers):
        text = f"its publisher ({offered}) latches its last image, which has arrived: this may be intended"
        return Problem(IMAGES, "latched", begin + text, note=True)
    text = (
        f"its publishers are silent ({offered}): check that the camera is running; if it runs in another container or "
        "as another user, let both share memory (--ipc=host), or set FASTDDS_BUILTIN_TRANSPORTS=UDPv4 for both"
    )
    return Problem(IMAGES, "silent", begin + text)


def node_name(endpoint: Any) -> str:
    """Return the name of the node of an endpoint, which is not known for a moment after the discovery."""
    name = str(endpoint.node_name)
    return "unnamed" if name.startswith("_NODE_NAME_UNKNOWN") else name


def _other(about: WatchedTopic) -> str:
    return "image/compressed" if about.raw else "image"


def _no_publisher(about: WatchedTopic) -> str:
    fitting, other = _of_type(about.topics, about.type), COMPRESSED if about.raw else RAW
    others = _of_type(about.topics, other)
    # The transport is part of the remapped name: a remapping of `image` does not apply to `image/compressed`.
    if fitting:
        remedy = f"start the node with -r {about.remapped}:={_one_of(fitting)}"
        return f"it has no publisher, {', '.join(fitting)} has: {remedy}"
    if others:
        return (
            f"it has no publisher, and no other topic has the type {about.type}; {', '.join(others)} has the type "
            f"{other}: start the node with -p image_transport:={about.other_transport} "
            f"-r {_other(about)}:={_one_of(others)}"
        )
    return (
        f"it has no publisher, and no other topic has images: {START_CAMERA}; then start the node with "
        f"-r {about.remapped}:=TOPIC, if the camera's topic is another one"
    )


def _of_type(topics: dict[str, list[str]], kind: str) -> list[str]:
    return sorted(name for name, types in topics.items() if kind in types)[:NAMED]


def _one_of(topics: Sequence[str]) -> str:
    return topics[0] if len(topics) == 1 else "TOPIC"


def no_node(topics: dict[str, list[str]]) -> Problem:
    """Describe that no node of this package is running, and how to start one for the images that there are.

    Args:
        topics: Image topics with publishers, with their types, by name.
    """
    begin = "no node of this package is running"
    raw, compressed = _of_type(topics, RAW), _of_type(topics, COMPRESSED)
    if not raw and not compressed:
        return Problem(IMAGES, "no node", f"{begin}, and no topic has images: {START_CAMERA}", note=True)
    ways = []
    if raw:
        ways.append(f"for {', '.join(raw)} with -r image:={_one_of(raw)}")
    if compressed:
        remap = f"-r image/compressed:={_one_of(compressed)}"
        ways.append(f"for {', '.join(compressed)} with -p image_transport:=compressed {remap}")
    return Problem(IMAGES, "no node", f"{begin}: start it {', or '.join(ways)}", note=True)


def no_report(name: str) -> Problem:
    """Describe that a node that is running does not report on /diagnostics.

    Args:
        name: Name of the node, with its namespace.
    """
    text = f"{name} is running, but does not report on /diagnostics: its log may say why; end it, and start it again"
    return Problem(CLASSIFICATION, "no report", text)


def stamps(topic: str, stamp: int, age: float, simulated: bool, late: float = LATE) -> Problem | None:
    """Return the problem with the stamps of images, or None.

    Args:
        topic: Name of the image topic.
        stamp: Stamp of the newest image, in nanoseconds since 1970.
        age: Median of the times from the stamps to the arrivals by the node's clock, in seconds.
        simulated: Whether the node's clock is that of /clock.
        late: Maximum age that is not reported, in seconds.
    """
    if -EARLY <= age <= late:
        return None
    if stamp == 0:
        text = "are 0: results cannot be assigned to images by their stamps; let the camera's driver set header.stamp"
        return Problem(IMAGES, "stamps of 0", f"the stamps of the images on {topic} {text}")
    begin = f"the stamps of the images on {topic}"
    if age > RECORDED and stamp < YEAR_2000:
        return Problem(
            IMAGES,
            "stamps since boot",
            f"{begin} are no system times: the newest is {stamp / 1e9:.3f} s after 1970. Perhaps the camera measures "
            "the time since it was started. Ages and TF are wrong; let the driver stamp images with the time of the "
            "system",
        )
    if age > RECORDED and not simulated:
        return Problem(
            IMAGES,
            "recorded stamps",
            f"{begin} are {_duration(age)} old: if a recording is played, publish its /clock and start the node with "
            "-p use_sim_time:=true; ages and TF are wrong otherwise",
            note=True,
        )
    clock = "/clock" if simulated else "the node's clock"
    remedy = "start all nodes with the same use_sim_time" if simulated else "synchronise the clocks of the machines"
    if age < -EARLY:
        return Problem(IMAGES, "stamps ahead", f"{begin} are {_duration(-age)} ahead of {clock}: {remedy}")
    return Problem(
        IMAGES,
        "stamps behind",
        f"{begin} are {_duration(age)} behind {clock} when they arrive: {remedy}, or let the driver and the network "
        "store fewer images",
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def several_cameras(topic: str, frame_ids: Sequence[str], publishers: Sequence[str]) -> Problem:
    """Describe that images of several cameras arrive on one topic.

    Args:
        topic: Name of the image topic.
        frame_ids: The frame_ids of recent images; a single one if all cameras have the same.
        publishers: Names of the nodes that publish the topic.
    """
    named = ", ".join(map(quoted, sorted(frame_ids)))
    which = f"with the frame_ids {named}" if len(frame_ids) > 1 else f"of several publishers with the frame_id {named}"
    return Problem(
        IMAGES,
        "several cameras",
        f"images {which} arrive in turn on {topic}, from {', '.join(sorted(publishers))}: remap the topic of all "
        "cameras except one",
    )


def calibration(topic: str, images: str, frame_id: str, calibrated: dict[str, bool]) -> Problem | None:
    """Return the reason why no markers can be published, or None.

    Args:
        topic: Name of the topic of the calibration, after remapping.
        images: Name of the image topic.
        frame_id: frame_id of the images.
        calibrated: Whether P is a projection, by the frame_id of each calibration that has arrived.
    """
    if not calibrated:
        return Problem(
            EXPLANATIONS,
            "no calibration",
            f"no markers, since nothing has arrived on {topic}: start the node with -r camera_info:=TOPIC, or publish "
            "the calibration of the camera",
        )
    if frame_id not in calibrated:
        return Problem(
            EXPLANATIONS,
            "frame_ids differ",
            f"no markers, since frame_ids differ: {quoted(frame_id)} on {images}, "
            f"{', '.join(map(quoted, sorted(calibrated)[:NAMED]))} on {topic}; let the driver use one frame_id, or "
            "remap camera_info to the calibration of this camera",
        )
    if not calibrated[frame_id]:
        return Problem(
            EXPLANATIONS,
            "not calibrated",
            f"no markers, since the calibration on {topic} has no projection (P is zero): calibrate the camera",
        )
    return None


def other_shape(topic: str, calibrated: tuple[int, int], image: tuple[int, int]) -> Problem:
    """Return the problem that the calibration does not belong to the images.

    Args:
        topic: Name of the topic of the calibration, after remapping.
        calibrated: Size (width, height) of the image that is calibrated.
        image: Size (width, height) of the images.
    """
    return Problem(
        EXPLANATIONS,
        "another shape",
        f"no markers, since the calibration on {topic} is for images of {calibrated[0]} x {calibrated[1]} pixels, and "
        f"the images have {image[0]} x {image[1]}: publish the calibration of the mode that the camera uses",
    )


def namesakes(name: str, count: int) -> Problem | None:
    """Return the problem that several nodes have the same name, or None.

    Args:
        name: Name of the node, with its namespace.
        count: Number of nodes with this name.
    """
    if count <= 1:
        return None
    return Problem(
        CLASSIFICATION,
        "namesakes",
        f"{count} nodes have the name {name}: both publish the same topics, and either may answer a request; end the "
        "others, or start one with -r __node:=NAME",
    )


def clock(
    simulated: bool,
    now: int,
    publishers: int,
    part: str = CLASSIFICATION,
    consequence: str = "explain_cooldown never ends",
) -> Problem | None:
    """Return the problem that simulated time stands still, or None.

    Args:
        simulated: Whether the node's clock is that of /clock.
        now: Time of the node's clock, in nanoseconds.
        publishers: Number of publishers of /clock.
        part: Part of the node that has the problem.
        consequence: What follows from it, for the text.
    """
    if not simulated or now > 0:
        return None
    cause = "has no publisher" if not publishers else "has not had a message"
    return Problem(
        part,
        "no clock",
        f"use_sim_time is true, but /clock {cause}: the node's time stays 0, and {consequence}; play the recording "
        "with --clock, or set use_sim_time to false",
    )
