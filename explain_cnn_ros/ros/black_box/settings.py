"""The parameters of the black box, as options of a frozen dataclass; without ROS."""

from __future__ import annotations

from dataclasses import dataclass

from explain_cnn_ros.options import option, validate

MIB = 1024**2

#: Time that messages stay in memory in addition to `before` and `change_stable`, in seconds.
SPARE = 2.0


@dataclass(frozen=True)
class BlackBoxSettings:
    """All parameters of the black box.

    Raises:
        ValueError: A value is out of range; the message names the parameter and what is expected.
    """

    folder: str = option(
        "~/black_box",
        "Folder of the recordings. It is created if it does not exist. Only one black box can use a folder.",
        read_only=True,
    )
    node: str = option(
        "explain_node",
        "Name of the node whose decisions and explanations are recorded; relative to the black box's namespace.",
        read_only=True,
    )
    image_transport: str = option(
        "raw",
        "Transport of the recorded images: raw (topic image) or compressed (topic image/compressed). Raw images need "
        "about ten times as much memory.",
        choices=("raw", "compressed"),
        read_only=True,
    )
    overlay: bool = option(
        False,
        "Whether ~/overlay/compressed of the node is recorded as well. The node then draws every explanation.",
        read_only=True,
    )
    tf: bool = option(True, "Whether /tf and /tf_static are recorded.", read_only=True)
    topics: str = option(
        "",
        "Further topics to record, separated by commas or spaces. Any message type that is installed is possible.",
        read_only=True,
    )
    trigger_topics: str = option(
        "",
        "Topics that trigger a recording, separated by commas or spaces: std_msgs/Empty with each message, "
        "std_msgs/Bool when the value becomes true.",
        read_only=True,
    )
    actions: str = option(
        "",
        "Actions that trigger a recording when they abort a goal, separated by commas or spaces, for instance "
        "navigate_to_pose.",
        read_only=True,
    )
    before: float = option(10.0, "Time before an event that is recorded, in seconds.", 0.0, 600.0)
    after: float = option(5.0, "Time after an event that is recorded, in seconds.", 0.0, 600.0)
    length_max: float = option(
        60.0,
        "Maximum length of a recording, in seconds. Events that follow each other extend a recording up to this.",
        1.0,
        3600.0,
    )
    memory_mib: int = option(
        512, "Maximum size of the messages in memory, in MiB. If they need more, the oldest ones go.", 1, 1_000_000
    )
    recording_mib: int = option(
        512,
        "Maximum size of one recording, in MiB. A recording is also limited to half of folder_mib, and to half of the "
        "space that there is for recordings.",
        1,
        1_000_000,
    )
    folder_mib: int = option(
        4096,
        "Maximum size of all recordings in the folder, in MiB. If they need more, the oldest ones are removed.",
        1,
        100_000_000,
    )
    free_mib: int = option(
        200,
        "Free space that recordings leave on the disk, in MiB, but at most a twentieth of the disk. If there is less, "
        "the oldest recordings are removed.",
        0,
        100_000_000,
    )
    compress: bool = option(True, "Whether the recordings are compressed (zstd), which needs CPU time for raw images.")
    doubt: bool = option(True, "Whether a decision of low confidence triggers a recording, if the one before had none.")
    doubt_holdoff: float = option(
        30.0, "Minimum time between two recordings that doubt triggers, in seconds.", 0.0, 86_400.0
    )
    change: bool = option(True, "Whether a change of the decision between person and no person triggers a recording.")
    change_stable: float = option(
        1.0,
        "Time that a new decision must last to count as a change, in seconds. Shorter changes are flicker.",
        0.0,
        60.0,
    )
    change_holdoff: float = option(
        10.0, "Minimum time between two recordings that changes trigger, in seconds.", 0.0, 86_400.0
    )
    error: bool = option(True, "Whether a status on /diagnostics that becomes ERROR triggers a recording.")
    error_holdoff: float = option(
        30.0, "Minimum time between two recordings that the same status triggers, in seconds.", 0.0, 86_400.0
    )

    def __post_init__(self) -> None:
        validate(self)


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list that is separated by commas or spaces, each once."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))
