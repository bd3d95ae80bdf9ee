"""Explain the decision about one image, without ROS.

    python examples/explain_image.py                          # a frame of the sample recording
    python examples/explain_image.py photo.jpg
    python examples/explain_image.py recording --frame 120    # a rosbag2 recording
    python examples/explain_image.py photo.jpg --weights own.safetensors --target forklift

The script searches the image for persons and explains the best region. With `--target`, it explains why this region is
of another class of the weights, or is not. It prints how much of the margin the neurons carry that support the
decision, and those that oppose it. It then prints how much the decision depends on the neurons that each metric
selects, compared with random neurons, and a list of the neurons.

It writes three pictures: `overlay.png` is the image with the patches of the neurons, `slide.png` shows what speaks for
and against the decision, and `sheet.png` shows the patches by metric and layer. With `--preset live`, which is the
fastest, there is no sheet. With `--preset paper`, which has the metrics of the paper only, there is no slide.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros import Explainer, ExplainSettings, PersonClassifier
from explain_cnn_ros.draw.boxes import shown_metrics
from explain_cnn_ros.draw.captions import proof_text, proof_warning, target_probability, target_text
from explain_cnn_ros.draw.overlay import draw_overlay
from explain_cnn_ros.draw.sheets import sheets
from explain_cnn_ros.explain.explanation import Explanation, Silencing
from explain_cnn_ros.explain.metrics import DEFAULT_METRICS, SUPPORTING, Reads, metric, metric_names
from explain_cnn_ros.explain.settings import PRESETS
from explain_cnn_ros.scan.decider import REGIONS, Decider, DecisionSettings
from explain_cnn_ros.scan.scanning import ScanSettings

SAMPLE = Path(__file__).resolve().parent.parent / "sample/street"

Image = NDArray[np.uint8]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, nargs="?", default=SAMPLE, help="image file or recording [the sample]")
    parser.add_argument("--frame", type=int, default=20, help="frame of a recording, from 0 [%(default)s]")
    parser.add_argument("--output", type=Path, default=Path("runs/explain_image"), help="folder [%(default)s]")
    parser.add_argument("--weights", type=Path, help="weights file [the weights that ship with the package]")
    parser.add_argument(
        "--regions", choices=REGIONS, default="scan", help="search the image, or resize the whole image [%(default)s]"
    )
    parser.add_argument("--target", default="", metavar="CLASS", help="explained class [those that count as a person]")
    parser.add_argument("--layer-names", default="", metavar="NAMES", help="explained layers, patterns [the default]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... [%(default)s]")
    parser.add_argument(
        "--metric", choices=metric_names(), help="shown metric [influence, or else the one whose neurons matter most]"
    )
    parser.add_argument("--preset", choices=PRESETS, default="stable", help="metrics and noise by name [%(default)s]")
    parser.add_argument("--perturbations", type=int, help="number of perturbed copies [that of the preset]")
    parser.add_argument("--top-n", type=int, default=5, help="neurons per metric and layer [%(default)s]")
    parser.add_argument("--draws", type=int, default=10, help="sets of random neurons, at least 1 [%(default)s]")
    parser.add_argument(
        "--person-height-min", type=int, default=60, help="smallest persons that are searched for, pixels [%(default)s]"
    )
    return parser.parse_args(argv)


def read_image(path: Path, frame: int) -> Image:
    """Read an image file, or one frame of a rosbag2 recording, as uint8 [H, W, 3] RGB.

    Raises:
        ValueError: The file is no image, or the recording has no such frame.
    """
    if path.is_dir() or path.suffix in (".mcap", ".db3"):
        return read_frame(path, frame)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be read as an image: give a JPEG or PNG file, or a recording")
    rgb: Any = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def read_frame(path: Path, frame: int) -> Image:
    """Read one frame of a rosbag2 recording as uint8 [H, W, 3] RGB.

    Raises:
        ValueError: There is no recording, it has no such frame, or a package that reads recordings is not installed.
    """
    try:  # Image files need none of these packages.
        from rosbags.typesys import Stores, get_typestore

        from explain_cnn_ros.bags.image_messages import to_rgb
        from explain_cnn_ros.bags.reader import BagError, BagReader
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} is a recording, and the Python package {error.name} is not installed, which reads recordings: "
            "call pip install '.[bags]' in the checkout, or give an image file"
        ) from error

    try:
        with BagReader(path) as bag:
            topic = bag.image_topic()
            message = next(itertools.islice(bag.messages([topic.name]), frame, None), None)
    except BagError as error:
        raise ValueError(str(error)) from error
    if message is None:
        raise ValueError(f"{path} has {topic.count} frames: give a --frame from 0 to {topic.count - 1}")
    return to_rgb(get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(message.data, message.type))


def effect(explanation: Explanation, output: float) -> float:
    """Compute how much the output moves against the shown decision if it becomes `output`."""
    return (explanation.output - output) * (1 if explanation.person else -1)


def random_effects(explanation: Explanation, silencing: Silencing) -> list[float]:
    """Compute the effect of each set of random neurons."""
    return [effect(explanation, output) for output in silencing.random_outputs]


def summary(explanation: Explanation) -> list[str]:
    """Describe the decision, and how much it depends on the neurons of each metric."""
    region = explanation.region
    lines = [
        f"Decision: {explanation.decision}, {target_probability(explanation.target)} = {region.probability:.4f} "
        f"(threshold {explanation.threshold:.2f})",
        f"Explained window: {region.width} x {region.height} pixels at ({region.x}, {region.y}), "
        f"{explanation.perturbations} perturbations, {explanation.seconds:.1f} s on {explanation.device}",
        "",
        *proofs(explanation),
        f"The output, the margin of {target_text(explanation.target)} against all other classes, is "
        f"{explanation.output:.2f}. It {'falls' if explanation.person else 'rises'} by these amounts",
        "if neurons are silenced, that is, if their activations are set to zero:",
        "",
        f"  {'metric':<30} {'its neurons':>12} {'random neurons':>22} {'stability':>10}",
    ]
    for silencing in explanation.silencing:
        drawn = random_effects(explanation, silencing)
        stabilities = [
            ranking.stability
            for ranking in explanation.rankings
            if ranking.metric == silencing.metric and ranking.stability is not None
        ]
        stability = f"{np.mean(stabilities):.2f}" if stabilities else "exact"
        spread = f"{np.mean(drawn):.2f} ({min(drawn):.2f} to {max(drawn):.2f})"
        lines.append(
            f"  {metric(silencing.metric).title:<30} {effect(explanation, silencing.output):>12.2f} {spread:>22} "
            f"{stability:>10}"
        )
    return [*lines, ""]


def proofs(explanation: Explanation) -> list[str]:
    """Say what the neurons that support the decision, and those that oppose it, carry of the margin."""
    lines = []
    for proof in explanation.proofs:
        lines.append(f"{metric(proof.metric).title.capitalize()}: {proof_text(proof, target=explanation.target)}.")
        if warning := proof_warning(proof):
            lines.append(f"  {warning.capitalize()}.")
    return [*lines, ""] if lines else []


def most_effective(explanation: Explanation) -> Silencing:
    """Return the metric whose neurons support the shown decision most."""
    return max(explanation.silencing, key=lambda silencing: effect(explanation, silencing.output))


def verdict(explanation: Explanation) -> str:
    """Say whether any metric has found neurons that matter more than random ones."""
    best = most_effective(explanation)
    drawn = random_effects(explanation, best)
    if all(effect(explanation, s.output) <= max(random_effects(explanation, s)) for s in explanation.silencing):
        return "No metric has found neurons that matter more to this decision than random neurons do."
    text = (
        f"The neurons of {metric(best.metric).title} matter most to this decision. Sets of random neurons that matter "
        f"as much: {sum(other >= effect(explanation, best.output) for other in drawn)} of {len(drawn)}."
    )
    if metric(best.metric).reads is Reads.WEIGHTS:
        text += "\nThis metric reads only the weights, so it selects the same neurons for every image."
    return text


def table(explanation: Explanation, name: str) -> list[str]:
    """List the neurons that a metric selects, with their patches in pixels of the image."""
    lines = [f"Neurons by {metric(name).title} ({metric(name).caption(explanation.settings)}):", ""]
    wide = max(8, *(len(ranking.layer_name) for ranking in explanation.rankings))
    lines.append(f"  {'layer':<{wide}} {'channel':>7} {'score':>12} {'measured':>12}   patch (x, y, width, height)")
    for layer in explanation.settings.layers:
        ranking = explanation.layer_ranking(name, layer)
        for neuron in ranking.neurons:
            patch = neuron.patch
            box = f"({patch.x}, {patch.y}, {patch.width}, {patch.height})" if patch else "none: the neuron is dead"
            measured = "" if neuron.silenced is None else f"{neuron.silenced:.4g}"
            mark = "   unstable" if ranking.unstable else ""
            lines.append(
                f"  {ranking.layer_name:<{wide}} {neuron.channel:>7} {neuron.score:>12.4g} {measured:>12}   {box}{mark}"
            )
    return [*lines, ""]


def write_image(path: Path, image: Image) -> None:
    """Write an RGB image as PNG."""
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example and return its exit status."""
    arguments = parse(argv)
    metrics = PRESETS[arguments.preset].get("metrics", DEFAULT_METRICS)
    if arguments.metric not in (None, *metrics):
        metrics = (*metrics, arguments.metric)
    changes = {"metrics": metrics, "top_n": arguments.top_n, "silencing_draws": max(1, arguments.draws)}
    changes |= {"target": arguments.target, "layer_names": arguments.layer_names}
    if arguments.perturbations is not None:
        changes["perturbations"] = arguments.perturbations
    try:
        image = read_image(arguments.image, arguments.frame)
        settings = ExplainSettings.preset(arguments.preset, **changes)
        search = ScanSettings(person_height_min=arguments.person_height_min)
        classifier = PersonClassifier.load(arguments.weights, arguments.device)
        explainer = Explainer(classifier, settings)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"explain_image: {error}", file=sys.stderr)
        return 1

    decision = Decider(classifier, DecisionSettings(regions=arguments.regions, scan=search)).decide(image)
    explanation = explainer.explain(image, decision.region, threshold=decision.threshold)

    best = SUPPORTING if SUPPORTING in metrics else most_effective(explanation).metric
    shown = shown_metrics(explanation, arguments.metric or best)
    print("\n".join(summary(explanation)))
    print(verdict(explanation), end="\n\n")
    for name in shown:
        print("\n".join(table(explanation, name)))

    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures = {"overlay": draw_overlay(image, explanation, shown, regions=decision.regions)}
    pictures |= sheets(image, explanation, decision.regions)
    for name, picture in pictures.items():
        write_image(arguments.output / f"{name}.png", picture)
    print(f"Pictures: {', '.join(str(arguments.output / f'{name}.png') for name in pictures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
