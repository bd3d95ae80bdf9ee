"""The settings of a training."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from explain_cnn_ros.options import option, require, validate

#: Ending of the names of VGGs with batch norm.
BATCH_NORM_SUFFIX = "_bn"

#: Maximum of each side of a window, in pixels.
SIDE_MAX = 4096

#: Settings that have an effect only at the very end.
END_SETTINGS = frozenset({"threshold", "proposer_steps", "proposer_width"})

#: Settings that have an effect only in the rounds of hard negatives.
ROUND_SETTINGS = frozenset({"rounds", "round_steps", "round_rate", "round_photos", "hard_share", "alarms"})

#: Steps over which the learning rate rises at the beginning of a round.
ROUND_WARM_UP = 20


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training: AdamW with warm-up and cosine decay.

    The defaults are those of a VGG of this package from scratch; `networks.default_settings` returns those of others.

    Raises:
        ValueError: A value is out of range; the message names the field and what is expected.
    """

    small_steps: int = option(
        2500,
        "Steps of the first stage, on windows of half the size, which take a quarter of the time. It is skipped if the "
        "network cannot take such windows, and with --init.",
        0,
    )
    steps: int = option(1500, "Steps of the main training, on whole windows.", 0)
    batch: int = option(32, "Batch size.", 2)
    learning_rate: float = option(
        5e-4,
        "Maximum learning rate. The default of networks of torchvision is 1e-3, or 2e-4 if they have no batch norm. "
        "With --init, it is 1e-4.",
        0.0,
    )
    offset_weight: float = option(
        0.5,
        "Weight of the loss of the person's position, relative to that of the decision. Networks of torchvision do not "
        "predict the position.",
        0.0,
    )
    warm_up: int = option(50, "Steps over which the learning rate rises at the beginning of a stage.", 1)
    weight_decay: float = option(0.02, "Weight decay of AdamW.", 0.0)
    rounds: int = option(
        3, "Maximum number of rounds of hard negatives. A round without improvement is the last one.", 0
    )
    round_steps: int = option(300, "Steps of a round.", 1)
    round_rate: float = option(0.5, "Maximum learning rate of a round, as a share of that of the main training.", 0.0)
    round_photos: int = option(250, "Number of photos that a round searches for hard negatives.", 0)
    hard_share: float = option(0.4, "Share of hard negatives among the backgrounds of a round.", 0.0, 1.0)
    own_share: float = option(
        0.3,
        "Share of own windows among the persons, and among the backgrounds, of a batch, with --own.",
        0.0,
        1.0,
    )
    held_out: float = option(0.15, "Share of the photos of INRIA that are held out.", 0.0, 1.0)
    background_held_out: float = option(0.375, "Share of the person-free photos that are held out.", 0.0, 1.0)
    alarms: float = option(
        0.02, "Maximum share of held-out person-free photos in which the chosen threshold finds a person.", 0.0, 1.0
    )
    threshold: float = option(0.0, "Threshold of P(person); 0: it is chosen by --alarms.")
    proposer_steps: int = option(
        6000,
        "Steps of the proposer, the small network that proposes windows of a frame; 0: there is none. With --init, the "
        "default is 0 if the weights have one, which stays. Networks of torchvision use that of the package.",
        0,
    )
    proposer_width: int = option(16, "Number of channels of the proposer's first convolution.", 1)
    seed: int = option(0, "Seed of everything that is drawn at random.", 0, 2**63 - 1)
    architecture: str = option(
        "vgg16",
        "Network: vgg11, vgg13, vgg16 or vgg19, which are VGGs of this package and shipped without batch norm, or any "
        "other classification network of torchvision by its name, for instance resnet18. With --init, it is that of "
        "the file.",
    )
    input_size: str = option(
        "64x128",
        "Size of the windows in pixels, WIDTHxHEIGHT. Networks of torchvision have a default of 224x224, inception_v3 "
        "of 299x299; with --init, the size is that of the file.",
    )
    batch_norm: bool = option(
        True,
        "Train VGGs of this package with batch norm, which needs far fewer steps, and fold it into the convolutions at "
        "the end.",
    )
    hidden: int = option(256, "Width of the two hidden dense layers of VGGs of this package.", 1)
    checkpoint_every: int = option(100, "Steps from one checkpoint to the next.", 1)

    def __post_init__(self) -> None:
        validate(self)
        # The threshold is checked at the start, not when hours of training end with it.
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: give a P(person) between 0 and 1, or 0 to have it chosen")
        sides = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", self.input_size, re.ASCII)
        fine = sides is not None and max(int(sides[1]), int(sides[2])) <= SIDE_MAX
        expected = f"WIDTHxHEIGHT in pixels, for instance 96x192, with sides of at most {SIDE_MAX}"
        require(fine, "input_size", self.input_size, expected)

    @property
    def window(self) -> tuple[int, int]:
        """Size (width, height) of the windows, in pixels."""
        width, height = self.input_size.split("x")
        return int(width), int(height)

    @property
    def rounds_from(self) -> int:
        """The step with which the rounds begin."""
        return self.small_steps + self.steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a cosine for each stage and for each round."""
        if step < self.rounds_from:
            first, length = (0, self.small_steps) if step < self.small_steps else (self.small_steps, self.steps)
            warm = min(1.0, (step - first + 1) / self.warm_up)
            return self.learning_rate * warm * cosine((step - first) / length)
        position = (step - self.rounds_from) % self.round_steps
        warm = min(1.0, (position + 1) / ROUND_WARM_UP)
        return self.learning_rate * self.round_rate * warm * cosine(position / self.round_steps)


def cosine(progress: float) -> float:
    """Return a cosine that falls from 1 at progress 0 to 0.01 at progress 1."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
