"""A Stable-Baselines3 policy whose action logits are a language model's.

PPO and A2C use it like ``MlpPolicy``. The value head shares the hidden state of the logits, so one
forward pass serves both, of one new token per row with :class:`textgym.lm.MemoDecoder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from textgym.data.observations import split_observation
from textgym.errors import ModelError, SettingsError
from textgym.lm.decoding.memo import MemoDecoder
from textgym.lm.engine import prepare_training
from textgym.lm.micro_batches import in_micro_batches
from textgym.lm.model import LanguageModel
from textgym.lm.pictures import PictureEncoder
from textgym.lm.sampling.decision import Decision, draw, to_host
from textgym.lm.sampling.draw import Sampling
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.sampling.processing import Sampler
from textgym.lm.scoring import (
    SequenceBatch,
    as_batch,
    last_hidden,
    observation_batch,
    score_actions,
    sequence_hidden,
)
from textgym.sb3.adapters import leave_out_base
from textgym.sb3.checkpoints.policy_files import load_policy, save_policy
from textgym.sb3.compatibility import (
    FOR_POLICY,
    check_activation,
    check_lm_name,
    check_optimizer,
    check_update,
    refuse_arguments,
    refuse_no_schedule,
    refuse_part,
    refuse_second_derivatives,
)
from textgym.sb3.optimizer import make_optimizer
from textgym.sb3.spaces import checked_view
from textgym.sb3.value_head import value_head, value_layers
from textgym.tokenization import TINY

_Self = TypeVar("_Self", bound="LMPolicy")


class LMPolicy(ActorCriticPolicy):
    """Actor and critic on one language model.

    ``sampling`` is part of the policy: log-probabilities, entropies and ``get_distribution`` are
    those of the processed distribution, in the rollout and in the update. So PPO's ratio starts at
    1, up to rounding (1e-5 in float32, some percent for rare tokens in bfloat16). The support of
    top-k and top-p is in ``log_probs.decision`` (:class:`textgym.lm.Decision`), which
    :class:`LMRolloutBuffer` stores for the update.

    Args:
        observation_space: Token ids ``[L]``, padded with -1; with pictures a ``Dict``.
        action_space: ``Discrete``, one action per token.
        lr_schedule: Learning rate, set by the algorithm.
        lm: Name or path of the language model, as for :meth:`LanguageModel.load`. Not a module: the
            algorithm saves this argument to load the model again.
        sampling: The distribution over tokens, as in ``dict(temperature=0.7, top_k=50)``; see
            :class:`textgym.lm.Sampling`. top-k and top-p need :class:`LMRolloutBuffer`.
        cache: Decode with a KV cache. False runs the whole text for every token, which works for
            every architecture.
        dtype: The dtype to compute in while float32 weights are updated: ``"auto"`` is bfloat16 on
            a GPU that supports it and float32 elsewhere; ``"bfloat16"`` is fast on some CPUs too.
        lora: Train a low-rank adapter: the arguments of peft's ``LoraConfig``, as in ``dict(r=8,
            lora_alpha=16)``. ``LMRolloutBuffer(reference="base")`` is then the model without it.
            An adapter that ``lm`` has is merged first; without this argument it is trained further.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a
            third more time.
        micro_batch: Number of texts whose activations are in memory at once in an update; None for
            all. Gradients are those of the whole minibatch (:mod:`textgym.lm.micro_batches`).
        picture_encoder_class: Class of the encoder of the environment's pictures.
        picture_encoder_kwargs: Its arguments other than the pictures' shape and the model's width.
        compile: Compile the training pass with ``torch.compile``: True, or the name of a backend.
        net_arch: Hidden layers of the value head (``[64]``, or ``dict(vf=[64])``); none by default.
        activation_fn: Their activation.
        use_sde: Must be False: actions are discrete.
        optimizer_class: The optimizer.
        optimizer_kwargs: Its arguments other than the learning rate. ``weight_decay`` is for
            matrices alone, not for biases and norms.
        value_lr_factor: The value head's learning rate, relative to that of the language model.
        value_warmup: Number of optimizer steps at the beginning that train the value head alone.
        **others: Refused.

    Attributes:
        lm: The :class:`LanguageModel`; ``policy.lm.save_pretrained(folder)`` exports it.
        sampler: Applies ``sampling`` to logits.

    Raises:
        ModelError: If the model cannot be loaded or does not fit the environment.
        SettingsError: If the spaces are not those of a text environment, or an argument is invalid.
        MissingDependencyError: If ``lora`` is given and peft is not installed.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule | None = None,
        lm: str = TINY,
        sampling: Mapping[str, Any] | Sampling | None = None,
        cache: bool = True,
        dtype: str = "auto",
        lora: Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        micro_batch: int | None = None,
        compile: bool | str = False,
        picture_encoder_class: type[PictureEncoder] = PictureEncoder,
        picture_encoder_kwargs: Mapping[str, Any] | None = None,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        value_lr_factor: float = 1.0,
        value_warmup: int = 0,
        **others: Any,
    ) -> None:
        refuse_arguments(LMPolicy, others, FOR_POLICY)
        if lr_schedule is None:
            refuse_no_schedule()
        check_lm_name(lm)
        if use_sde:
            raise SettingsError("use_sde=True needs continuous actions; tokens are discrete")
        layers = value_layers(net_arch)
        check_activation(activation_fn, layers)
        check_optimizer(optimizer_class, optimizer_kwargs or {})
        check_update(micro_batch, value_lr_factor, value_warmup)
        self.view = checked_view(observation_space, action_space)
        self.picture_encoder_class = picture_encoder_class
        self.picture_encoder_kwargs = dict(picture_encoder_kwargs or {})
        self.lm_name = lm
        self.sampling = Sampling.of(sampling)
        self.use_cache = cache
        self.micro_batch = micro_batch
        # Without the defaults, which saved agents of version 0.1.0 do not have.
        rates = {"value_lr_factor": (value_lr_factor, 1.0), "value_warmup": (value_warmup, 0)}
        self.value_rates: dict[str, Any] = {k: v for k, (v, d) in rates.items() if v != d}
        # The arguments of prepare_training.
        self.engine: dict[str, Any] = {
            "dtype": dtype,
            "lora": None if lora is None else dict(lora),
            "gradient_checkpointing": gradient_checkpointing,
            "compile": compile,
        }
        self.decoder: MemoDecoder | None = None
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=layers,
            activation_fn=activation_fn,
            ortho_init=False,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """Load the language model, build the value head and the optimizer."""
        width, image_shape = self.view
        actions = int(cast("spaces.Discrete", self.action_space).n)
        # The algorithm moves the policy to its device later.
        self.lm = LanguageModel.load(self.lm_name, device="cpu")
        self.lm.check_fits(width, actions, getattr(self.action_space, "tokenizer_hash", None))
        prepare_training(self.lm, **self.engine)
        if image_shape is not None:
            self.lm.attach_pictures(
                self.picture_encoder_class(
                    image_shape, self.lm.hidden_size, **self.picture_encoder_kwargs
                )
            )
        self.sampler = Sampler(
            self.sampling, self.lm.tokenizer, prompt_ends=self.lm.seq2seq is not None
        )
        layers = cast(list[int], self.net_arch)
        head = value_head(self.lm.hidden_size, layers, self.activation_fn)
        self.value_net = head  # type: ignore[assignment]
        if self.use_cache:
            self.decoder = MemoDecoder(self.lm, width, image_shape)
        if self.optimizer_class in (torch.optim.Adam, torch.optim.AdamW):
            # One pass over the weights per step instead of a dozen.
            others = {"foreach", "differentiable"} & self.optimizer_kwargs.keys()
            self.optimizer_kwargs = {"fused": not others} | self.optimizer_kwargs
        self.optimizer = make_optimizer(
            self, head, self.optimizer_class, lr_schedule(1), self.optimizer_kwargs,
            **self.value_rates,
        )  # fmt: skip
        leave_out_base(self)

    def forward(
        self, obs: Tensor | Mapping[str, Tensor], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Act.

        Args:
            obs: ``[B, L]`` token ids; with pictures a mapping of ``tokens`` and ``image``.
            deterministic: Take the likeliest token instead of sampling.

        Returns:
            Actions ``[B]`` (int64), values ``[B, 1]`` and log-probabilities ``[B]`` (float32), on
            the CPU unless gradients are enabled. The tensor of log-probabilities has a
            :class:`textgym.lm.Decision`.

        Raises:
            ModelError: If the model's probabilities are NaN.
        """
        tokens, images = split_observation(obs)
        hidden = self._hidden(obs)
        actions, log_probs, kept = self._draw(hidden, tokens, deterministic)
        values = self._values(hidden)
        if torch.is_grad_enabled():
            batch = observation_batch(tokens, kept, images)
            log_probs, _ = score_actions(self.lm, hidden, actions, self.sampler, batch)
        elif actions.device.type != "cpu":
            actions, values, log_probs = to_host(actions, values, log_probs)
        self._check_finite(log_probs)
        Decision(self.lm, self.sampler, kept).attach(log_probs)
        return actions, values, log_probs

    def evaluate_actions(
        self,
        obs: Tensor | Mapping[str, Tensor] | SequenceBatch,
        actions: Tensor,
        kept: KeptSets | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate actions; differentiable, and without the cache.

        Args:
            obs: Observations ``[n, L]``, or whole sequences from :class:`LMRolloutBuffer`.
            actions: ``[n]`` token ids.
            kept: The support of top-k and top-p that the actions were sampled from; sequences from
                the buffer include it.

        Returns:
            Values ``[n, 1]``, log-probabilities ``[n]`` and entropies ``[n]`` (float32).

        Raises:
            SettingsError: If there are not as many actions, or the support of top-k is not known.
        """
        batch = as_batch(obs)
        if kept is not None:
            batch = batch._replace(kept=kept)
        self.sampler.check_recorded(batch.kept)
        actions = actions.long().flatten()
        size = self.micro_batch
        if size is None or size >= len(batch.tokens) or not torch.is_grad_enabled():
            return self._evaluate(batch, actions)
        if len(actions) != len(batch.rows):
            raise SettingsError(f"{len(actions)} actions for {len(batch.rows)} observations")
        return in_micro_batches(self._evaluate, batch, actions, size)

    def _evaluate(self, batch: SequenceBatch, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = sequence_hidden(self.lm, batch)
        log_probs, entropy = score_actions(self.lm, hidden, actions, self.sampler, batch)
        return self._values(hidden), log_probs, entropy

    def get_distribution(self, obs: Tensor | Mapping[str, Tensor] | SequenceBatch) -> Distribution:
        """The categorical distribution over tokens after each observation.

        With top-k or top-p, its support is that of the current weights, or, for sequences from the
        buffer, the recorded one.

        Unlike ``evaluate_actions``, it has second derivatives, which TRPO takes of its KL.

        Raises:
            SettingsError: In a backward pass with ``create_graph=True``, if tokens are excluded or
                with gradient checkpointing.
        """
        batch = as_batch(obs)
        if torch.is_grad_enabled():
            # The one attention kernel that has second derivatives.
            with sdpa_kernel(SDPBackend.MATH):
                logits = self.lm.logits(self._hidden(obs))
            sampler = self.sampler
            excludes = bool(sampler.truncates or sampler.banned or sampler.required)
            refuse_second_derivatives(logits, excludes, bool(self.lm.checkpointed))
        else:
            logits = self.lm.logits(self._hidden(obs))
        if not self.sampler.plain:
            texts = batch.observations(0, len(logits))
            logits = self.sampler.process(logits, texts, batch.kept)
            if batch.kept is None and (kept := self.sampler.kept(logits)) is not None:
                logits = logits.masked_fill(~kept.mask(), -torch.inf)
        return self.action_dist.proba_distribution(logits)

    def predict_values(self, obs: Tensor | Mapping[str, Tensor] | SequenceBatch) -> Tensor:
        """Value ``[B, 1]`` of each observation."""
        return self._values(self._hidden(obs))

    def train(self, mode: bool = True) -> LMPolicy:
        """Set the mode, as in ``set_training_mode``; training mode empties the KV cache.

        The language model's dropout is off in both modes.
        """
        super().train(mode)
        if mode and self.decoder is not None:
            self.decoder.invalidate()
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            refuse_part(name)
            raise

    def _predict(
        self, observation: Tensor | Mapping[str, Tensor], deterministic: bool = False
    ) -> Tensor:
        tokens, _ = split_observation(observation)
        actions, log_probs, _ = self._draw(self._hidden(observation), tokens, deterministic)
        self._check_finite(log_probs)
        return actions

    def _check_finite(self, log_probs: Tensor) -> None:
        if bool(log_probs.detach().isnan().any()):
            raise ModelError(
                f"the probabilities of {self.lm.name!r} are NaN: training has diverged, or the "
                "checkpoint is broken; train with a lower learning rate"
            )

    @torch.no_grad()
    def _draw(
        self, hidden: Tensor, obs: Tensor, deterministic: bool
    ) -> tuple[Tensor, Tensor, KeptSets | None]:
        """Actions ``[B]``, their log-probabilities, and the support of top-k and top-p."""
        return draw(self.lm, self.sampler, hidden, obs, deterministic)

    def _hidden(self, obs: Tensor | Mapping[str, Tensor] | SequenceBatch) -> Tensor:
        """Hidden state ``[B, d]`` after each observation, from the cache without gradients."""
        if isinstance(obs, SequenceBatch):
            return sequence_hidden(self.lm, obs)
        tokens, images = split_observation(obs)
        if self.decoder is None or torch.is_grad_enabled():
            return last_hidden(self.lm, tokens, images)
        return self.decoder(tokens, images)

    def _values(self, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.value_net(hidden.float()))

    def save(self, path: str | Path) -> None:
        """Save the policy as safetensors and JSON, whatever the extension of the path.

        Raises:
            DataError: If an argument of the policy would have to be pickled.
            StorageError: If the file cannot be written; an existing file stays intact.
        """
        save_policy(self, path)

    @classmethod
    def load(cls: type[_Self], path: str | Path, device: torch.device | str = "auto") -> _Self:
        """Load a policy from a file of :meth:`save`, without running code in it.

        Args:
            path: The file. Pickles of earlier versions are read by torch's restricted unpickler.
            device: Device of the policy; ``"auto"`` is the GPU if there is one.

        Raises:
            SettingsError: If the file is missing, damaged or of another class.
            ModelError: If its language model cannot be loaded.
        """
        return load_policy(cls, path, get_device(device))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "lm": self.lm_name,
            "sampling": self.sampling.as_dict(),
            "cache": self.use_cache,
            "micro_batch": self.micro_batch,
            **self.engine,
            "picture_encoder_class": self.picture_encoder_class,
            "picture_encoder_kwargs": self.picture_encoder_kwargs,
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
            **self.value_rates,
        }
