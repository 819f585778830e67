"""A DQN policy that chooses among a language model's proposals, starting from its distribution.

``DQN`` runs unmodified with it::

    DQN(TopKPolicy, venv, learning_starts=0, exploration_initial_eps=0.0,
        exploration_final_eps=0.0, replay_buffer_class=LMReplayBuffer, ...)

The policy is stochastic and explores by itself. DQN's epsilon-greedy exploration makes one decision
for all rows, and its uniform choice is mostly nonsense among fluent and impossible words.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from textgym.errors import SettingsError
from textgym.sb3.compatibility import FOR_PROPOSALS, WrongAlgorithmError, refuse_arguments
from textgym.sb3.topk.features import TopKFeatures
from textgym.tokenization import TINY
from textgym.wrappers.proposals import fillers


class TopKPolicy(DQNPolicy):
    """Q values of a language model's proposals, and a softmax policy that starts as the model.

    Actions are sampled from ``softmax(log_probs + Q / temperature)``, which maximizes the expected
    value minus ``temperature`` times the KL divergence from the language model (Todorov 2006;
    Schulman et al. 2017, https://arxiv.org/abs/1704.06440, equation 2). Q is initially 0, so the
    policy starts as the language model. The proposals of ``SegmentActions`` are samples already, so
    their log-probabilities are left out.

    Args:
        observation_space: That of ``TopKActions`` or ``SegmentActions``.
        action_space: That of the same wrapper.
        lr_schedule: Learning rate, set by the algorithm.
        lm: Name or path of the language model of the proposals.
        size: Width of the network's layers.
        temperature: Coefficient of the KL divergence, in units of value per nat. Near 0 the policy
            is greedy.
        optimizer_class: The optimizer.
        optimizer_kwargs: Its arguments other than the learning rate.
        **others: Arguments of other policies, which are refused with a hint.

    Raises:
        SettingsError: If the spaces are not those of such a wrapper, or the temperature is not
            above 0.
        ModelError: If the model cannot be loaded, or has another vocabulary.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        lm: str = TINY,
        size: int = 64,
        temperature: float = 0.05,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        refuse_arguments(TopKPolicy, others, FOR_PROPOSALS)
        self.temperature = check_temperature(temperature)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            features_extractor_class=TopKFeatures,
            features_extractor_kwargs={"lm": lm, "size": size},
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def make_q_net(self) -> QNetwork:
        """A Q network with one head for all candidates."""
        net = super().make_q_net()
        features = cast(TopKFeatures, net.features_extractor)
        net.q_net = nn.Sequential(CandidateHead(features.k, features.size))
        return net.to(self.device)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "quantile_net":
                raise WrongAlgorithmError(
                    f"{type(self).__name__} has no quantile_net, which QRDQN needs; use "
                    "textgym.sb3.topk.quantile.TopKQuantilePolicy"
                ) from None
            raise

    def _predict(self, obs: Any, deterministic: bool = True) -> Tensor:
        return choose(self.q_net(obs), obs, self.temperature, deterministic)

    @torch.no_grad()
    def choice_entropy(self, observation: dict[str, NDArray[Any]]) -> float:
        """Mean entropy of the choice after some observations, in nats."""
        obs: Any = self.obs_to_tensor(observation)[0]
        return float(entropy(self.q_net(obs), obs, self.temperature).mean())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return constructor_parameters(self)


class CandidateHead(nn.Module):
    """Values of the candidates: the value of the text plus the advantage of each candidate.

    A dueling head (Wang et al. 2016, https://arxiv.org/abs/1511.06581) without subtraction of the
    mean. All values are initially 0.

    Args:
        k: Number of candidates.
        size: Features m of the text, and of each candidate.
        outputs: Numbers Q for each value.
    """

    def __init__(self, k: int, size: int, outputs: int = 1) -> None:
        super().__init__()
        self.k = k
        self.value = nn.Linear(size, outputs)
        self.advantage = nn.Linear(size, outputs, bias=False)
        for tensor in (self.value.weight, self.value.bias, self.advantage.weight):
            nn.init.zeros_(tensor)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[B, (k + 1) * m]`` to values ``[B, Q * k]``.

        QR-DQN views them as ``[B, Q, k]``.
        """
        parts = features.view(len(features), self.k + 1, -1)
        values: Tensor = self.value(parts[:, :1]) + self.advantage(parts[:, 1:])
        return values.transpose(1, 2).flatten(1)


def choose(
    values: Tensor, obs: dict[str, Tensor], temperature: float, deterministic: bool
) -> Tensor:
    """Choose among proposals like :class:`TopKPolicy`; never a filler.

    Args:
        values: ``[B, k]``.
        obs: The observations.
        temperature: As in :class:`TopKPolicy`.
        deterministic: Take the likeliest choice.

    Returns:
        ``[B]``.
    """
    logits = _logits(values, obs, temperature)
    if deterministic:
        return logits.argmax(1)
    return torch.multinomial(torch.softmax(logits, 1), 1)[:, 0]


def entropy(values: Tensor, obs: dict[str, Tensor], temperature: float) -> Tensor:
    """Entropy of the choice of :func:`choose`, in nats, ``[B]``; see there for the arguments."""
    probs = torch.softmax(_logits(values, obs, temperature), 1)
    terms: Tensor = torch.special.entr(probs)
    return terms.sum(1)


def _logits(values: Tensor, obs: dict[str, Tensor], temperature: float) -> Tensor:
    logits = values / temperature
    if "outcomes" in obs:
        return logits
    return (logits + obs["logprobs"]).masked_fill(fillers(obs["candidates"]), -torch.inf)


def check_temperature(temperature: float) -> float:
    """A number above 0.

    Raises:
        SettingsError: If it is not.
    """
    if not 0 < temperature < float("inf"):
        raise SettingsError(f"temperature={temperature!r} must be a finite number above 0")
    return float(temperature)


def constructor_parameters(policy: Any) -> dict[str, Any]:
    """The constructor arguments of a policy, as SB3 saves them."""
    return {
        "observation_space": policy.observation_space,
        "action_space": policy.action_space,
        "lr_schedule": policy._dummy_schedule,
        **policy.features_extractor_kwargs,
        "temperature": policy.temperature,
        "optimizer_class": policy.optimizer_class,
        "optimizer_kwargs": policy.optimizer_kwargs,
    }
