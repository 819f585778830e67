"""The warm start of a run: its language model learns reference texts before reinforcement learning.

``--warm-start 60_000`` of an agent is ``agents.sft`` for 60,000 tokens, and then the agent with
``--lm`` of the result, in one command. The texts are those of the environment's oracle on training
prompts: in conversations its turns, next to pictures its captions. The agent's KL penalty refers to
the model after the warm start, so that the penalty does not undo it.

The files are in the folder ``warm-start/`` of the run: ``progress.csv``, TensorBoard events and
checkpoints as of a training, the language model ``lm/``, and at the end ``warm_start.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from agents.running.environments import make_env
from agents.running.evaluation import Evaluation
from agents.running.lm_settings import LMSettings, ModelSettings
from agents.running.logs import open_logger
from agents.running.oracle import Oracle
from agents.running.report import StepCounter, TrainingLog
from agents.running.resuming import Saver
from agents.running.saved_models import save_lm
from agents.running.settings import RunSettings
from agents.running.supervised import SFT
from agents.running.word_model import starting_model
from textgym.errors import SettingsError, naming
from textgym.sb3 import DiagnosticsCallback, LMPolicy
from textgym.storage.files import write_json

FOLDER = "warm-start"
"""Name of the folder in that of the run."""

RECORD = "warm_start.json"
"""Name of the file that is written last, when the warm start is over."""


@dataclass(frozen=True)
class WarmStart:
    """A warm start that is over.

    Attributes:
        lm: Folder of the language model, an absolute path.
        before: The evaluation of the agent with the model before it.
        tokens: Tokens of references that were learned.
        seconds: Its duration.
        cpu_seconds: Its CPU time.
    """

    lm: str
    before: Evaluation
    tokens: int
    seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        seconds = f"{self.seconds:.0f} s ({self.cpu_seconds:.0f} CPU s)"
        return f"{self.tokens:,} tokens of references in {seconds}"

    def results(self) -> dict[str, float]:
        """Its part of the run's results."""
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
        }


def finished(run: Path | None) -> WarmStart | None:
    """The warm start of a run's folder, if it is over.

    Raises:
        SettingsError: If its record is damaged.
    """
    if run is None or not (file := run / FOLDER / RECORD).is_file():
        return None
    try:
        record = json.loads(file.read_text("utf-8"))
        return WarmStart(
            str((run / FOLDER / "lm").resolve()),
            Evaluation(**record["before"]),
            *(record[name] for name in ("tokens", "seconds", "cpu_seconds")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{file} is damaged ({type(error).__name__}: {error}); delete it, and the warm start "
            "is finished again from its last checkpoint"
        ) from error


class WarmStarter:
    """A warm start that is to be done, or continued.

    Args:
        settings: The settings of the run.

    Raises:
        SettingsError: If the environment has no references.
    """

    def __init__(self, settings: LMSettings) -> None:
        # The agent's own wrapper and groups are for its reinforcement learning.
        shared = {one.name: getattr(settings, one.name) for one in dataclasses.fields(RunSettings)}
        common = RunSettings(**shared | {"steps": settings.warm_start, "cpu_minutes": None})
        venv = StepCounter(make_env(common, common.n_envs, common.seed, "train"))
        with naming(f"--warm-start {settings.warm_start}"):
            Oracle(venv)
        self._settings = settings
        self._resumes = common.resume is not None
        self.agent = SFT(
            LMPolicy,
            venv,
            learning_rate=settings.warm_start_lr,
            policy_kwargs=ModelSettings.policy_kwargs(
                settings, starting_model(venv, common.lm, common.seed, common.out)
            ),
            seed=common.seed,
            device=common.device,
        )
        log = TrainingLog(common.steps, "warm start")
        # Its values are logged. Its warnings are of reinforcement learning, such as of low entropy.
        diagnostics = DiagnosticsCallback(warn=lambda steps, sentence: None)
        self._saver = Saver(self.agent, common, log, diagnostics)

    def run(
        self, folder: Path, evaluate: Callable[[], Evaluation], key: str, console: Console
    ) -> WarmStart:
        """Learn the references, and write the model; from the last checkpoint if there is one.

        Args:
            folder: The folder of the run.
            evaluate: Evaluates the agent before the warm start.
            key: The name of evaluations in the logs.
            console: Prints the reward before, and the effect of Ctrl-C.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when the update under way is saved.
        """
        own = folder / FOLDER
        own.mkdir(exist_ok=True)
        saved = self._saver.open(own)
        with closing(open_logger(own, saved, self._resumes)) as logger:
            self.agent.set_logger(logger)
            if saved is None:
                before = evaluate()
                logger.record(f"{key}/reward", before.mean)
                logger.dump(0)
            else:
                before = saved.before
                console.print(f"{own}: resumed at {saved.steps:,} tokens of references")
            console.print(f"reward before the warm start {before}")
            if self._saver.learn(before, console):
                raise KeyboardInterrupt
        save_lm(self.agent.policy.lm, own / "lm", self._settings.save_adapter)
        record = {
            "before": dataclasses.asdict(before),
            "tokens": self.agent.num_timesteps,
            "seconds": self._saver.seconds,
            "cpu_seconds": self._saver.cpu_seconds,
        }
        write_json(own / RECORD, record, indent=None)
        done = finished(folder)
        assert done is not None
        return done
