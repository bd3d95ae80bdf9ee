"""The description of a repair: the analysis, the data, the cures and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RepairJob:
    """A repair that is to be done.

    Attributes:
        analysis: Folder of the analysis whose wrong decisions are repaired.
        output: Folder of the results.
        weights: The weights of the analysis; None for those that ship with the package.
        inria: Folder of the old data; see `datasets.read_inria`. None: the network is not trained.
        background: Folder of the old person-free photos; None for none.
        unseen: Folders of analyses, by the same weights, of recordings that take no part.
        silence: Numbers of the causes whose neurons are silenced, counted from 1.
        damping: Factor of the activations of these neurons; 0 silences them.
        steps: Steps of the training.
        own_share: Share of the windows of the analysis among the persons, and among the backgrounds, of a batch.
        trained_share: Share of the trained weights in the repaired network, above 0 and at most 1; the rest are the
            weights before the training. If it is None, the repair chooses it; see `shares.best_share`.
        held_out: Share of the windows that is held out.
        again: Whether the recordings are analysed again by the repaired network.
        seed: Seed of the training.
        device: Device of the network.
    """

    analysis: Path
    output: Path
    weights: Path | None = None
    inria: Path | None = None
    background: Path | None = None
    unseen: tuple[Path, ...] = ()
    silence: tuple[int, ...] = ()
    damping: float = 0.0
    steps: int = 150
    own_share: float = 0.3
    trained_share: float | None = None
    held_out: float = 1 / 3
    again: bool = True
    seed: int = 0
    device: str = "auto"
