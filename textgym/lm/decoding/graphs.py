"""CUDA graphs of decode steps.

A step of a small model is bound by its kernel launches. Slots have static memory, so a step can be
captured once and replayed as one launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Step: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]


class Graph(Protocol):
    """A captured step."""

    def replay(self) -> None:
        """Run it again on the tensors of the capture."""


Capture: TypeAlias = Callable[[Callable[[], Tensor], torch.device], tuple[Graph, Tensor]]


class StepGraphs:
    """A step that is captured once per live length, and then replayed.

    Args:
        step: Maps tokens ``[B]``, positions ``[B]`` and the live length to hidden states
            ``[B, d]``, on the device alone, with shapes that depend on the live length alone.
        capture: Captures a call on a device. Returns the graph and its result, which is undefined
            before the first replay. By default, a CUDA graph.
    """

    def __init__(
        self,
        step: Step,
        capture: Capture | None = None,
    ) -> None:
        self._step = step
        self._capture = capture or _capture_cuda()
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._graphs: dict[int, tuple[Graph, Tensor]] = {}

    def __call__(self, tokens: Tensor, positions: Tensor, live: int) -> Tensor:
        """Run the step; the next one overwrites the result."""
        if self._inputs is None:
            # Never inference tensors: later calls under no_grad must be able to write to them.
            with torch.inference_mode(False):
                self._inputs = torch.zeros_like(tokens), torch.zeros_like(positions)
        fed, places = self._inputs
        fed.copy_(tokens)
        places.copy_(positions)
        if live not in self._graphs:
            self._graphs[live] = self._capture(lambda: self._step(fed, places, live), fed.device)
        graph, result = self._graphs[live]
        graph.replay()
        return result


class _CudaGraph:
    """A CUDA graph of a device that need not be the current one."""

    def __init__(self, graph: torch.cuda.CUDAGraph, device: torch.device) -> None:
        self._graph = graph
        self._device = device

    def replay(self) -> None:
        """Run it again."""
        with torch.cuda.device(self._device):
            self._graph.replay()


def _capture_cuda() -> Capture:
    """A function that captures CUDA graphs, which share one memory pool."""
    pool: Any = None

    def capture(call: Callable[[], Tensor], device: torch.device) -> tuple[Graph, Tensor]:
        nonlocal pool
        with torch.cuda.device(device):
            # Libraries allocate their workspaces in the first runs, outside of the capture.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    call()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                result = call()
        pool = graph.pool()
        return _CudaGraph(graph, device), result

    return capture
