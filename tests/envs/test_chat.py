"""Prompts that are messages, compared with transformers' chat rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

import textgym  # noqa: F401 (registers the environments)
from textgym.errors import DataError, PromptError, SettingsError
from textgym.tasks import Reply, Task

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}{% elif message['role'] == "
    "'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 + 3?"},
]


def tokenizer(template: str | None = CHATML, bos: bool = False) -> Any:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["What is the sum? It is four."], trainer)
    if bos:
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
        )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<s>"
    )
    made.chat_template = template
    return made


def rendered(theirs: Any, messages: list[dict[str, str]], more: bool = True) -> list[int]:
    ids = theirs.apply_chat_template(messages, add_generation_prompt=more, return_dict=False)
    return [int(index) for index in ids]


@pytest.mark.parametrize("column", ["prompt", "messages"])
@pytest.mark.parametrize(("template", "bos"), [(CHATML, False), (CHATML, True), (LLAMA, True)])
def test_prompts_are_what_the_template_writes(column: str, template: str, bos: bool) -> None:
    theirs = tokenizer(template, bos)
    messages = CHAT if template is CHATML else CHAT[1:]
    env = gymnasium.make(
        "TextGen-v0",
        prompts=[{column: messages, "reference": "6"}],
        tokenizer=theirs,
        max_prompt_tokens=300,
        max_new_tokens=8,
    )
    obs, info = env.reset(seed=0)
    assert obs[obs >= 0].tolist() == rendered(theirs, messages)
    assert info["prompt"] == theirs.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    for token in theirs.encode("6", add_special_tokens=False):
        env.step(token)
    _, reward, over, _, info = env.step(theirs.convert_tokens_to_ids("<|im_end|>"))
    if template is CHATML:
        assert over, "the template ends the assistant's turns with this token"
        assert (reward, info["response"], info["finish_reason"]) == (1.0, "6", "eos")
        assert info["messages"] == messages


def test_strings_are_a_message_of_the_user_where_chat_is_asked_for() -> None:
    theirs = tokenizer()
    arguments: dict[str, Any] = {"tokenizer": theirs, "max_prompt_tokens": 200}
    want = rendered(theirs, [{"role": "user", "content": "Hello"}])
    env = gymnasium.make("TextGen-v0", prompts=["Hello"], chat=True, **arguments)
    obs, _ = env.reset(seed=0)
    assert obs[obs >= 0].tolist() == want
    obs, _ = env.reset(options={"prompt": "Hello"})
    assert obs[obs >= 0].tolist() == want
    obs, _ = gymnasium.make("TextGen-v0", prompts=["Hello"], **arguments).reset(seed=0)
    assert obs[obs >= 0].tolist() == theirs.encode("Hello")


def test_what_cannot_be_rendered_is_refused() -> None:
    rows = [{"prompt": CHAT, "reference": "6"}]
    with pytest.raises(SettingsError, match="no chat template"):
        gymnasium.make("TextGen-v0", prompts=rows)
    with pytest.raises(SettingsError, match="no chat template"):
        gymnasium.make("TextGen-v0", prompts=["a"], chat=True)
    with pytest.raises(DataError, match="chat=False"):
        gymnasium.make("TextGen-v0", prompts=rows, tokenizer=tokenizer(), chat=False)
    with pytest.raises(SettingsError, match="chat='yes'"):
        gymnasium.make("TextGen-v0", prompts=["a"], chat="yes")
    with pytest.raises(PromptError, match=r"\['system', 'user', 'assistant', 'user'\]"):
        gymnasium.make(
            "TextGen-v0", prompts=rows, tokenizer=tokenizer(LLAMA), max_prompt_tokens=300
        )
    env = gymnasium.make("TextGen-v0", prompts=lambda rng: {"prompt": CHAT}, reward="distinct")
    with pytest.raises(PromptError, match="no chat template"):
        env.reset(seed=0)
    with pytest.raises(PromptError, match="max_prompt_tokens is 4"):
        gymnasium.make("TextGen-v0", prompts=rows, tokenizer=tokenizer(), max_prompt_tokens=4)


class Echo(Task):
    """Repeats what the agent says, twice."""

    id = "TextGen/ChatEcho-v0"
    max_prompt_tokens = 200
    max_new_tokens = 200
    max_turns = 3
    cheat_ceiling = 0.5

    def generate(self, rng: Any) -> dict[str, Any]:
        return {"prompt": f"Say {int(rng.integers(1000))}", "reference": "a"}

    def score(self, completion: str, row: Any) -> float:
        return float(len(completion) > 0)

    def reply(self, row: Any, turns: Any) -> Reply:
        return Reply(f"\nUser: {turns[-1]}?\nAgent:", message=f"{turns[-1]}?")


@pytest.mark.parametrize("template", [CHATML, LLAMA])
def test_a_conversation_reads_as_the_template_writes_it(template: str) -> None:
    theirs = tokenizer(template, bos=template is LLAMA)
    env = gymnasium.make("TextGen-v0", prompts=Echo(), tokenizer=theirs, chat=True)
    obs, _ = env.reset(seed=0, options={"prompt": "Say 7"})
    end = "<|im_end|>" if template is CHATML else "<|endoftext|>"
    space = "" if template is CHATML else " "  # Llama's template writes it before the answer.
    for said in ("one", "two"):
        ids = theirs.encode(space + said, add_special_tokens=False)
        for token in [*ids, theirs.convert_tokens_to_ids(end)]:
            obs = env.step(token)[0]
    talk = [
        {"role": "user", "content": "Say 7"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "two?"},
    ]
    assert obs[obs >= 0].tolist() == rendered(theirs, talk)


def test_a_folder_brings_its_template(tmp_path: Path) -> None:
    theirs = tokenizer()
    theirs.save_pretrained(tmp_path)
    env = gymnasium.make(
        "TextGen-v0",
        prompts=[{"prompt": CHAT, "reference": "6"}],
        tokenizer=str(tmp_path),
        max_prompt_tokens=200,
    )
    obs, _ = env.reset(seed=0)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert obs[obs >= 0].tolist() == rendered(again, CHAT)
