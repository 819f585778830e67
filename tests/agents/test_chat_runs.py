"""Agents on chats: runs by their command lines, with a small random model of Qwen's kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from agents import sft
from agents.running.environments import make_env
from agents.running.oracle import Oracle
from agents.running.run import RunSettings
from tests.agents.runs import command
from tests.envs import families
from textgym.rollouts import collect

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = {"role": "system", "content": "Be brief."}


def user(number: int) -> dict[str, str]:
    return {"role": "user", "content": f"What is {number} + 2?"}


def assistant(number: int) -> dict[str, str]:
    return {"role": "assistant", "content": str(number + 2)}


def row(at: int) -> dict[str, Any]:
    """TRL's conversational forms in turn."""
    forms = (
        {"prompt": [user(at)], "reference": str(at + 2)},
        {"messages": [SYSTEM, user(at), assistant(at)]},
        {"prompt": [SYSTEM, user(at)], "completion": [assistant(at)]},
        {"messages": [user(0), assistant(0), user(at)], "answer": str(at + 2)},
    )
    return dict(forms[at % 4])


def asked(at: int) -> list[dict[str, str]]:
    """The messages of its prompt."""
    return [[user(at)], [SYSTEM, user(at)], [SYSTEM, user(at)], [user(0), assistant(0), user(at)]][
        at % 4
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    families.write("qwen", ["What is 2 + 2? Be brief. system user assistant"], folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "chat.jsonl"
    path.write_text("\n".join(json.dumps(row(at)) for at in range(60)))
    return path


def test_prompts_are_the_templates_and_answers_are_references(model: Path, prompts: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(model)
    settings = RunSettings(
        prompts=str(prompts), lm=str(model), max_prompt_tokens=200, max_new_tokens=4, eval_share=0
    )
    venv: Any = make_env(settings, 1, 0, "train")
    (source,) = (one.source for one in venv.get_attr("settings"))
    (tokenizer,) = venv.get_attr("tokenizer")
    for at in range(60):
        found = source.item(at)
        want = theirs.apply_chat_template(asked(at), add_generation_prompt=True, return_dict=False)
        assert found["messages"] == asked(at)
        assert found["reference"] == str(at + 2)
        assert tokenizer.encode(found["prompt"]) == [int(index) for index in want]
    venv.close()


@pytest.mark.parametrize("agent", ["ppo", "grpo"])
def test_a_chat_run_trains_and_resumes(
    agent: str, model: Path, prompts: Path, tmp_path: Path, curves_as_numbers: None,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    theirs = transformers.AutoTokenizer.from_pretrained(model)
    arguments = [
        "--lm", str(model), "--prompts", str(prompts), "--eval-episodes", "6", "--threads", "1",
        "--n-envs", "8", "--device", "cpu", "--max-new-tokens", "6", "--max-prompt-tokens", "200",
        "--reward", "distinct", "--checkpoint-every", "64", "--lr-schedule", "constant",
    ]  # fmt: skip
    folder = command(agent, *arguments, "--out", str(tmp_path / "a"), "--steps", "128")
    output = capsys.readouterr().out
    assert "eval prompts" in output
    assert "What is" in output
    template = [
        theirs.apply_chat_template(asked(at), add_generation_prompt=True, tokenize=False)
        for at in range(60)
    ]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 6
    assert {sample["prompt"] for sample in samples} <= set(template)
    assert all("<|im_start|>" not in sample["after"] for sample in samples)
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["prompts"] == str(prompts)
    resumed = command(agent, "--resume", str(folder), "--steps", "384")
    assert "resumed at" in capsys.readouterr().out
    truth = command(agent, *arguments, "--out", str(tmp_path / "b"), "--steps", "384")
    assert (resumed / "samples.jsonl").read_bytes() == (truth / "samples.jsonl").read_bytes()


def test_sft_learns_the_answers_of_chats(model: Path, prompts: Path) -> None:
    """From the environment's own references, and from a file of demonstrations."""
    theirs = transformers.AutoTokenizer.from_pretrained(model)
    right = {
        theirs.apply_chat_template([*asked(at), assistant(at)], tokenize=False).removesuffix("\n")
        for at in range(60)
    }
    settings = RunSettings(
        prompts=str(prompts), lm=str(model), max_prompt_tokens=200, max_new_tokens=8, eval_share=0
    )
    venv = make_env(settings, 4, 0, "train")
    for source in (venv, sft.demonstrations(str(prompts), venv, 0)):
        episodes = collect(source, Oracle(source), episodes_per_row=2)
        assert len(episodes) == 8
        written = {
            prompt + theirs.decode(episodes.actions[episodes.owners == number].tolist())
            for number, prompt in enumerate(episodes.prompts)
        }
        assert written <= right
    venv.close()


def test_strings_are_rendered_where_the_flag_asks_for_it(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p{at}"}) for at in range(20)))
    settings = RunSettings(
        prompts=str(path), lm=str(model), max_prompt_tokens=60, max_new_tokens=4, chat="true"
    )
    theirs = transformers.AutoTokenizer.from_pretrained(model)
    for split in ("train", "eval"):
        venv: Any = make_env(settings, 2, 0, split)
        obs = venv.reset()
        for row, info in zip(obs, venv.reset_infos, strict=True):
            text = info["prompt"].split("\n")[1].removesuffix("<|im_end|>")
            want = theirs.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
            assert row[row >= 0].tolist() == [int(index) for index in want]
        venv.close()
