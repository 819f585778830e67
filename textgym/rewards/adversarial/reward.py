"""An adversarial reward: a discriminator that learns, while the policy does, to tell it apart.

A generative adversarial network for text in which the generator is trained by reinforcement
learning, as in SeqGAN (Yu et al. 2017, https://arxiv.org/abs/1609.05473). Here it is a reward
function like others, so that any algorithm can be the generator's::

    reward = Adversarial(label_smoothing=0.1)
    venv = make_vec_env("TextGen/Story-v0", n_envs=128, reward=reward)
    PPO(LMPolicy, venv, ...).learn(200_000)
    print(reward.stats)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.data.messages import reads_texts
from textgym.errors import RewardError
from textgym.rewards.adversarial.discriminator import Discriminator, Shape
from textgym.rewards.adversarial.state import State, read_state, write_state
from textgym.rewards.adversarial.texts import Reading, RealSpec, RealTexts, real_texts
from textgym.tokenization import Tokenizer, TokenizerSpec, load_tokenizer

# Streams of random numbers, told apart by the second word of their seed; the discriminator's are
# below.
_REALS, _BATCHES = range(10, 12)

# Passes over the texts of a warm-up by hand.
_PASSES = 3

# What options have to be.
_LEAST = {"batch_size": 2, "highway": 0, "warm_up_texts": 0, "seed": 0} | dict.fromkeys(
    ("max_tokens", "embedding", "filters", "update_every", "updates", "buffer_size", "window"), 1
)
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "bound": ("above 0 and finite", lambda value: 0 < value < math.inf),
    "learning_rate": ("above 0 and finite", lambda value: 0 < value < math.inf),
    "weight_decay": ("0 or more, and finite", lambda value: 0 <= value < math.inf),
    "dropout": ("at least 0 and below 1", lambda value: 0 <= value < 1),
    "label_smoothing": ("at least 0 and below 0.5", lambda value: 0 <= value < 0.5),
    "fresh": ("from 0 to 1", lambda value: 0 <= value <= 1),
}


@dataclass(frozen=True, eq=False)
class Adversarial:
    """How real a discriminator finds a text, which learns from these very texts (SeqGAN).

    Each call (1) scores the batch with the discriminator as it is, so that all rewards of a call
    are of one discriminator; (2) puts the completions, and as many real texts, into replay buffers;
    (3) takes `updates` gradient steps for every `update_every` completions since the last ones.
    So the reward is not stationary: it falls while the discriminator learns faster than the policy,
    what a text gets depends on when it is asked, and the steps of one rollout may be judged by
    several discriminators. ``freeze()`` before an evaluation: then calls change nothing. The reward
    of an environment for evaluation should be another one, or frozen.

    The first `warm_up_texts` completions get None, which an environment counts as 0, while the
    discriminator learns from them; `warm_up` does without.

    Range: ``"probability"``: [0, 1]; ``"logit"``: [-bound, bound]. Higher is better. With the best
    discriminator, a policy that writes as the references are written gets (1 - s) / 2 on average,
    or log((1 - s) / (1 + s)), where s is `label_smoothing`.
    Needs: references to imitate (the column ``column``, or ``real``); no other model.
    Cost: 0.3 ms a text of 20 tokens on one CPU core to score it, as much for a real one beside it,
    and 2.4 ms for learning with the default settings. It grows with the length, the prompt's too
    with `condition`, and learning with the vocabulary.
    Gaming: the network looks at phrases no longer than its widest filter, and at whether a phrase
    is there, not where or how often: texts that contradict themselves over a distance pass. One
    good text for every prompt is worth as much as many until the discriminator has learned that it
    is always the same. A penalty on the KL to the initial model holds against both.

    State: it pickles as its specification; what was learned does not travel, and a copy in another
    process learns by itself (pickling says so with a warning). ``copy.deepcopy`` returns the same
    object. `save` and `load` keep everything, so that training goes on exactly as it would have.
    Everything random is drawn from the seed: equal calls give equal rewards (on a GPU up to
    rounding).

    Args:
        real: Where real texts come from: None for the references of each batch; a list of strings,
            or of rows with `column`; a .jsonl, .csv, .parquet or .txt file of such; a Task or its
            id, whose right answers are drawn.
        column: The column of references: a string, or a list of alternatives. Rows without any are
            rewarded all the same.
        tokenizer: What :func:`textgym.load_tokenizer` takes; the built-in one if None. It need not
            be the policy's.
        condition: Whether the prompt is read too, so that a text has to suit it.
        reward: ``"probability"``: D, as SeqGAN has it; or ``"logit"``: log D - log(1 - D), as in
            adversarial inverse reinforcement learning (Fu et al. 2018), which does not flatten out
            for bad texts.
        bound: Logits are clipped to this size.
        max_tokens: Tokens of a text that are looked at; and of a prompt, its last ones.
        embedding: Size of a token's vector.
        widths: Widths of the filters, in tokens.
        filters: Filters of each width.
        highway: Highway layers.
        dropout: Share of the features that is left out while learning.
        warm_up_texts: So many completions are learned from before any is rewarded.
        update_every: Completions from one update to the next.
        updates: Gradient steps of an update.
        batch_size: Texts of a gradient step, half of them real.
        fresh: Share of these that is new since the last update; the others are of the whole buffer.
        buffer_size: Texts that are kept of each kind, the last ones.
        label_smoothing: Real texts are to be real with a probability of 1 minus this.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        window: `stats` are means over the last so many texts of each kind.
        seed: Of everything random.
        device: Where the discriminator is; ``"auto"`` takes the GPU if there is one.

    Raises:
        RewardError: If an option is impossible, there are no real texts, or the column is missing.
        TokenizerError: If a text has a word that a closed vocabulary lacks.
    """

    real: RealSpec = field(default=None, repr=False)
    column: str = "reference"
    tokenizer: TokenizerSpec = field(default=None, repr=False)
    condition: bool = False
    reward: str = "probability"
    bound: float = 5.0
    max_tokens: int = 128
    embedding: int = 64
    widths: Sequence[int] = (1, 2, 3, 4, 5)
    filters: int = 64
    highway: int = 1
    dropout: float = 0.25
    warm_up_texts: int = 512
    update_every: int = 128
    updates: int = 8
    batch_size: int = 64
    fresh: float = 0.5
    buffer_size: int = 4096
    label_smoothing: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    window: int = 1024
    seed: int = 0
    device: str = "auto"
    name: ClassVar[str] = "adversarial"
    _reading: Reading = field(init=False, repr=False)
    _reals: RealTexts = field(init=False, repr=False)
    _state: State = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()
        words: Tokenizer = load_tokenizer(self.tokenizer)
        reading = Reading(words, self.max_tokens, self.condition)
        shape = Shape(
            vocabulary=reading.vocabulary,
            embedding=self.embedding,
            widths=tuple(self.widths),
            filters=self.filters,
            highway=self.highway,
            separator=reading.separator if self.condition else None,
        )
        gpu = torch.cuda.is_available() and self.device == "auto"
        discriminator = Discriminator(
            shape,
            torch.device("cuda" if gpu else "cpu" if self.device == "auto" else self.device),
            seed=self.seed,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            dropout=self.dropout,
            smoothing=self.label_smoothing,
        )
        object.__setattr__(self, "_reading", reading)
        object.__setattr__(self, "_reals", real_texts(self.real, self.column, self.condition))
        object.__setattr__(self, "_state", State(discriminator, self.buffer_size, self.window))

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards, and learn from the texts; None for all of them before it is `ready`."""
        state = self._state
        texts = self._reading(list(zip(prompts, completions, strict=True)))
        logits = state.discriminator.logits(texts)
        rewards: list[float | None] = (
            list(self._rewards(logits)) if self.ready else [None] * len(texts)
        )
        if texts and not state.frozen:
            rng = self._rng(_REALS, state.calls)
            reals = self._reading(self._reals.draw(rng, prompts, columns))
            state.take_in(texts, reals, logits)
            rounds, state.pending = divmod(state.pending, self.update_every)
            if rounds:
                self._learn(rounds * self.updates)
        return rewards

    def warm_up(
        self,
        real: Sequence[str],
        fake: Sequence[str],
        prompts: Sequence[str] | None = None,
        steps: int | None = None,
    ) -> None:
        """Learn from real texts and fakes at once; then it is `ready`.

        Args:
            real: Real texts.
            fake: What the policy writes before it is trained.
            prompts: With `condition`, the prompts of both: as many of each, in this order.
            steps: Gradient steps; three times over the texts if None.

        Raises:
            RewardError: If there are no texts, or no prompts for them.
        """
        counts = {len(real), len(fake)}
        if 0 in counts or (self.condition and {len(prompts or ())} != counts):
            needed = "and, with condition=True, the one list of prompts of both"
            raise RewardError(f"adversarial: warm_up needs real texts and fakes, {needed}")
        state = self._state
        before = prompts if self.condition and prompts is not None else None
        for replay, texts in ((state.reals, real), (state.fakes, fake)):
            pairs = zip(before or [""] * len(texts), texts, strict=True)
            replay.add(self._reading(list(pairs)))
        self._learn(
            math.ceil(2 * _PASSES * max(counts) / self.batch_size) if steps is None else steps
        )
        state.warm = True

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over, so that texts are rewarded."""
        return self._state.warm or self._state.texts >= self.warm_up_texts

    @property
    def frozen(self) -> bool:
        """Whether calls change nothing."""
        return self._state.frozen

    def freeze(self) -> None:
        """From now on only score: learn nothing, keep nothing, count nothing."""
        self._state.frozen = True

    def unfreeze(self) -> None:
        """Learn again."""
        self._state.frozen = False

    @property
    def stats(self) -> dict[str, float]:
        """What a callback may log; empty before the first texts.

        * ``accuracy``: of texts that were not learned from yet (prequential), over the last
          `window` of each kind, both kinds counting the same: 1 where the policy gives itself away,
          0.5 where it cannot be told. A text is called real where D is at least (1 - s) / 2, with s
          the label smoothing. Real texts out of a fixed list come back, and have been learned from.
        * ``d_real``, ``d_fake``: mean D of these texts.
        * ``loss``: mean cross-entropy of the last update, in nats.
        * ``texts``, ``steps``: completions seen, and gradient steps, in all.
        """
        # D of the best discriminator where both kinds are as likely.
        return self._state.stats((1 - self.label_smoothing) / 2)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that was learned and kept, as tensors on the CPU."""
        return self._state.tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state_dict`; ``frozen`` stays as it is.

        Raises:
            RewardError: If it is of a discriminator with other sizes; then nothing changes.
        """
        self._state.restore(state)

    def save(self, path: str | Path) -> None:
        """Write the `state_dict` to a safetensors file."""
        write_state(Path(path), self.state_dict(), self._signature())

    def load(self, path: str | Path) -> None:
        """Go on from a file that `save` wrote.

        Raises:
            RewardError: If it is no such file, or of a reward with other sizes or words.
        """
        self.load_state_dict(read_state(Path(path), self._signature()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the specification."""
        if self._state.discriminator.steps:
            warnings.warn(
                "adversarial: what the discriminator has learned does not travel with a pickle; "
                "the copy starts anew (write it with save(path), and load(path) it there)",
                stacklevel=2,
            )
        options = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return partial(type(self), **options), ()

    def __copy__(self) -> Adversarial:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Adversarial:
        # Gymnasium deep-copies the arguments of every environment; the discriminator is one.
        return self

    def _rewards(self, logits: NDArray[np.float64]) -> list[float]:
        if self.reward == "logit":
            return cast(list[float], logits.clip(-self.bound, self.bound).tolist())
        return cast(list[float], (0.5 + 0.5 * np.tanh(logits / 2)).tolist())

    def _learn(self, steps: int) -> None:
        state = self._state
        losses = []
        # Without any reference so far there is nothing to tell fakes from.
        for _ in range(steps if len(state.reals) else 0):
            rng = self._rng(_BATCHES, state.discriminator.steps)
            half = self.batch_size // 2
            fresh = round(half * self.fresh)
            reals = state.reals.draw(rng, half, fresh)
            losses.append(state.discriminator.step(reals, state.fakes.draw(rng, half, fresh)))
        if losses:
            state.loss = float(np.mean(losses))
        state.reals.settle()
        state.fakes.settle()

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, stream, number]))

    def _signature(self) -> dict[str, Any]:
        """What a file has to agree with; the same in every process."""
        return {
            "tokenizer": self._reading.tokenizer.content_hash(),
            "condition": self.condition,
            "embedding": self.embedding,
            "widths": list(self.widths),
            "filters": self.filters,
            "highway": self.highway,
            "buffer_size": self.buffer_size,
        }

    def _check(self) -> None:
        if self.reward not in ("probability", "logit"):
            raise RewardError(
                f"adversarial: reward must be 'probability' or 'logit', not {self.reward!r}"
            )
        for name, least in _LEAST.items():
            _whole(name, getattr(self, name), least)
        for width in self.widths or (0,):
            _whole("each of widths", width, 1)
        for name, (allowed, holds) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, float | int) or not holds(value):
                raise RewardError(f"adversarial: {name} must be {allowed}, not {value!r}")


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RewardError(
            f"adversarial: {name} must be a whole number, at least {least}, not {value!r}"
        )
