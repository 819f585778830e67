from __future__ import annotations

import csv
from collections import Counter
from functools import partial

import numpy as np
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from tests.lm.checkpoints import WORDS
from textgym.sb3 import make_vec_env
from textgym.sb3.logging import RewardTermsCallback


def low(prompts, completions, **_):
    return [sum(word[1:] < "2" for word in text.split()) / 10 for text in completions]


def words(completions):
    return [None if text == "" else float(len(text.split())) for text in completions]


class Witness(BaseCallback):
    """All that ended, and at which timesteps; from the environment itself."""

    def __init__(self):
        super().__init__()
        self.ended = []

    def _on_step(self):
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            if done:
                self.ended.append((self.num_timesteps, info))
        return True


def environment(**kwargs):
    return make_vec_env(
        "TextGen-v0", 4, seed=0, prompts=["w1", "w2 w3"], tokenizer=WORDS,
        reward={low: 1.0, words: 0.1}, max_prompt_tokens=2, max_new_tokens=5, **kwargs,
    )  # fmt: skip


def logged(model, folder, steps, **kwargs):
    witness = Witness()
    model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
    model.learn(steps, callback=[witness, RewardTermsCallback()], **kwargs)
    model.logger.close()
    with (folder / "progress.csv").open() as file:
        return witness.ended, [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def expected(infos, reasons):
    """The means, from the infos alone."""
    told = {"episode/count": len(infos)}
    told["episode/reward"] = np.mean([info["episode"]["r"] for info in infos])
    told["episode/length"] = np.mean([info["episode"]["l"] for info in infos])
    judged = [info for info in infos if "reward_terms" in info]
    if judged:
        texts = [info["response"] for info in judged]
        told["episode/characters"] = np.mean([len(text) for text in texts])
        told["reward_terms/low"] = np.mean(low(texts, texts))
        applies = [value for value in words(texts) if value is not None]
        if applies:
            told["reward_terms/words"] = np.mean(applies)
    if judged and "cost" in infos[0]:
        told["episode/cost"] = told["cost_terms/size"] = told["episode/characters"]
    found = Counter(info.get("finish_reason", "truncated") for info in infos)
    return told | {f"episode/finish_{one}": found[one] / len(infos) for one in reasons}


def check(ended, rows):
    """Each row of the log has the means of the episodes since the row before."""
    before, reasons, seen = 0, set(), 0
    for row in rows:
        now = row["time/total_timesteps"]
        infos = [info for at, info in ended if before < at <= now]
        before = now
        reasons |= {info.get("finish_reason", "truncated") for info in infos}
        ours = {
            key: value for key, value in row.items()
            if key.partition("/")[0] in ("episode", "reward_terms", "cost_terms")
        }  # fmt: skip
        if infos:
            assert ours == pytest.approx(expected(infos, reasons), rel=1e-4, abs=1e-4)
        else:
            assert not ours
        seen += len(infos)
    assert seen > 20
    return reasons


def size(prompts, completions, **_):
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize("interval", [1, 3])
def test_on_policy(tmp_path, interval):
    make = partial(PPO, "MlpPolicy", n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu")
    model = make(environment(costs={"size": size}, stop=["w7"]))
    ended, rows = logged(model, tmp_path, 32 * 12, log_interval=interval)
    assert len(rows) == 12 // interval
    assert check(ended, rows) >= {"eos", "stop", "length"}


def test_truncated_episodes(tmp_path):
    model = PPO("MlpPolicy", environment(max_episode_steps=3), n_steps=8, batch_size=32, n_epochs=1,
                seed=0, device="cpu")  # fmt: skip
    ended, rows = logged(model, tmp_path, 32 * 6)
    assert check(ended, rows) == {"eos", "truncated"}
    assert all(0 < row["episode/finish_truncated"] <= 1 for row in rows)


def test_off_policy_and_a_training_that_goes_on(tmp_path):
    model = DQN("MlpPolicy", environment(), learning_starts=20, train_freq=1, buffer_size=500,
                batch_size=8, seed=0, device="cpu")  # fmt: skip
    ended, rows = logged(model, tmp_path / "a", 200, log_interval=10)
    check(ended, rows)
    more, rows = logged(model, tmp_path / "b", 200, log_interval=10, reset_num_timesteps=False)
    first = rows[0]["time/total_timesteps"]
    assert rows[0]["episode/count"] == sum(at <= first for at, _ in more)


def test_tensorboard_shows_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = PPO("MlpPolicy", environment(), n_steps=8, batch_size=32, n_epochs=1, seed=0,
                device="cpu")  # fmt: skip
    _, rows = logged(model, tmp_path, 32 * 4)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("reward_terms/low", "reward_terms/words", "episode/finish_eos"):
        values = [event.value for event in events.Scalars(name)]
        assert values == pytest.approx([row[name] for row in rows if name in row], rel=1e-5)
        assert len(values) >= 3
