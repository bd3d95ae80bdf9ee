"""What each experiment's command does, from its arguments to tables and figures in a folder."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import cv2

from explain_cnn_ros.classifier import PersonClassifier, choose_device
from explain_cnn_ros.experiments import causal, convergence, course, figures, patch_table, regions, stability
from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.frames import frames_of
from explain_cnn_ros.experiments.kept import key_of
from explain_cnn_ros.experiments.layouts import WINDOW
from explain_cnn_ros.experiments.made import as_json, command_line, made_of, write
from explain_cnn_ros.experiments.panels import panels, stacked
from explain_cnn_ros.experiments.probe import Probe
from explain_cnn_ros.experiments.progress import Bar
from explain_cnn_ros.experiments.secondary import Training
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.settings import ExplainSettings
from explain_cnn_ros.training.train import TrainSettings, read_data


def load(arguments: argparse.Namespace) -> PersonClassifier:
    """The classifier that is asked for.

    Raises:
        ValueError: it is for windows of another size than the data.
    """
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    if classifier.info.input_size != WINDOW:
        width, height = classifier.info.input_size
        raise ValueError(
            f"{arguments.weights} are weights for windows of {width} x {height} pixels: the experiments need "
            f"{WINDOW[0]} x {WINDOW[1]}"
        )
    return classifier


def patches(arguments: argparse.Namespace) -> None:
    """Table 1."""
    classifier = load(arguments)
    examples = read_examples(arguments.data, arguments.training, arguments.test)
    how = patch_table.PatchTable(ExplainSettings.preset(arguments.preset), probe=Probe(arguments.seeds))
    with Bar() as bar:
        rows = patch_table.measure(classifier, examples, how, arguments.output, bar)
    made = made_of(arguments, examples, classifier.model_hash)
    write(arguments.output, "patches", made, patch_table.to_markdown(rows), as_json(rows))


def converge(arguments: argparse.Namespace) -> None:
    """Figures 2 and 3."""
    figures.matplotlib_figure(1, 1, 1)  # what is missing is said before hours of training
    examples = read_examples(arguments.data, arguments.training, arguments.test)
    data = read_data(arguments.data, None, TrainSettings())
    wanted = TrainSettings(seed=arguments.seed, batch=arguments.batch, architecture=arguments.architecture)
    settings = course.course_settings(data, arguments.epochs, wanted)
    device = choose_device(arguments.device)
    checkpoints = course.train_course(data, settings, arguments.within, arguments.output / "training", device)
    how = convergence.Convergence(Probe(arguments.seeds, training=Training(arguments.steps)))
    with Bar() as bar:
        rows = convergence.measure(
            checkpoints, examples, (data.persons, data.backgrounds), how, arguments.output, arguments.device, bar
        )
    last = checkpoints[-1].load(device)
    made = made_of(arguments, examples, f"trained by it (the last: {key_of(last)})")
    text = convergence.to_markdown(rows)
    for preset in convergence.NOISES:
        overall = [row.similarity[preset].value for row in rows]
        rho = convergence.rank_correlation([row.accuracy for row in rows], overall)
        text += f"\nRank correlation of the network's accuracy with the similarity, {preset} noise: {rho:.2f}\n"
    write(arguments.output, "convergence", made, text, as_json(rows))
    chance = convergence.chance_similarity(last, how.layers, how.top_n)
    figures.accuracies(rows, made, arguments.output / "accuracy.png")
    figures.similarity(rows, chance, made, arguments.output / "similarity.png")


def _causal(
    arguments: argparse.Namespace, classifier: PersonClassifier
) -> tuple[dict[str, Any], list[Example], list[causal.Row]]:
    """What was measured of each window, the windows, and the table over all of them."""
    examples, how = read_examples(arguments.data, 0, arguments.windows), causal.Causal()
    with Bar() as bar:
        records = causal.measure(classifier, examples, how, arguments.output, bar)
    return records, examples, causal.rows(records, examples, how, classifier.threshold)


def silence(arguments: argparse.Namespace) -> None:
    """Do the selected neurons matter, and do metrics agree."""
    figures.matplotlib_figure(1, 1, 1)
    classifier = load(arguments)
    records, examples, rows = _causal(arguments, classifier)
    made = made_of(arguments, examples, classifier.model_hash)
    agreement = causal.agreement(records, examples, 5)
    text, parts = causal.to_markdown(rows), {"all windows": as_json(rows), "agreement": agreement}
    for name, person in (("persons", True), ("backgrounds", False)):
        some = [e for e in examples if e.person == person]
        of_side = causal.rows(records, some, causal.Causal(), classifier.threshold)
        text += f"\nOnly {name}:\n\n{causal.to_markdown(of_side)}"
        parts[name] = as_json(of_side)
    text += f"\nAgreement of the top 5:\n\n{causal.agreement_markdown(agreement)}"
    write(arguments.output, "causal", made, text, parts)
    figures.influences(rows, made, arguments.output / "causal.png")
    title = "Jaccard index of what each two select, top 5 of all layers"
    figures.matrix(causal.SELECTORS, agreement, title, made, arguments.output / "agreement.png")


def _stability(
    arguments: argparse.Namespace, classifier: PersonClassifier, windows: int
) -> tuple[list[stability.Row], list[Example]]:
    examples = read_examples(arguments.data, 0, windows)
    how = stability.Stability(seeds=arguments.seeds)
    with Bar() as bar:
        return stability.measure(classifier, examples, how, arguments.output, bar), examples


def stabilise(arguments: argparse.Namespace) -> None:
    """Stability over seeds, n and sigma."""
    figures.matplotlib_figure(1, 1, 1)
    classifier = load(arguments)
    rows, examples = _stability(arguments, classifier, arguments.windows)
    made = made_of(arguments, examples, classifier.model_hash)
    write(arguments.output, "stability", made, stability.to_markdown(rows), as_json(rows))
    figures.stabilities(rows, ExplainSettings().stability_target, made, arguments.output / "stability.png")


def guide(arguments: argparse.Namespace) -> None:
    """One figure: which metric, and from which n on."""
    figures.matplotlib_figure(1, 1, 1)
    classifier = load(arguments)
    _, examples, of_causal = _causal(arguments, classifier)
    of_stability, fewer = _stability(arguments, classifier, arguments.stability_windows)
    made = made_of(arguments, examples, classifier.model_hash)
    made = dataclasses.replace(made, data=f"{made.data}; right: {made_of(arguments, fewer, '').data}")
    path = arguments.output / "guide.png"
    figures.guide(of_causal, of_stability, ExplainSettings().stability_target, made, path)
    print(f"{made}\nthe figure is {path}")


def compare_regions(arguments: argparse.Namespace) -> None:
    """The best regions of the metrics, LIME and Grad-CAM."""
    figures.matplotlib_figure(1, 1, 1)
    classifier = load(arguments)
    examples = [e for e in read_examples(arguments.data, 0, arguments.windows) if e.person]
    how = regions.Regions(samples=arguments.samples, seeds=arguments.seeds)
    with Bar() as bar:
        records = regions.measure(classifier, examples, how, arguments.output, bar)
    rows, overlaps = regions.rows(records, examples), regions.overlaps(records, examples)
    made = made_of(arguments, examples, classifier.model_hash)
    both = {"methods": as_json(rows), "overlaps": overlaps}
    write(arguments.output, "regions", made, regions.to_markdown(rows), both)
    figures.best_regions(rows, made, arguments.output / "regions.png")
    title = "intersection over union of best regions"
    figures.matrix(regions.METHODS, overlaps, title, made, arguments.output / "overlaps.png")


def localize(arguments: argparse.Namespace) -> None:
    """Figure 4."""
    if arguments.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{arguments.output} cannot be written: does its name end with .png or .jpg?")
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    explainer = Explainer(classifier, ExplainSettings.preset(arguments.preset))
    scan = ScanSettings(person_height_min=arguments.person_height_min)
    rows, names = [], []
    for path in arguments.images:
        for name, frame in frames_of(path, arguments.frames):
            found = classifier.scan(frame, scan) if arguments.regions == "scan" else []
            persons = [region for region in found if region.probability >= classifier.threshold] or found[:1]
            for i, region in enumerate(persons[: arguments.persons] or [None]):
                rows.append(panels(frame, explainer.explain(frame, region)))
                names.append(f"{name}, person {i + 1}" if len(persons) > 1 and arguments.persons > 1 else name)
    figure = stacked(rows, names)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.output), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"{arguments.output} cannot be written")
    print(f"{command_line(arguments)}\nweights {classifier.model_hash}\nthe figure is {arguments.output}")
