"""An interrupted training resumes with the same curve, number for number.

The truth is the training that was never interrupted, nor saved. Everything that the other one logs
after its checkpoint, and every weight at the end, has to be the same number.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env as make_stock_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecCheckNan, VecEnvWrapper, VecNormalize

from tests.sb3.rollouts import make_model
from textgym.errors import DataError, SettingsError
from textgym.lm import LanguageModel
from textgym.lm.weights import weights_hash
from textgym.sb3 import (
    Checkpoints,
    LMPolicy,
    LMRolloutBuffer,
    latest_checkpoint,
    load_checkpoint,
    resume,
    save_checkpoint,
)
from textgym.sb3.checkpoints.env_state import get_env_state, set_env_state
from textgym.sb3.checkpoints.validation import plain_values
from textgym.storage import value_files as values_file
from textgym.storage.value_files import read_values, write_values
from textgym.testing.vector import assert_same

ROOT = Path(__file__).parents[2]
MakeEnv = Callable[..., Any]
STEPS = 30  # A rollout of 6 rows and 5 steps each.


class Memory(KVWriter):
    """Keeps what is logged, but for times."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
        kept = {k: v for k, v in key_values.items() if not k.startswith("time/")}
        self.rows.append({**kept, "step": step})

    def close(self) -> None:
        pass


class Journal(BaseCallback):
    """Keeps what happened: every action, reward, value and coefficient."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        told = ("actions", "rewards", "dones", "values", "log_probs", "new_obs")
        self.seen.append([np.array(self.locals[name].tolist()) for name in told])
        return True

    def _on_rollout_end(self) -> None:
        self.seen.append(getattr(self.model.rollout_buffer, "stats", {}).copy())


def train(
    model: Any, left: int, *callbacks: BaseCallback, reset: bool = False, journal: Any = None
) -> Any:
    """Train; what was logged, and what happened, as a journal notes it."""
    memory, journal = Memory(), journal or Journal()
    if model._custom_logger:  # With what was restored into it.
        model.logger.output_formats[:] = [memory]
    else:
        model.set_logger(Logger(None, [memory]))
    model.learn(left, callback=[*callbacks, journal], reset_num_timesteps=reset)
    return memory.rows, journal.seen


def weights(model: Any) -> dict[str, Any]:
    state = model.get_parameters()
    return {
        **{name: value.numpy() for name, value in state["policy"].items()},
        "optimizer": [
            {key: np.asarray(value) for key, value in entry.items()}
            for entry in state["policy.optimizer"]["state"].values()
        ],
    }


def disturb() -> None:
    """Put every random generator into another state, as in another process."""
    random.seed(123)
    np.random.seed(123)
    torch.manual_seed(123)


def makers(make_env: MakeEnv, checkpoint: Callable[..., str]) -> dict[str, Callable[[], Any]]:
    lm = checkpoint()
    penalty = {"kl_coef": 0.1, "kl_target": 0.01, "reference": lm}

    def ppo() -> Any:
        return make_model(PPO, make_env(), lm, rollout_buffer_kwargs=penalty)

    def a2c() -> Any:
        # A schedule, and Adam's twin with a state of another form.
        return make_model(
            A2C, make_env(), lm, learning_rate=lambda left: 1e-3 * left, rollout_buffer_kwargs={}
        )

    def lora() -> Any:
        own = {"kl_coef": 0.1, "kl_target": 0.05, "reference": "base"}
        return lm_model(make_env(), lm, rollout_buffer_kwargs=own, lora={"r": 2})

    def sampling() -> Any:
        drawn = {"temperature": 0.7, "top_k": 5}
        return lm_model(make_env(), lm, rollout_buffer_kwargs=penalty, sampling=drawn)

    def rates() -> Any:
        # The value head alone is trained in 9 steps, and a checkpoint is in between.
        own = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}
        rates = {"value_lr_factor": 3.0, "value_warmup": 9, "micro_batch": 2}
        return lm_model(make_env(), lm, rollout_buffer_kwargs=penalty, **own, **rates)

    def whole_episodes() -> Any:
        # 5 steps of up to 7 tokens: what waits for its end is a part of the state.
        drawn = {"top_p": 0.8}
        waiting = {**penalty, "whole_episodes": True}
        return lm_model(make_env(), lm, rollout_buffer_kwargs=waiting, sampling=drawn)

    def stock_buffer() -> Any:
        return make_model(PPO, make_env(), lm, buffer=None, clip_range=lambda left: 0.3 * left)

    def mlp() -> Any:
        env = VecNormalize(VecCheckNan(make_env()), norm_obs=True)
        return PPO("MlpPolicy", env, n_steps=5, batch_size=10, seed=0, device="cpu")

    return {
        "ppo": ppo,
        "a2c": a2c,
        "lora": lora,
        "rates": rates,
        "sampling": sampling,
        "whole episodes": whole_episodes,
        "stock buffer": stock_buffer,
        "mlp": mlp,
    }


def lm_model(
    env: Any, lm: str, rollout_buffer_kwargs: dict[str, Any] | None = None, **others: Any
) -> Any:
    """A model by its policy's arguments; those of the algorithm go to it."""
    algorithm = {key: others.pop(key) for key in ("gamma", "gae_lambda") if key in others}
    settings = {"n_steps": 5, "batch_size": 30, "n_epochs": 2, "learning_rate": 1e-2, "seed": 0}
    return PPO(
        LMPolicy,
        env,
        policy_kwargs={"lm": lm, **others},
        rollout_buffer_class=LMRolloutBuffer,
        rollout_buffer_kwargs=rollout_buffer_kwargs or {},
        device="cpu",
        **settings,
        **algorithm,
    )


# ---------------------------------------------------------------------- the same curve


@pytest.mark.parametrize(
    "kind", ["ppo", "a2c", "lora", "rates", "sampling", "whole episodes", "stock buffer", "mlp"]
)
def test_same_numbers(
    kind: str, make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    make = makers(make_env, checkpoint)[kind]
    whole = make()
    rows, seen = train(whole, 6 * STEPS, reset=True)

    class Killed(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 4 * STEPS + 12:
                raise RuntimeError("killed")
            return True

    first = make()
    with pytest.raises(RuntimeError, match="killed"):
        train(first, 6 * STEPS, Checkpoints(tmp_path, every=2 * STEPS), Killed(), reset=True)

    disturb()
    second = make()
    left = resume(second, tmp_path, 6 * STEPS)
    assert left == 2 * STEPS
    assert second.num_timesteps == 4 * STEPS
    rows_after, seen_after = train(second, left, Checkpoints(tmp_path, every=2 * STEPS))
    assert_same(rows[4:], rows_after, "what is logged")
    assert_same(seen[4 * 6 :], seen_after, "what happened")
    assert_same(weights(whole), weights(second), "weights and optimizer")
    assert_same(
        [(e["r"], e["l"]) for e in whole.ep_info_buffer],
        [(e["r"], e["l"]) for e in second.ep_info_buffer],
    )
    assert second.num_timesteps == whole.num_timesteps
    assert second._n_updates == whole._n_updates
    if kind == "whole episodes":
        assert second.rollout_buffer.unfinished() is not None
    if kind in ("ppo", "lora", "sampling"):
        kl = whole.rollout_buffer.kl
        assert second.rollout_buffer.kl.coef == kl.coef != 0.1
        assert seen[5]["kl"] == pytest.approx(0, abs=1e-6), "nothing is learned yet"
        assert abs(seen[-1]["kl"]) > 1e-3
    if kind == "lora":
        start, end = weights(make()), weights(second)
        trained = {name for name, value in start.items()
                   if name != "optimizer" and not np.array_equal(value, end[name])}  # fmt: skip
        assert {"lora" in name or "value" in name for name in trained} == {True}
    if kind == "ppo":
        assert rows[4]["train/learning_rate"] == 1e-3, "an update's figures are logged later"


def test_every_boundary_will_do(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """From each checkpoint the same end; and the memo of the decoder is cold at each."""
    make = makers(make_env, checkpoint)["ppo"]
    whole = make()
    rows, _ = train(whole, 5 * STEPS, Checkpoints(tmp_path, every=1, keep=9), reset=True)
    files = sorted(tmp_path.iterdir())
    assert [int(file.stem[-3:]) for file in files] == [30, 60, 90, 120, 150]
    for number, file in enumerate(files[:-1], 1):
        disturb()
        model = make()
        model.set_logger(Logger(None, []))
        load_checkpoint(model, file)
        left = 5 * STEPS - model.num_timesteps
        assert_same(rows[number:], train(model, left)[0], file.name)
        assert_same(weights(whole), weights(model), file.name)


def test_the_memo_is_cold_between_update_and_rollout(
    make_env: MakeEnv, checkpoint: Callable[..., str]
) -> None:
    """Training empties it, so that an uninterrupted run prefills as well."""
    model = makers(make_env, checkpoint)["ppo"]()
    drop, dropped = model.policy.decoder.invalidate, []

    def invalidate() -> None:
        dropped.append(model.num_timesteps)
        drop()

    model.policy.decoder.invalidate = invalidate
    model.learn(3 * STEPS)
    assert {STEPS, 2 * STEPS, 3 * STEPS} <= set(dropped)


def test_an_evaluation_between_two_trainings_changes_nothing(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """It warms the decoder and draws random numbers: both are as saved again."""
    make = makers(make_env, checkpoint)["ppo"]
    whole = make()
    whole.learn(2 * STEPS, callback=Checkpoints(tmp_path))
    whole.predict(whole.rollout_buffer.observations[-1])
    drop, dropped = whole.policy.decoder.invalidate, []
    whole.policy.decoder.invalidate = lambda: dropped.append(drop())
    load_checkpoint(whole, tmp_path)
    assert dropped, "although the weights are the same"
    rows, _ = train(whole, 2 * STEPS)
    other = make()
    assert resume(other, tmp_path, 4 * STEPS) == 2 * STEPS
    assert_same(rows, train(other, 2 * STEPS)[0])


def test_a_longer_training_goes_on(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """The state at the end of `learn` is the one before the next rollout."""
    make = makers(make_env, checkpoint)["ppo"]
    whole = make()
    rows, _ = train(whole, 4 * STEPS, reset=True)
    short = make()
    short.learn(2 * STEPS, callback=Checkpoints(tmp_path))
    longer = make()
    left = resume(longer, tmp_path, 4 * STEPS)
    for name in ("_last_obs", "_last_episode_starts", "_total_timesteps", "_n_updates"):
        assert_same(getattr(longer, name), getattr(short, name), name)
    assert short._last_episode_starts.tolist() != [True] * 6
    after, _ = train(longer, left, Checkpoints(tmp_path))
    assert_same(rows[2:], after)
    assert_same(weights(whole), weights(longer))
    done = make()
    assert resume(done, tmp_path, 4 * STEPS) == 0
    done.learn(0, callback=Checkpoints(tmp_path), reset_num_timesteps=False)
    assert_same(weights(whole), weights(done))


def test_the_script_that_starts_is_the_one_that_resumes(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """With no checkpoint yet, ``reset_num_timesteps=False`` starts a new model as True does."""
    make = makers(make_env, checkpoint)["ppo"]
    truth = train(make(), 2 * STEPS, reset=True)
    other = make()
    assert resume(other, tmp_path / "none", 2 * STEPS) == 2 * STEPS
    assert_same(truth, train(other, 2 * STEPS, reset=False))


def test_stop_saves_and_interrupts(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    make = makers(make_env, checkpoint)["ppo"]
    model, callback = make(), Checkpoints(tmp_path)

    class Signal(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == STEPS + 6:
                callback.stop()
            return True

    with pytest.raises(KeyboardInterrupt):
        model.learn(9 * STEPS, callback=[Signal(), callback])
    assert model.num_timesteps == 2 * STEPS
    other = make()
    assert resume(other, tmp_path, 9 * STEPS) == 7 * STEPS
    assert_same(weights(model), weights(other))


class End(BaseCallback):
    """Ends the training in some step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        return self.num_timesteps < self.at


@pytest.mark.parametrize("kind", ["ppo", "mlp"])
@pytest.mark.parametrize("step", [1, 3])
def test_a_training_that_a_callback_ends_in_mid_rollout(
    step: int, kind: str, make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """The rollout is incomplete then, and is not saved.

    In the first step the buffer is still empty, but the environment is one step ahead.
    """
    model = makers(make_env, checkpoint)[kind]()
    model.learn(9 * STEPS, callback=[End(STEPS + 6 * step), Checkpoints(tmp_path, every=1)])
    assert model.rollout_buffer.pos == step - 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-000000000030.safetensors"]
    with pytest.raises(SettingsError, match="middle of a rollout"):
        save_checkpoint(model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_ends_in_the_very_first_step(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    model = makers(make_env, checkpoint)["ppo"]()
    model.learn(9 * STEPS, callback=End(6))
    assert model.rollout_buffer.pos == 0
    with pytest.raises(SettingsError, match="middle of a rollout"):
        save_checkpoint(model, tmp_path)


def test_an_environment_that_something_else_used(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    model = makers(make_env, checkpoint)["ppo"]()
    model.learn(STEPS)
    model.env.reset()
    with pytest.raises(SettingsError, match="middle of a rollout"):
        save_checkpoint(model, tmp_path)


@pytest.mark.parametrize("kind", ["ppo", "mlp"])
def test_between_two_rollouts_it_can_always_be_saved(
    kind: str, make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """Before the first one, after `learn`, right after loading, and in `on_rollout_start`."""
    make = makers(make_env, checkpoint)[kind]

    class Save(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            save_checkpoint(self.model, tmp_path / "rollouts")

    model = make()
    save_checkpoint(model, tmp_path / "first")
    model.learn(2 * STEPS, callback=Save())
    assert len(list((tmp_path / "rollouts").iterdir())) == 2
    path = save_checkpoint(model, tmp_path / "after")
    other = make()
    load_checkpoint(other, path)
    again = save_checkpoint(other, tmp_path / "again")
    one, two = read_values(path), read_values(again)
    for values in (one, two):
        values["environment"][-2 if kind == "ppo" else 0].pop("seconds", None)
    assert_same(one["last_obs"], two["last_obs"])
    assert_same(one["environment"][-1], two["environment"][-1])


# ---------------------------------------------------------------------- files


def test_old_checkpoints_go(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    model = makers(make_env, checkpoint)["mlp"]()
    model.learn(5 * STEPS, callback=Checkpoints(tmp_path, every=STEPS, keep=2))
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"checkpoint-{steps:012d}.safetensors" for steps in (120, 150)]
    assert latest_checkpoint(tmp_path) == tmp_path / names[-1]
    assert latest_checkpoint(tmp_path / "none") is None


def test_extra(make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path) -> None:
    make = makers(make_env, checkpoint)["mlp"]
    extra = {"note": "é", "list": [1, (2.5, None)], "array": np.arange(3), "t": torch.ones(2)}
    make().learn(STEPS, callback=Checkpoints(tmp_path, extra=lambda: extra))
    found = load_checkpoint(make(), tmp_path)
    assert torch.equal(found.pop("t"), torch.ones(2))
    assert_same(found, {key: value for key, value in extra.items() if key != "t"})


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.arange(60_000.0)
    values: dict[str, Any] = {
        "tied": tied,
        "tied too": tied,
        "part": tied[2:4],
        "transposed": torch.arange(6).reshape(2, 3).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "arrays": [np.array(3.0), np.zeros((0, 2), np.int8), np.uint32([2**32 - 1]), np.float32(7)],
        "mask": np.array([True, False]),
        "words": np.array(["a", "bc"]),
        "order": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "mixed": {1: ("x", float("nan")), "$type": "mine"},
        "states": [random.getstate(), np.random.get_state(legacy=False)],
    }
    path = tmp_path / "x.safetensors"
    write_values(path, values)
    found = read_values(path)
    assert repr(found.pop("mixed")) == repr(values.pop("mixed"))
    for key, value in values.items():
        if not isinstance(value, torch.Tensor):
            assert_same(found[key], value, key)
            continue
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value), key
    assert path.stat().st_size < 1.5 * tied.nbytes, "one tensor of two names is stored once"
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no partial file is left"


def test_nothing_is_unpickled(
    make_env: MakeEnv,
    checkpoint: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = makers(make_env, checkpoint)["ppo"]
    make().learn(STEPS, callback=Checkpoints(tmp_path))
    model = make()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was unpickled")

    for module in ("pickle", "_pickle"):
        for name in ("load", "loads", "Unpickler"):
            monkeypatch.setattr(f"{module}.{name}", refuse)
    monkeypatch.setattr("torch.load", refuse)
    load_checkpoint(model, tmp_path)
    assert model.num_timesteps == STEPS


KILLED = """
import importlib.util, os, random, signal, sys, time
from pathlib import Path
import torch
# The module alone: its package takes seconds to import.
spec = importlib.util.spec_from_file_location("values", sys.argv[3])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
write_values = module.write_values
torch.set_num_threads(1)
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
final = folder / "checkpoint-000000000001.safetensors"
partial = final.with_name(final.name + ".partial")
def written():
    return final.stat().st_mtime_ns if final.exists() else 0
for round in range(rounds):
    before = written()
    child = os.fork()
    if child == 0:
        while True:
            number = time.monotonic_ns()
            tensors = {str(k): torch.full((20_000,), float(number % 999 + k)) for k in range(5)}
            write_values(final, {"number": number, "tensors": tensors})
    # By what it does, not by the clock: a busy machine may let it wait for long.
    while written() == before or (round % 2 and not partial.exists()):
        time.sleep(0.0002)
    time.sleep(random.uniform(0, 0.01) * (round % 2 == 0))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    rounds, partial, newest = 12, 0, []
    arguments = [str(tmp_path), str(rounds), str(values_file.__file__)]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(rounds):
            assert process.stdout.readline() == "killed\n"
            partial += (tmp_path / "checkpoint-000000000001.safetensors.partial").exists()
            file = latest_checkpoint(tmp_path)
            if file is not None:
                values = read_values(file)
                newest.append(values["number"])
                for key, tensor in values["tensors"].items():
                    expected = torch.full((20_000,), float(newest[-1] % 999 + int(key)))
                    assert torch.equal(tensor, expected)
            process.stdin.write("\n")
            process.stdin.flush()
    assert newest == sorted(newest), "never an older one"
    assert len(set(newest)) > 1
    assert partial > 0, "no kill ever met a write: the test proves nothing"


def test_partial_files_of_a_killed_run_are_removed(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    make = makers(make_env, checkpoint)["mlp"]
    make().learn(STEPS, callback=Checkpoints(tmp_path))
    (tmp_path / "checkpoint-000000000060.safetensors.partial").write_text("half")
    model = make()
    left = resume(model, tmp_path, 2 * STEPS)
    model.learn(left, callback=Checkpoints(tmp_path, keep=1), reset_num_timesteps=False)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-000000000060.safetensors"]


# ---------------------------------------------------------------------- devices


def test_generators_of_a_gpu_do_not_matter_to_a_cpu(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    make = makers(make_env, checkpoint)["mlp"]
    make().learn(STEPS, callback=Checkpoints(tmp_path))
    path = latest_checkpoint(tmp_path)
    assert path is not None
    values = read_values(path)
    values["generators"]["cuda"] = [torch.arange(16, dtype=torch.uint8)]
    write_values(path, values)
    load_checkpoint(make(), tmp_path)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_model_that_was_saved_on_a_gpu_loads_on_a_cpu(
    device: str,
    make_env: MakeEnv,
    checkpoint: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The zip says where each tensor lay. Here it says so of tensors that never saw a GPU."""
    if device == "auto" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    model = makers(make_env, checkpoint)["ppo"]()
    model.learn(STEPS)
    with monkeypatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda storage: "cuda:0")
        model.save(tmp_path / "model")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            load_stored(tmp_path / "model.zip")
    loaded = PPO.load(tmp_path / "model", device=device)
    assert_same(weights(loaded), weights(model))
    assert {p.device.type for p in loaded.policy.parameters()} == {"cpu"}
    assert loaded.rollout_buffer.kl.model.device.type == "cpu"
    loaded.set_env(make_env())
    loaded.learn(STEPS)


def load_stored(path: Path) -> Any:
    """The weights in a zip, where they say that they lay."""
    import zipfile

    with zipfile.ZipFile(path) as archive, archive.open("policy.pth") as file:
        return torch.load(file, weights_only=True)


def test_a_saved_model_keeps_the_adapted_coefficient(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    given = {"kl_coef": 0.1, "kl_target": 0.01, "reference": checkpoint()}
    model = make_model(PPO, make_env(), checkpoint(), rollout_buffer_kwargs=given)
    model.learn(3 * STEPS, callback=Checkpoints(tmp_path / "checkpoints"))
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    assert loaded.rollout_buffer.kl.coef == model.rollout_buffer.kl.coef != 0.1
    assert given["kl_coef"] == 0.1, "the caller's dictionary is his own"


# ---------------------------------------------------------------------- environments


def test_every_layer_goes_on(make_env: MakeEnv) -> None:
    def lengths(completions: list[str], **_: Any) -> list[float]:
        return [len(text.split()) / 10 for text in completions]

    # A reward in every step, so that there are returns on the way.
    inner = [make_env(step_reward=lengths) for _ in range(2)]
    envs = [VecNormalize(VecCheckNan(env), norm_obs=False, gamma=0.9) for env in inner]
    env, other = envs
    rng = np.random.default_rng(0)
    env.reset()
    for _ in range(9):
        env.step(rng.integers(0, 23, 6))
    state = get_env_state(env)
    other.reset()
    set_env_state(other, state)
    assert_same(env.unwrapped.reset_infos, other.unwrapped.reset_infos)
    for _ in range(40):
        actions = rng.integers(0, 23, 6)
        one, two = env.step(actions), other.step(actions)
        for info in (*one[3], *two[3]):
            info.get("episode", {}).pop("t", None)
        assert_same(one, two)
        assert_same(env.unwrapped.reset_infos, other.unwrapped.reset_infos)
    assert other.venv.venv.reset_infos is other.unwrapped.reset_infos, "the list stays shared"
    assert env.venv.venv.episode_count == other.venv.venv.episode_count > 0


def test_seeds_and_options_that_wait(make_env: MakeEnv) -> None:
    env, other = make_env(), make_env(seed=99)
    env.seed(5)
    env.set_options({"prompt": "w1 w2"})
    set_env_state(other, get_env_state(env))
    assert_same(env.reset(), other.reset())
    assert_same(env.reset(), other.reset())


class Forgetful(VecEnvWrapper):
    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


class Counting(Forgetful):
    count = 0

    def step_wait(self) -> Any:
        self.count += 1
        return self.venv.step_wait()

    def get_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def set_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def test_wrappers_of_ones_own(make_env: MakeEnv, tmp_path: Path) -> None:
    def make(env: Any) -> Any:
        return PPO("MlpPolicy", env, n_steps=5, batch_size=10, device="cpu")

    model, other = make(Counting(make_env())), make(Counting(make_env()))
    model.learn(STEPS, callback=Checkpoints(tmp_path))
    load_checkpoint(other, tmp_path)
    assert other.env.count == 5
    with pytest.raises(SettingsError, match="Counting > VecMonitor"):
        load_checkpoint(make(make_env()), tmp_path)
    with pytest.raises(SettingsError, match=r"Forgetful.*get_state"):
        make(Forgetful(make_env())).learn(STEPS, callback=Checkpoints(tmp_path / "other"))


# ---------------------------------------------------------------------- what is refused


def test_other_trainings_are_refused(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    lm = checkpoint()
    make_model(PPO, make_env(), lm).learn(STEPS, callback=Checkpoints(tmp_path))
    for other, words in (
        (make_model(A2C, make_env(), lm), "algorithm was 'PPO' and is 'A2C'"),
        (make_model(PPO, make_env(), lm, n_steps=10), "n_steps was 5 and is 10"),
        (make_model(PPO, make_env(5), lm, batch_size=25), "n_envs was 6 and is 5"),
        (make_model(PPO, make_env(max_new_tokens=6), lm), "observations was"),
        (make_model(PPO, make_env(prompts=["w1"]), lm), "prompts was"),
        (make_model(PPO, make_env(), checkpoint("llama")), "parameter policy.lm"),
        (
            PPO("MlpPolicy", make_env(), n_steps=5, batch_size=10, device="cpu"),
            "policy was 'LMPolicy'",
        ),
    ):
        before = get_env_state(other.env)
        with pytest.raises(SettingsError, match=words):
            load_checkpoint(other, tmp_path)
        assert other.num_timesteps == 0
        assert_same(get_env_state(other.env)[-1], before[-1], "nothing changes")


PENALTY = {"kl_coef": 0.1, "reference": "base"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lora": {"r": 2, "lora_alpha": 64}}, [r"lora\.lora_alpha was 4 and is 64"]),
        (
            {"sampling": {"temperature": 0.3}, "gamma": 0.5},
            ["gamma was 0.99 and is 0.5", r"sampling\.temperature was 1\.0 and is 0\.3"],
        ),
        ({"sampling": {"top_k": 5}}, [r"sampling\.top_k was None and is 5"]),
        ({"dtype": "bfloat16"}, ["dtype was 'auto' and is 'bfloat16'"]),
        ({"gae_lambda": 0.5}, ["gae_lambda was 0.95 and is 0.5"]),
        ({"optimizer_kwargs": {"weight_decay": 0.1}}, ["weight_decay was None and is 0.1"]),
        ({"rollout_buffer_kwargs": PENALTY | {"kl_coef": 0.2}}, ["kl_coef was 0.1 and is 0.2"]),
        (
            {"rollout_buffer_kwargs": PENALTY | {"kl_target": 0.1}},
            ["kl_target was None and is 0.1", "kl_coef was 0.1 and is 'adaptive'"],
        ),
        ({"rollout_buffer_kwargs": PENALTY | {"reference": 0}}, ["reference was 'base' and is 'w"]),
        ({"rollout_buffer_kwargs": {}}, ["reference was 'base' and is None"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_other_settings_are_refused(
    changed: dict[str, Any],
    words: list[str],
    make_env: MakeEnv,
    checkpoint: Callable[..., str],
    tmp_path: Path,
) -> None:
    """They have no shape, so the weights would fit."""
    lm = checkpoint()
    given: dict[str, Any] = {
        "lora": {"r": 2, "lora_alpha": 4}, "rollout_buffer_kwargs": PENALTY, "gamma": 0.99
    }  # fmt: skip
    path = save_checkpoint(lm_model(make_env(), lm, **given), tmp_path)
    other = {**given, **changed}
    if other["rollout_buffer_kwargs"].get("reference") == 0:
        other["rollout_buffer_kwargs"] = {"kl_coef": 0.1, "reference": lm}
    model = lm_model(make_env(), lm, **other)
    before = weights(model)
    with pytest.raises(SettingsError, match="another training") as error:
        load_checkpoint(model, path)
    missing = [word for word in words if not re.search(word, str(error.value))]
    assert missing == [], str(error.value)
    assert_same(weights(model), before, "nothing changes")


def test_another_reference_is_refused_and_its_copy_is_not(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """The policy's weights are in the checkpoint, but those of the reference are not."""
    copied = shutil.copytree(checkpoint(), tmp_path / "copy")

    def make(lm: str, reference: str, dtype: str = "auto") -> Any:
        own = {"kl_coef": 0.1, "kl_target": 0.05, "reference": reference, "reference_dtype": dtype}
        return lm_model(make_env(), lm, rollout_buffer_kwargs=own)

    first = make(checkpoint(), checkpoint())
    first.learn(STEPS, callback=Checkpoints(tmp_path / "saved"))
    load_checkpoint(make(str(copied), str(copied)), tmp_path / "saved")
    assert first.rollout_buffer.kl.coef != 0.1, "an adapted coefficient is no difference"
    with pytest.raises(SettingsError, match=r"reference .*'weights \w+'.*'weights \w+'"):
        load_checkpoint(make(str(copied), checkpoint(seed=1)), tmp_path / "saved")
    with pytest.raises(SettingsError, match=r"reference_dtype .*'auto'.*'bfloat16'"):
        load_checkpoint(make(str(copied), str(copied), "bfloat16"), tmp_path / "saved")


def test_weights_have_one_name_in_every_precision(checkpoint: Callable[..., str]) -> None:
    """A reference is float32 on a CPU and bfloat16 on a GPU."""
    exact, rounded, other = (
        LanguageModel.load(checkpoint(seed=seed), device="cpu", dtype=dtype)
        for seed, dtype in ((0, "float32"), (0, "bfloat16"), (1, "float32"))
    )
    assert weights_hash(exact) == weights_hash(rounded)
    assert weights_hash(exact) != weights_hash(other)


def test_what_may_be_another(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    """How fast it is computed, and what is for the first weights or scheduled."""
    path = save_checkpoint(lm_model(make_env(), checkpoint()), tmp_path)
    adam = {"eps": 1e-5, "foreach": True}  # (The first is what SB3 takes if nothing is said.)
    others = {"cache": False, "gradient_checkpointing": True, "optimizer_kwargs": adam}
    load_checkpoint(lm_model(make_env(), checkpoint(), **others), path)


def test_functions_have_the_same_name_in_every_process() -> None:
    """An address in memory differs between processes."""

    class Thing:
        pass

    def function() -> None:
        pass

    values = {"a": [torch.nn.Tanh, function, Thing()], "b": {3: (1, None, 0.5)}, "c": {"y", "x"}}
    plain = plain_values(values)
    assert "0x" not in repr(plain)
    assert plain["a"][0] == "Tanh"
    assert plain["b"] == {"3": [1, None, 0.5]}
    assert plain["c"] == ["'x'", "'y'"]


def test_a_folder_belongs_to_one_training(
    make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    make = makers(make_env, checkpoint)["mlp"]
    make().learn(STEPS, callback=Checkpoints(tmp_path))
    with pytest.raises(SettingsError, match=r"30 timesteps.*resume"):
        make().learn(STEPS, callback=Checkpoints(tmp_path))


class Bandit:
    """An agent of one's own: it goes back and forth between two words, with noise."""

    def __init__(self, venv: Any, size: int = 3) -> None:
        self.venv, self.num_timesteps = venv, 0
        self.memory = np.zeros(size)
        self.obs: Any = None

    def get_env(self) -> Any:
        return self.venv

    def get_state(self) -> dict[str, Any]:
        return {"memory": self.memory, "obs": self.obs}

    def set_state(self, state: dict[str, Any]) -> None:
        if state["memory"].shape != self.memory.shape:
            raise ValueError(f"its memory has {len(state['memory'])} places")
        self.memory, self.obs = state["memory"].copy(), state["obs"]

    def step(self) -> list[Any]:
        if self.obs is None:
            self.obs = self.venv.reset()
        place = int(np.random.randint(len(self.memory)))
        actions = np.full(self.venv.num_envs, int(self.memory[place]) % 2)
        self.obs, rewards, _, _ = self.venv.step(actions)
        self.memory[place] += 1
        self.num_timesteps += self.venv.num_envs
        return [place, self.obs.tolist(), rewards.tolist(), self.num_timesteps]


def test_an_agent_of_ones_own(make_env: MakeEnv, tmp_path: Path) -> None:
    agent = Bandit(make_env())
    for _ in range(7):
        agent.step()
    save_checkpoint(agent, tmp_path, extra={"known": 1})
    expected = [agent.step() for _ in range(9)]
    other = Bandit(make_env())
    np.random.seed(99)
    assert load_checkpoint(other, tmp_path) == {"known": 1}
    assert [other.step() for _ in range(9)] == expected


def test_an_agent_of_ones_own_that_refuses(make_env: MakeEnv, tmp_path: Path) -> None:
    """Its environment stays where it was."""
    agent = Bandit(make_env())
    agent.step()
    save_checkpoint(agent, tmp_path)
    larger, twin = Bandit(make_env(), size=5), Bandit(make_env(), size=5)
    for each in (larger, twin):
        each.obs = each.venv.reset()
    with pytest.raises(SettingsError, match="another Bandit"):
        load_checkpoint(larger, tmp_path)
    np.random.seed(1)
    after = larger.step()
    np.random.seed(1)
    assert after == twin.step()
    with pytest.raises(SettingsError, match=r"algorithm .*'Bandit'.*'PPO'"):
        load_checkpoint(PPO("MlpPolicy", make_env(), device="cpu"), tmp_path)


def test_what_cannot_be_resumed(make_env: MakeEnv, tmp_path: Path) -> None:
    dqn = DQN("MlpPolicy", make_env(), buffer_size=100, device="cpu")
    with pytest.raises(SettingsError, match=r"DQN.*ReplayBuffer.*LMReplayBuffer"):
        dqn.learn(6, callback=Checkpoints(tmp_path))
    with pytest.raises(SettingsError, match="DQN"):
        save_checkpoint(dqn, tmp_path)
    stock = PPO(
        "MlpPolicy", make_stock_env("CartPole-v1", 2), n_steps=4, batch_size=8, device="cpu"
    )
    with pytest.raises(SettingsError, match=r"DummyVecEnv.*get_state"):
        stock.learn(8, callback=Checkpoints(tmp_path))
    things = make_env(prompts=lambda rng: {"prompt": "w1", "thing": object()})
    model = PPO("MlpPolicy", things, n_steps=4, batch_size=24, device="cpu")
    with pytest.raises(DataError, match="column 'thing'"):
        model.learn(8, callback=Checkpoints(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("argument", "value"), [("every", 0), ("keep", 0)])
def test_impossible_arguments(argument: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{argument}=0"):
        Checkpoints(tmp_path, **{argument: value})


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_files(
    content: bytes, make_env: MakeEnv, checkpoint: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint-000000000030.safetensors").write_bytes(content)
    with pytest.raises(SettingsError, match=r"checkpoint-.*cannot be read"):
        load_checkpoint(makers(make_env, checkpoint)["mlp"](), tmp_path)
    with pytest.raises(SettingsError, match="path="):
        load_checkpoint(makers(make_env, checkpoint)["mlp"](), tmp_path / "..")
