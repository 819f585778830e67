"""Modules that have moved, so that agents saved under the old names load.

Pickles, ``model.zip`` and policy files name classes by their modules. Importing this module makes
the old names importable; :func:`current_name` translates one without importing anything.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

_MOVED = {
    "agents.groups": "agents.running.groups",
    "textgym.lm.decision": "textgym.lm.sampling.decision",
    "textgym.lm.kept": "textgym.lm.sampling.kept_sets",
    "textgym.lm.processing": "textgym.lm.sampling.processing",
    "textgym.sb3.sum_tree": "textgym.sb3.replay.sum_tree",
    "textgym.sb3.text_spaces": "textgym.sb3.spaces",
    "textgym.sb3.topk_features": "textgym.sb3.topk.features",
    "textgym.sb3.topk_policy": "textgym.sb3.topk.policy",
    "textgym.sb3.topk_quantile": "textgym.sb3.topk.quantile",
}
# Modules that became packages, and where their classes are.
_BECAME_PACKAGES = {
    "textgym.lm.sampling": "textgym.lm.sampling.draw",
    "textgym.sb3.replay": "textgym.sb3.replay.buffer",
}


def current_name(module: str) -> str:
    """The name of a module today."""
    return (_MOVED | _BECAME_PACKAGES).get(module, module)


class _OldNames(MetaPathFinder, Loader):
    """Imports a moved module under its old name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        names = vars(import_module(_MOVED[module.__name__]))
        vars(module).update({k: v for k, v in names.items() if not k.startswith("__")})


sys.meta_path.append(_OldNames())
