"""The commands of the experiments: from parsed arguments to tables and figures in a folder."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2

from explain_cnn_ros.experiments import (
    causal,
    causal_markdown,
    causal_tables,
    checkpoints,
    convergence,
    differences,
    figures,
    patch_table,
    regions,
    stability,
)
from explain_cnn_ros.experiments.causal_tables import CausalTables
from explain_cnn_ros.experiments.examples import Example, read_examples
from explain_cnn_ros.experiments.frames import frames_of
from explain_cnn_ros.experiments.layers import explained_layers
from explain_cnn_ros.experiments.networks import across, mean_matrix
from explain_cnn_ros.experiments.panels import panels, stacked
from explain_cnn_ros.experiments.patch_accuracy import PatchAccuracySettings
from explain_cnn_ros.experiments.progress import ProgressBar, ProgressCallback
from explain_cnn_ros.experiments.provenance import (
    ResultProvenance,
    as_json,
    command_line,
    provenance_of,
    write_tables,
)
from explain_cnn_ros.experiments.results_cache import key_of
from explain_cnn_ros.experiments.secondary import SecondarySettings
from explain_cnn_ros.experiments.selectors import settings_with
from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.metrics import PAPER_METRICS, SUPPORTING
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.device import choose_device
from explain_cnn_ros.model.network import ARCHITECTURES
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, DecisionSettings
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.data import read_data
from explain_cnn_ros.training.networks import is_own
from explain_cnn_ros.training.settings import TrainSettings

#: Number of persons, and of backgrounds, of training photos whose mean activations the causal check uses.
REFERENCE_WINDOWS = 32

#: The result of an experiment for one network.
Result = TypeVar("Result")


def load_networks(arguments: argparse.Namespace) -> list[PersonClassifier]:
    """Load the requested classifiers; those that ship with the package if none are requested.

    Raises:
        ValueError: A classifier is given twice, or has windows of another size than the first one.
    """
    networks = [PersonClassifier.load(path, arguments.device) for path in arguments.weights or [None]]
    hashes = [network.model_hash for network in networks]
    if len(set(hashes)) < len(hashes):
        raise ValueError(f"--weights names the same network twice ({', '.join(hashes)}): give different networks")
    sizes = dict.fromkeys(network.info.input_size for network in networks)
    if len(sizes) > 1:
        found = " and ".join(f"{width} x {height}" for width, height in sizes)
        raise ValueError(
            f"--weights names networks for windows of {found} pixels, which do not see the same windows, so their "
            "results cannot be averaged: run the experiment once for each size"
        )
    return networks


def _layers(
    arguments: argparse.Namespace, networks: Sequence[PersonClassifier], layers: Sequence[int]
) -> dict[int, str]:
    """Return the names of the explained layers by number.

    Raises:
        ValueError: A network has no such layers, or the networks have different ones.
    """
    found = [explained_layers(network, layers, arguments.layer_names) for network in networks]
    for network, other in zip(networks, found, strict=True):
        if other != found[0]:
            raise ValueError(
                f"--weights names networks with different layers ({', '.join(found[0].values())} of "
                f"{networks[0].info.architecture}, {', '.join(other.values())} of {network.info.architecture}), so "
                "their results cannot be averaged by layer: run the experiment once for each network"
            )
    return found[0]


def _require_vgg(networks: Sequence[PersonClassifier]) -> None:
    """Raise a ValueError if a network has other layers than those of a VGG."""
    for network in networks:
        if not network.has_dense_pass:
            raise ValueError(
                f"the experiment differences compares choices of the paper and of its code, which number the layers of "
                f"VGG-16. {network.info.architecture} has other layers: use a VGG of this package. The experiments "
                "causal, stability, guide, regions, patches and localization take any network"
            )


def for_each(
    networks: Sequence[PersonClassifier], measure: Callable[[PersonClassifier, ProgressCallback], Result]
) -> list[Result]:
    """Run an experiment for each network, with a progress bar that names the network.

    Args:
        networks: The networks.
        measure: Returns the result of a network, and reports its progress.
    """

    def named(bar: ProgressCallback, suffix: str) -> ProgressCallback:
        return lambda step, done, total: bar(step + suffix, done, total)

    with ProgressBar() as bar:
        return [
            measure(network, named(bar, f", network {i} of {len(networks)}" if len(networks) > 1 else ""))
            for i, network in enumerate(networks, 1)
        ]


def describe(networks: Sequence[PersonClassifier]) -> str:
    """Return the hashes of the networks for the provenance."""
    hashes = ", ".join(network.model_hash for network in networks)
    return hashes if len(networks) == 1 else f"of {len(networks)} networks: {hashes}"


def by_network(
    networks: Sequence[PersonClassifier], results: Sequence[Result], summary: Result, text: Callable[[Result], str]
) -> str:
    """Return tables in Markdown: a summary over the networks, and a block for each network; one network has one block.

    Args:
        networks: The networks.
        results: The result of each network.
        summary: The result over all of them.
        text: Converts a result to Markdown.
    """
    if len(networks) == 1:
        return text(summary)
    blocks = [f"## Over {len(networks)} networks: mean (smallest to largest network)\n\n{text(summary)}"]
    blocks += [f"## Network {n.model_hash}\n\n{text(result)}" for n, result in zip(networks, results, strict=True)]
    return "\n".join(blocks)


def by_network_json(
    networks: Sequence[PersonClassifier], results: Sequence[Result], summary: Result, plain: Callable[[Result], Any]
) -> dict[str, Any]:
    """Return results as plain values: "summary" over the networks, and "networks" by their hashes.

    Args:
        networks: The networks.
        results: The result of each network.
        summary: The result over all of them.
        plain: Converts a result to plain values.
    """
    of_networks = {n.model_hash: plain(result) for n, result in zip(networks, results, strict=True)}
    return {"summary": plain(summary), "networks": of_networks}


def bars(networks: Sequence[PersonClassifier]) -> str:
    """Return what the bars of figures show."""
    if len(networks) == 1:
        return "95 % intervals over photos"
    return f"the range over {len(networks)} networks"


def require_matplotlib() -> None:
    """Raise an ImportError if matplotlib is missing, before hours of computation and not after them."""
    figures.matplotlib_figure(1, 1, 1)


def patches(arguments: argparse.Namespace) -> None:
    """Write table 1."""
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    examples = read_examples(arguments.data, arguments.training, arguments.test, classifier.info.input_size)
    settings = patch_table.PatchTableSettings(
        settings_with(arguments.preset, metrics=(SUPPORTING, *PAPER_METRICS), layer_names=arguments.layer_names),
        accuracy=PatchAccuracySettings(
            arguments.seeds, training=SecondarySettings(arguments.steps), pictures=arguments.pictures
        ),
        splits=tuple(arguments.splits),
    )
    with ProgressBar() as bar:
        rows = patch_table.measure(classifier, examples, settings, arguments.output, bar)
    provenance = provenance_of(arguments, examples, classifier.model_hash)
    write_tables(arguments.output, "patches", provenance, patch_table.to_markdown(rows), as_json(rows))


def converge(arguments: argparse.Namespace) -> None:
    """Train a network, and write figures 2 and 3."""
    require_matplotlib()
    if not is_own(arguments.architecture):
        raise ValueError(
            f"--architecture is {arguments.architecture!r}: the experiment convergence trains VGGs of this package, "
            f"whose layers figures 2 and 3 of the paper are about. Give one of {', '.join(ARCHITECTURES)}"
        )
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
    chance = convergence.chance_similarity(last, tuple(explained_layers(last, settings.layers)), settings.top_n)
    text, plain = convergence.to_markdown(rows), convergence.plain(rows, chance)
    write_tables(arguments.output, "convergence", provenance, text, plain)
    figures.accuracies(rows, provenance, arguments.output / "accuracy.png")
    figures.similarity(rows, chance, provenance, arguments.output / "similarity.png")


def summarise_convergence(arguments: argparse.Namespace) -> None:
    """Write figures 2 and 3 over several runs of `converge`."""
    require_matplotlib()
    read = [convergence.read_run(folder) for folder in arguments.runs]
    runs, chance = [rows for rows, _ in read], read[0][1]
    rows = convergence.summary(runs)
    rhos = {
        preset: [convergence.rank_correlation_with_accuracy(run, preset) for run in runs]
        for preset in convergence.NOISES
    }
    text = convergence.to_markdown(rows)
    for preset, values in rhos.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        text += f"\nRank correlation of accuracy and similarity in each run, {preset} noise: {each}\n"
    provenance = ResultProvenance(command_line(arguments), f"of {len(runs)} runs", "trained by them")
    write_tables(arguments.output, "convergence-summary", provenance, text, convergence.plain(rows, chance))
    figures.accuracies(rows, provenance, arguments.output / "accuracy.png")
    figures.similarity(rows, chance, provenance, arguments.output / "similarity.png")


def _causal(
    arguments: argparse.Namespace, networks: Sequence[PersonClassifier]
) -> tuple[list[CausalTables], list[Example], CausalTables]:
    """Return the tables of each network, the windows, and the tables over all networks."""
    settings = causal.CausalSettings()
    layers = _layers(arguments, networks, settings.layers)
    both = read_examples(arguments.data, REFERENCE_WINDOWS, arguments.windows, networks[0].info.input_size)
    reference, examples = ([e for e in both if e.is_test == of_test] for of_test in (False, True))

    def measure(classifier: PersonClassifier, progress: ProgressCallback) -> CausalTables:
        records = causal.measure(
            classifier, examples, reference, settings, arguments.output, progress, arguments.layer_names
        )
        return causal_tables.tables(records, examples, settings, classifier.threshold, layers)

    results = for_each(networks, measure)
    return results, examples, causal_tables.across_networks(results)


def silence(arguments: argparse.Namespace) -> None:
    """Write the tables and figures of the causal check."""
    require_matplotlib()
    networks = load_networks(arguments)
    results, examples, summary = _causal(arguments, networks)
    provenance = provenance_of(arguments, examples, describe(networks))
    compared_n = causal.CausalSettings().compared_n
    text = by_network(networks, results, summary, lambda t: causal_markdown.tables_markdown(t, compared_n))
    plain = by_network_json(networks, results, summary, dataclasses.asdict)
    write_tables(arguments.output, "causal", provenance, text, plain)
    figures.influences(summary.rows, bars(networks), provenance, arguments.output / "causal.png")
    figures.layer_influences(summary.layers, bars(networks), provenance, arguments.output / "layers.png")
    title = f"Jaccard index of what each two select, top {compared_n} of all layers"
    agreement = summary.agreement[causal_tables.ALL]
    figures.matrix(causal.SELECTORS, agreement, title, provenance, arguments.output / "agreement.png")


def _stability(
    arguments: argparse.Namespace, networks: Sequence[PersonClassifier], windows: int
) -> tuple[list[list[stability.StabilityRow]], list[Example], list[stability.StabilityRow]]:
    """Return the table of each network, the windows, and the table over all networks."""
    examples = read_examples(arguments.data, 0, windows, networks[0].info.input_size)
    settings = stability.StabilitySettings(seeds=arguments.seeds)
    results = for_each(
        networks,
        lambda classifier, progress: stability.measure(
            classifier, examples, settings, arguments.output, progress, arguments.layer_names
        ),
    )
    return results, examples, across(results)


def stabilise(arguments: argparse.Namespace) -> None:
    """Write the table and the figure of the stability."""
    require_matplotlib()
    networks = load_networks(arguments)
    results, examples, summary = _stability(arguments, networks, arguments.windows)
    provenance = provenance_of(arguments, examples, describe(networks))
    text = by_network(networks, results, summary, stability.to_markdown)
    plain = by_network_json(networks, results, summary, as_json)
    write_tables(arguments.output, "stability", provenance, text, plain)
    target = ExplainSettings().stability_target
    figures.stabilities(summary, target, provenance, arguments.output / "stability.png")


def guide(arguments: argparse.Namespace) -> None:
    """Write the figure that shows which metric to use, with how many perturbations."""
    require_matplotlib()
    networks = load_networks(arguments)
    _, examples, of_causal = _causal(arguments, networks)
    _, fewer, of_stability = _stability(arguments, networks, arguments.stability_windows)
    provenance = provenance_of(arguments, examples, describe(networks))
    right = provenance_of(arguments, fewer, "").data
    provenance = dataclasses.replace(provenance, data=f"{provenance.data}; right: {right}")
    path = arguments.output / "guide.png"
    target = ExplainSettings().stability_target
    figures.guide(of_causal.rows, of_stability, target, bars(networks), provenance, path)
    print(f"{provenance}\nthe figure is {path}")


@dataclasses.dataclass(frozen=True)
class _Regions:
    """The tables of the experiment `regions` of one network."""

    methods: list[regions.RegionRow]
    patches: list[regions.PatchRow]
    overlaps: list[list[float]]

    def markdown(self) -> str:
        best, patches = regions.to_markdown(self.methods), regions.patches_markdown(self.patches)
        return f"### Best regions\n\n{best}\n### Single patches\n\n{patches}"


def compare_regions(arguments: argparse.Namespace) -> None:
    """Write the tables and figures of the best regions and of single patches."""
    require_matplotlib()
    networks = load_networks(arguments)
    size = networks[0].info.input_size
    examples = [e for e in read_examples(arguments.data, 0, arguments.windows, size) if e.person]
    settings = regions.RegionSettings(samples=arguments.samples, seeds=arguments.seeds)

    def measure(classifier: PersonClassifier, progress: ProgressCallback) -> _Regions:
        records = regions.measure(classifier, examples, settings, arguments.output, progress, arguments.layer_names)
        return _Regions(
            regions.rows(records, examples),
            regions.patch_rows(records, examples),
            regions.overlaps(records, examples),
        )

    results = for_each(networks, measure)
    summary = _Regions(
        across([result.methods for result in results]),
        across([result.patches for result in results]),
        mean_matrix([result.overlaps for result in results]),
    )
    provenance = provenance_of(arguments, examples, describe(networks))
    text = by_network(networks, results, summary, _Regions.markdown)
    plain = by_network_json(networks, results, summary, dataclasses.asdict)
    write_tables(arguments.output, "regions", provenance, text, plain)
    figures.best_regions(summary.methods, bars(networks), provenance, arguments.output / "regions.png")
    figures.single_patches(summary.patches, bars(networks), provenance, arguments.output / "patches.png")
    title = "intersection over union of best regions"
    figures.matrix(regions.METHODS, summary.overlaps, title, provenance, arguments.output / "overlaps.png")


def compare_differences(arguments: argparse.Namespace) -> None:
    """Write the table of the points in which the paper, its code and this package differ."""
    networks, settings = load_networks(arguments), differences.DifferenceSettings()
    _require_vgg(networks)
    examples = read_examples(arguments.data, 0, arguments.windows, networks[0].info.input_size)

    def measure(classifier: PersonClassifier, progress: ProgressCallback) -> differences.DifferenceTables:
        records = differences.measure(classifier, examples, settings, arguments.output, progress)
        return differences.tables(records, examples)

    results = for_each(networks, measure)
    summary = differences.across_networks(results)
    provenance = provenance_of(arguments, examples, describe(networks))
    text = by_network(networks, results, summary, differences.to_markdown)
    plain = by_network_json(networks, results, summary, dataclasses.asdict)
    write_tables(arguments.output, "differences", provenance, text, plain)


def localize(arguments: argparse.Namespace) -> None:
    """Write figure 4.

    Raises:
        ValueError: A frame cannot be read, or the figure cannot be written.
    """
    if arguments.output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ValueError(f"{arguments.output} cannot be written: does its name end with .png or .jpg?")
    classifier = PersonClassifier.load(arguments.weights, arguments.device)
    explainer = Explainer(classifier, settings_with(arguments.preset, layer_names=arguments.layer_names))
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
