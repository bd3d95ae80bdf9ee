"""The experiments' figures. Each says below which command made it, of which data and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explain_cnn_ros.experiments import causal, convergence, regions, stability
from explain_cnn_ros.experiments.bootstrap import Mean
from explain_cnn_ros.experiments.made import Made
from explain_cnn_ros.experiments.selectors import RANDOM, parts, selector
from explain_cnn_ros.importance import PERTURBATION_METRICS
from explain_cnn_ros.settings import PRESETS

#: Colour-blind safe (Okabe & Ito 2008), a colour a metric or method.
COLOURS = {
    "activation_output_correlation": "#D55E00",
    "activation_precision": "#0072B2",
    "activation_sum": "#009E73",
    "activation_variance": "#CC79A7",
    "weight_sum": "#8A6F00",
    "weight_variance": "#56B4E9",
    RANDOM: "#888888",
    regions.LIME: "#222222",
    regions.GRAD_CAM: "#222222",
}

#: Line and marker of a noise, by its preset.
STYLES = {"paper": ("-", "o"), "authors": ("--", "s"), "stable": (":", "^")}
NOISE_NAMES = {"paper": "the paper's noise", "authors": "the authors' noise", "stable": "balanced noise"}


def matplotlib_figure(width: float, height: float, columns: int, ratios: Sequence[float] | None = None) -> Any:
    """A figure (inches) with its axes side by side, light whatever the user's settings are."""
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


def save(figure: Any, made: Made, path: Path) -> None:
    """Write a PNG, the same bytes each time."""
    figure.supxlabel(str(made), fontsize=6.5, color="#666666")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _label(name: str) -> str:
    metric, preset = parts(name)
    words = metric.replace("_", " ")
    return words if preset == "paper" else f"{words}, {NOISE_NAMES[preset]}"


def _line(axes: Any, x: Sequence[float], means: Sequence[Mean], name: str, label: str) -> None:
    metric, preset = parts(name)
    style, marker = STYLES[preset]
    axes.plot(x, [m.value for m in means], style, marker=marker, ms=4, lw=1.5, color=COLOURS[metric], label=label)
    axes.fill_between(x, [m.low for m in means], [m.high for m in means], color=COLOURS[metric], alpha=0.12, lw=0)


def _epochs(axes: Any, table: Sequence[convergence.Row]) -> None:
    first = next(row.epoch for row in table if row.epoch > 0)
    axes.set_xscale("symlog", linthresh=first, linscale=0.6)
    ticks = [row.epoch for row in table]
    crowded = [tick > 0.75 * after for tick, after in zip(ticks, [*ticks[1:], math.inf], strict=True)]
    labels = ["" if close else f"{tick:.2g}" for tick, close in zip(ticks, crowded, strict=True)]
    axes.set_xticks(ticks, labels, rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("epochs of training")


def accuracies(table: Sequence[convergence.Row], made: Made, path: Path) -> None:
    """Figure 2: accuracy of the network, and of secondary classifiers on the patches of each metric."""
    figure, (network, six, noises) = matplotlib_figure(11, 4.4, 3, (0.8, 1, 1))
    epochs = [row.epoch for row in table]
    network.plot(epochs, [100 * row.accuracy for row in table], "-o", color="#222222", ms=4)
    network.set_title("the network", fontsize=10)
    network.set_ylabel("balanced accuracy on unseen photos, %")
    groups = {
        six: [name for name in convergence.SELECTORS if parts(name)[1] == "paper"],
        noises: [name for name in convergence.SELECTORS if parts(name)[0] in PERTURBATION_METRICS],
    }
    for axes, names in groups.items():
        for name in names:
            metric, preset = parts(name)
            style, marker = STYLES[preset]
            means, deviations = zip(*(row.secondary[name] for row in table), strict=True)
            axes.errorbar(
                epochs,
                [100 * m for m in means],
                [100 * d for d in deviations],
                fmt=style,
                marker=marker,
                ms=4,
                lw=1.3,
                capsize=2,
                color=COLOURS[metric],
                label=_label(name),
            )
        axes.axhline(50, color="#888888", lw=1, ls=":")
        axes.legend(fontsize=7, loc="lower right")
    six.set_ylim(bottom=38)  # room for the legend below what guessing gives
    six.set_title("secondary classifiers, the paper's noise", fontsize=10)
    noises.set_title("secondary classifiers, both noises", fontsize=10)
    noises.sharey(six)
    for axes in (network, six, noises):
        _epochs(axes, table)
    save(figure, made, path)


def similarity(table: Sequence[convergence.Row], chance: float, made: Made, path: Path) -> None:
    """Figure 3: Jaccard index of what correlation and precision select, over all layers and by layer."""
    import matplotlib as mpl

    figure, axes = matplotlib_figure(11, 4.2, 3)
    epochs = [row.epoch for row in table]
    for preset, colour in zip(convergence.NOISES, ("#0072B2", "#D55E00"), strict=True):
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
    colours = mpl.colormaps["viridis"]
    for panel, preset in zip(axes[1:], convergence.NOISES, strict=True):
        layers = list(table[0].similarity_by_layer[preset])
        for i, layer in enumerate(layers):
            values = [row.similarity_by_layer[preset][layer].value for row in table]
            shade = colours(i / max(1, len(layers) - 1) * 0.9)
            panel.plot(epochs, values, "-o", ms=3, lw=1.3, color=shade, label=f"layer {layer}")
        panel.set_title(f"by layer, {NOISE_NAMES[preset]}", fontsize=10)
        panel.legend(fontsize=7, ncols=2)
    axes[2].sharey(axes[1])
    for panel in axes:
        panel.set_ylim(bottom=0)
        _epochs(panel, table)
    save(figure, made, path)


def _stability_lines(axes: Any, table: Sequence[stability.Row], over_n: bool, target: float) -> None:
    for preset in dict.fromkeys(row.preset for row in table):
        own = PRESETS[preset]
        for metric in PERTURBATION_METRICS:
            line = [row for row in table if (row.preset, row.metric) == (preset, metric)]
            if over_n:
                line = sorted((row for row in line if row.sigma == own["sigma"]), key=lambda row: row.perturbations)
            else:
                n = next(row.perturbations for row in line if row.sigma != own["sigma"])
                line = sorted((row for row in line if row.perturbations == n), key=lambda row: row.sigma)
            x = [row.perturbations if over_n else row.sigma for row in line]
            name = selector(metric, preset)
            _line(axes, x, [row.seeds for row in line], name, f"{metric.split('_')[-1]}, {NOISE_NAMES[preset]}")
    axes.axhline(target, color="#888888", lw=1, ls=":")
    axes.set_xscale("log")
    # Numbers of perturbations that one noise rounds up stand close to those of the others.
    first = [row for row in table if row.preset == table[0].preset] if over_n else table
    ticks = sorted({row.perturbations if over_n else row.sigma for row in first})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.09)


def stabilities(table: Sequence[stability.Row], target: float, made: Made, path: Path) -> None:
    """Jaccard index of what two seeds select, over n and over sigma."""
    figure, (over_n, over_sigma) = matplotlib_figure(10, 4.4, 2)
    _stability_lines(over_n, table, True, target)
    over_n.set_xlabel("perturbations n, at each noise's own sigma")
    over_n.set_ylabel("Jaccard index of two seeds' top 5")
    over_n.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.42))
    _stability_lines(over_sigma, table, False, target)
    over_sigma.set_xlabel("sigma, at each noise's own n")
    save(figure, made, path)


def _influence(axes: Any, table: Sequence[causal.Row], top_ns: Sequence[int]) -> None:
    names = list(dict.fromkeys(row.selector for row in table))
    for i, name in enumerate(names):
        for j, n in enumerate(top_ns):
            row = next(row for row in table if (row.selector, row.top_n) == (name, n))
            mean, y = row.times_random, len(names) - i + 0.22 * ((len(top_ns) - 1) / 2 - j)
            colour = COLOURS[parts(name)[0]]
            axes.plot([mean.low, mean.high], [y, y], color=colour, lw=1.5)
            axes.plot(mean.value, y, "os^D"[j], ms=5, color=colour, mfc=colour if j == 1 else "white")
    axes.axvline(1, color="#888888", lw=1, ls=":")
    axes.set_yticks(range(len(names), 0, -1), [_label(name) for name in names])
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.minorticks_off()


def influences(table: Sequence[causal.Row], made: Made, path: Path) -> None:
    """How much the output changes without a metric's top N, over as many random neurons."""
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
    save(figure, made, path)


def best_regions(table: Sequence[regions.Row], made: Made, path: Path) -> None:
    """Where the best regions lie, and what blurring them does."""
    figure, (place, drop) = matplotlib_figure(10, 4, 2)
    for axes, of_region, elsewhere, scale in (
        (place, "inside", "inside_elsewhere", 100),
        (drop, "drop", "drop_elsewhere", 1),
    ):
        for i, row in enumerate(reversed(table)):
            mean, other = getattr(row, of_region), getattr(row, elsewhere)
            colour = COLOURS[parts(row.method)[0]]
            axes.plot([scale * mean.low, scale * mean.high], [i, i], color=colour, lw=1.5)
            axes.plot(scale * mean.value, i, "o", ms=6, color=colour)
            axes.plot(scale * other.value, i, "|", ms=12, mew=2, color="#888888")
        axes.set_yticks(range(len(table)), [_label(row.method) for row in reversed(table)])
    drop.tick_params(labelleft=False)
    place.set_xlabel("share of the best region that lies on the person, %")
    drop.set_xlabel("fall of the output when the best region is blurred")
    place.set_title("grey: the same region elsewhere", fontsize=8, loc="left", color="#666666")
    save(figure, made, path)


def guide(
    of_causal: Sequence[causal.Row], of_stability: Sequence[stability.Row], target: float, made: Made, path: Path
) -> None:
    """Which metric to use, and from which n on it is stable."""
    figure, (influence, over_n) = matplotlib_figure(12, 4.8, 2)
    _influence(influence, of_causal, (5,))
    influence.set_title("Do its neurons matter?", fontsize=11, loc="left")
    influence.set_xlabel("change of the output without the top 5 of each layer,\nover that without 5 random neurons")
    _stability_lines(over_n, of_stability, True, target)
    for preset in dict.fromkeys(row.preset for row in of_stability):
        for metric in PERTURBATION_METRICS:
            reached = stability.stable_from(of_stability, preset, metric, target)
            if reached is not None:
                value = next(
                    row.seeds.value
                    for row in of_stability
                    if (row.preset, row.metric, row.perturbations) == (preset, metric, reached)
                    and row.sigma == PRESETS[preset]["sigma"]
                )
                over_n.annotate(
                    f"n = {reached}",
                    (reached, value),
                    (0, 9 if metric == "activation_precision" else -16),
                    textcoords="offset points",
                    fontsize=8,
                    ha="center",
                    color=COLOURS[metric],
                )
    over_n.set_title("Would another seed select the same?", fontsize=11, loc="left")
    over_n.set_xlabel("perturbations n\n(sums, variances and weights are the same for every seed)")
    over_n.set_ylabel("Jaccard index of two seeds' top 5")
    over_n.legend(fontsize=7, loc="center right", bbox_to_anchor=(1, 0.42))
    save(figure, made, path)


def matrix(names: Sequence[str], values: Sequence[Sequence[float]], what: str, made: Made, path: Path) -> None:
    """A symmetric table of how far each two agree."""
    figure, (axes,) = matplotlib_figure(8, 4.8, 1)
    shown = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    labels = [_label(name) for name in names]
    axes.set_xticks(range(len(names)), range(1, len(names) + 1))
    axes.set_yticks(range(len(names)), [f"{label}  {i}" for i, label in enumerate(labels, 1)])
    axes.grid(False)
    for i, line in enumerate(values):
        for j, value in enumerate(line):
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="white" if value > 0.6 else "black"
            )
    axes.set_title(what, fontsize=10)
    figure.colorbar(shown, shrink=0.7)
    save(figure, made, path)
