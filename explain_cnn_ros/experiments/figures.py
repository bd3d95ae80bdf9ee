"""The experiments' figures. Below each figure stand its command, its data and its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.causal import CausalRow
from explain_cnn_ros.experiments.convergence import NOISES, SELECTORS, ConvergenceRow
from explain_cnn_ros.experiments.provenance import ResultProvenance
from explain_cnn_ros.experiments.regions import GRAD_CAM, LIME, RegionRow
from explain_cnn_ros.experiments.selectors import PERTURBED_METRICS, RANDOM, parts, selector
from explain_cnn_ros.experiments.stability import StabilityRow, stable_from
from explain_cnn_ros.explain.metrics import metric
from explain_cnn_ros.explain.settings import PRESETS

#: Colours of what is no metric. The metrics have colours of their own.
OTHER_COLOURS = {RANDOM: "#888888", LIME: "#222222", GRAD_CAM: "#222222"}

#: Line, marker and name of a noise, by its preset.
STYLES = {"paper": ("-", "o"), "authors": ("--", "s"), "stable": (":", "^")}
NOISE_NAMES = {"paper": "the paper's noise", "authors": "the authors' noise", "stable": "balanced noise"}

#: Colours of the noises where lines stand for noises, not for metrics.
NOISE_COLOURS = ("#0072B2", "#D55E00")


def matplotlib_figure(width: float, height: float, columns: int, ratios: Sequence[float] | None = None) -> Any:
    """Create a figure with the same light style whatever the user's settings are.

    Args:
        width: Width, in inches.
        height: Height, in inches.
        columns: Number of axes, which stand side by side.
        ratios: Ratios of the widths of the axes; None for equal widths.

    Returns:
        The figure and its axes.

    Raises:
        ImportError: matplotlib is missing; the message says how to install it.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib: pip install matplotlib, or apt install python3-matplotlib"
        ) from error
    mpl.rcParams.update(mpl.rcParamsDefault)
    mpl.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
    )
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False, width_ratios=ratios)[0]


def save(figure: Any, provenance: ResultProvenance, path: Path) -> None:
    """Write a figure as PNG. The same figure gives the same bytes.

    Args:
        figure: The figure.
        provenance: Provenance of its data, which is written below it.
        path: The file; its folder is created if it does not exist.
    """
    figure.supxlabel(str(provenance), fontsize=6.5, color="#666666")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def colour_of(name: str) -> str:
    """Return the colour of a selector or method."""
    metric_name, _ = parts(name)
    return OTHER_COLOURS[metric_name] if metric_name in OTHER_COLOURS else metric(metric_name).colour


def label_of(name: str) -> str:
    """Return the title of a selector or method."""
    metric_name, preset = parts(name)
    title = metric_name if metric_name in OTHER_COLOURS else metric(metric_name).title
    return title if preset == "paper" else f"{title}, {NOISE_NAMES[preset]}"


def _line(axes: Any, x: Sequence[float], means: Sequence[Estimate], name: str, label: str) -> None:
    style, marker = STYLES[parts(name)[1]]
    colour = colour_of(name)
    axes.plot(x, [m.value for m in means], style, marker=marker, ms=4, lw=1.5, color=colour, label=label)
    axes.fill_between(x, [m.low for m in means], [m.high for m in means], color=colour, alpha=0.12, lw=0)


def _epochs(axes: Any, table: Sequence[ConvergenceRow]) -> None:
    first = next(row.epoch for row in table if row.epoch > 0)
    axes.set_xscale("symlog", linthresh=first, linscale=0.6)
    ticks = [row.epoch for row in table]
    crowded = [tick > 0.75 * after for tick, after in zip(ticks, [*ticks[1:], math.inf], strict=True)]
    labels = ["" if close else f"{tick:.2g}" for tick, close in zip(ticks, crowded, strict=True)]
    axes.set_xticks(ticks, labels, rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("epochs of training")


def accuracies(table: Sequence[ConvergenceRow], provenance: ResultProvenance, path: Path) -> None:
    """Draw figure 2: the accuracy of the network, and of secondary classifiers on the patches of each metric.

    Args:
        table: The checkpoints.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (network, paper, both) = matplotlib_figure(11, 4.4, 3, (0.8, 1, 1))
    network.plot([row.epoch for row in table], [100 * row.accuracy for row in table], "-o", color="#222222", ms=4)
    network.set_title("the network", fontsize=10)
    network.set_ylabel("balanced accuracy on unseen photos, %")
    _secondary(paper, table, [name for name in SELECTORS if parts(name)[1] == "paper"])
    _secondary(both, table, [name for name in SELECTORS if parts(name)[0] in PERTURBED_METRICS])
    paper.set_ylim(bottom=38)  # leaves room for the legend below the accuracy of chance
    paper.set_title("secondary classifiers, the paper's noise", fontsize=10)
    both.set_title("secondary classifiers, both noises", fontsize=10)
    both.sharey(paper)
    for axes in (network, paper, both):
        _epochs(axes, table)
    save(figure, provenance, path)


def _secondary(axes: Any, table: Sequence[ConvergenceRow], names: Sequence[str]) -> None:
    for name in names:
        style, marker = STYLES[parts(name)[1]]
        means, deviations = zip(*(row.secondary[name] for row in table), strict=True)
        axes.errorbar(
            [row.epoch for row in table],
            [100 * m for m in means],
            [100 * d for d in deviations],
            fmt=style,
            marker=marker,
            ms=4,
            lw=1.3,
            capsize=2,
            color=colour_of(name),
            label=label_of(name),
        )
    axes.axhline(50, color="#888888", lw=1, ls=":")
    axes.legend(fontsize=7, loc="lower right")


def similarity(table: Sequence[ConvergenceRow], chance: float, provenance: ResultProvenance, path: Path) -> None:
    """Draw figure 3: the Jaccard index of the selections of correlation and precision, over all layers and by layer.

    Args:
        table: The checkpoints.
        chance: The Jaccard index of random selections.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, axes = matplotlib_figure(11, 4.2, 3)
    epochs = [row.epoch for row in table]
    for preset, colour in zip(NOISES, NOISE_COLOURS, strict=True):
        style, marker = STYLES[preset]
        means = [row.similarity[preset] for row in table]
        axes[0].plot(
            epochs, [m.value for m in means], style, marker=marker, ms=4, color=colour, label=NOISE_NAMES[preset]
        )
        axes[0].fill_between(epochs, [m.low for m in means], [m.high for m in means], color=colour, alpha=0.15, lw=0)
    axes[0].axhline(chance, color="#888888", lw=1, ls=":", label="sets drawn at random")
    axes[0].set_title("over all layers", fontsize=10)
    axes[0].set_ylabel("Jaccard index of correlation's and precision's sets")
    axes[0].legend(fontsize=8)
    for panel, preset in zip(axes[1:], NOISES, strict=True):
        _similarity_by_layer(panel, table, preset)
    axes[2].sharey(axes[1])
    for panel in axes:
        panel.set_ylim(bottom=0)
        _epochs(panel, table)
    save(figure, provenance, path)


def _similarity_by_layer(axes: Any, table: Sequence[ConvergenceRow], preset: str) -> None:
    import matplotlib as mpl

    colours = mpl.colormaps["viridis"]
    layers = list(table[0].similarity_by_layer[preset])
    for i, layer in enumerate(layers):
        values = [row.similarity_by_layer[preset][layer].value for row in table]
        shade = colours(i / max(1, len(layers) - 1) * 0.9)
        axes.plot([row.epoch for row in table], values, "-o", ms=3, lw=1.3, color=shade, label=f"layer {layer}")
    axes.set_title(f"by layer, {NOISE_NAMES[preset]}", fontsize=10)
    axes.legend(fontsize=7, ncols=2)


def _stability_lines(axes: Any, table: Sequence[StabilityRow], over_n: bool, target: float) -> None:
    for preset in dict.fromkeys(row.preset for row in table):
        own = PRESETS[preset]
        for name in PERTURBED_METRICS:
            line = [row for row in table if (row.preset, row.metric) == (preset, name)]
            if over_n:
                line = sorted((row for row in line if row.sigma == own["sigma"]), key=lambda row: row.perturbations)
            else:
                n = next(row.perturbations for row in line if row.sigma != own["sigma"])
                line = sorted((row for row in line if row.perturbations == n), key=lambda row: row.sigma)
            x = [row.perturbations if over_n else row.sigma for row in line]
            label = f"{metric(name).title.split()[-1]}, {NOISE_NAMES[preset]}"
            _line(axes, x, [row.seeds for row in line], selector(name, preset), label)
    axes.axhline(target, color="#888888", lw=1, ls=":")
    axes.set_xscale("log")
    # Numbers of perturbations that one noise rounds up stand close to those of the others.
    first = [row for row in table if row.preset == table[0].preset] if over_n else table
    ticks = sorted({row.perturbations if over_n else row.sigma for row in first})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.09)


def stabilities(table: Sequence[StabilityRow], target: float, provenance: ResultProvenance, path: Path) -> None:
    """Draw the Jaccard index of the selections of two seeds, over n and over sigma.

    Args:
        table: Rows of the experiment `stability`.
        target: A ranking is stable if its Jaccard index is at least this.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (over_n, over_sigma) = matplotlib_figure(10, 4.4, 2)
    _stability_lines(over_n, table, True, target)
    over_n.set_xlabel("perturbations n, at each noise's own sigma")
    over_n.set_ylabel("Jaccard index of two seeds' top 5")
    over_n.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.42))
    _stability_lines(over_sigma, table, False, target)
    over_sigma.set_xlabel("sigma, at each noise's own n")
    save(figure, provenance, path)


def _influence(axes: Any, table: Sequence[CausalRow], top_ns: Sequence[int]) -> None:
    names = list(dict.fromkeys(row.selector for row in table))
    for i, name in enumerate(names):
        for j, n in enumerate(top_ns):
            row = next(row for row in table if (row.selector, row.top_n) == (name, n))
            mean, y = row.times_random, len(names) - i + 0.22 * ((len(top_ns) - 1) / 2 - j)
            colour = colour_of(name)
            axes.plot([mean.low, mean.high], [y, y], color=colour, lw=1.5)
            axes.plot(mean.value, y, "os^D"[j], ms=5, color=colour, mfc=colour if j == 1 else "white")
    axes.axvline(1, color="#888888", lw=1, ls=":")
    axes.set_yticks(range(len(names), 0, -1), [label_of(name) for name in names])
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.minorticks_off()


def influences(table: Sequence[CausalRow], provenance: ResultProvenance, path: Path) -> None:
    """Draw the change of the output without a metric's top N, divided by that without as many random neurons.

    Args:
        table: Rows of the experiment `causal`.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (axes,) = matplotlib_figure(9, 4.8, 1)
    top_ns = sorted({row.top_n for row in table})
    _influence(axes, table, top_ns)
    marks = ", ".join(
        f"{mark} {n}" for mark, n in zip(("circle", "square", "triangle", "diamond"), top_ns, strict=False)
    )
    axes.set_xlabel(
        "change of the output without the top N of each layer,\nover that without N random neurons, with 95 % "
        f"intervals; N: {marks}"
    )
    save(figure, provenance, path)


def best_regions(table: Sequence[RegionRow], provenance: ResultProvenance, path: Path) -> None:
    """Draw the position of the best regions, and the effect of blurring them.

    Args:
        table: Rows of the experiment `regions`.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (place, drop) = matplotlib_figure(10, 4, 2)
    for axes, of_region, elsewhere, scale in (
        (place, "inside", "inside_elsewhere", 100),
        (drop, "drop", "drop_elsewhere", 1),
    ):
        for i, row in enumerate(reversed(table)):
            mean, other = getattr(row, of_region), getattr(row, elsewhere)
            colour = colour_of(row.method)
            axes.plot([scale * mean.low, scale * mean.high], [i, i], color=colour, lw=1.5)
            axes.plot(scale * mean.value, i, "o", ms=6, color=colour)
            axes.plot(scale * other.value, i, "|", ms=12, mew=2, color="#888888")
        axes.set_yticks(range(len(table)), [label_of(row.method) for row in reversed(table)])
    drop.tick_params(labelleft=False)
    place.set_xlabel("share of the best region that lies on the person, %")
    drop.set_xlabel("fall of the output when the best region is blurred")
    place.set_title("grey: the same region elsewhere", fontsize=8, loc="left", color="#666666")
    save(figure, provenance, path)


def guide(
    causal: Sequence[CausalRow],
    stability: Sequence[StabilityRow],
    target: float,
    provenance: ResultProvenance,
    path: Path,
) -> None:
    """Draw the influence of each metric's neurons beside the number of perturbations from which it is stable.

    Args:
        causal: Rows of the experiment `causal`.
        stability: Rows of the experiment `stability`.
        target: A ranking is stable if its Jaccard index is at least this.
        provenance: Provenance of the tables.
        path: The PNG file.
    """
    figure, (influence, over_n) = matplotlib_figure(12, 4.8, 2)
    _influence(influence, causal, (5,))
    influence.set_title("Do its neurons matter?", fontsize=11, loc="left")
    influence.set_xlabel("change of the output without the top 5 of each layer,\nover that without 5 random neurons")
    _stability_lines(over_n, stability, True, target)
    _mark_stable(over_n, stability, target)
    over_n.set_title("Would another seed select the same?", fontsize=11, loc="left")
    over_n.set_xlabel("perturbations n\n(sums, variances and weights are the same for every seed)")
    over_n.set_ylabel("Jaccard index of two seeds' top 5")
    over_n.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.42))
    save(figure, provenance, path)


def _mark_stable(axes: Any, table: Sequence[StabilityRow], target: float) -> None:
    """Write the number of perturbations from which each ranking is stable beside its line."""
    for preset in dict.fromkeys(row.preset for row in table):
        for position, name in enumerate(PERTURBED_METRICS):
            reached = stable_from(table, preset, name, target)
            if reached is None:
                continue
            value = next(
                row.seeds.value
                for row in table
                if (row.preset, row.metric, row.perturbations) == (preset, name, reached)
                and row.sigma == PRESETS[preset]["sigma"]
            )
            axes.annotate(
                f"n = {reached}",
                (reached, value),
                (0, -16 if position == 0 else 9),  # below the line of the first metric, above the others
                textcoords="offset points",
                fontsize=8,
                ha="center",
                color=metric(name).colour,
            )


def matrix(
    names: Sequence[str], values: Sequence[Sequence[float]], title: str, provenance: ResultProvenance, path: Path
) -> None:
    """Draw a symmetric matrix of agreements.

    Args:
        names: Selectors or methods of the rows and columns.
        values: The agreements, 0 to 1.
        title: Title of the figure.
        provenance: Provenance of the values.
        path: The PNG file.
    """
    figure, (axes,) = matplotlib_figure(8, 4.8, 1)
    shown = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), range(1, len(names) + 1))
    axes.set_yticks(range(len(names)), [f"{label_of(name)}  {i}" for i, name in enumerate(names, 1)])
    axes.grid(False)
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if value > 0.6 else "black"
            )
    axes.set_title(title, fontsize=10)
    figure.colorbar(shown, shrink=0.7)
    save(figure, provenance, path)
