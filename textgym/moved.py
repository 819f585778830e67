"""Old names of modules that have moved: they can still be imported.

User code, ``model.zip`` and policy files name classes by their modules. Importing textgym makes the
names of version 0.1.0 importable; :func:`current_name` translates one without importing anything.
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
    "agents.cli": "agents.running.command_line",
    "agents.common": "agents.running.run",
    "agents.environments": "agents.running.environments",
    "agents.evaluation": "agents.running.evaluation",
    "agents.groups": "agents.running.groups",
    "agents.held_out": "agents.running.held_out",
    "agents.logs": "agents.running.logs",
    "agents.planning": "agents.running.planning",
    "agents.proposals": "agents.running.proposals",
    "agents.refusals": "agents.running.validation",
    "agents.report": "agents.running.report",
    "agents.resuming": "agents.running.resuming",
    "agents.run_record": "agents.running.run_record",
    "agents.supervised": "agents.running.supervised",
    "agents.tuned": "agents.running.tuned",
    "agents.word_model": "agents.running.word_model",
    "textgym.envs.autoreset": "textgym.envs.arguments",
    "textgym.envs.chat": "textgym.envs.prompts.chat",
    "textgym.envs.data_state": "textgym.envs.prompts.fingerprint",
    "textgym.envs.infos": "textgym.envs.vector_infos",
    "textgym.envs.limits": "textgym.envs.arguments",
    "textgym.envs.masks": "textgym.tokenization.writable",
    "textgym.envs.prompt_checks": "textgym.envs.prompts.validation",
    "textgym.envs.starts": "textgym.envs.prompts.drawing",
    "textgym.gguf_files": "textgym.gguf",
    "textgym.lm.adapter_files": "textgym.lm.loading.adapters",
    "textgym.lm.attention": "textgym.lm.decoding.attention",
    "textgym.lm.cache": "textgym.lm.decoding.cache",
    "textgym.lm.card": "textgym.pretrain.card",
    "textgym.lm.decision": "textgym.lm.sampling.decision",
    "textgym.lm.direct": "textgym.lm.decoding.direct",
    "textgym.lm.dtypes": "textgym.lm.loading.dtypes",
    "textgym.lm.encoder_decoder": "textgym.lm.decoding.encoder_decoder",
    "textgym.lm.fingerprint": "textgym.lm.weights",
    "textgym.lm.graphs": "textgym.lm.decoding.graphs",
    "textgym.lm.kept": "textgym.lm.sampling.kept_sets",
    "textgym.lm.pretrained": "textgym.lm.loading.pretrained",
    "textgym.lm.processing": "textgym.lm.sampling.processing",
    "textgym.lm.recurrent": "textgym.lm.decoding.recurrent",
    "textgym.lm.row_positions": "textgym.lm.decoding.row_positions",
    "textgym.lm.slots": "textgym.lm.decoding.slots",
    "textgym.lm.tokens": "textgym.lm.sampling.tokens",
    "textgym.lm.writing": "textgym.pretrain.writing",
    "textgym.rewards.chat": "textgym.data.messages",
    "textgym.rewards.checks": "textgym.rewards.validation",
    "textgym.rewards.cider": "textgym.rewards.metrics.cider",
    "textgym.rewards.concepts": "textgym.rewards.metrics.concepts",
    "textgym.rewards.concurrent": "textgym.rewards.remote.background",
    "textgym.rewards.diversity": "textgym.rewards.metrics.diversity",
    "textgym.rewards.error_rate": "textgym.rewards.metrics.error_rate",
    "textgym.rewards.exact": "textgym.rewards.metrics.matching",
    "textgym.rewards.http_scorer": "textgym.rewards.remote.http_scorer",
    "textgym.rewards.inner": "textgym.rewards.nested",
    "textgym.rewards.intent": "textgym.rewards.metrics.intent",
    "textgym.rewards.judge": "textgym.rewards.remote.judge",
    "textgym.rewards.length": "textgym.rewards.metrics.length",
    "textgym.rewards.message_rewards": "textgym.rewards.messages",
    "textgym.rewards.meteor": "textgym.rewards.metrics.meteor",
    "textgym.rewards.neural.adversarial": "textgym.rewards.adversarial.reward",
    "textgym.rewards.neural.adversarial_state": "textgym.rewards.adversarial.state",
    "textgym.rewards.neural.adversarial_texts": "textgym.rewards.adversarial.texts",
    "textgym.rewards.neural.calibration": "textgym.rewards.preferences.calibration",
    "textgym.rewards.neural.discriminator": "textgym.rewards.adversarial.discriminator",
    "textgym.rewards.neural.pair_texts": "textgym.rewards.preferences.pair_texts",
    "textgym.rewards.neural.preference_card": "textgym.rewards.preferences.card",
    "textgym.rewards.neural.preference_model": "textgym.rewards.preferences.model",
    "textgym.rewards.neural.preference_pairs": "textgym.rewards.preferences.pairs",
    "textgym.rewards.neural.preferences": "textgym.rewards.preferences.training",
    "textgym.rewards.normalize": "textgym.rewards.metrics.normalize",
    "textgym.rewards.overlap": "textgym.rewards.metrics.translation",
    "textgym.rewards.programs": "textgym.rewards.code.programs",
    "textgym.rewards.running": "textgym.rewards.normalization",
    "textgym.rewards.sending": "textgym.rewards.remote.requests",
    "textgym.rewards.stems": "textgym.rewards.metrics.normalize",
    "textgym.rewards.synthetic": "textgym.rewards.metrics.synthetic",
    "textgym.rewards.tables": "textgym.rewards.metrics.parent",
    "textgym.rewards.unit_tests": "textgym.rewards.code.unit_tests",
    "textgym.sb3.env_state": "textgym.sb3.checkpoints.env_state",
    "textgym.sb3.fragments": "textgym.rollouts.fragments",
    "textgym.sb3.model_state": "textgym.sb3.checkpoints.model_state",
    "textgym.sb3.plain_policy": "textgym.sb3.checkpoints.policy_files",
    "textgym.sb3.priorities": "textgym.sb3.replay.priorities",
    "textgym.sb3.refusals": "textgym.sb3.compatibility",
    "textgym.sb3.same_training": "textgym.sb3.checkpoints.validation",
    "textgym.sb3.saved_agents": "textgym.sb3.checkpoints.saved_agents",
    "textgym.sb3.sum_tree": "textgym.sb3.replay.sum_tree",
    "textgym.sb3.text_spaces": "textgym.sb3.spaces",
    "textgym.sb3.topk_features": "textgym.sb3.topk.features",
    "textgym.sb3.topk_policy": "textgym.sb3.topk.policy",
    "textgym.sb3.topk_quantile": "textgym.sb3.topk.quantile",
    "textgym.storage.plain": "textgym.storage.json_values",
    "textgym.storage.values": "textgym.storage.value_files",
    "textgym.tasks.csv_files": "textgym.data.csv_files",
    "textgym.tasks.faults": "textgym.tasks.judgement",
    "textgym.tasks.file_rows": "textgym.data.file_rows",
    "textgym.tasks.files": "textgym.data.files",
    "textgym.tasks.goodbad": "textgym.tasks.good_bad.task",
    "textgym.tasks.grammar": "textgym.tasks.automaton",
    "textgym.tasks.lists": "textgym.tasks.sources.lists",
    "textgym.tasks.literals": "textgym.data.literals",
    "textgym.tasks.loading": "textgym.tasks.sources.loading",
    "textgym.tasks.mixing": "textgym.tasks.sources.mixing",
    "textgym.tasks.probes_masks": "textgym.tasks.probes.texts",
    "textgym.tasks.probes_rewards": "textgym.tasks.probes.rewards",
    "textgym.tasks.probes_texts": "textgym.tasks.probes.texts",
    "textgym.tasks.probes_words": "textgym.tasks.probes.words",
    "textgym.tasks.python_sandbox": "textgym.sandbox.run",
    "textgym.tasks.reasoning_gym": "textgym.tasks.sources.reasoning_gym",
    "textgym.tasks.rows": "textgym.data.rows",
    "textgym.tasks.splits": "textgym.tasks.sources.lists",
    "textgym.words": "textgym.data.words",
    "textgym.wrappers.layers": "textgym.wrappers.nesting",
    "textgym.wrappers.masks_after": "textgym.wrappers.lookahead_masks",
}
# Modules that became packages, and where their contents are.
_BECAME_PACKAGES = {
    "textgym.lm.decoding": "textgym.lm.decoding.memo",
    "textgym.lm.loading": "textgym.lm.loading.files",
    "textgym.lm.sampling": "textgym.lm.sampling.draw",
    "textgym.rewards.metrics": "textgym.rewards.metrics.corpus",
    "textgym.rewards.remote": "textgym.rewards.remote.server",
    "textgym.sb3.checkpoints": "textgym.sb3.checkpoints.checkpoint",
    "textgym.sb3.replay": "textgym.sb3.replay.buffer",
    "textgym.tasks.probes": "textgym.tasks.probes.base",
    "textgym.tasks.sources": "textgym.tasks.sources.base",
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
