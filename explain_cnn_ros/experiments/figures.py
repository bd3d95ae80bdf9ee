"""The experiments' figures. Below each figure stand its command, its data and its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explain_cnn_ros.experiments.bootstrap import Estimate
from explain_cnn_ros.experiments.causal_tables import ALL, BACKGROUNDS, PERSONS, CausalRow, LayerRow
from explain_cnn_ros.experiments.convergence import NOISES, SELECTORS, ConvergenceRow
from explain_cnn_ros.experiments.layers import heading
from explain_cnn_ros.experiments.provenance import ResultProvenance
from explain_cnn_ros.experiments.regions import GRAD_CAM, LIME, PLACES, PatchRow, RegionRow
from explain_cnn_ros.experiments.selectors import (
    INFLUENCE,
    INFLUENCE_ALONE,
    LIVE,
    NOISY_METRICS,
    PERTURBED_METRICS,
    RANDOM,
    parts,
    selector,
)
from explain_cnn_ros.experiments.stability import StabilityRow, stable_from
from explain_cnn_ros.explain.metrics import Selects, metric
from explain_cnn_ros.explain.settings import PRESETS

#: Colours of what is no metric. The metrics have colours of their own.
OTHER_COLOURS = {RANDOM: "#999999", PLACES: "#BBBBBB", LIME: "#6A3D9A", GRAD_CAM: "#B2182B"}

#: Line, marker and name of a noise, by its preset.
STYLES = {"paper": ("-", "o"), "authors": ("--", "s"), "stable": (":", "^"), LIVE: ("-.", "D")}
NOISE_NAMES = {
    "paper": "the paper's noise",
    "authors": "the authors' noise",
    "stable": "balanced noise",
    LIVE: "image alone",
}

#: The metrics whose stability figures show. The opposing neurons of influence are in the table.
STABILITY_METRICS = tuple(name for name in NOISY_METRICS if metric(name).selects is not Selects.OPPOSING)

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
    return title if preset == "paper" else f"{title}, {NOISE_NAMES.get(preset, preset)}"


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
    axes.set_xlim(-0.2 * first, 1.15 * ticks[-1])
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
    network.set_ylabel("balanced accuracy on validation photos, %")
    _secondary(paper, table, [name for name in SELECTORS if parts(name)[1] == "paper"])
    _secondary(both, table, [name for name in SELECTORS if parts(name)[0] in PERTURBED_METRICS])
    paper.set_ylim(bottom=20)  # The legend needs room below the accuracy of chance.
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
    axes[2].legend(fontsize=8, ncols=2)  # The lines of this panel are low, so they leave room for the legend.
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


def _stability_lines(axes: Any, table: Sequence[StabilityRow], over_n: bool, target: float) -> None:
    for preset in dict.fromkeys(row.preset for row in table if row.preset != LIVE):
        own = PRESETS[preset]
        for name in STABILITY_METRICS:
            line = [row for row in table if (row.preset, row.metric) == (preset, name)]
            if over_n:
                line = sorted((row for row in line if row.sigma == own["sigma"]), key=lambda row: row.perturbations)
            else:
                n = next(row.perturbations for row in line if row.sigma != own["sigma"])
                line = sorted((row for row in line if row.perturbations == n), key=lambda row: row.sigma)
            x = [row.perturbations if over_n else row.sigma for row in line]
            _line(axes, x, [row.seeds for row in line], selector(name, preset), "")
    axes.axhline(1, color=colour_of(INFLUENCE_ALONE), lw=1, ls=STYLES[LIVE][0])
    axes.axhline(target, color="#888888", lw=1, ls=":")
    axes.set_xscale("log")
    # Numbers of perturbations that one noise rounds up stand close to those of the others.
    first = [row for row in table if row.preset == table[0].preset] if over_n else table
    ticks = sorted({row.perturbations if over_n else row.sigma for row in first if row.preset != LIVE})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.09)


def _stability_legend(axes: Any, table: Sequence[StabilityRow]) -> None:
    """Write the metrics by colour and the noises by line style, where the lines leave room."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=metric(name).colour, lw=2, label=metric(name).title) for name in STABILITY_METRICS]
    for preset in dict.fromkeys(row.preset for row in table):
        style, marker = STYLES[preset]
        marker = "" if preset == LIVE else marker
        label = "influence of the image alone: no seed" if preset == LIVE else NOISE_NAMES[preset]
        handles.append(Line2D([], [], color="#444444", ls=style, marker=marker, ms=4, label=label))
    axes.legend(handles=handles, fontsize=7, loc="center right", bbox_to_anchor=(1, 0.42))


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
    _stability_legend(over_n, table)
    _stability_lines(over_sigma, table, False, target)
    over_sigma.set_xlabel("sigma, at each noise's own n")
    save(figure, provenance, path)


#: Symbols of the kinds of windows: filled for persons, open for backgrounds.
KIND_MARKERS = {PERSONS: "o", BACKGROUNDS: "s"}


def _ratios(axes: Any, names: Sequence[str], groups: Sequence[tuple[dict[str, Estimate], str, bool]]) -> None:
    """Draw ratios to random neurons: a line for each name, and in it a symbol for each group.

    Args:
        axes: The axes.
        names: Names of the lines, from the top down.
        groups: For each group the ratios by name, the symbol, and whether it is filled.
    """
    for i, name in enumerate(names):
        for j, (ratios, marker, filled) in enumerate(groups):
            mean, y = ratios[name], len(names) - i + 0.22 * ((len(groups) - 1) / 2 - j)
            colour = colour_of(name)
            axes.plot([mean.low, mean.high], [y, y], color=colour, lw=1.5)
            axes.plot(mean.value, y, marker, ms=5, color=colour, mfc=colour if filled else "white")
    axes.axvline(1, color="#888888", lw=1, ls=":")
    axes.set_yticks(range(len(names), 0, -1), [label_of(name) for name in names])
    axes.set_ylim(0.3, len(names) + 0.7)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"])
    axes.set_xlim(0.05, 30)
    axes.minorticks_off()


def influences(table: Sequence[CausalRow], bars: str, provenance: ResultProvenance, path: Path) -> None:
    """Draw the change of the output without a metric's top N, divided by that without as many random neurons.

    Args:
        table: Rows of the experiment `causal`. Persons and backgrounds stand apart.
        bars: What the bars show, for instance "95 % intervals".
        provenance: Provenance of the table.
        path: The PNG file.
    """
    kinds = [kind for kind in (PERSONS, BACKGROUNDS) if any(row.kind == kind for row in table)]
    figure, all_axes = matplotlib_figure(11, 5.6, len(kinds))
    top_ns = sorted({row.top_n for row in table})
    names = list(dict.fromkeys(row.selector for row in table))
    for i, (axes, kind) in enumerate(zip(all_axes, kinds, strict=True)):
        groups = [
            (
                {row.selector: row.times_random for row in table if (row.kind, row.top_n) == (kind, n)},
                "os^D"[j],
                j == 1,
            )
            for j, n in enumerate(top_ns)
        ]
        _ratios(axes, names, groups)
        axes.set_title(kind, fontsize=11, loc="left")
        axes.tick_params(labelleft=i == 0)
    marks = ", ".join(
        f"{mark} {n}" for mark, n in zip(("circle", "square", "triangle", "diamond"), top_ns, strict=False)
    )
    figure.suptitle(
        "Change of the output without the top N of each layer, divided by that without N random neurons\n"
        f"N: {marks}; bars: {bars}",
        fontsize=9,
    )
    save(figure, provenance, path)


def layer_influences(table: Sequence[LayerRow], bars: str, provenance: ResultProvenance, path: Path) -> None:
    """Draw the change of the output without the top N of one layer, divided by that without as many random neurons.

    Args:
        table: Rows of the experiment `causal`. Persons and backgrounds stand apart.
        bars: What the bars show.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    kinds = [kind for kind in (PERSONS, BACKGROUNDS) if any(row.kind == kind for row in table)]
    figure, all_axes = matplotlib_figure(11, 4.8, len(kinds))
    headings = {row.layer: heading(row.layer, row.name) for row in table}
    # The layers of a VGG stand at their numbers. Those of other networks have names, and equal distances.
    named = any(text != f"layer {number}" for number, text in headings.items())
    places = {number: i if named else number for i, number in enumerate(headings)}
    for axes, kind in zip(all_axes, kinds, strict=True):
        rows = [row for row in table if row.kind == kind]
        for name in dict.fromkeys(row.selector for row in rows):
            line = [row for row in rows if row.selector == name]
            style, marker = STYLES[parts(name)[1]]
            x, y, colour = [places[r.layer] for r in line], [r.times_random.value for r in line], colour_of(name)
            axes.plot(x, y, style, marker=marker, ms=4, lw=1.5, color=colour, label=label_of(name))
            if name == INFLUENCE:
                low, high = [r.times_random.low for r in line], [r.times_random.high for r in line]
                axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
        axes.axhline(1, color="#888888", lw=1, ls=":")
        axes.set_yscale("log")
        axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20], ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"])
        axes.set_ylim(0.08, 30)
        axes.minorticks_off()
        if named:
            axes.set_xticks(list(places.values()), list(headings.values()), rotation=20)
        axes.set_xlabel("layer that is silenced")
        axes.set_title(kind, fontsize=11, loc="left")
    all_axes[0].set_ylabel("change of the output, times random neurons'")
    all_axes[-1].legend(
        fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), title=f"shade: {bars}", title_fontsize=7
    )
    save(figure, provenance, path)


def best_regions(table: Sequence[RegionRow], bars: str, provenance: ResultProvenance, path: Path) -> None:
    """Draw the position of the best regions, and the effect of blurring them.

    Args:
        table: Rows of the experiment `regions`.
        bars: What the bars show.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (place, drop) = matplotlib_figure(10, 4.8, 2)
    names = [row.method for row in table]
    _estimates(place, names, [row.inside for row in table], [row.inside_elsewhere for row in table], 100)
    _estimates(drop, names, [row.drop for row in table], [row.drop_elsewhere for row in table], 1)
    drop.tick_params(labelleft=False)
    place.set_xlabel("share of the best region that lies on the person, %")
    drop.set_xlabel("fall of the output when the best region is blurred")
    place.set_title(f"grey: the same region elsewhere; bars: {bars}", fontsize=8, loc="left", color="#666666")
    save(figure, provenance, path)


def single_patches(table: Sequence[PatchRow], bars: str, provenance: ResultProvenance, path: Path) -> None:
    """Draw the position of single patches, and the effect of blurring them.

    Args:
        table: Patches of the experiment `regions`.
        bars: What the bars show.
        provenance: Provenance of the table.
        path: The PNG file.
    """
    figure, (place, drop, per_tenth) = matplotlib_figure(12, 4.8, 3)
    names = [row.method for row in table]
    _estimates(place, names, [row.inside for row in table], None, 100)
    _estimates(drop, names, [row.drop for row in table], None, 1)
    _estimates(per_tenth, names, [row.drop_per_tenth for row in table], None, 1)
    for axes in (drop, per_tenth):
        axes.tick_params(labelleft=False)
        axes.axvline(0, color="#888888", lw=1, ls=":")
    place.set_xlabel("share of a patch that lies on the person, %")
    drop.set_xlabel("fall of the output when a patch is blurred")
    per_tenth.set_xlabel("the same for each tenth of the window")
    place.set_title(f"bars: {bars}", fontsize=8, loc="left", color="#666666")
    save(figure, provenance, path)


def _estimates(
    axes: Any, names: Sequence[str], values: Sequence[Estimate], others: Sequence[Estimate] | None, scale: float
) -> None:
    """Draw an estimate for each method, and beside it a grey line for its comparison."""
    compared: Sequence[Estimate | None] = others or [None] * len(names)
    rows = list(zip(names, values, compared, strict=True))
    for i, (name, mean, other) in enumerate(reversed(rows)):
        colour = colour_of(name)
        axes.plot([scale * mean.low, scale * mean.high], [i, i], color=colour, lw=1.5)
        axes.plot(scale * mean.value, i, "o", ms=6, color=colour)
        if other is not None:
            axes.plot(scale * other.value, i, "|", ms=12, mew=2, color="#888888")
    axes.set_yticks(range(len(rows)), [label_of(name) for name in reversed(names)])


def guide(
    causal: Sequence[CausalRow],
    stability: Sequence[StabilityRow],
    target: float,
    bars: str,
    provenance: ResultProvenance,
    path: Path,
) -> None:
    """Draw the influence of each metric's neurons beside the number of perturbations from which it is stable.

    Args:
        causal: Rows of the experiment `causal`.
        stability: Rows of the experiment `stability`.
        target: A ranking is stable if its Jaccard index is at least this.
        bars: What the bars show.
        provenance: Provenance of the tables.
        path: The PNG file.
    """
    figure, (influence, over_n) = matplotlib_figure(12, 5.6, 2)
    kinds = [kind for kind in KIND_MARKERS if any(row.kind == kind for row in causal)] or [ALL]
    groups = [
        (
            {row.selector: row.times_random for row in causal if (row.kind, row.top_n) == (kind, 5)},
            KIND_MARKERS.get(kind, "o"),
            kind == PERSONS,
        )
        for kind in kinds
    ]
    _ratios(influence, list(dict.fromkeys(row.selector for row in causal)), groups)
    influence.set_title("Do its neurons matter?", fontsize=11, loc="left")
    influence.set_xlabel(
        "change of the output without the top 5 of each layer,\nover that without 5 random neurons\n"
        f"filled circles: persons, open squares: backgrounds\nbars: {bars}"
    )
    _stability_lines(over_n, stability, True, target)
    _mark_stable(over_n, stability, target)
    over_n.set_title("Would another seed select the same?", fontsize=11, loc="left")
    over_n.set_xlabel("perturbations n\n(sums, variances and weights are the same for every seed)")
    over_n.set_ylabel("Jaccard index of two seeds' top 5")
    _stability_legend(over_n, stability)
    save(figure, provenance, path)


def _mark_stable(axes: Any, table: Sequence[StabilityRow], target: float) -> None:
    """Write the number of perturbations from which the paper's rankings are stable beside their lines."""
    for preset in dict.fromkeys(row.preset for row in table if row.preset != LIVE):
        for name in PERTURBED_METRICS:
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
                (0, 9 if name == PERTURBED_METRICS[-1] else -16),  # above precision's line, below correlation's
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
    figure, (axes,) = matplotlib_figure(9.5, 5.6, 1)
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
