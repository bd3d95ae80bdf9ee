"""Explanations that readers know, as maps of the window: LIME and Grad-CAM, both by captum."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.classifier import BACKGROUND, PERSON, PersonClassifier
from explain_cnn_ros.network import VGGClassifier, convolution_layers

Map = NDArray[np.float64]


def captum_attr() -> Any:
    """Captum's attributions; ImportError says how to get them."""
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError("LIME and Grad-CAM need captum: pip install captum") from error
    return captum.attr


class Output(nn.Module):
    """A network's output, [N]: logit of person minus that of background."""

    def __init__(self, network: VGGClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Tensor) -> Tensor:
        """Normalised windows [N, 3, H, W] -> [N]."""
        logits: Tensor = self.network(batch)
        return logits[:, PERSON] - logits[:, BACKGROUND]


def grad_cam(classifier: PersonClassifier, window: NDArray[np.uint8]) -> Map:
    """Of the last convolution's activations (Selvaraju et al. 2017), float64 [H, W], at least 0."""
    attr = captum_attr()
    features = classifier.network.features
    last: Any = features[convolution_layers(features)[-1].activation]
    batch = classifier.normalise(classifier.to_pixels(window[None])).requires_grad_()
    with torch.enable_grad():
        coarse = attr.LayerGradCam(Output(classifier.network), last).attribute(batch, relu_attributions=True)
    fine = attr.LayerAttribution.interpolate(coarse.detach(), window.shape[:2], "bilinear")
    found: Map = fine[0, 0].double().cpu().numpy()
    return found


class Ridge:
    """A linear model of weighted samples, with a penalty on its coefficients: what LIME fits. captum's interface."""

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty
        self.coefficients = torch.zeros(0)

    def fit(self, train_data: Any, **_: object) -> None:
        """Least squares of (samples [N, K], outputs [N], weights [N]) by the normal equations."""
        x, y, w = (torch.cat([part.double().cpu() for part in parts]) for parts in zip(*train_data, strict=True))
        y, w = y.flatten(), w.flatten() / w.sum()
        x, y = x - w @ x, y - w @ y
        # The weights sum to 1, the penalty is of as many samples as there are.
        gram = x.T @ (w[:, None] * x) + self.penalty / len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        self.coefficients = torch.linalg.solve(gram, x.T @ (w * y))

    def representation(self) -> Tensor:
        """The coefficients [K]."""
        return self.coefficients.float()

    def __call__(self, x: Tensor) -> Tensor:
        """Of samples [N, K], but for a constant: [N]."""
        return x @ self.representation()


def superpixels(window: NDArray[np.uint8], side: int = 10) -> NDArray[np.int64]:
    """Waterpixels (Machairas et al. 2015): a watershed of the gradient from a grid of markers; int64 [H, W] from 0."""
    height, width = window.shape[:2]
    markers = np.zeros((height, width), np.int32)
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    for i in range(rows * columns):
        y, x = divmod(i, columns)
        markers[int((y + 0.5) * height / rows), int((x + 0.5) * width / columns)] = i + 1
    # The watershed works on colours; it leaves lines of -1 between basins, and around the image.
    found = cv2.watershed(cv2.GaussianBlur(window, (0, 0), 1.0), markers.copy())
    while (found <= 0).any():
        grown = cv2.dilate(found.clip(0).astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
        found = np.where(found > 0, found, np.where(grown > 0, grown, -1))
    return (np.unique(found, return_inverse=True)[1].reshape(found.shape)).astype(np.int64)


def lime(
    classifier: PersonClassifier, window: NDArray[np.uint8], samples: int, seed: int, arithmetic: str = "float32"
) -> Map:
    """Of superpixels that are replaced by their mean colour (Ribeiro et al. 2016), float64 [H, W].

    Args:
        samples: windows that are looked at.
        seed: of the superpixels that are replaced.
        arithmetic: of the passes.
    """
    attr = captum_attr()
    segments = superpixels(window)
    plain = np.zeros(window.shape, np.float64)
    for channel in range(3):
        sums = np.bincount(segments.ravel(), window[..., channel].ravel())
        plain[..., channel] = (sums / np.bincount(segments.ravel()))[segments]
    output = Output(classifier.prepared(arithmetic))
    pixels = classifier.to_pixels(window[None])
    baseline = torch.from_numpy(plain).permute(2, 0, 1)[None].to(pixels)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        explained = attr.Lime(lambda batch: output(classifier.normalise(batch)), interpretable_model=Ridge()).attribute(
            pixels,
            baselines=baseline,
            feature_mask=torch.from_numpy(segments)[None, None].to(pixels.device),
            n_samples=samples,
            perturbations_per_eval=16,
        )
    found: Map = explained[0, 0].double().cpu().numpy()
    return found
