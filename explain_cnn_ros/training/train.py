"""Train the person classifier: main training, rounds of hard negatives, threshold, figures, weights.

    ros2 run explain_cnn_ros train --inria DIR --background DIR --output runs/first

Everything drawn at random is a function of seed and step, so that a run that is interrupted and started again
with the same arguments goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from explain_cnn_ros.classifier import PERSON, ModelInfo, PersonClassifier, choose_device, fast_low_precision
from explain_cnn_ros.network import VGGClassifier, fold_batch_norm
from explain_cnn_ros.scanning import ScanSettings
from explain_cnn_ros.training import datasets
from explain_cnn_ros.training.batches import Sources, batches
from explain_cnn_ros.training.evaluation import accuracy, choose_threshold, probabilities, scan_maxima
from explain_cnn_ros.training.hard_negatives import mine

#: Photos are scanned for this smallest person, as `PersonClassifier.scan` does.
MINING = ScanSettings()

#: Of the person-free photos that are held out, the share on which the threshold is chosen; the rest are the test.
THRESHOLD_SHARE = 1 / 3


#: Windows of the network that is shipped, (width, height).
WINDOW = ModelInfo().input_size

#: Settings that matter at the very end only.
END_SETTINGS = {"threshold"}

#: Settings that matter in the rounds of hard negatives only.
ROUND_SETTINGS = {"rounds", "round_steps", "round_rate", "round_photos", "hard_share", "alarms"}


@dataclass(frozen=True)
class TrainSettings:
    """What a run does.

    architecture: the network that is shipped; without batch norm, for the deconvnet's sake.
    batch_norm: train with batch norm, which needs far fewer steps, and fold it into the convolutions at the end.
    small_steps: steps of the first stage, on windows of half the size, which take a quarter of the time.
    steps, batch, learning_rate: of the main training; AdamW with warm-up and cosine decay.
    offset_weight: weight of the loss of where the person is, beside the loss of whether there is one.
    rounds: rounds of hard negatives at most; one that pays nothing is the last.
    round_steps, round_rate: steps of a round, and its learning rate as a share of the main one.
    round_photos: photos that a round searches for hard negatives.
    hard_share: share of hard negatives among the backgrounds of a round.
    held_out: share of the photos that training does not see.
    alarms: share of person-free photos that may alarm at the threshold that is chosen.
    threshold: the threshold, P(person); 0: chosen by `alarms`.
    """

    small_steps: int = 2500
    steps: int = 1500
    batch: int = 32
    learning_rate: float = 5e-4
    offset_weight: float = 0.5
    warm_up: int = 50
    weight_decay: float = 0.02
    rounds: int = 3
    round_steps: int = 300
    round_rate: float = 0.5
    round_photos: int = 250
    hard_share: float = 0.4
    held_out: float = 0.15
    background_held_out: float = 0.375
    alarms: float = 0.02
    threshold: float = 0.0
    seed: int = 0
    architecture: str = "vgg16"
    batch_norm: bool = True
    hidden: int = 256
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        # Now, not when hours of training end with it.
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}: give a P(person) between 0 and 1, or 0 to have it chosen")

    @property
    def rounds_from(self) -> int:
        """The step with which the rounds begin."""
        return self.small_steps + self.steps

    def rate(self, step: int) -> float:
        """Learning rate of a step: a cosine for the small windows, for the main training, and for each round."""
        if step < self.rounds_from:
            first, length = (0, self.small_steps) if step < self.small_steps else (self.small_steps, self.steps)
            warm = min(1.0, (step - first + 1) / self.warm_up)
            return self.learning_rate * warm * cosine((step - first) / length)
        position = (step - self.rounds_from) % self.round_steps
        warm = min(1.0, (position + 1) / 20)
        return self.learning_rate * self.round_rate * warm * cosine(position / self.round_steps)


def cosine(progress: float) -> float:
    """From 1 at the start to 0.01 at the end."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass
class Data:
    """What a run reads: images to train on, and held-out ones."""

    sources: Sources
    persons: list[NDArray[np.uint8]]
    backgrounds: list[NDArray[np.uint8]]
    threshold_photos: list[NDArray[np.uint8]]
    test_photos: list[NDArray[np.uint8]]
    description: str


def read_data(inria: Path, background: Path | None, settings: TrainSettings) -> Data:
    """Read and split the data; images stay in memory."""
    windows = datasets.read_inria(inria)
    persons, held_persons = datasets.split(windows.persons, settings.held_out)
    backgrounds, held_backgrounds = datasets.split(windows.backgrounds, settings.held_out)
    photos: list[datasets.Photo] = []
    held_photos: list[datasets.Photo] = []
    if background is not None:
        photos, held_photos = datasets.split(datasets.read_photos(background), settings.background_held_out)
    count = round(len(held_photos) * THRESHOLD_SHARE)

    def read(items: Sequence[datasets.Photo], what: str) -> list[NDArray[np.uint8]]:
        return [item.read() for item in tqdm(items, desc=what, unit="image", mininterval=5)]

    description = (
        f"INRIA person: {len(persons)} persons, {len(backgrounds)} backgrounds; {len(photos)} person-free photos. "
        f"Held out by photo: {len(held_persons)} persons, {len(held_backgrounds)} backgrounds, "
        f"{len(held_photos)} photos"
    )
    return Data(
        Sources(read(persons, "persons"), read(backgrounds, "backgrounds"), read(photos, "photos")),
        read(held_persons, "held-out persons"),
        read(held_backgrounds, "held-out backgrounds"),
        read(held_photos[:count], "held-out photos"),
        read(held_photos[count:], "test photos"),
        description,
    )


class Trainer:
    """A run in a folder: network, optimiser, hard negatives, and where it stands."""

    def __init__(self, data: Data, settings: TrainSettings, output: Path, device: torch.device) -> None:
        self.data, self.settings, self.output, self.device = data, settings, output, device
        # Processors without bfloat16 emulate it, at a fifth of the speed of float32.
        self.autocast = fast_low_precision(device)
        torch.manual_seed(settings.seed)
        self.step = 0
        self.build(small=settings.small_steps > 0)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self.finished = False
        self.mined_at = -1  # the step at which hard negatives were added last

    def build(self, small: bool) -> None:
        """A new network, for windows of half the size or the whole, and its optimiser."""
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
        """Go on with windows of the whole size: convolutions stay, the dense layers start anew."""
        features = self.network.features.state_dict()
        torch.manual_seed(self.settings.seed)
        self.build(small=False)
        self.network.features.load_state_dict(features)

    @property
    def checkpoint(self) -> Path:
        return self.output / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint; the last one stays until the new one is whole."""
        hard = np.stack(self.data.sources.hard) if self.data.sources.hard else np.zeros((0, 1, 1, 3), np.uint8)
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
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        wanted, made = dataclasses.asdict(self.settings), state["settings"]
        # What a stage does may change until it begins.
        changeable = END_SETTINGS | ({"steps"} if state["small"] else set())
        if state["step"] <= made["small_steps"] + made["steps"] and not state["hard"].numel():
            changeable |= ROUND_SETTINGS
        if any(wanted[name] != made.get(name) for name in wanted.keys() - changeable):
            raise ValueError(
                f"{self.checkpoint} was made with other settings: give the same ones to go on, or another --output"
            )
        self.build(small=state["small"])
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.history, self.best = state["step"], state["history"], state["best"]
        self.finished, self.mined_at = state["finished"], state["mined_at"]
        self.data.sources.hard = list(state["hard"].numpy())
        print(f"going on from step {self.step}", file=sys.stderr)

    def classifier(self) -> PersonClassifier:
        """The network as it stands, on the same tensors, in the training's arithmetic."""
        return PersonClassifier(self.network, self.info, self.device, autocast=self.autocast)

    def train(self, stop: int) -> None:
        """Train up to a step."""
        classifier = self.classifier()
        self.network.train().requires_grad_(True)
        loss_mean, right_mean = float("nan"), float("nan")
        s = self.settings
        hard_share = s.hard_share if self.step >= s.rounds_from else 0.0
        stream = batches(self.data.sources, WINDOW, s.batch, hard_share, s.seed, range(self.step, stop))
        progress = tqdm(stream, total=stop, initial=self.step, desc="training", unit="step", mininterval=10)
        for step, batch in progress:
            torch.manual_seed(s.seed + step)  # dropout
            for group in self.optimiser.param_groups:
                group["lr"] = s.rate(step)
            pixels = classifier.to_pixels(batch.windows)
            if self.small:
                pixels = nn.functional.avg_pool2d(pixels, 2)
            with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
                logits, offsets = self.network.forward_with_offsets(classifier.normalise(pixels))
            target = torch.from_numpy(batch.labels).to(self.device)
            loss = nn.functional.cross_entropy(logits.float(), target)
            error = offsets.float() - torch.from_numpy(batch.offsets).to(self.device)
            of_person = (target == PERSON).float()[:, None]
            squared = nn.functional.smooth_l1_loss(error * of_person, torch.zeros_like(error), reduction="sum")
            loss = loss + s.offset_weight * squared / of_person.sum().clamp_min(1) / error.shape[1]
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.step = step + 1
            right = float((logits.argmax(1) == target).float().mean())
            loss_mean = loss.item() if math.isnan(loss_mean) else 0.95 * loss_mean + 0.05 * loss.item()
            right_mean = right if math.isnan(right_mean) else 0.95 * right_mean + 0.05 * right
            progress.set_postfix(loss=f"{loss_mean:.4f}", right=f"{right_mean:.4f}")
            if self.step % s.checkpoint_every == 0 or self.step == stop:
                self.evaluate(loss_mean)
                self.save()
                self.network.train().requires_grad_(True)

    def evaluate(self, loss: float) -> None:
        """Accuracy on the held-out windows, into the history and a line of the log."""
        classifier = self.classifier()
        figures = accuracy(
            probabilities(classifier, self.data.persons[:: 1 if self.step % 500 == 0 else 3]),
            probabilities(classifier, self.data.backgrounds[:: 1 if self.step % 500 == 0 else 3]),
            0.5,
        )
        self.history.append({"step": self.step, "loss": loss, **figures})
        line = ", ".join(f"{name} {value:.4f}" for name, value in self.history[-1].items() if name != "step")
        tqdm.write(f"step {self.step}: {line}")

    def score_round(self) -> dict[str, float]:
        """The round's figures: accuracy, alarms, and persons found where alarms are at their limit."""
        classifier = self.classifier()
        persons = probabilities(classifier, self.data.persons)
        backgrounds = probabilities(classifier, self.data.backgrounds)
        figures = {"step": float(self.step), **accuracy(persons, backgrounds, 0.5)}
        if self.data.threshold_photos:
            # Half of the photos tell whether a round has paid; all of them choose the threshold in the end.
            maxima = scan_maxima(classifier, self.data.threshold_photos[::2], "alarms")
            figures["photos_with_alarm_at_0.5"] = float((maxima >= 0.5).mean())
            threshold = choose_threshold(maxima, self.settings.alarms)
            figures["persons_right_at_alarm_limit"] = float((persons >= threshold).mean())
        print(json.dumps(figures), file=sys.stderr)
        return figures

    def run(self) -> PersonClassifier:
        """The whole run, from wherever it stands."""
        s = self.settings
        best_path = self.output / "best.pt"
        if self.step < s.small_steps:
            self.train(s.small_steps)
        if self.step < s.rounds_from:
            if self.small:
                self.enlarge()
            self.train(s.rounds_from)
        while not self.finished:
            done = (self.step - s.rounds_from) // s.round_steps
            if (self.step - s.rounds_from) % s.round_steps == 0 and self.mined_at != self.step:
                figures = self.score_round()
                paid = self.best is None or merit(figures) > merit(self.best)
                if paid:
                    self.best = figures
                    torch.save(self.network.state_dict(), best_path)
                if not paid or done == s.rounds or not self.data.sources.photos:
                    self.finished = True
                    self.save()
                    break
                rng = np.random.default_rng((s.seed, self.step))
                photos = self.data.sources.photos
                chosen = rng.permutation(len(photos))[: s.round_photos]
                self.data.sources.hard += mine(self.classifier(), [photos[i] for i in chosen], MINING, rng)
                self.mined_at = self.step
                self.save()
            self.train(s.rounds_from + (done + 1) * s.round_steps)
        self.network.load_state_dict(torch.load(best_path, map_location=self.device, weights_only=True))
        return self.finish()

    def finish(self) -> PersonClassifier:
        """The best round's network with its threshold, and its figures on the test photos."""
        assert self.best is not None
        # The figures are those of the network as it is used: folded, in half precision, in float32 arithmetic.
        network = fold_batch_norm(self.network.eval()).half().float()
        classifier = PersonClassifier(network, self.info, self.device)
        threshold = self.settings.threshold or 0.5
        if self.data.threshold_photos and not self.settings.threshold:
            maxima = scan_maxima(classifier, self.data.threshold_photos, "threshold")
            threshold = choose_threshold(maxima, self.settings.alarms)
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


def merit(figures: dict[str, float]) -> float:
    """What a round is judged by: accuracy on windows, and persons found where the alarms are at their limit."""
    return figures.get("persons_right_at_alarm_limit", 0.0) + figures["balanced_accuracy"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of the command: the folders, and every setting by its name."""
    parser = argparse.ArgumentParser(prog="train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inria", type=Path, required=True, help="folder with train/pos and train/neg, or INRIAPerson")
    parser.add_argument("--background", type=Path, help="folder of person-free photos, for hard negatives and alarms")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints, history and weights")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    for item in dataclasses.fields(TrainSettings):
        kind: Any = argparse.BooleanOptionalAction if isinstance(item.default, bool) else None
        extra = {"action": kind} if kind else {"type": type(item.default)}
        parser.add_argument("--" + item.name.replace("_", "-"), default=item.default, help="[%(default)s]", **extra)
    return parser.parse_args(argv)


def command_line(settings: TrainSettings) -> str:
    """The command that makes the same weights, without the folders of this machine."""
    words = ["train", "--inria", "inria", "--background", "background"]
    for item in dataclasses.fields(settings):
        value, flag = getattr(settings, item.name), item.name.replace("_", "-")
        if value != item.default:
            words += (
                [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
            )
    return " ".join(words)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 0 when weights were written, 1 with the reason otherwise, 130 when interrupted."""
    arguments = parse(argv)
    try:
        settings = TrainSettings(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(TrainSettings)})
        arguments.output.mkdir(parents=True, exist_ok=True)
        data = read_data(arguments.inria, arguments.background, settings)
        trainer = Trainer(data, settings, arguments.output, choose_device(arguments.device))
        trainer.resume()
        classifier = trainer.run()
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    classifier.info = dataclasses.replace(classifier.info, command=command_line(settings))
    weights = arguments.output / f"{settings.architecture}_inria.safetensors"
    classifier.save(weights)
    (arguments.output / "history.json").write_text(json.dumps(trainer.history, indent=1) + "\n")
    print(json.dumps(classifier.info.accuracy, indent=1))
    print(f"weights: {weights}, threshold {classifier.threshold}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
