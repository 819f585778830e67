"""The base of agents that own a language model and write with it.

It is Stable-Baselines3's ``BaseAlgorithm`` (``save``, ``load``, loggers, callbacks) on one
:class:`textgym.sb3.LMPolicy`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from textgym.lm.kl import BASE
from textgym.rollouts import Step
from textgym.sb3 import LMPolicy

Self = TypeVar("Self", bound="LMAgent")


def initial_model(policy: LMPolicy) -> str:
    """The name of the model that a policy's training starts from, for a KL penalty to it.

    With a new adapter that is the policy's own model without it, and needs no second copy.
    """
    return policy.lm_name if policy.engine["lora"] is None else BASE


class LMAgent(BaseAlgorithm):
    """A language model with the interface of Stable-Baselines3, ``save`` and ``load`` included.

    This class learns nothing. A subclass that learns overrides `learn`, and defines its state
    (:class:`textgym.sb3.checkpoints.model_state.OwnState`).

    Args:
        policy: :class:`textgym.sb3.LMPolicy`.
        env: The environment; None if it is only to predict.
        learning_rate: Learning rate, or a schedule, of a subclass that learns.
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
        """Return at once: nothing is learned, and no environment step is taken."""
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

    def on_step(self, callback: BaseCallback) -> Callable[[Step], bool]:
        """The function that :func:`textgym.rollouts.collect` calls after each step of `learn`.

        It counts the steps, informs the callback, and keeps the infos of finished episodes for
        SB3's ``rollout/ep_rew_mean``.
        """

        def listen(step: Step) -> bool:
            self.num_timesteps += len(step.dones)
            self._last_obs, self._last_episode_starts = step.observations, step.dones
            callback.update_locals({**step._asdict(), "self": self})
            if not callback.on_step():
                return False
            self._update_info_buffer(step.infos, step.dones)
            return True

        return listen

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
