"""Causes of wrong decisions: groups of windows, the neurons that they share, and their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from explain_cnn_ros.analysis.causes import causes as module
from explain_cnn_ros.analysis.causes.cause import Silenced, StoredWindow
from explain_cnn_ros.analysis.causes.causes import causes_of, place
from explain_cnn_ros.analysis.causes.grouping import ALONE, GROUPS_MAX, angles, central, group, silhouette
from explain_cnn_ros.analysis.causes.pushes import PushMeter
from explain_cnn_ros.analysis.causes.windows import MeasuredWindows
from explain_cnn_ros.analysis.wrong_way import FALSE_ALARM, MISSED
from explain_cnn_ros.explain.network_adapter import Neuron
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.model.network import convolution_layers

LAYERS = (3, 5, 7)


def planted(sizes: list[int], noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pushes of groups with directions of their own, in any order, and the group of each."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(sizes), 200))
    of = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    scale = rng.uniform(0.2, 5, (len(of), 1))
    return (scale * (directions[of] + noise * rng.normal(size=(len(of), 200)))).astype(np.float32), of


class TestGrouping:
    """The division of windows into groups."""

    @pytest.mark.parametrize("sizes", [[30], [20, 12], [19, 14, 8], [9, 8, 7, 6, 5, 4, 3]])
    def test_planted_groups_are_found(self, sizes: list[int]) -> None:
        pushes, of = planted(sizes)
        found = group(pushes)
        assert [(found == number).sum() for number in range(found.max() + 1)] == sizes
        for number in range(len(sizes)):
            assert len(set(of[found == number])) == 1

    def test_pushes_without_groups_are_one_group(self) -> None:
        pushes = np.random.default_rng(0).normal(size=(40, 200)).astype(np.float32)
        assert not group(pushes).any()

    def test_windows_unlike_all_others_have_no_group(self) -> None:
        pushes, of = planted([12, 10, 1, 1])
        assert (group(pushes) == ALONE).tolist() == (of >= 2).tolist()

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_few_windows_are_one_group(self, count: int) -> None:
        assert group(planted([1] * count)[0]).tolist() == [0] * count

    def test_at_most_so_many_groups(self) -> None:
        assert len(np.unique(group(planted([6] * 20)[0]))) <= GROUPS_MAX

    def test_windows_without_any_push(self) -> None:
        assert not group(np.zeros((10, 30), np.float32)).any()

    def test_angles_are_those_of_scipy(self) -> None:
        pushes = planted([3, 3])[0]
        expected = [[cosine(a, b) for b in pushes] for a in pushes]
        np.testing.assert_allclose(angles(pushes), expected, atol=1e-6)

    @given(st.integers(0, 2**31), st.integers(3, 20), st.integers(1, 5))
    def test_silhouettes_are_those_of_the_definition(self, seed: int, count: int, groups: int) -> None:
        rng = np.random.default_rng(seed)
        points, of = rng.normal(size=(count, 2)), rng.integers(0, groups, count)
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        values = []
        for i in range(count):
            own = [j for j in range(count) if of[j] == of[i] and j != i]
            others = [distances[i, of == g].mean() for g in set(of.tolist()) - {of[i]}]
            if not own or not others:
                values.append(0.0)
                continue
            a, b = distances[i, own].mean(), min(others)
            values.append((b - a) / max(a, b))
        assert silhouette(distances, of) == pytest.approx(np.mean(values), abs=1e-12)

    def test_the_central_window_comes_first(self) -> None:
        pushes = np.array([[1, 1], [1, 0], [0, 1], [9, 9.5]], np.float32)
        assert central(pushes, np.array([1, 2, 3])).tolist() == [3, 2, 1]


@pytest.fixture(scope="module")
def meter(vgg11_classifier) -> PushMeter:
    return PushMeter(vgg11_classifier, ExplainSettings(layers=LAYERS, top_n=2))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(124, 133, (64, 32, 3)).astype(np.uint8)


def marked(seed: int, top: int, left: int, colour: tuple[int, int, int]) -> np.ndarray:
    window = noise(seed)
    window[top : top + 12, left : left + 8] = colour
    return window


class TestPushes:
    """The pushes in one window, and where they are."""

    @pytest.mark.parametrize("label", [False, True])
    def test_are_activation_times_gradient(self, meter: PushMeter, vgg11_classifier, label: bool) -> None:
        """The oracle is autograd. The margin is the logit of person minus that of background."""
        network, window = vgg11_classifier.network, noise(1)
        maps = {}
        layers = {layer.number: network.features[layer.activation] for layer in convolution_layers(network.features)}

        def keep(layer: int):
            def hook(module, inputs, output):
                maps[layer] = output
                output.retain_grad()

            return hook

        hooks = [layers[layer].register_forward_hook(keep(layer)) for layer in LAYERS]
        with torch.enable_grad():
            pixels = vgg11_classifier.normalise(vgg11_classifier.to_pixels(window[None])).clone().requires_grad_()
            logits = network(pixels)[0]
            margin = logits[1] - logits[0]
            margin.backward()
        for hook in hooks:
            hook.remove()
        network.zero_grad(set_to_none=True)
        sign = -1 if label else 1
        expected = np.concatenate([(maps[n] * maps[n].grad).sum((2, 3))[0].detach().numpy() for n in LAYERS])
        push = meter.measure(window, label)
        np.testing.assert_allclose(push.values, sign * expected, atol=1e-4 * np.abs(expected).max())
        assert push.output == pytest.approx(sign * float(margin.detach()), rel=1e-4)
        assert len(meter.neurons) == len(push.values)

    @pytest.mark.parametrize("label", [False, True])
    def test_maps_sum_up_to_the_pushes(self, meter: PushMeter, label: bool) -> None:
        window = noise(2)
        values = meter.measure(window, label).values
        for chosen in ([0], [5, 300, 700], list(range(0, len(values), 50))):
            neurons = [meter.neurons[i] for i in chosen]
            found = meter.map(window, label, neurons)
            assert found.shape == (32, 16)
            assert found.sum() == pytest.approx(values[chosen].sum(), rel=1e-4, abs=1e-6)


def measured(meter: PushMeter, label: bool, windows: list[np.ndarray]) -> MeasuredWindows:
    result = MeasuredWindows(label)
    for frame, window in enumerate(windows):
        result.add(StoredWindow("bag", frame // 2, frame % 2), window, meter)
    return result


NOTHING = Silenced(0, 0, (0, 1), 0, 0, (0, 1))


@pytest.mark.parametrize("kind", [FALSE_ALARM, MISSED])
def test_marks_in_different_corners_are_different_causes(vgg11_classifier, kind: str) -> None:
    """Two kinds of marks are planted in windows that are the same otherwise."""
    # The maps of this layer have eight columns, those of later ones two.
    meter = PushMeter(vgg11_classifier, ExplainSettings(layers=(3,), top_n=2))
    label = kind == MISSED
    blue = [marked(seed, 0, 0, (20, 20, 250)) for seed in range(9)]
    yellow = [marked(seed, 52, 24, (250, 250, 10)) for seed in range(20, 26)]
    wrong = measured(meter, label, [w for pair in zip(blue, yellow, strict=False) for w in pair] + blue[6:])
    right = measured(meter, label, [noise(seed) for seed in range(40, 52)])
    asked = []

    def silence(neurons, windows, shown):
        asked.append((list(neurons), len(windows), shown))
        return NOTHING

    causes, alone = causes_of(kind, wrong, right, meter, silence)
    assert alone == 0
    assert [len(cause.windows) for cause in causes] == [9, 6]
    # The keys of the blue windows: every second one of the first twelve, and the last three.
    of_blue = {(i // 2, i % 2) for i in [*range(0, 12, 2), 12, 13, 14]}
    assert {(key.frame, key.region) for key in causes[0].windows} == of_blue
    assert [cause.frames for cause in causes] == [8, 6]
    assert causes[0].place == "at the top left"
    assert causes[1].place == "at the bottom right"
    for cause, (neurons, count, shown) in zip(causes, asked, strict=True):
        assert cause.kind == kind
        assert [(n.layer, n.channel) for n in cause.neurons] == [(n.layer, n.channel) for n in neurons]
        assert (count, shown) == (len(cause.windows), label)
        assert np.sum(cause.map) == pytest.approx(1)
        # The neurons push more than in right decisions, and most windows share them.
        assert all(neuron.push > neuron.elsewhere for neuron in cause.neurons)
        assert all(neuron.windows >= 0.6 * len(cause.windows) for neuron in cause.neurons)


def test_shares_of_the_margin(meter: PushMeter) -> None:
    """The share is the sum of the neurons' pushes over all windows, divided by the sum of the margins."""
    windows = [noise(seed) for seed in range(3)]
    wrong, right = measured(meter, False, windows), measured(meter, False, [])
    (cause,), _ = causes_of(FALSE_ALARM, wrong, right, meter, lambda *_: NOTHING)
    chosen = [meter.neurons.index(Neuron(n.layer, n.channel)) for n in cause.neurons]
    total = sum(push[chosen].sum() for push in wrong.pushes)
    assert cause.carried == pytest.approx(total / np.abs(wrong.outputs).sum(), rel=1e-5)
    means = np.mean(wrong.pushes, axis=0)
    assert chosen == np.argsort(-means, kind="stable")[: module.NEURONS].tolist()
    assert all(neuron.elsewhere is None for neuron in cause.neurons)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (slice(0, 8), slice(0, 4), "at the top left"),
        (slice(12, 20), slice(6, 10), "in the middle"),
        (slice(24, 32), slice(6, 10), "at the bottom centre"),
        (slice(12, 20), slice(12, 16), "in the middle right"),
        (slice(0, 32), slice(0, 16), "all over the window"),
    ],
)
def test_places(rows: slice, columns: slice, expected: str) -> None:
    shares = np.zeros((32, 16))
    shares[rows, columns] = 1
    assert place(shares / shares.sum()) == expected
