"""Training of a reward model on preferences with the Bradley-Terry loss.

The command line is :mod:`textgym.rewards.train`, which documents the output. Pairs are read by
:mod:`textgym.rewards.preferences.pairs`; the model is
:class:`textgym.rewards.preferences.model.PreferenceModel`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from textgym.errors import DataError, MissingDependencyError, SettingsError
from textgym.lm.loading.files import no_progress_bars
from textgym.lm.loading.pretrained import saving_checkpoint
from textgym.lm.training_state import Progress, check_weights, claim, resume, save_state
from textgym.rewards.preferences.calibration import calibration_of, plot_calibration, scores_of
from textgym.rewards.preferences.card import write_card
from textgym.rewards.preferences.model import Encoded, PreferenceModel
from textgym.rewards.preferences.pairs import Pair, read_pairs, split_key, split_pairs
from textgym.rewards.preferences.settings import TrainSettings
from textgym.storage.files import write_json
from textgym.storage.tensors import read_tensors, write_tensors

# Settings that do not change the trained weights; the pairs are compared by their content.
_FREE = ("out", "threads", "device", "pairs", "eval_pairs")

_BEST = "best.safetensors"


class Evaluations(Progress, total=False):
    """The progress of a training run, and the results of its evaluations."""

    history: list[dict[str, float]]


def preference_loss(
    chosen: Tensor,
    rejected: Tensor,
    preference: Tensor,
    margin: Tensor,
    weight: Tensor,
    centering: float = 0.0,
    total: float | None = None,
) -> Tensor:
    """Negative log-likelihood of preferences under the Bradley-Terry model.

    With ``z = chosen - rejected - margin``, the loss of a pair with weight w and preference p is
    ``-w (p log sigmoid(z) + (1 - p) log sigmoid(-z))``: Christiano et al. (2017), equation 1, which
    for p = 1 is the loss of Stiennon et al. (2020) and Ouyang et al. (2022); the margin is that of
    Touvron et al. (2023), equation 2. The offset of the rewards is not determined by the loss:
    `centering` times ``w (chosen + rejected)^2`` pulls it to 0 (Eisenstein et al. 2023). If rewards
    of the same prompt differ a lot between pairs, this shrinks them, and makes the model
    underconfident.

    Args:
        chosen: Rewards of the chosen texts, ``[B]``.
        rejected: Rewards of the rejected texts, ``[B]``.
        preference: The share of judges who prefer the chosen text, ``[B]``, in [0, 1].
        margin: The least desired difference of the rewards, ``[B]``.
        weight: Weights of the pairs, ``[B]``, at least 0.
        centering: Coefficient of the squared sum.
        total: The divisor. Default: the sum of the weights, for a weighted mean. For part of a
            batch, give the sum over the batch, so that the parts add up to its mean.

    Returns:
        A scalar.
    """
    # -log sigmoid(x) = softplus(-x).
    logits = chosen - rejected - margin
    cost = preference * functional.softplus(-logits)
    cost = cost + (1 - preference) * functional.softplus(logits)
    if centering:
        cost = cost + centering * (chosen + rejected).square()
    return (weight * cost).sum() / (weight.sum() if total is None else total)


def columns_of(
    pairs: Sequence[Pair], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return preferences, margins and weights of pairs, ``[B]`` each."""
    values = [(pair.preference, pair.margin, pair.weight) for pair in pairs]
    preference, margin, weight = torch.tensor(values, dtype=dtype, device=device).unbind(1)
    return preference, margin, weight


def batch_at(step: int, count: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of the pairs of a step, in which each pair occurs once per epoch."""
    epoch, at = divmod(step, math.ceil(count / batch_size))
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(count)
    return order[at * batch_size : (at + 1) * batch_size]


def parts_by_length(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], parts: int = 4
) -> Iterator[NDArray[np.int64]]:
    """Split a batch of pairs into parts of similar length, to reduce padding."""
    ordered = rows[lengths[rows].argsort(kind="stable")]
    yield from np.array_split(ordered, min(parts, len(ordered)))


def backward(
    model: PreferenceModel, data: Encoded, rows: NDArray[np.int64], centering: float
) -> float:
    """Accumulate the gradient of a batch in parts; return the loss."""
    weights = sum(data.pairs[i].weight for i in rows)
    total = 0.0
    for part in parts_by_length(rows, data.lengths):
        chosen, rejected = model.pair_rewards(data, part)
        columns = columns_of([data.pairs[i] for i in part], chosen.device)
        loss = preference_loss(chosen, rejected, *columns, centering, total=weights)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total


def train(settings: TrainSettings) -> Path:
    """Train a reward model, or resume an interrupted training.

    Returns:
        The folder of the checkpoint that was best on the held-out pairs.

    Raises:
        DataError: If the pairs cannot be read or split.
        ModelError: If the language model cannot be loaded or given a head.
        SettingsError: If the folder contains a training with other settings or pairs, a setting is
            invalid, or the training diverges.
    """
    settings.check()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model = PreferenceModel.load(
        settings.lm, settings.device, seed=settings.seed, max_tokens=settings.max_tokens
    )
    learn, judge, counts, form = _data(settings, model)
    out = Path(settings.out)
    what = {key: value for key, value in asdict(settings).items() if key not in _FREE}
    claim(out, {**what, "pairs": _hash(learn), "eval_pairs": _hash(judge)})
    data, held_out = model.encode_pairs(learn), model.encode_pairs(judge)
    counts["texts_cut"] = data.cut + held_out.cut

    weights = [weight for weight in model.model.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.dim() > 1]},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=settings.weight_decay,
    )
    progress = cast(Evaluations, resume(out, model.model, [optimizer]))
    history = progress.setdefault("history", [])
    steps = settings.epochs * math.ceil(len(learn) / settings.batch_size)
    started = time.process_time() - progress["cpu_seconds"]
    bar = tqdm(range(progress["step"], steps), initial=progress["step"], total=steps, unit="step")
    for step in bar:
        if _stopped(history, settings.patience):
            break
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, steps, settings.warmup, settings.learning_rate)
        optimizer.zero_grad()
        rows = batch_at(step, len(learn), settings.batch_size, settings.seed)
        loss = backward(model, data, rows, settings.centering)
        if not math.isfinite(loss):
            raise SettingsError(f"the loss is {loss} at step {step + 1}; lower --learning-rate")
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if (step + 1) % settings.eval_every == 0 or step + 1 == steps:
            found = _evaluate(model, held_out)
            bar.set_postfix(loss=f"{found['loss']:.3f}", accuracy=f"{found['accuracy']:.3f}")
            history.append({"step": step + 1, "training_loss": loss, **found})
            if _best(history) is history[-1]:
                _save_best(out, model)
            progress["step"] = step + 1
            progress["cpu_seconds"] = time.process_time() - started
            save_state(out, model.model, [optimizer], progress)
    return _finish(settings, model, held_out, progress, {**counts, "form": form})


def _data(
    settings: TrainSettings, model: PreferenceModel
) -> tuple[list[Pair], list[Pair], dict[str, int], str]:
    """Return training pairs, held-out pairs, counts for the model card, and the form of texts."""
    pairs, ties, has_messages = read_pairs(settings.pairs, model.render(), settings.ties)
    dropped = 0
    if settings.eval_pairs is None:
        learn, judge = split_pairs(pairs, settings.held_out)
        if not learn or not judge:
            raise DataError(
                f"--held-out {settings.held_out} of {len(pairs)} pairs with "
                f"{len(set(map(split_key, pairs)))} prompts leaves none "
                f"{'held out' if learn else 'to train on'}; change it, or give a file of "
                "--eval-pairs"
            )
    else:
        judge, more, _ = read_pairs(settings.eval_pairs, model.render(), settings.ties)
        ties += more
        known = set(map(split_key, judge))
        learn = [pair for pair in pairs if split_key(pair) not in known]
        dropped = len(pairs) - len(learn)
        if not learn:
            raise DataError(
                f"every prompt of {settings.pairs} is in {settings.eval_pairs} too, so no pairs "
                "are left to train on; give other prompts"
            )
    form = "chat" if has_messages and getattr(model.tokenizer, "chat_template", None) else "text"
    for name, side in (("training", learn), ("held-out", judge)):
        if not any(pair.weight > 0 for pair in side):
            raise DataError(f"all {name} pairs have the weight 0; give some a larger one")
    counts = {"pairs": len(learn), "held_out_pairs": len(judge), "ties_left_out": ties}
    counts["prompts_of_eval_left_out"] = dropped
    return learn, judge, counts, form


def _evaluate(model: PreferenceModel, held_out: Encoded) -> dict[str, float]:
    judged = torch.from_numpy(model.judge(held_out))
    columns = columns_of(held_out.pairs, dtype=torch.float64)
    loss = float(preference_loss(judged[:, 0], judged[:, 1], *columns))
    differences = (judged[:, 0] - judged[:, 1]).numpy()
    return {"loss": loss, **scores_of(differences, columns[0].numpy())}


def _best(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the first evaluation with the lowest loss."""
    return min(history, key=lambda found: found["loss"])


def _stopped(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the latest `patience` evaluations were all worse than an earlier one."""
    return bool(history) and history.index(_best(history)) < len(history) - patience


def _save_best(out: Path, model: PreferenceModel) -> None:
    """Write the weights atomically."""
    write_tensors(out / _BEST, dict(model.model.named_parameters()))


def _finish(
    settings: TrainSettings,
    model: PreferenceModel,
    held_out: Encoded,
    progress: Evaluations,
    facts: dict[str, Any],
) -> Path:
    """Write the best checkpoint with its metrics, calibration and model card."""
    out = Path(settings.out)
    best, _ = read_tensors(out / _BEST)
    check_weights(out / _BEST, best, model.model)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            weight.copy_(best[name])
    folder = out / "model"
    with saving_checkpoint(folder) as scratch, no_progress_bars():
        model.model.save_pretrained(scratch)
        model.tokenizer.save_pretrained(scratch)
    judged = model.judge(held_out)
    differences = judged[:, 0] - judged[:, 1]
    preferences = np.array([pair.preference for pair in held_out.pairs])
    texts = [(len(pair.chosen), len(pair.rejected)) for pair in held_out.pairs]
    longer = np.diff(np.array(texts), axis=1)[:, 0] * -1.0
    metrics = {
        **_evaluate(model, held_out),
        "reward_mean": float(judged.mean()),
        "reward_std": float(judged.std()),
        "accuracy_of_the_longer_text": scores_of(longer, preferences)["accuracy"],
        **facts,
        "steps": progress["step"],
        "best_step": _best(progress["history"])["step"],
        "cpu_seconds": round(progress["cpu_seconds"], 1),
        "history": progress["history"],
    }
    write_json(folder / "metrics.json", metrics)
    table = calibration_of(differences, preferences)
    table.write(folder / "calibration.json")
    try:
        plot_calibration(table, folder / "calibration.svg")
        plotted = True
    except MissingDependencyError as error:
        plotted = False
        print(f"calibration.svg was left out: {error}")
    write_card(folder, settings, metrics, table, plotted)
    return folder


def _hash(pairs: Sequence[Pair]) -> str:
    """Return a hash of pairs."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(astuple(pair)).encode())
    return digest.hexdigest()[:16]


def warmup_cosine(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine decay to a twentieth of the peak.

    Args:
        step: Index of the next step.
        steps: Number of steps of the training.
        warmup: Number of steps of the warm-up.
        peak: The highest learning rate.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
