"""The least that a node can do with a camera's images: run the bare network for each, and say when it is done.

For `bench/node.py`, to set explain_node beside: the same subscription and the same threads, but nothing is decoded, and
the window is always the same. Publishes the image's header on /bare_node/done.
"""

from __future__ import annotations

import contextlib
import sys
import threading

import numpy as np
import rclpy
import torch
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from explain_cnn_ros.ros.newest import NewestSlot
from explain_cnn_ros.scan.classifier import PersonClassifier


def main() -> int:
    """The command."""
    rclpy.init()
    node = rclpy.create_node("bare_node")
    classifier = PersonClassifier.load()
    width, height = classifier.info.input_size
    window = classifier.normalise(classifier.to_pixels(np.zeros((1, height, width, 3), np.uint8)))
    publisher = node.create_publisher(Header, "~/done", 10)
    newest: NewestSlot[Image] = NewestSlot()

    @torch.inference_mode()
    def work() -> None:
        for _ in range(3):
            classifier.network(window)
        while (message := newest.take()) is not None:
            classifier.network(window)
            publisher.publish(message.header)

    worker = threading.Thread(target=work)
    worker.start()
    node.create_subscription(Image, "/image", newest.put, QoSProfile(depth=1))
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    newest.close()
    worker.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
