"""The commands of the experiments: from parsed arguments to tables and figures in a folder."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import cv2

from explain_cnn_ros.experiments import causal, checkpoints, convergence, figures, patch_table, regions, stability
from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.frames import frames_of
from explain_cnn_ros.experiments.layouts import WINDOW
from explain_cnn_ros.experiments.panels import panels, stacked
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings
from explain_cnn_ros.experiments.progress import ProgressBar
from explain_cnn_ros.experiments.provenance import as_json, command_line, provenance_of, write_tables
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.experiments.secondary import SecondarySettings
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, DecisionSettings
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.data import read_data
from explain_cnn_ros.training.settings import TrainSettings


def load(arguments: argparse.Namespace) -> PersonClassifier:
    """Load the requested classifier.

    Raises:
        ValueError: The classifier has windows of another size than the data.
    """
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    if classifier.info.input_size != WINDOW:
        width, height = classifier.info.input_size
        raise ValueError(
            f"{arguments.weights} are weights for windows of {width} x {height} pixels: the experiments need "
            f"{WINDOW[0]} x {WINDOW[1]}"
        )
    return classifier


def require_matplotlib() -> None:
    """Raise an ImportError if matplotlib is missing, before hours of computation and not after them."""
    figures.matplotlib_figure(1, 1, 1)


def patches(arguments: argparse.Namespace) -> None:
    """Write table 1."""
    classifier = load(arguments)
    examples = read_examples(arguments.data, arguments.training, arguments.test)
    settings = patch_table.PatchTableSettings(
        ExplainSettings.preset(arguments.preset), accuracy=PatchAccuracySettings(arguments.seeds)
    )
    with ProgressBar() as bar:
        rows = patch_table.measure(classifier, examples, settings, arguments.output, bar)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    write_tables(arguments.output, "patches", provenance, patch_table.to_markdown(rows), as_json(rows))


def converge(arguments: argparse.Namespace) -> None:
    """Train a network, and write figures 2 and 3."""
    require_matplotlib()
    examples = read_examples(arguments.data, arguments.training, arguments.test)
    data = read_data(arguments.data, None, TrainSettings())
    requested = TrainSettings(seed=arguments.seed, batch=arguments.batch, architecture=arguments.architecture)
    training = checkpoints.checkpoint_settings(data, arguments.epochs, requested)
    device = choose_device(arguments.device)
    networks = checkpoints.train_checkpoints(data, training, arguments.within, arguments.output / "training", device)
    settings = convergence.ConvergenceSettings(
        PatchAccuracySettings(arguments.seeds, training=SecondarySettings(arguments.steps))
    )
    validation = (data.persons, data.backgrounds)
    with ProgressBar() as bar:
        rows = convergence.measure(networks, examples, validation, settings, arguments.output, arguments.device, bar)
    last = networks[-1].load(device)
    provenance = provenance_of(arguments, examples, f"trained by it (the last: {key_of(last)})")
    text = convergence.to_markdown(rows)
    for preset in convergence.NOISES:
        overall = [row.similarity[preset].value for row in rows]
        rho = convergence.rank_correlation([row.accuracy for row in rows], overall)
        text += f"\nRank correlation of the network's accuracy with the similarity, {preset} noise: {rho:.2f}\n"
    write_tables(arguments.output, "convergence", provenance, text, as_json(rows))
    chance = convergence.chance_similarity(last, settings.layers, settings.top_n)
    figures.accuracies(rows, provenance, arguments.output / "accuracy.png")
    figures.similarity(rows, chance, provenance, arguments.output / "similarity.png")


def _causal(
    arguments: argparse.Namespace, classifier: PersonClassifier
) -> tuple[dict[str, Any], list[Example], list[causal.CausalRow]]:
    """Return the results of the windows, the windows, and the table over all of them."""
    examples, settings = read_examples(arguments.data, 0, arguments.windows), causal.CausalSettings()
    with ProgressBar() as bar:
        records = causal.measure(classifier, examples, settings, arguments.output, bar)
    return records, examples, causal.rows(records, examples, settings, classifier.threshold)


def silence(arguments: argparse.Namespace) -> None:
    """Write the tables and figures of the causal check."""
    require_matplotlib()
    classifier = load(arguments)
    records, examples, rows = _causal(arguments, classifier)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    agreement = causal.agreement(records, examples, 5)
    text, parts = causal.to_markdown(rows), {"all windows": as_json(rows), "agreement": agreement}
    for name, person in (("persons", True), ("backgrounds", False)):
        some = [e for e in examples if e.person == person]
        of_side = causal.rows(records, some, causal.CausalSettings(), classifier.threshold)
        text += f"\nOnly {name}:\n\n{causal.to_markdown(of_side)}"
        parts[name] = as_json(of_side)
    text += f"\nAgreement of the top 5:\n\n{causal.agreement_markdown(agreement)}"
    write_tables(arguments.output, "causal", provenance, text, parts)
    figures.influences(rows, provenance, arguments.output / "causal.png")
    title = "Jaccard index of what each two select, top 5 of all layers"
    figures.matrix(causal.SELECTORS, agreement, title, provenance, arguments.output / "agreement.png")


def _stability(
    arguments: argparse.Namespace, classifier: PersonClassifier, windows: int
) -> tuple[list[stability.StabilityRow], list[Example]]:
    examples = read_examples(arguments.data, 0, windows)
    settings = stability.StabilitySettings(seeds=arguments.seeds)
    with ProgressBar() as bar:
        return stability.measure(classifier, examples, settings, arguments.output, bar), examples


def stabilise(arguments: argparse.Namespace) -> None:
    """Write the table and the figure of the stability."""
    require_matplotlib()
    classifier = load(arguments)
    rows, examples = _stability(arguments, classifier, arguments.windows)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    write_tables(arguments.output, "stability", provenance, stability.to_markdown(rows), as_json(rows))
    target = ExplainSettings().stability_target
    figures.stabilities(rows, target, provenance, arguments.output / "stability.png")


def guide(arguments: argparse.Namespace) -> None:
    """Write the figure that shows which metric to use, with how many perturbations."""
    require_matplotlib()
    classifier = load(arguments)
    _, examples, causal_rows = _causal(arguments, classifier)
    stability_rows, fewer = _stability(arguments, classifier, arguments.stability_windows)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    right = provenance_of(arguments, fewer, "").data
    provenance = dataclasses.replace(provenance, data=f"{provenance.data}; right: {right}")
    path = arguments.output / "guide.png"
    figures.guide(causal_rows, stability_rows, ExplainSettings().stability_target, provenance, path)
    print(f"{provenance}\nthe figure is {path}")


def compare_regions(arguments: argparse.Namespace) -> None:
    """Write the tables and figures of the best regions."""
    require_matplotlib()
    classifier = load(arguments)
    examples = [e for e in read_examples(arguments.data, 0, arguments.windows) if e.person]
    settings = regions.RegionSettings(samples=arguments.samples, seeds=arguments.seeds)
    with ProgressBar() as bar:
        records = regions.measure(classifier, examples, settings, arguments.output, bar)
    rows, overlaps = regions.rows(records, examples), regions.overlaps(records, examples)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    both = {"methods": as_json(rows), "overlaps": overlaps}
    write_tables(arguments.output, "regions", provenance, regions.to_markdown(rows), both)
    figures.best_regions(rows, provenance, arguments.output / "regions.png")
    title = "intersection over union of best regions"
    figures.matrix(regions.METHODS, overlaps, title, provenance, arguments.output / "overlaps.png")


def localize(arguments: argparse.Namespace) -> None:
    """Write figure 4.

    Raises:
        ValueError: A frame cannot be read, or the figure cannot be written.
    """
    if arguments.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{arguments.output} cannot be written: does its name end with .png or .jpg?")
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    explainer = Explainer(classifier, ExplainSettings.preset(arguments.preset))
    scan = ScanSettings(person_height_min=arguments.person_height_min)
    decider = Decider(classifier, DecisionSettings(regions=arguments.regions, scan=scan))
    rows, names = [], []
    for path in arguments.images:
        for name, frame in frames_of(path, arguments.frames):
            decision = decider.decide(frame)
            several = len(decision.regions) > 1 and arguments.persons > 1
            for i, region in enumerate(decision.regions[: arguments.persons]):
                rows.append(panels(frame, explainer.explain(frame, region, threshold=decision.threshold)))
                names.append(f"{name}, person {i + 1}" if several else name)
    figure = stacked(rows, names)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.output), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"{arguments.output} cannot be written")
    print(f"{command_line(arguments)}\nweights {classifier.model_hash}\nthe figure is {arguments.output}")
