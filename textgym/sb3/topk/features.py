"""A features extractor for a language model's proposals.

Each candidate token is embedded by the language model's frozen embedding table, and combined with
the hidden state by one small network that all candidates share.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from textgym.errors import ModelError, SettingsError
from textgym.lm.model import LanguageModel
from textgym.tokenization import TINY
from textgym.wrappers.proposals import fillers

_KEYS = {"hidden", "candidates", "logprobs"}
# Log-probabilities are rarely below this.
_LOWEST = -20.0


class TopKFeatures(BaseFeaturesExtractor):
    """Features of a text and of each proposal, for the wrappers of :mod:`textgym.wrappers`.

    For ``"MultiInputPolicy"`` of any Stable-Baselines3 algorithm::

        PPO("MultiInputPolicy", venv, policy_kwargs=dict(
            features_extractor_class=TopKFeatures,
            features_extractor_kwargs=dict(lm="textgym/tiny")))

    A token is represented by its embedding, a continuation of ``SegmentActions`` by the hidden
    state after it.

    Args:
        observation_space: That of ``TopKActions`` or ``SegmentActions``.
        lm: Name or path of the language model of the proposals.
        size: Features m of the text, and of each proposal.

    Attributes:
        k: Number of proposals.
        size: Features m of the text, and of each proposal.

    Raises:
        SettingsError: If the observation space is not that of such a wrapper.
        ModelError: If the model cannot be loaded, or has another vocabulary.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], lm: str = TINY, size: int = 64
    ) -> None:
        if not isinstance(observation_space, spaces.Dict) or not set(observation_space) >= _KEYS:
            raise SettingsError(
                f"TopKFeatures: the observations must have {sorted(_KEYS)}, not "
                f"{observation_space}; make the environment with make_vec_env(..., "
                "wrapper=textgym.wrappers.TopKActions)"
            )
        self.k = _shape(observation_space["logprobs"])[0]
        super().__init__(observation_space, (self.k + 1) * size)
        self.size = size
        width = _shape(observation_space["hidden"])[0]
        width_of_proposal = width
        if "outcomes" not in observation_space.spaces:
            table = _embeddings(lm, observation_space["candidates"])
            width_of_proposal = table.shape[1]
            # A buffer, because it is not trained; not persistent, because it is loaded by name.
            self.register_buffer("table", table, persistent=False)
        self.normal = nn.LayerNorm(width, elementwise_affine=False)
        self.text = nn.Linear(width, size)
        self.state = nn.Linear(width, size)
        self.proposal = nn.Linear(width_of_proposal, size, bias=False)
        self.likely = nn.Linear(1, size, bias=False)
        self.mixed = nn.Linear(size, size)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features ``[B, (k + 1) * m]``: of the text, then of each proposal."""
        hidden = self.normal(observations["hidden"].float())
        log_probs = observations["logprobs"].float().clamp(min=_LOWEST)
        if "outcomes" in observations:
            proposed = self.normal(observations["outcomes"].float())
        else:
            tokens = observations["candidates"].long()
            proposed = cast(Tensor, self.table)[tokens]
            # A filler has the log-probability of the candidate that it repeats.
            log_probs = torch.where(fillers(tokens), log_probs[:, :1], log_probs)
        likely = self.likely(log_probs[..., None])
        joined = self.state(hidden)[:, None] + self.proposal(proposed) + likely
        proposals = torch.relu(self.mixed(torch.relu(joined)))
        return torch.cat([torch.relu(self.text(hidden)), proposals.flatten(1)], 1)


def _embeddings(lm: str, candidates: spaces.Space[Any]) -> Tensor:
    """The model's embedding table ``[V, e]`` with normalized rows."""
    model = LanguageModel.load(lm, device="cpu")
    size = int(cast(spaces.Box, candidates).high.max()) + 1
    if model.vocab_size != size:
        raise ModelError(
            f"lm={lm!r} has {model.vocab_size} tokens, but the candidates are from {size}; give "
            "the model of the proposals"
        )
    weight = cast(nn.Embedding, model.model.get_input_embeddings()).weight.detach()[:size].float()
    return nn.functional.layer_norm(weight, weight.shape[1:])


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    return cast(tuple[int, ...], space.shape)
