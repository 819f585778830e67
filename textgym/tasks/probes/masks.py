"""A probe of forbidden words: of masks with them, of credit assignment without."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.tasks.judgement import Judgement
from textgym.tasks.probes.base import NUMBERS, Probe


class Masks(Probe):
    """Write four words, none of them a forbidden one: action masks make it easy.

    ## Description

    After any text half of the eight words are forbidden, and one forbidden word spoils all.
    `allowed` says which are not: with it as a mask every text is right, and there is nothing left
    to learn::

        task = textgym.make_task("TextGen/Probe-Masks-v0")
        env = ActionMasks(gymnasium.make(task.id), mask=task.allowed)

    Without it, it is a probe of credit assignment: an agent that avoids forbidden words in all
    places but one gets 1/2. At level 2 one that does not look at the text gets no more than 1/2.

    ## Observation Space

    ``Box(-1, 7, (5,), int32)``: token ids, -1 where nothing is written.

    ## Action Space

    ``Discrete(8)``: zero to seven.

    ## Rewards

    1 for four words none of which is forbidden, else 0. The best policy gets 1. Random words get
    (1/2)^4 = 1/16. ``info["cost"]`` is the number of forbidden words: 0 for the best policy, 4/2
    for random words.

    ## Starting State

    A number, each with the same probability. Forbidden are, by level: (1) odd numbers; (2) after an
    odd number odd ones, after an even number even ones.

    ``item(0)`` at level 1::

        seven -> zero zero zero zero

    ``item(0)`` at level 2::

        three -> zero one zero one

    ## Episode End

    After four words, a termination.

    ## Arguments

    ``level``: 1 (default) or 2. Both splits hold all prompts.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Probe-Masks-v0"
    tags = ("basic", "credit assignment")
    tokenizer = NUMBERS[:8]
    levels = (1, 2)
    max_new_tokens = 4
    _parity = {word: number % 2 for number, word in enumerate(tokenizer)}  # noqa: RUF012

    @property
    def random_reward(self) -> float:
        """Expected reward of uniformly random words: each is allowed with probability 1/2."""
        return 0.5**self.max_new_tokens

    def draw_prompt(self, rng: np.random.Generator) -> str:
        """A number."""
        return self.tokenizer[int(rng.random() * len(self.tokenizer))]

    def right(self, prompt: str) -> str:
        """Zeros, or zeros and ones in turns."""
        words = ["zero", "zero"]
        if self.level == 2:
            words = ["zero", "one"] if self._before(prompt) else ["one", "zero"]
        return " ".join(words * (self.max_new_tokens // 2))

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for a text of the right length without a forbidden word, 0.0 for any other."""
        right = len(self.words_of(text)) == self.max_new_tokens
        right = right and self._forbidden(row["prompt"], text) == 0
        return self.judgement(text, row, float(right))

    def costs(self) -> dict[str, Callable[..., Sequence[float]]]:
        """The number of forbidden words."""
        return {"forbidden": self._cost}

    def _cost(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        pairs = zip(prompts, completions, strict=True)
        return [float(self._forbidden(prompt, completion)) for prompt, completion in pairs]

    def allowed(self, texts: NDArray[np.int32]) -> NDArray[np.bool_]:
        """What may be written next, as :class:`textgym.wrappers.ActionMasks` asks for it.

        Args:
            texts: The texts so far, prompts included, ``[n, L]``, -1 where nothing is written.

        Returns:
            ``[n, V]``, True for the words that are not forbidden.
        """
        lengths = (texts >= 0).sum(1)
        before = (
            texts[np.arange(len(texts)), lengths - 1] % 2
        )  # where there is no word, -1 % 2 is 1
        if self.level == 1:
            before = np.ones_like(before)
        mask: NDArray[np.bool_] = np.arange(len(self.tokenizer)) % 2 != before[:, None]
        return mask

    def _before(self, prompt: str) -> int:
        """Whether the first word stands after an odd number: so it does, too, after no number."""
        return self._parity.get((prompt.split() or [""])[-1], 1)

    def _forbidden(self, prompt: str, completion: str) -> int:
        parities = [self._parity.get(word) for word in completion.split()]
        before = [1] * len(parities) if self.level == 1 else [self._before(prompt), *parities]
        # A word that is no number is forbidden too.
        return sum(one in (None, last) for last, one in zip(before, parities, strict=False))
