"""Does PPO stay improved? Ten times the demo's length, with an adaptive KL coefficient.

``python -m benchmarks.long_run`` trains as `make demo` does, for 655,360 tokens, and evaluates
during training: reward, and the share of texts that are grammatical to the last word, since a
policy could also trade grammar for praise. It writes the curve, the figures and sample texts to a
folder. It takes about twenty minutes on one CPU core.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from agents.demo import SETTINGS, grammatical_share
from agents.ppo import make_agent
from agents.running.environments import make_env
from agents.running.evaluation import evaluate
from textgym.sb3 import LMRolloutBuffer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from textgym.storage.files import write_json, write_text


@dataclass
class Args:
    """Settings of the measurement."""

    steps: int = 655_360
    """Tokens of training."""
    every: int = 32_768
    """Tokens from one evaluation to the next."""
    episodes: int = 256
    """Evaluation prompts."""
    seed: int = 0
    """Seed of the training."""
    out: Path = Path("benchmarks/results")
    """Folder for long_run.md, long_run.json and long_run.png."""


class Evaluations(BaseCallback):
    """Evaluates between rollouts."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args = args
        self.points: list[dict[str, Any]] = []
        self.began = time.process_time()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= len(self.points) * self.args.every:
            self.take()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.take()

    def take(self) -> None:
        """Evaluate now."""

        def make(n_envs: int, seed: int) -> VecEnv:
            return make_env(SETTINGS, n_envs, seed, "eval")

        result = evaluate(self.model, make, self.args.episodes, SETTINGS.n_envs)
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
                "cpu_seconds": time.process_time() - self.began,
                "samples": result.responses[:3],
            }
        )
        point = self.points[-1]
        print(f"{point['tokens']:>8,} tokens: {point['reward']:.3f}, {point['grammatical']:.0%}")


def plot(points: list[dict[str, Any]], path: Path) -> None:
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
    figure.savefig(path, dpi=120)
    plt.close(figure)


def table(points: list[dict[str, Any]]) -> str:
    """The evaluations as a Markdown table."""
    lines = [
        "| tokens | reward | grammatical | KL, nats per token | coefficient |",
        "|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {p['tokens']:,} | {p['reward']:.3f} ± {p['ci95']:.3f} | {p['grammatical']:.0%} | "
        f"{p['kl']:.2f} | {p['kl_coef']:.3f} |"
        for p in points
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, evaluate, write."""
    args = tyro.cli(Args, description=__doc__, prog="python -m benchmarks.long_run")
    torch.set_num_threads(SETTINGS.threads or 1)
    agent = make_agent(make_env(SETTINGS, SETTINGS.n_envs, args.seed, "train"), args.seed, SETTINGS)
    agent.set_logger(configure(None, []))
    evaluations = Evaluations(args)
    agent.learn(args.steps, callback=evaluations)
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "long_run.md", table(evaluations.points) + "\n")
    record = {"settings": asdict(args) | {"out": str(args.out)}, "points": evaluations.points}
    write_json(args.out / "long_run.json", record)
    plot(evaluations.points, args.out / "long_run.png")


if __name__ == "__main__":
    main()
