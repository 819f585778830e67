"""Judged texts as token ids, the data of agents that learn from preferences.

Texts are those of an environment: the prompt is tokenized and truncated as the environment does it,
and the actions are the tokens that an agent would write, eos included. They are read from files
(:mod:`agents.running.preference_files`), or written by a policy and judged by the environment's
reward (:meth:`Judged.of_groups`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.data.rows import prompt_hash
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts import Episodes

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Pairing = Literal["best", "all"]


@dataclass(frozen=True)
class Judged:
    """Judgements of texts, n in all: of pairs, or of single texts.

    Attributes:
        texts: The texts, m in all.
        first: ``[n]``, the text that is judged: the chosen one of a pair.
        second: ``[n]``, the text that it is compared with: the rejected one of a pair. For single
            texts -1, until `with_mismatches` adds a text of another prompt.
        target: ``[n]``, the share of judges who prefer the first text, or find it desirable.
        margin: ``[n]``, the least desired difference of the rewards of a pair.
        weight: ``[n]``, the weight of the judgement in the loss, above 0.
        keys: ``[n]``, a hash of the prompt; see `key_of`.
    """

    texts: Episodes
    first: Ints
    second: Ints
    target: Floats
    margin: Floats
    weight: Floats
    keys: Ints

    def __len__(self) -> int:
        """The number of judgements n."""
        return len(self.first)

    @property
    def are_pairs(self) -> bool:
        """Whether pairs are judged, rather than single texts."""
        return bool((self.second >= 0).all())

    @staticmethod
    def of_groups(episodes: Episodes, group_size: int, pairing: Pairing) -> Judged:
        """Pairs of the responses to each prompt, of which the one with more reward is chosen.

        Args:
            episodes: The responses; each `group_size` neighbours share their prompt.
            group_size: The number of responses to a prompt, G.
            pairing: See :func:`pairs_in_groups`.
        """
        first, second = pairs_in_groups(episodes.returns.reshape(-1, group_size), pairing)
        prompts, responses = episodes.prompts, episodes.responses
        both = zip(first.tolist(), second.tolist(), strict=True)
        keys = np.array([key_of(prompts[i], (responses[i], responses[j])) for i, j in both])
        keys = keys.astype(np.int64)
        ones = np.ones(len(first), np.float32)
        judged = Judged(episodes, first, second, ones, 0 * ones, ones, keys).compact()
        texts, sequences = judged.texts, judged.texts.sequences
        assert sequences is not None
        # The full softmax is learned, whatever top-k and top-p have left out.
        sequences = sequences._replace(kept=None)
        return replace(judged, texts=bare_texts(texts.lengths, texts.actions, sequences))

    @staticmethod
    def concatenate(parts: Sequence[Judged]) -> Judged:
        """The judgements of all parts, of which there is at least one."""
        shifts = np.cumsum([0, *(len(part.texts) for part in parts)]).tolist()
        moved = [
            replace(part, first=part.first + shift, second=part.second + shift)
            for part, shift in zip(parts, shifts, strict=False)
        ]
        columns = {
            name: np.concatenate([getattr(part, name) for part in moved]) for name in _COLUMNS
        }
        return Judged(Episodes.concatenate([part.texts for part in parts]), **columns)

    def select(self, which: Ints | NDArray[np.bool_]) -> Judged:
        """Some of the judgements, with the texts of all."""
        return replace(self, **{name: getattr(self, name)[which] for name in _COLUMNS})

    def compact(self) -> Judged:
        """The same without texts that nothing is said about."""
        both = np.concatenate([self.first, self.second])
        used, numbers = np.unique(both[both >= 0], return_inverse=True)
        renamed = both.copy()
        renamed[both >= 0] = numbers
        first, second = np.split(renamed, 2)
        return replace(self, texts=self.texts.select(used), first=first, second=second)

    def split(self, held_out: float) -> tuple[Judged, Judged]:
        """Split by a hash of the prompt, as :func:`textgym.rewards.preferences.pairs.split_pairs`.

        Args:
            held_out: Approximate share of held-out prompts.

        Returns:
            Judgements to learn from, and held-out ones: maybe none, as with a single prompt.
        """
        out = self.keys < held_out * 2**32
        out &= not out.all()
        return self.select(~out).compact(), self.select(out).compact()

    def labelled(self) -> Judged:
        """The two texts of each pair as single texts: the first is as desirable as preferred."""
        if not self.are_pairs:
            return self
        alone = replace(self, second=np.full(len(self), -1, np.int64))
        other = replace(alone, first=self.second, target=1 - self.target)
        columns = {
            name: np.concatenate([getattr(alone, name), getattr(other, name)]) for name in _COLUMNS
        }
        return Judged(self.texts, **columns)

    def with_mismatches(self, seed: int) -> Judged:
        """Give each single text a second one: its prompt with the response of another prompt.

        Each response is used once, and prompts differ where no prompt has more than half of the
        texts.

        Args:
            seed: Seed of the choice.
        """
        if not len(self):
            return self
        partners = self.first[_partners(self.keys, np.random.default_rng(seed))]
        mixed = recombine(self.texts, self.first, partners)
        second = np.arange(len(self.texts), len(self.texts) + len(self))
        return replace(self, texts=Episodes.concatenate([self.texts, mixed]), second=second)

    def get_state(self) -> dict[str, Any]:
        """The judgements and their texts as arrays and tensors, for a checkpoint."""
        sequences = self.texts.sequences
        assert sequences is not None
        texts = {name: getattr(sequences, name) for name in ("tokens", "rows", "positions")}
        texts |= {"lengths": self.texts.lengths, "actions": self.texts.actions}
        return {
            **texts,
            "images": sequences.images,
            **{name: getattr(self, name) for name in _COLUMNS},
        }

    @staticmethod
    def of_state(state: Mapping[str, Any]) -> Judged:
        """The judgements of `get_state`."""
        tokens, rows, positions = (state[name] for name in ("tokens", "rows", "positions"))
        sequences = SequenceBatch(tokens, rows, positions, images=state["images"])
        texts = bare_texts(state["lengths"], state["actions"], sequences)
        return Judged(texts, **{name: state[name] for name in _COLUMNS})

    def digest(self) -> str:
        """A hash of all, by which a resumed training knows its data."""
        found = hashlib.sha256()
        for name, value in self.get_state().items():
            if value is not None:
                array = np.ascontiguousarray(value)
                found.update(f"{name} {array.dtype} {array.shape}".encode())
                found.update(array.tobytes())
        return found.hexdigest()[:16]


_COLUMNS = tuple(one.name for one in fields(Judged) if one.name != "texts")


def key_of(prompt: str, texts: Iterable[str]) -> int:
    """The hash by which judgements are split: of the prompt, or of the texts if it is empty."""
    return prompt_hash(prompt or "\0".join(sorted(texts)))


def pairs_in_groups(returns: NDArray[np.float64], pairing: Pairing) -> tuple[Ints, Ints]:
    """Pairs of texts of the same group, the better one first.

    Args:
        returns: ``[P, G]``, of G texts to each of P prompts.
        pairing: ``"best"``: the best with the worst text of each group, the first ones of equals;
            ``"all"``: all pairs of a group. Equally good texts are not a pair.

    Returns:
        The numbers of the better and of the worse texts, in ``returns.flatten()``.
    """
    groups, size = returns.shape
    if pairing == "all":
        group, better, worse = np.nonzero(returns[:, :, None] > returns[:, None, :])
        return group * size + better, group * size + worse
    starts = size * np.arange(groups)
    better, worse = starts + returns.argmax(1), starts + returns.argmin(1)
    differ = returns.max(1) > returns.min(1)
    return better[differ], worse[differ]


def recombine(texts: Episodes, prompts: Ints, responses: Ints) -> Episodes:
    """New texts: the prompt of one text, and the response of another one.

    Args:
        texts: Texts whose observations only grow.
        prompts: ``[k]``, the texts that give the prompts, and the pictures before them.
        responses: ``[k]``, the texts that give the responses: what follows their prompts.
    """
    sequences = texts.sequences
    assert sequences is not None
    ends = texts.lengths.cumsum()
    starts = ends - texts.lengths
    rows, positions = sequences.rows.numpy(), sequences.positions.numpy()
    tokens = sequences.tokens.numpy()
    sizes = positions[starts] + 1  # Of the prompts.
    parts = []
    for prompt, response in zip(prompts.tolist(), responses.tolist(), strict=True):
        head = tokens[rows[starts[prompt]], : sizes[prompt]]
        tail = tokens[rows[starts[response]], sizes[response] : positions[ends[response] - 1] + 1]
        parts.append(np.concatenate([head, tail]))
    chosen = texts.select(responses)
    assert chosen.sequences is not None
    shifts = torch.from_numpy((sizes[prompts] - sizes[responses]).repeat(chosen.lengths))
    images = None
    if sequences.images is not None:
        images = sequences.images[sequences.rows[torch.from_numpy(starts[prompts])]]
    mixed = SequenceBatch(
        padded(parts), chosen.owners, chosen.sequences.positions + shifts, images=images
    )
    return bare_texts(chosen.lengths, chosen.actions, mixed)


def padded(texts: Sequence[Sequence[int] | NDArray[Any]]) -> Tensor:
    """Token ids of texts, int32 ``[m, W]``, padded on the right with -1."""
    tokens = np.full((len(texts), max(map(len, texts), default=0)), -1, np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return torch.from_numpy(tokens)


def bare_texts(lengths: Ints, actions: Tensor, sequences: SequenceBatch) -> Episodes:
    """Episodes of which only the texts are known; log-probabilities are 0."""
    nothing = torch.zeros(len(actions))
    return Episodes(
        lengths,
        actions,
        nothing.numpy(),
        ("",) * len(lengths),
        ({},) * len(lengths),
        nothing.double().numpy(),
        sequences,
        nothing,
        nothing,
    )


def _partners(keys: Ints, rng: np.random.Generator) -> Ints:
    """For each text another one, by a shift of a random order in which prompts are together."""
    order = rng.permutation(len(keys))
    order = order[keys[order].argsort(kind="stable")]
    largest = int(np.unique(keys, return_counts=True)[1].max())
    partners = np.empty_like(order)
    partners[order] = np.roll(order, min(largest, len(keys) - 1))
    return partners
