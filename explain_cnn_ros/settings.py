"""What an explanation can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explain_cnn_ros.arithmetic import ARITHMETICS
from explain_cnn_ros.importance import METRICS
from explain_cnn_ros.options import option, require, validate
from explain_cnn_ros.perturbation import NOISES

#: Which activations the metrics see: after the ReLU or before it.
ACTIVATIONS = ("post_relu", "pre_relu")

#: Which weights the weight metrics see: those that lead from a neuron to the next layer, or those that lead to it.
WEIGHTS = ("outgoing", "incoming")

#: How reconstructions are made: the deconvnet (Zeiler & Fergus 2014), or as the authors' code does, which repeats
#: pixels instead of using switches and lets through what the forward ReLU did: guided backpropagation.
DECONVNETS = ("deconvnet", "guided")

#: What a reconstruction starts from: a neuron's strongest activation, or all of its map.
DECONVNET_STARTS = ("strongest", "map")

#: The output that the activations are correlated with: logit of person minus logit of background, or P(person).
OUTPUTS = ("logit", "probability")


#: Named settings of the noise: what they change of the defaults. paper: as the paper says. authors: as the authors'
#: code does. stable: the cheapest noise that was found whose correlation rankings another seed gives as well.
#: stable_fine: the same with noise of finer structure, at the paper's n. docs/explanation.md has the figures.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"perturbations": 50, "sigma": 0.1, "noise": "white"},
    "authors": {"perturbations": 50, "sigma": 0.1, "noise": "ramp"},
    "stable": {"perturbations": 14, "sigma": 0.005, "noise": "orthogonal", "noise_length": 64.0},
    "stable_fine": {"perturbations": 50, "sigma": 0.005, "noise": "orthogonal", "noise_length": 26.0},
}


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of an explanation; the defaults are the paper's.

    Raises:
        ValueError: a value is out of range; names the field and what is expected.
    """

    perturbations: int = option(
        50,
        "Number of perturbed copies of the image, n; of orthogonal noise, rounded up to pairs of whole blocks.",
        2,
        100_000,
    )
    perturbations_max: int = option(
        0,
        "Sample on, up to this many, until the stability of every ranking reaches stability_target; 0: do not.",
        0,
        100_000,
    )
    seconds_max: float = option(
        0.0, "Sample on for no longer than this, seconds; 0: as long as it takes.", 0.0, 86_400.0
    )
    perturbation_groups: int = option(
        2,
        "Groups that perturbations are kept in, an even number; from 4 on, scores have confidence intervals.",
        2,
        100,
    )
    sigma: float = option(0.1, "Standard deviation of the noise, as a share of the pixel value.", 1e-6, 10.0)
    noise: str = option(
        "white",
        "Shape of the noise: white (each pixel value by itself, the paper's), smooth (the same over noise_length "
        "pixels), ramp (white, growing from copy to copy, the authors' code), orthogonal (smooth, in exactly balanced "
        "blocks).",
        choices=NOISES,
    )
    noise_length: float = option(16.0, "Length of smooth and orthogonal noise, pixels of the window.", 1.0, 1000.0)
    seed: int = option(0, "Seed of the noise: the same seed gives the same explanation.", 0, 2**63 - 1)
    top_n: int = option(5, "Neurons that each metric selects of each layer, N.", 1, 512)
    layers: tuple[int, ...] = option(
        (3, 4, 5, 6, 7, 8, 9), "Explained convolutions, counted from 1 (3 to 9: conv2_1 to conv4_2).", 1, 16
    )
    metrics: tuple[str, ...] = option(METRICS, "Metrics that rank the neurons.", choices=METRICS)
    output: str = option(
        "logit",
        "Output that activations are correlated with: logit (of person minus of background) or probability.",
        choices=OUTPUTS,
    )
    activation: str = option(
        "post_relu",
        "Activations that the metrics see: post_relu, or pre_relu (before the ReLU).",
        choices=ACTIVATIONS,
    )
    precision_lambda: float = option(
        0.1, "Neurons below this share of the layer's mean activation have no precision.", 0.0, 1000.0
    )
    precision_lambda_absolute: bool = option(
        False, "precision_lambda is an activation, not a share of the layer's mean."
    )
    precision_mean_of_inverse: bool = option(
        False, "Precision is the mean of 1/variance over positions, not the inverse of the mean variance."
    )
    weights: str = option(
        "outgoing",
        "Weights that the weight metrics see: outgoing (to the next layer) or incoming (from the one before).",
        choices=WEIGHTS,
    )
    live_share_min: float = option(
        0.1, "Neurons alive at a smaller share of their positions have no correlation.", 0.0, 1.0
    )
    deconvnet: str = option(
        "deconvnet",
        "Way down to the pixels: deconvnet, or guided (the authors' code: repeated pixels, forward ReLUs as masks).",
        choices=DECONVNETS,
    )
    deconvnet_start: str = option(
        "strongest",
        "What goes down: a neuron's strongest activation, or its whole map.",
        choices=DECONVNET_STARTS,
    )
    patch_share: float = option(
        0.2, "A patch bounds the reconstructed pixels above this share of the strongest.", 0.0, 0.999
    )
    silencing_draws: int = option(
        0,
        "Random sets of neurons that silencing the selected ones is compared with; 0: nothing is silenced.",
        0,
        1000,
    )
    arithmetic: str = option(
        "auto",
        "Arithmetic of the passes: auto (the fastest whose rankings agree with float32), float32, winograd (float32 "
        "with fewer multiplications, on a CPU), tf32 (on a GPU), bfloat16 or float16.",
        choices=ARITHMETICS,
    )
    stability_target: float = option(0.8, "A ranking of lower stability is marked as unstable.", 0.0, 1.0)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> ExplainSettings:
        """The settings of a preset, with changes."""
        require(name in PRESETS, "preset", name, f"one of {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | changes))

    def __post_init__(self) -> None:
        validate(self)
        require(self.perturbation_groups % 2 == 0, "perturbation_groups", self.perturbation_groups, "an even number")
        require(
            self.perturbations_max == 0 or self.perturbations_max >= self.perturbations,
            "perturbations_max",
            self.perturbations_max,
            f"0, or at least perturbations ({self.perturbations})",
        )
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
