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


class StepGraphs:
    """A step that is recorded once for each live length, and then replayed.

    Args:
        step: From tokens ``[B]``, positions ``[B]`` and the live length to hidden states
            ``[B, d]``: operations on the device alone, whose shapes depend on the live length
            alone.
        capture: How a call without arguments is recorded: its result, and how to run it again.
    """

    def __init__(
        self,
        step: Step,
        capture: Callable[[Callable[[], Tensor]], tuple[Graph, Tensor]] | None = None,
    ) -> None:
        self._step = step
        self._capture = capture or CudaCapture()
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
            self._graphs[live] = self._capture(lambda: self._step(fed, places, live))
        graph, result = self._graphs[live]
        graph.replay()
        return result


class CudaCapture:
    """Records calls as CUDA graphs, which share their memory: they are replayed one by one."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, call: Callable[[], Tensor]) -> tuple[Graph, Tensor]:
        """Record a call; its result is filled by the first replay."""
        # Libraries allocate their workspaces in the first runs, which must not be recorded.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = call()
        self._pool = graph.pool()
        return graph, result
