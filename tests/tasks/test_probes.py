"""The closed forms of the probes, against enumeration, random tokens and agents."""

import math
from itertools import product

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from textgym.tasks.probes.base import NUMBERS
from textgym.tasks.probes.rewards import Noise, Scale
from textgym.tasks.probes.texts import Delayed, LongHorizon, Masks, Sparse
from textgym.tasks.probes.words import Conditional, Constant, LargeVocabulary, ManyPrompts
from textgym.testing import check_task, check_vector_env
from textgym.wrappers import ActionMasks

CLASSES = (
    Constant, Conditional, LargeVocabulary, ManyPrompts, Noise, Scale,
    Delayed, LongHorizon, Sparse, Masks,
)  # fmt: skip
PROBES = [
    pytest.param(probe(level), id=f"{probe.__name__}-{level}")
    for probe in CLASSES
    for level in probe.levels
]
ENUMERATED = [
    param for param in PROBES if param.values[0].actions ** param.values[0].max_new_tokens < 1e5
]


def make(task, count):
    return gym.make_vec("TextGen-v0", num_envs=count, prompts=task, autoreset_mode="SameStep")


def play(task, act, episodes, count=1000, seed=0):
    """Play `episodes` episodes in each of `count` environments.

    Returns:
        The return of each episode, ``[count, episodes]``, and for each step the observations, the
        actions and the episodes of the unfinished environments.
    """
    envs = make(task, count)
    observations, _ = envs.reset(seed=seed)
    returns, steps, numbers = np.zeros((count, episodes)), [], np.zeros(count, dtype=int)
    while (numbers < episodes).any():
        actions = act(observations)
        counts = np.flatnonzero(numbers < episodes)
        steps.append((observations[counts], actions[counts], (counts, numbers[counts])))
        observations, rewards, ended, _, _ = envs.step(actions)
        ends = np.flatnonzero(ended & (numbers < episodes))
        returns[ends, numbers[ends]] = rewards[ends]
        numbers[ends] += 1
    return returns, steps


def random_tokens(task, seed):
    chance = np.random.default_rng(seed)
    return lambda observations: chance.integers(task.actions, size=len(observations))


def texts_of(task):
    """The texts of all sequences of tokens, which are equally likely under random tokens."""
    words = task.tokenizer
    for ids in product(range(task.actions), repeat=task.max_new_tokens):
        until = [*ids, len(words)].index(len(words))
        yield " ".join(words[index] for index in ids[:until])


def rows_of(task):
    """All rows, or some if there are many."""
    if isinstance(task, (Conditional, Masks)):
        return [{"prompt": word} for word in task.tokenizer]
    if isinstance(task, ManyPrompts):
        return [task.item(index) for index in range(20)]
    return [{"prompt": ""}]


def mean_rewards(task, row):
    """The expected reward of every text over the noise of the row."""
    texts = list(texts_of(task))
    if not isinstance(task, Noise):
        return task.reward([row["prompt"]] * len(texts), texts)
    lucks = [[luck] * len(texts) for luck in range(12 * task.spread)]
    return np.mean([task.reward([""] * 4, texts, luck=[luck] * 4) for luck in lucks], axis=0)


# ------------------------------------------------------------------ contract


@pytest.mark.parametrize("probe", CLASSES)
def test_contract(probe):
    check_task(probe)
    check_env(gym.make("TextGen-v0", prompts=probe).unwrapped)


@pytest.mark.parametrize("task", PROBES)
def test_the_batch_is_a_loop_over_single_environments(task):
    check_vector_env("TextGen-v0", prompts=task, num_envs=3, num_steps=2 * task.max_new_tokens + 4)


@pytest.mark.parametrize("probe", CLASSES)
def test_budgets_are_those_of_the_default_level(probe):
    assert probe().max_new_tokens == probe.max_new_tokens
    assert all(1 <= probe(level).max_new_tokens <= 32 for level in probe.levels)
    assert {task.max_new_tokens for task in map(probe, probe.levels)} == (
        {*probe.lengths} or {probe.max_new_tokens}
    )


def test_tags_cover_all_abilities():
    assert {tag for probe in CLASSES for tag in probe.tags} == {
        "basic", "credit assignment", "exploration", "generalization", "noise", "scale",
    }  # fmt: skip


@pytest.mark.parametrize("task", PROBES)
def test_the_docstring_shows_the_first_item(task):
    row = task.item(0)
    shown = f"{row['prompt']} -> {row['reference']}"
    page = " ".join(type(task).__doc__.split())
    if row["prompt"] and not (isinstance(task, Scale) and task.level > 1):
        level = f" at level {task.level}" if len(task.levels) > 1 else ""
        assert f"``item(0)``{level}:: {shown}" in page
    assert f"Discrete({task.actions})" in page
    assert f"({task.max_prompt_tokens + task.max_new_tokens},)" in page or task.lengths


@pytest.mark.parametrize("task", PROBES)
def test_documents_can_be_tokenized(task):
    text = task.document(np.random.default_rng(0))
    row = task.sample(np.random.default_rng(0))
    assert text.split() == [*row["prompt"].split(), *row["reference"].split()]
    assert {*text.split()} <= {*task.tokenizer}


@pytest.mark.parametrize("task", PROBES)
def test_other_prompts_have_a_right_text_or_none(task):
    for prompt in ("", "zero", "nine nine", "what?", "\ud800"):
        row = task.complete_row({"prompt": prompt})
        assert task.score(task.right(prompt), row) == float(task.right(prompt) != "")
        assert task.score("", row) == 0.0


# ------------------------------------------------------------------ closed forms


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (Constant, [1 / 4]), (Conditional, [1 / 8]), (LargeVocabulary, [0.01, 0.001]),
        (ManyPrompts, [1 / 10] * 2), (Noise, [1 / 2] * 3), (Scale, [12.5, 0.00125, 1250]),
        (Delayed, [1 / 4] * 3), (LongHorizon, [1 / 4] * 3), (Sparse, [1 / 125, 1 / 625, 1 / 3125]),
        (Masks, [1 / 16] * 2),
    ],
)  # fmt: skip
def test_random_rewards_by_hand(probe, expected):
    assert [probe(level).random_reward for level in probe.levels] == pytest.approx(expected)


def test_the_right_words_of_large_vocabulary():
    assert LargeVocabulary(1).words == tuple(f"word{50 + 100 * at}" for at in range(20))
    assert LargeVocabulary(2).words == ("word500", "word1500")


@pytest.mark.parametrize("level", ManyPrompts.levels)
def test_prompts_of_the_eval_split_are_unseen(level):
    splits = [ManyPrompts(level, split) for split in ("train", "eval")]
    train, test = ({task.item(index)["prompt"] for index in range(3000)} for task in splits)
    assert not train & test
    assert min(len(train), len(test)) > 2900
    firsts = {prompt.split()[0] for prompt in train | test}
    assert firsts == {*(NUMBERS if level == 1 else NUMBERS[1:6])}


@pytest.mark.parametrize("task", ENUMERATED)
def test_closed_forms_equal_enumeration(task):
    rows = rows_of(task)
    means = np.array([mean_rewards(task, row) for row in rows])
    assert means.mean() == pytest.approx(task.random_reward, rel=1e-12)
    assert means.max(1).mean() == pytest.approx(task.optimum, rel=1e-12)


def test_credit_of_each_word_of_long_texts():
    """Long texts cannot be enumerated, so each position is varied separately."""
    small = {(type(param.values[0]), param.values[0].level) for param in ENUMERATED}
    large = {(type(param.values[0]), param.values[0].level) for param in PROBES} - small
    assert large == {(Delayed, 2), (Delayed, 3), (LongHorizon, 2), (LongHorizon, 3)}
    for probe, level in large:
        task, chance = probe(level), np.random.default_rng(0)
        text = [task.tokenizer[index] for index in chance.integers(4, size=task.max_new_tokens)]
        row = {"prompt": ""}
        gains = np.zeros(len(text))
        for place in range(len(text)):
            scores = [
                task.score(" ".join([*text[:place], word, *text[place + 1 :]]), row)
                for word in task.tokenizer
            ]
            gains[place] = max(scores) - min(scores)
        if probe is Delayed:
            assert gains.tolist() == [1.0, *[0.0] * (len(text) - 1)]
        else:
            assert 0 < gains.min() <= gains.max() <= 2 / len(text)


@pytest.mark.parametrize("task", PROBES)
def test_random_tokens_get_the_random_reward(task):
    """Bernstein's inequality, with the variance bound of Bhatia and Davis."""
    rewards, _ = play(task, random_tokens(task, 1), 2 if task.max_new_tokens > 8 else 10)
    low, high = (0.5 - task.spread, 0.5 + task.spread) if isinstance(task, Noise) else (0, 1)
    high = task.factor if isinstance(task, Scale) else high
    mean = task.random_reward
    assert low <= rewards.min()
    assert rewards.max() <= high
    unlikely = math.log(2 / 1e-6)
    slack = math.sqrt(2 * (high - mean) * (mean - low) * unlikely / rewards.size)
    assert abs(rewards.mean() - mean) <= slack + (high - low) * unlikely / (3 * rewards.size)


@pytest.mark.parametrize("task", PROBES)
def test_baselines_have_the_stated_rewards(task):
    chance, rows = np.random.default_rng(2), [task.item(index) for index in range(1000)]
    random = task.random_reward / task.optimum
    for name, expected in {"uniform": random, "half": (1 + random) / 2}.items():
        write = task.baselines()[name]
        scores = [task.score(write(row, chance), row) for row in rows]
        assert np.mean(scores) == pytest.approx(expected, abs=5 * 0.5 / 1000**0.5)


def test_noise_has_the_stated_moments():
    for level in Noise.levels:
        task = Noise(level)
        s = task.spread
        for number, word in enumerate(task.tokenizer):
            rewards = [task.reward([""], [word], luck=[[luck] * 4])[0] for luck in range(12 * s)]
            q = 1 / 2 + (2 * number - 3) / (12 * s)
            assert rewards.count(0.5 + s) == pytest.approx(12 * s * q)
            assert np.mean(rewards) == pytest.approx(number / 3)
            assert np.var(rewards) == pytest.approx(s**2 - (number / 3 - 1 / 2) ** 2)
        rows = [task.item(index) for index in range(3000)]
        assert {luck for row in rows for luck in row["luck"]} == {*range(12 * s)}
        assert task.reward([""] * 2, ["one", "junk"], luck=[None, [0] * 4]) == [1 / 3, 0.0]


# ------------------------------------------------------------------ agents


@pytest.mark.parametrize("task", PROBES)
def test_the_oracle_gets_the_optimum(task):
    envs = make(task, 64)
    _, infos = envs.reset(seed=3)
    words = envs.unwrapped.tokenizer
    texts = [words.encode(task.right(prompt)) for prompt in infos["prompt"]]
    if task.stop_at_eos:
        texts = [[*text, words.eos_id] for text in texts]
    for place, actions in enumerate(np.array(texts).T):
        _, rewards, ended, _, infos = envs.step(actions)
        assert ended.all() == (place == task.max_new_tokens - 1)
        assert ended.all() or not rewards.any()
    if isinstance(task, Noise):
        luck = np.array(infos["final_info"]["luck"].tolist())[:, -1]
        s = task.spread
        assert rewards.tolist() == np.where(luck < 6 * s + 3, 0.5 + s, 0.5 - s).tolist()
    else:
        assert rewards.tolist() == [task.optimum] * 64


def table(task, episodes, key=lambda rows, lengths: rows[np.arange(len(rows)), lengths - 1]):
    """Tabular Monte Carlo: explore with random tokens, then act greedily.

    A state is the number of tokens so far, and the last one (or another `key`).
    """
    rewards, steps = play(task, random_tokens(task, 4), episodes, seed=4)
    width = max(len(task.tokenizer), 12) + 2
    sums = np.zeros((task.max_prompt_tokens + task.max_new_tokens + 1, width, task.actions))
    visits = np.zeros_like(sums)

    def states(rows):
        lengths = (rows >= 0).sum(1)
        return lengths, key(rows, lengths) + 1

    for rows, actions, episode in steps:
        at = (*states(rows), actions)
        np.add.at(sums, at, rewards[episode])
        np.add.at(visits, at, 1)
    values = sums / np.maximum(visits, 1)
    return lambda rows: values[states(rows)].argmax(-1)


# Thousands of episodes for the probes that need more than 4.
EPISODES = {
    (LargeVocabulary, 1): 20,
    (LargeVocabulary, 2): 20,
    (Noise, 2): 20,
    (Noise, 3): 60,
    (Sparse, 2): 10,
    (Sparse, 3): 40,
}


@pytest.mark.parametrize(
    "task", [param for param in PROBES if type(param.values[0]) is not ManyPrompts]
)
def test_a_table_solves_it(task):
    learned = table(task, EPISODES.get((type(task), task.level), 4))
    if isinstance(task, Noise):
        assert learned(np.full((1, 2), -1)).tolist() == [3]
    else:
        rewards, _ = play(task, learned, 1, seed=5)
        assert task.solved(rewards.mean())
        assert rewards.mean() == pytest.approx(task.optimum, rel=0.05)


@pytest.mark.parametrize(
    ("level", "place", "mean"),
    [
        # The word that the rule depends on, and another word.
        (1, lambda rows: np.ones(len(rows), dtype=int), 1.0),
        (1, lambda rows: np.full(len(rows), 5), 0.1),
        (2, lambda rows: rows[:, 0], 1.0),
        (2, lambda rows: np.full(len(rows), 5), 1 / 5 + 4 / 5 / 10),
    ],
)
def test_a_table_with_the_right_key_solves_unseen_prompts(level, place, mean):
    learned = table(
        ManyPrompts(level), 4, lambda rows, lengths: rows[np.arange(len(rows)), place(rows)]
    )
    task = ManyPrompts(level, split="eval")
    rewards, _ = play(task, learned, 1, seed=6)
    assert rewards.mean() == pytest.approx(mean, abs=5 * 0.5 / 1000**0.5 if mean < 1 else 0)
    assert task.solved(rewards.mean()) == (mean == 1)


@pytest.mark.parametrize("level", Masks.levels)
def test_with_masks_every_text_is_right(level):
    task, chance = Masks(level), np.random.default_rng(7)
    envs = ActionMasks(make(task, 200), mask=task.allowed)
    envs.reset(seed=7)
    for _ in range(task.max_new_tokens):
        masks = envs.action_masks()
        assert (masks.sum(1) == 4).all()
        _, rewards, ended, _, infos = envs.step((chance.random(masks.shape) * masks).argmax(1))
    assert ended.all()
    assert rewards.tolist() == [1.0] * 200
    assert infos["final_info"]["cost"].tolist() == [0.0] * 200


@pytest.mark.parametrize("level", Masks.levels)
def test_masks_equal_the_words_without_cost(level):
    task = Masks(level)
    cost = task.costs()["forbidden"]
    costs = []
    for words in product(task.tokenizer, repeat=3):
        prompt, *written = words
        ids = [NUMBERS.index(word) for word in words]
        before = cost([prompt], [" ".join(written)])[0]
        allowed = task.allowed(np.array([[*ids, -1, -1]], dtype=np.int32))[0]
        after = cost([prompt] * 8, [" ".join([*written, word]) for word in task.tokenizer])
        assert ((np.array(after) - before) == ~allowed).all()
        costs += after
    assert np.mean(costs) == 3 / 2
    assert task.allowed(np.full((1, 5), -1)).tolist() == [[True, False] * 4]
    assert [cost([""], [word]) for word in ("two", "three", "ten")] == [[0.0], [1.0], [1.0]]


# ------------------------------------------------------------------ missing abilities


def test_an_agent_without_the_ability_stays_below_the_threshold():
    # An agent that ignores the prompt: the best fixed text.
    for task in (Conditional(), Scale(1), Scale(2), Scale(3), Masks(2)):
        best = np.mean([mean_rewards(task, row) for row in rows_of(task)], axis=0).max()
        assert best < task.threshold
        assert best == pytest.approx(task.optimum / (2 if isinstance(task, Masks) else 8))
    # The second best arm; and trying each arm once, with ties broken at random.
    for level in Noise.levels:
        task = Noise(level)
        assert sorted(mean_rewards(task, {"prompt": ""}))[-2] < task.threshold
        shares = [(6 * task.spread + 2 * i - 3) / (12 * task.spread) for i in range(4)]
        once = 0.0
        for high in product((False, True), repeat=4):
            chance = math.prod(q if hit else 1 - q for q, hit in zip(shares, high, strict=True))
            once += chance * np.mean([i / 3 for i in range(4) if high[i] == max(high)])
        assert once < 0.67 < task.threshold
    # The same distribution for every word: the bound of the docstring, and a random search.
    chance = np.random.default_rng(8)
    for level in LongHorizon.levels:
        n = LongHorizon(level).max_new_tokens
        p = chance.dirichlet(np.full(4, 0.5), size=20_000)
        found = (p[:, 0] + (n - 1) * (p * np.roll(p, -1, axis=1)).sum(1)) / n
        assert found.max() <= 1 / 4 + 3 / (4 * n) < LongHorizon(level).threshold
    # Forbidden words avoided in all positions but one.
    for level in Masks.levels:
        assert Masks(level).threshold > 1 / 2


@pytest.mark.parametrize("task", PROBES)
def test_the_threshold_is_halfway(task):
    assert task.random_reward < task.threshold < task.optimum
    assert task.threshold - task.random_reward == pytest.approx(task.optimum - task.threshold)
    assert task.solved(task.optimum)
    assert task.solved(task.threshold)
    assert not task.solved(task.random_reward)


@pytest.mark.parametrize("probe", [Delayed, LongHorizon, Masks])
def test_unknown_words_score_zero(probe):
    task = probe()
    row = task.item(0)
    words = task.oracle(row).split()
    assert task.score(" ".join(words), row) == 1.0
    assert task.score(" ".join([*words[:-1], "walrus"]), row) == 0.0
