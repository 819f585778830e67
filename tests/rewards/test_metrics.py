import itertools
import math

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from textgym.errors import RewardError
from textgym.rewards import Bleu, Chrf, Rouge, Ter
from textgym.rewards.metrics.cider import Cider
from textgym.rewards.metrics.corpus import Metric, evaluate
from textgym.rewards.metrics.diversity import DIVERSITY
from textgym.rewards.metrics.meteor import Meteor
from textgym.rewards.metrics.synthetic import Dates

# The example of sacrebleu's README.
SAID = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
STREAMS = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
MEANT = [list(pair) for pair in zip(*STREAMS, strict=True)]


# -- sacrebleu's and rouge-score's own -------------------------------------------------------------


def test_corpus_scores_as_published() -> None:
    results = evaluate(SAID, references=MEANT, metrics=["bleu", "chrf", "ter"])
    assert list(results) == ["bleu", "chrf", "ter"]
    assert round(100 * results["bleu"].corpus, 2) == 48.53
    assert round(100 * results["chrf"].corpus, 2) == 59.73
    assert 1 - results["ter"].corpus == pytest.approx(
        sacrebleu.corpus_ter(SAID, STREAMS).score / 100
    )


def test_corpus_scores_are_not_the_means_of_the_texts() -> None:
    for name in ("bleu", "chrf", "ter"):
        corpus, per_text = evaluate(SAID, references=MEANT, metrics=name)[name]
        reward = {"bleu": Bleu, "chrf": Chrf, "ter": Ter}[name]()
        assert per_text == reward([""] * 3, SAID, reference=MEANT)
        assert corpus != pytest.approx(sum(per_text) / 3, abs=1e-3)


TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "Mat."]), max_size=8).map(" ".join)
ROWS = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=4
)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_corpus_scores_are_sacrebleus(rows: list[tuple[str, list[str]]]) -> None:
    said = [text for text, _ in rows]
    meant = [references for _, references in rows]
    streams = list(itertools.zip_longest(*meant))
    # A row without references is left out.
    results = evaluate(
        [*said, "cat"],
        references=[*meant, None],
        metrics={"bleu": "bleu", "chrf": "chrf", "ter": "ter", "low": Bleu(lowercase=True)},
    )
    assert all(result.per_text[-1] is None for result in results.values())
    expected = {
        "bleu": sacrebleu.corpus_bleu(said, streams).score / 100,
        "chrf": sacrebleu.corpus_chrf(said, streams).score / 100,
        "ter": 1 - sacrebleu.corpus_ter(said, streams).score / 100,
        "low": sacrebleu.corpus_bleu(said, streams, lowercase=True).score / 100,
    }
    assert {name: result.corpus for name, result in results.items()} == pytest.approx(expected)


def test_rouge_is_the_mean_of_the_texts() -> None:
    # The example of rouge-score's README, and one of its tests.
    said = ["The quick brown dog jumps on the log.", "testing"]
    meant = ["The quick brown fox jumps over the lazy dog", "testing one two"]
    results = evaluate(said, references=meant, metrics=["rouge1", "rougeL", "rouge"])
    assert results["rouge1"].per_text == pytest.approx([2 * 6 / (8 + 9), 0.5])
    assert results["rougeL"].per_text == pytest.approx([2 * 5 / (8 + 9), 0.5])
    library = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for name in ("rouge1", "rougeL"):
        values = [library.score(b, a)[name].fmeasure for a, b in zip(said, meant, strict=True)]
        assert results[name].corpus == pytest.approx(sum(values) / 2)
    each = [list(library.score(b, a).values()) for a, b in zip(said, meant, strict=True)]
    mean = np.mean([[one.fmeasure for one in scores] for scores in each])
    assert results["rouge"].corpus == pytest.approx(mean)


def test_the_best_reference_counts_for_rouge_l() -> None:
    library = rouge_scorer.RougeScorer(["rougeL"])
    best = [
        max(library.score(one, said)["rougeL"].fmeasure for one in meant)
        for said, meant in zip(SAID, MEANT, strict=True)
    ]
    result = evaluate(SAID, references=MEANT, metrics="rougeL")["rougeL"]
    assert result.per_text == pytest.approx(best)
    assert result.corpus == pytest.approx(sum(best) / 3)


# -- any reward, any function ----------------------------------------------------------------------


def test_every_registered_reward_is_a_metric() -> None:
    results = evaluate(
        SAID,
        references=MEANT,
        metrics=["meteor", "cider", "exact_match", "keywords", Dates.name],
        columns={"keywords": [["dog"], None, ["man", "cat"]]},
    )
    assert results["keywords"] == Metric(0.75, [1.0, None, 0.5])
    assert results["exact_match"] == Metric(pytest.approx(1 / 3), [1.0, 0.0, 0.0])
    assert results["dates"].corpus == 0
    for name, reward in (("meteor", Meteor()), ("cider", Cider())):
        values = reward([""] * 3, SAID, reference=MEANT)
        assert results[name] == Metric(pytest.approx(sum(values) / 3), pytest.approx(values))


def test_functions_are_metrics() -> None:
    def longer(completions, reference, **columns):  # TRL's form
        return np.array([float(len(a) > len(b[0])) for a, b in zip(completions, reference)])  # noqa: B905

    def prompted(prompts, completions):
        return [None if not prompt else len(text) for prompt, text in zip(prompts, completions)]  # noqa: B905

    results = evaluate(
        SAID,
        prompts=["", "a", "b"],
        references=MEANT,
        metrics={"longer": longer, "size": prompted, "low": Rouge("rouge1", "recall")},
    )
    assert results["longer"] == Metric(pytest.approx(1 / 3), [0.0, 0.0, 1.0])
    assert results["size"] == Metric(24.5, [None, 21.0, 28.0])
    assert results["low"].corpus == evaluate(
        SAID, None, MEANT, {"r": Rouge("rouge1", "recall")}
    )["r"].corpus  # fmt: skip


def test_a_reward_with_a_corpus_number_of_its_own() -> None:
    class Total:
        def __call__(self, prompts, completions, **columns):
            return [float(len(text)) for text in completions]

        def corpus(self, prompts, completions, **columns):
            return sum(columns["weight"])

    result = evaluate(["a", "bb"], metrics={"t": Total()}, columns={"weight": [3, 4]})["t"]
    assert result == Metric(7.0, [1.0, 2.0])


# -- diversity -------------------------------------------------------------------------------------


def test_diversity_by_hand() -> None:
    texts = ["the cat sat, the cat ran.", "The dog", ""]
    # the 3, cat 2, sat, ran, dog: 8 words, 5 kinds. Bigrams: the-cat 2, cat-sat, sat-the, cat-ran,
    # the-dog: 6, of 5 kinds. Trigrams: the-cat-sat, cat-sat-the, sat-the-cat, the-cat-ran: 4.
    results = evaluate(texts, metrics="diversity", segment=4)
    assert all(result.per_text is None for result in results.values())
    half, quarter = -0.5 * math.log2(0.5), -0.25 * math.log2(0.25)
    expected = {
        "msttr": (3 / 4 + 4 / 4) / 2,  # the cat sat the | cat ran the dog
        "distinct_1": 5 / 8,
        "distinct_2": 5 / 6,
        "distinct_3": 1,
        "vocabulary_1": 5,
        "vocabulary_2": 5,
        "vocabulary_3": 4,
        "unique_1": 3,
        "unique_2": 4,
        "unique_3": 4,
        "entropy_1": -3 / 8 * math.log2(3 / 8) + quarter + 3 / 8 * 3,
        "entropy_2": -1 / 3 * math.log2(1 / 3) + 4 / 6 * math.log2(6),
        "entropy_3": 2,
        # After "the" (3 of 6): cat, cat, dog; after "cat" (2 of 6): sat, ran; after "sat": the.
        "conditional_entropy_2": 3 / 6 * (-2 / 3 * math.log2(2 / 3) - 1 / 3 * math.log2(1 / 3))
        + 2 / 6 * 2 * half,
        # After "the cat" (2 of 4): sat, ran; else one word.
        "conditional_entropy_3": 2 / 4 * 2 * half,
        "total_length": 8,
        "mean_length": 8 / 3,
    }
    assert {name: result.corpus for name, result in results.items()} == pytest.approx(expected)
    assert set(expected) == set(DIVERSITY)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), min_size=1, max_size=4))
def test_the_chain_rule_of_entropy(texts: list[str]) -> None:
    # H(bigram) = H(its first word) + H(its second | its first), over the words that have a next.
    results = evaluate(texts, metrics="diversity", segment=2)
    value = {name: result.corpus for name, result in results.items()}
    firsts = [word for text in texts for word in text.split()[:-1]]
    shares = [firsts.count(word) / len(firsts) for word in set(firsts)]
    first = -sum(share * math.log2(share) for share in shares)
    assert value["entropy_2"] == pytest.approx(first + value["conditional_entropy_2"], abs=1e-9)
    words = [word for text in texts for word in text.split()]
    kinds = [len({*pair}) / 2 for pair in zip(words[::2], words[1::2], strict=False)]
    assert value["msttr"] == (pytest.approx(np.mean(kinds)) if kinds else pytest.approx(
        math.nan, nan_ok=True))  # fmt: skip


def test_segments_have_a_length() -> None:
    text = " ".join(map(str, range(150)))
    assert evaluate([text], metrics="msttr")["msttr"] == Metric(1.0, None)
    assert math.isnan(evaluate([text], metrics="msttr", segment=151)["msttr"].corpus)
    with pytest.raises(RewardError, match=r"segment .*not 0"):
        evaluate([text], metrics="msttr", segment=0)


def test_names_stay_in_order() -> None:
    names = ["distinct_2", "exact_match", "mean_length"]
    assert list(evaluate(["a"], references=["a"], metrics=names)) == names
    renamed = evaluate(["a b"], metrics={"mine": "distinct_2"})
    assert renamed == {"mine": Metric(1.0, None)}


# -- errors ----------------------------------------------------------------------------------------


def test_unknown_names() -> None:
    with pytest.raises(RewardError, match="no metric 'rogue'; did you mean 'rouge'"):
        evaluate(["a"], references=["a"], metrics="rogue")
    with pytest.raises(RewardError, match="no metric 'distinct-2'; did you mean 'distinct_2'"):
        evaluate(["a"], metrics=["distinct-2"])
    with pytest.raises(RewardError, match=r"no metric 'bleurt'.*or give a function"):
        evaluate(["a"], metrics=["bleurt"])
    with pytest.raises(RewardError, match=r"name the metric .*metrics={'its name': the function}"):
        evaluate(["a"], metrics=[len])


def test_what_cannot_be_judged() -> None:
    with pytest.raises(RewardError, match=r"^evaluate: completions"):
        evaluate([])
    with pytest.raises(RewardError, match="'reference' has 1 values for 2 completions"):
        evaluate(["a", "b"], references=["a"])
    with pytest.raises(RewardError, match="'prompts' has 3 values for 1 completions"):
        evaluate(["a"], prompts=["a", "b", "c"])
    with pytest.raises(RewardError, match="metric 'bleu' needs the column 'reference'"):
        evaluate(["a"], metrics="bleu")
    with pytest.raises(RewardError, match="metric 'bleu' applies to none of the texts"):
        evaluate(["a"], references=[None], metrics="bleu")
    with pytest.raises(RewardError, match="metric 'short' returned 1 values for 2 texts"):
        evaluate(["a", "b"], metrics={"short": lambda completions: [1.0]})
    with pytest.raises(RewardError, match="metric 'nan' returned float nan for row 0"):
        evaluate(["a"], metrics={"nan": lambda completions: [math.nan]})
    with pytest.raises(RewardError, match=r"^chrf: a corpus score needs .*references"):
        Chrf().corpus([""], ["a"], reference=[None])
