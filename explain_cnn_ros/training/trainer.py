"""The training loop: stages, rounds of hard negatives, checkpoints, and the final threshold and accuracy.

Everything that is drawn at random is a function of the seed and the step. Therefore a training that was interrupted and
started again with the same settings ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explain_cnn_ros.files import json_text, replacing
from explain_cnn_ros.model.output import PERSON_CLASS
from explain_cnn_ros.model.proposer import Proposer
from explain_cnn_ros.model.weights_file import Weights, shipped_proposer
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings
from explain_cnn_ros.training.batches import Batch, make_batch, prepared
from explain_cnn_ros.training.data import TrainingData
from explain_cnn_ros.training.evaluation import accuracy, choose_threshold, probabilities, scan_maxima
from explain_cnn_ros.training.hard_negatives import mine
from explain_cnn_ros.training.networks import (
    build,
    check,
    enlarged,
    has_offsets,
    is_finite,
    low_precision,
    misfit,
    shipped,
)
from explain_cnn_ros.training.proposer import train_proposer
from explain_cnn_ros.training.settings import END_SETTINGS, ROUND_SETTINGS, TrainSettings

#: How photos are searched for hard negatives: as `PersonClassifier.scan` searches them.
MINING = ScanSettings()


class Trainer:
    """A training in a folder.

    Args:
        data: The images.
        settings: The settings.
        output: Folder of the checkpoint; it exists.
        device: Device of the training.
        start: The weights that the training starts from; None for a training from scratch.

    Attributes:
        settings: The settings, without a first stage if the network cannot take windows of half the size.
        network: The network, for windows of half the size in the first stage.
        info: Metadata of the network.
        proposer: The network that proposes windows of a frame; None if the network judges all windows.
        optimiser: The optimiser.
        autocast: Data type of the training's passes; None for float32.
        step: Number of steps that are done.
        history: Loss and accuracy at each checkpoint.
        best: Figures of the best round; None before the first round.
        finished: Whether the last round is done.
        mined_at: Step at which hard negatives were added last; -1 if none were.

    Raises:
        ValueError: The settings contradict each other or the weights.
    """

    def __init__(
        self,
        data: TrainingData,
        settings: TrainSettings,
        output: Path,
        device: torch.device,
        start: Weights | None = None,
    ) -> None:
        check(settings, start)
        self.data, self.output, self.device, self.start = data, output, device, start
        self.settings = _without_misfit(settings)
        torch.manual_seed(settings.seed)
        self.step = 0
        self.build(small=self.settings.small_steps > 0)
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
        network, self.info = build(s, half(s.window) if small else s.window, self.start)
        self.network = network.to(self.device)
        self.autocast = low_precision(network, self.device)
        self.proposer = self._existing_proposer()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, foreach=True
        )

    def _existing_proposer(self) -> Proposer | None:
        """Return the proposer of the weights that the training starts from, or that of the package if one is needed."""
        proposer = None if self.start is None else self.start.proposer
        return shipped_proposer() if proposer is None and not has_offsets(self.network) else proposer

    @property
    def small(self) -> bool:
        """Whether the network is for windows of half the size."""
        return self.info.input_size != self.settings.window

    def enlarge(self) -> None:
        """Continue with windows of the whole size: all layers stay, except dense layers that depend on the size."""
        network = self.network
        torch.manual_seed(self.settings.seed)
        self.build(small=False)
        enlarged(self.network, network)

    def classifier(self) -> PersonClassifier:
        """Return a classifier that shares the network, with the precision of the training."""
        return PersonClassifier(self.network, self.info, self.device, autocast=self.autocast, proposer=self.proposer)

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
            "start": self._start_hash,
            "own": self.data.own,
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
            ValueError: The checkpoint belongs to other settings, weights or own windows. It stays unchanged.
        """
        if not self.checkpoint.exists():
            return False
        # The hard negatives stay on the host. Network and optimiser copy theirs to the device.
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        # Checkpoints of earlier versions lack the settings that were added later.
        requested, saved = dataclasses.asdict(self.settings), dataclasses.asdict(TrainSettings()) | state["settings"]
        # The settings of a stage may change until it begins.
        changeable = END_SETTINGS | ({"steps"} if state["small"] else set())
        if state["step"] <= saved["small_steps"] + saved["steps"] and not state["hard"].numel():
            changeable |= ROUND_SETTINGS
        other = state.get("start", "") != self._start_hash or state.get("own", "") != self.data.own
        if other or any(requested[name] != saved[name] for name in requested.keys() - changeable):
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

    @property
    def _start_hash(self) -> str:
        return "" if self.start is None else self.start.model_hash

    # Steps.

    def train(self, stop: int) -> None:
        """Train until `stop` steps are done, with an evaluation and a checkpoint from time to time.

        Raises:
            ValueError: The loss or a weight is not finite. The last checkpoint stays.
        """
        classifier = self.classifier()
        self.network.train().requires_grad_(True)
        loss_mean, right_mean = float("nan"), float("nan")
        s = self.settings
        hard_share = s.hard_share if self.step >= s.rounds_from else 0.0
        make = functools.partial(
            make_batch, self.data.images, s.window, s.batch, hard_share, s.seed, own_share=s.own_share
        )
        stream = prepared(make, range(self.step, stop))
        progress = tqdm(stream, total=stop, initial=self.step, desc="training", unit="step", mininterval=10)
        for step, batch in progress:
            loss, right = self._train_step(classifier, step, batch)
            self.step = step + 1
            loss_mean, right_mean = _running_mean(loss_mean, loss), _running_mean(right_mean, right)
            progress.set_postfix(loss=f"{loss_mean:.4f}", right=f"{right_mean:.4f}")
            if self.step % s.checkpoint_every == 0 or self.step == stop:
                if not is_finite(self.network):
                    raise _diverged("a weight", self.step)
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
        value = loss.item()
        if not math.isfinite(value):
            raise _diverged("the loss", step + 1)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return value, float((logits.argmax(1) == target).float().mean())

    def _loss(self, logits: Tensor, offsets: Tensor, target: Tensor, true_offsets: Tensor) -> Tensor:
        """Compute the loss: cross-entropy of the classes and smooth L1 of the persons' offsets (Girshick 2015).

        Networks that do not predict offsets have the cross-entropy only.
        """
        loss = nn.functional.cross_entropy(logits.float(), target)
        if not has_offsets(self.network):
            return loss
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
        # This does not depend on --steps: without a main training, the rounds still need windows of the whole size.
        if self.small:
            self.enlarge()
            self.save()
        if self.step < s.rounds_from:
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
        print(json_text(figures), file=sys.stderr)
        return figures

    def finish(self) -> PersonClassifier:
        """Return the classifier of the current network with its threshold and its accuracy.

        The accuracy on windows is that of the validation, on which the best round was chosen. The share of photos with
        an alarm is that of the test photos, on which nothing was chosen.
        """
        assert self.best is not None
        # The figures are those of the network in the weights file, in half precision, run in float32.
        network = shipped(self.network.eval())
        classifier = PersonClassifier(network, self.info, self.device, proposer=self.proposer)
        if self.settings.proposer_steps and has_offsets(network):
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
            training_data=self.data.description + self._origin(),
            created=datetime.date.today().isoformat(),
        )
        return classifier

    def _origin(self) -> str:
        """Return a sentence about the weights that the training starts from; "" if there are none."""
        if self.start is None:
            return ""
        earlier = self.start.info.training_data
        return f". The training started from the weights {self._start_hash}" + (f" ({earlier})" if earlier else "")

    def _threshold(self, classifier: PersonClassifier) -> float:
        if self.settings.threshold or not self.data.threshold_photos:
            return self.settings.threshold or 0.5
        maxima = scan_maxima(classifier, self.data.threshold_photos, "threshold")
        return choose_threshold(maxima, self.settings.alarms)


def half(size: tuple[int, int]) -> tuple[int, int]:
    """Return half of a size (width, height), in whole pixels."""
    return size[0] // 2, size[1] // 2


def _without_misfit(settings: TrainSettings) -> TrainSettings:
    """Return the settings; without the first stage if the network cannot take windows of half the size."""
    if not settings.small_steps:
        return settings
    width, height = half(settings.window)
    if not (reason := misfit(settings.architecture, (width, height))):
        return settings
    print(f"no first stage on {width} x {height} pixels: {settings.architecture} {reason}", file=sys.stderr)
    return dataclasses.replace(settings, small_steps=0)


def merit(figures: dict[str, float]) -> float:
    """Return the value of a round: accuracy on windows, plus accuracy on persons where alarms are at their limit."""
    return figures.get("persons_right_at_alarm_limit", 0.0) + figures["balanced_accuracy"]


def _diverged(what: str, step: int) -> ValueError:
    return ValueError(
        f"{what} is not finite at step {step}: the training diverged. Begin anew in another --output, with another "
        "--seed or, for `train`, a smaller --learning-rate"
    )


def _running_mean(mean: float, value: float) -> float:
    return value if math.isnan(mean) else 0.95 * mean + 0.05 * value
