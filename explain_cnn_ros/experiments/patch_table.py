"""Table 1 of the paper: how well the patches of each metric's neurons meet the person, and what they tell.

    ros2 run explain_cnn_ros experiments patches --data DIR --output DIR

With what the paper lacks: measures that do not saturate, and baselines: random neurons, random boxes of the same sizes,
boxes of the same sizes in the middle, and an untrained network.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explain_cnn_ros.classifier import PersonClassifier
from explain_cnn_ros.experiments.examples import PERSON_BOX, WINDOW, Example
from explain_cnn_ros.experiments.extraction import RANDOM, RankedPatches, extract_all, read_patches
from explain_cnn_ros.experiments.localization import Box, Localization, localization
from explain_cnn_ros.experiments.secondary import Training, balanced_accuracy, cut, spread, train
from explain_cnn_ros.explainer import Explainer
from explain_cnn_ros.network import VGGClassifier
from explain_cnn_ros.settings import ExplainSettings

#: Whose boxes the baselines of the same sizes take.
SIZES_OF = "activation_precision"

UNTRAINED, ELSEWHERE, MIDDLE = "untrained network", "random boxes", "boxes in the middle"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    accuracy, deviation: of the secondary classifier, balanced, over its seeds.
    """

    name: str
    top_n: int
    localization: Localization
    accuracy: float
    deviation: float


@dataclass(frozen=True)
class PatchTable:
    """Settings of the experiment.

    patches: that each secondary classifier is trained on at most, and tested on.
    """

    explain: ExplainSettings
    top_ns: tuple[int, ...] = (5, 20)
    seeds: int = 3
    patches: int = 6000
    training: Training = field(default_factory=Training)


def untrained(classifier: PersonClassifier, seed: int = 0) -> PersonClassifier:
    """The same network as it was before training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VGGClassifier(classifier.info.architecture, classifier.info.input_size, classifier.info.hidden)
    return PersonClassifier(network, classifier.info, classifier.device)


def _key(classifier: PersonClassifier, settings: ExplainSettings, examples: Sequence[Example]) -> str:
    """A hash of all that patches depend on."""
    digest = hashlib.sha256(repr(settings).encode())
    for parameter in classifier.network.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    for example in examples:
        digest.update(example.name.encode() + example.image.tobytes())
    return digest.hexdigest()[:16]


def measure(
    classifier: PersonClassifier,
    examples: Sequence[Example],
    how: PatchTable,
    folder: Path,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
) -> list[Row]:
    """The rows of the table; what takes long is kept in a folder, and taken from there when it is there."""
    how = dataclasses.replace(how, explain=dataclasses.replace(how.explain, top_n=max(how.top_ns)))
    folder.mkdir(parents=True, exist_ok=True)
    sets: dict[str, dict[str, RankedPatches]] = {}
    # Of the untrained network, one metric is enough.
    bare = dataclasses.replace(how.explain, metrics=(SIZES_OF,))
    for name, network, settings in (("", classifier, how.explain), (UNTRAINED, untrained(classifier), bare)):
        explainer = Explainer(network, settings)
        path, key = folder / f"patches{'-untrained' * bool(name)}.jsonl", _key(network, settings, examples)
        for done in extract_all(explainer, examples, path, key):
            progress(f"explaining{' with the ' * bool(name)}{name}", done, len(examples))
        for ranked in read_patches(path, key):
            if not name or ranked.metric == SIZES_OF:
                sets.setdefault(name or ranked.metric, {})[ranked.example] = ranked
    sets[ELSEWHERE] = {e: _moved(ranked, _elsewhere) for e, ranked in sets[SIZES_OF].items()}
    sets[MIDDLE] = {e: _moved(ranked, _middle) for e, ranked in sets[SIZES_OF].items()}
    order = [*how.explain.metrics, RANDOM, ELSEWHERE, MIDDLE, UNTRAINED]
    rows = []
    for count, (name, top_n) in enumerate(itertools.product(order, how.top_ns)):
        progress("secondary classifiers", count, len(order) * len(how.top_ns))
        rows.append(_row(name, top_n, sets[name], examples, how, folder / "secondary.json"))
    return rows


def _elsewhere(box: Box, rng: np.random.Generator) -> Box:
    return (rng.uniform(0, max(0.0, WINDOW[0] - box[2])), rng.uniform(0, max(0.0, WINDOW[1] - box[3])), box[2], box[3])


def _middle(box: Box, rng: np.random.Generator) -> Box:
    return ((WINDOW[0] - box[2]) / 2, (WINDOW[1] - box[3]) / 2, box[2], box[3])


def _moved(ranked: RankedPatches, move: Callable[[Box, np.random.Generator], Box]) -> RankedPatches:
    rng = np.random.default_rng(int.from_bytes(ranked.example.encode(), "big") % 2**63)
    moved: dict[int, list[Any]] = {
        layer: [b and move(b, rng) for b in boxes] for layer, boxes in ranked.patches.items()
    }
    return dataclasses.replace(ranked, patches=moved)


def _boxes(ranked: RankedPatches, top_n: int) -> list[Box]:
    return [box for boxes in ranked.patches.values() for box in boxes[:top_n] if box is not None]


def patch_set(
    examples: Sequence[Example], ranked: dict[str, RankedPatches], top_n: int, test: bool, most: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Patches of the training or of the test photos: uint8 [N, 32, 32, 3], whether of a person [N], and the photos."""
    found = [
        (example, box) for example in examples if example.is_test == test for box in _boxes(ranked[example.name], top_n)
    ]
    chosen = np.random.default_rng(0).permutation(len(found))[:most]
    pairs = [found[i] for i in sorted(chosen)]
    patches = np.stack([cut(example.image, box) for example, box in pairs])
    return patches, np.array([e.person for e, _ in pairs]), [e.photo for e, _ in pairs]


def _row(
    name: str, top_n: int, ranked: dict[str, RankedPatches], examples: Sequence[Example], how: PatchTable, kept: Path
) -> Row:
    persons = [box for e in examples if e.person and e.is_test for box in _boxes(ranked[e.name], top_n)]
    patches, labels, _ = patch_set(examples, ranked, top_n, False, how.patches)
    test_patches, test_labels, _ = patch_set(examples, ranked, top_n, True, how.patches)
    digest = hashlib.sha256(repr((how.training, how.seeds)).encode())
    for array in (patches, labels, test_patches, test_labels):
        digest.update(array.tobytes())
    known: dict[str, list[float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    key = digest.hexdigest()[:16]
    accuracies = known.get(key) or [
        balanced_accuracy(train(patches, labels, seed, how.training), test_patches, test_labels)
        for seed in range(how.seeds)
    ]
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(known | {key: accuracies}))
    os.replace(partial, kept)
    return Row(name, top_n, localization(persons, PERSON_BOX), *spread(accuracies))


def to_markdown(rows: Sequence[Row]) -> str:
    """The table, as people read it."""
    lines = [
        "| neurons by | top N | patches that touch the person | share of a patch inside | middle inside | "
        "secondary classifier, accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        found = row.localization
        shares = " | ".join(f"{100 * share:.1f} %" for share in (found.touching, found.inside, found.pointing))
        accuracy = f"{100 * row.accuracy:.1f} ± {100 * row.deviation:.1f} %"
        lines.append(f"| {row.name.replace('_', ' ')} | {row.top_n} | {shares} | {accuracy} |")
    return "\n".join(lines) + "\n"


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The table, as plain values."""
    return [asdict(row) for row in rows]
