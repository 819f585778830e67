"""CUDA graphs of decoding steps.

A step of a small model is bound by the launches of its kernels, not by the kernels. Slots have
static memory, so the launches of a step can be recorded once and replayed as one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class StepGraphs:
    """A step that is captured once for each live length, and then replayed.

    Args:
        step: From tokens ``[B]``, positions ``[B]`` and the live length to hidden states
            ``[B, d]``: operations on the GPU alone, whose shapes depend on the live length alone.
    """

    def __init__(self, step: Callable[[Tensor, Tensor, int], Tensor]) -> None:
        self._step = step
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._pool: Any = None

    def clear(self) -> None:
        """Forget the graphs, because tensors that they read have moved."""
        self._inputs = None
        self._graphs.clear()

    def __call__(self, tokens: Tensor, positions: Tensor, live: int) -> Tensor:
        """Run the step; the result is overwritten by the next one."""
        if self._inputs is None:
            # Never inference tensors: later calls under no_grad must be able to write to them.
            with torch.inference_mode(False):
                self._inputs = torch.zeros_like(tokens), torch.zeros_like(positions)
        for memory, given in zip(self._inputs, (tokens, positions), strict=True):
            memory.copy_(given)
        if live not in self._graphs:
            self._graphs[live] = self._capture(live)
        graph, result = self._graphs[live]
        graph.replay()
        return result

    def _capture(self, live: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        assert self._inputs is not None
        # Libraries allocate their workspaces in the first run, which must not be captured.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step(*self._inputs, live)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Graphs are replayed one after another, so they can share their memory.
        with torch.cuda.graph(graph, pool=self._pool):
            result = self._step(*self._inputs, live)
        self._pool = graph.pool()
        return graph, result
