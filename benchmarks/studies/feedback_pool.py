"""How well a reward predicts preferences, against the number of judgements it was fitted to.

The policy is textgym/tiny. It writes a pool of texts, from which pairs are chosen in rounds, and
test texts to other prompts. A simulated annotator judges the pairs; the accuracy is the share of
all test pairs of which the ensemble prefers the text with the higher score. So no test pair is
judged by chance, and an accuracy of 1 is possible.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from agents import lm
from agents.running.candidates import Group, Writer
from agents.running.learners import pairs_of
from agents.running.run import RunSettings
from textgym.feedback.items import NewItem
from textgym.feedback.simulated import SimulatedAnnotator
from textgym.feedback.store import Store
from textgym.rewards.preferences.ensemble import PreferenceEnsemble
from textgym.rewards.preferences.features import Floats, TextFeatures
from textgym.rewards.preferences.selection import How, choose_pairs
from textgym.storage.files import write_text
from textgym.tasks import make_task

GROUP_SIZE = 4
"""Texts for each prompt."""


def initial_texts(task: str, seed: int, counts: Sequence[int]) -> list[list[Group]]:
    """Texts of textgym/tiny, for several numbers of prompts, which are all different."""
    settings = RunSettings(env=task, device="cpu")
    found = []
    for part, count in enumerate(counts):
        writer = Writer(settings, count, GROUP_SIZE)
        agent = lm.make_agent(writer.venv, seed, lm.Settings(device="cpu"))
        seeds = np.random.default_rng([seed, part]).integers(2**63, size=count).tolist()
        found.append(writer.write(agent.policy, seeds))
        writer.close()
    return found


def accuracy_curve(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Judge, fit and test in rounds.

    Args:
        spec: ``task``, ``choose``, ``seed``, ``pool`` and ``test`` (numbers of prompts),
            ``labels``, ``batch`` (judgements of a round), and ``noise``.
        scratch: A folder for the store, which is made again.

    Returns:
        ``labels`` and ``accuracy``, one entry for each round; ``ceiling``, the share of the test
        pairs that an annotator judges like the score.
    """
    seed = spec["seed"]
    pool, test = initial_texts(spec["task"], seed, (spec["pool"], spec["test"]))
    features = TextFeatures(device="cpu")
    known = _features(features, pool)
    ensemble = PreferenceEnsemble(features, seed=seed)
    annotator = SimulatedAnnotator(
        make_task(spec["task"]), "simulated", temperature=spec["noise"], seed=seed
    )
    better, worse, gaps = _test_pairs(features, test)
    rng = np.random.default_rng([seed, 2])
    path = scratch / "pool.sqlite"
    for file in scratch.glob("pool.sqlite*"):
        file.unlink()
    store = Store(path)
    asked: set[tuple[int, int, int]] = set()
    labels, accuracy = [0], [0.5]
    while labels[-1] < spec["labels"]:
        heads = [
            ensemble.heads_of(np.stack([known[group.prompt, text] for text in group.texts]))
            for group in pool
        ]
        how: How = spec["choose"] if ensemble.version else "random"
        texts = [group.texts for group in pool]
        chosen = choose_pairs(texts, heads, spec["batch"], how, rng, 0.2, asked)
        if not chosen:
            break
        for one in chosen:
            asked.add((one.group, min(one.first, one.second), max(one.first, one.second)))
            group = pool[one.group]
            both = (group.texts[one.first], group.texts[one.second])
            store.add_items([NewItem("pair", group.prompt, both, {"row": group.row})])
        while annotator.judge_next(store, "pair"):
            pass
        items = {item.id: item for item in store.items()}
        judged = [(one, items[one.item]) for one in store.judgements(kind="pair")]
        ensemble.fit(pairs_of(judged), known=known)
        labels.append(labels[-1] + len(chosen))
        rewards = ensemble.heads_of(better) - ensemble.heads_of(worse)
        accuracy.append(float((rewards.mean(axis=0) > 0).mean()))
    store.close()
    noise = spec["noise"]
    ceiling = float((1 / (1 + np.exp(-gaps / noise))).mean()) if noise else 1.0
    return {"labels": labels, "accuracy": accuracy, "ceiling": ceiling, "test_pairs": len(gaps)}


def judged_file(spec: Mapping[str, Any], file: Path) -> None:
    """Write random pairs of the initial policy's texts, as an annotator judged them.

    Args:
        spec: ``task``, ``seed``, ``labels`` and ``noise``.
        file: A .jsonl file, with ``prompt``, ``chosen``, ``rejected`` and ``preference``.
    """
    (groups,) = initial_texts(spec["task"], spec["seed"], (spec["labels"],))
    rng = np.random.default_rng([spec["seed"], 3])
    none = [np.zeros((1, GROUP_SIZE))] * len(groups)
    chosen = choose_pairs([g.texts for g in groups], none, spec["labels"], "random", rng)
    store = Store(file.with_suffix(".sqlite"))
    items = [
        NewItem(
            "pair",
            groups[one.group].prompt,
            (groups[one.group].texts[one.first], groups[one.group].texts[one.second]),
            {"row": groups[one.group].row},
            key=str(place),
        )
        for place, one in enumerate(chosen)
    ]
    store.add_items(items)
    annotator = SimulatedAnnotator(
        make_task(spec["task"]), "simulated", temperature=spec["noise"], seed=spec["seed"]
    )
    while annotator.judge_next(store, "pair"):
        pass
    columns = ("prompt", "chosen", "rejected", "preference")
    rows = [{name: row[name] for name in columns} for row in store.pairs()]
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
    store.close()


def _features(features: TextFeatures, groups: Sequence[Group]) -> dict[tuple[str, str], Floats]:
    keys = [(group.prompt, text) for group in groups for text in group.texts]
    found = features(*map(list, zip(*keys, strict=True)))
    return dict(zip(keys, found, strict=True))


def _test_pairs(features: TextFeatures, groups: Sequence[Group]) -> tuple[Floats, Floats, Floats]:
    """The features of the better and the worse texts of all pairs, and their gaps in score."""
    known = _features(features, groups)
    better, worse, gaps = [], [], []
    for group in groups:
        for one, other in combinations(range(len(group.texts)), 2):
            gap = group.scores[one] - group.scores[other]
            if abs(gap) < 1e-9:
                continue
            first, second = (one, other) if gap > 0 else (other, one)
            better.append(known[group.prompt, group.texts[first]])
            worse.append(known[group.prompt, group.texts[second]])
            gaps.append(abs(gap))
    return np.stack(better), np.stack(worse), np.array(gaps)
