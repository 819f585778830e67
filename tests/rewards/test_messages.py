"""Messages: rewards that ask for them get them, and rewards that read texts read them as texts."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Dict, List  # noqa: UP035 - functions that people wrote years ago

import gymnasium as gym
import numpy as np
import pytest

from tests.rewards.fake_server import FakeServer
from textgym.data.messages import as_texts, asks_for_messages, reads_texts
from textgym.errors import RewardError
from textgym.rewards import (
    Background,
    Bleu,
    Cider,
    Clip,
    Concepts,
    Distinct,
    Gate,
    Intent,
    Length,
    Normalize,
    Parent,
    Product,
    RewardSum,
    evaluate,
    make_reward,
    messages,
    registered_rewards,
)
from textgym.rewards.adversarial.reward import Adversarial
from textgym.rewards.neural.classifier import Classifier, RewardModel
from textgym.rewards.remote.judge import Judge

Messages = list[dict[str, str]]


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


# -- rewards that ask for messages -----------------------------------------------------------------


def modern(completions: list[list[dict[str, str]]], **kwargs: Any) -> list[float]:
    return [float(len(one[0]["content"])) for one in completions]


def typed(completions: List[List[Dict[str, str]]]) -> list[float]:  # noqa: UP006
    return modern(completions)


def alias(completions: list[Messages]) -> list[float]:
    return modern(completions)


def sequences(completion: Sequence[Sequence[dict[str, Any]]]) -> list[float]:
    return modern(completion)  # type: ignore[arg-type]


def unresolvable(completions: list[list[dict[str, NoSuchName]]]) -> list[float]:  # type: ignore[name-defined]  # noqa: F821
    return modern(completions)


class Format:
    def __call__(self, completions: list[Messages], **_: Any) -> list[float]:
        return modern(completions)


def format_of_trls_documentation(completions: Any, **kwargs: Any) -> list[float]:
    return modern(completions)


async def later(completions: list[Messages]) -> list[float]:
    return modern(completions)


def of_trl(completions: Any, **kwargs: Any) -> list[float]:
    return modern(completions)


of_trl.__module__ = "trl.rewards.format_rewards"


@pytest.mark.parametrize(
    "reward",
    [
        *(modern, typed, alias, sequences, unresolvable, Format(), later, of_trl),
        messages(format_of_trls_documentation),
        messages(lambda completions: modern(completions)),
        messages(later),
        Product(modern),
        Clip(messages(format_of_trls_documentation), 0),
        Background(modern),
    ],
)
def test_a_reward_that_asks_for_messages_gets_them(reward: Any) -> None:
    assert RewardSum(reward, "Env")(["p", "q"], ["abc", ""], {})[0].tolist() == [3.0, 0.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda completions: [float(completions == ["abc"])],
        lambda completions, **_: [float(completions == ["abc"])],
        lambda prompts, completions, messages: [float((prompts, messages) == (["p"], [user("u")]))],
    ],
)
def test_other_rewards_get_strings(function: Any) -> None:
    total, _ = RewardSum(function, "Env")(["p"], ["abc"], {"messages": [user("u")]})
    assert total.tolist() == [1.0]


def test_prompts_are_the_rows_messages() -> None:
    system = [{"role": "system", "content": "s"}, *user("u")]
    seen: list[Any] = []

    def both(prompts: list[Messages], completions: list[Messages]) -> list[float]:
        seen.append((prompts, completions))
        return [0.0] * len(prompts)

    def bare(prompts: Any, completions: list[Messages]) -> list[float]:
        return both(prompts, completions)

    def texts(prompts: list[str], completions: list[Messages]) -> list[float]:
        return both(prompts, completions)  # type: ignore[arg-type]

    said = [assistant("a"), assistant("b")]
    for function in (both, messages(bare)):
        RewardSum(function, "Env")(["<s>u", "q"], ["a", "b"], {"messages": [system, None]})
        # A prompt that is only a text is the user's.
        assert seen.pop() == ([system, user("q")], said)
    RewardSum(both, "Env")(["p", "q"], ["a", "b"], {})
    assert seen.pop() == ([user("p"), user("q")], said)
    RewardSum(texts, "Env")(["<s>u", "q"], ["a", "b"], {"messages": [system, None]})
    assert seen.pop() == (["<s>u", "q"], said)


@pytest.mark.parametrize(
    ("annotation", "asks"),
    [
        (list[list[dict[str, str]]], True),
        ("list[list[dict[str, str]]]", True),
        ("typing.List[typing.List[Message]]", True),
        ("collections.abc.Sequence[list[Message]]", True),
        (list[str], False),
        ("list[str] | list[list[dict[str, str]]]", False),
        (Any, False),
        ("Sequence[str]", False),
    ],
)
def test_annotations(annotation: Any, asks: bool) -> None:
    assert asks_for_messages(annotation) is asks


def test_in_trl_a_wrapped_reward_gets_messages_whatever_the_data() -> None:
    reward = messages(format_of_trls_documentation)
    state: Any = {"trainer_state": object(), "log_extra": print, "completion_ids": [[1]]}
    assert reward(prompts=[user("p")], completions=[assistant("abc")], **state) == [3.0]
    assert reward(prompts=["p"], completions=["abc"], **state) == [3.0]
    assert reward.__name__ == reward.name == "format_of_trls_documentation"
    assert RewardSum(reward, "Env").terms == ["format_of_trls_documentation"]
    assert pickle.loads(pickle.dumps(reward))(["p"], ["abcd"]) == [4.0]
    assert copy.deepcopy(reward) is reward


def test_an_environment_with_a_column_of_messages() -> None:
    def judge(prompts: list[Messages], completions: list[Messages]) -> list[float]:
        seen.append((prompts, completions))
        return [0.5]

    seen: list[Any] = []
    rows = [{"prompt": "U: the\nA:", "messages": user("the")}]
    env = gym.make(
        "TextGen-v0", prompts=rows, reward=judge, tokenizer=["the", "cat", "U:", "A:", "<eos>"]
    )
    env.reset(seed=0)
    env.step(1)
    assert env.step(4)[1] == 0.5
    assert seen == [([user("the")], [assistant("cat")])]


# -- our rewards on messages, as TRL calls them ----------------------------------------------------

PROMPTS = ["The cat sat.\nWhat did it do?", "Count: 1, 2"]
TEXTS = ["the cat sat on a mat, it sat", "3, 4 on 2024-02-29"]
COLUMNS: dict[str, list[Any]] = {
    "reference": ["the cat sat on the mat", ["3, 4", "5"]],
    "keywords": [["cat", "dog"], ["3"]],
    "concepts": [["cat", "mat", "dog"], ["four"]],
    "intent": ["inform", "count"],
    "table": [[("who", "cat")], [("n", "3")]],
    "test": ["assert f() == 1", "assert True"],
    "completion_ids": [[1, 2, 3], [4]],
}
INTENT = Intent({"inform": ["sat"], "count": ["3"]})
CIDER = Cider([["the cat sat"], ["3, 4"]])
OPTIONS: dict[str, dict[str, Any]] = {
    "intent": {"classifier": {"inform": ["sat"], "count": ["3"]}, "context": "last"},
    "cider": {"corpus": [["the cat sat"], ["3, 4"]]},
    "length": {"target": 5},
    "regex": {"pattern": "cat"},
}
# They load models, ask servers or start programs: the next test.
ELSEWHERE = {
    *("judge", "http", "fluency", "similarity", "bertscore", "classifier", "reward_model"),
    *("adversarial", "unit_tests"),
}


def as_trl(reward: Callable[..., Any], prompts: Any, completions: Any, **columns: Any) -> Any:
    return reward(
        prompts=prompts, completions=completions, **{**COLUMNS, **columns},
        trainer_state=object(), log_extra=lambda *_: None, log_metric=lambda *_: None,
    )  # fmt: skip


def says_what_it_was_sent(handler: Any, body: Any) -> None:
    said = [f"{p}|{c}|{r}" for p, c, r in zip(*map(body.get, SENT), strict=True)]
    handler.send(json.dumps({"scores": [len(one) for one in said]}).encode())


SENT = ("prompts", "completions", "reference")


@pytest.mark.parametrize("name", ["http", "unit_tests", "fluency", "similarity", "bertscore"])
def test_rewards_elsewhere_read_messages_as_texts(name: str) -> None:
    with FakeServer(says_what_it_was_sent) as server:
        options = {"http": {"url": server.url, "columns": ("reference",)}}
        reward = make_reward(name, **options.get(name, {}))
        expected = as_trl(reward, PROMPTS, TEXTS)
        talks = [user(prompt) for prompt in PROMPTS]
        assert as_trl(reward, talks, conversational(TEXTS)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Adversarial, Classifier, Judge, RewardModel])
def test_every_reward_reads_messages(kind: type) -> None:
    # Their checkpoints and servers are not made here: the method is wrapped as all others are.
    plain = kind.__call__.__wrapped__  # type: ignore[attr-defined]
    assert reads_texts(plain).__code__ is kind.__call__.__code__


def conversational(texts: list[str]) -> list[Messages]:
    return [assistant(text) for text in texts]


@pytest.mark.parametrize(
    "name", [name for name in registered_rewards() if name not in ELSEWHERE and "test_" not in name]
)
def test_named_rewards_read_messages_as_texts(name: str) -> None:
    reward = make_reward(name, **OPTIONS.get(name, {}))
    talks = [user(prompt) for prompt in PROMPTS]
    expected = as_trl(reward, PROMPTS, TEXTS)
    assert as_trl(reward, talks, conversational(TEXTS)) == expected
    # A reference may be a conversation as well.
    said: Any = [assistant("the cat sat on the mat"), [assistant("3, 4"), assistant("5")]]
    assert as_trl(reward, talks, conversational(TEXTS), reference=said) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gate("exact_match", Length(3), otherwise=-1),
        lambda: Product("bleu", "distinct"),
        lambda: Normalize("chrf", warmup=0),
        lambda: Background(Length(3)),
        lambda: Clip(messages(format_of_trls_documentation), 0, 5),
    ],
)
def test_combinators_read_messages_too(make: Callable[[], Any]) -> None:
    talks = [user(prompt) for prompt in PROMPTS]
    expected = as_trl(make(), PROMPTS, TEXTS)
    assert as_trl(make(), talks, conversational(TEXTS)) == expected


def test_corpus_scores_and_evaluate_read_messages() -> None:
    said, meant = conversational(TEXTS), [*COLUMNS["reference"]]
    metrics = ("bleu", "rouge1", "distinct_2", "mean_length")
    expected = evaluate(TEXTS, references=meant, metrics=metrics)
    assert evaluate(said, prompts=[user("p")] * 2, references=meant, metrics=metrics) == expected
    assert Bleu().corpus([], said, reference=meant) == Bleu().corpus([], TEXTS, reference=meant)


def test_several_messages_parts_and_calls_of_tools() -> None:
    calls = [
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "tool", "content": "noise noise noise"},
        {"role": "assistant", "content": [{"type": "text", "text": "it is "},
                                          {"type": "image", "image": None}, "three"]},
        {"content": "words"},
    ]  # fmt: skip
    assert as_texts([calls, "text", []], "assistant") == ["it is three\nwords", "text", ""]
    assert as_texts([[{"role": "system", "content": "s"}, *user("u")]]) == ["s\nu"]
    # Data frames that were read from Parquet hold arrays of messages, and of parts.
    parts = {"role": "assistant", "content": np.array([{"text": "a b"}, {"type": "image"}])}
    arrays = [np.array([parts]), np.array([], dtype=object)]
    assert as_texts(arrays, "assistant") == ["a b", ""]
    assert Length(4)(["p"], [calls]) == [1.0]
    with pytest.raises(RewardError, match="content is int 3"):
        as_texts([[{"role": "user", "content": 3}]])


def test_concepts_see_the_prompts_words() -> None:
    prompt = "use cat dog mat now please"
    columns = {"concepts": [["cat"]]}
    copied = Concepts()(["use cat dog mat"], ["cat use cat dog mat"], **columns)
    assert (
        Concepts()([user(prompt)], [assistant("cat use cat dog mat")], **columns) == copied == [0]
    )


# -- missing values --------------------------------------------------------------------------------


class NAType:
    """As pandas has it: neither equal to itself nor a bool."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


MISSING = [None, float("nan"), np.float64("nan"), np.float32("nan"), NAType()]


@pytest.mark.parametrize("missing", MISSING, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    ("reward", "column"),
    [
        *((make_reward(name), "reference") for name in
          ("exact_match", "wer", "edit_similarity", "bleu", "chrf", "ter", "rouge", "meteor")),
        (CIDER, "reference"), (make_reward("keywords"), "keywords"), (Concepts(), "concepts"),
        (INTENT, "intent"), (Parent(), "table"), (Parent(), "reference"),
        (make_reward("unit_tests"), "test"),
    ],
    ids=lambda one: getattr(one, "name", one),
)  # fmt: skip
def test_what_is_missing_does_not_apply(reward: Any, column: str, missing: Any) -> None:
    row = {name: [values[0]] for name, values in COLUMNS.items()} | {column: [missing]}
    assert reward([PROMPTS[0]], [TEXTS[0]], **row) == [None]


def test_missing_alternatives_are_left_out() -> None:
    reward = make_reward("exact_match")
    assert reward(["p"], ["a"], reference=[["a", None, float("nan")]]) == [1.0]
    assert reward(["p"], ["a"], reference=[[None]]) == [None]


def test_missing_references_of_an_environment_are_left_out_of_the_sum() -> None:
    rows = [{"prompt": "the", "reference": "cat"}, {"prompt": "the", "reference": None}]
    envs = gym.make_vec(
        "TextGen-v0", num_envs=2, prompts=rows, tokenizer=["the", "cat", "<eos>"],
        reward={"exact_match": 2.0, Distinct(1): 1.0},
    )  # fmt: skip
    envs.reset(options={"index": [0, 1]})
    envs.step([1, 1])
    _, rewards, *_, infos = envs.step([2, 2])
    assert rewards.tolist() == [3.0, 1.0]
    np.testing.assert_array_equal(infos["reward_terms"]["exact_match"], [1.0, np.nan])


RENDERED = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
SHOWN = "Be brief.\n{}"


@pytest.mark.parametrize("name", ["fluency", "unit_tests"])
def test_rendered_prompts_are_read_as_their_messages(name: str) -> None:
    talks = [[{"role": "system", "content": "Be brief."}, *user(prompt)] for prompt in PROMPTS]
    reward = make_reward(name)
    rendered = [RENDERED.format(prompt) for prompt in PROMPTS]
    expected = as_trl(reward, [SHOWN.format(prompt) for prompt in PROMPTS], TEXTS)
    assert as_trl(reward, talks, conversational(TEXTS)) == pytest.approx(expected)
    assert list(reward(rendered, TEXTS, messages=talks, **COLUMNS)) == pytest.approx(expected)


def test_a_column_of_another_conversation_is_not_the_prompt() -> None:
    seen: list[Any] = []

    class Reward:
        @reads_texts
        def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float]:
            seen.append((list(prompts), columns.get("messages")))
            return [0.0] * len(completions)

    whole = [*user("Why?"), *assistant("Because.")]
    Reward()(["Why?", "Who?"], ["a", "b"], messages=[whole, None])
    Reward()([user("Why?"), "Who?"], ["a", "b"])
    Reward()(["Why?"], ["a"])
    assert seen == [
        (["Why?", "Who?"], [whole, None]),
        (["Why?", "Who?"], [user("Why?"), None]),
        (["Why?"], None),
    ]
