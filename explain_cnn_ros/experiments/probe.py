"""What patches tell: how well a secondary classifier does on the patches of photos that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.experiments import kept
from explain_cnn_ros.experiments.examples import Example
from explain_cnn_ros.experiments.extraction import PatchesByLayer
from explain_cnn_ros.experiments.localization import Box
from explain_cnn_ros.experiments.secondary import Training, balanced_accuracy, cut, train
from explain_cnn_ros.files import replace_text


@dataclass(frozen=True)
class Probe:
    """How it is measured.

    seeds: of secondary classifiers.
    patches: that each is trained on at most, and tested on.
    """

    seeds: int = 3
    patches: int = 6000
    training: Training = field(default_factory=Training)


def boxes_of(patches: PatchesByLayer, top_n: int) -> list[Box]:
    """Those of the top N of all layers."""
    return [box for boxes in patches.values() for box in boxes[:top_n] if box is not None]


def patch_set(
    examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int, test: bool, most: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Patches of the training or of the test photos: uint8 [N, 32, 32, 3], whether of a person [N], and the photos."""
    found = [
        (example, box)
        for example in examples
        if example.is_test == test
        for box in boxes_of(patches[example.name], top_n)
    ]
    chosen = np.random.default_rng(0).permutation(len(found))[:most]
    pairs = [found[i] for i in sorted(chosen)]
    cuts = np.stack([cut(example.image, box) for example, box in pairs])
    return cuts, np.array([e.person for e, _ in pairs]), [e.photo for e, _ in pairs]


def accuracies(
    examples: Sequence[Example], patches: Mapping[str, PatchesByLayer], top_n: int, how: Probe, path: Path
) -> list[float]:
    """Balanced accuracy on the test photos' patches, a value a seed; kept in a file."""
    known, labels, _ = patch_set(examples, patches, top_n, False, how.patches)
    unknown, test_labels, _ = patch_set(examples, patches, top_n, True, how.patches)
    key = kept.key_of(how.training, how.seeds, known, labels, unknown, test_labels)
    found: dict[str, list[float]] = json.loads(path.read_text()) if path.is_file() else {}
    if key not in found:
        found[key] = [
            balanced_accuracy(train(known, labels, seed, how.training), unknown, test_labels)
            for seed in range(how.seeds)
        ]
        replace_text(path, json.dumps(found))
    return found[key]
