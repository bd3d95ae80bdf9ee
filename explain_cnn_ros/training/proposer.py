"""The training of the proposer, on the windows of the classifier's training, with hard negatives of its own."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from explain_cnn_ros.files import replacing
from explain_cnn_ros.model.output import PERSON_CLASS
from explain_cnn_ros.model.proposer import PROPOSER_STRIDE, Proposer
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.training.augmentation import cut
from explain_cnn_ros.training.batches import Batch, TrainingImages, make_batch, prepared
from explain_cnn_ros.training.networks import is_finite
from explain_cnn_ros.training.settings import TrainSettings, cosine

Image = NDArray[np.uint8]

#: Batch size, maximum learning rate and weight decay.
BATCH, RATE, DECAY = 64, 2e-3, 0.02

#: Pixels around a window that the proposer is trained with, because it sees the surroundings in a frame as well.
BORDER = 8

#: Progress at which hard negatives are added, and their share among the backgrounds from then on.
MININGS, HARD_SHARE = (0.3, 0.45, 0.6, 0.75), 0.4

#: Settings that a checkpoint depends on, besides the windows of the classifier and the images.
OWN_SETTINGS = ("proposer_steps", "proposer_width", "offset_weight", "held_out", "background_held_out", "seed")

#: Steps over which the learning rate rises, and steps from one checkpoint to the next.
WARM_UP, CHECKPOINT_EVERY = 50, 500


def train_proposer(
    classifier: PersonClassifier, images: TrainingImages, settings: TrainSettings, output: Path
) -> Proposer:
    """Train a proposer, or continue a training that was interrupted.

    Args:
        classifier: The classifier whose windows are proposed.
        images: The images. Their hard negatives are not used, because the proposer has its own.
        settings: Settings of the training.
        output: Folder of the checkpoint; it exists.

    Returns:
        The proposer without batch norm, with weights as a file in half precision holds them.

    Raises:
        ValueError: The training diverged. The last checkpoint stays.
    """
    own = TrainingImages(images.persons, images.backgrounds, images.photos)
    return _Training(classifier, own, settings, output).run()


class _Training:
    def __init__(
        self, classifier: PersonClassifier, images: TrainingImages, settings: TrainSettings, output: Path
    ) -> None:
        self.classifier, self.images, self.settings = classifier, images, settings
        self.checkpoint = output / "proposer.pt"
        self._data = _hash(images)
        torch.manual_seed(settings.seed)
        proposer = Proposer(settings.proposer_width, classifier.info.input_size, batch_norm=True)
        self.proposer = proposer.to(classifier.device)
        self.optimiser = torch.optim.AdamW(self.proposer.parameters(), lr=RATE, weight_decay=DECAY, foreach=True)
        self.step = 0

    @property
    def total(self) -> int:
        return self.settings.proposer_steps

    @property
    def _own_settings(self) -> dict[str, Any]:
        """Everything that a checkpoint depends on. The hash of the images is computed once, because it takes time."""
        info = self.classifier.info
        described = {"input_size": info.input_size, "mean": info.mean, "std": info.std, "data": self._data}
        return {name: getattr(self.settings, name) for name in OWN_SETTINGS} | described

    def run(self) -> Proposer:
        self.resume()
        minings = sorted({round(self.total * progress) for progress in MININGS} if self.images.photos else set())
        ends = sorted({*range(CHECKPOINT_EVERY, self.total, CHECKPOINT_EVERY), *minings, self.total})
        progress = tqdm(total=self.total, initial=self.step, desc="proposer", unit="step", mininterval=10)
        for end in ends:
            if end > self.step:
                self.train(end, progress)
                if not is_finite(self.proposer):
                    raise ValueError(
                        f"a weight of the proposer is not finite at step {end}: its training diverged. Give "
                        "--proposer-steps 0 for weights without it, and train it with --add-proposer and another --seed"
                    )
                if end in minings:
                    rng = np.random.default_rng((self.settings.seed, end))
                    self.images.hard += self.mine(self.images.photos, rng)
                self.save()
        progress.close()
        return self.proposer.fold().half().float()

    def train(self, stop: int, progress: Any) -> None:
        share = HARD_SHARE if self.images.hard else 0.0
        # The batches differ from those of the classifier.
        make = functools.partial(
            make_batch, self.images, self.proposer.window, BATCH, share, self.settings.seed + 1, border=BORDER
        )
        self.proposer.train().requires_grad_(True)
        for step, batch in prepared(make, range(self.step, stop)):
            for group in self.optimiser.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * cosine(step / self.total)
            loss = self._loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.step = step + 1
            progress.update()
            if step % 50 == 0:
                progress.set_postfix(loss=f"{loss.item():.4f}", refresh=False)

    def _loss(self, batch: Batch) -> Tensor:
        at = BORDER // PROPOSER_STRIDE
        judged = self.proposer(self._input(batch.windows))[:, :, at, at]
        of_person = torch.from_numpy((batch.labels == PERSON_CLASS).astype(np.float32)).to(judged.device)
        offsets = torch.from_numpy(batch.offsets).to(judged.device)
        loss = nn.functional.binary_cross_entropy_with_logits(judged[:, 0], of_person)
        error = (judged[:, 1:] - offsets) * of_person[:, None]
        distance = nn.functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum")
        return loss + self.settings.offset_weight * distance / of_person.sum() / error.shape[1]

    def _input(self, images: Image) -> Tensor:
        return self.classifier.normalise(self.classifier.to_pixels(images))

    @torch.inference_mode()
    def mine(
        self, photos: Sequence[Image], rng: np.random.Generator, windows_per_photo: int = 6, margin_min: float = -1.5
    ) -> list[Image]:
        """Return the windows of highest margin, with their borders, of each photo at a random scale."""
        self.proposer.eval()
        width, height = self.proposer.window
        whole = (width + 2 * BORDER, height + 2 * BORDER)
        hard: list[Image] = []
        for photo in photos:
            smallest = max(whole[1] / photo.shape[0], whole[0] / photo.shape[1])
            scale = max(0.5 * rng.uniform(0.35, 1.2), smallest)
            level: Any = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            rows, columns = (side // PROPOSER_STRIDE * PROPOSER_STRIDE for side in level.shape[:2])
            margins = self.proposer(self._input(level[None, :rows, :columns]))[0, 0].cpu().numpy()
            for index in np.argsort(-margins, axis=None)[:windows_per_photo]:
                row, column = np.unravel_index(index, margins.shape)
                if margins[row, column] >= margin_min:
                    centre = (column * PROPOSER_STRIDE + width / 2, row * PROPOSER_STRIDE + height / 2)
                    hard.append(cut(level, centre, whole[1], whole, False))
        print(f"hard negatives of the proposer: {len(hard)} more", file=sys.stderr)
        return hard

    def save(self) -> None:
        """Write the checkpoint. The previous one stays until the new one is complete."""
        hard = np.stack(self.images.hard) if self.images.hard else np.zeros((0, 1, 1, 3), np.uint8)
        state = {
            "settings": self._own_settings,
            "step": self.step,
            "proposer": self.proposer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "hard": torch.from_numpy(hard),
        }
        with replacing(self.checkpoint) as partial:
            torch.save(state, partial)

    def resume(self) -> None:
        """Continue from the checkpoint if there is one of the same settings and images; begin anew otherwise."""
        if not self.checkpoint.exists():
            return
        # The hard negatives stay on the host. Network and optimiser copy theirs to the device.
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["settings"] != self._own_settings:
            print(
                f"{self.checkpoint} belongs to other settings or images: the proposer is trained anew", file=sys.stderr
            )
            return
        self.proposer.load_state_dict(state["proposer"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.images.hard = state["step"], list(state["hard"].numpy())
        print(f"continuing the proposer from step {self.step}", file=sys.stderr)


def _hash(images: TrainingImages) -> str:
    """Return a hash of the images that a proposer is trained on, without its hard negatives."""
    digest = hashlib.sha256()
    for part in (images.persons, images.backgrounds, images.photos):
        digest.update(repr([image.shape for image in part]).encode())
        for image in part:
            digest.update(image.tobytes())
    return digest.hexdigest()[:12]
