"""The settings of a run that trains a language model: its start, precision, adapter and optimizer.

Flags with a dot are of a group: ``--lora.r`` is ``Settings(lora_r=...)``, and
``--sampling.temperature`` is ``Settings(sampling_temperature=...)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from agents.running.settings import RunSettings
from agents.running.validation import above, at_least, within
from textgym.errors import SettingsError

if TYPE_CHECKING:
    from stable_baselines3.common.type_aliases import Schedule

Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass
class ModelSettings(RunSettings):
    """Settings of the language model that is trained, and of its optimizer."""

    lr: float = 5e-4
    """Learning rate of Adam."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Let the learning rate fall over --steps, to a tenth, or keep it constant. A small model's
    single updates are noisy: at a constant rate the last one may undo a tenth of the reward that
    was reached. A run that is resumed with more --steps follows the longer schedule."""
    lr_warmup: float = 0.0
    """Share of --steps over which the learning rate rises from 0, before it falls."""
    weight_decay: float = 0.0
    """Weight decay (AdamW) of matrices; biases and norms have none."""
    dtype: Dtype = "auto"
    """Dtype to compute in; weights are float32 (mixed precision). auto: bfloat16 on a GPU or a
    processor that has instructions for it, else float32."""
    lora_r: Annotated[int | None, arg(name="lora.r")] = None
    """Rank of a low-rank adapter (LoRA), which is trained instead of all weights. The reference is
    the model without it, so there is no second copy. Needs the extra lora."""
    lora_alpha: Annotated[float | None, arg(name="lora.alpha")] = None
    """Scale of the adapter: its output is multiplied by alpha / r. Default: 2 r."""
    lora_targets: Annotated[tuple[str, ...], arg(name="lora.targets")] = ()
    """Names of the layers that get an adapter, such as q_proj v_proj, or all-linear.
    Default: peft's for the architecture."""
    gradient_checkpointing: bool = False
    """Recompute each layer's activations in the backward pass: less memory, a third more time."""
    micro_batch: int | None = None
    """Texts whose activations are in memory at once; the gradient is that of the whole minibatch,
    for a third more time. Default: all."""
    ema: float | None = None
    """Average the weights over the updates, with this decay, such as 0.9: evaluations and the saved
    model are of the average."""
    save_adapter: bool = True
    """With --lora.r, write lm/ as the adapter alone, which names its base model. --no-save-adapter
    merges it into a copy of the whole model."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, lr=self.lr, weight_decay=self.weight_decay)
        at_least(1, lora_r=self.lora_r, micro_batch=self.micro_batch)
        above(0, lora_alpha=self.lora_alpha)
        if self.ema is not None and not 0 <= self.ema < 1:
            raise SettingsError(f"--ema {self.ema}: it has to be from 0 to below 1")
        if not 0 <= self.lr_warmup < 1:
            raise SettingsError(
                f"--lr-warmup {self.lr_warmup}: it has to be a share of --steps, 0 to below 1"
            )
        if self.lora_r is None:
            for name, value in (
                ("--lora.alpha", self.lora_alpha),
                ("--lora.targets", self.lora_targets),
            ):
                if value:
                    raise SettingsError(
                        f"{name} needs an adapter; give its rank, such as --lora.r 8"
                    )

    def settle(self) -> None:
        """Choose the dtype that auto stands for on this machine."""
        super().settle()
        self.dtype = _chosen(self.dtype, self.device)

    @property
    def learning_rate(self) -> float | Schedule:
        """The learning rate, or its schedule, as Stable-Baselines3's algorithms take it."""
        # Imported here, so that --help does not wait for torch.
        from stable_baselines3.common.utils import LinearSchedule

        from textgym.sb3 import WarmupSchedule

        if self.lr_schedule == "constant" and not self.lr_warmup:
            return self.lr
        if self.lr_schedule == "linear" and not self.lr_warmup:
            return LinearSchedule(self.lr, self.lr / 10, 1.0)
        return WarmupSchedule(self.lr, self.lr / 10, self.lr_schedule, self.lr_warmup)

    def policy_kwargs(self, lm: str) -> dict[str, Any]:
        """The arguments of :class:`textgym.sb3.LMPolicy`.

        Args:
            lm: The language model.
        """
        found: dict[str, Any] = {"lm": lm}
        if self.dtype != "auto":
            found["dtype"] = self.dtype
        if self.lora_r is not None:
            alpha = 2 * self.lora_r if self.lora_alpha is None else self.lora_alpha
            found["lora"] = {"r": self.lora_r, "lora_alpha": alpha}
            if self.lora_targets:
                several = self.lora_targets != ("all-linear",)
                found["lora"]["target_modules"] = (
                    list(self.lora_targets) if several else self.lora_targets[0]
                )
        if self.gradient_checkpointing:
            found["gradient_checkpointing"] = True
        if self.micro_batch is not None:
            found["micro_batch"] = self.micro_batch
        if self.weight_decay:
            import torch

            found["optimizer_class"] = torch.optim.AdamW
            found["optimizer_kwargs"] = {"weight_decay": self.weight_decay}
        return found


@dataclass
class LMSettings(ModelSettings):
    """Settings of a run that trains a language model on texts that it writes."""

    warm_start: int = 0
    """Tokens of reference texts that the model learns before, as by agents.sft, on the training
    prompts. The agent then starts from that model, which is also the reference of its KL."""
    warm_start_lr: float = 5e-4
    """Learning rate of the warm start."""
    reference_dtype: Dtype = "auto"
    """Dtype of the weights of the reference model, where there is one. auto is as for --dtype."""
    sampling_temperature: Annotated[float, arg(name="sampling.temperature")] = 1.0
    """Logits are divided by it. Like all of --sampling, it is part of the policy that is trained,
    and of the evaluations."""
    sampling_top_k: Annotated[int | None, arg(name="sampling.top-k")] = None
    """Sample from this many likeliest tokens."""
    sampling_top_p: Annotated[float | None, arg(name="sampling.top-p")] = None
    """Sample from the likeliest tokens that reach this probability together."""
    sampling_repetition_penalty: Annotated[float, arg(name="sampling.repetition-penalty")] = 1.0
    """Above 1, tokens of the text so far are less likely."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        at_least(0, warm_start=self.warm_start, warm_start_lr=self.warm_start_lr)
        at_least(1, sampling_top_k=self.sampling_top_k)
        above(0, sampling_temperature=self.sampling_temperature)
        above(0, sampling_top_p=self.sampling_top_p)
        above(0, sampling_repetition_penalty=self.sampling_repetition_penalty)
        within(0, 1, sampling_top_p=self.sampling_top_p)

    def policy_kwargs(self, lm: str) -> dict[str, Any]:
        """The arguments of :class:`textgym.sb3.LMPolicy`."""
        sampling = self._sampling()
        return super().policy_kwargs(lm) | ({"sampling": sampling} if sampling else {})

    def settle(self) -> None:
        """Choose the dtypes that auto stands for on this machine."""
        super().settle()
        self.reference_dtype = _chosen(self.reference_dtype, self.device)

    def reference(self, lm: str) -> str:
        """The reference of a KL penalty: the model that the training starts from."""
        return lm if self.lora_r is None else "base"

    def _sampling(self) -> dict[str, Any]:
        """The settings of sampling that are not the defaults."""
        given = {
            "temperature": (self.sampling_temperature, 1.0),
            "top_k": (self.sampling_top_k, None),
            "top_p": (self.sampling_top_p, None),
            "repetition_penalty": (self.sampling_repetition_penalty, 1.0),
        }
        return {name: value for name, (value, default) in given.items() if value != default}


@dataclass
class CriticSettings(LMSettings):
    """Settings of an agent with a value head, on top of those of every language model."""

    n_steps: int = 32
    """Tokens per row and rollout, which each agent's own file documents."""
    value_lr: float | None = None
    """Learning rate of the value head, which follows --lr-schedule too. Default: --lr."""
    value_warmup: int = 0
    """Tokens at the beginning of the training from which the value head alone learns."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        above(0, value_lr=self.value_lr)
        at_least(0, value_warmup=self.value_warmup)
        if self.value_lr is not None and not self.lr:
            raise SettingsError("--value-lr needs --lr above 0, to which it is relative")

    def policy_kwargs(self, lm: str) -> dict[str, Any]:
        """The arguments of :class:`textgym.sb3.LMPolicy`."""
        found = super().policy_kwargs(lm)
        if self.value_lr is not None:
            found["value_lr_factor"] = self.value_lr / self.lr
        if self.value_warmup:
            rollouts = math.ceil(self.value_warmup / (self.n_steps * self.n_envs))
            # A2C takes one step per rollout.
            steps: int = getattr(self, "n_epochs", 1) * getattr(self, "minibatches", 1)
            found["value_warmup"] = rollouts * steps
        return found


def _chosen(dtype: Dtype, device: str) -> Dtype:
    """bfloat16 in place of "auto" on a device that is fast in it; else the same."""
    # Imported here, so that --help does not wait for torch.
    from stable_baselines3.common.utils import get_device

    from textgym.lm.loading.dtypes import is_fast_in_bfloat16

    return "bfloat16" if dtype == "auto" and is_fast_in_bfloat16(get_device(device)) else dtype
