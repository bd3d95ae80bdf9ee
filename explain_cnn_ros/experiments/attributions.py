"""Established explanations as maps of the window: LIME and Grad-CAM. Both are computed by captum."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explain_cnn_ros.explain.adapters import adapt
from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.output import margin

#: Distance of the superpixels of LIME, as a share of the window's height: 10 of 128 pixels.
SUPERPIXEL = 10 / 128

#: A value for each pixel of a window, float64 [H, W].
Map = NDArray[np.float64]


def captum_attr() -> Any:
    """Import captum's attributions.

    Raises:
        ImportError: captum is missing; the message says how to install it.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError("LIME and Grad-CAM need captum: pip install captum") from error
    return captum.attr


def grad_cam(classifier: WindowClassifier, window: NDArray[np.uint8]) -> Map:
    """Compute Grad-CAM of the last layer's activations (Selvaraju et al. 2017).

    In networks other than VGGs of this package, these are the last maps before the pooling, for instance the output of
    the last block of a ResNet.

    Args:
        classifier: The classifier.
        window: uint8 [H, W, 3] RGB, of the classifier's size.

    Returns:
        The map, float64 [H, W], at least 0.
    """
    attr, adapter = captum_attr(), adapt(classifier)
    network = adapter.classifier.network
    batch = classifier.normalise(classifier.to_pixels(window[None])).requires_grad_()
    last = adapter.layers[max(adapter.layers)].module if classifier.has_dense_pass else last_maps(network, batch)

    def output(windows: Tensor) -> Tensor:
        return adapter.output(network(windows))

    with torch.enable_grad():
        coarse = attr.LayerGradCam(output, last).attribute(batch, relu_attributions=True)
    fine = attr.LayerAttribution.interpolate(coarse.detach(), window.shape[:2], "bilinear")
    found: Map = fine[0, 0].double().cpu().numpy()
    return found


def last_maps(network: nn.Module, batch: Tensor) -> nn.Module:
    """Return the module of a network that is the last to return maps of more than one pixel, except poolings.

    Args:
        network: The network.
        batch: Normalised windows [N, 3, H, W].
    """
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        pools = isinstance(module, nn.AdaptiveAvgPool2d | nn.AvgPool2d)
        if isinstance(output, Tensor) and output.dim() == 4 and max(output.shape[2:]) > 1 and not pools:
            found.append(module)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1]


class Ridge:
    """The linear model that LIME fits: weighted samples, with a penalty on the coefficients.

    It has the interface of captum's interpretable models.

    Args:
        penalty: Weight of the squared coefficients.
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty
        self.coefficients = torch.zeros(0)

    def fit(self, train_data: Any, **_: object) -> None:
        """Fit the model by the normal equations.

        Args:
            train_data: Batches of samples [N, K], outputs [N] and weights [N].
            **_: Arguments of other models of captum.
        """
        x, y, w = (torch.cat([part.double().cpu() for part in parts]) for parts in zip(*train_data, strict=True))
        y, w = y.flatten(), w.flatten() / w.sum()
        x, y = x - w @ x, y - w @ y
        # The weights sum to 1, so the penalty is divided by the number of samples.
        gram = x.T @ (w[:, None] * x) + self.penalty / len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        self.coefficients = torch.linalg.solve(gram, x.T @ (w * y))

    def representation(self) -> Tensor:
        """Return the coefficients, [K]."""
        return self.coefficients.float()

    def __call__(self, x: Tensor) -> Tensor:
        """Predict the outputs of samples [N, K] up to a constant: [N]."""
        return x @ self.representation()


def superpixels(window: NDArray[np.uint8], side: float = 10) -> NDArray[np.int64]:
    """Divide a window into waterpixels: a watershed of the gradient from a grid of markers (Machairas et al. 2015).

    Args:
        window: uint8 [H, W, 3] RGB.
        side: Distance of the markers, in pixels.

    Returns:
        The number of each pixel's superpixel, counted from 0, int64 [H, W].
    """
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
    classifier: WindowClassifier, window: NDArray[np.uint8], samples: int, seed: int, precision: str = "float32"
) -> Map:
    """Compute LIME (Ribeiro et al. 2016) of superpixels, which are replaced by their mean colour.

    Args:
        classifier: The classifier.
        window: uint8 [H, W, 3] RGB, of the classifier's size.
        samples: Number of windows with superpixels replaced.
        seed: Seed of the choice of the superpixels that are replaced.
        precision: Precision of the passes, one of `model.precision.PRECISIONS` except "auto".

    Returns:
        The map, float64 [H, W]; all pixels of a superpixel have its coefficient.
    """
    attr = captum_attr()
    # Larger windows have as many superpixels as those of 64 x 128 pixels.
    segments = superpixels(window, SUPERPIXEL * window.shape[0])
    network = classifier.prepared(precision)
    pixels = classifier.to_pixels(window[None])
    baseline = torch.from_numpy(_mean_colours(window, segments)).permute(2, 0, 1)[None].to(pixels)

    def output(batch: Tensor) -> Tensor:
        return margin(network(classifier.normalise(batch)), classifier.info.targets)

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        explained = attr.Lime(output, interpretable_model=Ridge()).attribute(
            pixels,
            baselines=baseline,
            feature_mask=torch.from_numpy(segments)[None, None].to(pixels.device),
            n_samples=samples,
            perturbations_per_eval=16,
        )
    found: Map = explained[0, 0].double().cpu().numpy()
    return found


def _mean_colours(window: NDArray[np.uint8], segments: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the window with each superpixel in its mean colour, float64 [H, W, 3]."""
    plain = np.zeros(window.shape, np.float64)
    for channel in range(3):
        sums = np.bincount(segments.ravel(), window[..., channel].ravel())
        plain[..., channel] = (sums / np.bincount(segments.ravel()))[segments]
    return plain
