"""The operations of an explanation as a CUDA graph: started at once instead of one by one."""

from __future__ import annotations

import logging
import threading

import torch
from torch import Tensor

from explain_cnn_ros.explain.vgg.batched.program import Parts, Program

#: Passes before a graph is captured, in which the libraries allocate their workspaces.
WARM_UP = 2


class Runner:
    """Runs a program. On a CUDA device, the first run captures a graph, which later runs replay.

    If capturing fails, the operations are started one by one, with the same results.

    Args:
        program: The program.
        pixels: A window [1, 3, H, W], whose size, data type and device all windows have.
        capture: Whether a graph is captured.
    """

    def __init__(self, program: Program, pixels: Tensor, capture: bool) -> None:
        self._program, self._capture = program, capture
        self._pixels = torch.zeros_like(pixels)
        self._threshold = torch.zeros((), dtype=torch.float64, device=pixels.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._packed: Tensor | None = None
        # A graph has one input and one output, so two threads must not use it at the same time.
        self._lock = threading.Lock()

    def run(self, pixels: Tensor, threshold: float) -> Parts:
        """Explain a window, and download the results. This is the only time that the host waits for the device.

        Args:
            pixels: The window, [1, 3, H, W], values in [0, 255].
            threshold: The decision is "person" if P(person) of the window is at least this.
        """
        with self._lock:
            return self._program.unpack(download(self._packed_results(pixels, threshold)))

    def _packed_results(self, pixels: Tensor, threshold: float) -> Tensor:
        self._pixels.copy_(pixels)
        self._threshold.fill_(threshold)
        if self._capture and self._graph is None:
            self._try_to_capture()
        if self._graph is None or self._packed is None:
            return self._program.compute(self._pixels, self._threshold)
        self._graph.replay()
        return self._packed

    def _try_to_capture(self) -> None:
        self._capture = False
        device = self._pixels.device
        try:
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self._program.compute(self._pixels, self._threshold)
            torch.cuda.current_stream(device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                packed = self._program.compute(self._pixels, self._threshold)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logging.getLogger(__name__).warning(
                "explanations run without a CUDA graph, which is slower, because it could not be captured: %s", error
            )
            return
        self._graph, self._packed = graph, packed


def download(packed: Tensor) -> Tensor:
    """Copy a tensor to the host, and wait for it."""
    return packed.cpu()
