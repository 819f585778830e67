"""How tokens are drawn from the logits of a language model."""

from textgym.lm.sampling.draw import Sampling, sample_tokens

__all__ = ["Sampling", "sample_tokens"]
