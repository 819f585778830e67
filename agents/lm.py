"""A language model as it is: it samples, or takes the likeliest token, and learns nothing.

    python -m agents.lm --env TextGen/Sentiment-v0
    python -m agents.lm --sampling greedy
    python -m agents.lm --temperature 0.7 --top-p 0.9 --lm runs/FOLDER/lm

What every trained agent has to beat, and how a trained model is judged once more under other
sampling. Top-k sampling is Fan et al. 2018 (https://arxiv.org/abs/1805.04833), top-p sampling
Holtzman et al. 2020 (https://arxiv.org/abs/1904.09751).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from agents.running.command_line import command_line
from agents.running.run import RunSettings, run
from agents.running.word_model import starting_model
from textgym.sb3 import LMPolicy

Self = TypeVar("Self", bound="LMAgent")


@dataclass
class Settings(RunSettings):
    """Settings of writing."""

    lm: str | None = None
    """Language model that writes, a folder or hub name; the environment uses its tokenizer too.
    Default: textgym/tiny, or for a closed vocabulary a small new model of its words."""
    sampling: Literal["sample", "greedy"] = "sample"
    """Draw tokens, or always take the likeliest."""
    temperature: float = 1.0
    """Logits are divided by it; below 1 is sharper."""
    top_k: int | None = None
    """Only so many of the likeliest tokens are possible. Default: all."""
    top_p: float | None = None
    """Only the likeliest tokens are possible, as many as reach this probability. Default: all."""


class LMAgent(BaseAlgorithm):
    """A language model with the interface of Stable-Baselines3, ``save`` and ``load`` included.

    It takes no part in checkpoints: there is no training that could be resumed.

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: The environment; None if it is only to predict.
        learning_rate: For those that learn.
        greedy: Take the likeliest token, whatever `predict` is asked for.
        policy_kwargs: Arguments of the policy, such as ``dict(lm=..., sampling=...)``.
        tensorboard_log: As SB3's.
        verbose: As SB3's.
        seed: Seed of sampling and of the environment's prompts.
        device: Device of the model.
        _init_setup_model: Load the language model; False while a saved agent is loaded.

    Attributes:
        learns: Whether `learn` does anything; a run evaluates an agent only once if not.
    """

    policy: LMPolicy
    learns = False

    def __init__(
        self,
        policy: type[LMPolicy] = LMPolicy,
        env: VecEnv | None = None,
        learning_rate: float | Schedule = 5e-4,
        greedy: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self.greedy = greedy
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy: Any = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        self.policy = policy.to(self.device)

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "lm",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Do nothing: there is nothing to learn, and no environment step is taken."""
        return self

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Write one token behind each of the N texts, int64 ``[N]``."""
        return self.policy.predict(
            observation, state, episode_start, deterministic=deterministic or self.greedy
        )

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> LMAgent:
    """Build the agent.

    Args:
        venv: Environment of token ids, from `textgym.sb3.make_vec_env`.
        seed: Seed of sampling, and of a new model's weights.
        settings: Settings; the defaults if None.
    """
    s = settings or Settings()
    sampling = {"temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p}
    return LMAgent(
        LMPolicy,
        venv,
        greedy=s.sampling == "greedy",
        policy_kwargs={"lm": starting_model(venv, s.lm, seed, s.out), "sampling": sampling},
        seed=seed,
        device=s.device,
    )


def main(settings: Settings) -> None:
    """Evaluate; there is nothing to train."""
    run("lm", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.lm", Settings(), __doc__, main)
