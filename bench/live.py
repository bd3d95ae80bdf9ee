"""Measures how steady live explanations are from frame to frame, and draws some of them.

    python bench/live.py [--smoothing 0 1] [--every 1] [--frames 50] [--strip PICTURE --first 8 --count 15]

The frames are those of the sample recording, and the person that the node would follow is explained. `stay` is the mean
Jaccard index of the selected neurons of two consecutive frames of the same person, `drawn` the same of the neurons
whose patches are drawn. `moved` is the mean distance between the centres of a neuron's patches in both frames, relative
to the window and as a share of its height. `share` is the mean part of the margin that the selected neurons carry,
measured by silencing them in the frame.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader

from explain_cnn_ros.draw.live import draw_live
from explain_cnn_ros.explain.explanation import RankedNeuron
from explain_cnn_ros.explain.live import SMOOTHING, LiveExplainer, LiveExplanation
from explain_cnn_ros.explain.metrics import OPPOSING, SUPPORTING
from explain_cnn_ros.explain.selection import jaccard
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.decider import Decider, Decision
from explain_cnn_ros.scan.tracks import Track, Tracker

SAMPLE = Path(__file__).resolve().parent.parent / "sample" / "street"

Image = NDArray[np.uint8]


@dataclass
class Steadiness:
    """Figures of the neurons of one metric, a value for each pair of frames or for each frame."""

    stay: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def add(self, metric: str, live: LiveExplanation, before: LiveExplanation | None) -> None:
        """Add a frame, and its pair with the frame before if that shows the same person."""
        proof = live.explanation.proof(metric)
        if proof is not None:
            self.shares.append(proof.share)
        if before is None:
            return
        now, then = ({(n.layer, n.channel): n for n in each.strongest(metric)} for each in (live, before))
        self.stay.append(jaccard(now.keys(), then.keys()))
        self.drawn.append(jaccard(set(live.shown[metric]), set(before.shown[metric])))
        for key in now.keys() & then.keys():
            places = centre(live, now[key]), centre(before, then[key])
            if places[0] and places[1]:
                self.moved.append(math.dist(*places))

    def __str__(self) -> str:
        means = (np.nanmean(values) if values else math.nan for values in (self.stay, self.drawn))
        moved, share = (np.nanmean(values) if values else math.nan for values in (self.moved, self.shares))
        return "".join(f"{mean:>8.2f}" for mean in means) + f"{100 * moved:>7.1f}%{100 * share:>7.0f}%"


def centre(live: LiveExplanation, neuron: RankedNeuron) -> tuple[float, float] | None:
    """Return the centre of a patch in the window, in shares of the window's height; None without a patch."""
    patch, region = neuron.patch, live.explanation.region
    if patch is None:
        return None
    return (
        (patch.x + patch.width / 2 - region.x) / region.height,
        (patch.y + patch.height / 2 - region.y) / region.height,
    )


def sample_frames() -> Iterator[tuple[int, Image]]:
    """Yield the stamp in nanoseconds and the image, uint8 [H, W, 3] RGB, of each frame of the sample."""
    with AnyReader([SAMPLE]) as reader:
        chosen = [c for c in reader.connections if c.topic.endswith("/compressed")]
        for connection, _, data in reader.messages(connections=chosen):
            message: Any = reader.deserialize(data, connection.msgtype)
            image = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), cv2.IMREAD_COLOR)
            stamp = message.header.stamp
            yield stamp.sec * 10**9 + stamp.nanosec, np.ascontiguousarray(image[:, :, ::-1])


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--smoothing", type=float, nargs="+", default=[0.0, SMOOTHING], help="time constants [0 1]")
    parser.add_argument("--every", type=int, default=1, help="explain every k-th frame [%(default)s]")
    parser.add_argument("--frames", type=int, default=50, help="number of frames [%(default)s]")
    parser.add_argument("--strip", type=Path, help="picture of live overlays with the last smoothing")
    parser.add_argument("--first", type=int, default=8, help="first overlay of the picture [%(default)s]")
    parser.add_argument("--count", type=int, default=15, help="number of overlays, three in a row [%(default)s]")
    options = parser.parse_args()
    classifier, tracker = PersonClassifier.load(), Tracker()
    decider = Decider(classifier)
    frames: list[tuple[int, Image, Decision, Track]] = []
    for stamp, image in list(sample_frames())[: options.frames]:
        decision = decider.decide(image)
        frames.append((stamp, image, decision, tracker.follow(decision.regions, stamp)))
    print(f"{'smoothing':<10}{'neurons':<12}{'stay':>8}{'drawn':>8}{'moved':>8}{'share':>8}")
    pictures: list[Image] = []
    for smoothing in options.smoothing:
        explainer, before, pictures = LiveExplainer(classifier, smoothing=smoothing), None, []
        figures = {SUPPORTING: Steadiness(), OPPOSING: Steadiness()}
        for stamp, image, decision, track in frames[:: options.every]:
            live = explainer.explain(image, track.region, stamp, track.id, decision.threshold)
            for metric, steadiness in figures.items():
                steadiness.add(metric, live, before if before and before.track == live.track else None)
            before = live
            if options.strip:
                pictures.append(draw_live(image, live, decision.regions))
        for metric, steadiness in figures.items():
            print(f"{smoothing:<10g}{'supporting' if metric == SUPPORTING else 'opposing':<12}{steadiness}", flush=True)
    if options.strip:
        shown = pictures[options.first : options.first + options.count]
        shown += [np.zeros_like(shown[0])] * (-len(shown) % 3)
        rows = [np.hstack(shown[k : k + 3]) for k in range(0, len(shown), 3)]
        cv2.imwrite(str(options.strip), np.vstack(rows)[:, :, ::-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
