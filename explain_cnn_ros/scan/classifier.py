"""The person classifier: a window classifier that also searches whole frames."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.classifier import WindowClassifier
from explain_cnn_ros.model.windows import Region, check_image
from explain_cnn_ros.scan.on_device import DeviceSearch
from explain_cnn_ros.scan.scanning import ScanSettings, scan


class PersonClassifier(WindowClassifier):
    """Finds persons in frames of any size. See `WindowClassifier` for the other attributes.

    Attributes:
        search_on_device: Whether `scan` does everything in few large operations on the device of the network. It is for
            GPUs, and was not tried on one yet. The results are the same, except for rounding. Networks of torchvision
            do not support it.
    """

    search_on_device = False

    def scan(
        self, frame: NDArray[np.uint8], settings: ScanSettings | None = None, threshold: float | None = None
    ) -> list[Region]:
        """Search a frame for persons.

        Args:
            frame: uint8 [H, W, 3] RGB.
            settings: Settings of the search; None for the defaults.
            threshold: Regions below this P(person) are left out; None for the threshold of the weights.

        Returns:
            The regions in pixels of the frame, best first. The best region is always there, even if it is below the
            threshold.

        Raises:
            ValueError: The frame has another type or shape, or no pixels; or the network cannot search as the settings
                or `search_on_device` demand.
        """
        check_image(frame)
        search = self._device_search.scan if self.search_on_device else functools.partial(scan, self)
        return search(frame, settings or ScanSettings(), self.threshold if threshold is None else threshold)

    @functools.cached_property
    def _device_search(self) -> DeviceSearch:
        return DeviceSearch(self)
