"""Cross-entropy on what was played: the oracle, supervised fine-tuning, and their texts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agents import oracle, ppo, sft
from agents.running import run as common
from agents.running.supervised import cross_entropy, gradient_step
from tests.lm.checkpoints import EOS, WORDS, write_checkpoint
from textgym.errors import DataError, SettingsError
from textgym.lm import LanguageModel
from textgym.lm.scoring import SequenceBatch
from textgym.rollouts import Episodes, Rollout
from textgym.sb3 import LMPolicy, check_resumable, make_vec_env
from textgym.tasks import make_task

torch.set_num_threads(1)

PAIRS = [
    {"prompt": "w1", "reference": "w5 w6 w7"},
    {"prompt": "w2 w3", "reference": "w8"},
    {"prompt": "w4 w1 w2", "reference": "w9 w9"},
]
KIND: dict[str, Any] = {"tokenizer": WORDS, "max_prompt_tokens": 4, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


def ids(words: str) -> list[int]:
    return [WORDS.index(word) for word in words.split()]


def texts_of(*pairs: tuple[str, str]) -> Episodes:
    """Episodes in which these completions were written to these prompts."""
    starts = [ids(prompt) for prompt, _ in pairs]
    own = [[*ids(completion), EOS] for _, completion in pairs]
    tokens = np.full((len(pairs), 20), -1)
    for row, (start, completion) in enumerate(zip(starts, own, strict=True)):
        text = [*start, *completion]
        tokens[row, : len(text)] = text
    lengths = np.array([len(completion) for completion in own])
    rows = np.repeat(np.arange(len(pairs)), lengths)
    ends = [len(start) - 1 + at for start, part in zip(starts, own, strict=True)
            for at in range(len(part))]  # fmt: skip
    nothing = torch.zeros(len(ends))
    return Episodes(
        lengths,
        torch.tensor([token for completion in own for token in completion]),
        nothing.numpy(),
        tuple(prompt for prompt, _ in pairs),
        tuple({} for _ in pairs),
        nothing.double().numpy(),
        SequenceBatch(torch.from_numpy(tokens), torch.from_numpy(rows), torch.tensor(ends)),
        nothing,
        nothing,
    )


def log_probs(model: Any, prompt: str, completion: str) -> list[float]:
    """Of a completion's tokens and of eos, token by token, by plain transformers."""
    known, result = ids(prompt), []
    for token in [*ids(completion), EOS]:
        with torch.no_grad():
            logits = model(torch.tensor([known])).logits[0, -1].double()
        result.append(float(torch.log_softmax(logits, -1)[token]))
        known = [*known, token]
    return result


def play(agent: Any, venv: Any, count: int) -> tuple[list[dict[str, Any]], Episodes]:
    """The first episodes that end, and the infos at their ends."""
    rollout = Rollout(venv, agent)
    rollout.reset()
    while len(rollout.complete) < count:
        rollout.step()
    episodes = rollout.take()
    return list(episodes.infos), episodes


# ---------------------------------------------------------------------- the loss


def test_the_loss_is_the_cross_entropy_of_completions_and_eos(lm: str) -> None:
    pairs = [("w1 w2 w3", "w4 w5"), ("w6", "w7 w8 w9 w10")]
    model = AutoModelForCausalLM.from_pretrained(lm)
    expected = [value for pair in pairs for value in log_probs(model, *pair)]
    assert len(expected) == 8
    loss = cross_entropy(LanguageModel.load(lm, device="cpu"), texts_of(*pairs))
    assert float(loss.detach()) == pytest.approx(-np.mean(expected), abs=1e-5)


def test_what_the_prompt_says_is_read_but_not_learned(lm: str) -> None:
    """Two words that are read alike: which of them stands in the prompt is a label alone."""
    model = LanguageModel.load(lm, device="cpu")
    table = model.model.get_input_embeddings().weight
    head = torch.nn.Linear(table.shape[1], table.shape[0], bias=False)
    head.weight = torch.nn.Parameter(table.detach().clone())
    model.model.set_output_embeddings(head)
    with torch.no_grad():
        table[ids("w3")] = table[ids("w2")]
    ours = []
    for prompt in ("w1 w2", "w1 w3", "w2 w1"):
        model.zero_grad()
        loss = cross_entropy(model, texts_of((prompt, "w4 w5"), ("w1", "w6")))
        loss.backward()
        ours.append((float(loss.detach()), head.weight.grad.clone()))
    assert ours[0][0] == ours[1][0]
    assert torch.equal(ours[0][1], ours[1][1])
    assert abs(ours[0][0] - ours[2][0]) > 1e-4, "the prompt is read all the same"


def test_a_step_descends_along_the_gradient(lm: str) -> None:
    venv = make_vec_env("TextGen-v0", 2, 0, prompts=["w1"], reward="distinct", **KIND)
    plain = {"lm": lm, "optimizer_class": torch.optim.SGD}
    policy = LMPolicy(venv.observation_space, venv.action_space, lambda _: 0.1, **plain)
    texts = texts_of(("w1 w2 w3", "w4 w5"), ("w6", "w7 w8 w9 w10"))
    twin = LanguageModel.load(lm, device="cpu")
    cross_entropy(twin, texts).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in twin.parameters()))  # type: ignore[arg-type]
    assert norm > 0.2
    gradient_step(policy, texts, max_grad_norm=0.2)
    for ours, theirs in zip(policy.lm.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs - 0.1 * theirs.grad * 0.2 / norm, atol=1e-6)


# ---------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("task", ["Sentiment", "Story", "QA", "Dialogue", "Summarize", "Mix"])
def test_the_oracle_reaches_one(task: str) -> None:
    venv = make_vec_env(f"TextGen/{task}-v0", 6, 0)
    ends, _ = play(oracle.make_agent(venv, 0), venv, 12)
    assert [end["reward_terms"]["score"] for end in ends] == [1.0] * len(ends)


def test_the_oracle_through_a_run(tmp_path: Path) -> None:
    """It is evaluated on environments that it has not been made with."""
    settings = oracle.Settings(
        env="TextGen/Story-v0", n_envs=3, eval_episodes=5, threads=1, out=tmp_path
    )
    make_agent = partial(oracle.make_agent, settings=settings)
    results = json.loads((common.run("oracle", settings, make_agent) / "run.json").read_text())
    assert results["results"]["eval_before"]["mean"] == 1.0


@pytest.mark.parametrize("more", [{}, {"stop": ["w0"], "stop_at_eos": False}], ids=["eos", "stop"])
def test_the_oracle_of_own_prompts_is_their_reference(more: dict[str, Any]) -> None:
    venv = make_vec_env("TextGen-v0", 4, 0, prompts=PAIRS, reward="exact_match", **KIND, **more)
    ends, _ = play(oracle.make_agent(venv, 0), venv, 12)
    known = {pair["prompt"]: pair["reference"] for pair in PAIRS}
    assert {end["prompt"] for end in ends} == set(known)
    assert all(end["response"].strip() == known[end["prompt"]] for end in ends)


def test_where_there_is_no_oracle() -> None:
    venv = make_vec_env("TextGen-v0", 2, 0, prompts=["w1"], **KIND)
    with pytest.raises(SettingsError, match=r"no oracle.*reference"):
        oracle.make_agent(venv, 0)
    venv = make_vec_env("TextGen-v0", 2, 0, prompts=PAIRS, stop_at_eos=False, **KIND)
    with pytest.raises(SettingsError, match="stop_at_eos=True"):
        play(oracle.make_agent(venv, 0), venv, 2)
    agent = oracle.make_agent(make_vec_env("TextGen/Story-v0", 2, 0), 0)
    with pytest.raises(SettingsError, match=r"use_env\(venv\)"):
        agent.predict(make_vec_env("TextGen/Story-v0", 2, 5).reset())


def test_of_a_conversation_only_the_own_turns_are_learned() -> None:
    venv = make_vec_env("TextGen/Dialogue-v0", 4, 0, level=3)
    agent = oracle.make_agent(venv, 0)
    ends, texts = play(agent, venv, 8)
    tokenizer = agent.settings.tokenizer
    assert max(len(end["turns"]) for end in ends) > 1
    for number, end in enumerate(ends):
        one = texts.select([number])
        own = one.actions.tolist()
        expected = [i for turn in end["turns"] for i in (*tokenizer.encode(turn), tokenizer.eos_id)]
        assert own == expected
        # All else is the prompt and the replies.
        (tokens,) = one.sequences.tokens.tolist()
        written = {int(place) + 1 for place in one.sequences.positions}
        rest = [token for at, token in enumerate(tokens) if at not in written]
        said = [i for each in end["replies"] for i in tokenizer.encode(each)]
        assert rest == tokenizer.encode(end["prompt"]) + said


# ---------------------------------------------------------------------- fine-tuning


def tuned(lm: str, venv: Any, steps: int, **others: Any) -> sft.SFT:
    settings = sft.Settings(lm=lm, lr=3e-3, batch_size=8, device="cpu", **others)
    return sft.make_agent(venv, 0, settings).learn(steps)


def check_learned(lm: str, agent: sft.SFT, folder: Path, pairs: list[dict[str, str]]) -> None:
    agent.policy.lm.save_pretrained(folder)
    before, after = (AutoModelForCausalLM.from_pretrained(name) for name in (lm, folder))
    for pair in pairs:
        old, new = (log_probs(m, pair["prompt"], pair["reference"]) for m in (before, after))
        assert sum(old) < -5
        assert sum(new) > -0.7, "now it is the likeliest text by far"


def test_references_become_likely(lm: str, tmp_path: Path) -> None:
    venv = make_vec_env("TextGen-v0", 8, 0, prompts=PAIRS, reward="exact_match", **KIND)
    agent = tuned(lm, venv, 1000)
    assert agent.num_timesteps == 1000
    check_learned(lm, agent, tmp_path / "lm", PAIRS)
    agent.save(tmp_path / "model")
    obs = venv.reset()
    expected = agent.predict(obs, deterministic=True)[0]
    loaded = sft.SFT.load(tmp_path / "model", device="cpu")
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], expected)
    assert loaded.batch_size == 8
    # What PPO starts from.
    warm = ppo.make_agent(venv, 0, ppo.Settings(lm=str(tmp_path / "lm"), n_steps=4))
    assert np.array_equal(warm.predict(obs, deterministic=True)[0], expected)


def test_seeds_decide(lm: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        venv = make_vec_env("TextGen-v0", 8, 5, prompts=PAIRS, reward="exact_match", **KIND)
        agent = sft.make_agent(venv, seed, sft.Settings(lm=lm, batch_size=4, device="cpu"))
        parameters = agent.learn(80).policy.lm.parameters()
        return torch.cat([weight.detach().flatten() for weight in parameters])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_demonstrations_of_a_file(lm: str, tmp_path: Path) -> None:
    """The environment's own prompts have no references, and its budget cuts the file's."""
    file = tmp_path / "data.jsonl"
    rows = [{"prompt": p["prompt"], "completion": p["reference"]} for p in PAIRS]
    rows[0]["prompt"] = "w9 w8 w7 w6 w1"
    file.write_text("\n".join(map(json.dumps, rows)))
    kind = {**KIND, "prompt_overflow": "left"}
    venv = make_vec_env("TextGen-v0", 8, 0, prompts=["w1"], reward="distinct", **kind)
    agent = tuned(lm, venv, 1000, data=str(file))
    cut = {**PAIRS[0], "prompt": "w8 w7 w6 w1"}
    check_learned(lm, agent, tmp_path / "lm", [cut, *PAIRS[1:]])


@pytest.mark.parametrize("rows", [[{"prompt": "w1"}], [{"completion": "w1"}], []])
def test_files_that_demonstrate_nothing(rows: list[Any], lm: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    venv = make_vec_env("TextGen-v0", 8, 0, prompts=["w1"], reward="distinct", **KIND)
    with pytest.raises(DataError, match=r"data\.jsonl"):
        tuned(lm, venv, 16, data=str(file))


def test_a_file_is_no_conversation(tmp_path: Path) -> None:
    agent = sft.make_agent(make_vec_env("TextGen/Dialogue-v0", 2, 0), 0, sft.Settings(data="x"))
    with pytest.raises(SettingsError, match="conversations"):
        agent.learn(16)


def test_a_run_on_a_closed_vocabulary(tmp_path: Path) -> None:
    settings = sft.Settings(
        env="TextGen/GoodBad-v0", lr=1e-2, steps=640, n_envs=16, eval_episodes=40, threads=1,
        device="cpu", out=tmp_path,
    )  # fmt: skip
    make_agent = partial(sft.make_agent, settings=settings)
    folder = common.run("sft", settings, make_agent)
    results = json.loads((folder / "run.json").read_text())["results"]
    assert results["steps"] == 640
    assert results["eval_before"]["mean"] < 0.6
    assert results["eval_after"]["mean"] > 0.9
    assert isinstance(LanguageModel.load(folder / "lm"), LanguageModel)
    columns = (folder / "progress.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "episode/reward", "diagnostics/entropy"} <= set(columns)


def test_what_learns_nothing_cannot_be_resumed(lm: str, tmp_path: Path) -> None:
    venv = make_vec_env("TextGen-v0", 2, 0, prompts=PAIRS, **KIND)
    check_resumable(sft.make_agent(venv, 0, sft.Settings(lm=lm)))
    with pytest.raises(SettingsError, match="training by Oracle"):
        check_resumable(oracle.make_agent(venv, 0, oracle.Settings(lm=lm)))


def test_references_are_those_of_the_task() -> None:
    """An environment's rows: what the oracle plays is the task's oracle on its own row."""
    venv = make_vec_env("TextGen/QA-v0", 3, 0, level=2)
    ends, _ = play(oracle.make_agent(venv, 0), venv, 3)
    task = make_task("TextGen/QA-v0", level=2)
    assert all(end["response"] == task.oracle(end) for end in ends)
