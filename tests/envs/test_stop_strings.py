"""Stop strings, compared with decoding and searching the whole text at every step."""

from __future__ import annotations

from typing import Any

import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from textgym import load_tokenizer
from textgym.envs import TextGenEnv
from textgym.tokenization import Tokenizer


def letters() -> tokenizers.Tokenizer:
    """Byte-level BPE whose tokens overlap: a, b, ab, ba, aab, and parts of letters."""
    alphabet = {token: index for index, token in enumerate(["a", "b", "Ã", "©", "â", "ł", "Ģ"])}
    vocabulary = dict(alphabet)
    for token in ("ab", "ba", "aab", "Ã©", "©a", "</s>"):
        vocabulary[token] = len(vocabulary)
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("a", "b"), ("b", "a"), ("a", "ab"), ("Ã", "©"), ("©", "a")])
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


TOKENIZERS: dict[str, Tokenizer] = {
    "byte-level": load_tokenizer(letters()),
    "built-in": load_tokenizer(),
    "words": load_tokenizer(["a", "b", "ab", "ba", "é", "éa", "<eos>"]),
}


def model(
    tokenizer: Tokenizer, actions: list[int], stops: list[str], stop_at_eos: bool
) -> tuple[int, str, str] | None:
    """The number of actions of an episode, its finish reason, and its response."""
    for count in range(1, len(actions) + 1):
        if stop_at_eos and actions[count - 1] == tokenizer.eos_id:
            return count, "eos", tokenizer.decode(actions[: count - 1])
        text = tokenizer.decode(actions[:count])
        found = [text.index(stop) for stop in stops if stop in text]
        if found:
            return count, "stop", text[: min(found)]
        if count == len(actions):
            return count, "length", text
    return None


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=50)
@given(data=st.data())
def test_as_if_all_was_decoded_at_every_step(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    ids = st.integers(0, tokenizer.vocab_size - 1)
    actions = data.draw(st.lists(ids, min_size=1, max_size=10), label="actions")
    # Most stop strings are parts of what is written, so that they are met.
    text = tokenizer.decode(actions)
    parts = st.tuples(st.integers(0, len(text)), st.integers(1, 5)).map(
        lambda cut: text[cut[0] : cut[0] + cut[1]]
    )
    stop = st.one_of(parts, st.text("ab é", max_size=3)).filter(
        # U+FFFD replaces bytes that are not text.
        lambda stop: stop and "\ufffd" not in stop
    )
    stops = data.draw(st.lists(stop, min_size=1, max_size=3), label="stops")
    stop_at_eos = data.draw(st.booleans(), label="stop_at_eos")
    env = TextGenEnv(
        prompts=["a"],
        tokenizer=tokenizer,
        reward="distinct",
        stop=stops,
        stop_at_eos=stop_at_eos,
        max_prompt_tokens=4,
        max_new_tokens=len(actions),
    )
    env.reset(seed=0)
    count, reason, response = model(tokenizer, actions, stops, stop_at_eos) or (0, "", "")
    for number, action in enumerate(actions[:count], 1):
        *_, terminated, _, info = env.step(action)
        assert terminated == (number == count), number
    assert (info["finish_reason"], info["response"]) == (reason, response)


@settings(max_examples=50)
@given(
    actions=st.lists(st.lists(st.integers(0, 12), min_size=6, max_size=6), min_size=2, max_size=4),
    stops=st.lists(st.text("abé", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_rows_of_a_batch_stop_each_for_itself(actions: list[list[int]], stops: list[str]) -> None:
    from textgym.envs import TextGenVectorEnv

    tokenizer = TOKENIZERS["byte-level"]
    envs = TextGenVectorEnv(
        len(actions),
        prompts=["a"],
        tokenizer=tokenizer,
        reward="distinct",
        stop=stops,
        max_prompt_tokens=1,
        max_new_tokens=6,
        autoreset_mode="SameStep",
    )
    envs.reset(seed=0)
    waiting = dict(enumerate(actions))
    for step in range(6):
        *_, terminated, _, infos = envs.step([row[step] for row in actions])
        for row, row_actions in list(waiting.items()):
            expected = model(tokenizer, row_actions, stops, True)
            assert expected is not None
            assert terminated[row] == (step + 1 == expected[0])
            if terminated[row]:
                final = infos["final_info"]
                assert (final["finish_reason"][row], final["response"][row]) == expected[1:]
                del waiting[row]
        if not waiting:
            return
        assume(len(waiting) == len(actions))  # Refilled rows are out of step with the model.


@pytest.mark.parametrize(
    ("stop", "written", "response"),
    [
        ("\n\n", ["x", "\n", "\n"], "x"),  # Over two tokens.
        ("日本", ["x日", "本y"], "x"),  # Over six bytes in more than two tokens.
        ("🙂", ["go 🙂!"], "go "),
        ("Human:", ["\nHuman", ": hi"], "\n"),
        ("aaab", ["aa", "aa", "ab"], "aa"),  # Falls back along its own prefix.
        (" the", ["in the"], "in"),  # With the tail of a token cut off.
    ],
)
def test_examples_with_the_built_in_tokenizer(stop: str, written: list[str], response: str) -> None:
    tokenizer = TOKENIZERS["built-in"]
    ids = [index for text in written for index in tokenizer.encode(text)]
    env = TextGenEnv(prompts=["p"], stop=[stop], reward="distinct", max_new_tokens=40)
    env.reset(seed=0)
    for index in ids:
        *_, terminated, _, info = env.step(index)
        if terminated:
            break
    assert (info["finish_reason"], info["response"]) == ("stop", response)


def test_a_stop_string_may_not_begin_in_the_prompt() -> None:
    env = TextGenEnv(prompts=["end ST"], stop=["STOP"], reward="distinct", max_new_tokens=8)
    env.reset(seed=0)
    for index in TOKENIZERS["built-in"].encode("OP ST"):
        assert not env.step(index)[2]


def test_an_earlier_episode_leaves_nothing_behind() -> None:
    env = TextGenEnv(prompts=["p"], stop=["ab"], reward="distinct", tokenizer=letters())
    a, b = TOKENIZERS["byte-level"].encode("a") + TOKENIZERS["byte-level"].encode("b")
    env.reset(seed=0, options={"prompt": "a"})
    env.step(a)
    env.reset(options={"prompt": "a"})
    assert not env.step(b)[2], "half of the stop string was written before the reset"
    env.step(a)
    assert env.step(b)[2]


def test_stops_of_a_task_can_be_switched_off() -> None:
    from textgym.tasks import Task

    class Lines(Task):
        id = "Lines-v0"
        max_prompt_tokens, max_new_tokens, stop = 4, 8, ("\n",)

        def generate(self, rng: Any) -> dict[str, Any]:
            return {"prompt": f"{rng.integers(100)}", "reference": "x"}

        def score(self, completion: str, row: Any) -> float:
            return 0.0

    newline = TOKENIZERS["built-in"].encode("\n")[0]
    env = TextGenEnv(prompts=Lines())
    env.reset(seed=0)
    assert env.step(newline)[4]["finish_reason"] == "stop"
    env = TextGenEnv(prompts=Lines(), stop=[])
    env.reset(seed=0)
    assert not env.step(newline)[2]
