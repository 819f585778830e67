"""The KL penalty to a frozen reference model.

Per token, as in Ziegler et al. 2019 ("Fine-Tuning Language Models from Human Preferences", section
2.2), the reward is reduced by ``beta * (log pi(a|s) - log ref(a|s))``. With a target, beta follows
the proportional controller of that paper, once per rollout, with the rollout's mean KL per token:
``beta *= 1 + 0.1 * clip((KL - target) / target, -0.2, 0.2)``.

The reference's log-probabilities are computed with the policy's sampling (temperature, penalties,
bans) and on the same support of top-k and top-p. Both are then distributions over the same tokens,
and the mean of the estimate is a KL divergence.

A reference whose checkpoint has a picture encoder sees the pictures. One that was made from text
alone models the language, not what is in a picture, and reads the text alone.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textgym.errors import ModelError, SettingsError
from textgym.lm.lora import adapter_off, has_adapter
from textgym.lm.model import LanguageModel
from textgym.lm.pictures import read_pictures, set_pictures
from textgym.lm.sampling.processing import Sampler
from textgym.lm.scoring import SequenceBatch, score_actions, sequence_hidden
from textgym.lm.weights import tensors_hash, weights_hash

BASE = "base"
"""The name of a reference that is the policy's own model without its adapter."""

_GAIN = 0.1
_CLIP = 0.2


class KLPenalty:
    """A frozen reference model and the coefficient of the penalty.

    Args:
        coef: The coefficient beta, or its initial value; with 0 the KL is only measured.
        target: Target of an adaptive coefficient, the mean KL per token in nats; None for a fixed
            coefficient.
        reference: Name or path of the reference model, or ``"base"``: the policy's own model with
            its adapter disabled, which needs no second copy.
        device: Device of the reference model.
        dtype: Dtype of its weights, as :meth:`LanguageModel.load` takes it.

    Attributes:
        coef: The current coefficient.
        model: The reference model; None if it is the policy's own.
        fingerprint: A hash of the reference's weights, or ``"base"``.

    Raises:
        SettingsError: If the coefficient is negative, or 0 with a target.
        ModelError: If the reference cannot be loaded.
    """

    def __init__(
        self,
        coef: float,
        target: float | None,
        reference: str,
        device: str | torch.device,
        dtype: str = "auto",
    ) -> None:
        if not (np.isfinite(coef) and coef >= 0):
            raise SettingsError(f"kl_coef={coef} must be a finite number of at least 0")
        if target is not None and not (np.isfinite(target) and target > 0 and coef > 0):
            raise SettingsError(
                f"kl_target={target} and kl_coef={coef}: give a target above 0, in nats per token, "
                "and an initial coefficient above 0, such as 0.05; or no target, for a fixed one"
            )
        self.coef = float(coef)
        self.target = target
        self.model: LanguageModel | None = None
        self.fingerprint = BASE
        self._pictures: dict[str, Tensor] | None = None
        if reference != BASE:
            self.model = LanguageModel.load(reference, device=device, dtype=dtype)
            self.model.requires_grad_(False)
            self.fingerprint = weights_hash(self.model)
            assert self.model.origin is not None
            self._pictures = read_pictures(self.model.origin.source)
            if self._pictures is not None:
                self.fingerprint += f" and {tensors_hash(self._pictures)}"

    @torch.no_grad()
    def log_ratios(
        self,
        batch: SequenceBatch,
        actions: Tensor,
        log_probs: Tensor,
        sampler: Sampler | None = None,
        policy_lm: LanguageModel | None = None,
    ) -> Tensor:
        """``log pi(a|s) - log ref(a|s)`` of each decision, float32 ``[n]``.

        Args:
            batch: The texts and decisions, with the support of each.
            actions: ``[n]`` token ids.
            log_probs: ``[n]``, the policy's log-probabilities.
            sampler: The policy's sampling; None for the full softmax.
            policy_lm: The policy's model. Needed if its base is the reference, or if the reference
                has a picture encoder, which is of the same class.

        Raises:
            ModelError: If the reference is the base of the policy's model, which has no adapter, or
                has another picture encoder than the policy's.
        """
        with ExitStack() as stack:
            lm = self.model
            if lm is None:
                lm = _with_base(policy_lm)
                stack.enter_context(adapter_off(lm.model))
            if self._pictures is None:
                batch = batch._replace(images=None)
            elif batch.images is not None and lm.pictures is None:
                self._attach_pictures(lm, policy_lm)
            batch = batch.to(lm.device)
            actions = actions.to(lm.device)
            hidden = sequence_hidden(lm, batch)
            reference, _ = score_actions(lm, hidden, actions, sampler, batch)
        return log_probs - reference.to(log_probs.device)

    def _attach_pictures(self, lm: LanguageModel, policy_lm: LanguageModel | None) -> None:
        """Let the reference read pictures, by an encoder of the policy's class."""
        assert self._pictures is not None
        if policy_lm is None or policy_lm.pictures is None:
            raise ModelError(
                f"the reference {lm.name!r} reads pictures, and the policy's model is not known; "
                "give log_ratios() policy_lm=policy.lm"
            )
        assert lm.origin is not None
        encoder = copy.deepcopy(policy_lm.pictures)
        set_pictures(encoder, self._pictures, lm.origin.source)
        encoder.requires_grad_(False)
        lm.pictures = encoder.to(lm.device)

    def adapt(self, log_ratios: NDArray[np.float32]) -> float:
        """Update an adaptive coefficient, once per rollout. Returns the rollout's mean KL."""
        mean = float(np.mean(log_ratios, dtype=np.float64))
        if self.target is not None:
            error = float(np.clip((mean - self.target) / self.target, -_CLIP, _CLIP))
            self.coef *= 1.0 + _GAIN * error
        return mean


def _with_base(lm: LanguageModel | None) -> LanguageModel:
    if lm is None or not has_adapter(lm.model):
        raise ModelError(
            f"reference={BASE!r} is the policy's own model with its adapter disabled, but the "
            "policy has no adapter; give policy_kwargs=dict(lora=dict(r=8)), or the name of a "
            "reference model"
        )
    return lm
