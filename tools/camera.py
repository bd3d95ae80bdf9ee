"""Publishes images at a steady rate, for tests and benchmarks. Each image is stamped when it is sent.

    python tools/camera.py [--topic /image] [--size 640x480] [--rate 30] [--seconds 5] [--best-effort] [--zoom 2.5]
        [--jpeg]

The images are raw, or JPEG with --jpeg. They show noise or, with --zoom, enlarged centres of the sample recording's
images. The command waits for a subscription first, and prints how many images it sent.
"""

from __future__ import annotations

import argparse
import array
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.reader import BagReader

SAMPLE = Path(__file__).resolve().parent.parent / "sample/street"


def pictures(width: int, height: int, zoom: float) -> list[np.ndarray]:
    """Return the images that are published in turn, uint8 [H, W, 3] RGB. Zoom 0 gives noise."""
    if not zoom:
        return [np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)]
    shown = []
    with BagReader(SAMPLE) as bag:
        for message in bag.messages([bag.image_topic().name]):
            frame = to_rgb(deserialize_message(message.data, CompressedImage))
            rows, columns = round(height / zoom), round(width / zoom)
            top, left = (frame.shape[0] - rows) // 2, (frame.shape[1] - columns) // 2
            part = frame[max(top, 0) : max(top, 0) + rows, max(left, 0) : max(left, 0) + columns]
            shown.append(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC))
    return shown


def message_of(pixels: np.ndarray, jpeg: bool) -> Image | CompressedImage:
    """Return the message of an image, uint8 [H, W, 3] RGB."""
    if jpeg:
        encoded = cv2.imencode(".jpg", pixels[..., ::-1])[1]
        return CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", encoded.tobytes()))
    height, width = pixels.shape[:2]
    return Image(width=width, height=height, encoding="rgb8", step=3 * width, data=array.array("B", pixels.tobytes()))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--topic", default="/image", help="[%(default)s]")
    parser.add_argument("--size", default="640x480", help="[%(default)s]")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second [%(default)s]")
    parser.add_argument("--seconds", type=float, default=5.0, help="[%(default)s]")
    parser.add_argument("--best-effort", action="store_true", help="offer best effort instead of reliable")
    parser.add_argument("--zoom", type=float, default=0.0, help="factor by which the sample is enlarged; 0: noise")
    parser.add_argument("--jpeg", action="store_true", help="publish sensor_msgs/CompressedImage with JPEG")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    rclpy.init()
    node = rclpy.create_node("camera")
    policy = ReliabilityPolicy.BEST_EFFORT if arguments.best_effort else ReliabilityPolicy.RELIABLE
    kind = CompressedImage if arguments.jpeg else Image
    publisher = node.create_publisher(kind, arguments.topic, QoSProfile(depth=10, reliability=policy))
    deadline = time.monotonic() + 60
    while publisher.get_subscription_count() == 0:
        if time.monotonic() > deadline:
            print("camera: no node has subscribed within 60 s", file=sys.stderr)
            return 1
        time.sleep(0.05)
    time.sleep(0.5)
    messages = [message_of(pixels, arguments.jpeg) for pixels in pictures(width, height, arguments.zoom)]
    count = round(arguments.rate * arguments.seconds)
    start = time.monotonic()
    for i in range(count):
        time.sleep(max(0.0, start + i / arguments.rate - time.monotonic()))
        # Each picture lasts for a fifth of a second, as in the sample.
        message = messages[int(i * 5 / arguments.rate) % len(messages)]
        message.header.frame_id = "camera"
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    # Give the last messages time to arrive.
    time.sleep(1.0)
    print(count)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
