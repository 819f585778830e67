"""Fluency: the likelihood of a text under a frozen language model. Perplexity as a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch.nn import functional

from textgym.data.messages import reads_texts
from textgym.errors import RewardError
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import MAX_LOGITS
from textgym.rewards.neural.scorer import (
    ModelReward,
    chosen_device,
    encodable,
    length_batches,
    shared,
)
from textgym.tokenization import TINY


@dataclass(frozen=True, eq=False)
class Fluency(ModelReward[LanguageModel]):
    """The log-likelihood of the completion under a frozen causal language model, in nats.

    Prompt and completion are tokenized separately, with the tokenizer of the model. The
    end-of-sequence token is not scored. Texts longer than the model's context are read in sliding
    windows: the beginning of the prompt is dropped first, and each token of the completion is
    scored once, given at least half a context of preceding tokens.

    Range: (-inf, 0], higher is better: 0 means that the model is certain of every token.
    Needs: the prompts, unless ``condition="nothing"``.
    Cost: 3 ms per text of 22 tokens after a prompt of 30 with ``"textgym/tiny"`` on a busy CPU core
    (330 texts/s), 1.3 ms without the prompt.
    Gaming: dull, repeated or copied phrases, which any language model finds likely; with
    ``normalize="total"``, also empty and short texts. An empty completion has no tokens and gets
    None, which a sum of rewards counts as 0, the maximum: set ``empty``, or combine it with
    ``length`` or ``repetition``.

    Args:
        model: A causal language model; see :class:`ModelReward` for it and for the options
            ``device``, ``dtype``, ``batch_tokens`` and ``cache_size``.
        normalize: ``"token"`` for the mean over the completion's tokens, ``"total"`` for the sum.
        condition: ``"prompt"``; or ``"nothing"``: the completion is scored alone, after the start
            token of the model. Without a start token, the first token of a text that nothing
            precedes is not scored.
        empty: The reward of a completion without tokens to score.

    Raises:
        RewardError: If an option is unknown; at the first call, if the model cannot be loaded or is
            not a causal language model.
    """

    model: str = TINY
    normalize: str = "token"
    condition: str = "prompt"
    empty: float | None = None
    name: ClassVar[str] = "fluency"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("normalize", self.normalize, ("token", "total"))
        self._check_choice("condition", self.condition, ("prompt", "nothing"))

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; ``empty`` for a completion without tokens."""
        before = prompts if self.condition == "prompt" else [""] * len(completions)
        scores = self._remembered(
            list(zip(before, completions, strict=True)),
            lambda pairs: log_likelihoods(self._loaded(), pairs, self.batch_tokens),
        )
        per_token = self.normalize == "token"
        return [
            self.empty if not one.tokens else one.total / (one.tokens if per_token else 1)
            for one in scores
        ]

    def _load(self, device: torch.device, dtype: torch.dtype | None) -> LanguageModel:
        return _causal_model(self.model, device, self.dtype)


class Likelihood(NamedTuple):
    """The likelihood of a text under a language model.

    Attributes:
        total: The log-likelihood of its tokens, in nats.
        tokens: Number of scored tokens.
    """

    total: float
    tokens: int


def perplexity(
    texts: Sequence[str],
    lm: str | LanguageModel = TINY,
    prompts: Sequence[str] | None = None,
    *,
    batch_tokens: int = 8192,
) -> float:
    """Return the perplexity of a corpus: ``exp(-log-likelihood of all tokens / tokens)``.

    As usual, it is not the mean of the texts' perplexities: long texts weigh more. Tokens depend on
    the model, so perplexities of different models are not comparable.

    Args:
        texts: N texts.
        lm: A causal language model, or its path or hub id.
        prompts: The prompt that each text continues, which is not scored; None for no prompts.
        batch_tokens: Maximum number of tokens in a forward pass.

    Returns:
        At least 1; lower is better.

    Raises:
        RewardError: If the texts have no tokens, or the model is not a causal language model.
        ModelError: If the model cannot be loaded.
    """
    model = (
        _causal_model(lm, chosen_device("auto"), "auto") if isinstance(lm, str) else _checked(lm)
    )
    before = [""] * len(texts) if prompts is None else prompts
    scores = log_likelihoods(model, list(zip(before, texts, strict=True)), batch_tokens)
    tokens = sum(one.tokens for one in scores)
    if not tokens:
        raise RewardError("perplexity: texts have no token to score; give a non-empty text")
    mean = -math.fsum(one.total for one in scores) / tokens
    return math.exp(mean) if mean < 700 else math.inf


def log_likelihoods(
    lm: LanguageModel, pairs: Sequence[tuple[str, str]], batch_tokens: int
) -> list[Likelihood]:
    """Score texts, each after its prompt.

    Args:
        lm: A causal language model.
        pairs: N pairs of a prompt, which may be empty, and a text.
        batch_tokens: Maximum number of tokens in a forward pass.

    Returns:
        N likelihoods.
    """
    # Row of the text, tokens, and index of the first scored token.
    pieces: list[tuple[int, list[int], int]] = []
    for row, (prompt, text) in enumerate(pairs):
        before = lm.tokenizer.prompt_ids(encodable(prompt))
        if not before and lm.start_id is not None:
            before = [lm.start_id]
        tokens = before + lm.tokenizer.encode_continuation(encodable(text))
        for first, scored, stop in _windows(max(len(before), 1), len(tokens), lm.context_length):
            pieces.append((row, tokens[first:stop], scored - first))
    totals, counts = [0.0] * len(pairs), [0] * len(pairs)
    # The last token of a piece is a target only.
    lengths = [len(tokens) - 1 for _, tokens, _ in pieces]
    for batch in length_batches(lengths, batch_tokens):
        for (row, tokens, scored), total in zip(
            (pieces[i] for i in batch),
            _totals(lm, [pieces[i][1:] for i in batch]),
            strict=True,
        ):
            totals[row] += total
            counts[row] += len(tokens) - scored
    return [Likelihood(*pair) for pair in zip(totals, counts, strict=True)]


def _windows(scored: int, length: int, context: int | None) -> Iterator[tuple[int, int, int]]:
    """Cut the tokens ``scored .. length - 1`` into windows: first token, first scored one, stop."""
    while scored < length:
        stop = length
        if context is not None:
            # A window reads `context` tokens, and scores one more than it reads.
            stop = min(length, max(scored + (context + 1) // 2, context + 1))
        first = 0 if context is None else max(0, stop - 1 - context)
        yield first, scored, stop
        scored = stop


@torch.no_grad()
def _totals(lm: LanguageModel, pieces: list[tuple[list[int], int]]) -> list[float]:
    """Return the log-likelihood of each piece, from its first scored token on."""
    width = max(len(tokens) for tokens, _ in pieces)
    table = torch.tensor(
        [tokens + [-1] * (width - len(tokens)) for tokens, _ in pieces], device=lm.device
    )
    first = torch.tensor([scored for _, scored in pieces], device=lm.device)
    targets = table[:, 1:]
    places = torch.arange(1, width, device=lm.device)
    chosen = (places >= first[:, None]) & (targets >= 0)
    hidden = lm.hidden(table[:, :-1].masked_fill(targets < 0, -1))[chosen]
    wanted = targets[chosen]
    step = max(1, MAX_LOGITS // lm.vocab_size)
    losses = [
        functional.cross_entropy(
            lm.logits(hidden[at : at + step]), wanted[at : at + step], reduction="none"
        )
        for at in range(0, len(wanted), step)
    ]
    totals = torch.zeros(len(pieces), dtype=torch.float64, device=lm.device)
    totals.index_add_(0, chosen.nonzero()[:, 0], torch.cat(losses).double())
    return [min(-total, 0.0) for total in totals.tolist()]


def _causal_model(name: str, device: torch.device, dtype: str) -> LanguageModel:
    return shared(
        "LanguageModel",
        name,
        device,
        dtype,
        lambda: _checked(LanguageModel.load(name, device=device, dtype=dtype)),
    )


def _checked(lm: LanguageModel) -> LanguageModel:
    if lm.seq2seq is not None:
        raise RewardError(
            f"cannot use its model {lm.name!r}, an encoder-decoder; give a causal language model, "
            "such as GPT-2"
        )
    return lm
