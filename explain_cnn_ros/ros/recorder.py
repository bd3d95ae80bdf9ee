"""Records the explanations of a running node: overlays, explanations as JSON, and sheets of each.

record_explanations --output DIR --node explain_node --image camera/image_raw/compressed
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.sheets import sheets
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.files import replace_text, replacing, visible
from explain_cnn_ros.ros.cooldown import Cooldown
from explain_cnn_ros.ros.frame_cache import MIB, FrameCache, Key, key_of, remember
from explain_cnn_ros.ros.messages import explanation_from, region_from
from explain_cnn_ros.ros.playback.arguments import split_arguments
from explain_cnn_ros.ros.signals import start
from explain_cnn_ros.ros.spinning import run_node
from explain_cnn_ros.ros.summary import summary

#: Default of --memory, in MiB: 40 raw images of 1920 x 1080 pixels, or some thousand compressed ones.
MEMORY = 256

#: Number of images that wait for the recorder in the middleware. They come in addition to --memory.
QUEUED = 10

#: Number of decisions that are stored for the other regions in the pictures.
DECISIONS = 1000

#: Time in which the image of an explanation may still arrive, in seconds.
PATIENCE = 2.0

#: Minimum time between two log messages about decisions that were not written, in seconds.
LOG_PERIOD = 5.0

COLUMNS = ("stamp", "person", "probability", "threshold", "low_confidence", "regions", "inference_seconds")


@dataclass(frozen=True)
class Undrawn:
    """An explanation whose image has not arrived.

    Attributes:
        name: Number of its files.
        message: The explanation as a message.
        explanation: The explanation.
        until: Time until which the image may arrive, by `time.monotonic`.
    """

    name: str
    message: msg.Explanation
    explanation: Explanation
    until: float


class Recorder(Node):
    """Writes `NNN_explanation.json`, pictures and `classifications.csv`.

    The pictures are `NNN_overlay.png`, the image with the patches of the neurons; `NNN_slide.png` with what speaks for
    the decision and what against it, if influence was computed; and `NNN_sheet.png` with the other metrics. The JSON is
    the explanation, with a `summary` in words. There are no pictures if it is not certain which image was explained:
    if images have a stamp of 0, or if different images have the same stamp.

    If a file cannot be written, or a message is invalid, that is logged and the recording continues. If the folder
    holds explanations already, the numbers continue after them, and the table is continued.

    Args:
        output: Folder of the files.
        node_name: Name of the recorded node, with its namespace.
        image_topic: Image topic that the recorded node subscribes to.
        context: Context of the node; None for the default context.
        memory: Maximum number of bytes of stored images.

    Attributes:
        output: Folder of the files.
        explanations: Number of explanations in the folder.

    Raises:
        OSError: The folder or the table cannot be written.
    """

    def __init__(
        self,
        output: Path,
        node_name: str,
        image_topic: str,
        context: Context | None = None,
        memory: int = MEMORY * MIB,
    ) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._table = (output / "classifications.csv").open("a", newline="")
        super().__init__("explanation_recorder", context=context, start_parameter_services=False)  # it has none
        self.output = output
        self.explanations = next_number(output)
        self._frames = FrameCache(memory)
        self._decisions: OrderedDict[Key, msg.Classification] = OrderedDict()
        self._undrawn: list[Undrawn] = []
        self._rows = csv.writer(self._table)
        self._not_written = Cooldown()
        if self._table.tell() == 0:
            self._rows.writerow(COLUMNS)
        compressed = image_topic.endswith("/compressed")
        kind = CompressedImage if compressed else Image
        # A best-effort subscription receives from every publisher.
        newest = QoSProfile(depth=QUEUED, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(kind, image_topic, self._on_image, newest)
        self.create_subscription(msg.Classification, f"{node_name}/classification", self._on_classification, 50)
        self.create_subscription(msg.Explanation, f"{node_name}/explanation", self._on_explanation, 50)
        self.create_timer(0.5, self._draw_all, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._frames.add(message)

    def _on_classification(self, message: msg.Classification) -> None:
        self._frames.decide(message.header)
        remember(self._decisions, key_of(message.header), message, DECISIONS)
        try:
            self._rows.writerow(
                [
                    stamp_text(message.header),
                    int(message.person),
                    f"{message.probability:.6f}",
                    f"{message.threshold:g}",
                    int(message.low_confidence),
                    len(message.regions),
                    f"{message.inference_seconds:.4f}",
                ]
            )
            self._table.flush()
        except OSError as error:
            if self._not_written.begin_if_over(LOG_PERIOD):
                self.get_logger().error(f"the decision was not written: {error}")

    def _on_explanation(self, message: msg.Explanation) -> None:
        name = f"{self.explanations:03d}"
        self.explanations += 1
        try:
            explanation = explanation_from(message)
            record = {
                "stamp": stamp_text(message.header),
                "frame_id": message.header.frame_id,
                "trigger": message.trigger,
                "summary": summary(explanation),
                **explanation.to_dict(),
            }
            replace_text(self.output / f"{name}_explanation.json", json.dumps(record, indent=1) + "\n")
        except Exception as error:  # any node can publish any numbers there
            self.get_logger().error(f"explanation {name} was not written: {error}")
            return
        self._undrawn.append(Undrawn(name, message, explanation, time.monotonic() + PATIENCE))
        self._draw_all()

    def _draw_all(self) -> None:
        """Draw the explanations whose images have arrived. Images and explanations arrive in any order."""
        waiting, self._undrawn = self._undrawn, []
        for undrawn in waiting:
            if not self._frames.knows(undrawn.message.header) and time.monotonic() < undrawn.until:
                self._undrawn.append(undrawn)
                continue
            try:
                self._draw(undrawn.name, undrawn.message, undrawn.explanation)
            except LookupError as error:
                self.get_logger().warning(f"no pictures of explanation {undrawn.name}: {error}")
            except Exception as error:  # any node can publish any numbers there
                self.get_logger().error(f"the pictures of explanation {undrawn.name} were not written: {error}")

    def _draw(self, name: str, message: msg.Explanation, explanation: Explanation) -> None:
        frame = to_rgb(self._frames.find(message.header))
        size = frame.shape[1], frame.shape[0]
        if size != explanation.image_size:
            raise LookupError(
                f"the image with its stamp has {size[0]} x {size[1]} pixels, the explained one {message.image_width} x "
                f"{message.image_height}: --image may be another topic than that of the node"
            )
        decision = self._decisions.get(key_of(message.header))
        regions = [region_from(region) for region in decision.regions] if decision else None
        overlay = draw_overlay(frame, explanation, regions=regions, trigger=message.trigger, keep_size=True)
        others = sheets(frame, explanation, regions, trigger=message.trigger)
        for kind, picture in {"overlay": overlay, **others}.items():
            write_png(self.output / f"{name}_{kind}.png", picture)

    def destroy_node(self) -> None:
        """Close the table, and destroy the node."""
        try:
            self._table.close()  # writes the rows that a full disk has refused
        except OSError as error:
            self.get_logger().error(f"the last decisions were not written: {error}")
        finally:
            super().destroy_node()


def stamp_text(header: Header) -> str:
    """Return the stamp of a header as seconds with nine decimals."""
    return f"{header.stamp.sec}.{header.stamp.nanosec:09d}"


def next_number(output: Path) -> int:
    """Return the number after those of the files in a folder: pictures never belong to an earlier explanation."""
    found = [re.match(r"([0-9]{3,9})_", path.name) for path in output.iterdir()]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image as PNG. The file is complete or does not exist.

    Args:
        path: Path of the file.
        image: uint8 [H, W, 3] RGB.

    Raises:
        OSError: The file cannot be written.
    """
    _, data = cv2.imencode(".png", image[:, :, ::-1])
    with replacing(path) as partial:
        partial.write_bytes(data.tobytes())


def mebibytes(text: str) -> int:
    """Parse a number of MiB for argparse, and return the bytes."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 1000000")
    return value * MIB


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = list(sys.argv if args is None else ["record_explanations", *args])
    parser = argparse.ArgumentParser(
        prog="record_explanations", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--node", default="explain_node", help="name of the node, with its namespace [%(default)s]")
    parser.add_argument("--image", default="image", help="image topic that the node subscribes to [%(default)s]")
    parser.add_argument(
        "--memory",
        type=mebibytes,
        default=MEMORY * MIB,
        metavar="MIB",
        help=f"maximum size of the stored images, in MiB [{MEMORY}]",
    )
    options = parser.parse_args(split_arguments(arguments[1:])[0])

    def create() -> Recorder:
        try:
            return Recorder(options.output, options.node, options.image, memory=options.memory)
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"cannot write to {visible(printable(options.output))}: {reason}") from error

    return run_node("record_explanations", create, arguments)


if __name__ == "__main__":
    sys.exit(start("explain_cnn_ros.ros.recorder"))
