"""From the language model's logits to the distribution that tokens are sampled from.

Temperature, repetition penalty, banned and required tokens are functions of the observation, and
are computed again when a text is scored. The support of top-k and top-p depends on the weights, so
it is recorded when a token is sampled, and passed back in when the token is scored.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from textgym.errors import SettingsError
from textgym.lm.sampling.draw import Sampling, sample_tokens
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.tokens import token_ids
from textgym.tokenization import Tokenizer

# Number of candidates that top-p sorts first, and the factor by which it grows.
_FIRST_CANDIDATES = 128
_GROWTH = 8
# Width of the blocks whose maxima are compared first.
_BLOCK = 64


class Sampler:
    """Applies :class:`Sampling` to logits.

    Args:
        settings: The settings.
        tokenizer: The tokenizer of the language model.
        prompt_ends: Whether the text up to the first eos is a prompt that penalties and required
            tokens ignore, as in transformers for encoder-decoders.

    Attributes:
        settings: The settings.
        plain: Whether the settings have no effect.
        truncates: Whether top-k or top-p is on.

    Raises:
        SettingsError: If the settings name unknown tokens, or contradict each other.
    """

    def __init__(self, settings: Sampling, tokenizer: Tokenizer, prompt_ends: bool = False) -> None:
        self.settings = settings
        self.prompt_ends = prompt_ends
        self.banned = token_ids("sampling: banned_tokens", settings.banned_tokens, tokenizer)
        self.required = token_ids("sampling: required_tokens", settings.required_tokens, tokenizer)
        self.eos_id = tokenizer.eos_id
        self.ends = tokenizer.ends
        size = tokenizer.vocab_size
        # Without an effect, they are off.
        self.top_k = None if settings.top_k is None or settings.top_k >= size else settings.top_k
        self.top_p = None if settings.top_p == 1.0 else settings.top_p
        self.truncates = self.top_k is not None or self.top_p is not None
        penalized = settings.repetition_penalty != 1.0
        self.plain = not (
            self.truncates
            or penalized
            or settings.temperature != 1.0
            or self.banned
            or self.required
        )
        _check_tokens(self, tokenizer)

    def sample(
        self, logits: Tensor, texts: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor, KeptSets | None]:
        """Sample one token per row; not differentiable.

        Args:
            logits: The model's logits, float32 ``[n, V]``.
            texts: The observations ``[n, L]``, padded on the right with -1.
            deterministic: Take the likeliest token instead.

        Returns:
            Tokens ``[n]`` (int64), their log-probabilities ``[n]`` (float32), and the support of
            top-k and top-p, or None without them.
        """
        with torch.no_grad():
            if self.plain:
                return *sample_tokens(logits, deterministic), None
            processed = self.process(logits, texts)
            if not self.truncates:
                return *sample_tokens(processed, deterministic), None
            values, candidates, keep = self._truncate(processed)
            # Sample from the candidates, not from the vocabulary.
            places, log_probs = sample_tokens(values.masked_fill_(~keep, -torch.inf), deterministic)
            tokens = candidates.gather(1, places[:, None])[:, 0]
            return tokens, log_probs, KeptSets.of_candidates(candidates, keep, logits.shape[1])

    def process(
        self,
        logits: Tensor,
        texts: Tensor,
        kept: KeptSets | None = None,
        impossible: float = -torch.inf,
    ) -> Tensor:
        """Apply all settings but top-k and top-p; differentiable.

        Args:
            logits: The model's logits, float32 ``[n, V]``.
            texts: The observations ``[n, L]``.
            kept: The support; tokens outside are impossible.
            impossible: The logit of impossible tokens.

        Returns:
            Logits ``[n, V]``, not normalized.
        """
        if self.prompt_ends:
            assert self.eos_id is not None
            ends = texts.eq(self.eos_id)
            count = ends.cumsum(1)
            # Only tokens after the first eos, which ends the prompt.
            texts = texts.masked_fill((count == 0) | ((count == 1) & ends), -1)
        result = _Process.apply(logits, self, texts, kept, impossible)  # type: ignore[no-untyped-call]
        return cast(Tensor, result)

    def kept(self, processed: Tensor) -> KeptSets | None:
        """The support of top-k and top-p for processed logits ``[n, V]``; None without them."""
        if not self.truncates:
            return None
        _, candidates, keep = self._truncate(processed.detach())
        return KeptSets.of_candidates(candidates, keep, processed.shape[1])

    def check_recorded(self, kept: KeptSets | None) -> None:
        """Check that the support is known when tokens are scored.

        Raises:
            SettingsError: If top-k or top-p is on, and `kept` is None.
        """
        if self.truncates and kept is None:
            raise SettingsError(
                "kept=None: with top_k or top_p, tokens are scored on the sets that they were "
                "sampled from; train with rollout_buffer_class=LMRolloutBuffer, or give them: "
                "evaluate_actions(obs, actions, kept=log_probs.decision.kept)"
            )

    def _truncate(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Top-k, then top-p.

        Returns:
            The logits of the likeliest tokens ``[n, K]``, descending; their ids ``[n, K]``; and a
            mask of the kept ones ``[n, K]``.
        """
        if self.top_k is None:
            return self._nucleus(logits)
        values, ids = _likeliest(logits, self.top_k + 1)
        last, next_ = values[:, -2:-1], values[:, -1:]
        values, ids = values[:, :-1], ids[:, :-1]
        if bool(((next_ == last) & (last > -torch.inf)).any()):
            # topk returns an arbitrary subset of those that tie with the last: take all.
            level = (logits >= last).sum(-1).masked_fill_(last[:, 0] == -torch.inf, 0)
            values, ids = logits.topk(max(int(level.max()), self.top_k))
        keep = (values >= last) & (values > -torch.inf)
        if self.top_p is not None:
            probs = torch.softmax(values.masked_fill(~keep, -torch.inf), -1)
            keep &= probs.cumsum(-1) - probs < self.top_p
        keep[:, 0] = True
        return values, ids, keep

    def _nucleus(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Top-p alone, on as many of the likeliest tokens as reach the probability."""
        assert self.top_p is not None
        size = logits.shape[1]
        normalizer = torch.logsumexp(logits, -1, keepdim=True)
        count = min(_FIRST_CANDIDATES, size)
        while True:
            values, ids = _likeliest(logits, count)
            probs = (values - normalizer).exp()
            reached = probs.cumsum(-1)
            if count == size or bool((reached[:, -1] >= self.top_p).all()):
                break
            count = min(_GROWTH * count, size)
        # A token is kept if those before it do not reach the probability.
        keep = (reached - probs < self.top_p) & (values > -torch.inf)
        keep[:, 0] = True
        most = int(keep.sum(-1).max())
        return values[:, :most], ids[:, :most], keep[:, :most]


class _Process(torch.autograd.Function):
    """Repetition penalty, bans and temperature: every logit times a factor, or -inf.

    Penalty and temperature commute, because neither changes the sign of a logit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        sampler: Sampler,
        texts: Tensor,
        kept: KeptSets | None,
        impossible: float,
    ) -> Tensor:
        settings = sampler.settings
        out = logits / settings.temperature
        seen = factor = None
        if settings.repetition_penalty != 1.0 and texts.shape[1]:
            # Padding is replaced by a token of the text: repeated tokens are penalized once.
            some = texts.amax(1, keepdim=True)
            seen = torch.where(texts < 0, some, texts).long()
            empty = some < 0
            seen = seen.clamp(min=0)
            values = out.gather(1, seen)
            penalty = settings.repetition_penalty
            factor = torch.where(values < 0, penalty, 1.0 / penalty).masked_fill_(empty, 1.0)
            out.scatter_(1, seen, values * factor)
        if sampler.banned:
            out[:, list(sampler.banned)] = impossible
        if sampler.required:
            early = torch.zeros(len(texts), dtype=torch.bool, device=texts.device)
            for token in sampler.required:
                early |= ~(texts == token).any(-1)
            for end in sampler.ends:
                out[early, end] = impossible
        if kept is not None:
            out.masked_fill_(~kept.mask(), impossible)
        ctx.temperature = settings.temperature
        ctx.save_for_backward(seen, factor)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        # The incoming gradient of an impossible token is 0, like its probability.
        seen, factor = ctx.saved_tensors
        grad = grads[0] / ctx.temperature
        if seen is not None:
            grad.scatter_(1, seen, grad.gather(1, seen) * factor)
        return grad, None, None, None, None


def _likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest logits of each row, descending, and their ids: both ``[n, count]``.

    They are in the ``count`` blocks with the largest maxima, so that only these are searched.
    """
    rows, size = logits.shape
    blocks = size // _BLOCK
    if 4 * count > blocks:
        return logits.topk(count)
    whole = torch.unflatten(logits[:, : blocks * _BLOCK], 1, (blocks, _BLOCK))
    best = whole.amax(-1).topk(count, sorted=False).indices
    places = (best[..., None] * _BLOCK + torch.arange(_BLOCK, device=logits.device)).flatten(1)
    # The incomplete last block is always searched.
    rest = torch.arange(blocks * _BLOCK, size, device=logits.device).expand(rows, -1)
    places = torch.cat([places, rest], 1)
    values, at = logits.gather(1, places).topk(count)
    return values, places.gather(1, at)


def _check_tokens(sampler: Sampler, tokenizer: Tokenizer) -> None:
    if len(sampler.banned) >= tokenizer.vocab_size:
        raise SettingsError(
            f"sampling: banned_tokens has all {tokenizer.vocab_size} tokens; leave at least one"
        )
    if not sampler.required:
        return
    if not sampler.ends:
        raise SettingsError(
            f"sampling: required_tokens delays eos, but {tokenizer.name!r} has no eos token; "
            "leave it out"
        )
    if {*sampler.ends} & {*sampler.required}:
        raise SettingsError(
            "sampling: required_tokens has eos itself, which could then never be sampled; "
            "leave eos out"
        )
    both = sorted({*sampler.required} & {*sampler.banned})
    if both:
        names = [tokenizer.token(index) for index in both]
        raise SettingsError(
            f"sampling: {names} are both required and banned; remove them from one list"
        )
