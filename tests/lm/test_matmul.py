"""Products with wide matrices are those of torch, whichever library computes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from textgym.lm import LanguageModel, matmul


@pytest.fixture(autouse=True)
def _onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor is, and for small matrices too."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(matmul, "_prefers_onednn", lambda: True)
    monkeypatch.setattr(matmul, "_LARGE", 0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (1,)])
def test_results_and_gradients_are_those_of_linear(shape: tuple[int, ...], bias: bool) -> None:
    results = []
    for function in (functional.linear, matmul.linear):
        torch.manual_seed(0)
        x = torch.randn(*shape, 8, requires_grad=True)
        weight = torch.randn(40, 8, requires_grad=True)
        offset = torch.randn(40, requires_grad=True) if bias else None
        out = function(x, weight, offset)
        inputs = [x, weight] if offset is None else [x, weight, offset]
        first = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(one.square().sum() for one in first), inputs)
        results.append((out, *first, *second))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(16, 16), torch.zeros(40, 8, dtype=torch.float64),
     torch.zeros(40, 8, dtype=torch.bfloat16)],
    ids=["square", "float64", "bfloat16"],
)  # fmt: skip
def test_other_matrices_are_left_to_torch(weight: torch.Tensor) -> None:
    x = torch.ones(3, weight.shape[1], dtype=weight.dtype, requires_grad=True)
    out = matmul.linear(x, weight)
    assert out.dtype == weight.dtype
    assert out.grad_fn.name() == functional.linear(x, weight).grad_fn.name()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_has_the_logits_of_transformers(checkpoint: Callable[..., str], kind: str) -> None:
    lm = LanguageModel.load(checkpoint(kind), device="cpu")
    tokens = torch.tensor([[1, 2, 3, 4]])
    expected = lm.model(tokens).logits
    torch.testing.assert_close(lm.logits(lm.hidden(tokens)), expected, atol=1e-5, rtol=1e-5)
