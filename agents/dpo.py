r"""DPO, IPO and KTO: learn from texts that were judged, without a reward model.

    python -m agents.dpo --env TextGen/Story-v0 --pairs pairs.jsonl
    python -m agents.dpo --env TextGen/Story-v0 --pairs judged.jsonl --loss kto
    python -m agents.dpo --env TextGen/Sentiment-v0

The policy that maximises a reward minus beta times the KL divergence from a reference model has the
log-ratio ``log pi(y|x) - log ref(y|x)`` = reward / beta, up to a constant of the prompt. So the
log-ratio h of a text serves as its reward, and the losses are of the log-ratios of judged texts:

* ``dpo`` (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290), the likelihood of the judgements
  under the Bradley-Terry model: ``-log sigmoid(beta (h_chosen - h_rejected) - margin)``. The
  margin, 0 unless the data has it, is that of Amini et al. 2024 (https://arxiv.org/abs/2402.10571).
* ``ipo`` (Azar et al. 2023, https://arxiv.org/abs/2310.12036, equation 17), which does not drive
  log-ratios to infinity where all judges agree: ``(h_chosen - h_rejected - 1 / (2 beta))^2``.
* ``kto`` (Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306), of single texts that are
  desirable or not: ``1 - sigmoid(beta (h - z))`` of a desirable text and ``1 - sigmoid(beta (z -
  h))`` of an undesirable one. z, without a gradient, estimates the KL divergence as the batch's
  mean of h of responses to other prompts, and at least 0. A pair is one text of each kind.

With a share p of judges who prefer the chosen text (or call a text desirable), a loss is the mean
over judges: p times that of the row as it is, and 1 - p times that of the opposite judgement.

Pairs are rows with prompt, chosen and rejected, as for ``python -m textgym.rewards.train``, or the
judgements of ``textgym feedback``; for ``kto`` also rows with prompt, completion and label. Without
a file, the policy writes several texts to each prompt before the training, and the environment's
reward prefers the better ones. A share of the prompts is held out. The reference is the initial
model: its log-probabilities of all texts are computed once. After each pass, the policy writes one
text per row, which are not learned from, to log their reward and their KL divergence from the
reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal, TypeVar

from agents.running.command_line import check_flags, command_line
from agents.running.run import LMSettings, run
from agents.running.validation import above, at_least, cut_off, within
from agents.running.word_model import starting_model
from textgym.errors import SettingsError

Loss = Literal["dpo", "ipo", "kto"]


@dataclass
class Settings(LMSettings):
    """Settings of DPO; `steps` counts the tokens that are written or learned."""

    lm: str | None = None
    """Language model to train, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    steps: int = 300_000
    """The most tokens that are written or learned; the last pass over the pairs may end before.
    Without a file of pairs, up to half of them are for writing texts."""
    pairs: str = "self"
    """File of pairs (.jsonl, .csv, .parquet), hf:NAME, or the .sqlite file of textgym feedback.
    Default: pairs of texts that the policy writes before, and the environment's reward judges."""
    loss: Loss = "dpo"
    """The loss, of pairs (dpo, ipo), or of single texts (kto; a pair is two of them)."""
    beta: float = 0.1
    """Weight of the KL divergence from the initial model: small values allow more of it."""
    label_smoothing: float = 0.0
    """Share of judgements that are taken to be wrong (conservative DPO)."""
    sft_coef: float = 0.0
    """Weight of the negative log-likelihood of the chosen texts, in nats per token."""
    length_normalize: bool = False
    """Divide the log-ratio of a text by its length in tokens. It takes a larger --beta."""
    desirable_weight: float = 1.0
    """Weight of desirable texts (kto)."""
    undesirable_weight: float = 1.0
    """Weight of undesirable texts (kto), to balance numbers of the two kinds that differ."""
    n_prompts: int = 512
    """Number of prompts that the policy writes to, if there is no file of pairs."""
    group_size: int = 8
    """Number of texts that it writes to each prompt. It divides --n-envs."""
    pairing: Literal["best", "all"] = "best"
    """The pairs of these texts: the best with the worst, or each text with each worse one."""
    held_out: float = 0.1
    """Share of the prompts, by a hash, whose pairs are not learned: loss and accuracy are logged.
    With few prompts it may be none."""
    lr: float = 2e-4
    """Learning rate of Adam."""
    batch_size: int = 32
    """Pairs per gradient step; with kto, texts."""
    n_epochs: int | None = 4
    """The training ends after this many passes over the pairs, or earlier at --steps.
    None: at --steps alone."""
    held_out_every: int | None = None
    """Gradient steps between two evaluations on held-out pairs. Default: those of one pass.
    The policy then also writes a text per row, for its reward and its KL."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, sft_coef=self.sft_coef)
        at_least(0, desirable_weight=self.desirable_weight)
        at_least(0, undesirable_weight=self.undesirable_weight)
        above(0, beta=self.beta)
        within(0, 0.5, label_smoothing=self.label_smoothing)
        at_least(1, n_prompts=self.n_prompts, batch_size=self.batch_size, n_epochs=self.n_epochs)
        at_least(1, held_out_every=self.held_out_every)
        at_least(2, group_size=self.group_size)
        if not 0 <= self.held_out < 1:
            raise SettingsError(f"--held-out {self.held_out}: it has to be from 0 to below 1")

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the training environment alone: an evaluation has a prompt for each row."""
        return {"group_size": self.group_size} if self.pairs == "self" else {}


if __name__ == "__main__":
    check_flags("agents.dpo", Settings(), __doc__)  # Before the slow imports.

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents.running.judged import Judged
from agents.running.lm_agent import LMAgent
from agents.running.planning import batch_of
from agents.running.preference_losses import Objective
from agents.running.preferences import PreferenceData, score, score_all
from textgym.lm.model import LanguageModel
from textgym.lm.weights import weights_hash
from textgym.rollouts import Episodes, collect
from textgym.sb3 import LMPolicy
from textgym.sb3.checkpoints.model_state import empty_kv_cache

Self = TypeVar("Self", bound="DPO")


class DPO(LMAgent):
    """DPO, IPO and KTO with the interface of Stable-Baselines3.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        policy: :class:`textgym.sb3.LMPolicy`. Its value head is not trained.
        env: The environment, in which the policy writes texts: without a file of pairs before the
            training, and at evaluations.
        learning_rate: Learning rate, or a schedule.
        objective: Arguments of :class:`Objective`.
        data: Arguments of :class:`PreferenceData`, ``pairs`` to ``held_out``.
        batch_size: As in :class:`Settings`.
        n_epochs: As in :class:`Settings`.
        held_out_every: As in :class:`Settings`.
        max_grad_norm: Gradients are scaled down to this norm.
        **others: See :class:`agents.running.lm_agent.LMAgent`.
    """

    learns = True

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 2e-4,
        *,
        objective: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        n_epochs: int | None = 4,
        held_out_every: int | None = None,
        max_grad_norm: float = 1.0,
        **others: Any,
    ) -> None:
        self.objective, self.data = dict(objective or {}), dict(data or {})
        self.batch_size, self.n_epochs, self.held_out_every = batch_size, n_epochs, held_out_every
        self.max_grad_norm = max_grad_norm
        super().__init__(policy, env, learning_rate, **others)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.policy.value_net.requires_grad_(False)
        self._reference = weights_hash(self.policy.lm)
        self._loss = Objective(**self.objective)
        self._start_over()

    def _start_over(self) -> None:
        """Forget all pairs, and the number of updates."""
        loss, seed = self._loss.loss, self.seed or 0
        self._data = PreferenceData(
            **self.data, single=loss == "kto", margins=loss == "dpo", seed=seed
        )
        self._updates = self._evaluated = 0

    def read(self) -> None:
        """Read the file of pairs, if there is one that has not been read yet.

        Raises:
            DataError: If it cannot be read; see `make_agent` for all errors.
        """
        assert self.env is not None
        self._data.read(batch_of(self.env).settings)

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "dpo",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for this many tokens, or to the end of the last pass over the pairs.

        If a training starts over (`reset_num_timesteps`), and there is no file, the policy writes
        new texts, as it is by then. The reference is always the initial model.

        Raises:
            DataError: If there is nothing to learn from.
            SettingsError: If the environment does not repeat prompts as often as needed, or the
                file does not go together with the loss.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if reset_num_timesteps and self._data.begun:
            self._start_over()
        self.read()
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps and not self._is_over():
            callback.on_rollout_start()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            if self._data.samples:
                step = self._sample
            else:
                step = self._evaluate if self._evaluation_is_due() else self._update
            if not step(callback):
                break
            callback.on_rollout_end()
            iteration += 1
            if iteration % log_interval == 0:
                self.logger.dump(self.num_timesteps)
        callback.on_training_end()
        return self

    def _is_over(self) -> bool:
        """Whether the last pass is over. It opens the data, once they are complete."""
        if self._data.samples:
            return False
        if self._data.to_learn is None:
            self._data.open(self.policy)
        if self.n_epochs is None or self._evaluation_is_due():
            return False
        return self._updates >= self.n_epochs * self._data.batches(self.batch_size)

    def _evaluation_is_due(self) -> bool:
        every = self.held_out_every or self._data.batches(self.batch_size)
        return self._updates % every == 0 and self._updates != self._evaluated

    def _write(self, callback: BaseCallback) -> Episodes | None:
        """One text of the policy in each row; None if a callback ends the training."""
        assert self.env is not None
        empty_kv_cache(self)  # As it is in a training that was resumed here.
        size = self._data.group_size
        episodes = collect(self.env, self.policy, group_size=size, on_step=self.on_step(callback))
        if episodes is not None:
            cut_off(episodes.infos, "DPO")
            callback.update_locals({"episodes": episodes, "group_size": size})
        return episodes

    def _sample(self, callback: BaseCallback) -> bool:
        """Write texts to some prompts, and pair them; False if a callback ends the training."""
        episodes = self._write(callback)
        if episodes is None:
            return False
        # The other half of a short training is for what it is about.
        self._data.take(episodes, last=2 * self.num_timesteps >= self._total_timesteps)
        self.logger.record("train/pairs", len(self._data))
        return True

    def _evaluate(self, callback: BaseCallback) -> bool:
        """Score held-out judgements, and write texts; False if a callback ends the training."""
        self._evaluated = self._updates
        judged = self._data.held_out
        if judged is not None and len(judged):
            scores = score_all(*self._arguments(judged), self.batch_size)
            for name, value in self._loss(judged, scores)[1].items():
                self.logger.record(f"held_out/{name}", value)
        episodes = self._write(callback)
        if episodes is None:
            return False
        self.logger.record("rollout/kl", self._data.kl(episodes, self.policy))
        return True

    def _update(self, callback: BaseCallback) -> bool:
        """Take a gradient step on a batch; False if a callback ends the training."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        judged = self._data.batch(self._updates, self.batch_size)
        scores = score(*self._arguments(judged))
        loss, values = self._loss(judged, scores)
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        self.policy.set_training_mode(False)
        self._updates += 1
        self._n_updates += 1
        values["epoch"] = self._updates / self._data.batches(self.batch_size)
        for name, value in values.items():
            self.logger.record(f"train/{name}", value)
        # Of the policy's distributions behind the tokens of the data: none is sampled.
        self.logger.record("diagnostics/entropy", scores.entropy)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.num_timesteps += scores.tokens
        nothing = {"dones": np.zeros(self.n_envs, np.bool_), "infos": [{}] * self.n_envs}
        callback.update_locals({"self": self, "episodes": None, "group_size": 1, **nothing})
        return callback.on_step()

    def _arguments(self, judged: Judged) -> tuple[LanguageModel, Judged, bool, bool]:
        """The arguments of `score`."""
        return self.policy.lm, judged, self._loss.loss == "kto", self._loss.length_normalize

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Learn in another environment from now on, with pairs of its texts."""
        super().set_env(env, force_reset)
        self._start_over()

    def describe(self) -> dict[str, Any]:
        """The settings that another agent must share to continue this training."""
        self.read()
        return {
            "objective": asdict(self._loss),
            "data": {**self.data, "pairs": self._data.digest()},
            "batch_size": self.batch_size,
            "n_epochs": self.n_epochs,
            "held_out_every": self.held_out_every,
            "reference": self._reference,
        }

    def get_state(self) -> dict[str, Any]:
        """The progress, and the pairs that the policy wrote, for checkpoints."""
        progress = {"updates": self._updates, "evaluated": self._evaluated}
        return {**progress, "data": self._data.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of `get_state`."""
        self._updates, self._evaluated = state["updates"], state["evaluated"]
        self._data.set_state(state["data"])

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_data", "_loss"]


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> DPO:
    """Build the agent: `learn` trains it, `predict` writes tokens.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`; without a file of pairs
            with ``group_size=G``.
        seed: Seed of prompts, sampling, the order of the pairs, and a new model's weights.
        settings: Settings; the defaults if None.

    Raises:
        DataError: If the file of pairs cannot be read, or has nothing to learn.
        PromptError: If a prompt in it does not fit into the environment.
        SettingsError: If it does not go together with the loss or the environment.
    """
    s = settings or Settings()
    batch_of(venv)
    data = ("pairs", "n_prompts", "group_size", "pairing", "held_out", "reference_dtype")
    agent = DPO(
        LMPolicy,
        venv,
        learning_rate=s.learning_rate,
        objective={one.name: getattr(s, one.name) for one in fields(Objective)},
        data={name: getattr(s, name) for name in data},
        batch_size=s.batch_size,
        n_epochs=s.n_epochs,
        held_out_every=s.held_out_every,
        max_grad_norm=s.max_grad_norm,
        policy_kwargs=s.policy_kwargs(starting_model(venv, s.lm, seed, s.out)),
        seed=seed,
        device=s.device,
    )
    agent.read()
    return agent


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("dpo", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.dpo", Settings(), __doc__, main)
