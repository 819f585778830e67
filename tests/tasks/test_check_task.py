"""check_task passes good tasks, and detects tasks that break one rule each."""

import itertools
import random
import textwrap
import time

import gymnasium
import numpy as np
import pytest

from textgym.errors import TaskError
from textgym.tasks import Task, base, registered_tasks
from textgym.testing import check_task

DIGITS = tuple("0123456789")


class Reverse(Task):
    """Write six different digits in reverse order: a task that satisfies every rule."""

    id = "TextGen/Reverse-v0"
    max_prompt_tokens = 6
    max_new_tokens = 7
    tokenizer = DIGITS
    cheat_ceiling = 0.5

    def generate(self, rng):
        digits = [DIGITS[i] for i in rng.permutation(10)[:6]]
        return {"prompt": " ".join(digits), "reference": " ".join(digits[::-1])}

    def score(self, completion, row):
        return float(completion == row["reference"])

    def baselines(self):
        return {"half": lambda row, rng: row["reference"] if rng.random() < 0.5 else row["prompt"]}


def broken(**attributes):
    return type("Broken", (Reverse,), attributes)


class Add(Task):
    """A task in open text, whose score compares unmodified texts."""

    id = "TextGen/Add-v0"
    max_prompt_tokens = 16
    max_new_tokens = 8
    cheat_ceiling = 0.5

    def generate(self, rng):
        one, two = rng.integers(1000, size=2).tolist()
        return {"prompt": f"{one} + {two} =", "reference": f" {one + two}"}

    def score(self, completion, row):
        return float(completion == row["reference"])

    def baselines(self):
        return {"half": lambda row, rng: row["reference"] if rng.random() < 0.5 else " 7"}


def exact(self, completion, row):
    return completion


def with_row(**columns):
    def generate(self, rng):
        return {**Reverse.generate(self, rng), **columns}

    return broken(generate=generate)


def scoring(function):
    return broken(score=lambda self, completion, row: function(completion, row))


def global_numpy(self, rng):
    return {**Reverse.generate(self, rng), "luck": float(np.random.rand())}


def global_random(self, rng):
    return {**Reverse.generate(self, rng), "luck": random.random()}


def global_seeding(self, rng):
    random.seed(3)
    return Reverse.generate(self, rng)


counter = itertools.count()


def counting(self, rng):
    return {**Reverse.generate(self, rng), "number": next(counter)}


class Walker(Reverse):
    """Rows come from generators of seed + index, so adjacent seeds share them."""

    def sample(self, rng):
        seed = rng.bit_generator.seed_seq
        index = seed.n_children_spawned
        seed.spawn(1)
        return super().sample(np.random.default_rng(int(np.sum(seed.entropy)) + index))


def small_leak(self, rng):
    row = {"prompt": " ".join(DIGITS[:6]), "reference": " ".join(DIGITS[5::-1])}
    return row if rng.random() < 0.1 else Reverse.sample(self, rng)


def mutating(completion, row):
    row["seen"] = True
    return float(completion == row["reference"])


def right(completion, row):
    return completion == row["reference"]


def or_else(otherwise):
    """A scorer with 1.0 for the right answer, and another function for other texts."""
    return scoring(lambda text, row: 1.0 if right(text, row) else float(otherwise(text, row)))


def slow(text, row):
    end = time.process_time() + (0.3 if len(text) > 5_000 else 0)
    while time.process_time() < end:
        pass
    return 0


def number(text, row):
    # Python refuses to parse integers of more than 4300 digits.
    return 0 * int(text) if text.isdigit() else 0


def nothing_left_out(text, row):
    return set(row["reference"].split()) <= set(text.split())


def lucky(completion, row):
    return 1.0 if right(completion, row) else random.random() * 0.1


def first_item(self, index):
    return Reverse.generate(self, np.random.default_rng())


class Polite(Reverse):
    """A task in open text, whose scorer rewards politeness."""

    tokenizer = None
    max_prompt_tokens = max_new_tokens = 16

    def score(self, completion, row):
        return 1.0 if right(completion, row) else 0.45 * (completion.strip()[:9] == "I'm sorry")


CASES = {
    "attributes: score": ("attributes", broken(score=Task.score)),
    "attributes: ceiling": ("attributes", broken(cheat_ceiling=2.0)),
    "attributes: budget": ("attributes", broken(max_new_tokens=0)),
    "attributes: level": ("attributes", broken(default_level=4)),
    "attributes: stop": ("attributes", broken(stop="text")),
    "rows: no reference": ("rows", with_row(reference=None)),
    "rows: tuple": ("rows", with_row(pair=(1, 2))),
    "rows: numpy": ("rows", with_row(number=np.int64(3))),
    "rows: nan": ("rows", with_row(number=float("nan"))),
    "rows: integer keys": ("rows", with_row(table={1: 2})),
    "generation: np.random": ("generation", broken(generate=global_numpy)),
    "generation: random": ("generation", broken(generate=global_random)),
    "generation: seeds random": ("generation", broken(generate=global_seeding)),
    "generation: state": ("generation", broken(generate=counting)),
    "seeds: seed + index": ("seeds", Walker),
    "seeds: item": ("seeds", broken(item=first_item)),
    "splits: one prompt": ("splits", broken(sample=small_leak)),
    "budget: prompt": ("budget", broken(max_prompt_tokens=5)),
    "budget: oracle": ("budget", broken(max_new_tokens=6)),
    "budget: vocabulary": ("budget", broken(tokenizer=DIGITS[:9])),
    "budget: spelling": ("budget", broken(oracle=lambda self, row: " " + row["reference"])),
    "budget: stop": ("budget", broken(stop=(" 7",))),
    "oracle": ("oracle", scoring(lambda text, row: 0.9 * right(text, row))),
    "scores: type": ("scores", scoring(lambda text, row: np.float64(right(text, row)))),
    "scores: bool": ("scores", scoring(right)),
    "scores: range": ("scores", or_else(lambda text, row: -0.5)),
    "scores: nan": ("scores", or_else(lambda text, row: "nan")),
    "scores: chance": ("scores", scoring(lucky)),
    "scores: row": ("scores", scoring(mutating)),
    "cheats: empty": ("cheats", or_else(lambda text, row: not text)),
    "cheats: echo": ("cheats", or_else(lambda text, row: text == row["prompt"])),
    "cheats: shuffled": (
        "cheats",
        or_else(lambda text, row: sorted(text.split()) == sorted(row["reference"].split())),
    ),
    "cheats: repeated": ("cheats", or_else(lambda text, row: text.startswith(row["reference"]))),
    "cheats: words": ("cheats", or_else(nothing_left_out)),
    "cheats: anything": ("cheats", or_else(lambda text, row: 0.7 * bool(text.strip()))),
    "cheats: one word": ("cheats", or_else(lambda text, row: len(set(text.split())) == 1)),
    "junk: unicode": ("junk", or_else(lambda text, row: 0 * len(text.encode()))),
    "junk: digits": ("junk", or_else(number)),
    "junk: slow": ("junk", or_else(slow)),
    "junk: long": ("junk", or_else(lambda text, row: 0.6 * (len(text) > 50_000))),
    "attack: after the answer": (
        "attack",
        or_else(lambda text, row: 0.45 * text.startswith(row["reference"])),
    ),
    "attack: before the answer": (
        "attack",
        or_else(lambda text, row: 0.45 * text.endswith(row["reference"])),
    ),
    "constants": ("constants", Polite),
    "attack: ceiling": ("attributes", broken(junk_ceiling=0)),
    "constants: ceiling": ("attributes", broken(constant_ceiling=1.5)),
    "baselines: none": ("baselines", broken(baselines=lambda self: {})),
    "baselines: perfect": (
        "baselines",
        broken(baselines=lambda self: {"oracle": lambda row, rng: row["reference"]}),
    ),
    "baselines: hopeless": (
        "baselines",
        broken(baselines=lambda self: {"mute": lambda row, rng: ""}),
    ),
    "reward: count": ("reward", broken(reward=lambda self, prompts, completions, **columns: [1.0])),
    "reward: nan": (
        "reward",
        broken(reward=lambda self, prompts, completions, **columns: [float("nan")] * len(prompts)),
    ),
    "potential: count": ("potential", broken(potential=lambda self, texts, rows: [0.0])),
    "potential: nan": (
        "potential",
        broken(potential=lambda self, texts, rows: [float("nan")] * len(texts)),
    ),
    "potential: every token": (
        "potential",
        broken(potential=lambda self, texts, rows: [float(len(text)) for text in texts]),
    ),
    "spaces": ("spaces", type("Exact", (Add,), {"align": exact})),
    "document: global": ("document", broken(document=lambda self, rng: f"{random.random()}")),
    "document: bytes": ("document", broken(document=lambda self, rng: b"text")),
}


def test_a_good_task_passes():
    check_task(Reverse, n=60)
    check_task(Reverse(split="eval"), n=20)
    potential = {"potential": lambda self, texts, rows: [float(len(text)) for text in texts]}
    check_task(broken(**potential, dense_at="token"), n=20)
    check_task(Add, n=60)


@pytest.mark.parametrize(("rule", "task"), CASES.values(), ids=CASES)
def test_a_broken_task_is_detected(rule, task, monkeypatch):
    monkeypatch.setattr("textgym.testing.score_rules.JUDGING_SECONDS", 0.2)
    with pytest.raises(TaskError, match=rf"rule '{rule}'") as caught:
        check_task(task, n=60)
    assert "Remedy: " in str(caught.value)


def test_random_words_must_score_low():
    class Any(Reverse):
        cheat_ceiling = 0.05

        def score(self, completion, row):
            return 1.0 if right(completion, row) else 0.04 + 0.02 * (len(completion.split()) == 6)

    with pytest.raises(TaskError, match="'cheats'"):
        check_task(Any, n=40)


class Shameless(gymnasium.Env):
    """An environment that check_env rejects: its observations are outside its space."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, 7, np.float32), {}

    def step(self, action):
        return np.full(2, 7, np.float32), 0.0, True, False, {}


def test_the_environment_of_a_registered_id_is_checked(monkeypatch):
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    monkeypatch.setattr(gymnasium, "registry", gymnasium.envs.registration.registry)
    gymnasium.register(id=Reverse.id, entry_point=Shameless)
    with pytest.raises(TaskError, match="'environment'"):
        check_task(Reverse, n=20)


def test_the_documented_example_passes():
    lines = base.__doc__.split("class Parity")[1].split("\n\n``")[0]
    names = {"Task": Task}
    exec(textwrap.dedent(f"    class Parity{lines}"), names)
    check_task(names["Parity"], n=60)


def test_the_error_names_the_row():
    with pytest.raises(TaskError, match=r"level 1, train.*'budget'.* 5(.|\n)*'prompt'"):
        check_task(broken(max_prompt_tokens=5), n=10)


def test_global_random_state_is_unchanged():
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].tolist(), random.getstate()
    check_task(Reverse, n=10)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


@pytest.mark.parametrize("id", [id for id in registered_tasks() if id.startswith("TextGen/")])
def test_registered_tasks_pass(id):
    check_task(id, n=100)
