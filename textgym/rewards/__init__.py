"""Rewards: functions that judge texts, by name, and their weighted sum.

A reward function has TRL's signature, ``(prompts, completions, **columns) -> one number a text``,
so that one written for either library runs in the other: parameters get their input by name
(:mod:`textgym.rewards.signature`), it may be asynchronous, None says that it does not apply, and
:func:`messages` gives it lists of messages in place of strings. The rewards here read both. They
count the words of any script (:mod:`textgym.data.words`). The named ones:

=================== ===================================================== =========
name                reward                                                range
=================== ===================================================== =========
``exact_match``     1 for a reference, word for word                      0 or 1
``keywords``        fraction of the keywords used                         [0, 1]
``regex``           1 for a match of a pattern                            0 or 1
``length``          nearness to a length, or a budget                     [0, 1]
``distinct``        distinct n-grams for each word                        [0, 1]
``repetition``      minus the share of repeated n-grams                   (-1, 0]
``wer``, ``cer``    minus the word, character error rate (``error_rate``) (-inf, 0]
``edit_similarity`` normalised Levenshtein similarity                     [0, 1]
``bleu``            sentence BLEU                                         [0, 1]
``chrf``            sentence chrF, chrF++                                 [0, 1]
``ter``             1 - translation edit rate                             (-inf, 1]
``rouge``           mean of ROUGE-1, -2 and -L; also ``rouge1``,          [0, 1]
                    ``rouge2``, ``rougeL``, ``rougeLsum``
``meteor``          METEOR: words, stems and order                        [0, 1)
``cider``           CIDEr-D: n-grams weighted by how rare they are        [0, 10]
``parent``          PARENT: a text against a table and references         [0, 1]
``concepts``        concepts used, less what is repeated                  [-1, 1]
``intent``          a dialogue act recognised, and METEOR                 [0, 2]
increasing_numbers  numbers that go on rising                             [0, 1]
``dates``           well-formed dates                                     [0, 1]
``unit_tests``      share of unit tests that a program passes             [0, 1]
``judge``           what a language model says, over an OpenAI-like API   [0, 1]
``http``            what any server says                                  any
``fluency``         log-likelihood a token under a frozen language model  (-inf, 0]
``similarity``      cosine of sentence embeddings                         [-1, 1]
``bertscore``       matching of contextual embeddings                     [-1, 1]
``classifier``      a text classifier's probability of a label            [0, 1]
``reward_model``    a reward model's score; also one that you trained     any
``adversarial``     how real a discriminator that learns beside the       [0, 1]
                    policy takes the text to be
=================== ===================================================== =========

Each class's docstring says what it needs, what it costs, and how a policy would game it.
:class:`Gate`, :class:`Product`, :class:`Max`, :class:`Min`, :class:`Clip`, :class:`Scale` and
:class:`Normalize` make rewards of rewards. ``python -m textgym.rewards.train`` learns one from
preferences.
"""

from textgym.rewards.combinators import Clip, Gate, Max, Min, Product, Scale
from textgym.rewards.combine import RewardSpec, RewardSum
from textgym.rewards.messages import messages
from textgym.rewards.metrics.cider import Cider
from textgym.rewards.metrics.concepts import Concepts
from textgym.rewards.metrics.corpus import Metric, evaluate
from textgym.rewards.metrics.error_rate import EditSimilarity, ErrorRate
from textgym.rewards.metrics.intent import Intent
from textgym.rewards.metrics.length import Distinct, Length, Repetition
from textgym.rewards.metrics.matching import ExactMatch, Keywords, Regex
from textgym.rewards.metrics.meteor import Meteor
from textgym.rewards.metrics.parent import Parent
from textgym.rewards.metrics.rouge import Rouge
from textgym.rewards.metrics.synthetic import Dates, IncreasingNumbers
from textgym.rewards.metrics.translation import Bleu, Chrf, Ter
from textgym.rewards.normalization import Normalize
from textgym.rewards.registry import (
    RewardFunction,
    make_reward,
    register_reward,
    registered_rewards,
)
from textgym.rewards.remote.background import Background

# Imported, with the libraries that they need, when they are first made.
for _name, _address in {
    "adversarial": "adversarial.reward:Adversarial",
    "bertscore": "neural.bertscore:BertScore",
    "classifier": "neural.classifier:Classifier",
    "fluency": "neural.fluency:Fluency",
    "http": "remote.http_scorer:HttpScorer",
    "judge": "remote.judge:Judge",
    "reward_model": "neural.classifier:RewardModel",
    "similarity": "neural.similarity:SemanticSimilarity",
    "unit_tests": "code.unit_tests:UnitTests",
}.items():
    register_reward(_name, f"{__name__}.{_address}")

__all__ = [
    "Background",
    "Bleu",
    "Chrf",
    "Cider",
    "Clip",
    "Concepts",
    "Dates",
    "Distinct",
    "EditSimilarity",
    "ErrorRate",
    "ExactMatch",
    "Gate",
    "IncreasingNumbers",
    "Intent",
    "Keywords",
    "Length",
    "Max",
    "Meteor",
    "Metric",
    "Min",
    "Normalize",
    "Parent",
    "Product",
    "Regex",
    "Repetition",
    "RewardFunction",
    "RewardSpec",
    "RewardSum",
    "Rouge",
    "Scale",
    "Ter",
    "evaluate",
    "make_reward",
    "messages",
    "register_reward",
    "registered_rewards",
]
