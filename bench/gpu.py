"""Measures decisions and explanations on a GPU, beside the bare network in the same arithmetic.

    python bench/gpu.py [--seconds 205] [--sections bare explain ...] [--quick] [--device cuda]

It needs PyTorch, torchvision, NumPy, OpenCV, safetensors and a checkout of this repository, and no ROS. It ends within
four minutes and prints tables in Markdown:

- bare: one pass of 51 windows, started operation by operation (eager) and as a CUDA graph.
- explain: explanations in few large operations (batched) and stage by stage (staged), by size of the window, number of
  perturbations n and arithmetic, and the ratio of the first to the faster bare pass of the same 1 + n windows.
- operations: operations and waits of the host of one explanation, counted while a CPU stands for the GPU. Neither
  depends on n. This section needs no GPU.
- launches: launches, copies and waits of one explanation, as PyTorch's profiler sees them, and the time for which the
  GPU is busy.
- live: the influence of the image alone.
- scan: searching frames on the device and on the host, and whether both find the same persons.
- camera: frames from JPEG data to the live explanation. throughput: windows in large batches.
- agreement: share of the selected neurons that an arithmetic has in common with float32 (Jaccard index), and that the
  two ways of explaining have in common. decisions: the same for the decisions about windows.

Every time is the median of several runs after a warm-up, until the GPU has finished. Each section has a share of the
time. It leaves out the rows for which its time is over, and names them. Without a GPU, only the operations are
counted. --quick runs every section in its smallest form, on a CPU as well, where the times have no meaning, and ignores
the time limits.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import functools
import gc
import itertools
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The package need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "test"))

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from operations_kit import count_operations
from torch import Tensor

from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.explanation import Explanation
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.output import margin
from explain_cnn_ros.model.precision import precision as in_precision
from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider
from explain_cnn_ros.scan.tracks import overlap

Image = NDArray[np.uint8]

#: Limits of one explanation with the default settings.
OPERATIONS_MAX, WAITS_MAX = 400, 1

#: Two searches have found the same person if the intersection over union of the boxes is at least this.
SAME_PERSON = 0.8

#: Seconds after which the script ends in any case.
SECONDS_MAX = 230.0

#: One frame of the sample recording: 768 x 576 pixels, with six persons.
STREET = Path(__file__).resolve().parent / "street.jpg"


@dataclass(frozen=True)
class Setup:
    """The device, and the amount of work.

    Attributes:
        device: Device of the networks.
        seconds: Each time is the median of runs for this many seconds.
        runs_min: Minimum number of these runs.
        windows: Sizes (width, height) of windows.
        frames: Sizes (width, height) of frames.
        perturbations: Numbers of perturbations, the most important one first.
        arithmetics: Arithmetics of the passes.
        batches: Numbers of windows that are decided at once.
        images: Number of windows whose explanations are compared.
        camera_frames: Number of frames from the camera.
    """

    device: str
    seconds: float = 0.5
    runs_min: int = 5
    windows: Sequence[tuple[int, int]] = ((64, 128), (224, 224))
    frames: Sequence[tuple[int, int]] = ((640, 480), (1280, 720), (1920, 1080))
    perturbations: Sequence[int] = (50, 10)
    arithmetics: Sequence[str] = ("float32", "tf32", "bfloat16", "float16")
    batches: Sequence[int] = (1, 16, 64, 512)
    images: int = 5
    camera_frames: int = 60

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @classmethod
    def smallest(cls, device: str) -> Setup:
        """Return the setup in which every line runs, as fast as possible."""
        return cls(
            device,
            seconds=0,
            runs_min=1,
            windows=((64, 128), (32, 64)),
            frames=((160, 128),),
            perturbations=(3,),
            arithmetics=("float32", "bfloat16"),
            batches=(3,),
            images=1,
            camera_frames=1,
        )


#: A case of a section: its name, and the function that measures the cells of its rows.
Case = tuple[str, Callable[[], Iterable[Sequence[object]]]]


# The inputs.


@functools.cache
def classifier_for(size: tuple[int, int], device: str) -> PersonClassifier:
    """Return the shipped classifier; for other window sizes, the shipped convolutions with random dense layers."""
    shipped = PersonClassifier.load(device=device)
    if size == shipped.info.input_size:
        return shipped
    torch.manual_seed(0)
    network = VGGClassifier(shipped.info.architecture, size, shipped.info.hidden)
    network.features.load_state_dict(shipped.network.features.state_dict())
    return PersonClassifier(network, dataclasses.replace(shipped.info, input_size=size), device)


def image_for(size: tuple[int, int], seed: int = 0) -> Image:
    """Return an image of coarse colours and fine grain."""
    rng, (width, height) = np.random.default_rng(seed), size
    coarse = rng.uniform(20, 235, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return (coarse[:height, :width] + rng.uniform(-20, 20, (height, width, 3))).astype(np.uint8)


def frame_for(size: tuple[int, int], shift: int = 0) -> Image:
    """Return the frame with persons in another size, moved to the right by some pixels."""
    frame: Any = cv2.cvtColor(cv2.imread(str(STREET)), cv2.COLOR_BGR2RGB)
    factor = max(size[0] / frame.shape[1], size[1] / frame.shape[0])
    larger: Any = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    top = (larger.shape[0] - size[1]) // 2
    return np.ascontiguousarray(np.roll(larger[top : top + size[1], : size[0]], shift, axis=1))


def windows_for(classifier: PersonClassifier, count: int) -> Image:
    """Return windows of the frame with persons, in rows from left to right: [count, H, W, 3]."""
    size, frame = classifier.info.input_size, frame_for((768, 576))
    columns = math.ceil(math.sqrt(count))
    lefts, tops = np.linspace(0, 700, columns), np.linspace(90, 360, columns)
    crops = [crop(frame, x, y, 65, 130, size) for y, x in itertools.islice(itertools.product(tops, lefts), count)]
    return np.stack(crops)


# The measurements.


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(setup: Setup, run: Callable[[], object]) -> float:
    """Measure the duration of a function, until the GPU has finished."""
    times: list[float] = []
    for _ in range(min(2, setup.runs_min)):
        run()
    synchronise()
    begin = time.perf_counter()
    while len(times) < setup.runs_min or time.perf_counter() - begin < setup.seconds:
        start = time.perf_counter()
        run()
        synchronise()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


@functools.cache
def bare(setup: Setup, size: tuple[int, int], perturbations: int, arithmetic: str) -> tuple[float, float]:
    """Measure one pass of a window and its perturbations: eager, and as a graph (NaN without a GPU)."""
    classifier = classifier_for(size, setup.device)
    batch = classifier.to_pixels(image_for(size)[None])
    if perturbations:
        batch = torch.cat([batch, Perturbations(batch[0], 0.1).take(perturbations)])
    with torch.inference_mode(), in_precision(arithmetic, classifier.device):
        normalised = classifier.normalise(batch)

        def run() -> Tensor:
            return classifier.network(normalised)

        eager = milliseconds(setup, run)
        return eager, milliseconds(setup, captured(run).replay) if setup.cuda else math.nan


def captured(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """Return the operations of a function as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def bare_cases(setup: Setup) -> Iterator[Case]:
    """Yield the bare passes."""
    count = setup.perturbations[0]
    for size, arithmetic in itertools.product(setup.windows, setup.arithmetics):
        cells = (f"{size[0]} x {size[1]}", 1 + count, arithmetic)
        yield (
            f"{cells[0]} in {arithmetic}",
            lambda cells=cells, key=(size, count, arithmetic): [(*cells, *bare(setup, *key))],
        )


def explain_cases(setup: Setup) -> Iterator[Case]:
    """Yield explanations by all metrics, with patches and proof."""
    for size, count, arithmetic in itertools.product(setup.windows, setup.perturbations, setup.arithmetics):
        settings = ExplainSettings(perturbations=count, compute_precision=arithmetic)
        yield explanation(setup, size, settings)


def live_cases(setup: Setup) -> Iterator[Case]:
    """Yield explanations by influence of the image alone."""
    for size, arithmetic in itertools.product(setup.windows, setup.arithmetics):
        yield explanation(setup, size, ExplainSettings.preset("live", compute_precision=arithmetic))


def explanation(setup: Setup, size: tuple[int, int], settings: ExplainSettings) -> Case:
    """Return the case that measures one explanation in both ways, and the bare pass of its windows."""
    name = f"{size[0]} x {size[1]}"

    def measure() -> Iterator[Sequence[object]]:
        classifier, image = classifier_for(size, setup.device), image_for(size)
        times = []
        for batched in (True, False):
            explainer = Explainer(classifier, settings, batched=batched)
            times.append(milliseconds(setup, lambda explainer=explainer: explainer.explain(image)))
            if batched and "network" in explainer.explain(image).timings:
                times[0] = math.nan  # too little memory, so the stages have run instead
        passes = bare(setup, size, settings.perturbations, settings.compute_precision)
        fastest = float(np.nanmin(passes))
        yield name, settings.perturbations, settings.compute_precision, *times, fastest, times[0] / fastest

    return f"{name}, n = {settings.perturbations}, in {settings.compute_precision}", measure


#: The explanations whose operations are counted. The number of perturbations makes no difference.
COUNTED = {
    "default": ExplainSettings(perturbations=2, compute_precision="float32"),
    "live": ExplainSettings.preset("live", compute_precision="float32"),
}


def operation_cases(setup: Setup) -> Iterator[Case]:
    """Yield explanations whose operations and waits are counted on a CPU."""
    for name, batched in itertools.product(COUNTED, (True, False)):
        way = "batched" if batched else "staged"

        def measure(name: str = name, batched: bool = batched, way: str = way) -> Iterator[Sequence[object]]:
            classifier = classifier_for(setup.windows[0], "cpu")
            explainer, image = Explainer(classifier, COUNTED[name], batched=batched), image_for(setup.windows[0])
            if batched:
                explainer.explain(image)  # the first one prepares the program
            with count_operations() as counter:
                found = explainer.explain(image)
            neurons = Counter(ranking.metric for ranking in found.rankings for _ in ranking.neurons)
            limits = "-"
            if batched:
                met = counter.total <= OPERATIONS_MAX and counter.waits.total() <= WAITS_MAX
                limits = "met" if met else "NOT met"
                if "network" in found.timings:
                    limits = "too little memory: staged"
            yield name, way, max(neurons.values()), counter.total, counter.waits.total(), limits

        yield f"{name}, {way}", measure


def launch_cases(setup: Setup) -> Iterator[Case]:
    """Yield explanations that PyTorch's profiler watches."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setup.cuda:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    for batched in (True, False):

        def measure(batched: bool = batched) -> Iterator[Sequence[object]]:
            size = setup.windows[0]
            settings = ExplainSettings(perturbations=setup.perturbations[0])
            explainer, image = Explainer(classifier_for(size, setup.device), settings, batched=batched), image_for(size)
            for _ in range(3):
                explainer.explain(image)
            with torch.profiler.profile(activities=activities) as profile:
                explainer.explain(image)
                synchronise()
            calls: Counter[str] = Counter()
            kernels, busy = 0, 0.0
            for event in profile.events():
                calls[event.name] += 1
                if event.device_type == torch.autograd.DeviceType.CUDA:
                    kernels += 1
                    busy += event.time_range.elapsed_us() / 1000
            launches = sum(count for call, count in calls.items() if call.startswith(("cudaLaunch", "cuLaunch")))
            waits = sum(calls[call] for call in ("cudaStreamSynchronize", "cudaEventSynchronize"))
            way = "batched" if batched else "staged"
            yield way, launches, calls["cudaGraphLaunch"], calls["cudaMemcpyAsync"], waits, kernels, busy

        yield "batched" if batched else "staged", measure


def scan_cases(setup: Setup) -> Iterator[Case]:
    """Yield searches of frames in both ways, and the comparison of the persons that they find."""
    for size in setup.frames:

        def measure(size: tuple[int, int] = size) -> Iterator[Sequence[object]]:
            shipped, frame = classifier_for((64, 128), setup.device), frame_for(size)
            classifier = PersonClassifier(shipped.network, shipped.info, setup.device, proposer=shipped.proposer)
            times, found = [], []
            for on_device in (True, False):
                classifier.search_on_device = on_device
                times.append(milliseconds(setup, lambda: classifier.scan(frame)))
                found.append(classifier.scan(frame))
            differences = [
                abs(one.probability - other.probability)
                for one, other in itertools.product(*found)
                if overlap(one.person_box, other.person_box) >= SAME_PERSON
            ]
            counts = (*map(len, found), len(differences))
            yield f"{size[0]} x {size[1]}", *times, *counts, max(differences, default=math.nan)

        yield f"{size[0]} x {size[1]}", measure


def camera_cases(setup: Setup) -> Iterator[Case]:
    """Yield frames from a camera: decoded, searched, and the best region explained as for the live overlay."""
    for size in setup.frames:

        def measure(size: tuple[int, int] = size) -> Iterator[Sequence[object]]:
            classifier = classifier_for((64, 128), setup.device)
            decider = Decider(classifier)
            explainer = Explainer(classifier, ExplainSettings.preset("live"), batched=True)
            messages = [JPEG(frame_for(size, 16 * shift)) for shift in range(8)]
            steps, taken = [], []
            for number in range(3 + setup.camera_frames):
                times = [time.perf_counter()]
                frame = to_rgb(messages[number % len(messages)])
                times.append(time.perf_counter())
                decision = decider.decide(frame)
                times.append(time.perf_counter())
                explainer.explain(frame, decision.region)
                times.append(time.perf_counter())
                steps.append(1000 * np.diff(times))
                taken.append(1000 * (times[-1] - times[0]))
            cells = (float(value) for value in np.median(steps[3:], axis=0))
            yield f"{size[0]} x {size[1]}", *cells, statistics.median(taken[3:]), float(np.percentile(taken[3:], 95))

        yield f"{size[0]} x {size[1]}", measure


class JPEG:
    """A frame as a message with JPEG data, of quality 80."""

    format = "jpeg"

    def __init__(self, frame: Image) -> None:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self.data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def throughput_cases(setup: Setup) -> Iterator[Case]:
    """Yield decisions about many windows."""
    types = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    wanted = [(name, types.get(name)) for name in ("as for decisions", *setup.arithmetics)]
    wanted = [(name, dtype) for name, dtype in wanted if dtype or name == "as for decisions"]
    for (name, dtype), count in itertools.product(wanted, setup.batches):

        def measure(
            dtype: torch.dtype | None = dtype, name: str = name, count: int = count
        ) -> Iterator[Sequence[object]]:
            shipped = classifier_for((64, 128), setup.device)
            classifier = PersonClassifier(shipped.network, shipped.info, setup.device, autocast=dtype)
            windows = windows_for(classifier, count)
            yield name, count, round(1000 * count / milliseconds(setup, lambda: classifier.probability(windows)))

        yield f"{count} windows, {name}", measure


def agreement_cases(setup: Setup) -> Iterator[Case]:
    """Yield the comparison of each arithmetic's selections with those by float32, staged."""
    settings = ExplainSettings(perturbations=setup.perturbations[0])

    @functools.cache
    def found(arithmetic: str, batched: bool) -> list[Explanation]:
        classifier = classifier_for((64, 128), setup.device)
        explainer = Explainer(classifier, dataclasses.replace(settings, compute_precision=arithmetic), batched=batched)
        return [explainer.explain(window) for window in windows_for(classifier, setup.images)]

    def shared(ones: list[Explanation], others: list[Explanation], name: str) -> float:
        pairs = [
            tuple({neuron.channel for neuron in explanation.ranking(name, layer)} for explanation in (one, other))
            for one, other in zip(ones, others, strict=True)
            for layer in settings.layers
        ]
        return float(np.nanmean([jaccard(*pair) for pair in pairs]))

    for arithmetic in setup.arithmetics:

        def measure(arithmetic: str = arithmetic) -> Iterator[Sequence[object]]:
            batched, staged = found(arithmetic, True), found(arithmetic, False)
            for name in settings.metrics:
                of_float32 = [shared(way, found("float32", False), name) for way in (batched, staged)]
                yield name, arithmetic, *of_float32, shared(batched, staged, name)

        yield arithmetic, measure


def decision_cases(setup: Setup) -> Iterator[Case]:
    """Yield the comparison of each arithmetic's decisions about windows with those in float32."""

    @functools.cache
    def margins(arithmetic: str) -> Tensor:
        classifier = classifier_for((64, 128), setup.device)
        batch = classifier.normalise(classifier.to_pixels(windows_for(classifier, setup.batches[-1])))
        with torch.inference_mode(), in_precision(arithmetic, classifier.device):
            return margin(classifier.network(batch).double()).cpu()

    for arithmetic in setup.arithmetics:

        def measure(arithmetic: str = arithmetic) -> Iterator[Sequence[object]]:
            threshold = classifier_for((64, 128), setup.device).threshold
            border = math.log(threshold / (1 - threshold))
            mine, reference = margins(arithmetic), margins("float32")
            differ = int(((mine >= border) != (reference >= border)).sum())
            yield arithmetic, len(mine), float((mine - reference).abs().max()), differ

        yield arithmetic, measure


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        share: Share of the time.
        columns: Heads of the columns.
        cases: Yields the cases.
        counts: Whether the section only counts, so that it needs no GPU.
    """

    share: float
    columns: str
    cases: Callable[[Setup], Iterator[Case]]
    counts: bool = False


SECTIONS = {
    "bare": Section(0.12, "window | windows | arithmetic | eager, ms | graph, ms", bare_cases),
    "explain": Section(
        0.3,
        "window | n | arithmetic | batched, ms | staged, ms | bare, ms | batched / bare",
        explain_cases,
    ),
    "operations": Section(
        0.1,
        f"explanation | way | neurons a metric | operations | waits | at most {OPERATIONS_MAX} and {WAITS_MAX}",
        operation_cases,
        counts=True,
    ),
    "launches": Section(
        0.06, "explanation | launches | graphs | copies | waits | kernels | GPU busy, ms", launch_cases
    ),
    "live": Section(0.12, "window | n | arithmetic | batched, ms | staged, ms | bare, ms | batched / bare", live_cases),
    "scan": Section(
        0.08,
        "frame | on the device, ms | on the host, ms | persons on the device | persons on the host | in both "
        "| largest difference of P",
        scan_cases,
    ),
    "camera": Section(0.08, "frame | decode, ms | decide, ms | explain, ms | all, ms | 95 %, ms", camera_cases),
    "throughput": Section(0.06, "arithmetic | windows at once | windows a second", throughput_cases),
    "agreement": Section(
        0.06,
        "metric | arithmetic | batched shared with float32 | staged shared with float32 | batched shared with staged",
        agreement_cases,
    ),
    "decisions": Section(
        0.02, "arithmetic | windows | largest difference of the margin | decisions that differ", decision_cases
    ),
}


def run(name: str, section: Section, setup: Setup, end: float) -> int:
    """Print the table of a section, and the names of the rows that it left out.

    Args:
        name: Name of the section.
        section: The section.
        setup: The device, and the amount of work.
        end: No row begins after this time of the performance counter, in seconds.

    Returns:
        Number of rows that failed.
    """
    heads = section.columns.split(" | ")
    print(f"\n{name}\n\n| {section.columns} |\n|{'---|' * len(heads)}", flush=True)
    left_out, failures = [], []
    for case, measure in section.cases(setup):
        if time.perf_counter() >= end:
            left_out.append(case)
            continue
        try:
            for cells in measure():
                print("| " + " | ".join(map(text, cells)) + " |", flush=True)
        except Exception as error:  # the other rows are still of use
            failures.append(f"{case} failed: {type(error).__name__}: {error}")
        # Explanations check how much memory is free.
        gc.collect()
        if setup.cuda:
            torch.cuda.empty_cache()
    if left_out:
        print(f"\n{name}: the time is over; left out: {'; '.join(left_out)}", flush=True)
    for failure in failures:
        print(f"\n{name}: {failure}", flush=True)
    return len(failures)


def text(cell: object) -> str:
    """Return the text of a cell."""
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.2f}"
    return str(cell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description="Measure decisions and explanations on a GPU.")
    parser.add_argument("--seconds", type=float, default=205.0, help="time of all sections [%(default)s]")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--quick", action="store_true", help="run every section in its smallest form, also on a CPU")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu [%(default)s]")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    gpu = torch.cuda.is_available()
    device = options.device if options.device != "auto" else "cuda" if gpu else "cpu"
    setup = Setup.smallest(device) if options.quick else Setup(device)
    sections = {name: SECTIONS[name] for name in options.sections}
    if setup.cuda:
        print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    elif options.quick:
        print(f"CPU, PyTorch {torch.__version__}: the times have no meaning")
    else:
        reason = "the device is a CPU" if gpu else "PyTorch finds no NVIDIA GPU on this machine"
        print(f"{reason}: only the operations are counted")
        sections = {name: section for name, section in sections.items() if section.counts}
    if not options.quick:
        faulthandler.dump_traceback_later(max(SECONDS_MAX, options.seconds), exit=True)
    failures, end = 0, begin
    # Garbage is collected after each row. What is imported by now need not be searched each time.
    gc.freeze()
    for name, section in sections.items():
        # The time that a section does not need is left to the following ones.
        end += math.inf if options.quick else section.share * options.seconds
        failures += run(name, section, setup, end)
    gc.unfreeze()
    faulthandler.cancel_dump_traceback_later()
    print(f"\n{time.perf_counter() - begin:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
