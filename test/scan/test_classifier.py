"""Searching a frame with a person classifier."""

from __future__ import annotations

import numpy as np

from explain_cnn_ros.model.windows import crop
from explain_cnn_ros.scan.classifier import PersonClassifier
from explain_cnn_ros.scan.scanning import ScanSettings


class TestScan:
    settings = ScanSettings(person_height_min=48, person_height_max=60, candidates_max=6)

    def test_regions_are_what_the_network_says_of_them(self, vgg11_classifier: PersonClassifier, picture) -> None:
        """The regions are sorted, in pixels of the frame, and each has the probability of its own crop."""
        frame = picture(120, 100)
        regions = vgg11_classifier.scan(frame, self.settings)
        assert 1 <= len(regions) <= 6
        probabilities = [r.probability for r in regions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert len(regions) == 1 or min(probabilities) >= vgg11_classifier.threshold
        crops = [crop(frame, r.x, r.y, r.width, r.height, (32, 64)) for r in regions]
        np.testing.assert_allclose(vgg11_classifier.probability(np.stack(crops)), probabilities, rtol=1e-4, atol=1e-5)
        assert vgg11_classifier.scan(frame, self.settings) == regions

    def test_without_settings_it_uses_the_defaults(self, vgg11_classifier: PersonClassifier, picture) -> None:
        frame = picture(40, 50)
        assert vgg11_classifier.scan(frame) == vgg11_classifier.scan(frame, ScanSettings())
