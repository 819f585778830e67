"""Words of texts in any script."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from textgym.data.words import (
    checked_language,
    count_words,
    has_phrase,
    is_unspaced,
    split_words,
    words_and_marks,
    words_of,
)
from textgym.errors import RewardError, TextGymError

SPACED = [
    "किताब पढ़ो और हिन्दी में लिखो",  # Hindi
    "مَرْحَبًا بِكَ فِي الْمَدْرَسَةِ",  # Arabic with its vowel signs
    "שָׁלוֹם עוֹלָם",  # Hebrew with its points
    "বাংলা ভাষায় কথা বলি",  # Bengali
    "தமிழ் மொழி பேசுகிறேன்",  # Tamil
    "می‌خواهم کتاب‌ها را بخوانم",  # Persian, joined without a space
    "안녕하세요 세계",  # Korean
    "Cafe\u0301 a\u0300 Zu\u0308rich",  # decomposed accents
    "Für die Straße, bitte",
    "Привет, мир",
]
UNSPACED = {
    "天气很好我们去学校": 9,
    "こんにちは世界": 7,
    "ガンダムとタワー": 8,
    "สวัสดีครับ": 7,
    "น้ำที่ดี": 3,
    "ຂອບໃຈ": 5,
    "សូមអរគុណ": 6,
    "မင်္ဂလာပါ": 4,
}
MIXED = [
    "我用Python 3写test，很好！",
    "GPT-4 是什么?",
    "第3課 the end",
    "他说 “hello world” 然后走了",
]
letters = st.sampled_from("ab Zé1_.,('\"天気のガーกิ่ำमि한မာ་།，「」\u200b\u200d\u0301\ufe0f❤\n")
texts = st.text(letters, max_size=30) | st.text(max_size=30)


def uax29(text: str) -> list[str]:
    """Unicode's word boundaries, as implemented by the package regex."""
    parts = regex.split(r"\b", text, flags=regex.WORD | regex.V1)
    return [part for part in parts if any(map(str.isalnum, part))]


@pytest.mark.parametrize("text", SPACED)
def test_scripts_with_spaces_follow_unicodes_word_boundaries(text: str) -> None:
    folded = unicodedata.normalize("NFC", text.casefold())
    assert words_of(text) == uax29(folded)
    assert [one for one in words_and_marks(text) if one[0].isalnum()] == uax29(
        unicodedata.normalize("NFC", text.lower())
    )
    assert split_words(text) == text.split()
    assert not is_unspaced(text)


@pytest.mark.parametrize(("text", "count"), UNSPACED.items())
def test_scripts_without_spaces_count_letters_with_their_signs(text: str, count: int) -> None:
    found = words_of(text)
    assert len(found) == count
    assert found == split_words(text) == words_and_marks(text)
    assert "".join(found) == text
    # A sign is never a word by itself.
    assert all(unicodedata.category(word[0])[0] == "L" for word in found)
    assert is_unspaced(text)


@pytest.mark.parametrize("text", [*MIXED, "天气很好，我们去学校。", "今天是2024年5月1日"])
def test_chinese_has_the_words_of_sacrebleus_tokenizer(text: str) -> None:
    tokens = TokenizerZh()(text.lower()).split()
    plain = [token.strip("“”") for token in tokens]
    # Its English tokenizer keeps a hyphen within a word.
    plain = [part for token in plain for part in token.split("-") if part.isalnum()]
    assert words_of(text) == plain


def test_tibetan_counts_syllables() -> None:
    assert words_of("བོད་སྐད་ཡིག") == ["བོད", "སྐད", "ཡིག"]
    assert count_words("བོད་སྐད་ཡིག") == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It works: 我用Python，你呢？", ["It", "works:", "我", "用", "Python，", "你", "呢？"]),
        ("「天气」很好(abc) U.S.", ["「天", "气」", "很", "好", "(abc)", "U.S."]),
        ("第3課 ปี๒๕๖๗", ["第", "3", "課", "ปี", "๒๕๖๗"]),
        ("大韓民國 만세", ["大", "韓", "民", "國", "만세"]),
    ],
)
def test_punctuation_and_other_scripts_beside_unspaced_letters(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize("language", ["ko", "en", "vi", "ko-KR"])
def test_a_language_with_spaces_keeps_the_letters_together(language: str) -> None:
    assert split_words("大韓民國 만세!", language) == ["大韓民國", "만세!"]
    assert words_of("大韓民國 만세!", language) == ["大韓民國", "만세"]
    assert words_and_marks("大韓民國 만세!", language) == ["大韓民國", "만세", "!"]
    assert not has_phrase("大韓民國", "民國", language)
    assert not is_unspaced("大韓民國", language)


@pytest.mark.parametrize("language", ["zh", "zh-Hant", "ja", "TH"])
def test_a_language_without_spaces_is_the_rule_by_script(language: str) -> None:
    for text in (*UNSPACED, *MIXED, *SPACED):
        assert split_words(text, language) == split_words(text)


@pytest.mark.parametrize(
    ("text", "phrase", "there"),
    [
        ("किताब पढ़ो", "क", False),
        ("किताब पढ़ो", "किताब", True),
        ("बेटे की किताबें", "किताब", False),
        ("cafe\u0301", "cafe", False),
        ("a cafe", "cafe", True),
        ("كِتَاب", "ك", False),
        ("我们去学校了", "学校", True),
        ("我用Python写", "Python", True),
        ("我用Pythonic写", "Python", False),
        ("น้ำ", "น", False),
        ("กำ", "ก", False),
        ("ที่abc", "abc", True),
        ("第3課", "3", True),
        ("第35課", "3", False),
        ("the catalogue", "cat", False),
        ("the cat, too", "cat", True),
        ("the  red\ncat", "red cat", True),
        ("C++, é", "C++", True),
        ("학교에", "학교", False),
    ],
)
def test_phrases_are_whole_words(text: str, phrase: str, there: bool) -> None:
    assert has_phrase(text, phrase) is there


@given(texts)
def test_splitting_loses_only_spaces(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == "".join(
        text.replace("\u200b", " " if is_unspaced(text) else "\u200b").split()
    )
    assert count_words(text) == len(words)


@given(texts)
def test_words_have_letters_and_hold_no_space(text: str) -> None:
    for word in words_of(text):
        assert word.split() == [word]
    if not text.isascii():
        assert all(any(map(str.isalnum, word)) for word in words_of(text))


@given(texts)
def test_equivalent_spellings_have_the_same_words(text: str) -> None:
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert words_of(composed) == words_of(apart)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_cut_as_ever(text: str) -> None:
    plain = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text.casefold())
    assert words_of(text) == plain.split()
    assert split_words(text) == text.split()


def test_invisible_parts_of_emoji_are_no_words() -> None:
    assert words_of("I ❤️ 👩‍🔬 you") == ["i", "you"]


@pytest.mark.parametrize("language", ["", "chinese!", None, 3, "z"])
def test_a_language_that_is_none(language: object) -> None:
    with pytest.raises(RewardError, match=r"wer: language must be 'auto' or .*"):
        checked_language(language, "wer", RewardError)
    assert issubclass(RewardError, TextGymError)


@pytest.mark.parametrize("unit", ["(", "中(", "ก่", "é(", "。", "a་", "「"])
def test_long_texts_take_linear_time(unit: str) -> None:
    # Quadratic time would take minutes.
    text = "中" + unit * 50_000
    assert "".join(split_words(text)) == text
    assert len(words_of(text)) <= 1 + len(text)


def test_ascii_texts_do_not_import_regex() -> None:
    code = (
        "import sys, textgym.data.words as w; w.words_of('a b'); w.split_words('a b');"
        "w.has_phrase('a b', 'b'); assert 'regex' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
