"""Error messages for arguments and algorithms that do not apply to language-model policies."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from textgym.errors import ModelError, SettingsError, near_matches, shown
from textgym.lm.sampling.draw import Sampling

_READS = "the language model reads the texts; leave it out (for pictures: picture_encoder_class)"
_CONTINUOUS = "it is for continuous actions, and tokens are discrete; leave it out"
_RECURRENT = "LMPolicy has no LSTM; leave it out, or give a recurrent language model as lm"
# Arguments of other classes in stable-baselines3 and sb3-contrib, with a hint for each: for
# LMPolicy, the policies for TopKActions, LMRolloutBuffer and LMReplayBuffer.
FOR_POLICY = {
    **{
        field.name: f"it belongs to sampling: policy_kwargs=dict(sampling=dict({field.name}=...))"
        for field in fields(Sampling)
    },
    "features_extractor_class": _READS,
    "features_extractor_kwargs": _READS,
    "share_features_extractor": "actor and critic share the language model; leave it out",
    "normalize_images": "picture_encoder_class gets raw pictures; leave it out",
    "ortho_init": "the weights are those of the checkpoint; leave it out",
    **dict.fromkeys(
        ("log_std_init", "full_std", "use_expln", "squash_output", "clip_mean"), _CONTINUOUS
    ),
    **dict.fromkeys(
        ("lstm_hidden_size", "n_lstm_layers", "shared_lstm", "enable_critic_lstm", "lstm_kwargs"),
        _RECURRENT,
    ),
    **dict.fromkeys(
        ("lr", "learning_rate"), "give the algorithm learning_rate=..., outside of policy_kwargs"
    ),
    "n_critics": "there is one critic, a value head on the language model; leave it out",
    "n_quantiles": "the critic's value is one number; leave it out, or use QRDQN with TopKActions",
    **dict.fromkeys(
        ("model", "model_name", "model_path", "pretrained", "checkpoint"),
        "the language model is given as lm=NAME_OR_PATH",
    ),
}
_SIZE = "the network is textgym.sb3.TopKFeatures; give its width as size=64"
FOR_PROPOSALS = {
    "use_sde": "it is for DQN (TopKQuantilePolicy: QRDQN); for PPO and A2C give LMPolicy, without "
    "TopKActions",
    **dict.fromkeys(
        ("net_arch", "activation_fn", "features_extractor_class", "features_extractor_kwargs",
         "normalize_images"),
        _SIZE,
    ),
    "n_quantiles": "QRDQN takes TopKQuantilePolicy of textgym.sb3.topk.quantile",
}  # fmt: skip
FOR_ROLLOUTS = dict.fromkeys(
    ("optimize_memory_usage", "handle_timeout_termination"),
    "it is a rollout buffer, for PPO, A2C and TRPO; DQN and QRDQN take "
    "replay_buffer_class=LMReplayBuffer",
)
FOR_REPLAY = {
    "gae_lambda": "it is a replay buffer, for DQN and QRDQN; PPO, A2C and TRPO take "
    "rollout_buffer_class=LMRolloutBuffer",
    "handle_timeout_termination": "a truncation never counts as a termination here; leave it out",
}
_ACTOR_CRITIC = "LMPolicy is an actor with a critic, for PPO, A2C and TRPO"
_BY_VALUES = (
    f"{_ACTOR_CRITIC}, and has no action values, which DQN and QRDQN need; wrap the "
    "environment in textgym.wrappers.TopKActions and use DQN(TopKPolicy, ...) of textgym.sb3"
)
_CONTINUOUS_ONLY = (
    f"{_ACTOR_CRITIC}; SAC, TD3 and their relatives are for continuous actions, and tokens are "
    "discrete; use one of the three"
)
# Attributes of other policies that algorithms use.
_PARTS = {
    "q_net": _BY_VALUES,
    "q_net_target": _BY_VALUES,
    "quantile_net": _BY_VALUES,
    "quantile_net_target": _BY_VALUES,
    "lstm_actor": (
        f"{_ACTOR_CRITIC}, and has no recurrent state, which RecurrentPPO needs: an observation "
        "is the whole text; use PPO, with any language model, recurrent ones included"
    ),
    "actor": _CONTINUOUS_ONLY,
    "critic": _CONTINUOUS_ONLY,
}


class WrongAlgorithmError(SettingsError, AttributeError):
    """An algorithm uses an attribute that only other kinds of policies have."""


def refuse_part(name: str) -> None:
    """Refuse an algorithm that uses an attribute of another kind of policy.

    Raises:
        WrongAlgorithmError: If `name` is such an attribute.
    """
    if name in _PARTS:
        raise WrongAlgorithmError(_PARTS[name])


def refuse_no_schedule() -> NoReturn:
    """Refuse an algorithm that creates a policy without a learning rate.

    Raises:
        SettingsError: Always.
    """
    raise SettingsError(
        f"{_ACTOR_CRITIC}, which give it a lr_schedule; lr_schedule=None is for algorithms without "
        "gradients, such as ARS: use one of the three"
    )


def refuse_arguments(owner: type, names: Iterable[str], fixes: Mapping[str, str]) -> None:
    """Refuse arguments that a class does not have.

    Args:
        owner: The class, with ``**others`` in its signature.
        names: The arguments in ``others``.
        fixes: Hints for arguments of other classes.

    Raises:
        SettingsError: If there are any.
    """
    for name in names:
        fix = fixes.get(name)
        if fix is None:
            parameters = inspect.signature(owner).parameters
            known = [one for one in parameters if one != "others"]
            near = near_matches(name, known).removeprefix("; ")
            fix = f"{near} the arguments are {', '.join(known)}".strip()
        raise SettingsError(f"{owner.__name__} has no argument {name!r}: {fix}")


def check_activation(activation: Any, layers: list[int]) -> None:
    """Check the activation function of the value head.

    Raises:
        SettingsError: If it is not a module class, or the value head has no hidden layers.
    """
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise SettingsError(
            f"activation_fn={shown(activation)} must be a module class such as torch.nn.ReLU"
        )
    if activation is not nn.Tanh and not layers:
        raise SettingsError(
            f"activation_fn={activation.__name__} has no effect without hidden layers of the value "
            "head; add some, as in net_arch=[64], or leave it out"
        )


def check_optimizer(kind: Any, arguments: dict[str, Any]) -> None:
    """Check the class and arguments of the optimizer.

    Raises:
        SettingsError: If it is not callable, or its arguments include the learning rate.
    """
    if not callable(kind):
        raise SettingsError(
            f"optimizer_class={shown(kind)} must be a class such as torch.optim.Adam"
        )
    if "lr" in arguments:
        raise SettingsError(
            "optimizer_kwargs has 'lr', but the algorithm sets the learning rate; give "
            "learning_rate to the algorithm instead"
        )


def check_lm_name(lm: Any) -> None:
    """Check that a policy's language model is given by name.

    Raises:
        ModelError: If it is something else.
    """
    if not isinstance(lm, str):
        raise ModelError(
            f"lm must be a name or path, not a {type(lm).__name__}, so that a saved agent can "
            "load it again; save the model with save_pretrained(folder) and give lm=folder"
        )


def check_update(micro_batch: int | None, value_lr_factor: float, value_warmup: int) -> None:
    """Check the arguments of a policy that are about its updates.

    Raises:
        SettingsError: If a number is impossible.
    """
    if micro_batch is not None and micro_batch < 1:
        raise SettingsError(f"micro_batch={micro_batch} must be at least 1 text, or None for all")
    if not (math.isfinite(value_lr_factor) and value_lr_factor > 0):
        raise SettingsError(f"value_lr_factor={value_lr_factor} must be a finite number above 0")
    if value_warmup < 0:
        raise SettingsError(f"value_warmup={value_warmup} must be at least 0 optimizer steps")


def refuse_second_derivatives(logits: Tensor, truncates: bool, checkpointed: bool) -> None:
    """Refuse, in the backward pass, second derivatives that would be NaN or fail.

    Args:
        logits: The differentiated tensor.
        truncates: Whether tokens are excluded from the distribution.
        checkpointed: Whether the model uses gradient checkpointing.
    """
    if not (truncates or checkpointed):
        return

    def refuse(_: Tensor) -> None:
        # Enabled in a backward pass only with create_graph=True.
        if not torch.is_grad_enabled():
            return
        if truncates:
            raise SettingsError(
                "second derivatives, which TRPO needs, are not defined where tokens are excluded; "
                "leave top_k, top_p, banned_tokens and required_tokens out of sampling"
            )
        raise SettingsError(
            "second derivatives, which TRPO needs, do not work with gradient checkpointing; leave "
            "gradient_checkpointing out"
        )

    logits.register_hook(refuse)  # type: ignore[no-untyped-call]
