"""Train a reward model on human preferences: which of two texts is better.

``python -m textgym.rewards.train --pairs pairs.jsonl --lm textgym/tiny --out runs/reward`` puts a
scalar head on a language model and fits it to pairs with the Bradley-Terry loss (Christiano et al.
2017; Stiennon et al. 2020; Ouyang et al. 2022). It writes a checkpoint that plain transformers
loads, with a model card, its metrics on held-out prompts, and a calibration table and plot.

Everything is seeded, and step n draws its batch from the seed and n alone, so a run that is killed
and started again continues to the same result (``--out`` holds its last state). The supported
formats of pairs are in :mod:`textgym.rewards.preferences.pairs`, and the training itself, which
needs torch, in :mod:`textgym.rewards.preferences.training`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from textgym.errors import TextGymError
from textgym.rewards.preferences.settings import TrainSettings

_MODULE = "textgym.rewards.train"


def parse(words: Sequence[str] | None = None) -> TrainSettings:
    """Read a command line; None takes the process's own.

    Raises:
        SystemExit: After --help, and with code 2 after an unknown flag, which is answered with the
            nearest names, or a value of another type.
    """
    return tyro.cli(TrainSettings, args=words, description=__doc__, prog=f"python -m {_MODULE}")


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and train; errors of textgym are printed without a traceback."""
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
