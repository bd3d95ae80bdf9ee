"""The settings of an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.explain.metrics import (
    DEFAULT_METRICS,
    OPPOSING,
    PAPER_METRICS,
    SUPPORTING,
    Reads,
    metric,
    metric_names,
)
from explain_cnn_ros.explain.perturbation import NOISES
from explain_cnn_ros.model.precision import PRECISIONS
from explain_cnn_ros.options import option, require, validate

#: Activations that the metrics read: after the ReLU or before it.
ACTIVATIONS = ("post_relu", "pre_relu")

#: Weights that the weight metrics read: from a neuron to the next layer, or from the layer before to the neuron.
WEIGHTS = ("outgoing", "incoming")

#: Methods of reconstruction: the deconvnet (Zeiler & Fergus 2014), or guided backpropagation with repeated pixels
#: instead of switches, as the authors' code does.
DECONVNETS = ("deconvnet", "guided")

#: Start of a reconstruction: the position that contributes most (of neurons that influence selects; others start at
#: their strongest activation), the neuron's strongest activation, or its whole map.
DECONVNET_STARTS = ("contribution", "strongest", "map")

#: Proofs of the influence: each selected neuron is silenced by itself and all together, all together only, or none.
PROOFS = ("each", "together", "none")

#: Output that the activations are correlated with: logit of person minus logit of background, or P(person).
OUTPUTS = ("logit", "probability")

#: Explained layers of a VGG-16, as in Figure 4 of the paper: conv2_1 to conv4_2.
DEFAULT_LAYERS = (3, 4, 5, 6, 7, 8, 9)

#: Named settings, as differences from the defaults. paper: the paper's six metrics and noise. authors: the same with
#: the noise of the authors' code. stable: the cheapest noise found whose correlation rankings are nearly the same for
#: another seed. stable_fine: the same with noise of finer structure, at the paper's n. live: influence of the image
#: alone, from one forward and one backward pass, of fewer neurons. docs/explanation.md has the figures.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"perturbations": 50, "sigma": 0.1, "noise": "white", "metrics": PAPER_METRICS},
    "authors": {"perturbations": 50, "sigma": 0.1, "noise": "authors", "metrics": PAPER_METRICS},
    "stable": {"perturbations": 14, "sigma": 0.005, "noise": "orthogonal", "noise_length": 64.0},
    "stable_fine": {"perturbations": 50, "sigma": 0.005, "noise": "orthogonal", "noise_length": 26.0},
    "live": {"perturbations": 0, "metrics": (SUPPORTING, OPPOSING), "top_n": 3, "proof": "together"},
}


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of an explanation.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    perturbations: int = option(
        50,
        "Number of perturbed copies of the image, n. 0: influence of the image alone. Orthogonal noise rounds the "
        "number up to pairs of whole blocks.",
        0,
        100_000,
    )
    perturbations_max: int = option(
        0,
        "Add perturbations, at most up to this number, until every ranking reaches stability_target; 0: add none.",
        0,
        100_000,
    )
    seconds_max: float = option(0.0, "Maximum time for adding perturbations, in seconds; 0: no maximum.", 0.0, 86_400.0)
    perturbation_groups: int = option(
        2,
        "Number of groups of perturbations, even. With at least 4 groups, scores have confidence intervals.",
        2,
        100,
    )
    sigma: float = option(0.1, "Standard deviation of the noise, as a share of the pixel value.", 1e-6, 10.0)
    noise: str = option(
        "white",
        "Shape of the noise: white (independent for each pixel value, as in the paper), smooth (varies over "
        "noise_length pixels), ramp (white and growing from copy to copy), authors (as in the authors' code: white, "
        "growing from zero, relative to the mean of the channel) or orthogonal (smooth, in exactly balanced blocks).",
        choices=NOISES,
    )
    noise_length: float = option(
        16.0, "Length over which smooth and orthogonal noise varies, in pixels of the window.", 1.0, 1000.0
    )
    seed: int = option(0, "Seed of the noise: the same seed gives the same explanation.", 0, 2**63 - 1)
    top_n: int = option(5, "Number of neurons that each metric selects in each layer, N.", 1, 512)
    layers: tuple[int, ...] = option(
        DEFAULT_LAYERS,
        "Explained convolutions, counted from 1 (3 to 9: conv2_1 to conv4_2). For imported networks, 3 to 9 stand for "
        "the last convolution of each stage.",
        1,
        255,
    )
    layer_names: str = option(
        "",
        "Explained convolutions by name, separated by commas; patterns are allowed (layer4.*.conv2). Empty: those of "
        "layers.",
    )
    target: str = option(
        "",
        "Class that the explanation is about, or several classes separated by commas. Empty: those that count as a "
        "person.",
    )
    metrics: tuple[str, ...] = option(DEFAULT_METRICS, "Metrics that rank the neurons.", choices=metric_names)
    output: str = option(
        "logit",
        "Output that the explanation is about: logit (of person minus of background) or probability.",
        choices=OUTPUTS,
    )
    activation: str = option(
        "post_relu",
        "Activations that the metrics read: post_relu (after the ReLU) or pre_relu (before it).",
        choices=ACTIVATIONS,
    )
    precision_lambda: float = option(
        0.1, "Neurons below this share of the layer's mean activation have no precision.", 0.0, 1000.0
    )
    precision_lambda_absolute: bool = option(
        False, "Whether precision_lambda is an activation instead of a share of the layer's mean activation."
    )
    precision_mean_of_inverse: bool = option(
        False, "Whether precision is the mean of 1/variance over positions instead of the inverse of the mean variance."
    )
    weights: str = option(
        "outgoing",
        "Weights that the weight metrics read: outgoing (to the next layer) or incoming (from the layer before).",
        choices=WEIGHTS,
    )
    live_share_min: float = option(
        0.1, "Neurons that are alive at a smaller share of their positions have no correlation.", 0.0, 1.0
    )
    deconvnet: str = option(
        "deconvnet",
        "Reconstruction: deconvnet, or guided (as in the authors' code: repeated pixels, forward ReLUs as masks).",
        choices=DECONVNETS,
    )
    deconvnet_start: str = option(
        "contribution",
        "Start of the reconstruction: contribution (the position that contributes most to the influence; of neurons "
        "that other metrics select, the strongest activation), strongest (the strongest activation) or map (the whole "
        "map).",
        choices=DECONVNET_STARTS,
    )
    patch_share: float = option(
        0.2, "A patch is the box around the reconstructed pixels above this share of the strongest pixel.", 0.0, 0.999
    )
    proof: str = option(
        "each",
        "Proof of the influence: each (the selected neurons are silenced one by one and all together), together (all "
        "together only) or none.",
        choices=PROOFS,
    )
    silencing_draws: int = option(
        0,
        "Number of random sets of neurons that silencing the selected ones is compared with; 0: nothing is silenced.",
        0,
        1000,
    )
    compute_precision: str = option(
        "auto",
        "Precision of the passes: auto (the fastest whose rankings agree with float32), float32, winograd (float32 "
        "with fewer multiplications, on a CPU), tf32 (on a GPU), bfloat16 or float16.",
        choices=PRECISIONS,
    )
    stability_target: float = option(0.8, "A ranking whose stability is lower is marked as unstable.", 0.0, 1.0)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ExplainSettings:
        """Return the settings of a preset, with changes.

        Args:
            name: One of PRESETS.
            **changes: Fields that differ from the preset.
        """
        require(name in PRESETS, "preset", name, f"one of {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | changes))

    @classmethod
    def received(cls, metrics: Sequence[str], **values: Any) -> ExplainSettings:
        """Return the settings of an explanation from elsewhere, whose metrics need not be registered here.

        Args:
            metrics: Names of the metrics, in order.
            **values: All other fields.

        Raises:
            ValueError: Another value is out of range.
        """
        # The two metrics stand in for the received ones, because they are available without perturbations as well.
        settings = cls(metrics=(SUPPORTING, OPPOSING), **values)
        object.__setattr__(settings, "metrics", tuple(metrics))
        return settings

    def __post_init__(self) -> None:
        validate(self)
        require(self.perturbation_groups % 2 == 0, "perturbation_groups", self.perturbation_groups, "an even number")
        require(
            self.perturbations_max == 0 or self.perturbations_max >= self.perturbations,
            "perturbations_max",
            self.perturbations_max,
            f"0, or at least perturbations ({self.perturbations})",
        )
        require(self.perturbations != 1, "perturbations", self.perturbations, "0, or at least 2")
        if self.perturbations == 0:
            unavailable = [name for name in self.metrics if metric(name).reads is Reads.PERTURBATIONS]
            allowed = ", ".join(name for name in metric_names() if metric(name).reads is not Reads.PERTURBATIONS)
            require(not unavailable, "metrics", self.metrics, f"without perturbations (0), some of {allowed}")
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
