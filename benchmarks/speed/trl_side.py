"""TRL's side of :mod:`end_to_end`; runs in an environment with TRL and without textgym.

``python -m benchmarks.speed.trl_side JSON`` trains with the settings in the JSON and prints one
line of JSON. No
import of textgym or Gymnasium: the reward functions come from :mod:`benchmarks.speed.even_tokens`.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from importlib.metadata import version
from typing import Any

from benchmarks.speed.even_tokens import Curve


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Train with one of TRL's trainers.

    Args:
        job: ``trainer`` ("GRPO", "RLOO"), ``lm`` (path of the model), ``prompts``, ``reward`` (a
            name), ``rows`` (samples an update), ``tokens`` (of each sample), ``updates``, ``lr``,
            ``seed``, ``threads``, ``device``, ``settings`` (further ones of TRL), ``save`` (a
            folder), ``stop_at`` and ``seconds`` (see :class:`Curve`).

    Returns:
        The points of the curve, and the wall and CPU seconds in all.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback

    trl: Any = importlib.import_module("trl")
    torch.set_num_threads(job["threads"])
    curve = Curve(job["reward"], job["stop_at"] or float("inf"), job["seconds"] or float("inf"))

    class Stop(TrainerCallback):
        """Ends the training when the curve is done."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= curve.done

    trainer_class = getattr(trl, f"{job['trainer']}Trainer")
    settings: dict[str, Any] = {
        "per_device_train_batch_size": job["rows"],
        "max_completion_length": job["tokens"],
        "max_steps": job["updates"],
        "learning_rate": job["lr"],
        "lr_scheduler_type": "constant",
        "seed": job["seed"],
        "use_cpu": job["device"] == "cpu",
        # Dropout is 0 in the model. Without checkpointing and mixed precision TRL is faster here.
        "gradient_checkpointing": False,
        "bf16": False,
        "beta": 0.0,
        # Texts of full length, as on the other side: eos is not drawn.
        "generation_kwargs": {"min_new_tokens": job["tokens"]},
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        config = getattr(trl, f"{job['trainer']}Config")(
            output_dir=folder, **{**settings, **job["settings"]}
        )
        trainer = trainer_class(
            model=job["lm"],
            reward_funcs=curve,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": job["prompts"]}),
            processing_class=AutoTokenizer.from_pretrained(job["lm"], padding_side="left"),
            callbacks=[Stop()],
        )
        curve.begin()
        trainer.train()
        wall, cpu = curve.elapsed()
    trainer.model.save_pretrained(job["save"])
    return {"points": curve.points, "wall": wall, "cpu": cpu, "trl": version("trl")}


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
