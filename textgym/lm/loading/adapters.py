"""peft adapter folders: a low-rank adapter, and the name of its base model.

Such a folder contains ``adapter_config.json`` and ``adapter_model.safetensors``, and often a
tokenizer. It is loaded as a language model: the base model with the adapter.
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
# peft's prefix of weight names.
_PREFIX = "base_model.model."
# Initializations of LoRA that do not change the weights of the model.
_PURE_INITS = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter on disk.

    Attributes:
        name: The folder as the user gave it.
        path: The folder.
        base: Name or path of the base model.
    """

    name: str
    path: Path
    base: str

    @classmethod
    def find(cls, name: str) -> AdapterFolder | None:
        """The adapter folder of a name; None if it is not one.

        Raises:
            ModelError: If its configuration cannot be read or has no base model, or the weights
                are missing, pickled or damaged.
            MissingDependencyError: If it is one, and peft is not installed.
        """
        path = Path(name).expanduser()
        if not (path / CONFIG).is_file():
            return None
        if any(path.glob("model*.safetensors")):
            raise ModelError(
                f"the folder {name!r} contains both a model and an adapter ({CONFIG}); move one of "
                "them to another folder"
            )
        try:
            settings = json.loads((path / CONFIG).read_text("utf-8"))
            base = settings.get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"{str(path / CONFIG)!r} cannot be read: {error}") from error
        if not isinstance(base, str) or not base:
            raise ModelError(
                f"{str(path / CONFIG)!r} has no base_model_name_or_path; set it to the name or "
                "path of the adapter's base model"
            )
        if settings.get("revision"):
            raise ModelError(
                f"the adapter {name!r} needs revision {settings['revision']!r} of {base!r}, and "
                "only the newest is loaded; download that revision to a folder, and set it as "
                "base_model_name_or_path"
            )
        if not (path / WEIGHTS).is_file():
            raise ModelError(
                f"the adapter {name!r} has no {WEIGHTS}, and pickled weights (.bin) are not read, "
                "because they can run code; save it again with peft's save_pretrained(folder)"
            )
        try:
            verify(path / WEIGHTS)
        except StorageError as error:
            raise ModelError(f"the adapter {name!r} cannot be loaded: {error}") from error
        require("peft", "lora")
        folder = cls(name, path, base if base == TINY else _resolve_base(base, path))
        if (Path(folder.base).expanduser() / CONFIG).is_file():
            raise ModelError(
                f"the base model {base!r} of the adapter {name!r} is an adapter itself; merge it: "
                "LanguageModel.load(base).save_pretrained(folder)"
            )
        return folder

    def put_into(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add the adapter to its base model, in place.

        Returns:
            The model. A plain LoRA adapter stays separate, and only it is trainable. One that also
            has weights of the model itself (``modules_to_save``, biases, token embeddings), or
            that is not LoRA, is merged.

        Raises:
            ModelError: If the adapter does not fit the model, or does not consist of weights
                (prompt tuning).
        """
        peft = require("peft", "lora")
        try:
            config = peft.PeftConfig.from_pretrained(str(self.path))
            if config.is_prompt_learning or config.is_adaption_prompt:
                raise ModelError(
                    f"the adapter {self.name!r} is of type {config.peft_type.value}, which adds to "
                    "the inputs; only adapters of weights are supported, such as LoRA"
                )
            config.inference_mode = False
            # The random initial weights are overwritten.
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
        """Whether disabling the adapter restores the base model."""
        with safe_open(self.path / WEIGHTS, framework="pt") as file:
            others = [key for key in file.keys() if ".lora_" not in key]  # noqa: SIM118
        pure = getattr(config, "init_lora_weights", None) in _PURE_INITS
        return config.peft_type.value == "LORA" and pure and not others


def check_adapter(model: PreTrainedModel) -> None:
    """Check that a model has an adapter.

    Raises:
        ModelError: If it has none.
    """
    if not has_adapter(model):
        raise ModelError(
            "merge=False saves the adapter alone, and this model has none; leave merge out, or "
            "train with policy_kwargs=dict(lora=dict(r=8))"
        )


def write_adapter(model: PreTrainedModel, folder: Path, base: str) -> None:
    """Write a model's adapter as peft does, without the model.

    Args:
        model: A model with an adapter.
        folder: An existing folder.
        base: Name or path of the base model.
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


def _resolve_base(base: str, folder: Path) -> str:
    """Resolve a relative path from the working directory, as peft does, or from `folder`."""
    path = Path(base).expanduser()
    inside = folder / path
    return str(inside) if not path.exists() and inside.exists() else base


def _listed(keys: list[str], what: str) -> str:
    if not keys:
        return ""
    return f"{what} {keys[0]!r}{f' and {len(keys) - 1} more' if keys[1:] else ''} "
