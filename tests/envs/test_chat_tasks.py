"""Built-in tasks as chats: their rewards, replies and pictures depend on the user's text."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import textgym
from agents.running.oracle import Oracle
from tests.envs.families import write
from tests.envs.test_chat import CHAT, CHATML, LLAMA, Echo, rendered, tokenizer
from textgym.envs import TextGenEnv, TextGenVectorEnv
from textgym.errors import DataError, PromptError, SettingsError
from textgym.sb3 import make_vec_env
from textgym.tokenization import load_tokenizer

TASKS = [name for name in textgym.registered_tasks() if textgym.make_task(name).tokenizer is None]
SIZES: dict[str, Any] = {"max_prompt_tokens": 4000, "max_new_tokens": 3000}


def text_of(obs: Any) -> list[int]:
    tokens = obs["tokens"] if isinstance(obs, dict) else obs
    return [int(index) for index in tokens[tokens >= 0]]


def said_by_user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("qwen")
    write("qwen", ["system user assistant the of and in is what where who"], folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return str(folder)


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_is_right_in_a_chat(name: str, qwen: str) -> None:
    ours = load_tokenizer(qwen)
    env = gymnasium.make(name, tokenizer=qwen, chat=True, **SIZES)
    task = textgym.make_task(name)
    for index in range(2):
        row = task.item(index)
        _, info = env.reset(seed=0, options={"index": index})
        assert info["prompt"] == (
            f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        )
        turns = task.oracle(row).split("\n") if task.max_turns > 1 else [task.oracle(row)]
        for turn in turns:
            for token in [*ours.encode_continuation(turn.strip()), ours.eos_id]:
                over, info = env.step(token)[2::2]
        assert over
        assert next(iter(info["reward_terms"].values())) == 1.0, info["response"]
        assert sum(info.get("cost_terms", {}).values()) == 0
        # The user's text, in place of the task's own row.
        again, _ = env.reset(options={"row": {**row, "prompt": said_by_user(row["prompt"])}})
        first, _ = env.reset(options={"index": index})
        assert text_of(again) == text_of(first)


FUNCTION = 'def double(x):\n    """Twice a number."""\n'
PUBLIC: dict[str, list[dict[str, Any]]] = {
    "TextGen/Code-v0": [
        {"prompt": FUNCTION, "entry_point": "double", "reference": "    return 2 * x\n",
         "test": "def check(candidate):\n    assert candidate(3) == 6\n"},
    ],
    "TextGen/Summarize-v0": [
        {"prompt": "The river rose in May. Two bridges fell. Nobody was hurt in the town.",
         "reference": "A flood took two bridges."},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_public_rows_are_scored_as_without_a_chat(name: str, qwen: str) -> None:
    ours = load_tokenizer(qwen)
    (row,) = PUBLIC[name]
    chat = [{**row, "prompt": [{"role": "system", "content": "Help."},
                               *said_by_user(row["prompt"])]}]  # fmt: skip
    texts = [row["reference"], row["prompt"], "Two bridges fell.", "    return x + x + 1"]
    scores = []
    for prompts in ([row], chat):
        env = gymnasium.make(name, prompts=prompts, tokenizer=qwen, **SIZES)
        scores.append([])
        for text in texts:
            env.reset(seed=0)
            for token in [*ours.encode_continuation(text), ours.eos_id]:
                _, reward, over, _, _ = env.step(token)
            assert over
            scores[-1].append(float(reward))
    assert scores[0] == scores[1]
    assert scores[0][0] == 1.0


def test_the_oracle_agent_writes_chats(qwen: str) -> None:
    for name in ("TextGen/Dialogue-v0", "TextGen/KnowledgeGraph-v0", "TextGen/Sentiment-v0"):
        venv = make_vec_env(name, 2, 0, tokenizer=qwen, chat=True, **SIZES)
        agent = Oracle(venv)
        obs, state, starts = venv.reset(), None, np.ones(2, np.bool_)
        found: list[float] = []
        while len(found) < 4:
            actions, state = agent.predict(obs, state, starts)
            obs, _, starts, infos = venv.step(actions)
            found += [infos[row]["reward_terms"]["score"] for row in np.flatnonzero(starts)]
        assert found == [1.0] * len(found), name


def test_costs_and_columns_are_read_from_the_users_text(qwen: str) -> None:
    task = textgym.make_task("TextGen/Moderate-v0")
    row = task.item(3)
    messages = [{"role": "system", "content": "Be polite."}, *said_by_user(row["prompt"])]
    ours = load_tokenizer(qwen)
    arguments: dict[str, Any] = {"tokenizer": qwen, **SIZES}
    ends = []
    for prompts, options in (
        ([{"prompt": messages}], None),  # The task reads its columns out of the prompt.
        (None, {"prompt": row["prompt"]}),
    ):
        chat = {"prompts": prompts} if prompts else {"chat": True}
        env = gymnasium.make("TextGen/Moderate-v0", **chat, **arguments)
        env.reset(seed=0, options=options)
        for token in [*ours.encode("I hate you all, you idiots."), ours.eos_id]:
            _, reward, _, _, info = env.step(token)
        ends.append((reward, info["cost"], info["reward_terms"]))
    assert ends[0] == ends[1]
    env = gymnasium.make("TextGen/Moderate-v0", prompts=[{"prompt": messages}], **arguments)
    env.reset(seed=0)
    for token in [*ours.encode_continuation(task.oracle(row)), ours.eos_id]:
        _, reward, _, _, info = env.step(token)
    assert (reward, info["cost"]) == (1.0, 0.0)


MESSAGES = [
    [{"role": "user", "content": "One?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two?"}],
]
ROWS = [{"prompt": each, "reference": "x"} for each in MESSAGES]


def batch(count: int, prompts: Any = ROWS, **options: Any) -> TextGenVectorEnv:
    return TextGenVectorEnv(
        prompts=prompts, num_envs=count, tokenizer=tokenizer(), max_prompt_tokens=200,
        max_new_tokens=4, **options,
    )  # fmt: skip


def test_messages_in_the_options_of_reset() -> None:
    theirs = tokenizer()
    want = [rendered(theirs, each) for each in MESSAGES]
    one = TextGenEnv(prompts=ROWS, tokenizer=theirs, max_prompt_tokens=200, max_new_tokens=4)
    for at, messages in enumerate(MESSAGES):
        for options in ({"prompt": messages}, {"row": {"prompt": messages, "reference": "a"}},
                        {"row": {"messages": messages}}, {"prompt": [messages]}):  # fmt: skip
            obs, info = one.reset(seed=0, options=options)
            assert text_of(obs) == want[at]
            assert info["prompt"] == theirs.decode(want[at])
    several = batch(2)
    # One list of messages is one prompt, also where it is as long as the batch has rows.
    obs, _ = several.reset(seed=0, options={"prompt": MESSAGES[1]})
    assert [text_of(row) for row in obs] == [want[1], want[1]]
    obs, _ = several.reset(options={"prompt": MESSAGES})
    assert [text_of(row) for row in obs] == want
    obs, _ = several.reset(options={"prompt": ["One?", MESSAGES[1]]})
    assert [text_of(row) for row in obs] == want
    obs, _ = several.reset(options={"row": ROWS})
    assert [text_of(row) for row in obs] == want
    with pytest.raises(SettingsError, match="lists 3 values for 2 rows"):
        several.reset(options={"prompt": [*MESSAGES, "a"]})
    with pytest.raises(SettingsError, match="reset's option 'prompt'"):
        one.reset(options={"prompt": {"role": "user", "content": "a"}})
    strings = TextGenEnv(prompts=["a"], tokenizer=theirs, max_prompt_tokens=200)
    with pytest.raises(PromptError, match="chat=True"):
        strings.reset(seed=0, options={"prompt": MESSAGES[0]})


def test_rows_of_both_kinds() -> None:
    theirs = tokenizer()
    env = TextGenEnv(prompts=[ROWS[0], "Two?"], tokenizer=theirs, max_prompt_tokens=200)
    obs, _ = env.reset(seed=0, options={"index": 1})
    assert text_of(obs) == rendered(theirs, said_by_user("Two?"))
    with pytest.raises(PromptError, match="chat=True"):
        TextGenEnv(prompts=["Two?", ROWS[0]], tokenizer=theirs, max_prompt_tokens=200)
    with pytest.raises(DataError, match="'messages'"):
        TextGenEnv(prompts=[{"messages": [{"role": "assistant", "content": "a"}]}])


def test_answers_in_the_forms_of_trl() -> None:
    answer = {"role": "assistant", "content": "Yes."}
    asked = MESSAGES[1]
    rows = [
        {"messages": [*asked, answer]},
        {"prompt": asked, "completion": [answer]},
        {"messages": [*asked, {**answer, "content": "No."}], "reference": "Yes."},
        {"prompt": "Two?", "completion": "Yes."},
    ]
    env: Any = TextGenEnv(prompts=rows, tokenizer=tokenizer(), max_prompt_tokens=200)
    for at in range(4):
        found = env.settings.source.item(at)
        assert found["reference"] == "Yes."
        assert found["messages"] == (asked if at < 3 else said_by_user("Two?"))
    # Within a conversation the assistant's turns stay.
    talk = [*asked, answer, *MESSAGES[0]]
    env = TextGenEnv(prompts=[{"messages": talk}], tokenizer=tokenizer(), max_prompt_tokens=200)
    assert env.settings.source.item(0)["messages"] == talk
    assert "reference" not in env.settings.source.item(0)


@pytest.mark.parametrize("template", [CHATML, LLAMA])
def test_a_prompt_that_begins_the_answer_is_continued(template: str) -> None:
    theirs = tokenizer(template)
    messages = [*MESSAGES[0], {"role": "assistant", "content": "The answer is"}]
    env = TextGenEnv(prompts=[{"prompt": messages}], tokenizer=theirs, max_prompt_tokens=200)
    obs, _ = env.reset(seed=0)
    ids = theirs.apply_chat_template(messages, continue_final_message=True, return_dict=False)
    assert text_of(obs) == [int(index) for index in ids]


def test_groups_states_and_copies() -> None:
    envs = batch(4, group_size=2)
    envs.reset(seed=5)
    twin = batch(4, group_size=2)
    twin.reset(seed=0)
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 250, (12, 4))
    for step in steps[:3]:
        envs.step(step)
    state = copy.deepcopy(envs.get_state())
    json.dumps(state["rows"])
    twin.set_state(state)
    again = pickle.loads(pickle.dumps(envs))
    for step in steps[3:]:
        results = [each.step(step) for each in (envs, twin, again)]
        for other in results[1:]:
            np.testing.assert_array_equal(results[0][0], other[0])
            assert results[0][4].get("prompt") is None or list(results[0][4]["prompt"]) == list(
                other[4]["prompt"]
            )
    prompts = [text_of(row) for row in batch(4, group_size=2).reset(seed=5)[0]]
    assert prompts[0] == prompts[1]
    assert prompts[2] == prompts[3]
    # Another template is another environment.
    changed = tokenizer(CHATML + "{# another one #}")
    other = TextGenVectorEnv(
        prompts=ROWS, num_envs=4, tokenizer=changed, max_prompt_tokens=200, max_new_tokens=4,
        group_size=2,
    )  # fmt: skip
    with pytest.raises(SettingsError, match="chat was"):
        other.set_state(state)


def test_rendered_prompts_are_cut_to_size() -> None:
    theirs = tokenizer()
    ids = rendered(theirs, CHAT)
    for overflow, want in (("left", ids[-20:]), ("right", ids[:20])):
        env = TextGenEnv(
            prompts=[{"prompt": CHAT}], tokenizer=theirs, max_prompt_tokens=20,
            prompt_overflow=overflow,
        )  # fmt: skip
        assert text_of(env.reset(seed=0)[0]) == want
    env = TextGenEnv(
        prompts=[{"prompt": CHAT}, ROWS[0]], tokenizer=theirs, max_prompt_tokens=60,
        prompt_overflow="skip",
    )  # fmt: skip
    for _ in range(4):
        assert text_of(env.reset()[0]) == rendered(theirs, MESSAGES[0])


PLAIN = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@pytest.mark.parametrize("family", ["llama2", "mistral", "gemma", "qwen", "gpt2"])
def test_a_conversation_reads_as_its_template_in_every_family(family: str, tmp_path: Path) -> None:
    """A tokenizer like Llama 2's adds no space after other text."""
    write(family, ["system user assistant the of and in is what where who"], tmp_path)
    (tmp_path / "chat_template.jinja").write_text(PLAIN)
    ours = load_tokenizer(str(tmp_path))
    env = gymnasium.make("TextGen-v0", prompts=Echo(), tokenizer=str(tmp_path), chat=True)
    obs, info = env.reset(seed=0, options={"prompt": "Say 7"})
    start, want = text_of(obs), "user: Say 7\nassistant:"
    assert info["prompt"] == want
    for said in (" one", " the two"):
        for token in [*ours.encode_continuation(said), ours.eos_id]:
            obs = env.step(token)[0]
        # The end of the turn, and what the template writes between the two turns.
        want = f"{said}{ours.token(ours.eos_id)}\nuser: {said}?\nassistant:"
        written = text_of(obs)[len(start) :]
        assert ours.continuation(written, start) == want
        start = text_of(obs)


def test_the_chat_of_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    write("t5", ["system user assistant the of and in is what where who"], tmp_path)
    (tmp_path / "chat_template.jinja").write_text(PLAIN)
    for prompts, chat in ((ROWS, "auto"), (["One?"], True)):
        with pytest.raises(SettingsError, match="encoder-decoder"):
            TextGenEnv(prompts=prompts, tokenizer=str(tmp_path), chat=chat)
    env = TextGenEnv(prompts=["One?"], tokenizer=str(tmp_path))
    assert env.reset(seed=0)[1]["prompt"].startswith("One?")
