"""The training loop: stages, rounds of hard negatives, checkpoints, and the final threshold and accuracy.

Everything that is drawn at random is a function of the seed and the step. Therefore a training that was interrupted and
started again with the same settings ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explain_cnn_ros.files import replacing
from explain_cnn_ros.model.device import fast_low_precision
from explain_cnn_ros.model.network import VGGClassifier, fold_batch_norm
from explain_cnn_ros.model.output import PERSON_CLASS
from explain_cnn_ros.model.weights_file import ModelInfo
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.batches import Batch, make_batch, prepared
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, choose_threshold, probabilities, scan_maxima
from explain_cnn_ros.training.hard_negatives import mine
from explain_cnn_ros.training.proposer import train_proposer
from explain_cnn_ros.training.settings import END_SETTINGS, ROUND_SETTINGS, TrainSettings

#: How photos are searched for hard negatives: as `PersonClassifier.scan` searches them.
MINING = ScanSettings()

#: Size (width, height) of the windows of the network that is shipped.
WINDOW = ModelInfo().input_size


class Trainer:
    """A training in a folder.

    Args:
        data: The images.
        settings: The settings.
        output: Folder of the checkpoint; it exists.
        device: Device of the training.

    Attributes:
        network: The network, for windows of half the size in the first stage.
        info: Metadata of the network.
        optimiser: The optimiser.
        autocast: Data type of the training's passes; None for float32.
        step: Number of steps that are done.
        history: Loss and accuracy at each checkpoint.
        best: Figures of the best round; None before the first round.
        finished: Whether the last round is done.
        mined_at: Step at which hard negatives were added last; -1 if none were.
    """

    def __init__(self, data: TrainingData, settings: TrainSettings, output: Path, device: torch.device) -> None:
        self.data, self.settings, self.output, self.device = data, settings, output, device
        # Processors without bfloat16 emulate it, at a fifth of the speed of float32.
        self.autocast = fast_low_precision(device)
        torch.manual_seed(settings.seed)
        self.step = 0
        self.build(small=settings.small_steps > 0)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self.finished = False
        self.mined_at = -1

    def build(self, small: bool) -> None:
        """Create a new network and its optimiser.

        Args:
            small: The network is for windows of half the size.
        """
        s = self.settings
        self.info = ModelInfo(architecture=s.architecture, hidden=s.hidden)
        if small:
            self.info = dataclasses.replace(self.info, input_size=(WINDOW[0] // 2, WINDOW[1] // 2))
        trained = s.architecture + ("_bn" if s.batch_norm else "")
        self.network = VGGClassifier(trained, self.info.input_size, s.hidden).to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, foreach=True
        )

    @property
    def small(self) -> bool:
        """Whether the network is for windows of half the size."""
        return self.info.input_size != WINDOW

    def enlarge(self) -> None:
        """Continue with windows of the whole size: the convolutions stay, the dense layers are new."""
        features = self.network.features.state_dict()
        torch.manual_seed(self.settings.seed)
        self.build(small=False)
        self.network.features.load_state_dict(features)

    def classifier(self) -> PersonClassifier:
        """Return a classifier that shares the network, with the precision of the training."""
        return PersonClassifier(self.network, self.info, self.device, autocast=self.autocast)

    # Checkpoints.

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint."""
        return self.output / "checkpoint.pt"

    @property
    def best_weights(self) -> Path:
        """The file with the weights of the best round."""
        return self.output / "best.pt"

    def save(self) -> None:
        """Write the checkpoint. The previous one stays until the new one is complete."""
        hard = np.stack(self.data.images.hard) if self.data.images.hard else np.zeros((0, 1, 1, 3), np.uint8)
        state = {
            "settings": dataclasses.asdict(self.settings),
            "step": self.step,
            "small": self.small,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
            "best": self.best,
            "finished": self.finished,
            "mined_at": self.mined_at,
            "hard": torch.from_numpy(hard),
        }
        with replacing(self.checkpoint) as partial:
            torch.save(state, partial)

    def resume(self) -> bool:
        """Continue from the checkpoint in the output folder, if there is one.

        Returns:
            Whether there is a checkpoint.

        Raises:
            ValueError: The checkpoint belongs to other settings. It stays unchanged.
        """
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        requested, saved = dataclasses.asdict(self.settings), state["settings"]
        # The settings of a stage may change until it begins.
        changeable = END_SETTINGS | ({"steps"} if state["small"] else set())
        if state["step"] <= saved["small_steps"] + saved["steps"] and not state["hard"].numel():
            changeable |= ROUND_SETTINGS
        if any(requested[name] != saved.get(name) for name in requested.keys() - changeable):
            raise ValueError(
                f"{self.checkpoint} belongs to a training with other settings: give the same settings to continue it, "
                "or another --output"
            )
        self.build(small=state["small"])
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.finished, self.mined_at = state["finished"], state["mined_at"]
        self.data.images.hard = list(state["hard"].numpy())
        print(f"continuing from step {self.step}", file=sys.stderr)
        return True

    # Steps.

    def train(self, stop: int) -> None:
        """Train until `stop` steps are done, with an evaluation and a checkpoint from time to time."""
        classifier = self.classifier()
        self.network.train().requires_grad_(True)
        loss_mean, right_mean = float("nan"), float("nan")
        s = self.settings
        hard_share = s.hard_share if self.step >= s.rounds_from else 0.0
        make = functools.partial(make_batch, self.data.images, WINDOW, s.batch, hard_share, s.seed)
        stream = prepared(make, range(self.step, stop))
        progress = tqdm(stream, total=stop, initial=self.step, desc="training", unit="step", mininterval=10)
        for step, batch in progress:
            loss, right = self._train_step(classifier, step, batch)
            self.step = step + 1
            loss_mean, right_mean = _running_mean(loss_mean, loss), _running_mean(right_mean, right)
            progress.set_postfix(loss=f"{loss_mean:.4f}", right=f"{right_mean:.4f}")
            if self.step % s.checkpoint_every == 0 or self.step == stop:
                self.evaluate(loss_mean)
                self.save()
                self.network.train().requires_grad_(True)

    def _train_step(self, classifier: PersonClassifier, step: int, batch: Batch) -> tuple[float, float]:
        """Train on a batch; return the loss and the accuracy."""
        torch.manual_seed(self.settings.seed + step)  # seeds dropout
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(step)
        pixels = classifier.to_pixels(batch.windows)
        if self.small:
            pixels = nn.functional.avg_pool2d(pixels, 2)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            logits, offsets = self.network.forward_with_offsets(classifier.normalise(pixels))
        target = torch.from_numpy(batch.labels).to(self.device)
        loss = self._loss(logits, offsets, target, torch.from_numpy(batch.offsets).to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item(), float((logits.argmax(1) == target).float().mean())

    def _loss(self, logits: Tensor, offsets: Tensor, target: Tensor, true_offsets: Tensor) -> Tensor:
        """Compute the loss: cross-entropy of the classes and smooth L1 of the persons' offsets (Girshick 2015)."""
        loss = nn.functional.cross_entropy(logits.float(), target)
        error = offsets.float() - true_offsets
        of_person = (target == PERSON_CLASS).float()[:, None]
        distance = nn.functional.smooth_l1_loss(error * of_person, torch.zeros_like(error), reduction="sum")
        return loss + self.settings.offset_weight * distance / of_person.sum().clamp_min(1) / error.shape[1]

    def evaluate(self, loss: float) -> None:
        """Add the accuracy on validation windows to the history, and print it.

        Args:
            loss: Running mean of the loss.
        """
        classifier = self.classifier()
        every = 1 if self.step % 500 == 0 else 3
        figures = accuracy(
            probabilities(classifier, self.data.persons[::every]),
            probabilities(classifier, self.data.backgrounds[::every]),
            0.5,
        )
        self.history.append({"step": self.step, "loss": loss, **figures})
        line = ", ".join(f"{name} {value:.4f}" for name, value in self.history[-1].items() if name != "step")
        tqdm.write(f"step {self.step}: {line}")

    # Stages and rounds.

    def run(self) -> PersonClassifier:
        """Train through all stages and rounds that are not done yet.

        Returns:
            The classifier of the best round with its threshold and its accuracy.
        """
        s = self.settings
        if self.step < s.small_steps:
            self.train(s.small_steps)
        if self.step < s.rounds_from:
            if self.small:
                self.enlarge()
            self.train(s.rounds_from)
        while not self.finished:
            rounds, within = divmod(self.step - s.rounds_from, s.round_steps)
            if within == 0 and self.mined_at != self.step:
                self._end_round(rounds)
            if not self.finished:
                self.train(s.rounds_from + (rounds + 1) * s.round_steps)
        self.network.load_state_dict(torch.load(self.best_weights, map_location=self.device, weights_only=True))
        return self.finish()

    def _end_round(self, rounds: int) -> None:
        """Evaluate a round; add hard negatives for the next one, or finish.

        Args:
            rounds: Number of rounds that are done.
        """
        figures = self.score_round()
        improved = self.best is None or merit(figures) > merit(self.best)
        if improved:
            self.best = figures
            torch.save(self.network.state_dict(), self.best_weights)
        photos = self.data.images.photos
        self.finished = not improved or rounds == self.settings.rounds or not photos
        if not self.finished:
            rng = np.random.default_rng((self.settings.seed, self.step))
            chosen = rng.permutation(len(photos))[: self.settings.round_photos]
            self.data.images.hard += mine(self.classifier(), [photos[i] for i in chosen], MINING, rng)
            self.mined_at = self.step
        self.save()

    def score_round(self) -> dict[str, float]:
        """Return the figures by which a round is chosen: accuracy on validation windows, alarms, and both together.

        Returns:
            The accuracy at P = 0.5, the share of photos with an alarm, and the accuracy on persons at the threshold at
            which the share of photos with an alarm is at its limit.
        """
        classifier = self.classifier()
        persons = probabilities(classifier, self.data.persons)
        backgrounds = probabilities(classifier, self.data.backgrounds)
        figures = {"step": float(self.step), **accuracy(persons, backgrounds, 0.5)}
        if self.data.threshold_photos:
            # Half of the photos are enough to choose a round. All of them choose the threshold in the end.
            maxima = scan_maxima(classifier, self.data.threshold_photos[::2], "alarms")
            figures["photos_with_alarm_at_0.5"] = float((maxima >= 0.5).mean())
            threshold = choose_threshold(maxima, self.settings.alarms)
            figures["persons_right_at_alarm_limit"] = float((persons >= threshold).mean())
        print(json.dumps(figures), file=sys.stderr)
        return figures

    def finish(self) -> PersonClassifier:
        """Return the classifier of the current network with its threshold and its accuracy.

        The accuracy on windows is that of the validation, on which the best round was chosen. The share of photos with
        an alarm is that of the test photos, on which nothing was chosen.
        """
        assert self.best is not None
        # The figures are those of the network that is shipped: folded, rounded to half precision, run in float32.
        network = fold_batch_norm(self.network.eval()).half().float()
        classifier = PersonClassifier(network, self.info, self.device)
        if self.settings.proposer_steps:
            classifier.proposer = train_proposer(classifier, self.data.images, self.settings, self.output)
        threshold = self._threshold(classifier)
        classifier.info = dataclasses.replace(self.info, threshold=threshold)
        persons = probabilities(classifier, self.data.persons)
        backgrounds = probabilities(classifier, self.data.backgrounds)
        figures = accuracy(persons, backgrounds, 0.5)
        figures |= {f"{k}_at_threshold": v for k, v in accuracy(persons, backgrounds, threshold).items()}
        if self.data.test_photos:
            maxima = scan_maxima(classifier, self.data.test_photos, "test photos")
            figures["photos_with_alarm"] = float((maxima >= threshold).mean())
        classifier.info = dataclasses.replace(
            classifier.info,
            accuracy={k: round(v, 5) for k, v in figures.items()},
            training_data=self.data.description,
            created=datetime.date.today().isoformat(),
        )
        return classifier

    def _threshold(self, classifier: PersonClassifier) -> float:
        if self.settings.threshold or not self.data.threshold_photos:
            return self.settings.threshold or 0.5
        maxima = scan_maxima(classifier, self.data.threshold_photos, "threshold")
        return choose_threshold(maxima, self.settings.alarms)


def merit(figures: dict[str, float]) -> float:
    """Return the value of a round: accuracy on windows, plus accuracy on persons where alarms are at their limit."""
    return figures.get("persons_right_at_alarm_limit", 0.0) + figures["balanced_accuracy"]


def _running_mean(mean: float, value: float) -> float:
    return value if math.isnan(mean) else 0.95 * mean + 0.05 * value
