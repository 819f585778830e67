"""Loading checkpoints.

* :mod:`~textgym.lm.loading.files`: from a name to files, and from files to model and tokenizer.
* :mod:`~textgym.lm.loading.pretrained`: `load_pretrained`, which refuses incomplete checkpoints,
  and `saving_checkpoint`.
* :mod:`~textgym.lm.loading.adapters`: peft adapter folders.
"""

from textgym.lm.loading.files import (
    Origin,
    load_config,
    load_hf_tokenizer,
    load_model,
    load_parts,
    no_progress_bars,
    resolve,
)

__all__ = [
    "Origin",
    "load_config",
    "load_hf_tokenizer",
    "load_model",
    "load_parts",
    "no_progress_bars",
    "resolve",
]
