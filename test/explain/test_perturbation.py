"""The noise: its seed, its independence of chunks, its variance, and its correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from explain_cnn_ros.explain.explainer import Explainer
from explain_cnn_ros.explain.perturbation import NOISES, Perturbations
from explain_cnn_ros.explain.settings import ExplainSettings


def pixels(height: int = 12, width: int = 10, value: float | None = None) -> Tensor:
    if value is not None:
        return torch.full((3, height, width), value)
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 255


def noise_of(kind: str, copies: int, height: int, width: int, sigma: float = 0.1, **settings) -> Tensor:
    """Return the noise in units of sigma, [copies, 3, height, width]."""
    source = pixels(height, width, 100.0).double()
    return (Perturbations(source, sigma, kind, **settings).take(copies) / source - 1) / sigma


def knot_weights(size: int, length: float) -> np.ndarray:
    """Return the weights of the knots for each pixel: linear between two knots, with unit norm."""
    weights = np.zeros((size, int(size / length) + 3))
    for x in range(size):
        left = math.floor(x / length)
        share = x / length - left
        weights[x, left], weights[x, left + 1] = 1 - share, share
        weights[x] /= math.hypot(1 - share, share)
    return weights


def assert_mean(values: Tensor, expected: float, deviation: float) -> None:
    """Compare a mean within five standard errors; `deviation` is the standard deviation of one value."""
    assert float(values.mean()) == pytest.approx(expected, abs=5 * deviation / math.sqrt(values.numel()))


@pytest.mark.parametrize("kind", NOISES)
class TestSequence:
    def test_same_seed_same_copies(self, kind: str) -> None:
        one, again = (Perturbations(pixels(), 0.1, kind, 4, seed=3).take(5) for _ in range(2))
        assert torch.equal(one, again)

    def test_other_seed_other_copies(self, kind: str) -> None:
        # The first copy of the authors' noise is the image itself.
        one, other = (Perturbations(pixels(), 0.1, kind, 4, seed=s).take(6)[1:] for s in (3, 4))
        assert (one != other).double().mean() > 0.9

    @pytest.mark.parametrize("chunks", [[1] * 51, [7] * 7 + [2], [51], [50, 1], [16, 16, 16, 3]])
    def test_chunks_do_not_matter(self, kind: str, chunks: list[int]) -> None:
        source = Perturbations(pixels(), 0.1, kind, 4)
        expected = Perturbations(pixels(), 0.1, kind, 4).take(51)
        assert torch.equal(torch.cat([source.take(count) for count in chunks]), expected)
        assert source.taken == 51

    def test_no_copy_is_another(self, kind: str) -> None:
        copies = Perturbations(pixels(), 0.1, kind, 4).take(20).flatten(1)
        assert len(copies.unique(dim=0)) == 20

    def test_noise_does_not_depend_on_the_image(self, kind: str) -> None:
        dark, bright = (Perturbations(pixels(value=v).double(), 0.1, kind, 4).take(3) / v for v in (10.0, 200.0))
        torch.testing.assert_close(dark, bright, rtol=1e-12, atol=1e-12)

    def test_black_stays_black(self, kind: str) -> None:
        image = pixels()
        image[1, :6] = 0
        copies = Perturbations(image, 0.5, kind, 4).take(5)[1:]
        assert not copies[:, 1, :6].any()
        assert (copies[:, 0] != image[0]).double().mean() > 0.9
        assert not Perturbations(torch.zeros(3, 5, 6), 0.5, kind, 4).take(4).any()

    def test_nothing_is_clipped(self, kind: str) -> None:
        copies = Perturbations(pixels(value=250.0), 1.0, kind, 4).take(20)
        assert copies.max() > 500
        assert copies.min() < 0

    def test_shape_and_type(self, kind: str) -> None:
        copies = Perturbations(pixels(33, 47).double(), 0.1, kind, 4).take(3)
        assert copies.shape == (3, 3, 33, 47)
        assert copies.dtype == torch.float64

    def test_leaves_the_image_and_pytorchs_own_random_numbers_alone(self, kind: str) -> None:
        image = pixels()
        before, state = image.clone(), torch.get_rng_state()
        Perturbations(image, 0.1, kind, 4).take(3)
        assert torch.equal(image, before)
        assert torch.equal(torch.get_rng_state(), state)


def test_white_noise_is_the_definition() -> None:
    """Each pixel value is multiplied by 1 + N(0, sigma), drawn copy by copy."""
    image = pixels()
    generator = torch.Generator().manual_seed(11)
    expected = [image * (1 + 0.3 * torch.randn(image.shape, generator=generator)) for _ in range(4)]
    assert torch.equal(Perturbations(image, 0.3, seed=11).take(4), torch.stack(expected))


def test_white_noise_is_normal() -> None:
    noise = noise_of("white", 100, 64, 64)
    assert_mean(noise, 0, 1)
    assert_mean(noise**2, 1, math.sqrt(2))
    assert_mean(noise**3, 0, math.sqrt(15))
    assert_mean(noise**4, 3, math.sqrt(96))
    tail = 1 - math.erf(2 / math.sqrt(2))
    assert_mean((noise.abs() > 2).double(), tail, math.sqrt(tail))


def test_white_noise_is_independent() -> None:
    """Neighbours, colours and copies are independent of each other."""
    noise = noise_of("white", 100, 64, 64)
    for product in (
        noise[..., 1:] * noise[..., :-1],
        noise[..., 1:, :] * noise[..., :-1, :],
        noise[:, 1:] * noise[:, :-1],
        noise[1:] * noise[:-1],
    ):
        assert_mean(product, 0, 1)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.7])
def test_sigma_is_the_deviation_as_a_share_of_the_pixel_value(sigma: float) -> None:
    image = torch.tensor([10.0, 100.0, 200.0], dtype=torch.float64)[:, None, None].expand(3, 64, 64)
    copies = Perturbations(image, sigma).take(50)
    for colour, value in enumerate((10, 100, 200)):
        assert float(copies[:, colour].std()) == pytest.approx(sigma * value, rel=5 / math.sqrt(2 * 50 * 64 * 64))


class TestSmooth:
    @pytest.mark.parametrize("length", [1.0, 4.0, 5.5, 100.0])
    def test_is_interpolated_between_knots(self, length: float) -> None:
        """Variance and correlation of all pairs of pixels follow from the weights of the knots."""
        height, width, copies = 9, 5, 2000
        noise = noise_of("smooth", copies, height, width, length=length)[:, 0].flatten(1)
        rows, columns = knot_weights(height, length), knot_weights(width, length)
        weights = np.kron(rows, columns)
        expected = torch.from_numpy(weights @ weights.T)
        assert float((expected.diagonal() - 1).abs().max()) < 1e-12
        # The means of products of two normal numbers are within 5 standard errors.
        assert (noise.T @ noise / copies - expected).abs().max() < 5 * math.sqrt(2 / copies)
        assert noise.mean(0).abs().max() < 5 / math.sqrt(copies)

    def test_is_the_same_in_all_colours(self) -> None:
        noise = noise_of("smooth", 3, 9, 8, length=3)
        torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=1e-9, atol=1e-9)

    def test_length_in_pixels(self) -> None:
        """Neighbours are almost equal, and pixels without a common knot are independent."""
        weights = knot_weights(40, 16)
        assert weights[3] @ weights[4] > 0.99
        assert weights[0] @ weights[15] < 0.1
        assert weights[0] @ weights[16] == 0
        noise = noise_of("smooth", 2000, 1, 40, length=16)[:, 0, 0]
        assert float((noise[:, 3] * noise[:, 4]).mean()) > 0.99 - 5 * math.sqrt(2 / 2000)
        assert_mean(noise[:, 0] * noise[:, 16], 0, 1)
        assert_mean(noise[:, 3] * noise[:, 39], 0, 1)

    def test_neighbours_differ_by_little(self) -> None:
        noise = noise_of("smooth", 50, 64, 64, length=16)
        assert (noise[..., 1:] - noise[..., :-1]).abs().max() < 1
        assert (noise[..., 1:] - noise[..., :-1]).std() < 0.15

    def test_one_pixel_long_it_is_white(self) -> None:
        noise = noise_of("smooth", 100, 64, 64, length=1)[:, 0]
        assert_mean(noise[..., 1:] * noise[..., :-1], 0, 1)
        assert_mean(noise**2, 1, math.sqrt(2))


def test_ramp_grows_from_copy_to_copy() -> None:
    noise = noise_of("ramp", 30, 64, 64, sigma=0.1)
    deviations = noise.flatten(1).std(1)
    for index, deviation in enumerate(deviations.tolist(), start=1):
        assert deviation == pytest.approx(index, rel=5 / math.sqrt(2 * 3 * 64 * 64))


def test_ramp_is_white_noise_scaled() -> None:
    white, ramp = noise_of("white", 5, 12, 10, seed=2), noise_of("ramp", 5, 12, 10, seed=2)
    torch.testing.assert_close(ramp, white * torch.arange(1, 6).view(-1, 1, 1, 1), rtol=1e-9, atol=1e-9)


def test_authors_noise_is_that_of_their_code() -> None:
    """Their make_perturbations, on pixels without the channels' means: `perturbations[i] *= 1 + i * normal(0, 0.1)`."""
    image, means = pixels().double(), (123.0, 110.0, 90.0)
    generator = torch.Generator().manual_seed(5)
    centre = torch.tensor(means, dtype=torch.float64).view(3, 1, 1)
    expected = []
    for i in range(6):
        normal = 0.1 * torch.randn(image.shape, generator=generator, dtype=torch.float64)
        expected.append((image - centre) * (1 + i * normal) + centre)
    copies = Perturbations(image, 0.1, "authors", seed=5, means=means).take(6)
    torch.testing.assert_close(copies, torch.stack(expected), rtol=1e-12, atol=1e-10)
    assert torch.equal(copies[0], image)
    # A pixel at the mean of its channel never changes.
    assert torch.equal(
        Perturbations(centre.expand(3, 4, 5), 0.1, "authors", means=means).take(3), centre.expand(3, 3, 4, 5)
    )


def test_the_authors_noise_has_the_means_of_the_network(thin_classifier, picture) -> None:
    """An explanation with the preset passes these copies, and no others."""
    settings = ExplainSettings.preset("authors", perturbations=4, layers=(3,), metrics=("activation_precision",))
    explainer = Explainer(thin_classifier, settings)
    window = explainer.classifier.to_pixels(picture(32, 64)[None])
    copies = Perturbations(window[0], 0.1, "authors", means=thin_classifier.info.mean).take(4)
    passed = explainer.adapter.trace(copies, (3,), precision=explainer.settings.compute_precision)
    expected = float(explainer.adapter.output(passed.logits).mean())
    assert explainer.rank(picture(32, 64)).output_mean == pytest.approx(expected, rel=1e-4)


def test_unknown_noise() -> None:
    with pytest.raises(ValueError, match=r"'pink'.*white, smooth, ramp, authors, orthogonal"):
        Perturbations(pixels(), 0.1, "pink")


class TestOrthogonal:
    @pytest.mark.parametrize(("height", "width", "length"), [(9, 5, 3.0), (64, 32, 16.0), (30, 17, 7.5)])
    def test_blocks_are_balanced(self, height: int, width: int, length: float) -> None:
        """The sample covariance of a block is exactly that of infinitely many copies, for all pairs of pixels."""
        source = pixels(height, width, 100.0).double()
        perturbations = Perturbations(source, 0.1, "orthogonal", length)
        rows, columns = knot_weights(height, length), knot_weights(width, length)
        used = np.count_nonzero(rows.any(0)) * np.count_nonzero(columns.any(0))
        assert perturbations.block == used + 1
        weights = np.kron(rows, columns)
        for _ in range(3):
            noise = (perturbations.take(perturbations.block)[:, 0] / 100 - 1).flatten(1) / 0.1
            assert noise.mean(0).abs().max() < 1e-9
            np.testing.assert_allclose(noise.T @ noise / len(noise), weights @ weights.T, atol=1e-9)

    def test_blocks_that_nobody_waits_for_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"length 2 has blocks of 2146 copies.*64 x 128.*make noise_length larger"):
            Perturbations(pixels(128, 64), 0.1, "orthogonal", 2)

    def test_blocks_differ(self) -> None:
        perturbations = Perturbations(pixels(9, 5), 0.1, "orthogonal", 3)
        one, other = (perturbations.take(perturbations.block) for _ in range(2))
        assert (one != other).double().mean() > 0.9

    def test_is_the_same_in_all_colours(self) -> None:
        noise = noise_of("orthogonal", 3, 9, 8, length=3)
        torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), rtol=1e-9, atol=1e-9)

    def test_is_about_normal(self) -> None:
        noise = noise_of("orthogonal", 1000, 33, 17, length=4)[:, 0, ::4, ::4]
        assert_mean(noise, 0, 1)
        assert float((noise**4).mean()) == pytest.approx(3, abs=0.2)
        assert (noise.abs() > 2).double().mean() == pytest.approx(0.0455, abs=0.01)

    def test_what_is_linear_correlates_as_over_endless_copies(self) -> None:
        """The correlation of two linear responses to one block is that of their weights."""
        generator = torch.Generator().manual_seed(1)
        one, other = torch.randn(2, 33 * 17, generator=generator, dtype=torch.float64)
        weights = np.kron(knot_weights(33, 8), knot_weights(17, 8))
        a, b = weights.T @ one.numpy(), weights.T @ other.numpy()
        expected = a @ b / math.sqrt((a @ a) * (b @ b))
        for seed in range(3):
            source = Perturbations(torch.ones(1, 33, 17, dtype=torch.float64), 0.1, "orthogonal", 8, seed)
            copies = source.take(source.block).flatten(1)
            assert np.corrcoef(copies @ one, copies @ other)[0, 1] == pytest.approx(expected, rel=1e-9)
