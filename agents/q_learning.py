"""Tabular Q-learning over a language model's proposals.

    python -m agents.q_learning --env TextGen/Sentiment-v0
    python -m agents.q_learning --help

A state is the last few written tokens and the model's likeliest proposals. The value of each token
in each state is an entry of a table (Watkins 1989), which is a hash table of fixed size. Targets
are Peng's lambda-returns (Peng and Williams 1996), computed when an episode ends.

The agent explores first and exploits later: the share of uniform choices (`--epsilon`), the
temperature of its choices (`--temperature`), and a bonus for rarely tried tokens (`--bonus`) change
linearly from their first to their last value.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.running.command_line import check_flags, command_line
from agents.running.proposals import choice_entropy, with_proposals
from agents.running.run import RunSettings, StepSettings, run
from agents.running.validation import above, at_least, within
from textgym.errors import DataError, SettingsError
from textgym.storage.files import replacing

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv


@dataclass
class Settings(StepSettings):
    """Settings of tabular Q-learning, on top of those of every run."""

    lm: str | None = None
    """Language model that proposes, a folder or hub name; the environment uses its tokenizer too.
    It is not trained. Default: textgym/tiny, or for a closed vocabulary a small new model."""
    k: int = 8
    """Number of proposals; all words where a closed vocabulary has fewer."""
    n_envs: int = 64
    """Number of episodes that are written in parallel."""
    context: int = 2
    """Written tokens that are part of a state."""
    seen: int = 0
    """Likeliest proposals that are part of a state."""
    table_bits: int = 20
    """The table has 2 to this power entries."""
    lam: float = 1.0
    """Trade-off of the targets: 1 is the Monte-Carlo return, 0 trusts the table one step ahead."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    lr: float = 0.02
    """Minimum learning rate of an entry; until then it is the mean of its targets."""
    doubt: float = 5.0
    """Visits after which half of an entry's difference from its state's mean is used."""
    epsilon: tuple[float, float] = (0.0, 0.0)
    """First and last share of uniformly random choices, independently in each row."""
    temperature: tuple[float, float] = (0.05, 0.02)
    """First and last reward that a departure of one nat from the language model has to be worth."""
    bonus: tuple[float, float] = (0.0, 0.0)
    """First and last bonus of an untried token; it falls with the square root of the visits."""
    explore: float = 0.8
    """Share of the training after which the last values apply."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(1, k=self.k)
        at_least(0, context=self.context, seen=self.seen)
        within(1, 40, table_bits=self.table_bits)
        within(0, 1, lam=self.lam, gamma=self.gamma, lr=self.lr)
        for share in self.epsilon:
            within(0, 1, epsilon=share)
        for least in self.bonus:
            at_least(0, bonus=least)
        for warmth in self.temperature:
            above(0, temperature=warmth)
        above(0, doubt=self.doubt, explore=self.explore)

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Let the language model propose."""
        return with_proposals(envs, self, self.k)


if __name__ == "__main__":
    check_flags("agents.q_learning", Settings(), __doc__)  # Before the slow imports.

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from textgym.wrappers.proposals import fillers

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Step = tuple[int, int, float, float]
"""A choice: its index in the table, that of its state, the reward, and the best value there."""


class QLearning:
    """Q-learning in a hash table.

    Checkpoints can be taken and resumed, as PPO's (:mod:`textgym.sb3.checkpoints`).

    Args:
        venv: Environment of proposals.
        seed: Seed of the choices.
        settings: Settings.

    Attributes:
        values: float32 ``[2**bits]``, mean target of each state, and of each token in a state.
        visits: int32 ``[2**bits]``, the number of visits of each.
        num_timesteps: Environment steps of the training so far.
    """

    def __init__(self, venv: VecEnv, seed: int, settings: Settings) -> None:
        space = venv.observation_space
        if not isinstance(space, spaces.Dict) or len(space["candidates"].shape or ()) != 1:
            raise SettingsError(
                "this agent chooses among proposed tokens; make the environment with "
                "make_vec_env(..., wrapper=textgym.wrappers.TopKActions)"
            )
        self.venv = venv
        self.settings = settings
        self.values = np.zeros(2**settings.table_bits, np.float32)
        self.visits = np.zeros(2**settings.table_bits, np.int32)
        self.num_timesteps = 0
        self.logger = Logger(None, [])
        self._rng = np.random.default_rng(seed)
        self._progress = 0.0
        # Observations, last written tokens, and steps of the episodes under way, by row.
        self._obs: Any = None
        self._recent = self._context(venv.num_envs, None, None)
        self._episodes: list[list[Step]] = []

    def get_env(self) -> VecEnv:
        """The environment of the training, for callbacks."""
        return self.venv

    def set_logger(self, logger: Logger) -> None:
        """Use another logger."""
        self.logger = logger

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[Ints, Any]:
        """Choose one proposal per row.

        Args:
            observation: Observation of ``TopKActions``, for N rows.
            state: The last tokens of each row, ``[N, context]``; None at first.
            episode_start: ``[N]``, the rows whose episodes start.
            deterministic: Take the likeliest choice.

        Returns:
            Choices ``[N]``, and the state for the next call.
        """
        tokens = observation["candidates"].astype(np.int64)
        context = self._context(len(tokens), state, episode_start)
        logits, _ = self._logits(observation, context)
        choices = logits.argmax(1)
        if not deterministic:
            gumbel = self._rng.gumbel(size=logits.shape)
            choices = (logits + gumbel).argmax(1)
            uniform = self._rng.random(len(tokens)) < self.scheduled(self.settings.epsilon)
            counts = (~fillers(tokens)).sum(1)  # Fillers are last.
            choices[uniform] = self._rng.integers(counts[uniform])
        return choices, self._next_context(context, tokens[np.arange(len(tokens)), choices])

    def _logits(self, observation: Any, context: Ints) -> tuple[Floats, Floats]:
        """Logits of the choices, and the estimates of their values, both ``[N, k]``."""
        entries, states = self._entries(observation, context)
        visits = self.visits[entries]
        mean = self.values[states][:, None]
        # With few visits, the value is shrunk towards the mean of the state.
        trust = visits / (visits + self.settings.doubt)
        values = mean + trust * (self.values[entries] - mean)
        bonus = self.scheduled(self.settings.bonus) / np.sqrt(visits + 1.0)
        better = (values - mean + bonus) / self.scheduled(self.settings.temperature)
        logits = np.where(fillers(observation["candidates"]), -np.inf, observation["logprobs"])
        return logits + better, values.astype(np.float64)

    def _entries(self, observation: Any, context: Ints) -> tuple[Ints, Ints]:
        """Indices in the table: of each proposal ``[N, k]``, and of the states ``[N]``."""
        tokens = observation["candidates"].astype(np.int64)
        code = np.zeros(len(tokens), np.uint64)
        for column in [*context.T, *tokens[:, : self.settings.seen].T]:
            code = _mixed(code, column)
        last = 64 - self.settings.table_bits
        each = _mixed(code[:, None], tokens + 1) >> np.uint64(last)
        own = _mixed(code, np.zeros(len(tokens), np.int64)) >> np.uint64(last)
        return each.astype(np.int64), own.astype(np.int64)

    def _context(self, rows: int, state: Any, episode_start: NDArray[np.bool_] | None) -> Ints:
        context = np.full((rows, self.settings.context), -1, np.int64)
        if state is not None and episode_start is not None:
            context[~episode_start] = state[~episode_start]
        elif state is not None:
            context[:] = state
        return context

    def _next_context(self, context: Ints, tokens: Ints) -> Ints:
        both = np.concatenate([context, tokens[:, None]], axis=1)
        return both[:, both.shape[1] - self.settings.context :]

    def scheduled(self, schedule: tuple[float, float]) -> float:
        """The current value of a setting that changes from a first to a last value."""
        first, last = schedule
        share = min(self._progress / self.settings.explore, 1.0)
        return first + share * (last - first)

    def learn(
        self,
        total_timesteps: int,
        callback: BaseCallback | None = None,
        reset_num_timesteps: bool = True,
    ) -> QLearning:
        """Train for this many environment steps. A rollout has as many episodes as rows.

        Args:
            total_timesteps: Length of the training, all rows together.
            callback: Called as by algorithms of Stable-Baselines3.
            reset_num_timesteps: Count from 0 and explore again. The table is not reset.
        """
        if reset_num_timesteps:
            self.num_timesteps = 0
        until = self.num_timesteps + total_timesteps
        callbacks = CallbackList([] if callback is None else [callback])
        callbacks.init_callback(self)  # type: ignore[arg-type]
        callbacks.on_training_start({}, {})
        if reset_num_timesteps or self._obs is None:
            self._obs = self.venv.reset()
            self._recent = self._context(self.venv.num_envs, None, None)
            self._episodes = [[] for _ in range(self.venv.num_envs)]
        running = True
        while running and self.num_timesteps < until:
            callbacks.on_rollout_start()
            episodes = 0
            while running and self.num_timesteps < until and episodes < self.venv.num_envs:
                self._progress = self.num_timesteps / until
                ended, infos = self._step()
                episodes += int(ended.sum())
                callbacks.update_locals({"dones": ended, "infos": infos})
                running = callbacks.on_step()
            if running:
                callbacks.on_rollout_end()
                self.logger.record("train/known", float((self.visits > 0).mean()))
                logits, _ = self._logits(self._obs, self._recent)
                entropy = choice_entropy(logits, self.scheduled(self.settings.epsilon))
                self.logger.record("diagnostics/entropy", entropy)
                self.logger.dump(self.num_timesteps)
        self._progress = 1.0
        callbacks.on_training_end()
        return self

    def _step(self) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
        """Choose in every row, and learn from the episodes that end."""
        obs, context = self._obs, self._recent
        _, values = self._logits(obs, context)
        entries, states = self._entries(obs, context)
        choices, self._recent = self.predict(obs, context)
        self._obs, rewards, ended, infos = self.venv.step(choices)
        self.num_timesteps += len(choices)
        best = values.max(1)
        for row, episode in enumerate(self._episodes):
            chosen, state = int(entries[row, choices[row]]), int(states[row])
            episode.append((chosen, state, float(rewards[row]), float(best[row])))
            if ended[row]:  # A step limit truncates an episode, and its text is not scored.
                if not infos[row].get("TimeLimit.truncated", False):
                    self._learn_from(episode)
                episode.clear()
        self._recent[ended] = -1
        return ended, infos

    def _learn_from(self, episode: list[Step]) -> None:
        """Move the table towards the lambda-returns of an episode."""
        s = self.settings
        target, following = 0.0, 0.0  # No reward follows the end.
        for entry, state, reward, best in reversed(episode):
            target = reward + s.gamma * ((1 - s.lam) * following + s.lam * target)
            following = best
            for place in (entry, state):
                self.visits[place] += 1
                rate = max(1.0 / self.visits[place], s.lr)
                self.values[place] += rate * (target - self.values[place])

    def describe(self) -> dict[str, Any]:
        """The settings that a resumed training has to share."""
        names = ("context", "seen", "table_bits", "lam", "gamma")
        return {name: getattr(self.settings, name) for name in names}

    def get_state(self) -> dict[str, Any]:
        """The state for checkpoints."""
        known = np.flatnonzero(self.visits)
        return {
            "known": known,
            "values": self.values[known],
            "visits": self.visits[known],
            "choices": self._rng.bit_generator.state,
            "observations": self._obs,
            "recent": self._recent,
            "episodes": self._episodes,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self.values[:], self.visits[:] = 0, 0
        self.values[state["known"]] = state["values"]
        self.visits[state["known"]] = state["visits"]
        self._rng.bit_generator.state = state["choices"]
        self._obs, self._recent = state["observations"], state["recent"].copy()
        self._episodes = [list(episode) for episode in state["episodes"]]

    def save(self, path: str) -> None:
        """Write table and settings, to ``path`` with the ending .npz, for `load`."""
        settings = json.dumps({name: getattr(self.settings, name) for name in _own_settings()})
        with replacing(Path(path).with_suffix(".npz")) as file:
            np.savez_compressed(
                file, values=self.values, visits=self.visits, settings=np.array(settings)
            )

    @classmethod
    def load(cls, path: str, venv: VecEnv, seed: int = 0) -> QLearning:
        """Read a file of `save`.

        Args:
            path: The file.
            venv: Environment of proposals, by the same language model.
            seed: Seed of the choices.

        Raises:
            DataError: If the file is not one of `save`.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                found = json.loads(str(file["settings"]))
                values, visits = file["values"], file["visits"]
            if not isinstance(found, dict):
                raise ValueError("its settings are not a JSON object")
        except Exception as error:  # A damaged archive can raise anything.
            raise DataError(f"{path}: this is not a table of Q values: {error}") from error
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
            if name in _own_settings()
        }
        agent = cls(venv, seed, Settings(**known))
        for name, theirs in (("values", values), ("visits", visits)):
            mine = getattr(agent, name)
            if theirs.shape != mine.shape or theirs.dtype != mine.dtype:
                raise DataError(
                    f"{path}: this is not a table of Q values: its {name} are {theirs.dtype} "
                    f"{list(theirs.shape)} for {mine.dtype} {list(mine.shape)}"
                )
            mine[:] = theirs
        agent._progress = 1.0
        return agent


def _own_settings() -> set[str]:
    """Names of the settings that other agents do not have."""
    return {one.name for one in fields(Settings)} - {one.name for one in fields(RunSettings)}


def _mixed(code: NDArray[np.uint64], number: Ints) -> NDArray[np.uint64]:
    """Hash one more number into a code (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed = (code ^ number.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> QLearning:
    """Build the agent.

    Args:
        venv: Environment of proposals: `make_vec_env(..., wrapper=textgym.wrappers.TopKActions)`.
        seed: Seed of the choices.
        settings: Settings; the defaults if None.
    """
    return QLearning(venv, seed, settings or Settings())


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("q_learning", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.q_learning", Settings(), __doc__, main)
