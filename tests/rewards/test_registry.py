import copy
import inspect
import pickle
from collections.abc import Iterator

import pytest

from textgym.errors import MissingDependencyError, RewardError, TextGymError
from textgym.registry import REWARDS
from textgym.rewards import make_reward, register_reward, registered_rewards

OPTIONS = {"length": {"target": 5}, "regex": {"pattern": "a"}}
# These need a server, a program or a model, and are tested elsewhere.
ELSEWHERE = {
    "adversarial", "bertscore", "classifier", "fluency", "http", "intent", "judge", "reward_model",
    "similarity", "unit_tests",
}  # fmt: skip
# (Other tests register more.)
BUILT_IN = [name for name in registered_rewards() if not name.startswith("test_")]
HERE = sorted(set(BUILT_IN) - ELSEWHERE)
COLUMNS = {
    "concepts": [["cat", "sit"], ["dog", "run"]],
    "table": [[["name", ["cat"]]], [["name", ["dog"]]]],
    "reference": ["the cat sat", ["a cat", "the dog sat"]],
    "keywords": [["cat"], ["dog", "sat"]],
    "completion_ids": [[1, 2], [3]],
    "finish_reason": ["eos", "length"],
}


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    with REWARDS.restored():
        yield


def test_the_named_rewards_are_there() -> None:
    assert BUILT_IN == [
        "adversarial", "bertscore", "bleu", "cer", "chrf", "cider", "classifier", "concepts",
        "dates", "distinct", "edit_similarity", "error_rate", "exact_match", "fluency", "http",
        "increasing_numbers", "intent", "judge", "keywords", "length", "meteor", "parent", "regex",
        "repetition", "reward_model", "rouge", "rouge1", "rouge2", "rougeL", "rougeLsum",
        "similarity", "ter", "unit_tests", "wer",
    ]  # fmt: skip


@pytest.mark.parametrize("name", HERE)
def test_every_named_reward_judges_a_batch(name: str) -> None:
    reward = make_reward(name, **OPTIONS.get(name, {}))
    values = reward(["p", "p"], ["the cat sat", "dog"], **COLUMNS)
    assert len(values) == 2
    assert all(type(value) is float for value in values)
    assert reward([], [], **{column: [] for column in COLUMNS}) == []


@pytest.mark.parametrize("name", HERE)
def test_every_named_reward_pickles_and_copies(name: str) -> None:
    reward = make_reward(name, **OPTIONS.get(name, {}))
    args = ["p", "p"], ["the cat sat", "dog a a"]
    for again in (pickle.loads(pickle.dumps(reward)), copy.deepcopy(reward)):
        assert repr(again) == repr(reward)
        assert again(*args, **COLUMNS) == reward(*args, **COLUMNS)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_docstring_says_what_a_user_has_to_know(name: str) -> None:
    factory = REWARDS.get(name)
    reward = factory if inspect.isclass(factory) else make_reward(name)
    text = inspect.getdoc(reward if inspect.isclass(reward) else type(reward)) or ""
    assert all(f"\n{heading}: " in text for heading in ("Range", "Needs", "Cost", "Gaming"))


def test_register_by_call_and_as_a_decorator() -> None:
    @register_reward("shouting")
    class Shouting:
        def __init__(self, loud: float = 1.0) -> None:
            self.loud = loud

        def __call__(self, prompts: list[str], completions: list[str], **_: object) -> list[float]:
            return [self.loud * text.isupper() for text in completions]

    register_reward("whispering", lambda: lambda completions, **_: [0.5] * len(completions))
    assert make_reward("shouting", loud=2.0)([""], ["HEY"]) == [2.0]
    assert make_reward("whispering")(completions=["hey"]) == [0.5]
    assert {"shouting", "whispering"} <= set(registered_rewards())


@pytest.mark.parametrize(
    ("typo", "meant"), [("ruoge", "rouge"), ("blue", "bleu"), ("exactmatch", "exact_match")]
)
def test_a_typo_names_near_matches(typo: str, meant: str) -> None:
    with pytest.raises(TextGymError, match=f"no reward '{typo}'; did you mean .*'{meant}'"):
        make_reward(typo)


def test_a_strange_name_lists_all() -> None:
    with pytest.raises(RewardError, match=r"no reward 'qqqq'.* adversarial, .*wer"):
        make_reward("qqqq")


def test_wrong_options_are_told_with_the_right_ones() -> None:
    with pytest.raises(RewardError, match=r"'rouge' takes the options \(variant.*'varriant'"):
        make_reward("rouge", varriant="rouge1")
    with pytest.raises(RewardError, match=r"'length' takes the options .*missing.*'target'"):
        make_reward("length")


def test_a_taken_name_is_an_error_but_the_same_definition_is_not() -> None:
    def define() -> object:
        def factory() -> object:
            return lambda completions, **_: [0.0] * len(completions)

        return factory

    register_reward("again", define())
    register_reward("again", define())  # a notebook's cell that runs twice
    with pytest.raises(RewardError, match="'bleu' is already registered"):
        register_reward("bleu", define())


def test_a_function_in_place_of_a_factory_is_told() -> None:
    with pytest.raises(RewardError, match="takes a factory"):

        @register_reward("mine")
        def mine(prompts: list[str], completions: list[str]) -> list[float]:
            return []

    with pytest.raises(RewardError, match="must be callable"):
        register_reward("mine", 3)
    with pytest.raises(RewardError, match="non-empty string"):
        register_reward("", lambda: None)
    register_reward("nothing", lambda: None)
    with pytest.raises(RewardError, match="returned None, not a function"):
        make_reward("nothing")


@pytest.mark.parametrize(
    ("name", "package"),
    [("bleu", "sacrebleu"), ("ter", "sacrebleu"), ("rouge1", "rouge_score")],
)
def test_a_missing_library_names_its_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (package, f"{package}.metrics", f"{package}.rouge_scorer"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'textgym\[metrics\]'"):
        make_reward(name)
