"""The proposer: a small network that says quickly where in a frame the classifier should look for persons.

It judges windows like the classifier, but on images of half the resolution, with a hundredth of the multiplications for
each pixel. The classifier judges the windows that it proposes as exact crops (a cascade, Viola & Jones 2001).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from explain_cnn_ros.model.network import OFFSET_UNITS

#: Factor by which the proposer's images are smaller than those of the classifier.
REDUCTION = 2

#: Stride of the proposer's windows, in pixels of its own images.
PROPOSER_STRIDE = 8

#: Channels of each convolution as multiples of the width, and its stride.
BLOCKS = ((1, 2), (2, 2), (2, 1), (4, 2), (4, 1), (4, 1))


class Proposer(nn.Module):
    """Six convolutions, one convolution as large as a window, and one of 1 x 1.

    Args:
        width: Number of channels of the first convolution.
        input_size: Size (width, height) of the classifier's windows, in pixels; multiples of 32.
        batch_norm: Whether batch norm follows each convolution, for training; see `fold`.

    Attributes:
        window: Size (width, height) of its own windows, in pixels of its own images.
        mean: Mean of R, G and B that is subtracted from its pixels; None if it is that of the classifier. It is set for
            a proposer that was trained with another classifier, and is not part of the classifier's weights file.
        std: Standard deviation of R, G and B by which its pixels are divided; None if it is that of the classifier.
        layers: The convolutions.
    """

    def __init__(self, width: int = 16, input_size: tuple[int, int] = (64, 128), batch_norm: bool = False) -> None:
        super().__init__()
        self.width, self.input_size = width, input_size
        self.mean: tuple[float, float, float] | None = None
        self.std: tuple[float, float, float] | None = None
        self.window = (input_size[0] // REDUCTION, input_size[1] // REDUCTION)
        layers: list[nn.Module] = []
        before = 3
        for multiple, stride in BLOCKS:
            layers += _block(before, multiple * width, 3, stride, 1, batch_norm)
            before = multiple * width
        kernel = (self.window[1] // PROPOSER_STRIDE, self.window[0] // PROPOSER_STRIDE)
        layers += _block(before, before, kernel, 1, 0, batch_norm)
        layers.append(nn.Conv2d(before, 1 + len(OFFSET_UNITS), 1))
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Judge every window of images with a stride of 8 pixels.

        Position [i, j] of the result belongs to the window whose top left corner is at x = 8 j, y = 8 i.

        Args:
            images: Normalised images of half the resolution [N, 3, H, W], at least as large as a window; H and W are
                multiples of 8.

        Returns:
            [N, 4, h, w]: the margin (logit of person minus logit of background), and the offsets in OFFSET_UNITS.
        """
        judged: Tensor = self.layers(images)
        return judged

    def fold(self) -> Proposer:
        """Return a proposer in eval mode without batch norm, which computes the same except for rounding."""
        folded = Proposer(self.width, self.input_size).to(next(self.parameters())).eval()
        modules = list(self.eval().layers)
        targets = iter(m for m in folded.layers if isinstance(m, nn.Conv2d))
        for module, following in zip(modules, [*modules[1:], None], strict=True):
            if isinstance(module, nn.Conv2d):
                fused = fuse_conv_bn_eval(module, following) if isinstance(following, nn.BatchNorm2d) else module
                next(targets).load_state_dict(fused.state_dict())
        return folded


def _block(
    before: int, after: int, kernel: int | tuple[int, int], stride: int, padding: int, batch_norm: bool
) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, padding)
    norm: list[nn.Module] = [nn.BatchNorm2d(after)] if batch_norm else []
    return [convolution, *norm, nn.ReLU(inplace=True)]
