"""Explains why a VGG-16 person classifier decided as it did, on camera images, with or without ROS 2."""

from pkgutil import extend_path

# This package may lie in two folders at once: the sources in a working directory, and the built overlay, which alone
# holds the generated msg and srv modules. Python imports the folder that it finds first; extending the path merges
# both, so that `explain_cnn_ros.msg` is found from within a checkout as well.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
