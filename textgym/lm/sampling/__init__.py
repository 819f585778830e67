"""Sampling tokens from the logits of a language model.

* :mod:`~textgym.lm.sampling.draw`: `Sampling`, the settings, and `sample_tokens`.
* :mod:`~textgym.lm.sampling.processing`: `Sampler`, which applies the settings to logits.
* :mod:`~textgym.lm.sampling.tokens`: tokens in settings, by id or string.
* :mod:`~textgym.lm.sampling.kept_sets`: `KeptSets`, the support of top-k and top-p per token.
* :mod:`~textgym.lm.sampling.decision`: `Decision`, the record that goes from policy to buffer.

**A new sampling option** is a field of `Sampling`, with its check in ``__post_init__``, and a step
in `Sampler`: in ``process`` if it is a function of the text (the update computes it again), in
``_truncate`` if it restricts the support by the weights (the rollout records it). ``__init__`` of
`Sampler` decides whether these steps run: add the option to ``plain``, and to ``truncates`` if it
restricts the support. The agents `lm` and `best_of_n` have the options as flags.
"""

from textgym.lm.sampling.draw import Sampling, sample_tokens

__all__ = ["Sampling", "sample_tokens"]
