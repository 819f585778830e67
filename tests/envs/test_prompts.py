"""Prompts: fitting them, and selecting them with the options of ``reset``."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

import textgym
from textgym import load_tokenizer
from textgym.envs import TextGenEnv
from textgym.errors import DataError, DataWarning, PromptError, SettingsError, TextGymError
from textgym.tasks import Task
from textgym.tokenization import WordTokenizer

LONG = "the cat sat on a mat and the dog ran after it"
TINY = load_tokenizer()


def env_of(prompts: Any, **arguments: Any) -> TextGenEnv:
    defaults = {"max_prompt_tokens": 5, "max_new_tokens": 2, "reward": "distinct"}
    return TextGenEnv(prompts=prompts, **{**defaults, **arguments})


# ------------------------------------------------------------------ prompts that do not fit


def test_overflow_is_an_error_by_default() -> None:
    said = rf"\(prompt 'the cat.*has {len(TINY.encode(LONG))} tokens.*is 5"
    # Of a list when the environment is made, of anything else when it is drawn.
    with pytest.raises(PromptError, match=rf"row 1 of the list of prompts {said}"):
        env_of(["a", LONG])
    env = env_of(lambda rng: LONG)
    with pytest.raises(PromptError, match=rf"row 0 {said}"):
        env.reset(seed=0)


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), room=st.integers(0, 6))
def test_overflow_cuts_a_side_off(text: str, room: int) -> None:
    ids = TINY.encode(text)
    for side, kept in (("left", ids[max(len(ids) - room, 0) :]), ("right", ids[:room])):
        env = env_of([text], tokenizer=TINY, max_prompt_tokens=room, prompt_overflow=side)
        obs, info = env.reset(seed=0)
        assert obs.tolist() == kept + [-1] * (room + 2 - len(kept))
        assert info == {"prompt": text, "prompt_tokens": len(kept)}, "the text stays whole"
        assert env.step(1)[0][len(kept)] == 1


def test_overflow_skips_a_row() -> None:
    env = env_of([LONG, "a", LONG, "b"], prompt_overflow="skip")
    env.reset(seed=0)
    assert {env.reset()[1]["prompt"] for _ in range(50)} == {"a", "b"}


def test_nothing_is_left_after_skipping() -> None:
    with pytest.raises(
        PromptError, match=r"all 2 prompts of the list of prompts.*prompt_overflow='skip'"
    ):
        env_of([LONG, LONG + "s"], prompt_overflow="skip")
    env = env_of(lambda rng: LONG, prompt_overflow="skip")
    with pytest.raises(PromptError, match="max_prompt_tokens="):
        env.reset(seed=0)
    env.reset(options={"prompt": "a"})
    with pytest.raises(PromptError, match="prompt_overflow='skip' cannot skip"):
        env.reset(options={"prompt": LONG})


def test_a_prompt_of_exactly_the_budget_fits() -> None:
    room = len(TINY.encode(LONG))
    obs, info = env_of([LONG], max_prompt_tokens=room).reset(seed=0)
    assert info["prompt_tokens"] == room == len(obs) - 2
    with pytest.raises(PromptError):
        env_of([LONG], max_prompt_tokens=room - 1).reset(seed=0)


def test_words_that_are_not_in_the_vocabulary(words_env: Any) -> None:
    said = r"\(prompt 'the dog'\).*'dog' is not in the closed"
    with pytest.raises(PromptError, match=rf"row 1 of the list of prompts {said}"):
        words_env(prompts=["the cat", "the dog"])
    with pytest.warns(DataWarning, match=rf"1 of 2 rows .*row 1 of the list of prompts {said}"):
        env = words_env(prompts=["the cat", "the dog"], on_bad_row="skip")
    with pytest.raises(PromptError, match=rf"row 0 {said}"):
        env.reset(options={"prompt": "the dog"})
    assert env.reset(options={"index": 0})[1]["prompt_tokens"] == 2


def test_half_a_surrogate_pair() -> None:
    with pytest.raises(PromptError, match="surrogate"):
        env_of(["a\ud83d"]).reset(seed=0)


# ------------------------------------------------------------------ prompts in a frame


def framed(template: str = "<s> $A </s>") -> tokenizers.Tokenizer:
    """A tokenizer that adds special tokens around texts, like those of encoder-decoders."""
    words = ["<s>", "</s>", "<pad>", "the", "cat", "sat", "on", "a", "mat"]
    backend = tokenizers.Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(word, at) for at, word in enumerate(words[:3])]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return backend


@pytest.mark.parametrize("template", ["<s> $A </s>", "$A </s>", "<pad> <s> $A <pad> </s>"])
@pytest.mark.parametrize("prompt", ["", "cat", "the cat sat on"])
def test_the_frame_is_the_librarys(template: str, prompt: str) -> None:
    backend = framed(template)
    expected = backend.encode(prompt).ids
    env = env_of([prompt], tokenizer=backend, max_prompt_tokens=9, render_mode="ansi")
    obs, info = env.reset(seed=0)
    assert obs.tolist() == expected + [-1] * (11 - len(expected))
    assert info == {"prompt": prompt, "prompt_tokens": len(expected)}
    env.step(8)
    # The library joins such tokens with spaces, which belong to no token.
    assert env.render() == f"{prompt} mat".lstrip()
    obs, _, terminated, _, info = env.step(1)
    assert obs.tolist()[: len(expected) + 2] == [*expected, 8, 1]
    assert terminated
    assert (info["response"], info["finish_reason"]) == ("mat", "eos")


def test_an_eos_in_the_frame_ends_no_episode() -> None:
    env = env_of(["the"], tokenizer=framed(), max_new_tokens=3)
    env.reset(seed=0)
    for token, ends in ((4, False), (0, False), (1, True)):
        assert env.step(token)[2] == ends


@pytest.mark.parametrize("room", range(7))
def test_overflow_keeps_the_frame(room: int) -> None:
    backend, prompt = framed(), "the cat sat on"
    ids = backend.encode(prompt, add_special_tokens=False).ids
    arguments = {"tokenizer": backend, "max_prompt_tokens": room}
    inner = room - 2
    if inner < len(ids):
        with pytest.raises(PromptError, match=rf"has 6 tokens \(2 of them.*is {room};"):
            env_of([prompt], **arguments).reset(seed=0)
    for side in ("left", "right"):
        if inner < 0:
            with pytest.raises(PromptError, match=f"is {room}; raise it"):
                env_of([prompt], prompt_overflow=side, **arguments)
            continue
        env = env_of([prompt], prompt_overflow=side, **arguments)
        kept = ids[max(len(ids) - inner, 0) :] if side == "left" else ids[:inner]
        obs, info = env.reset(seed=0)
        assert obs.tolist() == [0, *kept, 1] + [-1] * (room - len(kept))
        assert info["prompt_tokens"] == len(kept) + 2
    if 4 <= room < 6:
        env = env_of([prompt, "cat a"], prompt_overflow="skip", **arguments)
        env.reset(seed=0)
        assert {env.reset()[1]["prompt"] for _ in range(20)} == {"cat a"}


def test_a_prompt_that_spells_eos_is_refused_where_the_frame_has_it() -> None:
    with pytest.raises(PromptError, match="the end-of-sequence token"):
        env_of(["the </s> cat"], tokenizer=framed()).reset(seed=0)
    obs, _ = env_of(["the </s> cat"], tokenizer=framed("<s> $A")).reset(seed=0)
    assert obs.tolist() == [0, 3, 1, 4, -1, -1, -1], "no eos behind it: a token like any other"


def test_lists_of_words_have_no_frame(words_env: Any) -> None:
    obs, _ = words_env().reset(options={"prompt": "the cat"})
    assert obs.tolist()[:3] == [0, 1, -1]


# ------------------------------------------------------------------ reset(options=...)


ROWS = [{"prompt": "the", "reference": "a"}, {"prompt": "cat", "reference": "b"}]


def test_prompt(words_env: Any, play: Any) -> None:
    env = words_env(prompts=ROWS)
    obs, info = env.reset(options={"prompt": "sat ran"})
    assert obs.tolist()[:3] == [2, 3, -1]
    assert info["prompt"] == "sat ran"
    _, info = play(env, [4])
    assert "reference" not in info


def test_row(words_env: Any, play: Any) -> None:
    env = words_env(prompts=ROWS)
    given_row = {"question": "ran", "answer": "c", "extra": 1}
    env.reset(options={"row": given_row})
    _, info = play(env, [4])
    assert (info["prompt"], info["reference"], info["extra"]) == ("ran", "c", 1)
    assert given_row == {"question": "ran", "answer": "c", "extra": 1}, "the caller's own"
    assert env.reset(options={"row": "sat"})[1]["prompt"] == "sat"


def test_index(words_env: Any) -> None:
    env = words_env(prompts=ROWS)
    for index in (0, 1, np.int64(1)):
        for _ in range(2):
            _, info = env.reset(options={"index": index})
            assert info["prompt"] == ROWS[index]["prompt"]


@pytest.mark.parametrize("env_id", ["TextGen-v0", "TextGen/Sentiment-v0"])
def test_index_of_an_endless_task_is_always_the_same_row(env_id: str) -> None:
    first, second = gymnasium.make(env_id), gymnasium.make(env_id)
    second.reset(seed=99)
    prompts = [first.reset(seed=1, options={"index": index})[1]["prompt"] for index in range(20)]
    again = [second.reset(options={"index": index})[1]["prompt"] for index in range(20)]
    assert prompts == again
    assert len(set(prompts)) > 10


def judges_any_prompt(task: Task) -> bool:
    """Whether a task reads prompts that a user writes: in a closed vocabulary, or by a method."""
    reads = task.tokenizer is not None or type(task).complete_row is not Task.complete_row
    return reads and task.image_shape is None


WITHOUT_PICTURES = [
    name for name in textgym.registered_tasks() if judges_any_prompt(textgym.make_task(name))
]


@pytest.mark.parametrize("env_id", ["TextGen-v0", *WITHOUT_PICTURES])
def test_a_prompt_of_ones_own_is_judged_by_any_task(env_id: str) -> None:
    """Also where the task's score reads columns that such a prompt does not come with."""
    env = gymnasium.make(env_id)
    tokenizer = env.unwrapped.tokenizer
    word = tokenizer.decode([0]) if isinstance(tokenizer, WordTokenizer) else "good"
    for options in ({"prompt": word}, {"row": {"prompt": word}}):
        env.reset(seed=0, options=options)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = env.step(1)
        assert np.isfinite(reward)
        assert info["prompt"] == word


def test_options_do_not_disturb_the_stream_of_prompts(words_env: Any) -> None:
    plain, other = words_env(), words_env()
    plain.reset(seed=5)
    other.reset(seed=5, options={"prompt": "sat"})
    expected = [plain.reset(seed=5)[1]["prompt"]] + [plain.reset()[1]["prompt"] for _ in range(9)]
    found = []
    for _ in range(10):
        found.append(other.reset()[1]["prompt"])
        other.reset(options={"index": 0})
    assert found == expected


def test_options_are_the_callers_own(words_batch: Any) -> None:
    envs = words_batch(autoreset_mode="Disabled")
    options = {"prompt": "sat"}
    envs.reset(seed=0, options=options)
    assert options == {"prompt": "sat"}
    mask = np.array([True, False, True])
    options = {"reset_mask": mask, "index": [0, 1, 2]}
    envs.reset(options=options)
    assert list(options) == ["reset_mask", "index"]
    assert mask.tolist() == [True, False, True]


def test_empty_options_are_none(words_env: Any, words_batch: Any) -> None:
    assert words_env().reset(seed=0, options={})[1] == words_env().reset(seed=0)[1]
    words_batch().reset(seed=0, options={})


def test_lists_name_one_value_a_row(words_batch: Any) -> None:
    envs = words_batch(prompts=ROWS)
    obs, infos = envs.reset(options={"index": [1, 0, 1]})
    assert infos["prompt"].tolist() == ["cat", "the", "cat"]
    _, infos = envs.reset(options={"prompt": ["sat", "", "ran ran"]})
    assert infos["prompt_tokens"].tolist() == [1, 0, 2]
    envs.reset(options={"row": [{"prompt": "the", "x": i} for i in range(3)]})
    assert envs.step([4, 4, 4])[4]["x"].tolist() == [0, 1, 2]
    _, infos = envs.reset(options={"prompt": "sat"})
    assert infos["prompt"].tolist() == ["sat"] * 3
    obs, infos = envs.reset(
        options={"reset_mask": np.array([False, True, False]), "prompt": ["the", "cat", "ran"]}
    )
    assert obs[:, 0].tolist() == [2, 1, 2]
    assert infos["_prompt"].tolist() == [False, True, False]


@pytest.mark.parametrize("kind", [tuple, np.array])
def test_tuples_and_arrays_are_lists(words_batch: Any, kind: Any) -> None:
    envs = words_batch(prompts=ROWS)
    for options in ({"index": [1, 0, 1]}, {"prompt": ["sat", "", "ran"]}):
        ((name, values),) = options.items()
        expected = envs.reset(options=options)
        found = envs.reset(options={name: kind(values)})
        assert np.array_equal(found[0], expected[0])
        assert found[1]["prompt"].tolist() == expected[1]["prompt"].tolist()
        assert {type(prompt) for prompt in found[1]["prompt"]} == {str}
        with pytest.raises(SettingsError, match="lists 2 values for 3 rows"):
            envs.reset(options={name: kind(values[:2])})
    rows = [{"prompt": "the", "x": i} for i in range(3)]
    envs.reset(options={"row": kind(rows)})
    assert envs.step([4, 4, 4])[4]["x"].tolist() == [0, 1, 2]
    for wrong in (kind([1.0, 0.0, 1.0]), kind([[0], [1], [0]]), kind([True, False, True])):
        with pytest.raises(SettingsError, match="'index'="):
            envs.reset(options={"index": wrong})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"promt": "the"}, SettingsError, "'promt'; did you mean 'prompt'"),
        ({"prompt": "the", "index": 0}, SettingsError, "contradict"),
        ({"prompt": 3}, SettingsError, "has to be a string"),
        ({"prompt": None}, SettingsError, "has to be a string"),
        ({"prompt": ["the"]}, SettingsError, "lists 1 values for 3 rows"),
        ({"index": "0"}, SettingsError, "'index'="),
        ({"index": 1.0}, SettingsError, "'index'="),
        ({"index": True}, SettingsError, "'index'="),
        ({"index": 2}, DataError, "rows 0 to 1, but not 2"),
        ({"index": -1}, DataError, "not -1"),
        ({"row": {"reference": "x"}}, DataError, "has no prompt"),
        ({"row": {"prompt": "the", "cost": 1}}, DataError, "'cost'"),
        ({"row": 3}, DataError, "is a int"),
        ({"prompt": "the dog"}, PromptError, "dog"),
        ({"prompt": "the the the the the"}, PromptError, "5 tokens"),
    ],
)
def test_options_that_cannot_be(words_batch: Any, options: Any, error: Any, message: str) -> None:
    envs = words_batch(prompts=ROWS, max_new_tokens=2)
    with pytest.raises(error, match=message) as caught:
        envs.reset(seed=1, options=options)
    assert isinstance(caught.value, TextGymError)
    envs.reset(seed=1)
    envs.step([0, 0, 0])
    with pytest.raises(error):
        envs.reset(options=options)
    assert envs.step([1, 1, 1])[2].all(), "the episodes go on as they were"


def test_endless_sources_have_no_negative_index() -> None:
    with pytest.raises(DataError, match="-1"):
        TextGenEnv().reset(options={"index": -1})
