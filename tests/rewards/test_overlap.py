import logging
import math
from collections import Counter

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from textgym.errors import RewardError
from textgym.rewards import Bleu, Chrf, Rouge, Ter, make_reward

TEXTS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "Mat."]), max_size=8).map(" ".join)
REFERENCES = st.lists(TEXTS.filter(bool), min_size=1, max_size=3)


def score(reward: object, said: str, *references: str) -> float:
    [value] = reward([""], [said], reference=[list(references)])
    return value


# -- BLEU ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "references", "options", "published"),
    [
        # Papineni et al. (2002), section 2.1: the clipped unigram precision is 2/7.
        ("the the the the the the the",
         ("the cat is on the mat", "there is a cat on the mat"), {"max_ngram_order": 1}, 2 / 7),
        # The same section, its candidates 1 and 2: 17/18 and 8/14 (with the brevity penalty).
        ("It is a guide to action which ensures that the military always obeys the commands of "
         "the party",
         ("It is a guide to action that ensures that the military will forever heed Party commands",
          "It is the guiding principle which guarantees the military forces always being under "
          "the command of the Party",
          "It is the practical guide for the army always to heed the directions of the party"),
         {"max_ngram_order": 1}, 17 / 18),
        ("It is to insure the troops forever hearing the activity guidebook that party direct",
         ("It is a guide to action that ensures that the military will forever heed Party commands",
          "It is the guiding principle which guarantees the military forces always being under "
          "the command of the Party",
          "It is the practical guide for the army always to heed the directions of the party"),
         {"max_ngram_order": 1}, 8 / 14 * math.exp(1 - 16 / 14)),
        # The numbers that sacrebleu's own tests keep.
        ("this is a test", ("this is a test",), {}, 1.0),
        ("this is a fest", ("this is a test",),
         {"smooth_method": "floor", "smooth_value": 0.01}, 0.223606797749979),
        ("test", ("a test",), {}, 0.3678794411714425),
    ],
)  # fmt: skip
def test_bleu_as_published(said: str, references: tuple[str, ...], options: dict, published: float):
    assert score(Bleu(**options), said, *references) == pytest.approx(published, abs=1e-8)


@given(TEXTS, REFERENCES)
def test_bleu_from_its_formula(said: str, references: list[str]) -> None:
    words, meant = said.split(), [one.split() for one in references]
    logs = []
    for n in (1, 2):
        counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        limits = [Counter(tuple(r[i : i + n]) for i in range(len(r) - n + 1)) for r in meant]
        hits = sum(min(c, max(limit[gram] for limit in limits)) for gram, c in counts.items())
        logs.append(math.log(hits / counts.total()) if hits else -math.inf)
    closest = min((abs(len(r) - len(words)), len(r)) for r in meant)[1]
    penalty = min(0.0, 1 - closest / len(words)) if words else 0.0
    reward = Bleu(max_ngram_order=2, smooth_method="none", tokenize="none", effective_order=False)
    assert score(reward, said, *references) == pytest.approx(math.exp(penalty + sum(logs) / 2))


@given(TEXTS, REFERENCES)
def test_bleu_is_sacrebleus(said: str, references: list[str]) -> None:
    assert score(Bleu(), said, *references) * 100 == pytest.approx(
        sacrebleu.sentence_bleu(said, references).score
    )
    options = {"lowercase": True, "tokenize": "char", "smooth_method": "add-k", "smooth_value": 2.0}
    assert score(Bleu(**options), said, *references) * 100 == pytest.approx(
        sacrebleu.sentence_bleu(said, references, **options).score
    )


# -- chrF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reference", "options", "published"),
    [
        # The numbers that sacrebleu's own tests keep.
        ("Nebo prostě nemají vybavení, které by jim pomohlo, uvedli lékaři.",
         "A někdy nemáme ani potřebný materiál, abychom jim pomohli, popsali lékaři.",
         {"eps_smoothing": True}, 31.22557079),
        ("risk assessment must be made of those who are qualified and expertise in the sector - "
         "these are the scientists .",
         "risk assessment has to be undertaken by those who are qualified and expert in that area "
         "- that is the scientists .", {"beta": 3, "eps_smoothing": True}, 63.361730),
        ("abcdefg", "hijklmnop", {}, 0.0),
        ("aa", "ab", {"beta": 3}, 25.0),
        ("a b c", "abc", {}, 100.0),
        ("", "reference", {}, 0.0),
    ],
)  # fmt: skip
def test_chrf_as_published(said: str, reference: str, options: dict, published: float) -> None:
    assert score(Chrf(**options), said, reference) * 100 == pytest.approx(published, abs=1e-4)


@given(TEXTS.filter(bool), TEXTS.filter(bool))
def test_chrf_from_its_formula(said: str, meant: str) -> None:
    a, b = said.replace(" ", ""), meant.replace(" ", "")
    parts = []
    for n in (1, 2):
        grams = [Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in (a, b)]
        if all(grams):
            hits = (grams[0] & grams[1]).total()
            parts.append((hits / grams[0].total(), hits / grams[1].total()))
    precision, recall = (sum(p) / len(parts) for p in zip(*parts, strict=True))
    expected = 5 * precision * recall / (4 * precision + recall) if precision and recall else 0.0
    assert score(Chrf(char_order=2), said, meant) == pytest.approx(expected)


@given(TEXTS, REFERENCES)
def test_chrf_is_sacrebleus(said: str, references: list[str]) -> None:
    options = {"word_order": 2, "beta": 1, "remove_whitespace": False}
    assert score(Chrf(word_order=2, beta=1, whitespace=True), said, *references) == pytest.approx(
        sacrebleu.sentence_chrf(said, references, **options).score / 100
    )
    assert score(Chrf(lowercase=True), said.upper(), *references) == pytest.approx(
        sacrebleu.sentence_chrf(said.lower(), [one.lower() for one in references]).score / 100
    )


# -- TER -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reference", "rate"),
    [
        # The numbers that sacrebleu's own tests keep.
        ("aaaa bbbb cccc dddd", "aaaa bbbb cccc dddd", 0),
        ("dddd eeee ffff", "aaaa bbbb cccc", 1),
        ("", "a", 1),
        ("d e f g h a b c", "a b c d e f g h", 1 / 8),  # one shift
        # Not clipped.
        ("a b c d", "x", 4),
    ],
)
def test_ter_as_published(said: str, reference: str, rate: float) -> None:
    assert score(Ter(), said, reference) == pytest.approx(1 - rate)


def test_ter_of_snovers_example() -> None:
    # Snover et al. (2006), section 3: a shift, two substitutions and an insertion, 4/13.
    reference = "SAUDI ARABIA denied THIS WEEK information published in the AMERICAN new york times"
    said = "THIS WEEK THE SAUDIS denied information published in the new york times"
    assert score(Ter(case_sensitive=True), said, reference) == pytest.approx(1 - 4 / 13)


@given(TEXTS, REFERENCES)
def test_ter_is_sacrebleus(said: str, references: list[str]) -> None:
    options = {"normalized": True, "no_punct": True, "case_sensitive": True}
    assert score(Ter(**options), said, *references) == pytest.approx(
        1 - sacrebleu.sentence_ter(said, references, **options).score / 100
    )


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "library", "options", "said", "meant"),
    [
        (Bleu, "BLEU", {"lowercase": True}, "The cat sat on it", "the cat sat on it"),
        (Bleu, "BLEU", {"tokenize": "none"}, "the cat sat on it.", "the cat sat on it ."),
        (Bleu, "BLEU", {"smooth_method": "none"}, "the cat sat on", "cat the sat on"),
        (Bleu, "BLEU", {"smooth_method": "add-k", "smooth_value": 3}, "a b c d", "a b c e"),
        (Bleu, "BLEU", {"max_ngram_order": 2}, "a b c d", "a b c e"),
        (Bleu, "BLEU", {"effective_order": False}, "a b", "a b"),
        (Chrf, "CHRF", {"char_order": 2}, "the cat", "the hat"),
        (Chrf, "CHRF", {"word_order": 2}, "the cat", "the hat"),
        (Chrf, "CHRF", {"beta": 1}, "the cat", "the cat sat"),
        (Chrf, "CHRF", {"lowercase": True}, "The cat", "the cat"),
        (Chrf, "CHRF", {"whitespace": True}, "the cat", "thec at"),
        (Chrf, "CHRF", {"eps_smoothing": True}, "cat", "cat"),
        (Ter, "TER", {"normalized": True}, "the cat, sat", "the cat , sat"),
        (Ter, "TER", {"no_punct": True}, "the cat, sat", "the cat sat"),
        (Ter, "TER", {"case_sensitive": True}, "The cat", "the cat"),
    ],
)
def test_every_option_reaches_the_library(
    kind: type, library: str, options: dict, said: str, meant: str
) -> None:
    defaults = {"effective_order": True} if kind is Bleu else {}
    scorer = getattr(sacrebleu.metrics, library)(**{**defaults, **options})
    expected = scorer.sentence_score(said, [meant]).score / 100
    if kind is Ter:
        expected = 1 - expected
    assert score(kind(**options), said, meant) == pytest.approx(expected)
    assert score(kind(), said, meant) != pytest.approx(expected)


def test_ter_can_leave_chinese_to_sacrebleu() -> None:
    options = {"asian_support": True, "normalized": True}
    said, meant = "我喜欢猫", "我喜欢狗"
    expected = 1 - sacrebleu.metrics.TER(**options).sentence_score(said, [meant]).score / 100
    assert score(Ter(**options, language="en"), said, meant) == pytest.approx(expected)
    assert score(Ter(language="en"), said, meant) == 0
    # The rule by script counts the same letters.
    assert score(Ter(), said, meant) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bleu", {"tokenize": "words"}, "'tokenize': 'words'.*KeyError"),
        ("bleu", {"smooth_method": "exq"}, "'smooth_method': 'exq'.*Unknown smooth_method"),
        ("bleu", {"max_ngram_order": 0}, "max_ngram_order .*not 0"),
        ("chrf", {"char_order": 0}, "char_order .*not 0"),
        ("rouge", {"variant": "rougeX"}, "variant .*not 'rougeX'"),
        ("rouge", {"measure": "f1"}, "measure .*not 'f1'"),
        ("rouge", {"tokenizer": "bpe"}, "tokenizer .*not 'bpe'"),
        ("rouge", {"tokenizer": "words", "stemmer": True}, "stemmer=True .*tokenizer='rouge'"),
    ],
)
def test_options_that_the_libraries_do_not_take(name: str, options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^{name}: .*{message}"):
        make_reward(name, **options)


# -- ROUGE ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "variant", "value"),
    [
        # Lin (2004), section 3.1, against "police killed the gunman".
        ("police kill the gunman", "rougeL", 3 / 4),
        ("the gunman kill police", "rougeL", 2 / 4),
        ("the gunman police killed", "rougeL", 2 / 4),
        ("police kill the gunman", "rouge2", 1 / 3),
        ("the gunman kill police", "rouge2", 1 / 3),
        ("the gunman police killed", "rouge2", 2 / 3),
        ("police kill the gunman", "rouge1", 3 / 4),
        ("police kill the gunman", "rouge", (3 / 4 + 1 / 3 + 3 / 4) / 3),
    ],
)
def test_rouge_as_published(said: str, variant: str, value: float) -> None:
    for measure in ("fmeasure", "precision", "recall"):  # texts of one length: all the same
        reward = Rouge(variant, measure)
        assert score(reward, said, "police killed the gunman") == pytest.approx(value)


def test_the_union_of_subsequences_as_published() -> None:
    # Lin (2004), section 3.2: LCS_u of w1 w2 w3 w4 w5 with two sentences is 4/5.
    said = "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"
    assert score(Rouge("rougeLsum", "recall"), said, "w1 w2 w3 w4 w5") == pytest.approx(4 / 5)


@given(TEXTS, TEXTS)
def test_rouge_n_from_its_formula(said: str, meant: str) -> None:
    a, b = (text.lower().replace(".", "").split() for text in (said, meant))
    for n in (1, 2):
        grams = [Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (a, b)]
        hits = (grams[0] & grams[1]).total()
        precision, recall = (hits / max(one.total(), 1) for one in grams)
        f = 2 * hits / (grams[0].total() + grams[1].total()) if hits else 0.0
        for measure, value in (("precision", precision), ("recall", recall), ("fmeasure", f)):
            assert score(Rouge(f"rouge{n}", measure), said, meant) == pytest.approx(value)


@settings(max_examples=50)
@given(TEXTS, REFERENCES)
def test_rouge_is_rouge_scores(said: str, references: list[str]) -> None:
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    library = rouge_scorer.RougeScorer(kinds, use_stemmer=True).score_multi(references, said)
    for kind in kinds:
        value = score(make_reward(kind, stemmer=True), said, *references)
        assert value == pytest.approx(library[kind].fmeasure)
    mean = sum(library[kind].fmeasure for kind in kinds[:3]) / 3
    assert score(make_reward("rouge", stemmer=True), said, *references) == pytest.approx(mean)


@given(TEXTS, REFERENCES)
def test_the_best_reference_counts_for_every_measure(said: str, references: list[str]) -> None:
    for measure in ("precision", "recall"):
        reward = Rouge("rougeL", measure)
        alone = max(score(reward, said, one) for one in references)
        assert score(reward, said, *references) == alone


def test_stemming_and_other_scripts() -> None:
    assert score(Rouge("rouge1"), "running dogs", "run dog") == 0
    assert score(Rouge("rouge1", stemmer=True), "running dogs", "run dog") == 1
    russian = "кошка сидит", "кошка спит"
    assert score(Rouge("rouge1", tokenizer="rouge"), *russian) == 0
    for variant in ("rouge1", "rougeL", "rougeLsum"):
        assert score(Rouge(variant, tokenizer="words"), *russian) == pytest.approx(0.5)
        assert score(Rouge(variant), *russian) == pytest.approx(0.5)


def test_names() -> None:
    for name in ("rouge", "rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert make_reward(name).name == name
    assert make_reward("rouge", variant="rouge2").name == "rouge2"


# -- all -----------------------------------------------------------------------------------------

ALL = [Bleu(), Chrf(), Ter(), Rouge(), Rouge("rougeLsum")]


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.name)
@settings(max_examples=50)
@given(said=st.text(), references=st.lists(st.text(), min_size=1, max_size=2))
def test_ranges_on_any_text(reward: object, said: str, references: list[str]) -> None:
    value = score(reward, said, *references)
    assert math.isfinite(value)
    assert value <= 1
    assert value >= 0 or isinstance(reward, Ter)


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.name)
@pytest.mark.parametrize(
    "said", ["", " ", "\n\n", "\x00", "\ud800", "\ufffd\u200d", "." * 200, "a" * 5000]
)
def test_junk(reward: object, said: str) -> None:
    assert score(reward, said, "the cat sat") <= 0.05
    assert math.isfinite(score(reward, said, ""))


@pytest.mark.parametrize("reward", ALL, ids=lambda reward: reward.name)
def test_a_perfect_text_gets_one_a_row_without_reference_none(reward: object) -> None:
    text = "The cat sat on the mat."
    assert reward([""] * 3, [text] * 3, reference=[text, None, [text, "x"]]) == [1.0, None, 1.0]


def test_the_libraries_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for reward in ALL:
            score(reward, "the cat sat on the mat .", "a cat sat .")
    assert not caplog.records
