"""Metrics of a collection of texts, as papers report them.

``evaluate(completions, references=..., metrics=("rouge", "bleu", "diversity"))`` returns one number
for the collection and, where defined, one per text. Metrics are the registered rewards, in the same
units and directions (``ter`` is 1 minus the rate, ``bleu`` is in [0, 1]), and those of
:mod:`textgym.rewards.metrics.diversity`. The number for the collection is the mean over the texts,
except for ``bleu``, ``chrf`` and ``ter``, where it is sacrebleu's corpus score.

SPICE, BLEURT and SummaC are not included, because they need a Java program or large downloads. They
can be plugged in as functions with the signature of a reward::

    scorer = bleurt.score.BleurtScorer("BLEURT-20")

    def bleurt_score(completions, reference, **columns):  # one reference per text
        return scorer.score(references=reference, candidates=completions)

    evaluate(completions, references=references, metrics={"bleurt": bleurt_score})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from textgym.data.messages import as_texts
from textgym.data.words import checked_language, words_of
from textgym.errors import RewardError, near_matches
from textgym.rewards.metrics.diversity import DIVERSITY, msttr
from textgym.rewards.registry import RewardFunction, make_reward, registered_rewards
from textgym.rewards.signature import Call
from textgym.rewards.validation import checked_values


class Metric(NamedTuple):
    """The value of a metric on a collection of texts.

    Attributes:
        corpus: The number for the collection.
        per_text: One number per text, None where the metric does not apply; None if the metric is
            defined for collections only.
    """

    corpus: float
    per_text: list[float | None] | None


def evaluate(
    completions: Sequence[str],
    prompts: Sequence[str] | None = None,
    references: Sequence[Any] | None = None,
    metrics: str | Sequence[str] | Mapping[str, str | RewardFunction] = ("rouge", "bleu"),
    columns: Mapping[str, Sequence[Any]] | None = None,
    segment: int = 100,
    language: str = "auto",
) -> dict[str, Metric]:
    """Compute metrics of a collection of texts.

    Args:
        completions: N texts, at least one; or lists of messages, of which the assistant's count.
        prompts: N prompts. Default: empty ones.
        references: The column ``reference``: for each text a string, a list of alternatives, or
            None.
        metrics: Names of rewards (with their default options) or of diversity metrics, or
            ``"diversity"`` for all of the latter; or a dict from names of results to such names or
            to reward functions, e.g. ``{"bleu-zh": Bleu(tokenize="zh")}``. If a reward has a method
            ``corpus(prompts, completions, **columns)``, it computes the number for the collection.
        columns: The other columns that the rewards need, N values each.
        segment: The number of words in a segment of ``msttr``.
        language: The language of the texts for the diversity metrics, see
            :mod:`textgym.data.words`; rewards have their own option.

    Returns:
        A :class:`Metric` for each name, in order.

    Raises:
        RewardError: If a metric is unknown (the message suggests near matches), texts are missing,
            lengths differ, or a metric fails or applies to no text.
        MissingDependencyError: If a metric needs a library that is not installed.
    """
    completions = list(as_texts(completions, "assistant"))
    count = len(completions)
    if not count:
        raise RewardError("evaluate: completions is empty; give at least one text")
    if not isinstance(segment, int) or segment < 1:
        raise RewardError(f"evaluate: segment must be an integer >= 1, not {segment!r}")
    checked_language(language, "evaluate", RewardError)
    prompts = [""] * count if prompts is None else list(as_texts(prompts))
    given = {name: list(values) for name, values in (columns or {}).items()}
    if references is not None:
        given["reference"] = list(references)
    for name, values in (("prompts", prompts), *given.items()):
        if len(values) != count:
            raise RewardError(
                f"evaluate: {name!r} has {len(values)} values for {count} completions; "
                "give one per text"
            )
    words: list[list[str]] | None = None
    results: dict[str, Metric] = {}
    for name, metric in _named(metrics).items():
        if isinstance(metric, str) and metric in DIVERSITY:
            words = words or [words_of(text, language) for text in completions]
            function = partial(msttr, segment=segment) if metric == "msttr" else DIVERSITY[metric]
            results[name] = Metric(function(words), None)
        else:
            reward = _reward(metric) if isinstance(metric, str) else metric
            try:
                results[name] = _judged(reward, prompts, completions, given)
            except RewardError as error:
                raise RewardError(f"evaluate: metric {name!r} {error}") from error
    return results


def _named(
    metrics: str | Sequence[str] | Mapping[str, str | RewardFunction],
) -> dict[str, str | RewardFunction]:
    """Return the metrics by the names of their results."""
    if isinstance(metrics, Mapping):
        return dict(metrics)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    every: dict[str, str | RewardFunction] = {}
    for name in names:
        if callable(name):
            raise RewardError(
                f"evaluate: name the metric {name!r}: metrics={{'its name': the function}}"
            )
        for one in DIVERSITY if name == "diversity" else (name,):
            every[one] = one
    return every


def _reward(name: str) -> RewardFunction:
    if name in registered_rewards():
        return make_reward(name)
    known = [*registered_rewards(), *DIVERSITY, "diversity"]
    raise RewardError(
        f"evaluate: there is no metric {name!r}{near_matches(str(name), known) or '.'} "
        f"Known: {', '.join(sorted(known))}; or give a function, as {{'its name': function}}"
    )


def _judged(
    reward: RewardFunction,
    prompts: list[str],
    completions: list[str],
    columns: dict[str, list[Any]],
) -> Metric:
    result: Any = Call.of(reward)(prompts, completions, columns)
    per_text = checked_values(result, completions, None)
    applies = [value for value in per_text if value is not None]
    if not applies:
        raise RewardError("applies to none of the texts; give references, or leave the metric out")
    corpus = getattr(reward, "corpus", None)
    if callable(corpus):
        return Metric(float(corpus(prompts, completions, **columns)), per_text)
    return Metric(sum(applies) / len(applies), per_text)
