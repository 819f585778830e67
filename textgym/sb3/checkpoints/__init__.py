"""Saving, loading and resuming a training with Stable-Baselines3.

* To save and resume: :mod:`~textgym.sb3.checkpoints.checkpoint` (`Checkpoints`, `resume`,
  `save_checkpoint`, `load_checkpoint`).
* The content of a checkpoint: :mod:`~textgym.sb3.checkpoints.model_state` for the agent,
  :mod:`~textgym.sb3.checkpoints.env_state` for the environment and its wrappers. A new kind of
  wrapper or agent gets ``get_state()`` and ``set_state(state)``.
* The checks before one is loaded: :mod:`~textgym.sb3.checkpoints.validation`.
* Other files: :mod:`~textgym.sb3.checkpoints.policy_files` (``policy.save`` and ``load``) and
  :mod:`~textgym.sb3.checkpoints.saved_agents` (``model.zip``, read without unpickling).
* Modules that moved since a file was saved: :mod:`~textgym.moved`.
"""

from textgym.sb3.checkpoints.checkpoint import (
    Checkpoints,
    latest_checkpoint,
    load_checkpoint,
    resume,
    save_checkpoint,
)

__all__ = ["Checkpoints", "latest_checkpoint", "load_checkpoint", "resume", "save_checkpoint"]
