"""DQN over a language model's proposals: Stable-Baselines3's own DQN, or sb3-contrib's QR-DQN.

    python -m agents.dqn_topk --env TextGen/Sentiment-v0
    python -m agents.dqn_topk --algorithm qrdqn
    python -m agents.dqn_topk --help

The language model is frozen. It proposes its k likeliest tokens, and the agent learns to choose
among them, by deep Q-learning (Mnih et al. 2015, https://doi.org/10.1038/nature14236) or its
distributional form (Dabney et al. 2018, https://arxiv.org/abs/1710.10044). Three choices let it
learn from one reward at the end of a text:

* Monte-Carlo returns (`--n-steps`), which carry the reward to the first token at once;
* a policy that starts as the language model's and departs from it in proportion to the values
  (`--temperature`): epsilon-greedy exploration would spoil nearly every text;
* one small network that scores all proposals by their embeddings (`TopKFeatures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from agents.running.command_line import command_line
from agents.running.proposals import with_proposals
from agents.running.run import StepSettings, run
from agents.running.validation import above, at_least, within
from textgym.errors import SettingsError, require

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@dataclass
class Settings(StepSettings):
    """Settings of DQN over proposals, on top of those of every run."""

    lm: str | None = None
    """Language model that proposes, a folder or hub name; the environment uses its tokenizer too.
    It is not trained. Default: textgym/tiny, or for a closed vocabulary a small new model."""
    k: int = 8
    """Number of proposals; all words where a closed vocabulary has fewer."""
    n_envs: int = 64
    """Number of episodes that are written in parallel."""
    algorithm: Literal["dqn", "qrdqn"] = "dqn"
    """DQN, or QR-DQN, which needs the package sb3-contrib."""
    temperature: float = 0.05
    """Reward that a departure of one nat from the language model has to be worth."""
    n_steps: int | None = None
    """Steps of reward in a target before it is bootstrapped. Default: all of the episode."""
    gamma: float = 1.0
    """Discount. A text is judged as a whole, so its first token counts as much as its last."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 512
    """Transitions per gradient step."""
    train_freq: int = 4
    """Tokens per row between updates."""
    gradient_steps: int = 4
    """Gradient steps per update."""
    buffer_size: int = 100_000
    """Transitions in the replay buffer, about 420 bytes each with textgym/tiny."""
    priority_exponent: float = 0.6
    """Sample transitions in proportion to their TD error to this power. 0 samples uniformly."""
    target_update_interval: int = 2_000
    """Steps between updates of the target network, used by bootstrapped targets only."""
    size: int = 64
    """Width of the network."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        above(0, temperature=self.temperature, max_grad_norm=self.max_grad_norm)
        within(0, 1, gamma=self.gamma)
        at_least(0, lr=self.lr, priority_exponent=self.priority_exponent)
        at_least(
            1, n_steps=self.n_steps, batch_size=self.batch_size, train_freq=self.train_freq,
            gradient_steps=self.gradient_steps, buffer_size=self.buffer_size, size=self.size,
            k=self.k,
        )  # fmt: skip

    def wrap(self, envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
        """Let the language model propose."""
        return with_proposals(envs, self, self.k)


def make_agent(venv: VecEnv, seed: int, settings: Settings | None = None) -> OffPolicyAlgorithm:
    """Build the agent: `learn` trains it, `predict` chooses among the proposals.

    Args:
        venv: Environment of proposals: `make_vec_env(..., wrapper=textgym.wrappers.TopKActions)`.
        seed: Seed of initial weights and sampling.
        settings: Settings; the defaults if None.

    Raises:
        SettingsError: If the environment has no proposals.
    """
    # Imported here, so that --help does not wait for torch.
    from stable_baselines3 import DQN

    from textgym.sb3 import LMReplayBuffer, TopKPolicy, td_errors

    s = settings or Settings()
    if not venv.has_attr("lm_name"):
        raise SettingsError(
            "this agent chooses among proposals; make the environment with "
            "make_vec_env(..., wrapper=textgym.wrappers.TopKActions)"
        )
    algorithm: Any = DQN
    policy: Any = TopKPolicy
    if s.algorithm == "qrdqn":
        algorithm = require("sb3_contrib", "contrib").QRDQN
        policy = import_module("textgym.sb3.topk.quantile").TopKQuantilePolicy
    agent: OffPolicyAlgorithm = algorithm(
        policy,
        venv,
        learning_rate=s.lr,
        buffer_size=s.buffer_size,
        # No uniformly random actions at any time: the policy explores.
        learning_starts=0,
        exploration_initial_eps=0.0,
        exploration_final_eps=0.0,
        batch_size=s.batch_size,
        gamma=s.gamma,
        train_freq=s.train_freq,
        gradient_steps=s.gradient_steps,
        target_update_interval=max(s.target_update_interval, venv.num_envs),
        max_grad_norm=s.max_grad_norm,
        replay_buffer_class=LMReplayBuffer,
        replay_buffer_kwargs={
            "n_steps": s.n_steps,
            "gamma": s.gamma,
            "priority_exponent": s.priority_exponent,
        },
        policy_kwargs={
            "lm": venv.get_attr("lm_name")[0],
            "size": s.size,
            "temperature": s.temperature,
        },
        seed=seed,
        device=s.device,
    )
    assert isinstance(agent.replay_buffer, LMReplayBuffer)
    agent.replay_buffer.scorer = td_errors(agent) if s.priority_exponent else None
    return agent


def main(settings: Settings) -> None:
    """Train and evaluate."""
    run("dqn_topk", settings, partial(make_agent, settings=settings))


if __name__ == "__main__":
    command_line("agents.dqn_topk", Settings(), __doc__, main)
