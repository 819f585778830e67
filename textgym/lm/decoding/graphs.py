"""CUDA graphs of decoding steps.

A step of a small model is bound by the launches of its kernels, not by the kernels. Slots have
static memory, so the launches of a step can be recorded once and replayed as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Step: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]


class Graph(Protocol):
    """A recorded step."""

    def replay(self) -> None:
        """Run it again on the tensors that it was recorded with."""


Capture: TypeAlias = Callable[[Callable[[], Tensor], torch.device], tuple[Graph, Tensor]]


class StepGraphs:
    """A step that is recorded once for each live length, and then replayed.

    Args:
        step: From tokens ``[B]``, positions ``[B]`` and the live length to hidden states
            ``[B, d]``: operations on the device alone, whose shapes depend on the live length
            alone.
        capture: How a call without arguments is recorded on a device: how to run it again, and its
            result, which the first replay fills.
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
        """Run the step; the result is overwritten by the next one."""
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
    """A CUDA graph of one device, whichever is the current one."""

    def __init__(self, graph: torch.cuda.CUDAGraph, device: torch.device) -> None:
        self._graph = graph
        self._device = device

    def replay(self) -> None:
        """Run it again."""
        with torch.cuda.device(self._device):
            self._graph.replay()


def _capture_cuda() -> Capture:
    """Recording calls as CUDA graphs, which share their memory: they are replayed one by one."""
    pool: Any = None

    def capture(call: Callable[[], Tensor], device: torch.device) -> tuple[Graph, Tensor]:
        nonlocal pool
        with torch.cuda.device(device):
            # Libraries allocate their workspaces in the first runs, which must not be recorded.
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
