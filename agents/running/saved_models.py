"""The language model that a run leaves: ``lm/`` with a model card, and how large it will be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData

import textgym
from textgym.lm.lora import has_adapter
from textgym.storage.files import write_text

if TYPE_CHECKING:
    from agents.running.evaluation import Evaluation
    from textgym.lm import LanguageModel
    from textgym.sb3 import LMPolicy

_MEGABYTE = 2**20


def save_lm(lm: LanguageModel, folder: Path, adapter: bool) -> None:
    """Write a language model, or its adapter alone.

    Args:
        lm: The model.
        folder: The folder.
        adapter: Whether to write an adapter alone, if there is one, and its base has a name.

    Raises:
        StorageError: If the files cannot be written; existing files stay intact.
    """
    lm.save_pretrained(folder, merge=not (adapter and _has_named_base(lm)))


def _has_named_base(lm: LanguageModel) -> bool:
    return has_adapter(lm.model) and lm.base_name is not None


def describe_training(policy: LMPolicy, adapter: bool) -> str:
    """How many weights are trained, in which dtype, and what the run leaves on disk.

    Args:
        policy: The policy.
        adapter: As for `save_lm`.
    """
    lm = policy.lm
    weights = list(lm.parameters())
    total = sum(weight.numel() for weight in weights)
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    # model.zip and a checkpoint: weights and the two moments of Adam, in float32.
    size = 2 * 3 * 4 * trained
    alone = adapter and _has_named_base(lm)
    size += sum(weight.nbytes for weight in weights if weight.requires_grad or not alone)
    share = "all of them" if trained == total else f"{_count(trained)} of them, an adapter,"
    dtype = str(lm.compute_dtype).removeprefix("torch.")
    trains = f"{_count(total)} weights, {share} trained, computed in {dtype}"
    return f"{trains}; the run leaves about {_bytes(size)}"


def write_card(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    base: str,
    evaluations: Mapping[str, Evaluation],
    steps: int,
) -> None:
    """Write the model card, ``README.md``.

    Args:
        folder: The folder of the model.
        name: The agent.
        settings: The settings of the run, as in run.json.
        base: The model that the training started from.
        evaluations: The evaluations before and after.
        steps: Tokens of the training.
    """
    # A path on this machine is not a name that others can find.
    known = None if Path(base).exists() or base == "textgym/tiny" else base
    data = ModelCardData(
        base_model=known,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["textgym", "reinforcement-learning", name],
    )
    changed = {key: value for key, value in settings.items() if value not in (None, {}, [], ())}
    lines = [
        "---",
        data.to_yaml().strip(),
        "---",
        "",
        f"# {Path(base).name} after {name} on {settings['env']}",
        "",
        f"Trained by `python -m agents.{name}` of textgym {textgym.__version__} for {steps:,} "
        f"tokens, from `{known or Path(base).name}`.",
        "",
        "| evaluation | mean reward | 95 % interval | texts |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {when.replace('_', ' ')} | {found.mean:.3f} | ± {found.half_width:.3f} | "
            f"{len(found.returns)} |"
            for when, found in evaluations.items()
        ),
        "",
        "The reward is what the model was trained to raise; it says nothing about other qualities "
        "of the texts. The terms of the model that it started from apply.",
        "",
        "Settings:",
        "",
        "| setting | value |",
        "| --- | --- |",
        *(f"| {key} | `{value}` |" for key, value in sorted(changed.items())),
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _bytes(size: float) -> str:
    if size >= 2**30:
        return f"{size / 2**30:.1f} GB"
    return f"{max(size / _MEGABYTE, 0.1):.3g} MB"
