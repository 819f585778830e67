"""``python -m textgym.lm.train``: the command of :mod:`textgym.pretrain.train`."""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("textgym.pretrain.train", run_name="__main__", alter_sys=True)
