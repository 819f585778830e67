"""Scoring of what was written: log-probabilities and entropies of many decisions at once.

A decision is "this token after that text". All decisions of one text share one forward pass over
the longest of its prefixes (:class:`SequenceBatch`), and the ``[decisions, vocabulary]`` passes run
in pieces that are recomputed in the backward pass, so that they never lie in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from textgym.errors import ModelError
from textgym.lm.model import LanguageModel

# Logits computed at once: 2**23 float32 are 32 MiB, and a few such arrays live at a time.
MAX_LOGITS = 2**23
# A batch is cut where shorter padding saves at least this share of its tokens.
_MIN_SAVING = 0.1


class SequenceBatch(NamedTuple):
    """Decisions on texts that share their prefixes.

    Attributes:
        tokens: ``[R, W]`` integer ids, padded on the right with -1.
        rows: ``[n]``, the text of each decision.
        positions: ``[n]``, where the observation of each decision ends in its text; -1 is the
            empty observation.
    """

    tokens: Tensor
    rows: Tensor
    positions: Tensor

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same on another device."""
        return SequenceBatch(*(tensor.to(device) for tensor in self))


def start_token(lm: LanguageModel) -> int:
    """The token that stands in for an empty text.

    Raises:
        ModelError: If the tokenizer has neither bos nor eos.
    """
    if lm.start_id is None:
        raise ModelError(
            f"a text is empty, and {lm.name!r} has neither a bos nor an eos token to start from; "
            "give every prompt at least one token"
        )
    return lm.start_id


def last_hidden(lm: LanguageModel, tokens: Tensor) -> Tensor:
    """Hidden state after each text, without a cache; differentiable.

    Args:
        lm: The language model.
        tokens: ``[B, L]`` integer ids, padded on the right with -1.

    Returns:
        ``[B, d]``.
    """
    lengths = (tokens >= 0).sum(-1)
    rows = torch.arange(len(tokens), device=tokens.device)
    return sequence_hidden(lm, SequenceBatch(tokens, rows, lengths - 1))


def sequence_hidden(lm: LanguageModel, batch: SequenceBatch) -> Tensor:
    """Hidden state ``[n, d]`` at each decision of a batch; differentiable."""
    tokens, rows, positions = batch
    tokens = tokens.long()
    empty = positions < 0
    if bool(empty.any()):
        # An empty text is the start token alone: one more row, shared by all such decisions.
        start = tokens.new_full((1, max(tokens.shape[1], 1)), -1)
        start[0, 0] = start_token(lm)
        tokens = torch.cat([tokens.view(len(tokens), -1), start]) if tokens.numel() else start
        rows = torch.where(empty, len(tokens) - 1, rows)
        positions = positions.clamp(min=0)
    # Positions beyond the last decision of a row influence nothing.
    used = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    used.scatter_reduce_(0, rows, positions + 1, "amax")
    lengths, order = used.sort(descending=True, stable=True)
    pieces = []
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    ranks = rank[rows]
    for first, stop, width in _cuts(lengths.tolist()):
        chosen = (ranks >= first) & (ranks < stop)
        hidden = lm.hidden(tokens[order[first:stop], :width].clamp(min=0))
        pieces.append((chosen, hidden[ranks[chosen] - first, positions[chosen]]))
    if len(pieces) == 1:
        return pieces[0][1]
    back = torch.cat([chosen.nonzero()[:, 0] for chosen, _ in pieces]).argsort()
    return torch.cat([hidden for _, hidden in pieces])[back]


def _cuts(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """Cut texts, sorted by falling length, into groups that are padded apart: (first, stop, width).

    Halving at the best place until no cut saves enough: short texts don't pay for long ones.
    """
    stack = [(0, sum(1 for length in lengths if length))]
    total = sum(lengths) or 1
    while stack:
        first, stop = stack.pop()
        if first == stop:
            continue
        width = lengths[first]
        saving, cut = max(((stop - at) * (width - lengths[at]), at) for at in range(first, stop))
        if saving < _MIN_SAVING * total:
            yield first, stop, width
        else:
            stack += [(cut, stop), (first, cut)]


def score_actions(lm: LanguageModel, hidden: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each action, and entropy of its distribution; differentiable.

    Args:
        lm: The language model.
        hidden: ``[n, d]`` hidden states.
        actions: ``[n]`` token ids.

    Returns:
        Log-probabilities and entropies in nats, both float32 ``[n]``.
    """

    def piece(hidden: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        result = _LogProbAndEntropy.apply(lm.logits(hidden), actions)  # type: ignore[no-untyped-call]
        return cast(tuple[Tensor, Tensor], result)

    step = max(1, MAX_LOGITS // lm.vocab_size)
    if len(hidden) <= step:
        return piece(hidden, actions)
    run: Callable[..., Any] = piece
    if torch.is_grad_enabled():
        run = _recomputed(piece)
    pieces = [
        run(hidden[at : at + step], actions[at : at + step]) for at in range(0, len(hidden), step)
    ]
    return torch.cat([first for first, _ in pieces]), torch.cat([second for _, second in pieces])


def _recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Tensor) -> Any:
        # Nothing random inside, so the generator's state need not be kept.
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)

    return run


class _LogProbAndEntropy(torch.autograd.Function):
    """Log-softmax at one index, and the entropy, in few passes over the vocabulary.

    With p = softmax(z): d log p_a / dz = onehot(a) - p, and dH / dz = -p (log p + H).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(logits, -1)
        probs = log_probs.exp()
        # 0 * -inf is 0 here: an impossible token adds no entropy.
        entropy = -torch.linalg.vecdot(probs, log_probs.clamp(min=-1e30))
        ctx.save_for_backward(log_probs, actions, entropy)
        return log_probs.gather(1, actions[:, None])[:, 0], entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        log_probs, actions, entropy = ctx.saved_tensors
        grad_log_prob, grad_entropy = grads
        probs = log_probs.exp()
        if bool(grad_entropy.any()):
            slope = (log_probs.clamp(min=-1e30) + entropy[:, None]).mul_(grad_entropy[:, None])
            grad = probs.mul_(slope.add_(grad_log_prob[:, None])).neg_()
        else:
            grad = probs.mul_(-grad_log_prob[:, None])
        grad.scatter_add_(1, actions[:, None], grad_log_prob[:, None])
        return grad, None
