"""Episodes as a value: selections, joins, minibatches, returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import SettingsError
from textgym.lm.sampling.kept_sets import KeptSets
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts import Episodes


@st.composite
def some_episodes(draw: Any, least: int = 1) -> Episodes:
    """Random ones; some have their tokens in two texts, as where an environment rewrites them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(least, 7))
    lengths = rng.integers(1, 6, count)
    total = int(lengths.sum())
    full, pictures = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    rows, positions, text = [], [], -1
    for length in lengths:
        at = 9
        for _ in range(length):
            if at == 9 or rng.random() < 0.2:
                text, at = text + 1, int(rng.integers(0, 3))
            rows.append(text)
            positions.append(at)
            at += 1
    tokens = torch.from_numpy(rng.integers(0, 5, (text + 1, 9)))
    images = torch.from_numpy(rng.integers(0, 255, (text + 1, 3, 2, 2))) if pictures else None
    kept = KeptSets.of_mask(torch.from_numpy(rng.random((total, 5)) < 0.5)) if full else None
    return Episodes(
        lengths,
        torch.from_numpy(rng.integers(0, 5, total)),
        rng.normal(size=total).astype(np.float32),
        tuple(f"prompt {number}" for number in range(count)),
        tuple({"response": f"response {number}"} for number in range(count)),
        rng.random(total),
        SequenceBatch(tokens, torch.tensor(rows), torch.tensor(positions), kept, images),
        torch.from_numpy(rng.normal(size=total)),
        torch.from_numpy(rng.normal(size=total)),
        {"advantages": torch.from_numpy(rng.normal(size=total))},
    )


def listed(episodes: Episodes) -> list[Any]:
    """Everything that is known of each episode, as plain values."""
    batch = episodes.sequences
    assert batch is not None
    texts = batch.observations(0, len(episodes.actions))
    columns: list[Any] = [
        [tuple(t for t in text if t >= 0) for text in texts.tolist()],
        episodes.actions.tolist(),
        episodes.rewards.tolist(),
        episodes.costs.tolist(),
        *(
            column.tolist()
            for column in (episodes.log_probs, episodes.values)
            if column is not None
        ),
        *(values.tolist() for _, values in sorted(episodes.extra.items())),
    ]
    if batch.kept is not None:
        columns.append([tuple(mask) for mask in batch.kept.mask().tolist()])
    if batch.images is not None:
        columns.append([batch.images[row].tolist() for row in batch.rows.tolist()])
    actions = list(zip(*columns, strict=True))
    found = []
    for number, length in enumerate(episodes.lengths.tolist()):
        own, actions = actions[:length], actions[length:]
        found.append((episodes.prompts[number], episodes.responses[number], own))
    assert not actions
    return found


@given(some_episodes(), st.data())
def test_a_selection_is_these_episodes(episodes: Episodes, data: Any) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(episodes) - 1), min_size=1, max_size=8))
    everything = listed(episodes)
    assert listed(episodes.select(chosen)) == [everything[index] for index in chosen]


@given(some_episodes(), st.integers(0, 2**31))
def test_parts_join_to_the_whole(episodes: Episodes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(episodes))
    parts = [episodes.select(part) for part in np.array_split(order, rng.integers(1, 4))
             if len(part)]  # fmt: skip
    joined = Episodes.concatenate(parts)
    everything = listed(episodes)
    assert listed(joined) == [everything[index] for index in order]
    assert listed(joined.select(np.argsort(order))) == everything


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="parts is empty"):
        Episodes.concatenate([])


@given(some_episodes(), st.integers(1, 9))
def test_minibatches_hold_each_episode_once(episodes: Episodes, count: int) -> None:
    batches = list(episodes.minibatches(count))
    assert len(batches) == min(count, len(episodes))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    found = [one for batch in batches for one in listed(batch)]
    assert sorted(found, key=repr) == sorted(listed(episodes), key=repr)


@given(some_episodes(), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_returns_by_brute_force(episodes: Episodes, gamma: float) -> None:
    first = 0
    found = episodes.returns_to_go(gamma)
    owners = episodes.owners.tolist()
    for number, length in enumerate(episodes.lengths.tolist()):
        rewards = episodes.rewards[first : first + length].tolist()
        for at in range(length):
            expected = sum(gamma**k * reward for k, reward in enumerate(rewards[at:]))
            assert found[first + at] == pytest.approx(expected, abs=1e-5)
            assert owners[first + at] == number
        assert episodes.returns[number] == pytest.approx(sum(rewards))
        first += length
    assert first == len(found)


@given(some_episodes())
def test_a_table_has_a_column_for_each_episode(episodes: Episodes) -> None:
    table = episodes.table(episodes.rewards)
    assert table.shape == (episodes.lengths.max(), len(episodes))
    assert (episodes.flat(table) == episodes.rewards).all()
    first = 0
    for number, length in enumerate(episodes.lengths.tolist()):
        assert (table[:length, number] == episodes.rewards[first : first + length]).all()
        assert (table[length:, number] == 0).all()
        first += length


@given(some_episodes())
def test_extra_values_travel_along(episodes: Episodes) -> None:
    numbered = episodes.with_extra(number=torch.arange(len(episodes.actions)))
    assert episodes.extra.keys() == {"advantages"}
    assert numbered.extra.keys() == {"advantages", "number"}
    batch = numbered.select([len(episodes) - 1]).to("cpu")
    last = int(episodes.lengths[-1])
    assert batch.extra["number"].tolist() == list(range(len(episodes.actions)))[-last:]


def test_extra_values_are_one_per_action() -> None:
    episodes = Episodes(
        np.array([2, 1]), torch.zeros(3), np.zeros(3, np.float32), ("", ""), ({}, {}), np.zeros(3),
        None, torch.zeros(3), torch.zeros(3),
    )  # fmt: skip
    for wrong in (torch.zeros(2), torch.tensor(1.0), [1.0, 2.0, 3.0], np.zeros(3)):
        with pytest.raises(SettingsError, match=r"advantages\[episodes\.owners\]"):
            episodes.with_extra(advantages=wrong)
