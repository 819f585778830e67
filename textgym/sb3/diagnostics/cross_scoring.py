"""Scores of every response of a batch after every prompt of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from textgym.data.observations import split_observation
from textgym.lm.model import LanguageModel
from textgym.lm.sampling.processing import Sampler
from textgym.lm.scoring import SequenceBatch, score_actions, sequence_hidden
from textgym.tokenization import Tokenizer

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Text:
    """A prompt and the response that was written to it.

    Attributes:
        prompt: Token ids ``[p]``.
        response: Token ids ``[n]``; in a conversation, of the agent's first turn.
        image: ``[3, H, W]`` uint8, the picture before the prompt, if there is one.
    """

    prompt: Ids
    response: Ids
    image: NDArray[np.uint8] | None = None

    @property
    def key(self) -> bytes:
        """The same for texts with the same prompt and picture."""
        return self.prompt.tobytes() + (b"" if self.image is None else self.image.tobytes())


def prompt_key(info: Mapping[str, Any]) -> str:
    """A short key of an episode's prompt, picture included, from the info of its last step."""
    digest = hashlib.blake2b(repr(info.get("prompt")).encode(), digest_size=8)
    final = info.get("terminal_observation")
    if isinstance(final, Mapping) and "image" in final:
        digest.update(np.ascontiguousarray(final["image"]).tobytes())
    return digest.hexdigest()


def text_of(info: Mapping[str, Any], tokenizer: Tokenizer) -> Text | None:
    """The text of an episode, from the info of its last step; None if it has no response.

    The tokens are those of the last observation. Where observations are not texts (proposals, say),
    and for the first turn of a conversation, the text is tokenized again: as a text to be scored it
    serves as well.

    Args:
        info: The info, as :class:`textgym.sb3.TextVecEnv` returns it.
        tokenizer: The environment's tokenizer.
    """
    if "response" not in info:
        return None
    final, image = info.get("terminal_observation"), None
    if isinstance(final, Mapping) and "tokens" not in final:
        final = None
    if final is not None and "prompt_tokens" in info:
        tokens, image = split_observation(final)
        tokens, size = tokens[tokens >= 0], int(info["prompt_tokens"])
        prompt, response = tokens[:size], tokens[size:]
        if info.get("replies"):
            response = _encoded(tokenizer, info["turns"][0], ends=True)
    elif final is None and isinstance(info.get("prompt"), str):
        prompt = tokenizer.prompt_ids(info["prompt"])
        text = info["turns"][0] if info.get("turns") else info["response"]
        response = _encoded(tokenizer, text, ends=info.get("finish_reason") == "eos")
    else:
        return None
    if not len(response):
        return None
    return Text(np.array(prompt, np.int32), np.array(response, np.int32), image)


def distinct(texts: Sequence[Text], count: int) -> list[Text]:
    """Up to `count` texts with different prompts, at equal distances in the order of the prompts.

    Texts are in the order in which they ended, so neighbours have similar lengths, and the first
    response to a prompt is its shortest one. Therefore prompts are taken at equal distances, and of
    the k-th of them the k-th response, counted in a circle.
    """
    by_prompt: dict[bytes, list[Text]] = {}
    for text in texts:
        by_prompt.setdefault(text.key, []).append(text)
    groups = list(by_prompt.values())
    if len(groups) > count:
        groups = [groups[at * len(groups) // count] for at in range(count)]
    return [group[at % len(group)] for at, group in enumerate(groups)]


class Scores(NamedTuple):
    """The scores of all pairs of prompts and responses.

    Attributes:
        log_probs: ``[M, M]``, in row i and column j that of response i after prompt j, in nats.
        tokens: Number of tokens that the model has read.
    """

    log_probs: NDArray[np.float64]
    tokens: int


@torch.no_grad()
def cross_scores(
    lm: LanguageModel, texts: Sequence[Text], width: int, sampler: Sampler | None = None
) -> Scores:
    """Log-probability of each response after each prompt.

    A prompt is read once for all responses if the model has a key/value cache, and M times if not.
    Nothing is drawn, and the policy's own cache is not used, so that a training is the same with
    and without it.

    Args:
        lm: The language model.
        texts: M texts.
        width: Longest text of the environment; responses are cut off behind it.
        sampler: How tokens are sampled, without top-k and top-p; None for the full softmax.
    """
    room = max(1, width - max(len(text.prompt) for text in texts))
    responses = [torch.from_numpy(text.response[:room].copy()) for text in texts]
    counts = torch.tensor([len(response) for response in responses])
    actions = torch.cat(responses).long().to(lm.device)
    rows = torch.arange(len(texts)).repeat_interleave(counts)
    steps = torch.cat([torch.arange(int(count)) for count in counts])
    columns, read = [], 0
    for text in texts:
        prompt = torch.from_numpy(text.prompt)
        tokens = _padded([torch.cat([prompt, response]) for response in responses])
        images = None
        if text.image is not None:
            images = torch.from_numpy(text.image.copy()).expand(len(texts), -1, -1, -1)
        batch = SequenceBatch(tokens, rows, steps + len(prompt) - 1, None, images).to(lm.device)
        hidden = None
        if images is None:
            hidden = _hidden_behind(lm, prompt.to(lm.device), _padded(responses).to(lm.device))
        if hidden is None:
            hidden = sequence_hidden(lm, batch)
            read += tokens.numel()
        else:
            hidden = hidden[rows, steps]
            read += len(prompt) + len(responses) * int(counts.max())
        log_probs, _ = score_actions(lm, hidden, actions, sampler, batch)
        columns.append(_sums(log_probs, rows, len(texts)))
    return Scores(torch.stack(columns, 1).numpy(), read)


def _hidden_behind(lm: LanguageModel, prompt: Tensor, responses: Tensor) -> Tensor | None:
    """The hidden states from which the tokens of responses behind one prompt are drawn.

    Args:
        lm: The language model.
        prompt: ``[p]`` token ids.
        responses: ``[M, n]`` token ids, padded on the right with -1.

    Returns:
        ``[M, n, d]``; None if the prompt is empty, or the model has no key/value cache that can be
        shared (an encoder-decoder, a recurrent model).
    """
    if lm.seq2seq is not None or not len(prompt):
        return None
    with lm.autocast():
        first = lm.body(input_ids=prompt.long()[None], use_cache=True)
        cache = getattr(first, "past_key_values", None)
        if not isinstance(cache, DynamicCache) or not all(
            isinstance(layer, DynamicLayer) for layer in cache.layers
        ):
            return None
        states = [first.last_hidden_state[:, -1:].expand(len(responses), -1, -1)]
        if responses.shape[1] > 1:
            cache.batch_repeat_interleave(len(responses))
            tokens = responses[:, :-1].long().clamp(min=0)
            rest = lm.body(input_ids=tokens, past_key_values=cache, use_cache=True)
            states.append(rest.last_hidden_state)
    return torch.cat(states, 1)


def _padded(texts: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=-1)


def _sums(log_probs: Tensor, rows: Tensor, count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64).index_add_(0, rows, log_probs.double().cpu())


def _encoded(tokenizer: Tokenizer, text: str, ends: bool) -> list[int]:
    ids = tokenizer.encode_continuation(text)
    return [*ids, tokenizer.eos_id] if ends and tokenizer.eos_id is not None else ids
