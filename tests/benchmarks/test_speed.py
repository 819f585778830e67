"""The speed benchmark: every part runs and writes, and the sides that it compares do equal work."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from transformers import AutoModelForCausalLM

from benchmarks.speed import end_to_end, harness, models, report, rollouts, roofline, updates
from benchmarks.speed.__main__ import main
from benchmarks.speed.even_tokens import Curve, even_count, even_share, reached
from benchmarks.speed.harness import Comparison, Result, Run, Settings, interleaved
from benchmarks.speed.models import TINY, TINY_LLAMA, Case

SETTINGS = Settings(smoke=True)
FIXED = Case(TINY, 4, 8)
RAGGED = Case(TINY, 4, 8, ragged=True)

pytestmark = pytest.mark.filterwarnings(
    # SB3, about minibatches that are no divisor of the rollout.
    "ignore:You have specified a mini-batch size:UserWarning"
)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return models.write_model(tmp_path_factory.mktemp("lm"), TINY, seed=0)


# What is written.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # The same measurement without a process of its own, which would import everything again.
        patch.setattr(updates, "peak_memory", updates._peak_here)
        main(Settings(smoke=True, out=out))
    torch.set_num_threads(threads)
    return out


def test_record_holds_machine_and_raw_figures(written: Path) -> None:
    record = json.loads((written / "speed.json").read_text())
    assert list(record) == list(harness.PARTS)
    for entry in record.values():
        assert entry["machine"]["versions"]["torch"] == torch.__version__
        assert entry["settings"]["threads"] == entry["machine"]["threads"] == 1
        assert entry["comparisons"]
        for comparison in entry["comparisons"]:
            runs = [run for side in comparison["runs"].values() for run in side]
            assert all(run["work"] > 0 and run["wall"] > 0 for run in runs)
            assert set(comparison["rate"]) == set(comparison["runs"])
            ours = next(iter(comparison["rate"].values()))
            for side, ratio in comparison["ratio"].items():
                assert ratio == pytest.approx(ours / comparison["rate"][side])  # One repeat.


def test_tables_name_every_case_and_side(written: Path) -> None:
    text = (written / "speed.md").read_text()
    record = json.loads((written / "speed.json").read_text())
    for entry in record.values():
        assert f"## {entry['title']}" in text
        for comparison in entry["comparisons"]:
            assert comparison["case"] in text
            assert all(f"{side}, {entry['unit']}" in text for side in comparison["runs"])
    for line in text.splitlines():
        assert "nan" not in line


def test_plot_is_written(written: Path) -> None:
    assert (written / "speed.png").read_bytes()[:4] == b"\x89PNG"
    assert "</svg>" in (written / "speed.svg").read_text()


def test_parts_of_an_earlier_run_stay(written: Path, tmp_path: Path) -> None:
    before = json.loads((written / "speed.json").read_text())
    (tmp_path / "speed.json").write_text(json.dumps(before))
    main(Settings(smoke=True, part=("environments",), out=tmp_path))
    after = json.loads((tmp_path / "speed.json").read_text())
    assert list(after) == list(before)
    assert after["rollouts"] == before["rollouts"]
    assert after["environments"] != before["environments"]


def test_smoke_does_not_touch_the_published_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.speed.__main__.RESULTS", tmp_path)
    main(Settings(smoke=True, part=("environments",)))
    assert not list(tmp_path.iterdir())


def test_profile_prints_operations_and_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Settings(smoke=True, profile="rollouts")) == {}
    shown = capsys.readouterr().out
    assert "aten::" in shown
    assert "collect_rollouts" in shown or "function calls" in shown


def test_command_line() -> None:
    words = ["--part", "rollouts", "updates", "--full", "--device", "cuda", "--dtype", "bfloat16"]
    settings = tyro.cli(Settings, args=words)
    assert settings.part == ("rollouts", "updates")
    assert settings.count == 5
    assert settings.torch_dtype is torch.bfloat16
    assert not settings.on_cpu


# Timing.


def test_sides_are_measured_in_turn() -> None:
    order: list[str] = []

    def side(name: str) -> Any:
        return lambda: (order.append(name), 3.0)[1]

    runs = interleaved({"a": side("a"), "b": side("b")}, repeats=2)
    assert order == ["a", "b"] * 3
    assert [run.work for run in runs["a"]] == [3.0, 3.0]


def test_ratio_is_of_rates_and_turn_by_turn() -> None:
    ours = [Run(10, 1, 2), Run(10, 2, 1)]
    other = [Run(30, 6, 4), Run(30, 2, 6)]
    comparison = Comparison("case", {"ours": ours, "other": other})
    assert comparison.ratios("other") == [10 / 5, 5 / 15]
    assert comparison.ratios("other", "cpu") == [5 / 7.5, 10 / 5]
    assert comparison.rate("ours") == 7.5


def test_table_has_one_column_a_side_and_tells_the_spread() -> None:
    runs = {"ours": [Run(10, 1, 1)] * 3, "other": [Run(10, w, 2) for w in (2, 3, 40)]}
    (table,) = report.comparison_tables(Result("T", "x/s", [Comparison("case", runs)]))
    assert table.head == ["", "ours, x/s", "other, x/s", "over other"]
    assert table.rows == [["case", "10", "3", "**3.0** (2.0 to 40; CPU 2.0)"]]


# Rollouts: equal work.


def test_prefix_policy_is_the_same_policy(lm: str) -> None:
    """Same log-probabilities of the same actions, after texts of several lengths."""
    venv = models.environment(RAGGED, lm, seed=0)
    observations = [venv.reset()]
    rng = np.random.default_rng(0)
    for _ in range(5):
        observations.append(venv.step(rng.integers(0, TINY.vocabulary, RAGGED.rows))[0])
    obs = torch.from_numpy(np.concatenate(observations))
    assert len(set((obs >= 0).sum(-1).tolist())) > 3
    actions = torch.from_numpy(rng.integers(0, TINY.vocabulary, len(obs)))
    spaces = venv.observation_space, venv.action_space
    ours = rollouts.LMPolicy(*spaces, lambda _: 0.0, lm=lm)
    prefix = rollouts.PrefixPolicy(*spaces, lambda _: 0.0, lm=lm)
    with torch.no_grad():
        expected = ours.evaluate_actions(obs, actions)
        values, log_probs, entropy = prefix.evaluate_actions(obs, actions)
        torch.testing.assert_close(log_probs, expected[1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy, expected[2], atol=1e-5, rtol=1e-5)
        assert values.shape == expected[0].shape
        chosen, _, own = prefix(obs)
        again = ours.evaluate_actions(obs, chosen)[1]
    torch.testing.assert_close(own, again, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", [FIXED, Case(TINY_LLAMA, 4, 8)], ids=str)
def test_fixed_lengths_are_the_budget_on_both_sides(case: Case, tmp_path: Path) -> None:
    lm = models.write_model(tmp_path, case.shape, seed=0)
    write = rollouts.generator(case, lm, SETTINGS)
    assert [len(text) for _ in range(3) for text in write()] == [8] * 12
    venv = models.environment(case, lm, seed=0)
    assert ((venv.reset() >= 0).sum(1) == models.PROMPT_TOKENS).all()
    for step in range(1, 17):
        # Not even eos ends a text.
        dones = venv.step(np.full(case.rows, case.shape.eos))[2]
        assert (dones == (step % 8 == 0)).all()


def test_ragged_texts_end_at_the_same_tokens_on_both_sides(lm: str) -> None:
    torch.manual_seed(0)
    ends = {*RAGGED.stops, TINY.eos}
    write = rollouts.generator(RAGGED, lm, SETTINGS)
    texts = [text for _ in range(8) for text in write()]
    assert len({len(text) for text in texts}) > 2
    for text in texts:
        assert not ends.intersection(text[:-1])
        assert text[-1] in ends or len(text) == RAGGED.tokens
    ended = set()
    for token in range(TINY.vocabulary):
        venv = models.environment(RAGGED, lm, seed=0)
        venv.reset()
        if venv.step(np.full(RAGGED.rows, token))[2].all():
            ended.add(token)
    assert ended == ends


@pytest.mark.parametrize("side", [rollouts.textgym_side, rollouts.generate_side])
def test_a_fixed_rollout_is_rows_times_tokens(side: Any, lm: str) -> None:
    assert side(FIXED, lm, SETTINGS)() == FIXED.rows * FIXED.tokens


# Updates: equal work.


def test_both_buffers_hold_the_same_rollout_and_learn_the_same(lm: str) -> None:
    agents = [updates.agent(name, RAGGED, lm, SETTINGS, whole=True) for name in updates.SIDES[:2]]
    ours, stock = (model.rollout_buffer for model in agents)
    for name in ("observations", "actions", "rewards", "advantages", "returns", "log_probs"):
        np.testing.assert_allclose(
            np.squeeze(getattr(ours, name)), np.squeeze(getattr(stock, name)), atol=1e-6
        )
    before = {name: value.clone() for name, value in agents[0].policy.state_dict().items()}
    for model in agents:
        model.train()
    learned, expected = (model.policy.state_dict() for model in agents)
    assert any((learned[name] != value).any() for name, value in before.items())
    for name in before:
        # Adam divides by the gradient's size, so an entry of gradient 0 may move either way.
        torch.testing.assert_close(learned[name], expected[name], atol=3e-5, rtol=0)


def test_timed_minibatches_are_the_reported_work(lm: str) -> None:
    case = Case(TINY, 32, 8)
    model = updates.agent(updates.SIDES[1], case, lm, SETTINGS)
    sizes = [len(sample.actions) for sample in model.rollout_buffer.get(model.batch_size)]
    assert sizes == [64, 64]
    assert updates.side(updates.SIDES[1], case, lm, SETTINGS)() == sum(sizes)
    ours = updates.agent(updates.SIDES[0], case, lm, SETTINGS)
    batches = [len(sample.actions) for sample in ours.rollout_buffer.get(ours.batch_size)]
    assert len(batches) == 4
    assert updates.side(updates.SIDES[0], case, lm, SETTINGS)() == sum(batches) == 32 * 8


# End to end: equal rewards.


def test_rewards_are_counts_of_even_tokens() -> None:
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 100, length).tolist() for length in (1, 5, 16, 0)]
    counts = [len([token for token in text if token / 2 == token // 2]) for text in texts]
    assert even_count(texts, prompts=[""] * 4, completions=[""] * 4) == counts
    shares = [count / len(text) if text else 0.0 for count, text in zip(counts, texts, strict=True)]
    assert even_share(completion_ids=texts) == shares


@pytest.mark.parametrize("task", end_to_end.tasks(SETTINGS), ids=lambda task: task.name)
def test_environment_pays_what_the_reward_function_says(
    task: end_to_end.Task, lm: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An agent that acts at random is paid the count or share of its even tokens, and when."""
    paid: list[Any] = []

    class Watched(rollouts.LMRolloutBuffer):
        def compute_returns_and_advantage(self, *args: Any, **kwargs: Any) -> None:
            super().compute_returns_and_advantage(*args, **kwargs)
            paid.append((self.actions[..., 0] % 2 == 0, self.rewards.copy()))

    monkeypatch.setattr(end_to_end, "LMRolloutBuffer", Watched)
    outcome = end_to_end.train(task, 0, tmp_path, SETTINGS, 30)
    even, rewards = paid[0]
    if task.dense:
        np.testing.assert_allclose(rewards, even)
    else:
        np.testing.assert_allclose(rewards[:-1], 0)
        np.testing.assert_allclose(rewards[-1], even.mean(0), atol=1e-6)
    means = [point[3] for point in outcome.points]
    expected = [even.sum(0).mean() if task.dense else even.mean() for even, _ in paid]
    np.testing.assert_allclose(means, expected, atol=1e-6)
    assert [point[0] for point in outcome.points] == [32.0, 64.0]
    assert 0 < outcome.final < task.best


def test_trl_gets_the_same_reward_model_and_prompts(
    monkeypatch: pytest.MonkeyPatch, lm: str, tmp_path: Path
) -> None:
    """A stand-in for TRL, which is not installed here, calls the reward as TRL does."""
    pytest.importorskip("datasets")
    from benchmarks.speed import trl_side

    seen: dict[str, Any] = {}

    class Config(types.SimpleNamespace):
        pass

    class Trainer:
        def __init__(self, **arguments: Any) -> None:
            seen.update(arguments)
            self.model = AutoModelForCausalLM.from_pretrained(arguments["model"])

        def train(self) -> None:
            self.paid = seen["reward_funcs"](
                prompts=["p", "p"], completions=["a", "b"], completion_ids=[[2, 4, 5], [1, 3, 6]]
            )

    stand_in = types.ModuleType("trl")
    stand_in.__dict__.update(GRPOTrainer=Trainer, GRPOConfig=Config)
    monkeypatch.setitem(sys.modules, "trl", stand_in)
    monkeypatch.setattr(trl_side, "version", lambda name: end_to_end.TRL)
    monkeypatch.setattr(
        end_to_end.subprocess,
        "run",
        lambda command, **_: types.SimpleNamespace(
            returncode=0, stdout=json.dumps(trl_side.train(json.loads(command[-1]))), stderr=""
        ),
    )
    task = end_to_end.replace(
        end_to_end.DENSE, shape=TINY, tokens=8, budget=128, trl=end_to_end.DENSE.trl
    )
    outcome = end_to_end.train_trl(task, "GRPO", 0, tmp_path, SETTINGS, 30, Path(sys.executable))
    assert [point[0] for point in outcome.points] == [6.0]
    assert outcome.points[0][3] == np.mean(even_count([[2, 4, 5], [1, 3, 6]])) == 1.5
    assert seen["train_dataset"]["prompt"][:2] == [
        models.spell(prompt) for prompt in Case(TINY, 16, 8).prompts(0)[:2]
    ]
    args = seen["args"]
    assert (args.per_device_train_batch_size, args.max_completion_length) == (16, 8)
    # One text an update has 8 tokens, so 128 tokens are one update, of four passes.
    assert args.max_steps == 4
    assert Path(seen["model"]).parent == tmp_path


def test_trl_side_needs_nothing_of_textgym() -> None:
    code = (
        "import sys, benchmarks.speed.trl_side as t; "
        "assert not {'textgym', 'gymnasium', 'stable_baselines3', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=end_to_end.ROOT, check=True)


def test_trl_that_cannot_be_installed_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(command: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="ERROR: no network\n")

    monkeypatch.setattr(end_to_end.subprocess, "run", fail)
    monkeypatch.setattr(end_to_end, "tasks", lambda settings: [])
    result = end_to_end.measure(Settings(trl_venv=tmp_path / "none"))
    assert f"TRL {end_to_end.TRL} was not measured: ERROR: no network" in result.notes


def test_curve_ends_at_its_goal_or_time() -> None:
    curve = Curve("even_share", stop_at=0.75, seconds=1e6)
    curve.begin()
    assert not curve.done
    curve(completion_ids=[[1, 2]])
    assert not curve.done
    curve(completion_ids=[[2, 2, 2, 1], [2, 2, 2, 2]])
    assert curve.done
    assert [point[0] for point in curve.points] == [2.0, 10.0]
    assert reached(curve.points, 0.75) == curve.points[1]
    assert reached(curve.points, 0.9) is None
    late = Curve("even_share", seconds=0.0)
    late.begin()
    late(completion_ids=[[1]])
    assert late.done


# Roofline.


@pytest.mark.parametrize("shape", [TINY, TINY_LLAMA, models.SMALL, models.SMALL_LLAMA], ids=str)
def test_weights_of_the_bound_are_those_of_the_model(shape: models.Shape) -> None:
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(shape.config)
    matrices = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.ndim == 2 and "wpe" not in name
    )
    assert roofline.matrix_weights(shape) + shape.vocabulary * shape.width == matrices


def test_bound_of_a_decode_step_by_hand() -> None:
    shape = models.Shape("gpt2", layers=1, width=4, heads=1, vocabulary=10)
    read, operations = roofline.decode_cost(Case(shape, rows=2, tokens=4), itemsize=4)
    weights = 12 * 16 + 40
    context = 16 + 2
    assert read == 4 * (weights + 2 * 2 * 4 * context)
    assert operations == 2 * (2 * weights + 4 * 4 * context)
