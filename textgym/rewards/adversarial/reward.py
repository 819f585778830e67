"""An adversarial reward: a discriminator that is trained along with the policy.

As in SeqGAN (Yu et al. 2017, https://arxiv.org/abs/1609.05473), the generator of a generative
adversarial network is trained by reinforcement learning. The discriminator is an ordinary reward
function, so any algorithm can train the generator::

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
from textgym.rewards.adversarial.texts import DrawTexts, RealSpec, TextEncoder, real_texts
from textgym.tokenization import Tokenizer, TokenizerSpec, load_tokenizer

# Streams of random numbers, distinguished by the second word of their seed; the discriminator uses
# those below 10.
_REALS, _BATCHES = range(10, 12)

# Default number of epochs of `warm_up`.
_WARM_UP_EPOCHS = 3

# Allowed values of options.
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
    """How real a text looks to a discriminator that is trained on these very texts (SeqGAN).

    Each call (1) scores the batch with the current discriminator, the same for all rewards of the
    call; (2) adds the completions, and as many real texts, to replay buffers; (3) takes `updates`
    gradient steps for every `update_every` completions since the last update. The reward is
    therefore non-stationary: it falls while the discriminator learns faster than the policy, and
    the episodes of one rollout may be scored by different discriminators. Evaluate with another
    reward, or call ``freeze()`` first, which disables updates.

    The first `warm_up_texts` completions get None, which an environment counts as 0, while the
    discriminator is trained on them. `warm_up` replaces this phase.

    Range: ``"probability"``: [0, 1]; ``"logit"``: [-bound, bound]. Higher is better. With an
    optimal discriminator, a policy with the distribution of the references gets (1 - s) / 2 on
    average, or log((1 - s) / (1 + s)), where s is `label_smoothing`.
    Needs: references to imitate (the column ``column``, or ``real``); no other model.
    Cost: per text of 20 tokens on one CPU core, 0.3 ms for scoring, the same for a real text, and
    2.4 ms for training with the default settings. It grows with the length (including the prompt
    with `condition`), and training with the vocabulary.
    Gaming: the network detects phrases no longer than its widest filter, but neither their position
    nor their number, so texts that contradict themselves over a distance pass. Until the
    discriminator has learned that it is always the same, one good text for every prompt is worth as
    much as many. A KL penalty to the initial model counteracts both.

    State: it is pickled as its specification, without the discriminator's weights; a copy in
    another process is trained separately (pickling warns about this). ``copy.deepcopy`` returns the
    same object. `save` and `load` keep the whole state, so that training continues exactly. All
    random numbers come from the seed: equal calls give equal rewards (on a GPU up to rounding).

    Args:
        real: Source of real texts: None for the references of each batch; a list of strings, or of
            rows with `column`; a .jsonl, .csv, .parquet or .txt file of these; a Task or its id,
            for its correct answers.
        column: The column of references: a string, or a list of alternatives. Rows without
            references are rewarded too.
        tokenizer: A tokenizer for :func:`textgym.load_tokenizer`; None for the built-in one. It may
            differ from the policy's.
        condition: Whether the discriminator also reads the prompt, so that a text has to fit it.
        reward: ``"probability"``: D, as in SeqGAN; or ``"logit"``: log D - log(1 - D), as in
            adversarial inverse reinforcement learning (Fu et al. 2018), which does not saturate for
            bad texts.
        bound: Logits are clipped to [-bound, bound].
        max_tokens: Number of tokens that are read of a text (the first) and a prompt (the last).
        embedding: Size of a token embedding.
        widths: Widths of the filters, in tokens.
        filters: Number of filters of each width.
        highway: Number of highway layers.
        dropout: Dropout rate of the features in training.
        warm_up_texts: Number of completions before the first reward.
        update_every: Number of completions between updates.
        updates: Gradient steps per update.
        batch_size: Number of texts in a gradient step, half of them real.
        fresh: Share of these texts that are new since the last update; the others are drawn from
            the whole buffer.
        buffer_size: Capacity of the replay buffer of each kind.
        label_smoothing: The target of real texts is 1 minus this.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        window: Number of texts of each kind in `stats`.
        seed: Seed of all random numbers.
        device: Device of the discriminator; ``"auto"`` uses the GPU if there is one.

    Raises:
        RewardError: If an option is invalid, or real texts or the column are missing.
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
    _encode: TextEncoder = field(init=False, repr=False)
    _draw_reals: DrawTexts = field(init=False, repr=False)
    _state: State = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()
        tokenizer: Tokenizer = load_tokenizer(self.tokenizer)
        encode = TextEncoder(tokenizer, self.max_tokens, self.condition)
        shape = Shape(
            vocabulary=encode.vocabulary,
            embedding=self.embedding,
            widths=tuple(self.widths),
            filters=self.filters,
            highway=self.highway,
            separator=encode.separator if self.condition else None,
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
        object.__setattr__(self, "_encode", encode)
        object.__setattr__(self, "_draw_reals", real_texts(self.real, self.column, self.condition))
        object.__setattr__(self, "_state", State(discriminator, self.buffer_size, self.window))

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards, and update the discriminator; all None until it is `ready`."""
        state = self._state
        texts = self._encode(list(zip(prompts, completions, strict=True)))
        logits = state.discriminator.logits(texts)
        rewards: list[float | None] = (
            list(self._rewards(logits)) if self.ready else [None] * len(texts)
        )
        if texts and not state.frozen:
            rng = self._rng(_REALS, state.calls)
            reals = self._encode(self._draw_reals(rng, prompts, columns))
            state.add(texts, reals, logits)
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
        """Train on given texts; the reward is `ready` afterwards.

        Args:
            real: Real texts.
            fake: Texts of the untrained policy.
            prompts: With `condition`, the prompts of both; the three lists have the same length.
            steps: Gradient steps; None for three epochs.

        Raises:
            RewardError: If texts or their prompts are missing.
        """
        counts = {len(real), len(fake)}
        if 0 in counts or (self.condition and {len(prompts or ())} != counts):
            needed = "and, with condition=True, one list of prompts for both"
            raise RewardError(f"adversarial: warm_up needs real texts and fakes, {needed}")
        state = self._state
        before = prompts if self.condition and prompts is not None else None
        for replay, texts in ((state.reals, real), (state.fakes, fake)):
            pairs = zip(before or [""] * len(texts), texts, strict=True)
            replay.add(self._encode(list(pairs)))
        if steps is None:
            steps = math.ceil(2 * _WARM_UP_EPOCHS * max(counts) / self.batch_size)
        self._learn(steps)
        state.warm = True

    @property
    def ready(self) -> bool:
        """Whether the warm-up is over and texts are rewarded."""
        return self._state.warm or self._state.texts >= self.warm_up_texts

    @property
    def frozen(self) -> bool:
        """Whether calls leave the state unchanged."""
        return self._state.frozen

    def freeze(self) -> None:
        """Only score texts from now on, without any change of the state."""
        self._state.frozen = True

    def unfreeze(self) -> None:
        """Resume updates."""
        self._state.frozen = False

    @property
    def stats(self) -> dict[str, float]:
        """Statistics for logging; empty before the first texts.

        * ``accuracy``: balanced accuracy on the latest `window` texts of each kind, before they
          were trained on: 1 if fakes are always recognized, 0.5 if they are indistinguishable. A
          text is classified as real if D is at least (1 - s) / 2, where s is the label smoothing.
          Real texts from a fixed list recur, so they may have been trained on.
        * ``d_real``, ``d_fake``: mean D of these texts.
        * ``loss``: mean cross-entropy of the last update, in nats.
        * ``texts``, ``steps``: total numbers of completions and gradient steps.
        """
        # D of an optimal discriminator where both kinds are equally likely.
        return self._state.stats((1 - self.label_smoothing) / 2)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state, including weights and buffers, as tensors on the CPU."""
        return self._state.tensors()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `state_dict`, except ``frozen``.

        Raises:
            RewardError: If it belongs to a discriminator with other sizes; nothing is changed then.
        """
        self._state.restore(state)

    def save(self, path: str | Path) -> None:
        """Write the `state_dict` to a safetensors file."""
        write_state(Path(path), self.state_dict(), self._signature())

    def load(self, path: str | Path) -> None:
        """Restore a file that `save` wrote.

        Raises:
            RewardError: If it is another kind of file, or of a reward with other sizes or another
                tokenizer.
        """
        self.load_state_dict(read_state(Path(path), self._signature()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the specification."""
        if self._state.discriminator.steps:
            warnings.warn(
                "adversarial: a pickle does not contain the weights of the discriminator; the copy "
                "starts untrained (use save(path), and load(path) in the other process)",
                stacklevel=2,
            )
        options = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return partial(type(self), **options), ()

    def __copy__(self) -> Adversarial:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Adversarial:
        # Gymnasium deep-copies the arguments of every environment, which share the discriminator.
        return self

    def _rewards(self, logits: NDArray[np.float64]) -> list[float]:
        if self.reward == "logit":
            return cast(list[float], logits.clip(-self.bound, self.bound).tolist())
        return cast(list[float], (0.5 + 0.5 * np.tanh(logits / 2)).tolist())

    def _learn(self, steps: int) -> None:
        state = self._state
        losses = []
        # Training needs both kinds; there may have been no references so far.
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
        """Return the options that a saved state must agree with."""
        return {
            "tokenizer": self._encode.tokenizer.content_hash(),
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
            _check_integer(name, getattr(self, name), least)
        for width in self.widths or (0,):
            _check_integer("each of widths", width, 1)
        for name, (allowed, holds) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, float | int) or not holds(value):
                raise RewardError(f"adversarial: {name} must be {allowed}, not {value!r}")


def _check_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RewardError(f"adversarial: {name} must be an integer >= {least}, not {value!r}")
