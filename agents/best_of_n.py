"""Best-of-n sampling: writes n texts for each prompt, and uses the one with the highest reward.

    python -m agents.best_of_n --env TextGen/Sentiment-v0 --n 8
    python -m agents.best_of_n --n 16 --lm runs/FOLDER/lm

A simple and strong baseline (Stiennon et al. 2020, "Learning to summarize from human feedback",
https://arxiv.org/abs/2009.01325; Nakano et al. 2021, https://arxiv.org/abs/2112.09332): it learns
nothing, and writes n times the tokens. Its KL divergence from the language model is at most
log n - (n - 1) / n nats per text. The n texts of an episode are written when it starts, so an
evaluation also writes those of episodes that start while the last ones end.

The candidates are scored in a second environment, made with the same arguments and started from the
same row by ``reset(options={"row": ...})``, so a candidate gets exactly the reward that it would
get in the first. The reward has to be available before the text is used, as in training. The
agent does not read references.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.running.command_line import check_flags, command_line
from agents.running.run import RunSettings, run
from agents.running.word_model import starting_model


@dataclass
class Settings(RunSettings):
    """Settings of best-of-n, on top of those of every run."""

    lm: str | None = None
    """Language model that writes, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    n: int = 8
    """Candidates for each prompt."""
    temperature: float = 1.0
    """Logits are divided by it; below 1 is sharper, with less diverse candidates."""
    top_k: int | None = None
    """Sample from this many of the likeliest tokens only. Default: all."""
    top_p: float | None = None
    """Sample from the likeliest tokens that reach this probability together. Default: all."""
    at_once: int = 256
    """Batch size in which candidates are written."""


if __name__ == "__main__":
    check_flags("agents.best_of_n", Settings(), __doc__)  # Before the slow imports.

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents.running.lm_agent import LMAgent
from agents.running.planning import Planner, Plans, batch_of
from textgym.data.observations import split_observation
from textgym.data.rows import Row
from textgym.envs import TextGenVectorEnv
from textgym.errors import SettingsError
from textgym.sb3 import LMPolicy


class Candidates(Planner):
    """Writes candidates in a second environment, and plans the best.

    Args:
        venv: The environment to act in.
        policy: The policy that writes.
        n: Candidates for each prompt.
        at_once: Batch size in which candidates are written.

    Raises:
        SettingsError: If the environment is a conversation, or was not made by its id.
    """

    def __init__(self, venv: VecEnv, policy: LMPolicy, n: int, at_once: int) -> None:
        super().__init__(venv)
        if self.envs.settings.conversation is not None:
            raise SettingsError(
                f"{self.envs.settings.name} is a conversation, whose turns have no rewards to "
                "choose by: best-of-n would have to write the rest of the conversation as well; "
                "use an environment with one turn"
            )
        self.policy = policy
        self.n = n
        self.trials = _other_batch(self.envs, at_once)
        self.trials.reset(seed=0)  # The first reset has to start all rows.

    def plan(self, rows: list[Row]) -> Plans:
        """The best of n texts for each row, the first of equals."""
        starts = [row for row in rows for _ in range(self.n)]
        written: Plans = []
        rewards: list[float] = []
        for at in range(0, len(starts), self.trials.num_envs):
            texts, values = self._write(starts[at : at + self.trials.num_envs])
            written += texts
            rewards += values.tolist()
        best = np.reshape(rewards, (len(rows), self.n)).argmax(1)
        return [written[number * self.n + choice] for number, choice in enumerate(best.tolist())]

    def _write(self, starts: list[Row]) -> tuple[Plans, NDArray[np.float64]]:
        """One text for each row, and their rewards."""
        trials, count = self.trials, len(starts)
        writing = np.arange(trials.num_envs) < count
        fill = [starts[0]] * (trials.num_envs - count)  # Rows that are not reset.
        start = {"row": [*starts, *fill], "reset_mask": writing.copy()}
        observation: Any = trials.reset(options=start)[0]
        rewards = np.zeros(trials.num_envs)
        texts: Plans = [[] for _ in starts]
        while writing.any():
            actions = np.full((trials.num_envs, 1), -1, np.int64)
            actions[:count, 0], _ = self.policy.predict(_first(observation, count))
            for row in np.flatnonzero(writing).tolist():
                texts[row].append(int(actions[row, 0]))
            result = trials.step_rows(actions, writing)
            rewards += result.rewards
            writing &= ~(result.terminated | result.truncated)
            observation = _with_texts(observation, result.texts)
        return texts, rewards[:count]


def _other_batch(batch: TextGenVectorEnv, rows: int) -> TextGenVectorEnv:
    """A batch with the same arguments and without autoreset."""
    if batch.spec is None:
        raise SettingsError(
            "best-of-n scores its candidates in a second environment, and this one has no spec to "
            "copy; make it by its id, with textgym.sb3.make_vec_env"
        )
    ours = ("num_envs", "autoreset_mode", "vectorization_mode", "group_size", "render_mode")
    kwargs = {key: value for key, value in batch.spec.kwargs.items() if key not in ours}
    kwargs["max_episode_steps"] = batch.settings.max_episode_steps
    return TextGenVectorEnv(rows, autoreset_mode="Disabled", **kwargs)


def _first(observation: Any, count: int) -> Any:
    """The observations of the first `count` rows."""
    tokens, image = split_observation(observation)
    return tokens[:count] if image is None else {"tokens": tokens[:count], "image": image[:count]}


def _with_texts(observation: Any, texts: NDArray[np.int32]) -> Any:
    """The observations with new texts."""
    _, image = split_observation(observation)
    return texts if image is None else {"tokens": texts, "image": image}


class BestOfN(LMAgent):
    """Best-of-n with the interface of Stable-Baselines3. It learns nothing, and cannot be resumed.

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: The environment, whose reward chooses among candidates.
        learning_rate: Not used.
        n: Candidates for each prompt.
        at_once: Batch size in which candidates are written.
        **others: See :class:`agents.running.lm_agent.LMAgent`.

    Raises:
        SettingsError: As :class:`Candidates` does, or if `n` or `at_once` is below 1.
    """

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 0.0,
        n: int = 8,
        at_once: int = 256,
        **others: Any,
    ) -> None:
        for name, value in (("n", n), ("at_once", at_once)):
            if value < 1:
                raise SettingsError(f"best-of-n: {name}={value} has to be at least 1")
        self.n = n
        self.at_once = at_once
        self._candidates: Candidates | None = None
        super().__init__(policy, env, learning_rate, **others)

    def _setup_model(self) -> None:
        super()._setup_model()
        self._make_candidates()

    def _make_candidates(self) -> None:
        if self.env is not None:
            self._candidates = Candidates(self.env, self.policy, self.n, self.at_once)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Write the next token of each row's best candidate; see `Planner.predict`.

        `deterministic` has no effect: candidates have to differ.

        Raises:
            SettingsError: If there is no environment to score candidates, or the observations are
                not of the environment in use.
        """
        if self._candidates is None:
            raise SettingsError(
                "best-of-n needs an environment that scores its candidates: "
                "BestOfN.load(path, env=venv)"
            )
        return self._candidates.predict(observation, state, episode_start)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Act in another environment from now on, and score candidates in a copy of it."""
        super().set_env(env, force_reset)
        self._make_candidates()

    def use_env(self, venv: VecEnv) -> None:
        """Act in another environment from now on; candidates are scored where they were."""
        if self._candidates is not None:
            self._candidates.use_env(venv)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_candidates"]


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> BestOfN:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of sampling, and of a new model's weights.
        settings: Settings; the defaults if None.

    Raises:
        SettingsError: If the environment is a conversation.
    """
    s = settings or Settings()
    batch_of(venv)
    sampling = {"temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p}
    return BestOfN(
        LMPolicy,
        venv,
        n=s.n,
        at_once=s.at_once,
        policy_kwargs={"lm": starting_model(venv, s.lm, seed, s.out), "sampling": sampling},
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("best_of_n", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.best_of_n", Settings(), __doc__, main)
