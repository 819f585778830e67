"""Features of texts: hidden states of a frozen language model.

A reward that is learned from a few hundred judgements cannot train a language model, but it can
train a linear function of what a language model knows. Its features are computed once per text, and
a reward is fitted to them in a fraction of a second
(:mod:`textgym.rewards.preferences.bradley_terry`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from textgym.errors import ModelError
from textgym.lm.model import LanguageModel
from textgym.rewards.neural.scorer import encodable, length_batches
from textgym.tokenization import TINY, Tokenizer

Floats = NDArray[np.float64]

_BATCH_TOKENS = 8192
"""Tokens of a forward pass, including padding."""


class Tokens(NamedTuple):
    """A text as the language model reads it.

    Attributes:
        ids: Token ids of the prompt and the completion.
        prompt: Number of tokens of the prompt.
    """

    ids: list[int]
    prompt: int


class TextFeatures:
    """Hidden states of a frozen language model as features.

    The features of a text are the mean of the last layer's hidden states over the completion, the
    state of its last token, and the logarithm of 1 + its number of tokens: 2 d + 1 numbers for a
    model of width d. The mean describes what is said, the last state how it ends.

    The texts are tokenized here, so that any model can judge the texts of any policy. A prompt that
    does not fit into the model's context keeps its end, a completion its beginning.

    Args:
        lm: The language model: ``"textgym/tiny"``, a folder, or a hub id.
        device: The device; ``"auto"`` uses the GPU if there is one.

    Attributes:
        name: The name of the language model.
        size: Number of features of a text.
        width: Width d of a token's hidden state.

    Raises:
        ModelError: If the model cannot be loaded, or is an encoder-decoder.
    """

    def __init__(self, lm: str = TINY, device: str = "auto") -> None:
        self.name = lm
        self._lm = LanguageModel.load(lm, device)
        if self._lm.seq2seq is not None:
            raise ModelError(
                f"{lm!r} is an encoder-decoder, which does not read prompt and completion as one "
                "text; use a decoder such as GPT-2, Llama or Qwen2"
            )
        self._lm.requires_grad_(False)
        self.width = self._lm.hidden_size
        self.size = 2 * self.width + 1

    def __deepcopy__(self, memo: dict[int, object]) -> TextFeatures:
        """Return the same object: Gymnasium copies the arguments of every environment."""
        return self

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the language model."""
        return self._lm.tokenizer

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Return the features of N texts, float64 ``[N, 2 d + 1]``; those of an empty text are 0.

        The last bits depend on the other texts of a batch. `one_by_one` avoids that.
        """
        features = np.zeros((len(prompts), self.size))
        for row, states in enumerate(self.states(prompts, completions)[1]):
            if len(states):
                features[row] = _pooled(states)
        return features

    def one_by_one(self, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        """Return the features of N texts, ``[N, 2 d + 1]``, each computed in a batch of its own."""
        pairs = zip(prompts, completions, strict=True)
        each = [self([prompt], [completion]) for prompt, completion in pairs]
        return np.concatenate(each) if each else np.zeros((0, self.size))

    def tokens(self, prompt: str, completion: str) -> Tokens:
        """Tokenize a text.

        Raises:
            ModelError: If the prompt is empty and the model has no token that begins a text.
        """
        words = self._lm.tokenizer
        before = words.prompt_ids(encodable(prompt)) or self._begin()
        ids = words.encode_continuation(encodable(completion))
        limit = self._lm.context_length
        if limit is not None:
            ids = ids[: limit - 1]
            before = before[-(limit - len(ids)) :]
        return Tokens([*before, *ids], len(before))

    def ends(self, text: Tokens) -> NDArray[np.int64]:
        """Return where each token of the completion ends, in characters of it, ``[n]``."""
        ids, prompt = text
        return character_ends(self._lm.tokenizer, ids[prompt:], ids[:prompt])

    def states(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[list[Tokens], list[NDArray[np.float32]]]:
        """Return the tokens of N texts, and the hidden states of their completions.

        Returns:
            N tokenized texts, and N arrays ``[n, d]``. The state of a token depends on it and on
            the text before it alone.
        """
        found: list[NDArray[np.float32]] = [np.zeros((0, self.width), np.float32)] * len(prompts)
        texts = [self.tokens(*pair) for pair in zip(prompts, completions, strict=True)]
        for rows, states in self._run(texts):
            for row, state in zip(rows, states, strict=True):
                found[row] = state
        return texts, found

    def _run(
        self, texts: Sequence[Tokens]
    ) -> Iterator[tuple[list[int], list[NDArray[np.float32]]]]:
        """The hidden states of completions that are not empty, in batches: rows, and states."""
        rows = [row for row, text in enumerate(texts) if len(text.ids) > text.prompt]
        for batch in length_batches([len(texts[row].ids) for row in rows], _BATCH_TOKENS):
            chosen = [rows[at] for at in batch]
            yield chosen, self._forward([texts[row] for row in chosen])

    @torch.no_grad()
    def _forward(self, texts: Sequence[Tokens]) -> list[NDArray[np.float32]]:
        """The hidden states ``[n, d]`` of the completions of a batch."""
        longest = max(len(text.ids) for text in texts)
        tokens = torch.full((len(texts), longest), -1, dtype=torch.long)
        for row, text in enumerate(texts):
            tokens[row, : len(text.ids)] = torch.tensor(text.ids)
        hidden = self._lm.hidden(tokens.to(self._lm.device)).float().cpu().numpy()
        return [hidden[row, text.prompt : len(text.ids)].copy() for row, text in enumerate(texts)]

    def _begin(self) -> list[int]:
        """The token that replaces an empty prompt."""
        if self._lm.start_id is None:
            raise ModelError(
                f"a prompt is empty, and {self.name!r} has neither a bos nor an eos token to start "
                "from; give every prompt at least one character"
            )
        return [self._lm.start_id]


def character_ends(
    tokenizer: Tokenizer, ids: Sequence[int], before: Sequence[int]
) -> NDArray[np.int64]:
    """Return where each token ends in the text that the tokens add to preceding ones.

    Args:
        tokenizer: The tokenizer.
        ids: Token ids of the text, n numbers.
        before: Token ids that precede it.

    Returns:
        ``[n]`` int64, in characters, never decreasing. The tokens of one character that consists of
        several (bytes of an emoji) all end behind it or before the next one.
    """
    whole = len(tokenizer.continuation(ids, before)) if len(ids) else 0
    lengths = [len(tokenizer.continuation(ids[:stop], before)) for stop in range(1, len(ids))]
    ends = np.minimum(np.array([*lengths, whole][: len(ids)], dtype=np.int64), whole)
    return np.maximum.accumulate(ends) if len(ends) else ends


def _pooled(states: NDArray[np.float32]) -> Floats:
    """The features of a completion from the states ``[n, d]`` of its tokens, n > 0."""
    parts = (states.mean(axis=0, dtype=np.float64), states[-1], [np.log1p(len(states))])
    return np.concatenate(parts, dtype=np.float64)
