"""Rewards that count words, on scripts without spaces and with combining marks.

Two truths: libraries that cut Chinese into characters, and a cipher. The cipher writes an English
word for every letter of a text, so that every reward that counts words has to give both the same.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
import regex
import sacrebleu
from nltk.translate.meteor_score import meteor_score
from rapidfuzz.distance import Levenshtein
from rouge_score.rouge_scorer import RougeScorer

from textgym.errors import RewardError
from textgym.rewards import (
    Bleu,
    Cider,
    Concepts,
    Dates,
    Distinct,
    EditSimilarity,
    ErrorRate,
    IncreasingNumbers,
    Intent,
    Keywords,
    Length,
    Meteor,
    Parent,
    Repetition,
    Rouge,
    Ter,
    evaluate,
    make_reward,
)

ENGLISH = [2 * letter for letter in ascii_lowercase]
PAIRS = [
    ("天气很好我们去学校", "天气很好我们去公园"),
    ("好好好好好好", "好好学习天天向上"),
    ("東京タワーへ行きました", "東京タワーに行きます"),
    ("น้ำที่ดีที่ดี", "น้ำที่ไม่ดี"),
    ("မင်္ဂလာပါ", "မင်္ဂလာ"),
    ("ສະບາຍດີ", "ສະບາຍ"),
]


def letters(text: str) -> list[str]:
    """Letters with their signs, by Unicode's clusters; Burmese vowels belong to them too."""
    return regex.findall(r"\X\p{M}*", text)


def cipher(*texts: str) -> list[str]:
    table = {letter: ENGLISH[k] for k, letter in enumerate(dict.fromkeys(letters("".join(texts))))}
    return [" ".join(table[letter] for letter in letters(text)) for text in texts]


def score(reward: Any, said: str, prompt: str = "", **columns: Any) -> float | None:
    return reward([prompt], [said], **{name: [value] for name, value in columns.items()})[0]


CORPUS = [["天气很好"], ["我们去公园"], ["東京に行きます"]]
AGAINST_REFERENCES = [
    *(Rouge(variant) for variant in ("rouge", "rouge1", "rouge2", "rougeL", "rougeLsum")),
    Meteor(stems=False, synonyms=None),
    ErrorRate("word"),
    EditSimilarity("word"),
    Bleu(),
    Bleu(max_ngram_order=2, smooth_method="none"),
    Ter(),
]


@pytest.mark.parametrize(("said", "meant"), PAIRS)
@pytest.mark.parametrize("reward", AGAINST_REFERENCES, ids=str)
def test_letters_count_as_words_do(reward: Any, said: str, meant: str) -> None:
    coded, reference = cipher(said, meant)
    assert score(reward, said, reference=meant) == pytest.approx(
        score(reward, coded, reference=reference)
    )
    assert score(reward, meant, reference=meant) == score(reward, reference, reference=reference)


@pytest.mark.parametrize(("said", "meant"), PAIRS)
@pytest.mark.parametrize(
    "reward",
    [Length(4), Length(3, shape="budget"), Repetition(1), Repetition(2), Distinct(1), Distinct(2)],
    ids=str,
)
def test_lengths_and_repetitions_count_letters(reward: Any, said: str, meant: str) -> None:
    coded, _ = cipher(said, meant)
    assert score(reward, said) == score(reward, coded)


@pytest.mark.parametrize(("said", "meant"), PAIRS)
def test_other_rewards_count_letters(said: str, meant: str) -> None:
    coded, reference, other = cipher(said, meant, "天学")
    cider, english = Cider(corpus=[[meant], ["天学"]]), Cider(corpus=[[reference], [other]])
    assert score(cider, said, reference=meant) == pytest.approx(
        score(english, coded, reference=reference)
    )
    table, coded_table = [("x", meant)], [("x", reference)]
    assert score(Parent(), said, table=table, reference=meant) == pytest.approx(
        score(Parent(), coded, table=coded_table, reference=reference)
    )
    first, coded_first = letters(meant)[0], reference.split()[0]
    options: Any = {"copied": 3}
    assert score(Concepts(**options), said, meant, concepts=[first]) == score(
        Concepts(**options), coded, reference, concepts=[coded_first]
    )
    kept = evaluate([said, meant], metrics="diversity", segment=3)
    wanted = evaluate([coded, reference], metrics="diversity", segment=3)
    assert {name: one.corpus for name, one in kept.items()} == pytest.approx(
        {name: one.corpus for name, one in wanted.items()}, nan_ok=True
    )


class Characters:
    """A tokenizer for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return [one for one in text.lower() if one.isalnum()]


@pytest.mark.parametrize(
    ("said", "meant"),
    [("北京下大雨，航班推迟。", "北京大雨，航班推迟"), ("明月几时有", "把酒问青天"), ("", "好")],
)
def test_chinese_rouge_is_that_of_characters(said: str, meant: str) -> None:
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    library = RougeScorer(kinds, tokenizer=Characters()).score(meant, said)
    for kind in kinds:
        assert score(Rouge(kind), said, reference=meant) == library[kind].fmeasure


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("昨天下午，北京下了大雨。", "昨天下午，北京下了一场大雨！"),
        ("我用Python写了3个test。", "我用 Python 写了三个 test。"),
        ("他说:“你好”", "他说：“你好！”"),
    ],
)
def test_chinese_bleu_is_sacrebleus(said: str, meant: str) -> None:
    sentence = sacrebleu.metrics.BLEU(tokenize="zh", effective_order=True)
    expected = sentence.sentence_score(said, [meant]).score / 100
    assert score(Bleu(), said, reference=meant) == pytest.approx(expected)
    assert score(Bleu(tokenize="zh"), said, reference=meant) == pytest.approx(expected)
    corpus = sacrebleu.metrics.BLEU(tokenize="zh").corpus_score([said, "好"], [[meant, "很好"]])
    found = Bleu().corpus(["", ""], [said, "好"], reference=[meant, "很好"])
    assert found == pytest.approx(corpus.score / 100)


def test_english_bleu_is_as_ever() -> None:
    said, meant = "The cat, it sat “here” – on a €5 mat.", "The cat sat “there” – on a €6 mat."
    expected = sacrebleu.metrics.BLEU(effective_order=True).sentence_score(said, [meant]).score
    assert score(Bleu(), said, reference=meant) == pytest.approx(expected / 100)
    assert score(Bleu(tokenize="13a"), said, reference=meant) == pytest.approx(expected / 100)


@pytest.mark.parametrize(("said", "meant"), PAIRS)
def test_word_errors_are_errors_of_letters(said: str, meant: str) -> None:
    edits = Levenshtein.distance(letters(said), letters(meant))
    expected = -edits / len(letters(meant))
    assert score(make_reward("wer"), said, reference=meant) == pytest.approx(expected)


def test_chinese_meteor_is_that_of_characters() -> None:
    said, meant = "天气很好我们去学校", "天气很好我们去公园"
    expected = meteor_score([list(meant)], list(said), wordnet=NoSynonyms())
    assert score(Meteor(synonyms=None), said, reference=meant) == pytest.approx(expected)


class NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        return []


def cmrc_f1(said: str, meant: str) -> float:
    """The F1 of CMRC 2018's evaluation, for texts of Chinese characters: a common substring."""
    longest = max(
        (end - start for start in range(len(said)) for end in range(start + 1, len(said) + 1)
         if said[start:end] in meant),
        default=0,
    )  # fmt: skip
    return 2 * longest / (len(said) + len(meant)) if longest else 0.0


def test_an_answer_one_character_short_gets_most() -> None:
    rng = np.random.default_rng(1)
    characters = [chr(code) for code in range(0x4E00, 0x4F00)]
    for _ in range(100):
        meant = "".join(rng.choice(characters, size=rng.integers(2, 12), replace=False))
        for said in (meant[:-1], meant[1:]):
            expected = cmrc_f1(said, meant)
            assert expected > 0.6
            for kind in ("rouge1", "rougeL"):
                assert score(Rouge(kind), said, reference=meant) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "meant", "original"),
    [
        ("the β-carotene", "β-carotene is good", True),
        ("die strasse", "Für die Straße", True),
        ("我用Python写", "我用Python写代码", False),
        ("привет", "привет, мир", False),
        ("नमस्ते", "नमस्ते दुनिया", False),
        ("天气很好", "the weather is fine", True),
    ],
)
def test_rouge_is_the_original_for_latin_references(said: str, meant: str, original: bool) -> None:
    tokenizer = "rouge" if original else "words"
    assert score(Rouge(), said, reference=meant) == score(
        Rouge(tokenizer=tokenizer), said, reference=meant
    )


@pytest.mark.parametrize(
    ("said", "keyword", "used"),
    [
        ("किताब पढ़ो", "क", 0),
        ("किताब पढ़ो", "किताब", 1),
        ("我们去学校", "学校", 1),
        ("caf\u00e9", "cafe\u0301", 1),
        ("cafe\u0301", "cafe", 0),
        ("ที่นี่", "ท", 0),
    ],
)
def test_keywords_do_not_end_within_a_letter(said: str, keyword: str, used: float) -> None:
    assert score(Keywords(), said, keywords=[keyword]) == used


def test_concepts_of_several_letters() -> None:
    row = {"prompt": "造句：学习、人工智能、机器人", "concepts": ["学习", "人工智能", "机器人"]}
    # Using a concept of four letters is not copying four words of the prompt.
    assert score(Concepts(), "他学习了人工智能的知识，做机器人", **row) == 1
    assert score(Concepts(), "学习、机器人和人工智能", **row) == 0
    assert score(Concepts(forbidden=("造句",)), "他造句学习", **row) == pytest.approx(-2 / 3)
    # One letter of a forbidden word is not the word.
    assert score(Concepts(forbidden=("造句",)), "他造好学习", **row) == pytest.approx(1 / 3)


def test_intents_and_numbers_in_chinese() -> None:
    intent = Intent({"question": ["吗", "什么"], "thanks": ["谢谢"]}, meteor=0)
    assert score(intent, "你是什么人吗？", intent="question") == 1
    assert score(intent, "非常谢谢你", intent="thanks") == 1
    assert score(IncreasingNumbers(1, among="words"), "有1个2个") == 2 / 5
    assert score(IncreasingNumbers(3), "第1課，第2課，第5課") == 1


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("他于2024-02-29出生", 1),
        ("2024年2月29日，2023年2月29日", 1 / 2),
        ("2024年02月29日和3月1日", 1),
        ("13月1日", 0),
        ("2024년 2월 29일에 만나요", 1),
        ("ในวันที่ 29/2/2024ครับ", 1),
    ],
)
def test_dates_in_other_scripts(text: str, days: float) -> None:
    assert score(Dates(), text) == days


KOREAN = "大韓民國 만세"


@pytest.mark.parametrize(
    "reward",
    [
        *(Length(2), Repetition(1), Distinct(1), Cider([["x"], ["y"]]), Concepts(), Parent()),
        *(Meteor(), Keywords(), ErrorRate("word"), EditSimilarity("word"), Rouge(), Bleu(), Ter()),
    ],
    ids=lambda reward: reward.name,
)
def test_the_language_can_be_named(reward: Any) -> None:
    kind = type(reward)
    needed: Any = {Length: (2,), Cider: ([["x"], ["y"]],), ErrorRate: ("word",)}.get(kind, ())
    korean, chinese = kind(*needed, language="ko"), kind(*needed, language="zh-Hans")
    row: Any = {"reference": "大韓 만세", "keywords": ["民國"], "concepts": ["民國"]}
    row["table"] = [("x", "大韓 만세")]
    assert score(chinese, KOREAN, **row) == score(kind(*needed), KOREAN, **row)
    if kind not in (Cider, Repetition, Distinct, EditSimilarity, Bleu):
        assert score(korean, KOREAN, **row) != score(chinese, KOREAN, **row)
    with pytest.raises(RewardError, match=rf"{reward.name}.*: language .*not 'Chinese!'"):
        kind(*needed, language="Chinese!")


def test_diversity_in_a_named_language() -> None:
    assert evaluate([KOREAN], metrics="mean_length")["mean_length"].corpus == 5
    assert evaluate([KOREAN], metrics="mean_length", language="ko")["mean_length"].corpus == 2
    with pytest.raises(RewardError, match="evaluate: language must be"):
        evaluate([KOREAN], language="?")
