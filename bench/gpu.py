"""Measures decisions and explanations on a GPU, beside the bare network in the same arithmetic.

    python bench/gpu.py [--seconds 220] [--sections bare explain live operations scan throughput agreement]

It needs PyTorch, torchvision, NumPy, OpenCV, safetensors and this package, and no ROS. It prints tables in Markdown:

- bare: one pass of 51 windows, started operation by operation (eager) and as a CUDA graph.
- explain: explanations in few large operations (batched) and stage by stage (staged), by size of the window, number of
  perturbations and arithmetic, and the ratio of the first to the bare pass of the same windows, both as graphs.
- live: the influence of the image alone.
- operations: launches, copies and waits of one explanation, as PyTorch's profiler sees them, and the time for which the
  GPU is busy.
- scan: searching frames. throughput: windows in large batches.
- agreement: how many of the top 5 by each arithmetic are those by float32, on average.

Every time is the median of several runs after a warm-up, until the GPU has finished. Sections that begin after the time
limit are skipped, and the output says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.perturbation import Perturbations
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import VGGClassifier
from explain_cnn_ros.model.precision import precision as in_precision
from explain_cnn_ros.scan.classifier import PersonClassifier

#: Sizes (width, height) of windows, and of frames.
WINDOWS, FRAMES = ((64, 128), (224, 224)), ((640, 480), (1280, 720), (1920, 1080))

ARITHMETICS = ("float32", "tf32", "bfloat16", "float16")

#: Each time is the median of runs for this many seconds, and of at least RUNS_MIN runs.
SECONDS, RUNS_MIN = 0.5, 5


def classifier_for(size: tuple[int, int], device: str) -> PersonClassifier:
    """Return the shipped classifier; for other window sizes, the shipped convolutions with random dense layers."""
    shipped = PersonClassifier.load(device=device)
    if size == shipped.info.input_size:
        return shipped
    torch.manual_seed(0)
    network = VGGClassifier(shipped.info.architecture, size, shipped.info.hidden)
    network.features.load_state_dict(shipped.network.features.state_dict())
    return PersonClassifier(network, dataclasses.replace(shipped.info, input_size=size), device)


def image_for(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return an image of coarse colours and fine grain."""
    rng, (width, height) = np.random.default_rng(seed), size
    coarse = rng.uniform(20, 235, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return (coarse[:height, :width] + rng.uniform(-20, 20, (height, width, 3))).astype(np.uint8)


def milliseconds(run: Callable[[], object]) -> float:
    """Measure the duration of a function, until the GPU has finished."""
    times: list[float] = []
    for _ in range(2):
        run()
    synchronise()
    begin = time.perf_counter()
    while len(times) < RUNS_MIN or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        run()
        synchronise()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare(classifier: PersonClassifier, perturbations: int, arithmetic: str) -> tuple[float, float]:
    """Measure one pass of a window and its perturbations: eager, and as a graph (NaN without a GPU)."""
    window = classifier.to_pixels(image_for(classifier.info.input_size)[None])
    batch = window
    if perturbations:
        batch = torch.cat([window, Perturbations(window[0], 0.1).take(perturbations)])
    with torch.inference_mode(), in_precision(arithmetic, classifier.device):
        normalised = classifier.normalise(batch)

        def run() -> Tensor:
            return classifier.network(normalised)

        eager = milliseconds(run)
        if classifier.device.type != "cuda":
            return eager, float("nan")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return eager, milliseconds(graph.replay)


def table(columns: str) -> None:
    """Print the head of a table."""
    names = columns.split(" | ")
    print(f"\n| {columns} |\n|{'---|' * len(names)}", flush=True)


def row(*cells: object) -> None:
    """Print a row of a table."""
    print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def arithmetics(device: str) -> tuple[str, ...]:
    """Return the arithmetics that are measured on a device."""
    return ARITHMETICS if device.startswith("cuda") else ("float32",)


def section_bare(device: str) -> None:
    """Measure the bare passes."""
    table("bare pass | windows | arithmetic | eager, ms | graph, ms")
    for size in WINDOWS:
        for arithmetic in arithmetics(device):
            row(f"{size[0]} x {size[1]}", 51, arithmetic, *bare(classifier_for(size, device), 50, arithmetic))


def section_explain(device: str) -> None:
    """Measure explanations of all metrics, with patches and proof."""
    table("explanation | n | arithmetic | batched, ms | staged, ms | bare, ms | batched / bare")
    for size in WINDOWS:
        classifier, image = classifier_for(size, device), image_for(size)
        for perturbations in (10, 50):
            for arithmetic in arithmetics(device):
                explain_row(classifier, image, arithmetic, ExplainSettings(perturbations=perturbations))


def section_live(device: str) -> None:
    """Measure explanations by influence of the image alone."""
    table("live | n | arithmetic | batched, ms | staged, ms | bare, ms | batched / bare")
    for size in WINDOWS:
        for arithmetic in arithmetics(device):
            explain_row(classifier_for(size, device), image_for(size), arithmetic, ExplainSettings.preset("live"))


def explain_row(
    classifier: PersonClassifier, image: NDArray[np.uint8], arithmetic: str, settings: ExplainSettings
) -> None:
    """Measure one explanation in both ways, and the bare pass of its windows."""
    settings = dataclasses.replace(settings, compute_precision=arithmetic)
    times = []
    for batched in (True, False):
        explainer = Explainer(classifier, settings, batched=batched)
        times.append(milliseconds(lambda explainer=explainer: explainer.explain(image)))
        if batched and "network" in explainer.explain(image).timings:
            times[0] = float("nan")  # too little memory: the stages ran instead
    passes = bare(classifier, settings.perturbations, arithmetic)
    fastest = float(np.nanmin(passes))
    width, height = classifier.info.input_size
    row(f"{width} x {height}", settings.perturbations, arithmetic, *times, fastest, times[0] / fastest)


def section_operations(device: str) -> None:
    """Count what the host asks of the GPU in one explanation, of which `waits` are synchronisations and downloads."""
    table("one explanation | launches | graphs | copies | waits | kernels | GPU busy, ms")
    classifier, image = classifier_for(WINDOWS[0], device), image_for(WINDOWS[0])
    for name, batched in (("batched", True), ("staged", False)):
        explainer = Explainer(classifier, ExplainSettings(), batched=batched)
        for _ in range(3):
            explainer.explain(image)
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
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
        row(name, launches, calls["cudaGraphLaunch"], calls["cudaMemcpyAsync"], waits, kernels, busy)


def section_scan(device: str) -> None:
    """Measure the search of frames."""
    table("scan | ms | windows found")
    classifier = PersonClassifier.load(device=device)
    for size in FRAMES:
        frame = image_for(size)
        row(
            f"{size[0]} x {size[1]}",
            milliseconds(lambda frame=frame: classifier.scan(frame)),
            len(classifier.scan(frame)),
        )


def section_throughput(device: str) -> None:
    """Measure decisions about many windows."""
    table("windows at once | windows a second")
    classifier = PersonClassifier.load(device=device)
    for count in (1, 16, 64, 512):
        windows = np.stack([image_for(WINDOWS[0], seed) for seed in range(count)])
        row(count, round(1000 * count / milliseconds(lambda windows=windows: classifier.probability(windows))))


def section_agreement(device: str) -> None:
    """Compare the selections of all arithmetics, and those of the two paths."""
    table("metric | arithmetic | top 5 shared with float32 | batched shared with staged")
    classifier = classifier_for(WINDOWS[0], device)
    images = [image_for(WINDOWS[0], seed) for seed in range(5)]
    settings = ExplainSettings()

    def selected(arithmetic: str, batched: bool) -> list[dict[str, list[set[int]]]]:
        explainer = Explainer(classifier, dataclasses.replace(settings, compute_precision=arithmetic), batched=batched)
        found = []
        for image in images:
            of_image: dict[str, list[set[int]]] = {name: [] for name in settings.metrics}
            for ranking in explainer.explain(image).rankings:
                of_image[ranking.metric].append({neuron.channel for neuron in ranking.neurons})
            found.append(of_image)
        return found

    def shared(one: list[dict[str, list[set[int]]]], other: list[dict[str, list[set[int]]]], name: str) -> float:
        pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a[name], b[name], strict=True)]
        return float(np.nanmean([jaccard(*pair) for pair in pairs]))

    reference = selected("float32", batched=False)
    for arithmetic in arithmetics(device):
        batched, staged = selected(arithmetic, batched=True), selected(arithmetic, batched=False)
        for name in settings.metrics:
            row(name, arithmetic, shared(batched, reference, name), shared(batched, staged, name))


SECTIONS: dict[str, Callable[[str], None]] = {
    "bare": section_bare,
    "operations": section_operations,
    "explain": section_explain,
    "live": section_live,
    "scan": section_scan,
    "throughput": section_throughput,
    "agreement": section_agreement,
}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure decisions and explanations on a GPU.")
    parser.add_argument("--seconds", type=float, default=220.0, help="no section begins after this time")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, or cpu to try the script")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        if not torch.cuda.is_available():
            print("skipped: PyTorch finds no NVIDIA GPU on this machine")
            return 0
        device = "cuda"
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    print(f"{name}, PyTorch {torch.__version__}")
    begin = time.perf_counter()
    for section in arguments.sections:
        if time.perf_counter() - begin > arguments.seconds:
            print(f"\n{section}: skipped, because the time is over")
            continue
        try:
            SECTIONS[section](device)
        except Exception as error:  # the other sections are still of use
            print(f"\n{section}: failed: {type(error).__name__}: {error}", flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
