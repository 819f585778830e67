"""Does an adversarial reward make a policy write like the references?

    python -m benchmarks.adversarial
    python -m benchmarks.adversarial --steps 20000 --every 5000 --episodes 128

PPO on a task whose verifier is not used: the reward is a discriminator that is trained along with
the policy to distinguish its texts from the task's references
(`textgym.rewards.adversarial.reward`), with the usual penalty on the KL to the initial model.
During training, texts of the eval split are compared with references of that split, which the
discriminator has never seen, by three independent judges:

* a trigram model (interpolated Kneser-Ney) of other references: mean log-likelihood per token
  of the policy's texts minus that of references. 0 is ideal; less is unlike them, more is duller.
* the Jensen-Shannon divergence between the bigrams of both, in bits, with its floor: that of two
  samples of references.
* a new discriminator, trained on half of the texts and tested on the other half (a classifier
  two-sample test, Lopez-Paz and Oquab 2017, https://arxiv.org/abs/1610.06545): 0.5 is ideal. The
  accuracy of the discriminator in training could also fall because it deteriorates.

It writes adversarial.md, adversarial.json and adversarial.png.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from agents.ppo import Settings
from agents.running.evaluation import Evaluation, evaluate
from benchmarks.studies.measured import make_agent
from benchmarks.studies.ngrams import Trigrams, divergence
from textgym.rewards.adversarial.reward import Adversarial
from textgym.sb3 import LMRolloutBuffer, make_vec_env
from textgym.tasks import make_task
from textgym.tokenization import Tokenizer, load_tokenizer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from textgym.storage.files import write_json, write_text


@dataclass
class Args:
    """Settings of the measurement."""

    env: str = "TextGen/Story-v0"
    """A task in open text, whose references are to be imitated."""
    level: int | None = None
    """Its difficulty. Default: the task's own."""
    lm: str = "textgym/tiny"
    """Language model to train."""
    steps: int = 262_144
    """Tokens of training."""
    every: int = 32_768
    """Tokens from one evaluation to the next."""
    episodes: int = 1024
    """Number of evaluation texts, and of references."""
    judge_texts: int = 20_000
    """References that the trigram model is trained on."""
    warm_up: int = 8192
    """Texts of the initial model that the discriminator learns from before the training."""
    n_envs: int = 128
    """Number of parallel environments."""
    reward: str = "probability"
    """The output of the discriminator that is the reward: probability or logit."""
    updates: int = 8
    """Gradient steps of the discriminator for every 128 texts of the policy."""
    learning_rate: float = 1e-3
    """Learning rate of the discriminator."""
    kl_coef: float = 0.05
    """Weight of the KL penalty per token."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 1
    """CPU threads of torch."""
    out: Path = Path("benchmarks/results")
    """Folder for the results."""


class Judges:
    """The judges that compare texts with references, all of the eval split."""

    def __init__(self, args: Args) -> None:
        self.tokenizer: Tokenizer = load_tokenizer(args.lm)
        self.seed = args.seed
        task = make_task(args.env, args.level, "eval")
        known, first, second = (
            [
                task.oracle(task.sample(rng))
                for rng in [np.random.default_rng(np.random.SeedSequence([args.seed, stream]))]
                for _ in range(count)
            ]
            for stream, count in enumerate((args.judge_texts, args.episodes, args.episodes))
        )
        self.references = first
        self.ids = self.encode(first)
        self.floor = divergence(self.ids, self.encode(second))
        self.trigrams = Trigrams(self.encode(known), self.tokenizer.vocab_size)
        self.own = self.likelihoods(self.ids)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids."""
        return [self.tokenizer.encode(text) for text in texts]

    def likelihoods(self, texts: Sequence[Sequence[int]]) -> Any:
        """Log-likelihood of each text under the trigram model, nats per token."""
        return np.array([self.trigrams.log_likelihood(text) for text in texts])

    def compare(self, texts: Sequence[str]) -> dict[str, float]:
        """All comparisons; ``gap_ci95`` is half of the 95% confidence interval."""
        ids = self.encode(texts)
        theirs = self.likelihoods(ids)
        error = math.sqrt(theirs.var(ddof=1) / len(theirs) + self.own.var(ddof=1) / len(self.own))
        return {
            "gap": float(theirs.mean() - self.own.mean()),
            "gap_ci95": 1.96 * error,
            "divergence": divergence(ids, self.ids),
            "fresh_accuracy": self.fresh_accuracy(texts),
            "distinct": len(set(texts)) / len(texts),
        }

    def fresh_accuracy(self, texts: Sequence[str]) -> float:
        """Accuracy of a new discriminator on the half of the texts that it was not trained on."""
        half = len(texts) // 2
        fresh = Adversarial(
            tokenizer=self.tokenizer, seed=self.seed + 1, label_smoothing=0.0, device="cpu"
        )
        fresh.warm_up(self.references[:half], texts[:half], steps=max(1, half * 20 // 32))
        return accuracy(fresh, self.references[half:], texts[half:])


def accuracy(reward: Adversarial, references: Sequence[str], texts: Sequence[str]) -> float:
    """Balanced accuracy of a discriminator, which does not learn from this."""
    was_frozen = reward.frozen
    reward.freeze()
    real, fake = (np.array(reward([""] * len(part), part)) for part in (references, texts))
    if not was_frozen:
        reward.unfreeze()
    edge = (1 - reward.label_smoothing) / 2
    if reward.reward == "logit":
        edge = math.log(edge / (1 - edge))
    return float(((real >= edge).mean() + (fake < edge).mean()) / 2)


class Course(BaseCallback):
    """Records the discriminator's accuracy, and evaluates between rollouts."""

    def __init__(self, args: Args, reward: Adversarial) -> None:
        super().__init__()
        self.args = args
        self.reward = reward
        self.judges = Judges(args)
        self.points: list[dict[str, Any]] = []
        self.curve: list[dict[str, float]] = []
        self.began = time.process_time()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= len(self.points) * self.args.every:
            self.take()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.curve.append({"tokens": self.num_timesteps, **self.reward.stats})

    def _on_training_end(self) -> None:
        self.take()

    def take(self) -> None:
        """Evaluate now, with the task's reward, so that the discriminator does not learn."""
        found = write(self.model, self.args, "eval", self.args.episodes)
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        assert isinstance(buffer, LMRolloutBuffer)
        point = {
            "tokens": self.num_timesteps,
            "accuracy": accuracy(self.reward, self.judges.references, found.responses),
            **self.judges.compare(found.responses),
            "score": found.mean,
            "score_ci95": found.half_width,
            "kl": buffer.stats.get("kl", 0.0),
            "cpu_seconds": time.process_time() - self.began,
            "samples": found.responses[:3],
        }
        self.points.append(point)
        print(line(point), flush=True)


def write(agent: Any, args: Args, split: str, count: int) -> Evaluation:
    """Texts of an agent, judged by the task."""

    def make(n_envs: int, seed: int) -> VecEnv:
        return make_vec_env(
            args.env, n_envs, seed, split=split, level=args.level, tokenizer=args.lm
        )

    return evaluate(agent, make, count, args.n_envs)


def warm_up(reward: Adversarial, agent: Any, args: Args) -> None:
    """Train the discriminator on texts of the initial model, on training prompts."""
    task = make_task(args.env, args.level, "train")
    written = write(agent, args, "train", args.warm_up)
    rng = np.random.default_rng(np.random.SeedSequence([args.seed, 3]))
    real = [task.oracle(task.sample(rng)) for _ in range(args.warm_up)]
    reward.warm_up(real, written.responses)


def line(point: dict[str, Any]) -> str:
    """A point as a row of the table."""
    return (
        f"| {point['tokens']:,} | {point['accuracy']:.3f} | {point['fresh_accuracy']:.3f} | "
        f"{point['gap']:+.3f} ± {point['gap_ci95']:.3f} | {point['divergence']:.3f} | "
        f"{point['distinct']:.0%} | {point['score']:.3f} ± {point['score_ci95']:.3f} | "
        f"{point['kl']:.2f} |"
    )


def table(args: Args, points: list[dict[str, Any]], floor: float) -> str:
    """The results as Markdown."""
    first, last = points[0], points[-1]
    samples = "\n".join(
        f"| {before.strip()} | {after.strip()} |"
        for before, after in zip(first["samples"], last["samples"], strict=True)
    )
    return _PAGE.format(
        command=_command(args),
        env=args.env,
        episodes=args.episodes,
        minutes=last["cpu_seconds"] / 60,
        lines="\n".join(map(line, points)),
        floor=floor,
        samples=samples,
    )


def plot(args: Args, course: Course, path: Path) -> None:
    """Plot the accuracy of discriminators, the distance to references, and the score."""
    figure, (top, middle, bottom) = plt.subplots(
        3, sharex=True, figsize=(7, 7.5), layout="constrained"
    )
    points, curve = course.points, course.curve
    tokens = [point["tokens"] for point in points]
    then = [point["tokens"] for point in curve]
    top.plot(then, [point["accuracy"] for point in curve], label="on training texts, prequential")
    top.plot(tokens, [point["accuracy"] for point in points], "s-", label="on evaluation texts")
    top.plot(
        tokens,
        [point["fresh_accuracy"] for point in points],
        "o-",
        label="of a fresh discriminator",
    )
    top.axhline(0.5, color="grey", linestyle=":", label="chance")
    top.set_ylim(0.45, 1)
    top.set_ylabel("accuracy")
    top.legend(loc="upper right", ncols=2)
    top.set_title(f"PPO on {args.env}, adversarial reward")
    gaps = [abs(point["gap"]) for point in points]
    middle.plot(tokens, gaps, "o-", label="log-likelihood gap, nats per token")
    middle.plot(tokens, [point["divergence"] for point in points], "s-", label="bigrams, bits")
    middle.axhline(
        course.judges.floor, color="grey", linestyle=":", label="bigrams of two reference samples"
    )
    middle.set_ylim(0)
    middle.set_ylabel("distance to references")
    middle.legend(loc="upper right")
    bottom.plot(tokens, [point["score"] for point in points], "o-", label="task's own score")
    bottom.plot(tokens, [point["distinct"] for point in points], "s-", label="distinct texts")
    bottom.set_ylim(0, 1.02)
    bottom.set_xlabel("tokens of training")
    bottom.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(args: Args) -> None:
    """Train, judge, write."""
    torch.set_num_threads(args.threads)
    reward = Adversarial(
        tokenizer=args.lm, reward=args.reward, updates=args.updates,
        learning_rate=args.learning_rate, seed=args.seed, window=512, device="cpu",
    )  # fmt: skip
    venv = make_vec_env(
        args.env, args.n_envs, args.seed, level=args.level, tokenizer=args.lm, reward=reward
    )
    settings = Settings(
        env=args.env, lm=args.lm, n_envs=args.n_envs, kl_coef=args.kl_coef, kl_target=None
    )
    agent = make_agent(venv, args.seed, settings)
    agent.set_logger(configure(None, []))
    warm_up(reward, agent, args)
    course = Course(args, reward)
    print(_HEAD)
    agent.learn(args.steps, callback=course)
    args.out.mkdir(parents=True, exist_ok=True)
    page = table(args, course.points, course.judges.floor)
    write_text(args.out / "adversarial.md", page)
    record = {
        "settings": asdict(args) | {"out": str(args.out)},
        "floor": course.judges.floor,
        "points": course.points,
        "curve": course.curve,
    }
    write_json(args.out / "adversarial.json", record)
    plot(args, course, args.out / "adversarial.png")


def _command(args: Args) -> str:
    """The command line that gives these settings."""
    changed = {
        key: value
        for key, value in asdict(args).items()
        if key != "out" and value != getattr(Args(), key)
    }
    flags = [f"--{key.replace('_', '-')} {value}" for key, value in changed.items()]
    return " ".join(["python -m benchmarks.adversarial", *flags])


_HEAD = """\
| tokens | accuracy | accuracy, fresh | likelihood gap | bigrams | distinct | score | KL |
|--:|--:|--:|--:|--:|--:|--:|--:|"""

_PAGE = (
    """\
# An adversarial reward

PPO on `{env}`, rewarded by a discriminator that is trained along with it to distinguish its texts
from the references. By `{command}`, {minutes:.0f} CPU minutes.

"""
    + _HEAD
    + """
{lines}

* Accuracy: of the discriminator that is the reward, at that time; 0.5 is chance. (The plot also
  shows its accuracy on the training texts before it learns from them.)
* Accuracy, fresh: of one that was trained on half of these texts, on the other half.
* Likelihood gap: mean log-likelihood per token under a trigram model of other references, the
  policy's texts minus references, in nats, with a 95 % interval.
* Bigrams: Jensen-Shannon divergence to references in bits; {floor:.3f} between two samples of
  references.
* Distinct: share of different texts. Score: of the task's verifier, which is not part of the
  reward. KL: to the initial model, nats per token.

All but the KL are of {episodes} texts on prompts of the eval split, and as many references.

![The course of the training](adversarial.png)

| before | after |
|---|---|
{samples}
"""
)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__, prog="python -m benchmarks.adversarial"))
