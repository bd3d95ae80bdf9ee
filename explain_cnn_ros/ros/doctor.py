"""Checks what this package needs on this machine.

    explain-cnn doctor

Each check prints one line with the level (ok, warning or missing) and the finding, and a second line with the remedy if
there is a problem. The command needs only Python itself.

The last check watches the ROS graph for some seconds. It prints a line for each problem that the running nodes report,
and for each problem with the images of the cameras.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from explain_cnn_ros.files import visible
from explain_cnn_ros.ros import security, transport
from explain_cnn_ros.ros.distribution import apt_package, distribution

#: Free shared memory that camera images need, in bytes: the segment of config/fastdds.xml, for two processes.
SHARED_MEMORY = 2 * 33_554_432

#: Maximum duration of a decision that is fast enough for a camera, in seconds.
SLOW = 0.2

#: The values of ROS_AUTOMATIC_DISCOVERY_RANGE.
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        level: "ok", "warning" (it works, but not well) or "missing" (it does not work).
        text: Description of the result.
        cure: The remedy; "" if there is no problem, or if the text names the remedy.
    """

    level: str
    text: str
    cure: str = ""


def check_python() -> Finding:
    """Report the Python interpreter."""
    return Finding("ok", f"Python {platform.python_version()}, {sys.executable}")


def module_check(name: str, cure: str, needed: bool = True) -> Callable[[], Finding]:
    """Make a check whether a module can be imported.

    Args:
        name: Name of the module.
        cure: The remedy if it cannot.
        needed: Whether the node needs the module.
    """

    def check() -> Finding:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            return Finding("missing" if needed else "warning", f"{name}: {type(error).__name__}: {error}", cure)
        version = getattr(module, "__version__", "")
        return Finding("ok", f"{name} {version}".strip())

    return check


def check_opencv() -> Finding:
    """Check that OpenCV is installed in a supported version."""
    found = module_check("cv2", "apt install python3-opencv, or pip install 'opencv-python>=4.6,<5'")()
    if found.level == "ok" and found.text.split()[1].split(".")[0] != "4":
        return Finding("warning", found.text, "this package is tested with OpenCV 4: pip install 'opencv-python<5'")
    return found


def check_messages() -> Finding:
    """Check that the messages of this package are built."""
    try:
        importlib.import_module("explain_cnn_ros.msg")
    except Exception as error:
        return Finding(
            "missing", f"messages: {error}", "build the package (colcon build) and source install/setup.bash"
        )
    return Finding("ok", "messages of explain_cnn_ros are built")


def check_detections() -> Finding:
    """Report whether the node can subscribe to the detections of vision_msgs."""
    try:
        importlib.import_module("vision_msgs.msg")
    except ImportError:
        return Finding(
            "ok",
            "vision_msgs is not installed; only detectors that publish it need it (apt install "
            f"{apt_package('vision_msgs')})",
        )
    return Finding("ok", "vision_msgs is installed")


def check_device() -> Finding:
    """Report the device of the network."""
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return Finding("missing", "no device, because torch is missing", "install torch")
    if torch.cuda.is_available():
        return Finding("ok", f"GPU {torch.cuda.get_device_name(0)}")
    gpu = shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()
    if gpu:
        return Finding(
            "warning",
            "there is an NVIDIA GPU, but PyTorch cannot use it",
            "install PyTorch with a CUDA version that the driver supports (see nvidia-smi)",
        )
    return Finding("ok", f"CPU, {torch.get_num_threads()} threads; no NVIDIA GPU")


def check_weights() -> Finding:
    """Check the weights of this package, and measure the duration of a decision."""
    try:
        import numpy as np

        from explain_cnn_ros.scan.classifier import PersonClassifier

        classifier = PersonClassifier.load()
        width, height = classifier.info.input_size
        window = np.zeros((1, height, width, 3), np.uint8)
        classifier.probability(window)
        start = time.perf_counter()
        classifier.probability(window)
        seconds = time.perf_counter() - start
    except Exception as error:
        return Finding(
            "missing",
            f"weights: {error}",
            "the file is part of the package: restore it (git checkout), or install the package again",
        )
    text = f"weights {classifier.model_hash}, a decision takes {1e3 * seconds:.0f} ms on {classifier.device}"
    if seconds > SLOW:
        return Finding(
            "warning", text, "this is too slow for a camera: check whether the machine is busy, or use a GPU"
        )
    return Finding("ok", text)


def check_middleware() -> Finding:
    """Check that the middleware can transport large images."""
    name = os.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if not transport.is_fast_dds(name):
        return Finding("ok", f"middleware {name}: see its documentation for large images")
    profile = transport.profile_in_force()
    if not profile:
        text = "Fast DDS without a profile: raw images between processes are lost or late"
        ignored = transport.ignored_variable()
        if ignored:
            text += f"; Fast DDS of ROS 2 {distribution().title()} does not know {ignored}"
        return Finding("warning", text, transport.cure())
    if not (Path(profile).is_file() and os.access(profile, os.R_OK)):
        text = f"the Fast DDS profile {profile} does not exist, or cannot be read"
        return Finding("missing", text, transport.cure())
    text = f"Fast DDS with the profile {profile}"
    transports = transport.ignored_transports(profile)
    if transports:
        return Finding(
            "warning",
            f"{text}, whose useBuiltinTransports is false: {transport.TRANSPORTS}={transports} has no effect",
            f"unset {transport.TRANSPORTS}, or choose the transports in the profile",
        )
    return Finding("ok", text)


def check_shared_memory() -> Finding:
    """Check that shared memory has space for images."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("warning", "no /dev/shm", "Fast DDS uses UDP instead: start the container with --shm-size=256m")
    free = shutil.disk_usage(folder).free
    text = f"shared memory: {free / 2**20:.0f} MiB free"
    if free < SHARED_MEMORY:
        return Finding("warning", text, "start the container with --shm-size=256m, or delete stale /dev/shm/fastrtps_*")
    return Finding("ok", text)


def check_domain() -> Finding:
    """Check the settings of discovery."""
    # ROS takes a variable that is empty as one that is not set.
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not domain.isdigit() or int(domain) > 232:
        return Finding("missing", f"ROS_DOMAIN_ID={domain} is not valid", "use a number from 0 to 101")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    # With ROS_LOCALHOST_ONLY=1, ROS ignores the range. It accepts an unknown range, and only logs a warning about it.
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        if reach not in ("", "LOCALHOST"):
            return Finding(
                "warning",
                f"ROS_LOCALHOST_ONLY=1 replaces ROS_AUTOMATIC_DISCOVERY_RANGE={reach}: nodes of other machines are not "
                "found",
                "unset ROS_LOCALHOST_ONLY, which is deprecated",
            )
        reach = "LOCALHOST (by ROS_LOCALHOST_ONLY)"
    elif reach and reach not in RANGES:
        return Finding(
            "warning",
            f"ROS_AUTOMATIC_DISCOVERY_RANGE={reach} is unknown and counts as LOCALHOST: nodes of other machines are "
            "not found",
            f"use one of {', '.join(RANGES)}",
        )
    elif reach == "OFF":
        return Finding(
            "warning",
            "ROS_AUTOMATIC_DISCOVERY_RANGE=OFF: no node finds another one, not even on this machine",
            "set it to LOCALHOST or SUBNET, for the camera and for the node",
        )
    text = f"ROS_DOMAIN_ID {domain}, discovery {reach or 'SUBNET'}: the camera and the node must have the same"
    return Finding("ok", text)


def check_security() -> Finding:
    """Check whether commands can run with the settings of SROS 2."""
    if not security.enabled():
        return Finding("ok", "ROS_SECURITY_ENABLE is not true: topics are neither encrypted nor restricted")
    refusal = security.refusal()
    if refusal:
        return Finding("missing", *refusal.split(": ", 1))
    return Finding("ok", f"ROS_SECURITY_ENABLE, keystore {os.environ.get('ROS_SECURITY_KEYSTORE', '')!r}")


def check_graph() -> list[Finding]:
    """Report the problems of the nodes and cameras that are running."""
    if security.refusal():
        return [
            Finding("warning", "not examined: ROS_SECURITY_ENABLE cannot be used here", "install what is missing above")
        ]
    try:
        graph = importlib.import_module("explain_cnn_ros.ros.graph")
    except ImportError as error:
        return [Finding("warning", f"not examined: {error}", "install what is missing above")]
    found = [Finding("ok" if problem.note else "warning", problem.text) for problem in graph.graph_problems()]
    return found or [Finding("ok", "the nodes and cameras that are running report no problem")]


CHECKS: dict[str, Callable[[], Finding | list[Finding]]] = {
    "python": check_python,
    "rclpy": module_check(
        "rclpy",
        f"install ROS 2 {distribution().title()} and source /opt/ros/{distribution()}/setup.bash; or run `make setup`",
    ),
    "messages": check_messages,
    "detections": check_detections,
    "cv_bridge": module_check("cv_bridge", f"apt install {apt_package('cv_bridge')}", needed=False),
    "numpy": module_check("numpy", "apt install python3-numpy"),
    "opencv": check_opencv,
    "torch": module_check("torch", "pip install torch, in the environment that ROS's Python uses"),
    "torchvision": module_check(
        "torchvision", "pip install torchvision (for networks of torchvision; see docs/own_network.md)", needed=False
    ),
    "safetensors": module_check("safetensors", "pip install safetensors"),
    "rosbags": module_check("rosbags", "pip install rosbags (for black_box, play_bag and analyze)", needed=False),
    "pyarrow": module_check("pyarrow", "pip install pyarrow (for analyze)", needed=False),
    "device": check_device,
    "weights": check_weights,
    "middleware": check_middleware,
    "shared memory": check_shared_memory,
    "domain": check_domain,
    "security": check_security,
    "graph": check_graph,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if something is missing, and 0 otherwise."""
    argparse.ArgumentParser(
        prog="explain-cnn doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args(argv)
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            result = check()
        except Exception as error:
            result = Finding(
                "warning", f"the check itself failed: {type(error).__name__}: {error}", "report this as a bug"
            )
        for finding in result if isinstance(result, list) else [result]:
            findings.append(finding)
            # Nodes and cameras that are running may have sent any text.
            print(f"{finding.level:>8}  {name:<14} {visible(finding.text)}", flush=True)
            if finding.cure:
                print(f"{'':>8}  {'':<14} -> {visible(finding.cure)}")
    missing = sum(finding.level == "missing" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    print(f"{missing} missing, {warnings} warnings")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
