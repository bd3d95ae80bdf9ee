"""Records the explanations of a running node: overlays, explanations as JSON, and sheets of each.

record_explanations --output DIR --node explain_node --image camera/image_raw/compressed
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros import msg
from explain_cnn_ros.bags.image_messages import ImageError, to_rgb
from explain_cnn_ros.draw.sheets import sheets
from explain_cnn_ros.ros.messages import explanation_from, region_from
from explain_cnn_ros.ros.spinning import until_stopped
from explain_cnn_ros.ros.summary import summary

#: Number of frames, and of classifications, that are stored for later explanations of them.
CACHE_SIZE = 200

#: Number of overlays that are stored until their explanation arrives. They are large.
OVERLAYS = 10

Stamp = tuple[int, int]


def stamp_of(header: Header) -> Stamp:
    """Return the stamp (seconds, nanoseconds), which an explanation, its frame and its overlay share."""
    return header.stamp.sec, header.stamp.nanosec


class StampedCache(OrderedDict[Stamp, Any]):
    """Stores the newest values by stamp.

    Args:
        size: Maximum number of values.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, stamp: Stamp, value: Any) -> None:
        super().__setitem__(stamp, value)
        while len(self) > self._size:
            self.popitem(last=False)


class Recorder(Node):
    """Writes `NNN_explanation.json`, pictures and `classifications.csv`.

    The pictures are `NNN_overlay.png`, as the node draws it; `NNN_slide.png` with what speaks for the decision and what
    against it, if influence was computed; and `NNN_sheet.png` with the other metrics. The JSON is the explanation, with
    a `summary` in words.

    If a file cannot be written, or a message is invalid, that is logged and the recording continues.

    Args:
        output: Folder of the files.
        node_name: Name of the recorded node, with its namespace.
        image_topic: Image topic that the recorded node subscribes to.
        context: Context of the node; None for the default context.

    Attributes:
        output: Folder of the files.
        explanations: Number of explanations that have arrived.
    """

    def __init__(self, output: Path, node_name: str, image_topic: str, context: Context | None = None) -> None:
        super().__init__("explanation_recorder", context=context)
        self.output = output
        output.mkdir(parents=True, exist_ok=True)
        self.explanations = 0
        self._frames, self._classifications = StampedCache(CACHE_SIZE), StampedCache(CACHE_SIZE)
        # Explanations whose overlay, and overlays whose explanation, has not arrived yet.
        self._names, self._overlays = StampedCache(CACHE_SIZE), StampedCache(OVERLAYS)
        self._table = (output / "classifications.csv").open("w", newline="")
        self._rows = csv.writer(self._table)
        self._rows.writerow(
            ["stamp", "person", "probability", "threshold", "low_confidence", "regions", "inference_seconds"]
        )
        compressed = image_topic.endswith("/compressed")
        kind = CompressedImage if compressed else Image
        # A best-effort subscription receives from every publisher.
        newest = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(kind, image_topic, self._on_image, newest)
        self.create_subscription(msg.Classification, f"{node_name}/classification", self._on_classification, 50)
        self.create_subscription(msg.Explanation, f"{node_name}/explanation", self._on_explanation, 50)
        self.create_subscription(Image, f"{node_name}/overlay", self._on_overlay, 20)
        # A signal that arrives right after a callback is noticed only when the executor wakes up.
        self.create_timer(0.5, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._frames[stamp_of(message.header)] = message

    def _on_classification(self, message: msg.Classification) -> None:
        stamp = stamp_of(message.header)
        self._classifications[stamp] = message
        self._rows.writerow(
            [
                f"{stamp[0]}.{stamp[1]:09d}",
                int(message.person),
                f"{message.probability:.6f}",
                f"{message.threshold:g}",
                int(message.low_confidence),
                len(message.regions),
                f"{message.inference_seconds:.4f}",
            ]
        )
        self._table.flush()

    def _on_explanation(self, message: msg.Explanation) -> None:
        try:
            self._write(message)
        except (OSError, ValueError) as error:
            self.get_logger().error(f"the explanation was not written: {error}")

    def _write(self, message: msg.Explanation) -> None:
        stamp = stamp_of(message.header)
        name = f"{self.explanations:03d}"
        self.explanations += 1
        self._names[stamp] = [*self._names.get(stamp, []), name]
        self._write_overlays(stamp)
        explanation = explanation_from(message)
        record = {
            "stamp": f"{stamp[0]}.{stamp[1]:09d}",
            "frame_id": message.header.frame_id,
            "trigger": message.trigger,
            "summary": summary(explanation),
            **explanation.to_dict(),
        }
        (self.output / f"{name}_explanation.json").write_text(json.dumps(record, indent=1) + "\n")
        frame = self._frames.get(stamp)
        if frame is None:
            self.get_logger().warning(f"no sheets of explanation {name}: its frame did not arrive here")
            return
        classification = self._classifications.get(stamp)
        regions = [region_from(r) for r in classification.regions] if classification else None
        for kind, sheet in sheets(to_rgb(frame), explanation, regions, trigger=message.trigger).items():
            write_png(self.output / f"{name}_{kind}.png", sheet)

    def _on_overlay(self, message: Image) -> None:
        stamp = stamp_of(message.header)
        self._overlays[stamp] = [*self._overlays.get(stamp, []), message]
        self._write_overlays(stamp)

    def _write_overlays(self, stamp: Stamp) -> None:
        """Write the overlays of a frame whose explanations have arrived. Either of the two may arrive first."""
        names, overlays = self._names.get(stamp, []), self._overlays.get(stamp, [])
        while names and overlays:
            try:
                write_png(self.output / f"{names.pop(0)}_overlay.png", to_rgb(overlays.pop(0)))
            except (OSError, ImageError) as error:
                self.get_logger().error(f"the overlay was not written: {error}")

    def close(self) -> None:
        """Close the table."""
        self._table.close()


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image as PNG.

    Args:
        path: Path of the file.
        image: uint8 [H, W, 3] RGB.

    Raises:
        OSError: The file cannot be written.
    """
    _, data = cv2.imencode(".png", image[:, :, ::-1])
    path.write_bytes(data.tobytes())


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = list(sys.argv if args is None else ["record_explanations", *args])
    parser = argparse.ArgumentParser(
        prog="record_explanations", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--node", default="explain_node", help="name of the node, with its namespace [%(default)s]")
    parser.add_argument("--image", default="image", help="image topic that the node subscribes to [%(default)s]")
    options = parser.parse_args(remove_ros_args(arguments)[1:])
    rclpy.init(args=arguments)
    recorder = Recorder(options.output, options.node, options.image)
    try:
        until_stopped(lambda: rclpy.spin(recorder))
    finally:
        recorder.close()
        recorder.destroy_node()
        rclpy.try_shutdown()
    return 0
