"""Scoring of given texts: log-probabilities and entropies of many decisions at once.

A decision is "this token after that text". All decisions of one text share one forward pass over
the longest of its prefixes (:class:`SequenceBatch`), and the ``[decisions, vocabulary]`` passes run
in pieces that are recomputed in the backward pass, so that they never lie in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from textgym.data.observations import split_observation
from textgym.errors import ModelError, SettingsError
from textgym.lm.model import LanguageModel
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler

# Logits computed at once: 36 MiB of float32, and a few such arrays live at a time. Just above the
# 32 MiB up to which glibc keeps freed memory to itself: below, the heap of a large update is
# fragmented, and grows to several times the memory in use.
MAX_LOGITS = 9 * 2**20
# Log-probabilities kept for the backward pass: 128 MiB. Those beyond are computed twice.
SAVED_LOGITS = 2**25
# So small that its probability is 0.
_IMPOSSIBLE = -1e30
# Elements that go through all elementwise steps together: 1 MiB, which a core's cache holds.
_PIECE = 2**18
# A batch is cut where shorter padding saves at least this share of its tokens.
_MIN_SAVING = 0.1


class SequenceBatch(NamedTuple):
    """Decisions on texts that share their prefixes.

    Attributes:
        tokens: ``[R, W]`` integer ids, padded on the right with -1.
        rows: ``[n]``, the text of each decision.
        positions: ``[n]``, where the observation of each decision ends in its text; -1 is the
            empty observation.
        kept: The set that top-k and top-p kept at each decision; None without either.
        images: ``[R, 3, H, W]`` uint8, the picture before each text; None without pictures.
    """

    tokens: Tensor
    rows: Tensor
    positions: Tensor
    kept: KeptSets | None = None
    images: Tensor | None = None

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same on another device."""
        kept = None if self.kept is None else self.kept.to(device)
        texts = (self.tokens.to(device), self.rows.to(device), self.positions.to(device))
        images = None if self.images is None else self.images.to(device)
        return SequenceBatch(*texts, kept, images)

    def take(self, texts: Tensor, decisions: Tensor) -> SequenceBatch:
        """Some of the texts, and some of the decisions in them.

        Args:
            texts: ``[r]`` int64, the texts, in the order that they are to have.
            decisions: ``[n]`` int64, the decisions, in the order that they are to have. All of them
                are in `texts`.

        Returns:
            The batch, as wide as its longest observation.
        """
        numbers = torch.empty(len(self.tokens), dtype=torch.long, device=self.tokens.device)
        numbers[texts] = torch.arange(len(texts), device=texts.device)
        positions = self.positions[decisions]
        width = int(positions.max()) + 1 if len(positions) else 0
        return SequenceBatch(
            self.tokens[texts, :width],
            numbers[self.rows[decisions]],
            positions,
            None if self.kept is None else self.kept.take(decisions),
            None if self.images is None else self.images[texts],
        )

    def observations(self, first: int, stop: int) -> Tensor:
        """The observations of some decisions ``[stop - first, W]``, padded on the right with -1."""
        texts = self.tokens[self.rows[first:stop]]
        places = torch.arange(texts.shape[1], device=texts.device)
        return texts.masked_fill(places > self.positions[first:stop, None], -1)


def observation_batch(
    tokens: Tensor, kept: KeptSets | None = None, images: Tensor | None = None
) -> SequenceBatch:
    """A decision after each of the texts ``[B, L]``, which are padded on the right with -1."""
    ends = (tokens >= 0).sum(-1) - 1
    rows = torch.arange(len(tokens), device=tokens.device)
    return SequenceBatch(tokens, rows, ends, kept, images)


def as_batch(obs: Tensor | Mapping[str, Tensor] | SequenceBatch) -> SequenceBatch:
    """Observations as a batch of decisions, one after each text."""
    if isinstance(obs, SequenceBatch):
        return obs
    tokens, images = split_observation(obs)
    return observation_batch(tokens, images=images)


def start_token(lm: LanguageModel) -> int:
    """The token that stands in for an empty text.

    Raises:
        ModelError: If the tokenizer has neither bos nor eos, or prompts have to end with eos.
    """
    if lm.seq2seq is not None:
        raise lm.seq2seq.no_end()
    if lm.start_id is None:
        raise ModelError(
            f"a text is empty, and {lm.name!r} has neither a bos nor an eos token to start from; "
            "give every prompt at least one token"
        )
    return lm.start_id


def last_hidden(lm: LanguageModel, tokens: Tensor, images: Tensor | None = None) -> Tensor:
    """Hidden state after each text, without a cache; differentiable.

    Args:
        lm: The language model.
        tokens: ``[B, L]`` integer ids, padded on the right with -1.
        images: ``[B, 3, H, W]`` uint8, the picture before each text.

    Returns:
        ``[B, d]``.
    """
    return sequence_hidden(lm, observation_batch(tokens, images=images))


def sequence_hidden(lm: LanguageModel, batch: SequenceBatch) -> Tensor:
    """Hidden state ``[n, d]`` at each decision of a batch; differentiable."""
    tokens, rows, positions = batch.tokens.long(), batch.rows, batch.positions
    images = batch.images
    empty = positions < 0
    if bool(empty.any()):
        # An empty text is the start token alone: one more row, shared by all such decisions that
        # see the same.
        shared = rows[empty] if images is not None else rows[:1]
        start = tokens.new_full((len(shared), max(tokens.shape[1], 1)), -1)
        start[:, 0] = start_token(lm)
        tokens = torch.cat([tokens.view(len(tokens), -1), start]) if tokens.numel() else start
        added = torch.arange(len(tokens) - len(shared), len(tokens), device=rows.device)
        rows = rows.masked_scatter(empty, added.expand(int(empty.sum())))
        positions = positions.clamp(min=0)
        if images is not None:
            images = torch.cat([images, images[shared]])
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
        some = order[first:stop]
        hidden = lm.hidden(tokens[some, :width], None if images is None else images[some])
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


def score_actions(
    lm: LanguageModel,
    hidden: Tensor,
    actions: Tensor,
    sampler: Sampler | None = None,
    batch: SequenceBatch | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each action, and entropy of its distribution; differentiable.

    Args:
        lm: The language model.
        hidden: ``[n, d]`` hidden states.
        actions: ``[n]`` token ids.
        sampler: How the actions were drawn; None for the full softmax.
        batch: The decisions: their texts, and the sets that were kept when their actions were
            drawn. Only a plain sampler does without.

    Returns:
        Log-probabilities and entropies in nats, both float32 ``[n]``.

    Raises:
        SettingsError: If the actions are not as many as the hidden states, or the sampler has top-k
            or top-p, and the batch lacks the kept sets.
    """
    if len(actions) != len(hidden):
        raise SettingsError(f"{len(actions)} actions for {len(hidden)} observations")
    if sampler is not None and sampler.plain:
        sampler = None
    if sampler is not None:
        assert batch is not None, "processing needs the texts"
        sampler.check_recorded(batch.kept)

    def piece(hidden: Tensor, actions: Tensor, first: int) -> tuple[Tensor, Tensor]:
        logits = lm.logits(hidden)
        if sampler is not None and batch is not None:
            stop = first + len(hidden)
            kept = None
            if batch.kept is not None:
                kept = batch.kept.take(torch.arange(first, stop, device=hidden.device))
            # A finite number: with -inf, the entropy's sum would have to look out for 0 * inf.
            logits = sampler.process(logits, batch.observations(first, stop), kept, _IMPOSSIBLE)
        result = _LogProbAndEntropy.apply(logits, actions)  # type: ignore[no-untyped-call]
        return cast(tuple[Tensor, Tensor], result)

    step = max(1, MAX_LOGITS // lm.vocab_size)
    saved = SAVED_LOGITS // lm.vocab_size if torch.is_grad_enabled() else len(hidden)
    pieces = []
    for first in range(0, len(hidden), step):
        stop = first + step
        run: Callable[..., Any] = piece if first < saved else _recomputed(piece)
        pieces.append(run(hidden[first:stop], actions[first:stop], first))
    if len(pieces) == 1:
        return cast(tuple[Tensor, Tensor], pieces[0])
    return torch.cat([first for first, _ in pieces]), torch.cat([second for _, second in pieces])


def _recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        # Nothing random inside, so the generator's state need not be kept.
        return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)

    return run


class _LogProbAndEntropy(torch.autograd.Function):
    """Log-softmax at one index, and the entropy, in few passes over the vocabulary.

    With p = softmax(z): d log p_a / dz = onehot(a) - p, and dH / dz = -p (log p + H). A few rows go
    through all steps before the next ones do, so that they stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_probs = torch.empty_like(logits)
        entropy = logits.new_empty(len(logits))
        scratch = _scratch(logits)
        for rows in _row_pieces(logits):
            piece = log_probs[rows]
            torch.log_softmax(logits[rows], -1, out=piece)
            probs = torch.exp(piece, out=scratch[: len(piece)])
            torch.linalg.vecdot(probs, piece, out=entropy[rows])
            if bool(entropy[rows].isnan().any()):
                # 0 * -inf is 0 here: an impossible token adds no entropy.
                entropy[rows] = torch.linalg.vecdot(probs, piece.clamp(min=-1e30))
        entropy.neg_()
        ctx.save_for_backward(log_probs, actions, entropy)
        return log_probs.gather(1, actions[:, None])[:, 0], entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            # With create_graph=True. The saved tensors do not depend on the logits for autograd, so
            # derivatives of second order would be silently wrong.
            raise ModelError(
                "evaluate_actions has no derivatives of second order; for those take the "
                "log-probabilities of policy.get_distribution(obs).log_prob(actions)"
            )
        log_probs, actions, entropy = ctx.saved_tensors
        grad_log_prob, grad_entropy = grads
        grad = torch.empty_like(log_probs)
        with_entropy = bool(grad_entropy.any())
        if with_entropy:
            shift = (grad_log_prob + entropy * grad_entropy)[:, None]
            scratch = _scratch(log_probs)
        for rows in _row_pieces(log_probs):
            piece = log_probs[rows]
            probs = torch.exp(piece, out=grad[rows])
            if with_entropy:
                slope = torch.clamp(piece, min=-1e30, out=scratch[: len(piece)])
                slope.mul_(grad_entropy[rows, None]).add_(shift[rows])
                probs.mul_(slope).neg_()
            else:
                probs.mul_(-grad_log_prob[rows, None])
        grad.scatter_add_(1, actions[:, None], grad_log_prob[:, None])
        return grad, None


def _row_pieces(matrix: Tensor) -> Iterator[slice]:
    rows, columns = matrix.shape
    # A GPU is faster with everything at once.
    step = max(rows, 1) if matrix.is_cuda else max(1, _PIECE // columns)
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))


def _scratch(matrix: Tensor) -> Tensor:
    """Memory for the largest of the pieces."""
    rows, columns = matrix.shape
    step = rows if matrix.is_cuda else min(rows, max(1, _PIECE // columns))
    return matrix.new_empty(step, columns)
