"""The proposer: windows of a dense pass against crops, folding of batch norm, and its place in weights files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from explain_cnn_ros.model.proposer import PROPOSER_STRIDE, Proposer
from explain_cnn_ros.scan.classifier import PersonClassifier


@pytest.fixture
def proposer() -> Proposer:
    torch.manual_seed(0)
    return Proposer(4, (32, 64)).eval()


@pytest.fixture
def searching(vgg11_classifier: PersonClassifier, proposer: Proposer) -> PersonClassifier:
    return PersonClassifier(vgg11_classifier.network, vgg11_classifier.info, "cpu", proposer=proposer)


def test_an_image_as_large_as_a_window_has_one(proposer: Proposer) -> None:
    assert proposer.window == (16, 32)
    assert proposer(torch.zeros(2, 3, 32, 16)).shape == (2, 4, 1, 1)
    assert proposer(torch.zeros(1, 3, 48, 40)).shape == (1, 4, 3, 4)


def test_windows_of_a_large_image_are_those_of_its_parts(proposer: Proposer) -> None:
    """Away from the borders, whose padding differs, a window is judged in a part as in the whole image."""
    image = torch.randn(1, 3, 160, 120, generator=torch.Generator().manual_seed(1))
    whole = proposer(image)
    border = 5 * PROPOSER_STRIDE  # more than the convolutions see beyond a window
    for row, column in ((5, 5), (7, 6)):
        y, x = row * PROPOSER_STRIDE, column * PROPOSER_STRIDE
        part = image[:, :, y - border : y + 32 + border, x - border : x + 16 + border]
        torch.testing.assert_close(proposer(part)[0, :, 5, 5], whole[0, :, row, column], rtol=1e-4, atol=1e-5)


def test_folding_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    trained = Proposer(4, (32, 64), batch_norm=True)
    for _ in range(3):
        trained(torch.randn(8, 3, 48, 32) * 2 + 1)  # gives batch norm a mean and a variance
    folded = trained.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(folded(image), trained.eval()(image), rtol=1e-4, atol=1e-5)


def test_margins_and_offsets_in_units_of_the_window(searching: PersonClassifier, picture) -> None:
    image = picture(48, 40)
    margins, offsets = searching.propose_densely(image)
    assert (margins.dtype, margins.shape, offsets.shape) == (np.float32, (2, 5), (2, 5, 3))
    with torch.inference_mode():
        expected = searching.proposer(searching.normalise(searching.to_pixels(image[None])))[0].permute(1, 2, 0)
    np.testing.assert_allclose(margins, expected[..., 0], rtol=1e-5)
    np.testing.assert_allclose(offsets, expected[..., 1:] * torch.tensor([1 / 16, 1 / 16, 0.15]), rtol=1e-5)


def test_without_a_proposer_the_reason_is_given(vgg11_classifier: PersonClassifier, picture) -> None:
    with pytest.raises(ValueError, match="these weights have no proposer"):
        vgg11_classifier.propose_densely(picture(48, 40))


def test_is_stored_in_the_weights_file(searching: PersonClassifier, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    searching.save(path, torch.float32)
    loaded = PersonClassifier.load(path, "cpu")
    assert loaded.info.proposer == loaded.proposer.width == 4
    for name, value in searching.proposer.state_dict().items():
        assert torch.equal(loaded.proposer.state_dict()[name], value), name
    for name, value in searching.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name
    loaded.proposer = None
    loaded.save(path)
    assert PersonClassifier.load(path, "cpu").info.proposer == 0


def test_a_damaged_proposer_is_an_error(searching: PersonClassifier, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    searching.proposer = Proposer(4, (64, 128))
    searching.save(path)
    with pytest.raises(ValueError, match="holds no weights of explain_cnn_ros"):
        PersonClassifier.load(path, "cpu")
