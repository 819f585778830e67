"""The mutual information of prompts and responses in a training, at a bounded cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from textgym.lm.model import LanguageModel
from textgym.lm.sampling.processing import Sampler
from textgym.sb3.diagnostics.cross_scoring import Text, cross_scores, distinct, text_of
from textgym.sb3.diagnostics.estimates import mutual_information
from textgym.sb3.policy import LMPolicy
from textgym.tokenization import Tokenizer

STEPS_PER_TOKEN = 8
"""Environment steps of the training for each token that is read for an estimate.

With it, the estimates take about 1 % of the CPU time of PPO's training with ``textgym/tiny``, and
3 % of that of expert iteration and of tabular Q-learning, which compute least for a step.
"""

# Finished episodes to wait for until there are enough prompts, per prompt.
_PATIENCE = 4


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """The model that scores texts, and the environment's tokenizer and longest text."""

    lm: LanguageModel
    sampler: Sampler | None
    tokenizer: Tokenizer
    width: int


class PromptDependence:
    """Estimates of the mutual information, from the texts of a training's rollouts.

    Args:
        prompts: Number of prompts and responses of an estimate.
    """

    def __init__(self, prompts: int) -> None:
        self._prompts = prompts
        self._scorer: _Scorer | None = None
        self.clear()

    def clear(self) -> None:
        """Forget everything, for another training."""
        self._texts: list[Text] = []
        # The first estimate is due at once.
        self._due = False
        self._due_at = 0

    def start(self, model: Any, venv: VecEnv) -> None:
        """Choose the model that scores: the policy, or the one that makes the proposals."""
        self._scorer = None
        known = venv.has_attr("tokenizer") and venv.has_attr("settings")
        if self._prompts < 2 or not known or getattr(model, "learns_demonstrations", False):
            return
        policy, sampler = getattr(model, "policy", None), None
        if isinstance(policy, LMPolicy):
            lm = policy.lm
            whole = dataclasses.replace(policy.sampling, top_k=None, top_p=None)
            sampler = Sampler(whole, lm.tokenizer, prompt_ends=lm.seq2seq is not None)
        elif venv.has_attr("frozen"):
            lm = venv.get_attr("frozen")[0].lm
        else:
            return
        settings = venv.get_attr("settings")[0]
        self._scorer = _Scorer(lm, sampler, venv.get_attr("tokenizer")[0], settings.width)

    def begin(self, steps: int) -> None:
        """A rollout begins after this many environment steps."""
        due = self._scorer is not None and steps >= self._due_at
        if due and not self._due:
            self._texts = []  # Only those that are written from now on.
        self._due = due
        del self._texts[: -_PATIENCE * self._prompts]

    def add(self, info: Mapping[str, Any]) -> None:
        """Take the text of an episode, from the info of its last step."""
        if self._scorer is not None:
            text = text_of(info, self._scorer.tokenizer)
            if text is not None:
                self._texts.append(text)

    def estimate(self, steps: int) -> tuple[float, float] | None:
        """The mutual information and its maximum, in nats, at the end of a rollout.

        None if no estimate is due, or there are too few prompts.
        """
        if not self._due:
            return None
        texts = distinct(self._texts, self._prompts)
        if len(texts) < self._prompts and len(self._texts) < _PATIENCE * self._prompts:
            return None
        self._texts = []
        found = self._estimate_of(texts)
        if found is None:
            return None
        nats, most, tokens = found
        self._due_at, self._due = steps + STEPS_PER_TOKEN * tokens, False
        return nats, most

    def last_estimate(self) -> tuple[float, float] | None:
        """One more estimate of the last texts, at the end of the training, as `estimate` gives it.

        None if the last rollout had one, or too few prompts.
        """
        found = self._estimate_of(distinct(self._texts, self._prompts))
        return None if found is None else found[:2]

    def _estimate_of(self, texts: list[Text]) -> tuple[float, float, int] | None:
        """The mutual information, its maximum, and the number of tokens that were read."""
        if self._scorer is None or len(texts) < 2:
            return None
        scorer = self._scorer
        scores = cross_scores(scorer.lm, texts, scorer.width, scorer.sampler)
        return mutual_information(scores.log_probs), math.log(len(texts)), scores.tokens

    def get_state(self) -> dict[str, Any]:
        """The state, as values of JSON and arrays."""
        texts = [[text.prompt, text.response, text.image] for text in self._texts]
        return {"texts": texts, "due": self._due, "due_at": self._due_at}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`."""
        self._texts = [Text(*parts) for parts in state["texts"]]
        self._due, self._due_at = bool(state["due"]), int(state["due_at"])
