"""Rollouts: tokens per second that an agent generates.

Three sides, from the same weights and prompts:

* *textgym*: SB3's ``PPO.collect_rollouts`` with ``LMPolicy``; environment, values,
  log-probabilities and buffer included. The cache is dropped before, as an update would do.
* *generate*: transformers' ``generate`` (sampling, key/value cache), left-padded where prompts
  differ: tokens alone. It runs until the longest text of the batch has ended; only what was written
  up to the end of each text counts.
* *prefix*: SB3's ``PPO.collect_rollouts`` with a policy that reads the whole padded text for every
  token (:mod:`benchmarks.speed.prefix_policy`). As it is padded, every step costs the same, and few
  are taken.

Where texts end early, SB3's rollout continues with the next prompt in the same row, so all its
tokens count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks.speed.harness import Comparison, Result, Settings, interleaved
from benchmarks.speed.models import (
    GPT2_124M,
    SMALL,
    SMALL_LLAMA,
    TINY,
    TINY_LLAMA,
    Case,
    environment,
    write_model,
)
from benchmarks.speed.prefix_policy import PrefixPolicy
from textgym.lm.loading.files import no_progress_bars
from textgym.sb3 import LMPolicy, LMRolloutBuffer

# Padded tokens that the prefix side reads in a measurement: each of its steps costs the same.
_PREFIX_TOKENS = 2**15


def cases(settings: Settings) -> list[Case]:
    """The cases, by the size of the run."""
    if settings.smoke:
        return [
            Case(TINY, 4, 8),
            Case(TINY, 4, 8, ragged=True),
            Case(TINY_LLAMA, 4, 8),
        ]
    if not settings.full:
        small = [
            Case(SMALL, 16, 64),
            Case(SMALL, 64, 128),
            Case(SMALL, 64, 128, ragged=True),
            Case(SMALL, 256, 256),
            Case(SMALL_LLAMA, 64, 128),
        ]
    else:
        small = [
            Case(shape, rows, tokens, ragged)
            for shape in (SMALL, SMALL_LLAMA)
            for ragged in (False, True)
            for rows in (16, 64, 256)
            for tokens in (64, 128, 256)
        ]
    if settings.on_cpu:
        return [*small, Case(GPT2_124M, 16, 32)]
    sizes = [(rows, ragged) for rows in (64, 256) for ragged in (False, True)]
    return [*small, *(Case(GPT2_124M, rows, 128, ragged) for rows, ragged in sizes)]


def measure(settings: Settings) -> Result:
    """Measure all cases."""
    comparisons = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(settings):
            lm = write_model(Path(folder), case.shape, settings.seed, settings.torch_dtype)
            torch.manual_seed(settings.seed)
            sides = {
                "textgym": textgym_side(case, lm, settings),
                "generate": generate_side(case, lm, settings),
                "prefix": prefix_side(case, lm, settings),
            }
            runs = interleaved(sides, settings.count, settings.device)
            comparisons.append(Comparison(str(case), runs))
    return Result(
        "Rollouts",
        "tokens/s",
        comparisons,
        notes=[
            "rows x budget of new tokens; prompts of 16 tokens, where ragged of 4 to 16",
            "textgym and prefix: SB3's `collect_rollouts` with environment, reward, values, "
            "log-probabilities and buffer; generate: transformers' `generate`, tokens alone",
            "ragged: some words end a text, after half the budget on average; generate runs until "
            "the longest text of the batch has ended, and only useful tokens count",
            "prefix is measured on few steps: it reads the padded text, so every step costs the "
            "same",
        ],
    )


def textgym_side(case: Case, lm: str, settings: Settings) -> Callable[[], float]:
    """SB3's rollout with ``LMPolicy``; one call is one rollout and returns its number of tokens."""
    model = PPO(
        LMPolicy,
        environment(case, lm, settings.seed),
        n_steps=case.tokens,
        batch_size=case.rows * case.tokens,
        policy_kwargs={"lm": lm},
        rollout_buffer_class=LMRolloutBuffer,
        seed=settings.seed,
        device=settings.device,
    )
    model.policy.lm.to(settings.torch_dtype)
    return rollouts_of(model, case.tokens)


def prefix_side(case: Case, lm: str, settings: Settings) -> Callable[[], float]:
    """SB3's rollout with the policy that reads the whole padded text at every step."""
    steps = min(case.tokens, max(2, _PREFIX_TOKENS // (case.rows * case.width)))
    model = PPO(
        PrefixPolicy,
        environment(case, lm, settings.seed),
        n_steps=steps,
        batch_size=case.rows * steps,
        policy_kwargs={"lm": lm},
        seed=settings.seed,
        device=settings.device,
    )
    model.policy.model.to(settings.torch_dtype)
    return rollouts_of(model, steps)


def rollouts_of(model: PPO, steps: int) -> Callable[[], float]:
    """Calls of SB3's own ``collect_rollouts``, as after an update."""
    _, callback = model._setup_learn(steps, _NoCallback())

    def work() -> float:
        model.policy.set_training_mode(True)
        done = model.collect_rollouts(model.env, callback, model.rollout_buffer, steps)  # type: ignore[arg-type]
        assert done
        return float(model.rollout_buffer.actions.size)

    return work


def generate_side(case: Case, lm: str, settings: Settings) -> Callable[[], float]:
    """Writing with ``generate``; one call is one batch and returns its number of useful tokens."""
    write = generator(case, lm, settings)
    return lambda: float(sum(map(len, write())))


def generator(case: Case, lm: str, settings: Settings) -> Callable[[], list[list[int]]]:
    """A function that writes one batch with ``generate``; each text up to its end."""
    with no_progress_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(lm, dtype=settings.torch_dtype)
    model.to(settings.device).eval()
    # Values that are None in a call's configuration are taken from the model's.
    model.generation_config.eos_token_id = None
    # TRL leaves one in the models that it saves, and transformers then looks for padding.
    model.config.pad_token_id = None
    stops = [*case.stops, case.shape.eos] if case.ragged else []
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        top_k=0,
        top_p=1.0,
        max_new_tokens=case.tokens,
        eos_token_id=stops or None,
        pad_token_id=case.shape.eos,
        use_cache=True,
    )
    prompts = case.prompts(settings.seed)
    begin = 0

    def work() -> list[list[int]]:
        nonlocal begin
        batch = [prompts[(begin + row) % len(prompts)] for row in range(case.rows)]
        begin += case.rows
        width = max(map(len, batch))
        ids = torch.full((case.rows, width), case.shape.eos)
        mask = torch.zeros((case.rows, width), dtype=torch.long)
        for row, prompt in enumerate(batch):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        texts = model.generate(
            ids.to(settings.device),
            attention_mask=mask.to(settings.device),
            generation_config=config,
        )
        return [_until_stop(text, stops) for text in texts[:, width:].tolist()]

    return work


def _until_stop(text: list[int], stops: list[int]) -> list[int]:
    """A text up to the token that ends it, that token included."""
    ends = set(stops)
    for at, token in enumerate(text):
        if token in ends:
            return text[: at + 1]
    return text


class _NoCallback(BaseCallback):
    """A callback that does nothing, as in a plain ``learn``."""

    def _on_step(self) -> bool:
        return True
