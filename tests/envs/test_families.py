"""Every tokenizer family with every task, compared with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import transformers

import textgym
from tests.envs.families import FAMILIES, write
from textgym.lm import LanguageModel
from textgym.tokenization import load_tokenizer

TASKS = [name for name in textgym.registered_tasks() if textgym.make_task(name).tokenizer is None]
ROWS = 2


def corpus() -> list[str]:
    texts = []
    for name in TASKS:
        task = textgym.make_task(name)
        rows = [task.item(index) for index in range(12)]
        texts += [row["prompt"] + task.oracle(row) for row in rows]
    return texts


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    write(request.param, corpus(), folder)
    return folder


def text_of(obs: Any) -> Any:
    tokens = obs["tokens"] if isinstance(obs, dict) else obs
    return tokens[tokens >= 0].tolist()


def spellable(theirs: Any, text: str) -> bool:
    """Whether the vocabulary can write a text exactly; T5's normalizes whitespace."""
    ids = theirs.encode(f"a{text}", add_special_tokens=False)
    return str(theirs.decode(ids)).strip() == f"a{text}".strip()


def test_prompts_and_oracles(checkpoint: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ours = load_tokenizer(str(checkpoint))
    written = set()
    for name in TASKS:
        env = gymnasium.make(
            name, tokenizer=str(checkpoint), max_prompt_tokens=2000, max_new_tokens=1500
        )
        task = env.unwrapped.settings.source.task
        for index in range(ROWS):
            obs, info = env.reset(seed=0, options={"index": index})
            assert text_of(obs) == theirs(info["prompt"]).input_ids, (name, info["prompt"])
            row = task.item(index)
            turns = task.oracle(row).split("\n") if task.max_turns > 1 else [task.oracle(row)]
            if not all(spellable(theirs, turn) for turn in turns):
                continue
            over = False
            for turn in turns:
                assert not over
                for token in [*ours.encode_continuation(turn), ours.eos_id]:
                    over, info = env.step(token)[2::2]
            assert over
            # The task's own reward is the first term; a conversation adds those of its turns.
            assert next(iter(info["reward_terms"].values())) == 1.0, (name, info["response"])
            written.add(name)
    # What T5's kind cannot write to the letter: runs of spaces, and signs that NFKC rewrites.
    unigram = theirs.backend_tokenizer.model.__class__.__name__ == "Unigram"
    lossy = {"TextGen/Code-v0", "TextGen/KnowledgeGraph-v0"} if unigram else set()
    assert written >= {*TASKS} - lossy


def test_log_probs(checkpoint: Path) -> None:
    lm = LanguageModel.load(str(checkpoint), device="cpu")
    theirs = transformers.AutoTokenizer.from_pretrained(checkpoint)
    kind = transformers.AutoModelForSeq2SeqLM if lm.seq2seq else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(checkpoint, dtype=torch.float32).eval()
    env = gymnasium.make(
        "TextGen-v0", prompts=["The river is"], tokenizer=str(checkpoint), reward="distinct",
        max_prompt_tokens=30, max_new_tokens=6,
    )  # fmt: skip
    obs, _ = env.reset(seed=0)
    prompt = theirs("The river is").input_ids
    actions = [int(index) for index in np.random.default_rng(0).integers(10, lm.vocab_size, 5)]
    for action in actions:
        obs = env.step(action)[0]
    with torch.no_grad():
        logits = lm.logits(lm.hidden(torch.tensor(text_of(obs))[None]))[0]
        if lm.seq2seq is None:
            expected = model(torch.tensor([[*prompt, *actions]])).logits[0]
        else:
            start = model.config.decoder_start_token_id
            expected = model(
                input_ids=torch.tensor([prompt]),
                decoder_input_ids=torch.tensor([[start, *actions]]),
            ).logits[0]
    # The position before each action predicts it.
    places = range(len(prompt) - 1, len(prompt) + len(actions) - 1)
    count = len(actions)
    own = torch.log_softmax(logits[list(places)], -1)
    first = 0 if lm.seq2seq is not None else len(prompt) - 1
    other = torch.log_softmax(expected[first : first + count, : lm.vocab_size].float(), -1)
    torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)
