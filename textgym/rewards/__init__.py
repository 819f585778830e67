"""Reward functions: named ones, their combinations, and learned ones.

A reward function has TRL's signature, ``(prompts, completions, **columns) -> one number per text``,
so that one written for either library works in the other. Parameters are matched by name
(:mod:`textgym.rewards.signature`); the function may be asynchronous; None means that it does not
apply; :func:`messages` passes messages instead of strings. The rewards below read both, and count
words in any script (:mod:`textgym.data.words`).

====================== ==================================================== =========
name                   reward                                               range
====================== ==================================================== =========
``exact_match``        1 for a text that equals a reference                 0 or 1
``keywords``           fraction of the keywords used                        [0, 1]
``regex``              1 for a match of a pattern                           0 or 1
``length``             closeness to a length, or a length budget            [0, 1]
``distinct``           distinct n-grams per word                            [0, 1]
``repetition``         minus the share of repeated n-grams                  (-1, 0]
``wer``, ``cer``       minus the word or character error rate               (-inf, 0]
                       (``error_rate``)
``edit_similarity``    normalized Levenshtein similarity                    [0, 1]
``bleu``               sentence BLEU                                        [0, 1]
``chrf``               sentence chrF, chrF++                                [0, 1]
``ter``                1 minus the translation edit rate                    (-inf, 1]
``rouge``              mean of ROUGE-1, -2 and -L; also ``rouge1``,         [0, 1]
                       ``rouge2``, ``rougeL``, ``rougeLsum``
``meteor``             METEOR: words, stems, synonyms and their order       [0, 1)
``cider``              CIDEr-D: n-grams weighted by their rarity            [0, 10]
``parent``             PARENT: overlap with a table and with references     [0, 1]
``concepts``           concepts used, minus a penalty for copying           [-1, 1]
``intent``             correct dialogue act, plus METEOR                    [0, 2]
``increasing_numbers`` numbers in increasing order                          [0, 1]
``dates``              well-formed dates                                    [0, 1]
``unit_tests``         share of unit tests that a program passes            [0, 1]
``judge``              grade of a language model, over an OpenAI-like API   [0, 1]
``http``               score of any HTTP server                             any
``fluency``            log-likelihood per token under a frozen LM           (-inf, 0]
``similarity``         cosine of sentence embeddings                        [-1, 1]
``bertscore``          matching of contextual embeddings                    [-1, 1]
``classifier``         a text classifier's probability of a label           [0, 1]
``reward_model``       score of a reward model, such as one you trained     any
``adversarial``        how real the text looks to a discriminator that is   [0, 1]
                       trained along with the policy
====================== ==================================================== =========

The docstring of each class states what it needs, what it costs, and how a policy could game it.
:class:`Gate`, :class:`Product`, :class:`Max`, :class:`Min`, :class:`Clip`, :class:`Scale` and
:class:`Normalize` combine rewards. ``python -m textgym.rewards.train`` trains a reward model on
preferences.

To add a reward, write a class with ``__call__(self, prompts, completions, **columns)``, decorate it
with :func:`register_reward`, and put it into the folder of its kind:

* ``metrics/``: compares a text with references (base class ``references.ReferenceReward``), or
  counts; numpy and small libraries only;
* ``neural/``: runs a pretrained network (base class ``neural.scorer.ModelReward``);
* ``adversarial/``: trains a network along with the policy;
* ``remote/``: calls a server (base class ``remote.server.RemoteReward``);
* ``code/``: runs programs in the sandbox;
* ``preferences/``: trains a reward model, which ``reward_model`` then runs, or an ensemble of heads
  while judgements come in;
* ``spans/``: learns rewards of tokens from marked parts of texts.

Rewards in ``metrics/`` are imported below; the others, which load heavy libraries, are listed in
the table of addresses below and imported on first use. The other files of this folder are the
machinery: ``registry`` (names), ``signature`` (how a function is called), ``combine`` (the weighted
sum), ``validation`` (checks of returned values, errors), ``combinators`` and ``normalization`` with
``nested`` (rewards made of rewards), ``references`` and ``values`` (reading columns and options).
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

# Imported on first use, together with the libraries that they need.
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
