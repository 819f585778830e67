"""Every parameter of a reward function gets its input by its name, or the function is refused."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from textgym.errors import RewardError
from textgym.rewards import RewardSum
from textgym.rewards.combinators import Product

COLUMNS = {
    "answer": ["A"],
    "reference": ["R"],
    "completion_ids": [[1, 2]],
    "finish_reason": ["eos"],
}
P, C = ["P"], ["C"]


def seen_by(function: Any, **columns: Any) -> Any:
    """Return the arguments that a function is called with; its value is 1."""
    seen: list[Any] = []

    @functools.wraps(function)
    def spy(*args: Any, **kwargs: Any) -> list[float]:
        seen.append(function(*args, **kwargs))
        return [1.0]

    RewardSum(spy, "Env")(P, C, {**COLUMNS, **columns})
    return seen[0]


@pytest.mark.parametrize(
    ("function", "given"),
    [
        # By their names.
        (lambda prompts, completions: (prompts, completions), (P, C)),
        (lambda completions, prompts: (prompts, completions), (P, C)),
        (lambda completions, answer: (completions, answer), (C, ["A"])),
        (lambda answer, completions: (completions, answer), (C, ["A"])),
        (lambda *, completions, answer: (completions, answer), (C, ["A"])),
        (lambda completion_ids: completion_ids, [[1, 2]]),
        (lambda finish_reason: finish_reason, ["eos"]),
        (lambda prompts: prompts, P),
        # The singular.
        (lambda prompt, completion: (prompt, completion), (P, C)),
        (lambda prompt, completions, answer: (prompt, completions, answer), (P, C, ["A"])),
        # Other names of the texts.
        (lambda response, answer: (response, answer), (C, ["A"])),
        (lambda answer, text: (text, answer), (C, ["A"])),
        (lambda texts, reference, answer: (texts, reference, answer), (C, ["R"], ["A"])),
        (lambda responses, **rest: (responses, rest["answer"]), (C, ["A"])),
        # A single parameter.
        (lambda x: x, C),
        (lambda x, scale=2: (x, scale), (C, 2)),
        (lambda x, /: x, C),
        (lambda x, answer=None: (x, answer), (C, ["A"])),
        (lambda x, **rest: (x, sorted(rest)), (C, sorted([*COLUMNS, "prompts", "completions"]))),
        # By position only.
        (lambda prompts, completions, /: (prompts, completions), (P, C)),
        (lambda completions, answer, /: (completions, answer), (C, ["A"])),
        (lambda completions, b=5, /, answer=3: (completions, b, answer), (C, 5, ["A"])),
        # Defaults that no column replaces.
        (lambda completions, other="o": (completions, other), (C, "o")),
        # Everything.
        (lambda **given: (given["prompts"], given["completions"], given["answer"]), (P, C, ["A"])),
        (lambda *args, **given: (args, given["completions"]), ((), C)),
        (lambda completions, *args: (completions, args), (C, ())),
        # What TRL's trainer has.
        (lambda completions, trainer_state: (completions, trainer_state), (C, None)),
        (lambda completions, trainer_state=3: (completions, trainer_state), (C, 3)),
        (lambda completions, log_extra, log_metric: (log_extra("a", [1]), log_metric("b", 2.0)),
         (None, None)),
    ],
)  # fmt: skip
def test_parameters_get_their_inputs_by_name(function: Any, given: Any) -> None:
    assert seen_by(function) == given


def test_a_column_of_the_texts_singular_is_not_the_texts() -> None:
    assert seen_by(lambda completions, completion: (completions, completion), completion=["K"]) == (
        C, ["K"],
    )  # fmt: skip
    # TRL does not pass such a column on, and the name says what it is.
    assert seen_by(lambda completion, answer: (completion, answer), completion=["K"]) == (C, ["A"])


def test_logging_functions_take_anything() -> None:
    def logs(completions: Any, log_extra: Any, log_metric: Any) -> list[float]:
        log_extra("column", ["a"])
        log_metric(name="score", value=1.0)
        return [1.0]

    assert RewardSum(logs, "Env")(P, C, {})[0].tolist() == [1.0]


class Judge:
    def __call__(self, response: list[str], answer: list[str]) -> list[float]:
        return [float(r == "C" and a == "A") for r, a in zip(response, answer, strict=True)]

    def method(self, answer: list[str], completions: list[str]) -> list[float]:
        return self(completions, answer)

    @staticmethod
    def static(completions: list[str], answer: list[str]) -> list[float]:
        return Judge()(completions, answer)


def own(completions: list[str], wanted: list[str], answer: list[str]) -> list[float]:
    return [float((completions, wanted, answer) == (C, ["W"], ["A"]))]


@functools.wraps(own)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return own(*args, **kwargs)


@pytest.mark.parametrize(
    "function",
    [
        Judge(),
        Judge().method,
        Judge.static,
        functools.partial(own, wanted=["W"]),
        functools.partial(wrapped, wanted=["W"]),
        functools.partial(lambda wanted, completions, answer: own(completions, wanted, answer),
                          ["W"]),
        lambda *args, **kwargs: own(*args, kwargs["completions"], ["W"], kwargs["answer"]),
    ],
)  # fmt: skip
def test_all_that_can_be_called(function: Any) -> None:
    assert RewardSum(function, "Env")(P, C, COLUMNS)[0].tolist() == [1.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        # Which is which?
        (lambda ps, cs: 0, r"takes 'ps' and 'cs', .* \(prompts, completions\)"),
        (lambda ps, cs, **rest: 0, "needs the column 'ps'"),
        (lambda said, answer: 0, r"takes 'said', .* \(completions, answer\)"),
        (lambda question, answer: 0, r"takes 'question', .* \(completions, answer\)"),
        (lambda prompts, said: 0, r"takes 'said', .* \(prompts, completions\)"),
        (lambda response, text: 0, r"takes 'response' and 'text', .* \(prompts, completions\)"),
        (lambda ps, cs, /: 0, r"takes 'ps' and 'cs', .* 'answer'"),
        # Nothing that was written.
        (lambda answer: 0, r"takes only 'answer' .* nothing .*"
                           r"\(completions, answer\)"),
        (lambda answer, reference: 0, "takes only 'answer' and 'reference' .* nothing"),
        (lambda prompt, answer: 0, "takes only 'answer' .* nothing"),
        (lambda: 0, "takes nothing"),
        (lambda other=3: 0, "takes nothing"),
        # Missing columns.
        (lambda completions, solution: 0, "needs the column 'solution', .*they have: 'answer'"),
        (lambda completions, answers: 0, "needs the column 'answers'.*did you mean 'answer'"),
        (lambda completions, *, key: 0, "needs the column 'key'"),
        (lambda completions, text: 0, "needs the column 'text'"),
        (lambda prompt_ids, completions: 0, "needs the column 'prompt_ids'"),
        (lambda completions, turns: 0, "needs the column 'turns'"),
    ],
)  # fmt: skip
def test_doubt_is_refused_with_the_signature_that_works(function: Any, message: str) -> None:
    reward = RewardSum(function, "Env")
    for ask in (lambda: reward.check_columns(COLUMNS), lambda: reward(P, C, COLUMNS)):
        with pytest.raises(RewardError, match=f"^Env: reward '<lambda>' .*{message}"):
            ask()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda *texts: 0, r"takes only \*texts"),
        (Judge, "is a class"),
        (iter, "signature of .* cannot be read"),
        (max, "signature of .* cannot be read"),
    ],
)
def test_what_cannot_be_called_by_name(function: Any, message: str) -> None:
    with pytest.raises(RewardError, match=f"^Env: .*{message}"):
        RewardSum(function, "Env")


@pytest.mark.parametrize("name", ["completion_ids", "turns", "messages"])
def test_a_single_parameter_with_the_name_of_another_input(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def function({name}): return [1.0]", scope)
    with pytest.raises(RewardError, match=rf"takes '{name}', .* \(completions\)"):
        RewardSum(scope["function"], "Env")(P, C, {"answer": ["A"]})


def test_inner_rewards_are_bound_by_name_too() -> None:
    reward = Product(Judge(), lambda completions, answer: [2.0])
    assert reward(P, C, **COLUMNS) == [2.0]
    with pytest.raises(RewardError, match="inner reward '<lambda>', which takes 'said'"):
        Product(lambda said, answer: [0.0])(P, C, **COLUMNS)


WORDS = ["1", "+", "=", "2", "3", "<eos>"]


def make(reward: Any, **options: Any) -> Any:
    rows = [{"prompt": "1 + 1 =", "answer": "2"}, {"prompt": "1 + 2 =", "answer": "3", "more": 1}]
    return gym.make("TextGen-v0", prompts=rows, tokenizer=WORDS, **{"reward": reward, **options})


def test_an_environment_passes_the_response_and_the_column() -> None:
    def same(response: list[str], answer: list[str]) -> list[float]:
        return [float(a == b) for a, b in zip(response, answer, strict=True)]

    env = make(same)
    for index, action, reward in ((0, 3, 1.0), (0, 4, 0.0), (1, 4, 1.0)):
        env.reset(options={"index": index})
        env.step(action)
        assert env.step(5)[1] == reward


@pytest.mark.parametrize("argument", ["reward", "step_reward", "costs"])
def test_doubt_is_refused_when_the_environment_is_made(argument: str) -> None:
    def judge(said: list[str], answer: list[str]) -> list[float]:
        raise AssertionError("called")

    options: Any = {argument: {"judge": judge} if argument == "costs" else judge}
    with pytest.raises(RewardError, match="reward 'judge' takes 'said'") as caught:
        make(**{"reward": "distinct", **options})
    assert str(caught.value).startswith("TextGen-v0")
    with pytest.raises(RewardError, match="needs the column 'solution'"):
        make(lambda completions, solution: [0.0])


def test_a_column_that_only_later_rows_have_is_one() -> None:
    env = make(lambda completions, more: [float(one or 0) for one in more])
    env.reset(options={"index": 1})
    assert env.step(5)[1] == 1.0


# -- asynchronous functions ------------------------------------------------------------------------


def test_asynchronous_functions_of_every_kind() -> None:
    async def plain(completions: list[str], answer: list[str]) -> list[float]:
        return [float(completions == C and answer == ["A"])]

    class Later:
        async def __call__(self, completions: list[str]) -> list[float | None]:
            return [None]

        async def method(self, response: list[str], answer: list[str]) -> Any:
            return np.array([2.0])

    async def scaled(factor: float, completions: list[str]) -> list[float]:
        return [factor]

    spec = {
        plain: 1, Later(): 1, Later().method: 1, functools.partial(scaled, 3.0): 1,
        (lambda completions: scaled(4.0, completions)): 1,
        Product(plain, functools.partial(scaled, 5.0)): 1,
    }  # fmt: skip
    total, terms = RewardSum(spec, "Env")(P, C, COLUMNS)
    assert total.tolist() == [1 + 2 + 3 + 4 + 5]
    assert np.isnan(terms["Later"]).tolist() == [True]


def test_asynchronous_functions_wait_together() -> None:
    import asyncio

    met: list[asyncio.Event] = []

    async def first(completions: list[str]) -> list[float]:
        met.append(asyncio.Event())
        await asyncio.wait_for(met[0].wait(), 30)
        return [1.0]

    async def second(completions: list[str]) -> list[float]:
        while not met:
            await asyncio.sleep(0)
        met[0].set()  # an event of the same loop
        return [10.0]

    # One after the other, the first would wait for ever.
    assert RewardSum({first: 1, second: 1}, "Env")(P, C, {})[0].tolist() == [11.0]


def test_the_loop_outlives_a_call() -> None:
    import asyncio

    kept: list[Any] = []

    async def keeps(completions: list[str]) -> list[float]:
        kept.append(asyncio.get_running_loop())
        if len(kept) == 1:
            kept.append(asyncio.Lock())
        async with kept[1]:
            return [1.0]

    reward = RewardSum(keeps, "Env")
    assert [reward(P, C, {})[0].tolist() for _ in range(2)] == [[1.0], [1.0]]
    assert kept[0] is kept[2]


def test_from_within_a_running_loop() -> None:
    import asyncio

    async def inner(completions: list[str]) -> list[float]:
        await asyncio.sleep(0)
        return [1.0]

    async def outer(completions: list[str]) -> list[float]:
        # It waits for another asynchronous one, and holds the loop meanwhile.
        return Product(inner)(P, completions)

    async def notebook() -> list[float]:
        return RewardSum({outer: 1, inner: 1}, "Env")(P, C, {})[0].tolist()

    assert asyncio.run(notebook()) == [2.0]


def test_an_asynchronous_function_that_raises_names_the_row() -> None:
    async def fails(completions: list[str]) -> list[float]:
        return [float(text) for text in completions]

    with pytest.raises(RewardError, match=r"reward 'fails' raised ValueError: .* on row 9 \(.*'x'"):
        RewardSum(fails, "Env")(P * 3, ["1", "x", "2"], {}, [8, 9, 10])
    with pytest.raises(RewardError, match="'fails' returned 3 values for 2 texts"):
        RewardSum(_returns([1.0] * 3), "Env")(P * 2, C * 2, {})


def _returns(values: list[float]) -> Any:
    async def fails(completions: list[str]) -> list[float]:
        return values

    return fails


def test_where_another_term_fails_the_asynchronous_one_is_cancelled() -> None:
    import asyncio
    import threading

    cancelled = threading.Event()

    async def waits(completions: list[str]) -> list[float]:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return [0.0]

    with pytest.raises(RewardError, match="ZeroDivisionError"):
        RewardSum({waits: 1, (lambda completions: 1 / 0): 1}, "Env")(P, C, {})
    assert cancelled.wait(30)


def test_an_asynchronous_reward_of_an_environment() -> None:
    async def same(response: list[str], answer: list[str]) -> list[float | None]:
        return [float(a == b) for a, b in zip(response, answer, strict=True)]

    envs = gym.make_vec(
        "TextGen-v0", num_envs=2, reward=same, tokenizer=WORDS,
        prompts=[{"prompt": "1 + 1 =", "answer": "2"}, {"prompt": "1 + 2 =", "answer": "3"}],
    )  # fmt: skip
    envs.reset(options={"index": [0, 1]})
    envs.step([3, 3])
    assert envs.step([5, 5])[1].tolist() == [1.0, 0.0]
