"""Measures what it takes to get from an image message to RGB pixels, and which decoder of JPEG data is the fastest.

    python bench/decoding.py [--rounds 30] [--sizes 640x480 1280x720 1920x1080] [--turbojpeg LIBRARY]

The picture is a frame of the sample recording in several sizes. JPEG data has quality 80. PyTurboJPEG and simplejpeg
are measured if they are installed; they are no dependencies of this package. The methods take turns, and each figure is
the median, over all rounds, of the ratio to the first method of the table in the same round: of the time, and of the
CPU time of all threads. On a busy machine, the second one is the more reliable one. The work is done in a thread that
is not the main one, as in the node.

- JPEG: decoders, relative to `cv2.imdecode` with a conversion to RGB. "differs" is the largest difference of a pixel.
- encodings: `to_rgb` for raw messages, relative to a copy of the RGB image.
- threads: decoding with one thread of OpenCV, relative to all of them.
"""

from __future__ import annotations

import argparse
import array
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.bags.image_messages import LAYOUTS, to_rgb

try:
    import simplejpeg
except ImportError:
    simplejpeg = None
try:
    import turbojpeg
except ImportError:
    turbojpeg = None

STREET = Path(__file__).resolve().parent / "street.jpg"

#: The encodings that are measured; the others are converted in the same way as one of these.
ENCODINGS = ("rgb8", "bgr8", "rgba8", "mono8", "mono16", "16UC1", "bayer_rggb8", "bayer_rggb16", "yuyv", "nv12")

#: Runs of a method in each round, after one that is not measured.
RUNS = 4

Method = Callable[[], Any]


def ratios(methods: dict[str, Method], rounds: int) -> dict[str, tuple[float, float]]:
    """Measure methods side by side.

    Args:
        methods: Functions by name; the first one is the reference.
        rounds: Number of rounds.

    Returns:
        Ratios of the time and of the CPU time to those of the reference, by name.
    """
    names = list(methods)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            run = methods[name]
            run()
            begin = time.perf_counter(), time.process_time()
            for _ in range(RUNS):
                run()
            times[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    found = {}
    for name in names:
        pairs = list(zip(times[name], times[names[0]], strict=True))
        wall, cpu = (statistics.median(mine[i] / max(of[i], 1e-9) for mine, of in pairs) for i in (0, 1))
        found[name] = wall, cpu
    return found


def in_thread(work: Callable[[], None]) -> None:
    """Run a function in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(work).result()


def decoders(data: NDArray[np.uint8], library: str) -> dict[str, Method]:
    """Return the decoders of JPEG data, and what the node does."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    found: dict[str, Method] = {
        "cv2.imdecode, cvtColor": lambda: cv2.cvtColor(cv2.imdecode(data, flags), cv2.COLOR_BGR2RGB),
        "cv2.imdecode, BGR": lambda: cv2.imdecode(data, flags),
    }
    if hasattr(cv2, "IMREAD_COLOR_RGB"):
        rgb = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        found["cv2.imdecode, RGB"] = lambda: cv2.imdecode(data, rgb)
    for factor in (2, 4, 8):
        reduced = getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
        found[f"cv2.imdecode, BGR, 1/{factor}"] = lambda reduced=reduced: cv2.imdecode(data, reduced)
    contents = data.tobytes()
    if simplejpeg is not None:
        found["simplejpeg"] = lambda: simplejpeg.decode_jpeg(contents)
    if turbojpeg is not None:
        turbo = turbojpeg.TurboJPEG(library or None)
        found["PyTurboJPEG"] = lambda: turbo.decode(contents, pixel_format=turbojpeg.TJPF_RGB)
    sent = SimpleNamespace(format="jpeg", data=array.array("B", contents))
    found["to_rgb"] = lambda: to_rgb(sent)
    return found


def raw_message(encoding: str, frame: NDArray[np.uint8], padding: int = 0) -> SimpleNamespace:
    """Return a message with an encoding, whose bytes are those of the frame, repeated as needed."""
    dtype, channels = LAYOUTS[encoding]
    height, width = frame.shape[:2]
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height
    pixels = np.resize(frame.reshape(-1), (rows, width * channels * np.dtype(dtype).itemsize))
    data = array.array("B", np.pad(pixels, ((0, 0), (0, padding))).tobytes())
    step = pixels.shape[1] + padding
    return SimpleNamespace(width=width, height=height, encoding=encoding, step=step, is_bigendian=0, data=data)


def print_jpeg(frame: NDArray[np.uint8], rounds: int, library: str) -> None:
    """Print the table of the decoders."""
    data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    methods = decoders(data, library)
    expected = next(iter(methods.values()))()
    name = f"JPEG, {len(data) / 1000:.0f} kB"
    print(f"\n{name:<28}{'time':>8}{'CPU time':>10}{'differs':>9}")
    for method, (wall, cpu) in ratios(methods, rounds).items():
        found = methods[method]()
        found = found[..., ::-1] if "BGR" in method else found
        differs: object = (
            "smaller" if found.shape != expected.shape else int(np.abs(found - expected.astype(int)).max())
        )
        print(f"{method:<28}{wall:>8.2f}{cpu:>10.2f}{differs:>9}", flush=True)


def print_encodings(frame: NDArray[np.uint8], rounds: int) -> None:
    """Print the table of the encodings."""
    messages = {name: raw_message(name, frame) for name in ENCODINGS}
    messages |= {f"{name}, padded": raw_message(name, frame, 32) for name in ("rgb8", "bgr8")}
    methods: dict[str, Method] = {"copy": frame.copy}
    methods |= {name: lambda message=message: to_rgb(message) for name, message in messages.items()}
    print(f"\n{'encoding':<28}{'time':>8}{'CPU time':>10}")
    for method, (wall, cpu) in ratios(methods, rounds).items():
        print(f"{method:<28}{wall:>8.2f}{cpu:>10.2f}", flush=True)


def print_threads(frame: NDArray[np.uint8], rounds: int) -> None:
    """Print the table of OpenCV's threads."""
    every = cv2.getNumThreads()
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    sent = SimpleNamespace(format="jpeg", data=array.array("B", cv2.imencode(".jpg", bgr)[1].tobytes()))
    raw = raw_message("bgr8", frame)
    small = (frame.shape[1] * 4 // 5, frame.shape[0] * 4 // 5)
    steps: dict[str, Method] = {
        "decode": lambda: to_rgb(sent),
        "bgr8": lambda: to_rgb(raw),
        "resize by 0.8": lambda: cv2.resize(frame, small, interpolation=cv2.INTER_AREA),
    }

    def with_threads(step: Method, count: int) -> Method:
        def run() -> None:
            cv2.setNumThreads(count)
            step()

        return run

    print(f"\n{f'1 thread : {every} threads':<28}{'time':>8}{'CPU time':>10}")
    for name, step in steps.items():
        wall, cpu = ratios({"all": with_threads(step, every), "one": with_threads(step, 1)}, rounds)["one"]
        print(f"{name:<28}{wall:>8.2f}{cpu:>10.2f}", flush=True)
    cv2.setNumThreads(every)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="[%(default)s]")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720", "1920x1080"], help="[%(default)s]")
    parser.add_argument("--turbojpeg", default="", help="file of libturbojpeg, if PyTurboJPEG does not find it")
    options = parser.parse_args(arguments)
    street = cv2.cvtColor(cv2.imread(str(STREET)), cv2.COLOR_BGR2RGB)
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        frame: Any = cv2.resize(street, (width, height), interpolation=cv2.INTER_CUBIC)
        print(f"\n{width} x {height}")
        in_thread(lambda frame=frame: print_jpeg(frame, options.rounds, options.turbojpeg))
        in_thread(lambda frame=frame: print_encodings(frame, options.rounds))
        in_thread(lambda frame=frame: print_threads(frame, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
