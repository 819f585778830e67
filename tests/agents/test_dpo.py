"""DPO, IPO and KTO: losses, tokens of the data, what is learned, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from agents import dpo
from agents.running.environments import make_env
from agents.running.judged import Judged, pairs_in_groups
from agents.running.planning import batch_of
from agents.running.preference_files import read_judged
from agents.running.preference_losses import Objective, dpo_loss, ipo_loss, kto_loss
from agents.running.preferences import Scores
from agents.running.run import RunSettings
from tests.agents.test_chat_runs import CHATML, SYSTEM, assistant, user
from tests.agents.test_supervised import log_probs, play
from tests.envs import families
from tests.lm.checkpoints import EOS, WORDS, write_checkpoint
from textgym.errors import DataError, DataWarning, PromptError, SettingsError, StorageError
from textgym.feedback import NewItem, Store
from textgym.rollouts import Episodes
from textgym.sb3 import load_checkpoint, make_vec_env, save_checkpoint

torch.set_num_threads(1)

PAIRS: list[dict[str, Any]] = [
    {"prompt": "w1", "chosen": "w5 w6 w7", "rejected": "w8"},
    {"prompt": "w2 w3", "chosen": "w8", "rejected": "w9 w9", "weight": 2},
    {"prompt": "w4 w1 w2", "chosen": "w9", "rejected": "w9 w5", "preference": 0.75},
]
MORE = [{"prompt": f"w{at} w{at + 1}", "chosen": f"w{at}", "rejected": "w9"} for at in range(1, 8)]
KIND: dict[str, Any] = {
    "prompts": ["w1"], "reward": "distinct", "tokenizer": WORDS, "max_prompt_tokens": 4,
    "max_new_tokens": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "gpt2")


def texts(**others: Any) -> Any:
    return make_vec_env("TextGen-v0", 4, 0, **{**KIND, **others})


def written(rows: list[Any], folder: Path) -> str:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def make(lm: str, pairs: str, venv: Any = None, **settings: Any) -> Any:
    values = {"held_out": 0.0, "batch_size": 3, "lr": 3e-3, "device": "cpu"}
    values |= {"n_epochs": None, "held_out_every": 1000}
    made = dpo.Settings(lm=lm, pairs=pairs, **{**values, **settings})
    return dpo.make_agent(venv or texts(), 0, made)


def ids(words: str) -> list[int]:
    return [WORDS.index(word) for word in words.split()]


def tokens_of(judged: Judged) -> list[tuple[list[int], list[int]]]:
    """Each text: its prompt's tokens, and all that follow."""
    found = []
    for at in range(len(judged.texts)):
        one = judged.texts.select([at])
        assert one.sequences is not None
        size = int(one.sequences.positions[0]) + 1
        row = one.sequences.tokens[0].tolist()
        last = int(one.sequences.positions[-1]) + 1
        found.append((row[:size], [*row[size:last], int(one.actions[-1])]))
    return found


# ---------------------------------------------------------------------- the losses

H = np.array([[2.0, 0.9, -1.0, 30.0], [-1.0, 0.7, -4.0, -9.0]])
SHARE = np.array([1.0, 0.0, 0.75, 1.0])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def values(loss: str, share: Any, **others: Any) -> Any:
    """The losses as TRL's documentation of its trainers writes them."""
    beta, margin = others.get("beta", 0.1), others.get("margin", 0.0)
    if loss == "dpo":
        logits = beta * (H[0] - H[1]) - margin
        return -share * np.log(sigmoid(logits)) - (1 - share) * np.log(sigmoid(-logits))
    if loss == "ipo":
        aim = 1 / (2 * beta)
        return share * (H[0] - H[1] - aim) ** 2 + (1 - share) * (H[1] - H[0] - aim) ** 2
    z = max(0.0, float(np.mean(-H[1])))
    good, bad = 1 - sigmoid(beta * (H[0] - z)), 1 - sigmoid(beta * (z - H[0]))
    return share * others.get("good", 1) * good + (1 - share) * others.get("bad", 1) * bad


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(
    ("loss", "others"),
    [
        ("dpo", {}), ("dpo", {"beta": 0.5, "margin": 0.3}), ("ipo", {}), ("ipo", {"beta": 0.7}),
        ("kto", {}), ("kto", {"beta": 0.3, "good": 1.5, "bad": 0.5}),
    ],
)  # fmt: skip
def test_losses_are_the_published_ones(loss: str, others: Any, smoothing: float) -> None:
    weight, nll = np.array([1.0, 2.0, 0.5, 1.0]), np.array([1.0, 2.0, 3.0, 4.0])
    share = SHARE * (1 - smoothing) + (1 - SHARE) * smoothing
    expected = values(loss, share, **others) + 0.4 * share * nll
    objective = Objective(
        loss, others.get("beta", 0.1), smoothing, 0.4, False, others.get("good", 1.0),
        others.get("bad", 1.0),
    )  # fmt: skip
    n = len(weight)
    nothing: Any = None
    judged = Judged(
        nothing, np.arange(n), np.arange(n), SHARE, np.full(n, others.get("margin", 0.0)), weight,
        np.arange(n),
    )  # fmt: skip
    second = -H[1] if loss == "kto" else H[1]
    scores = Scores(*map(torch.from_numpy, (H[0], second, nll)), 0.0, 0)
    found, logged = objective(judged, scores)
    assert float(found) == pytest.approx(np.average(expected, weights=weight), rel=1e-6)
    assert logged["accuracy"] == {"dpo": 0.75, "ipo": 0.75, "kto": 0.5}[loss]
    good, bad = (H[0], H[1]) if loss != "kto" else (H[0][[0, 2, 3]], H[0][[1]])
    assert logged["chosen_log_ratio"] == pytest.approx(good.mean())
    assert logged["rejected_log_ratio"] == pytest.approx(bad.mean())
    assert logged["margin"] == pytest.approx(objective.beta * (good.mean() - bad.mean()))


def test_gradients_of_the_losses() -> None:
    """By finite differences, in double precision; z has none."""
    h = torch.from_numpy(H).requires_grad_()
    share, margin = torch.from_numpy(SHARE), torch.full((4,), 0.2, dtype=torch.double)
    kl = torch.tensor(0.3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda h: dpo_loss(h[0], h[1], share, 0.5, margin), h)
    assert torch.autograd.gradcheck(lambda h: ipo_loss(h[0], h[1], share, 0.5), h)
    assert torch.autograd.gradcheck(lambda h: kto_loss(h[0], kl, share, 0.5, 1.5, 0.7), h)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto"])
def test_the_loss_of_a_file(loss: str, per_token: bool, lm: str, tmp_path: Path) -> None:
    """From the texts to the number, by plain transformers; and along its gradient."""
    agent = make(lm, written(PAIRS, tmp_path), loss=loss, length_normalize=per_token, beta=0.3,
                 sft_coef=0.2)  # fmt: skip
    agent._data.open(agent.policy)
    generator = torch.Generator().manual_seed(3)
    before = AutoModelForCausalLM.from_pretrained(lm)
    with torch.no_grad():
        for weight in agent.policy.lm.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    agent.policy.lm.save_pretrained(tmp_path / "after")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "after")

    def ratio(prompt: str, text: str) -> float:
        now, then = log_probs(after, prompt, text), log_probs(before, prompt, text)
        return (sum(now) - sum(then)) / (len(now) if per_token else 1)

    def nll(prompt: str, text: str) -> float:
        return -float(np.mean(log_probs(after, prompt, text)))

    judged = agent._data.to_learn
    if loss != "kto":
        rows = [
            (ratio(p["prompt"], p["chosen"]), ratio(p["prompt"], p["rejected"]),
             nll(p["prompt"], p["chosen"]), p.get("preference", 1.0), p.get("weight", 1.0))
            for p in PAIRS
        ]  # fmt: skip
    else:
        spelled = [
            (" ".join(WORDS[i] for i in prompt), " ".join(WORDS[i] for i in rest[:-1]))
            for prompt, rest in tokens_of(judged)
        ]
        rows = [
            (ratio(*spelled[one]), ratio(*spelled[other]), nll(*spelled[one]), share, weight)
            for one, other, share, weight in zip(
                judged.first, judged.second, judged.target, judged.weight, strict=True
            )
        ]
    h, second, cost, share, weight = np.array(rows).T
    if loss == "dpo":
        losses = share * np.log1p(np.exp(-0.3 * (h - second)))
        losses += (1 - share) * np.log1p(np.exp(0.3 * (h - second)))
    elif loss == "ipo":
        losses = share * (h - second - 1 / 0.6) ** 2 + (1 - share) * (h - second + 1 / 0.6) ** 2
    else:
        z = max(0.0, second.mean())
        losses = share * sigmoid(-0.3 * (h - z)) + (1 - share) * sigmoid(0.3 * (h - z))
    expected = np.average(losses + 0.2 * share * cost, weights=weight)

    def objective() -> torch.Tensor:
        scores = dpo.score(*agent._arguments(judged))
        found: torch.Tensor = agent._loss(judged, scores)[0]
        return found

    found = objective()
    assert float(found.detach()) == pytest.approx(expected, abs=2e-4)
    if loss == "kto" and second.mean() > 0:
        return  # The estimate z changes with the weights, and has no gradient.
    found.backward()  # type: ignore[no-untyped-call]
    direction = [torch.randn(w.shape, generator=generator) for w in agent.policy.lm.parameters()]
    slope = sum(
        float((d * w.grad).sum())
        for d, w in zip(direction, agent.policy.lm.parameters(), strict=True)
    )
    ends = []
    for step in (2e-4, -4e-4):
        with torch.no_grad():
            for d, w in zip(direction, agent.policy.lm.parameters(), strict=True):
                w += step * d
            ends.append(float(objective()))
    assert (ends[0] - ends[1]) / 4e-4 == pytest.approx(slope, rel=0.02, abs=1e-3)


# ---------------------------------------------------------------------- the data


def judged(rows: list[Any], folder: Path, venv: Any = None) -> Judged:
    return read_judged(written(rows, folder), batch_of(venv or texts()).settings)


def test_rows_become_tokens(tmp_path: Path) -> None:
    """Several rejected texts are several pairs; a text is stored once; eos is a part of it."""
    rows = [
        {"prompt": "w1", "chosen": "w2", "rejected": ["w3 w4", "w2 w5"], "weight": 3},
        {"prompt": "w1", "chosen": "w3 w4", "rejected": "w2", "preference": 0.5},
        {"prompt": "w1", "chosen": "w2", "rejected": "w2"},
        {"prompt": "w1", "chosen": "w2", "rejected": "w9", "weight": 0},
    ]
    found = judged(rows, tmp_path)
    first, other, third = ([1], [2, EOS]), ([1], [3, 4, EOS]), ([1], [2, 5, EOS])
    assert tokens_of(found) == [first, other, third]
    assert found.first.tolist() == [0, 0, 1]
    assert found.second.tolist() == [1, 2, 0]
    assert found.weight.tolist() == [3, 3, 1]
    assert found.target.tolist() == [1, 1, 0.5]
    assert len(set(found.keys.tolist())) == 1


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ({"prompt_overflow": "left"}, {"prompt": "w1 w2 w3 w4 w5"}, ([2, 3, 4, 5], [6, EOS])),
        ({"prompt_overflow": "right"}, {"prompt": "w1 w2 w3 w4 w5"}, ([1, 2, 3, 4], [6, EOS])),
        ({"stop": ["w7 w8"]}, {"chosen": "w6 w7 w8 w9"}, ([1], [6, 7, 8])),
        ({"stop": ["w7"], "stop_at_eos": False}, {}, ([1], [6, 7])),
        ({}, {"chosen": "w6 <eos> w7"}, ([1], [6, EOS])),
        ({}, {"chosen": "w6 " * 6}, ([1], [6] * 6)),
    ],
)
def test_texts_end_as_in_the_environment(
    kind: dict[str, Any], row: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    venv = texts(**kind)
    found = judged([{"prompt": "w1", "chosen": "w6", "rejected": "w9", **row}], tmp_path, venv)
    assert tokens_of(found)[0] == expected
    # An episode with these actions has these observations, and is over with the last action.
    batch = batch_of(venv)
    prompt = {"prompt": row.get("prompt", "w1")}
    batch.reset(seed=0, options={"row": prompt})
    infos: dict[str, Any] = {}
    for action in expected[1]:
        assert "final_obs" not in infos
        infos = batch.step(np.full(4, action))[-1]
    assert "final_obs" in infos
    shown = infos["final_obs"][0]
    assert shown[shown >= 0].tolist() == [*expected[0], *expected[1]]


def test_long_texts_and_prompts_are_reported(tmp_path: Path) -> None:
    rows = [
        {"prompt": "w1", "chosen": "w6 " * 9, "rejected": "w9"},
        {"prompt": "w1 w2 w3 w4 w5", "chosen": "w6", "rejected": "w9"},
    ]
    with pytest.warns(DataWarning) as caught:
        found = judged(rows, tmp_path, texts(prompt_overflow="skip"))
    assert len(found) == 1
    said = sorted(str(one.message) for one in caught)
    assert "1 of 2 rows are left out" in said[0]
    assert "1 texts are longer than max_new_tokens=6" in said[1]


def test_conversations_are_the_turns_of_the_agent(tmp_path: Path) -> None:
    """What was played, written as messages, is the same observations and actions."""
    from agents import oracle

    venv = make_vec_env("TextGen/Dialogue-v0", 4, 0, level=3)
    ends, played = play(oracle.make_agent(venv, 0), venv, 4)
    rows = []
    for end in ends:
        said = [{"role": "assistant", "content": turn} for turn in end["turns"]]
        heard = [
            {"role": "user", "content": reply.removeprefix("\nUser: ").removesuffix("\nAgent:")}
            for reply in end["replies"]
        ]
        both = [one for pair in zip(said, [*heard, None], strict=False) for one in pair if one]
        rejected = [{"role": "assistant", "content": " Goodbye."}]
        rows.append({"prompt": end["prompt"], "chosen": both[: 2 * len(said) - 1],
                     "rejected": rejected})  # fmt: skip
    assert max(len(row["chosen"]) for row in rows) >= 3
    found = judged(rows, tmp_path, venv)
    for at, first in enumerate(found.first.tolist()):
        ours, theirs = found.texts.select([first]), played.select([at])
        assert ours.actions.tolist() == theirs.actions.tolist()
        for one, other in zip(seen(ours), seen(theirs), strict=True):
            assert one == other
    with pytest.raises(DataError, match=r"'chosen' is a string.*conversations"):
        judged([{"prompt": "Hi", "chosen": "a", "rejected": "b"}], tmp_path, venv)


def seen(episodes: Episodes) -> list[list[int]]:
    assert episodes.sequences is not None
    shown = episodes.sequences.observations(0, len(episodes.actions)).tolist()
    return [[token for token in row if token >= 0] for row in shown]


def test_messages_are_rendered_by_the_template(tmp_path: Path) -> None:
    folder = tmp_path / "qwen"
    folder.mkdir()
    families.write("qwen", ["What is 2 + 2? Be brief. system user assistant"], folder)
    (folder / "chat_template.jinja").write_text(CHATML)
    prompts = [{"prompt": [SYSTEM, user(1)], "reference": "3"}]
    settings = RunSettings(
        env_kwargs={"prompts": prompts}, lm=str(folder), max_prompt_tokens=200, max_new_tokens=8,
        eval_share=0, reward="exact_match",
    )  # fmt: skip
    venv = make_env(settings, 1, 0, "train")
    shown = venv.reset()[0]
    rows = [
        {"prompt": [SYSTEM, user(1)], "chosen": [assistant(1)], "rejected": [assistant(2)]},
        {"chosen": [SYSTEM, user(1), assistant(1)], "rejected": [SYSTEM, user(1), assistant(2)]},
        {"system": "Be brief.", "prompt": "What is 1 + 2?", "chosen": "3", "rejected": "4"},
        # As an environment reported it.
        {"prompt": venv.unwrapped.reset_infos[0]["prompt"], "chosen": "3", "rejected": "4"},
    ]
    found = judged(rows, tmp_path, venv)
    assert len(found.texts) == 2, "all rows say the same"
    (tokenizer,) = venv.get_attr("tokenizer")
    prompt, rest = tokens_of(found)[found.first[0]]
    assert prompt == shown[shown >= 0].tolist()
    assert tokenizer.decode(rest) == "3<|im_end|>"
    several = [assistant(1), user(2), assistant(2)]
    with pytest.raises(DataError, match="several turns"):
        judged([{**rows[0], "chosen": several}], tmp_path, venv)
    with pytest.raises(DataError, match="roles assistant, assistant"):
        judged([{**rows[0], "chosen": several[::2]}], tmp_path, venv)


def test_judgements_of_a_store(tmp_path: Path) -> None:
    """Two of three judges prefer the second text, and one person writes a better one."""
    store = Store(tmp_path / "judged.sqlite")
    store.add_items([NewItem("pair", "w1", ("w2", "w3 w4"))])
    for judge, value in (
        ("ann", {"choice": "second", "text": "w5"}),
        ("bob", {"choice": "second"}),
        ("cid", {"choice": "first"}),
    ):
        shown = store.next_item(judge)
        assert shown is not None
        store.judge(shown.token, judge, value, 1.0)
    found = read_judged(str(store.path), batch_of(texts()).settings)
    spelled = [rest for _, rest in tokens_of(found)]
    rows = [(spelled[i], spelled[j]) for i, j in zip(found.first, found.second, strict=True)]
    assert rows == [([3, 4, EOS], [2, EOS]), ([5, EOS], [3, 4, EOS])]
    assert found.target.tolist() == pytest.approx([2 / 3, 1])
    assert found.weight.tolist() == [3, 1]
    with pytest.raises(StorageError, match="does not exist"):
        read_judged(str(tmp_path / "other.sqlite"), batch_of(texts()).settings)


LABELS = [
    {"prompt": "w1", "completion": "w5", "label": True},
    {"prompt": "w1", "completion": "w6 w7", "label": "False"},
    {"prompt": "w2", "completion": "w8", "label": 1, "weight": 0.5},
    {"prompt": "w3", "completion": "w9 w9", "label": 0},
]


def test_labels_and_the_texts_of_other_prompts(tmp_path: Path) -> None:
    found = judged(LABELS, tmp_path)
    assert not found.are_pairs
    assert found.target.tolist() == [1, 0, 1, 0]
    assert found.weight.tolist() == [1, 1, 0.5, 1]
    mixed = found.with_mismatches(0)
    spelled = tokens_of(mixed)
    for first, second in zip(mixed.first, mixed.second, strict=True):
        assert spelled[second][0] == spelled[first][0]
    assert len({int(second) for second in mixed.second}) == 4
    assert sorted(str(spelled[s][1]) for s in mixed.second) == sorted(
        str(spelled[f][1]) for f in mixed.first
    ), "each response is used once"
    own = {(str(prompt), str(rest)) for prompt, rest in tokens_of(found)}
    assert not own & {(str(spelled[s][0]), str(spelled[s][1])) for s in mixed.second}
    alone = judged(LABELS[:1], tmp_path).with_mismatches(0)
    assert tokens_of(alone) == [([1], [5, EOS])] * 2, "there is no other text"
    back = Judged.of_state(mixed.get_state())
    assert back.digest() == mixed.digest() != found.digest()


@pytest.mark.parametrize(
    ("rows", "settings", "error", "words"),
    [
        ([{"prompt": "w1", "chosen": "w2"}], {}, DataError, "row 0 .*'rejected'"),
        ([{"prompt": "w1", "chosen": "w2", "rejected": "w2"}], {}, DataError, "1 equal"),
        ([], {}, DataError, "none of 0 rows"),
        (
            [PAIRS[0], {"prompt": "w1 w1 w1 w1 w1", "chosen": "w2", "rejected": "w3"}],
            {},
            PromptError,
            "row 1 of .*pairs.jsonl.* has 5 tokens.*max_prompt_tokens is 4",
        ),
        ([{"prompt": "w1", "chosen": "hello", "rejected": "w3"}], {}, DataError, "row 0.*'chosen'"),
        (LABELS, {}, SettingsError, "single texts.*--loss kto"),
        ([{"prompt": "w1", "label": True}], {"loss": "kto"}, DataError, "no 'completion'"),
        ([{**LABELS[0], "label": "good"}], {"loss": "kto"}, DataError, "true or false, not 'good'"),
        ([{"completion": "w1", "label": 1}], {"loss": "kto"}, DataError, "no prompt"),
        ([{**PAIRS[0], "margin": 1}], {"loss": "ipo"}, SettingsError, "margin"),
        ([{**PAIRS[0], "prompt": [user(1), assistant(1)]}], {}, DataError, "no chat template"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_before_the_run(
    rows: Any, settings: dict[str, Any], error: type[Exception], words: str, lm: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        make(lm, written(rows, tmp_path), **settings)


def test_more_that_is_refused(lm: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        make(lm, str(tmp_path / "none.jsonl"))
    venv = texts(reward=lambda prompts, completions, **_: [1.0] * len(prompts), group_size=2)
    with pytest.raises(DataError, match="no text was better"):
        make(lm, "self", venv, group_size=2, n_prompts=2).learn(1000)
    different = make(lm, "self", texts(prompts=["w1", "w2 w2", "w3", "w4"]), group_size=2)
    with pytest.raises(SettingsError, match="different prompts"):
        different.learn(1000)
    pictures = batch_of(make_vec_env("TextGen/Caption-v0", 2, 0)).settings
    with pytest.raises(SettingsError, match="pictures"):
        read_judged("x.jsonl", pictures)


# ---------------------------------------------------------------------- own pairs


@pytest.mark.parametrize("pairing", ["best", "all"])
def test_pairs_of_groups(pairing: Any) -> None:
    returns = np.array([[0.5, 1.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0], [3.0, 1.0, 2.0, 2.5]])
    better, worse = pairs_in_groups(returns, pairing)
    found = list(zip(better.tolist(), worse.tolist(), strict=True))
    flat = returns.flatten().tolist()
    every = {(i, j) for i in range(12) for j in range(12) if i // 4 == j // 4 and flat[i] > flat[j]}
    assert len(set(found)) == len(found)
    assert set(found) == (every if pairing == "all" else {(1, 2), (8, 9)})


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto"])
def test_own_texts_raise_the_reward(loss: Any, lm: str) -> None:
    def low(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [sum(word in WORDS[:8] for word in text.split()) / 6 for text in completions]

    venv = make_vec_env("TextGen-v0", 8, 0, **{
        **KIND, "reward": low, "prompts": ["w1", "w2 w3", "w4"], "group_size": 4
    })  # fmt: skip
    agent = make(lm, "self", venv, loss=loss, n_prompts=100, group_size=4, batch_size=16,
                 n_epochs=3)  # fmt: skip
    reference = [weight.clone() for weight in agent.policy.lm.parameters()]
    rewards: list[float] = []

    def note(known: dict[str, Any], _: Any) -> bool:
        for info in known["infos"]:
            if "episode" in info:
                rewards.append(float(info["episode"]["r"]))
        return True

    agent.learn(20_000, callback=note)
    assert agent.num_timesteps < 20_000, "three passes are over before"
    assert agent._updates == 3 * agent._data.batches(16)
    assert not torch.equal(reference[0], next(iter(agent.policy.lm.parameters())))
    kl = agent._data._kl
    assert all(torch.equal(*pair) for pair in zip(reference, kl.model.parameters(), strict=True)), (
        "the reference is the initial model"
    )
    later = [float(info["episode"]["r"]) for _ in range(10) for info in play(agent, venv, 16)[0]]
    assert np.mean(later) > np.mean(rewards[:200]) + 0.05


# ---------------------------------------------------------------------- learning


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto"])
def test_chosen_texts_become_likelier(loss: Any, lm: str, tmp_path: Path) -> None:
    agent = make(lm, written(PAIRS[:2], tmp_path), loss=loss, beta=0.2, lr=1e-3, sft_coef=0.1)
    agent.learn(700)
    agent.policy.lm.save_pretrained(tmp_path / "lm")
    models = [AutoModelForCausalLM.from_pretrained(name) for name in (lm, tmp_path / "lm")]
    for pair in PAIRS[:2]:
        (old, new), (worse, worst) = (
            [sum(log_probs(model, pair["prompt"], pair[column])) for model in models]
            for column in ("chosen", "rejected")
        )
        assert new > old + 0.5
        assert new - old > worst - worse + 1.5
    agent.save(tmp_path / "model")
    loaded = dpo.DPO.load(tmp_path / "model", device="cpu")
    obs = texts().reset()
    expected = agent.predict(obs, deterministic=True)[0]
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], expected)
    assert loaded.objective == agent.objective


def test_a_resumed_training_on_a_file_is_the_same(lm: str, tmp_path: Path) -> None:
    file = written(PAIRS * 2 + MORE, tmp_path)

    def agent(**settings: Any) -> Any:
        return make(lm, file, loss="kto", held_out=0.4, held_out_every=3, **settings)

    def weights(one: Any) -> torch.Tensor:
        return torch.cat([weight.detach().flatten() for weight in one.policy.lm.parameters()])

    whole = agent().learn(300)
    part = agent()
    part.learn(300, callback=lambda known, _: known["self"]._updates < 4)
    # A callback has ended it after an update, which is a place where it can be saved.
    save_checkpoint(part, tmp_path / "saved")
    again = agent()
    load_checkpoint(again, tmp_path / "saved")
    again.learn(300 - again.num_timesteps, reset_num_timesteps=False)
    assert again.num_timesteps == whole.num_timesteps
    assert torch.equal(weights(again), weights(whole))
    with pytest.raises(SettingsError, match=r"objective\.beta was 0\.1 and is 0\.2"):
        load_checkpoint(agent(beta=0.2), tmp_path / "saved")
    written(PAIRS, tmp_path)
    with pytest.raises(SettingsError, match=r"data\.pairs was"):
        load_checkpoint(agent(), tmp_path / "saved")


def test_held_out_pairs_are_not_learned(lm: str, tmp_path: Path) -> None:
    agent = make(lm, written(MORE, tmp_path), held_out=0.4, n_epochs=1, held_out_every=None)
    logged: dict[str, Any] = {}
    agent.learn(10_000, callback=lambda known, _: logged.update(known["self"].logger.name_to_value)
                or True)  # fmt: skip
    alone = make(lm, written(MORE[:1] * 2, tmp_path), held_out=0.999).learn(1)
    assert (len(alone._data.to_learn), len(alone._data.held_out)) == (2, 0), "one prompt is learned"
    data = agent._data
    assert 0 < len(data.held_out) < 7
    assert len(data.to_learn) + len(data.held_out) == 7
    assert not set(data.to_learn.keys) & set(data.held_out.keys)
    assert {"train/loss", "train/accuracy", "train/margin", "held_out/accuracy"} <= logged.keys()
    assert math.isfinite(logged["train/loss"])
