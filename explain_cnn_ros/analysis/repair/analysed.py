"""The analysis whose wrong decisions are repaired, and analyses of recordings that take no part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.analysis.finished import read_results
from explain_cnn_ros.analysis.repair.crops import frames_of
from explain_cnn_ros.analysis.repair.labelled import LabelledWindow, RepairError, labelled_windows
from explain_cnn_ros.analysis.settings import AnalysisSettings


class LabelledAnalysis:
    """An analysis of labelled recordings: its manifest, its windows, and the part of the recordings that was read.

    Args:
        folder: Folder of the analysis.

    Attributes:
        folder: Folder of the analysis.
        manifest: Its manifest.
        causes: The causes of its wrong decisions, as plain values.
        windows: The windows whose label is known.
        settings: Its settings.
        inputs: Its recordings.

    Raises:
        RepairError: No decision has a label, or another version of this package has written the settings.
        ResultsError: There is no analysis with results in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_results(folder)
        self.causes: list[dict[str, Any]] = self.manifest.get("causes", {}).get("causes", [])
        self.windows = labelled_windows(folder, self.causes)
        if not self.windows:
            raise RepairError(f"{folder}: no decision has a label: analyse the recording with labels")
        try:
            self.settings = AnalysisSettings.from_dict(self.manifest["settings"])
        except (LookupError, ValueError) as error:
            raise RepairError(f"{folder}: {error}: run `analyze` again, with another --output") from error
        self.inputs = [Path(path) for path in self.manifest["inputs"]]

    def frames(self, windows: Sequence[LabelledWindow]) -> Iterator[tuple[NDArray[np.uint8], list[LabelledWindow]]]:
        """Yield the frames of windows, uint8 [H, W, 3] RGB, each with its windows."""
        return frames_of(self.inputs, self.settings, windows)
