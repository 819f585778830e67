"""The smallest text environment: one word, ``good`` or ``bad``, and a gradient in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted


class GoodBad(Task):
    r"""Write ``good``, not ``bad``.

    ## Description

    The policy writes one word of a vocabulary of two. The environment is a unit test for learning
    rules: the policy has a single degree of freedom, and every quantity has a closed form.

    Let the policy be a softmax over two logits, d = logit(good) - logit(bad), and p = P(good).

    1. p = exp(l_good) / (exp(l_good) + exp(l_bad)) = 1 / (1 + exp(-d)), the logistic function.
    2. Its derivative is dp/dd = exp(-d) / (1 + exp(-d))^2 = p (1 - p).
    3. The expected reward is J = p (+1) + (1 - p) (-1) = 2 p - 1.
    4. So dJ/dd = 2 dp/dd = **2 p (1 - p)**, with its maximum of 1/2 at p = 1/2.
    5. In the logits themselves: dd/dl_good = 1 and dd/dl_bad = -1, so the gradient of J is
       (2 p (1 - p), -2 p (1 - p)); its entries sum to 0, since a softmax ignores a common shift.

    REINFORCE estimates it from one sample by (r - b) d log pi(a) / dd, with a baseline b that does
    not depend on a. Here log p(good) = -log(1 + exp(-d)) has the derivative 1 - p, and log p(bad) =
    log(1 - p) has -p. So the estimate is

    * (+1 - b) (1 - p) after ``good``, with probability p,
    * (-1 - b) (-p) = (1 + b) p after ``bad``, with probability 1 - p.

    Its mean is p (1 - b) (1 - p) + (1 - p) (1 + b) p = 2 p (1 - p) for every b: it is unbiased. Its
    variance is that of a two-valued variable, p (1 - p) ((1 - b)(1 - p) - (1 + b) p)^2 =
    p (1 - p) (1 - 2 p - b)^2, which the baseline b = 1 - 2 p = -J makes zero. (The usual baseline
    b = J leaves 4 p (1 - p) (1 - 2 p)^2, zero only at p = 1/2.) With b = 0 and p = 1/2 both words
    give the exact gradient, 1/2.

    ## Observation Space

    ``Box(-1, 1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(2)``: 0 writes ``good``, 1 writes ``bad``.

    ## Rewards

    +1 for ``good``, -1 for ``bad``, and 0 for any other text (possible with another vocabulary).
    The mean reward of a uniform policy is 0. The score is 1 for ``good`` and 0 for everything else.

    ## Starting State

    An empty prompt.

    | prompt | reference | reward |
    |---|---|---|
    | (empty) | ``good`` | +1 |

    ## Episode End

    After one word, a termination.

    ## Arguments

    None. There is one level, and both splits contain the same prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/GoodBad-v0"
    tags = ("basic", "exact")
    scored_by = "1 for `good`; a bandit whose gradient is known in closed form"
    max_prompt_tokens = 1
    max_new_tokens = 1
    tokenizer = ("good", "bad")
    stop_at_eos = False
    cheat_ceiling = 1.0
    disjoint_splits = False

    def generate(self, rng: np.random.Generator) -> Row:
        """Return the only row."""
        return {"prompt": "", "reference": "good"}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """1.0 for ``good``, 0.0 for anything else."""
        if text == "good":
            return Judgement().add(quoted(text), "right", 1.0)
        return nothing(quoted(text), "not 'good'")

    def reward(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """+1.0 for ``good``, -1.0 for ``bad``, 0.0 for anything else."""
        values = {"good": 1.0, "bad": -1.0}
        return [values.get(completion.strip(), 0.0) for completion in completions]

    def baselines(self) -> dict[str, Baseline]:
        """A fair coin: expected reward 0, expected score 1/2."""
        return {"coin": lambda row, rng: ("good", "bad")[int(rng.integers(2))]}
