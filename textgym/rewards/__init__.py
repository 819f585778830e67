"""Rewards: functions that judge texts, by name, and their weighted sum.

A reward function has TRL's signature, ``(prompts, completions, **columns) -> one number a text``,
so that one written for either library runs in the other. The named ones:

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
=================== ===================================================== =========

Each class's docstring says what it needs, what it costs, and how a policy would game it.
"""

from textgym.rewards.combine import RewardSpec, RewardSum
from textgym.rewards.error_rate import EditSimilarity, ErrorRate
from textgym.rewards.exact import ExactMatch, Keywords, Regex
from textgym.rewards.length import Distinct, Length, Repetition
from textgym.rewards.overlap import Bleu, Chrf, Rouge, Ter
from textgym.rewards.registry import (
    RewardFunction,
    make_reward,
    register_reward,
    registered_rewards,
)

__all__ = [
    "Bleu",
    "Chrf",
    "Distinct",
    "EditSimilarity",
    "ErrorRate",
    "ExactMatch",
    "Keywords",
    "Length",
    "Regex",
    "Repetition",
    "RewardFunction",
    "RewardSpec",
    "RewardSum",
    "Rouge",
    "Ter",
    "make_reward",
    "register_reward",
    "registered_rewards",
]
