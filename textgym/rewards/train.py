"""Train a reward on human preferences: which of two texts was liked better.

``python -m textgym.rewards.train --pairs pairs.jsonl --lm textgym/tiny --out runs/reward`` puts a
scalar head on a language model and fits it to pairs with the Bradley-Terry loss (Christiano et al.
2017; Stiennon et al. 2020; Ouyang et al. 2022). It writes a checkpoint that plain transformers
loads, with a model card, its metrics on held-out prompts, and a calibration table and plot.

Everything is seeded, and step n draws its batch from the seed and n alone, so a run that is killed
and started again goes on as if nothing had happened (``--out`` holds its last state). The forms of
pairs that are read stand in :mod:`textgym.rewards.preferences.pairs`; the training itself,
which needs torch, in :mod:`textgym.rewards.preferences.training`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields

from textgym.errors import SettingsError, TextGymError, near_matches
from textgym.rewards.preferences.settings import TrainSettings

_MODULE = "textgym.rewards.train"


def parse(words: Sequence[str] | None = None) -> TrainSettings:
    """Read a command line; None takes the process's own.

    Raises:
        SettingsError: On an unknown option; the nearest ones are named.
    """
    from transformers import HfArgumentParser

    parser = HfArgumentParser(TrainSettings, prog=f"python -m {_MODULE}")  # type: ignore[arg-type]
    settings, unknown = parser.parse_args_into_dataclasses(
        args=None if words is None else list(words),
        return_remaining_strings=True,
        look_for_args_file=False,
    )
    if unknown:
        word = unknown[0].partition("=")[0]
        known = [f"--{one.name}" for one in fields(TrainSettings)]
        raise SettingsError(
            f"there is no option {word!r}{near_matches(word, known) or '.'} --help tells all"
        )
    return settings


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and train; what textgym refuses is told without a traceback."""
    try:
        settings = parse(words)
        settings.check()
        from textgym.rewards.preferences.training import train

        print(f"wrote {train(settings)}")
    except (TextGymError, OSError) as error:
        print(f"python -m {_MODULE}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
