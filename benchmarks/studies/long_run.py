"""Does PPO stay improved? Ten times the demo's length, with an adaptive KL coefficient.

    python -m benchmarks results --only long_run

It trains as `make demo` does, for 655,360 tokens, and evaluates during training: reward, and the
share of texts that are grammatical to the last word, since a policy could also trade grammar for
praise. It continues from a checkpoint after an interruption.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from agents.demo import SETTINGS, grammatical_share
from agents.ppo import Settings, make_agent
from agents.running.environments import make_env
from agents.running.evaluation import evaluate
from agents.running.resuming import cpu_time
from benchmarks.campaign.command import main as results
from benchmarks.campaign.provenance import measured_with
from benchmarks.campaign.study import (
    Findings,
    Scale,
    Study,
    as_bytes,
    as_text,
    job,
    only_result,
)
from benchmarks.suites.runner import Plan
from textgym.sb3 import Checkpoints, LMRolloutBuffer, latest_checkpoint, load_checkpoint
from textgym.storage.files import write_json

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAME = "long_run"
FOLDER = "benchmarks/results"


def plans(scale: Scale) -> list[Plan]:
    """One run."""
    spec = {
        "steps": scale.choose(512, 655_360),
        "every": scale.choose(256, 32_768),
        "episodes": scale.choose(8, 256),
        "n_envs": scale.choose(8, SETTINGS.n_envs),
        "seed": 0,
    }
    return [job(NAME, SETTINGS.env_id, "ppo", 0, spec, (SETTINGS.env_id, None))]


class Evaluations(BaseCallback):
    """Evaluates between rollouts.

    Args:
        spec: The specification of the job.
        settings: The settings of the training.

    Attributes:
        points: An evaluation each, in order.
    """

    def __init__(self, spec: Mapping[str, Any], settings: Settings) -> None:
        super().__init__()
        self.spec, self.settings = spec, settings
        self.points: list[dict[str, Any]] = []
        self._began = cpu_time()

    def restore(self, points: list[dict[str, Any]]) -> None:
        """Continue after some evaluations."""
        self.points = points
        self._began = cpu_time() - points[-1]["cpu_seconds"]

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= len(self.points) * self.spec["every"]:
            self.take()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # A training that was continued at its end has been evaluated there.
        if self.points[-1]["tokens"] != self.num_timesteps:
            self.take()

    def take(self) -> None:
        """Evaluate now."""

        def make(n_envs: int, seed: int) -> VecEnv:
            return make_env(self.settings, n_envs, seed, "eval")

        result = evaluate(self.model, make, self.spec["episodes"], self.settings.n_envs)
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        assert isinstance(buffer, LMRolloutBuffer)
        assert buffer.kl is not None
        self.points.append(
            {
                "tokens": self.num_timesteps,
                "reward": result.mean,
                "ci95": result.half_width,
                "grammatical": grammatical_share(
                    zip(result.prompts, result.responses, strict=True)
                ),
                "kl": buffer.stats.get("kl", 0.0),
                "kl_coef": buffer.kl.coef,
                "cpu_seconds": cpu_time() - self._began,
                "samples": result.responses[:3],
            }
        )


def measure(spec: Mapping[str, Any], scratch: Path) -> dict[str, Any]:
    """Train, and evaluate during training."""
    settings = replace(SETTINGS, n_envs=spec["n_envs"], seed=spec["seed"])
    agent = make_agent(make_env(settings, settings.n_envs, spec["seed"], "train"), spec["seed"],
                       settings)  # fmt: skip
    agent.set_logger(configure(None, []))
    evaluations = Evaluations(spec, settings)
    if latest_checkpoint(scratch) is not None:
        evaluations.restore(load_checkpoint(agent, scratch)["points"])
    checkpoints = Checkpoints(
        scratch, spec["every"], keep=1, extra=lambda: {"points": evaluations.points}
    )
    agent.learn(
        max(0, spec["steps"] - agent.num_timesteps),
        callback=CallbackList([evaluations, checkpoints]),
        reset_num_timesteps=False,
    )
    return {"points": evaluations.points, "plot": as_text(plot(evaluations.points))}


def plot(points: list[dict[str, Any]]) -> bytes:
    """Reward and grammar above, KL and its coefficient below."""
    tokens = [point["tokens"] for point in points]
    figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(7, 5), layout="constrained")
    reward = [point["reward"] for point in points]
    top.plot(tokens, reward, label="reward")
    low, high = ([p["reward"] + sign * p["ci95"] for p in points] for sign in (-1, 1))
    top.fill_between(tokens, low, high, alpha=0.2)
    top.plot(tokens, [point["grammatical"] for point in points], label="share of grammatical texts")
    top.set_ylim(0, 1)
    top.legend(loc="lower right")
    top.set_title(f"PPO on {SETTINGS.env_id}, adaptive KL coefficient")
    bottom.plot(tokens[1:], [point["kl"] for point in points[1:]], label="KL, nats per token")
    bottom.axhline(SETTINGS.kl_target or 0.0, color="grey", linestyle=":", label="target")
    bottom.plot(tokens, [10 * point["kl_coef"] for point in points], label="10 x coefficient")
    bottom.set_ylim(0)
    bottom.set_xlabel("tokens of training")
    bottom.legend(loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, dpi=120, format="png")
    plt.close(figure)
    return data.getvalue()


def table(points: list[dict[str, Any]]) -> str:
    """The evaluations as a Markdown table."""
    lines = [
        "| tokens | reward | grammatical | KL, nats per token | coefficient | CPU min |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {p['tokens']:,} | {p['reward']:.3f} ± {p['ci95']:.3f} | {p['grammatical']:.0%} | "
        f"{p['kl']:.2f} | {p['kl_coef']:.3f} | {p['cpu_seconds'] / 60:.1f} |"
        for p in points
    ]
    return "\n".join(lines)


def write(findings: Findings) -> None:
    """Write table, figures and plot, and the README's sentence."""
    result = only_result(findings)
    file = findings.out / FOLDER / "long_run.json"
    title = "# Ten times the demo's length"
    if result is None:
        findings.picture(f"{FOLDER}/long_run.png", None)
        file.unlink(missing_ok=True)
        findings.write(f"{FOLDER}/long_run.md", f"{title}\n")
        findings.fill("README.md", "long-run", "")
        return
    points = result["points"]
    findings.picture(f"{FOLDER}/long_run.png", as_bytes(result["plot"]))
    spec = findings.plans[0].record["kwargs"]
    write_json(file, {"measured_with": measured_with(), "settings": spec, "points": points})
    page = f"{title}\n\n{table(points)}\n\n![reward, grammar and KL](long_run.png)\n"
    findings.write(f"{FOLDER}/long_run.md", page)
    last = points[-1]
    findings.fill(
        "README.md",
        "long-run",
        f"Trained ten times as long, the reward is {last['reward']:.3f} ± {last['ci95']:.3f}, and "
        f"{last['grammatical']:.0%} of the texts are grammatical ({last['tokens']:,} tokens, "
        f"{last['cpu_seconds'] / 60:.0f} CPU minutes): the coefficient of the KL penalty adapts.\n"
        f"\n![reward, grammar and KL of the long run]({FOLDER}/long_run.png)",
    )


STUDIES = {
    NAME: Study(
        name=NAME,
        title="PPO for ten times the demo's length",
        plans=plans,
        write=write,
        seconds=lambda plan: 3000.0,
        measure=measure,
        pages=(f"{FOLDER}/long_run.md", f"{FOLDER}/long_run.json", "README.md"),
    )
}


def main() -> int:
    """Do this study alone."""
    return results(["--only", NAME])


if __name__ == "__main__":
    main()
