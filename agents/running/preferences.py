"""The data of a training on preferences, and the scores of its texts.

It has no loss: those are in ``agents/dpo.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.running.judged import Judged, Pairing
from agents.running.lm_agent import initial_model
from agents.running.preference_files import read_judged
from textgym.envs.settings import Settings
from textgym.errors import DataError, SettingsError
from textgym.lm.kl import KLPenalty
from textgym.lm.model import LanguageModel
from textgym.lm.scoring import score_actions, sequence_hidden
from textgym.rewards.preferences.training import batch_at
from textgym.rollouts import Episodes
from textgym.sb3 import LMPolicy

SELF = "self"
"""The source of pairs that the policy writes, and the environment's reward judges."""


class PreferenceData:
    """Judged texts, to learn from and held out, of a file or of the policy.

    Args:
        pairs: The file of pairs, or ``"self"``.
        n_prompts: Without a file, the number of prompts that the policy writes to.
        group_size: Without a file, the number of texts to each prompt.
        pairing: Without a file, the pairs of these texts; see `pairs_in_groups`.
        held_out: Approximate share of the prompts that is held out.
        single: Learn single texts, so that a pair is two of them (KTO).
        margins: Whether the loss knows margins.
        reference_dtype: Dtype of the weights of the reference.
        seed: Seed of the order, and of the texts that single ones are compared with.

    Attributes:
        samples: Whether the policy has texts left to write.
        to_learn: The judgements to learn; None before `open`. Their texts have the
            log-probabilities of the reference as ``extra["reference"]``, as those held out have.
        held_out: The held-out judgements, maybe none; None before `open`.
    """

    def __init__(
        self,
        pairs: str = SELF,
        n_prompts: int = 512,
        group_size: int = 8,
        pairing: Pairing = "best",
        held_out: float = 0.1,
        *,
        single: bool = False,
        margins: bool = True,
        reference_dtype: str = "auto",
        seed: int = 0,
    ) -> None:
        self.to_learn: Judged | None = None
        self.held_out: Judged | None = None
        self.samples = pairs == SELF
        self.group_size = group_size if pairs == SELF else 1
        self._pairs, self._n_prompts, self._pairing = pairs, n_prompts, pairing
        self._share, self._single, self._margins, self._seed = held_out, single, margins, seed
        self._rows = 0  # Texts that the policy has written.
        self._parts: list[Judged] = []
        self._digest, self._reference_dtype = SELF, reference_dtype
        self._kl: KLPenalty | None = None

    def __len__(self) -> int:
        """The number of judgements so far."""
        return sum(map(len, self._parts))

    @property
    def begun(self) -> bool:
        """Whether a training has begun to write texts, or to learn."""
        return self._rows > 0 or self.to_learn is not None

    def read(self, settings: Settings) -> None:
        """Read the file, if there is one that has not been read yet.

        Args:
            settings: The settings of the environment.

        Raises:
            DataError: If it cannot be read; see :func:`read_judged` for all errors.
            SettingsError: If its rows do not go together with the loss.
        """
        if self._pairs == SELF or self._parts:
            return
        judged = read_judged(self._pairs, settings)
        if not self._single and not judged.are_pairs:
            raise SettingsError(
                f"--pairs {self._pairs}: these are single texts with labels, and --loss dpo and "
                "ipo learn from pairs; use --loss kto, or give rows with 'chosen' and 'rejected'"
            )
        if not self._margins and judged.margin.any():
            raise SettingsError(
                f"--pairs {self._pairs}: its pairs have margins, which only --loss dpo knows; use "
                "it, or leave the column 'margin' out"
            )
        self._parts = [judged]

    def take(self, episodes: Episodes, last: bool) -> None:
        """Pair the texts that the policy wrote to some prompts; `last` if there is no time left."""
        self._parts.append(Judged.of_groups(episodes, self.group_size, self._pairing))
        self._rows += len(episodes)
        self.samples = not last and self._rows < self._n_prompts * self.group_size

    def open(self, policy: LMPolicy) -> None:
        """Split the judgements, and score their texts by the reference: the initial model.

        Raises:
            DataError: If there is nothing to learn.
        """
        if not len(self):
            raise DataError(
                f"--pairs {self._pairs}: no text was better than another one to the same prompt; "
                "write more with --n-prompts or --group-size, or give another --reward, or a file "
                "of pairs"
            )
        whole = Judged.concatenate(self._parts)
        sides = (whole.labelled() if self._single else whole).split(self._share)
        # A resumed training loads it again, and its random numbers have to be the same.
        with torch.random.fork_rng(devices=[]):
            initial, dtype = initial_model(policy), self._reference_dtype
            self._kl = KLPenalty(0.0, None, initial, policy.device, dtype)
        self.to_learn, self.held_out = (self._scored(side, policy) for side in sides)

    def _scored(self, judged: Judged, policy: LMPolicy) -> Judged:
        assert self._kl is not None
        if not len(judged):
            return judged
        if self._single:
            judged = judged.with_mismatches(self._seed)
        # The policy's log-probabilities are 0 so far.
        reference = -judged.texts.log_ratios(self._kl, None, policy.lm)
        return replace(judged, texts=judged.texts.with_extra(reference=reference))

    def kl(self, episodes: Episodes, policy: LMPolicy) -> float:
        """The policy's KL divergence from the reference, nats per token, by texts it has written.

        Only after `open`.
        """
        assert self._kl is not None
        return float(episodes.log_ratios(self._kl, policy.sampler, policy.lm).mean())

    def batches(self, size: int) -> int:
        """The number of batches of a size in a pass."""
        assert self.to_learn is not None
        return -(-len(self.to_learn) // size)

    def batch(self, step: int, size: int) -> Judged:
        """The batch of a step, a function of seed and step; each judgement occurs once per pass."""
        assert self.to_learn is not None
        return self.to_learn.select(batch_at(step, len(self.to_learn), size, self._seed))

    def digest(self) -> str:
        """A hash of a file's judgements, once they are read; without a file ``"self"``."""
        if self._pairs != SELF and self._digest == SELF:
            self._digest = self._parts[0].digest()
        return self._digest

    def get_state(self) -> dict[str, Any]:
        """The progress of the sampling, and the pairs so far, for a checkpoint."""
        found: dict[str, Any] = {"samples": self.samples, "rows": self._rows}
        if self._pairs == SELF and self._parts:
            found["pairs"] = Judged.concatenate(self._parts).get_state()
        return found

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self.samples, self._rows = state["samples"], state["rows"]
        self.to_learn = self.held_out = None
        if self._pairs == SELF:
            self._parts = [Judged.of_state(state["pairs"])] if "pairs" in state else []


class Scores(NamedTuple):
    """What a policy says about the texts of some judgements.

    Attributes:
        first: ``[B]``, the log-ratio ``log pi(y|x) - log ref(y|x)`` of the first texts.
        second: ``[B]``, that of the second texts; for single texts without a gradient.
        nll: ``[B]``, the mean negative log-probability of the first texts' tokens, in nats.
        entropy: Mean entropy of the policy's distributions at the tokens, in nats.
        tokens: Number of tokens with a gradient.
    """

    first: Tensor
    second: Tensor
    nll: Tensor
    entropy: float
    tokens: int

    @staticmethod
    def concatenate(parts: list[Scores]) -> Scores:
        """The scores of all parts, of which there is at least one."""
        columns = zip(*((part.first, part.second, part.nll) for part in parts), strict=True)
        first, second, nll = (torch.cat(column) for column in columns)
        tokens = sum(part.tokens for part in parts)
        entropy = sum(part.entropy * part.tokens for part in parts) / tokens
        return Scores(first, second, nll, entropy, tokens)


def score(lm: LanguageModel, judged: Judged, single: bool, per_token: bool) -> Scores:
    """Score the texts of some judgements, in one pass; differentiable.

    The full softmax is taken, whatever the sampling is.

    Args:
        lm: The policy's model.
        judged: The judgements, with the reference's log-probabilities.
        single: Whether single texts are judged.
        per_token: Divide the log-ratio of each text by its number of tokens.
    """
    count = len(judged)
    which = [judged.first] if single else [judged.first, judged.second]
    ratios, nll, entropy, tokens = _score(lm, judged.texts.select(np.concatenate(which)), per_token)
    if single:
        with torch.no_grad():
            second = _score(lm, judged.texts.select(judged.second), per_token)[0]
        return Scores(ratios, second, nll, entropy, tokens)
    return Scores(ratios[:count], ratios[count:], nll[:count], entropy, tokens)


@torch.no_grad()
def score_all(
    lm: LanguageModel, judged: Judged, single: bool, per_token: bool, size: int
) -> Scores:
    """The scores of all judgements, in batches of a size; see `score`."""
    parts = np.split(np.arange(len(judged)), range(size, len(judged), size))
    return Scores.concatenate([score(lm, judged.select(at), single, per_token) for at in parts])


def _score(
    lm: LanguageModel, texts: Episodes, per_token: bool
) -> tuple[Tensor, Tensor, float, int]:
    """Log-ratios and mean negative log-probabilities of texts, mean entropy, number of tokens."""
    batch = texts.to(lm.device)
    assert batch.sequences is not None
    log_probs, entropy = score_actions(lm, sequence_hidden(lm, batch.sequences), batch.actions)
    lengths = torch.from_numpy(batch.lengths).to(lm.device)

    def sums(values: Tensor) -> Tensor:
        return values.new_zeros(len(batch)).index_add(0, batch.owners, values)

    ratios = sums(log_probs - batch.extra["reference"])
    return (
        ratios / lengths if per_token else ratios,
        -sums(log_probs) / lengths,
        float(entropy.detach().mean()),
        len(batch.actions),
    )
