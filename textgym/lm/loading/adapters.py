"""Folders of peft: a low-rank adapter, and the name of the model that it belongs to.

Such a folder holds ``adapter_config.json`` and ``adapter_model.safetensors``, and often a
tokenizer. It stands for a language model: the base model with the adapter in it.
"""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from textgym.errors import ModelError, StorageError, require
from textgym.lm.lora import has_adapter
from textgym.storage.digest import verify
from textgym.tokenization import TINY

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ADAPTER_FILES = (CONFIG, WEIGHTS)
# What peft puts in front of a weight's name.
_PREFIX = "base_model.model."
# Starts of LoRA that leave the weights of the model as they are.
_HARMLESS_STARTS = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter on disk.

    Attributes:
        name: What the user called the folder.
        path: The folder.
        base: Name or path of the model that the adapter belongs to.
    """

    name: str
    path: Path
    base: str

    @classmethod
    def find(cls, name: str) -> AdapterFolder | None:
        """The adapter folder that a name means, or None if it means something else.

        Raises:
            ModelError: If its configuration cannot be read or names no base model, or the weights
                are missing, pickled or damaged.
            MissingDependencyError: If there is one, and peft is not installed.
        """
        path = Path(name).expanduser()
        if not (path / CONFIG).is_file():
            return None
        if any(path.glob("model*.safetensors")):
            raise ModelError(
                f"the folder {name!r} holds a whole model and an adapter ({CONFIG}), which cannot "
                "both be meant; move one of them to a folder of its own"
            )
        try:
            settings = json.loads((path / CONFIG).read_text("utf-8"))
            base = settings.get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{str(path / CONFIG)!r} cannot be read: {error}") from error
        if not isinstance(base, str) or not base:
            raise ModelError(
                f"{str(path / CONFIG)!r} does not say which model the adapter belongs to; write "
                "its name or path there: base_model_name_or_path"
            )
        if settings.get("revision"):
            raise ModelError(
                f"the adapter {name!r} belongs to the revision {settings['revision']!r} of "
                f"{base!r}, and only the newest is taken; download that revision to a folder, and "
                "name it as base_model_name_or_path"
            )
        if not (path / WEIGHTS).is_file():
            raise ModelError(
                f"the adapter {name!r} has no {WEIGHTS}, and pickled weights (.bin) are not read "
                "because they can run code; write it again with peft's save_pretrained(folder)"
            )
        try:
            verify(path / WEIGHTS)
        except StorageError as error:
            raise ModelError(f"the adapter {name!r} cannot be loaded: {error}") from error
        require("peft", "lora")
        folder = cls(name, path, base if base == TINY else _where(base, path))
        if (Path(folder.base).expanduser() / CONFIG).is_file():
            raise ModelError(
                f"the base model {base!r} of the adapter {name!r} is an adapter itself; write it "
                "as a whole model: LanguageModel.load(base).save_pretrained(folder)"
            )
        return folder

    def put_into(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put the adapter into its base model, which is changed.

        Returns:
            The model. A plain low-rank adapter stays one, and is the only part that trains. One
            that also holds weights of the model itself (``modules_to_save``, biases, token
            embeddings), or that is of another kind than LoRA, becomes part of the weights.

        Raises:
            ModelError: If the adapter does not fit the model, or is not made of changed weights
                (prompt tuning).
        """
        peft = require("peft", "lora")
        try:
            config = peft.PeftConfig.from_pretrained(str(self.path))
            if config.is_prompt_learning or config.is_adaption_prompt:
                raise ModelError(
                    f"the adapter {self.name!r} is of the kind {config.peft_type.value}, which "
                    "adds to what the model reads; only adapters of weights are taken, such as LoRA"
                )
            config.inference_mode = False
            # What is drawn here is overwritten at once.
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                for message in ("fan_in_fan_out", ".*is_gradient_checkpointing"):
                    warnings.filterwarnings("ignore", message=message)
                adapted = peft.PeftModel(model, config)
                result = adapted.load_adapter(
                    str(self.path), "default", is_trainable=True, torch_device="cpu"
                )
        except ModelError:
            raise
        except Exception as error:  # Shapes and names that do not fit; a damaged file.
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"the adapter {self.name!r} does not fit its base model {self.base!r}, or its "
                f"files are damaged ({reason})"
            ) from error
        wrong = [*result.missing_keys, *result.unexpected_keys]
        if wrong:
            raise ModelError(
                f"the adapter {self.name!r} does not fit its base model {self.base!r}: "
                f"{_listed(result.missing_keys, 'the file lacks')}"
                f"{_listed(result.unexpected_keys, 'the model has no place for')}; give the base "
                "model that it was trained on, as base_model_name_or_path"
            )
        if not self._is_plain(config):
            whole: PreTrainedModel = adapted.merge_and_unload()
            return whole.requires_grad_(True)
        return adapted.get_base_model()  # type: ignore[no-any-return]

    def _is_plain(self, config: Any) -> bool:
        """Whether switching the adapter off gives the base model back."""
        with safe_open(self.path / WEIGHTS, framework="pt") as file:
            whole = [key for key in file.keys() if ".lora_" not in key]  # noqa: SIM118
        harmless = getattr(config, "init_lora_weights", None) in _HARMLESS_STARTS
        return config.peft_type.value == "LORA" and harmless and not whole


def check_adapter(model: PreTrainedModel) -> None:
    """Refuse a model without an adapter.

    Raises:
        ModelError: If it has none.
    """
    if not has_adapter(model):
        raise ModelError(
            "merge=False saves an adapter alone, and this model has none; leave merge out, or "
            "train with policy_kwargs=dict(lora=dict(r=8))"
        )


def write_adapter(model: PreTrainedModel, folder: Path, base: str) -> None:
    """Write a model's adapter as peft does, without the model.

    Args:
        model: A model with an adapter.
        folder: Where to; it exists.
        base: Name or path of the model without the adapter.
    """
    peft = require("peft", "lora")
    config: Any = copy.copy(model.peft_config["default"])
    path = Path(base).expanduser()
    config.base_model_name_or_path = str(path.resolve()) if path.exists() else base
    config.inference_mode = True
    config.task_type = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {_PREFIX + key: value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _where(base: str, folder: Path) -> str:
    """A relative path counts from here, as in peft, or else from the adapter's own folder."""
    path = Path(base).expanduser()
    beside = folder / path
    return str(beside) if not path.exists() and beside.exists() else base


def _listed(keys: list[str], what: str) -> str:
    if not keys:
        return ""
    return f"{what} {keys[0]!r}{f' and {len(keys) - 1} more' if keys[1:] else ''} "
