"""What an explanation can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from explain_cnn_ros.importance import METRICS
from explain_cnn_ros.options import option, validate
from explain_cnn_ros.perturbation import NOISES

#: The output that the activations are correlated with: logit of person minus logit of background, or P(person).
OUTPUTS = ("logit", "probability")


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of an explanation; the defaults are the paper's.

    Raises:
        ValueError: a value is out of range; names the field and what is expected.
    """

    perturbations: int = option(50, "Number of perturbed copies of the image, n.", 2, 100_000)
    sigma: float = option(0.1, "Standard deviation of the noise, as a share of the pixel value.", 1e-6, 10.0)
    noise: str = option(
        "white",
        "Shape of the noise: white (each pixel value by itself, the paper's), smooth (the same over noise_length "
        "pixels), ramp (white, growing from copy to copy, the authors' code).",
        choices=NOISES,
    )
    noise_length: float = option(16.0, "Length of smooth noise, pixels of the window.", 1.0, 1000.0)
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
    precision_lambda: float = option(
        0.1, "Neurons below this share of the layer's mean activation have no precision.", 0.0, 1000.0
    )
    live_share_min: float = option(
        0.1, "Neurons alive at a smaller share of their positions have no correlation.", 0.0, 1.0
    )
    patch_share: float = option(
        0.2, "A patch bounds the reconstructed pixels above this share of the strongest.", 0.0, 0.999
    )
    stability_target: float = option(0.8, "A ranking of lower stability is marked as unstable.", 0.0, 1.0)

    def __post_init__(self) -> None:
        validate(self)
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
