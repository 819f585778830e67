r"""Words of a text in any script: the one definition that rewards, metrics and tasks count by.

A text is taken run by run, so that mixed texts need no setting:

* Scripts with spaces (Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Hangul, ...): a word is
  what stands between spaces and punctuation. Combining marks (accents, Hindi and Arabic vowel
  signs) and joiners belong to the letter before them, as in Unicode's word boundaries (UAX #29).
* Scripts without spaces (Chinese characters, Japanese kana, Bopomofo, Thai, Lao, Khmer, Burmese, Yi
  and some smaller ones): every letter, with its vowel signs and tone marks (a grapheme cluster), is
  a word. Real words of these languages need a dictionary; the literature counts characters instead
  (CMRC's F1, the character error rate, sacrebleu's ``zh`` tokenizer).
* Tibetan: what stands between its syllable marks.

``language`` turns the second rule off: with the code of a language that writes spaces, such as
``"ko"``, Chinese characters within a text are letters like others.

Texts in ASCII take a short cut. The tables of Unicode come from the package ``regex``, which is
imported with the first text that is not ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from textgym.errors import TextGymError

AUTO = "auto"

UNSPACED_LANGUAGES = frozenset(
    {
        # Chinese and its relatives, Japanese
        *("zh", "yue", "wuu", "nan", "hak", "lzh", "cmn", "ja"),
        # Thai, Northern Thai, Tai Lue, Shan, Lao, Khmer, Burmese, Tibetan, Dzongkha, Yi
        *("th", "nod", "khb", "shn", "lo", "km", "my", "bo", "dz", "ii"),
    }
)
"""The languages that are written without spaces between words."""

_SCRIPTS = (
    *("Han", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr"),
    *("Mymr", "Yiii", "Tale", "Talu", "Lana", "Tavt", "Ahom"),
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]+)*", re.IGNORECASE)
_SPACED_TOKEN = re.compile(r"\w+|[^\w\s]+")
# Every script without spaces is here; accented Latin and typographic punctuation are not.
_MAYBE_UNSPACED = re.compile("[\u0e00-\u1fff\u2c00-\U0010ffff]")


class _Punctuation(dict[int, str | int]):
    """A table for ``str.translate`` that replaces punctuation; it fills as it is used."""

    def __init__(self, replacement: str) -> None:
        self._replacement = replacement

    def __missing__(self, code: int) -> str | int:
        is_mark = unicodedata.category(chr(code))[0] in "PS"
        self[code] = self._replacement if is_mark else code
        return self[code]


WITHOUT_PUNCTUATION = _Punctuation("")
"""A table for ``str.translate``: drops punctuation and symbols of any script."""

_PUNCTUATION_TO_SPACE = _Punctuation(" ")


class _Patterns(NamedTuple):
    """The compiled expressions of one way to cut texts."""

    unspaced: Any  # finds a letter of a script without spaces, or Tibetan's syllable mark
    part: Any  # a part between spaces, or a letter of such a script with its punctuation
    word: Any  # a word of a text that has no punctuation any more
    token: Any  # a word or a run of punctuation
    apart: Any  # a letter of such a script, or punctuation beyond ASCII
    foreign: Any  # finds a letter of any script but the Latin
    letter: str  # a class: letters of scripts without spaces
    inner: str  # a class: what continues a word of a script with spaces


def checked_language(language: Any, name: str, error: type[TextGymError] = TextGymError) -> str:
    """Check a ``language`` option.

    Args:
        language: ``"auto"`` or the code of a language (ISO 639, BCP 47), such as ``"ko"``.
        name: Whose option it is, for the error.
        error: The class of the error.

    Returns:
        The option.

    Raises:
        TextGymError: If it is neither; of the class ``error``.
    """
    if isinstance(language, str) and (language == AUTO or _LANGUAGE.fullmatch(language)):
        return language
    raise error(
        f"{name}: language must be 'auto' or the code of a language such as 'zh', 'th' or 'ko', "
        f"not {language!r:.80}"
    )


def is_unspaced(text: str, language: str = AUTO) -> bool:
    """Return whether a text has letters of a script that is written without spaces.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.
    """
    return not text.isascii() and _patterns_for(text, language) is not None


def split_words(text: str, language: str = AUTO) -> list[str]:
    """Cut a text at its spaces, and between the letters of scripts without spaces.

    Without such scripts this is ``text.split()``. Punctuation stays with the word before it, or, if
    it opens something, with the word after it. Nothing but space is lost: ``"".join`` of the result
    is the text without its spaces. This is the count of words in lengths, budgets and word error
    rates.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Returns:
        The words, as written.

    Example:
        >>> split_words("It works: 我用Python。你呢!")
        ['It', 'works:', '我', '用', 'Python。', '你', '呢!']
    """
    if text.isascii() or (patterns := _patterns_for(text, language)) is None:
        return text.split()
    return patterns.part.findall(text)  # type: ignore[no-any-return]


def count_words(text: str, language: str = AUTO) -> int:
    """Return the number of words of a text, as :func:`split_words` cuts it."""
    return len(split_words(text, language))


def word_spans(text: str, language: str = AUTO) -> list[tuple[int, int]]:
    """Return where the words of :func:`split_words` begin and end.

    ``text[: word_spans(text)[n - 1][1]]`` is the text up to its n-th word.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Returns:
        For each word its first position and the one after its last.
    """
    if text.isascii() or (patterns := _patterns_for(text, language)) is None:
        spans, end = [], 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            spans.append((start, end))
        return spans
    return [match.span() for match in patterns.part.finditer(text)]


def join_words(words: Iterable[str], language: str = AUTO) -> str:
    """Write words as a text, with spaces except between two of scripts without spaces.

    Args:
        words: Words, as :func:`split_words` returns them.
        language: ``"auto"``, or the language of the words.

    Returns:
        A text that :func:`split_words` cuts into these words.
    """
    text, last = [], None
    for word in words:
        apart = not (is_unspaced(word, language) and any(map(str.isalnum, word)))
        if last is not None and (apart or last):
            text.append(" ")
        text.append(word)
        last = apart
    return "".join(text)


def space_out(text: str, language: str = AUTO) -> str:
    """Put spaces around the letters of scripts without spaces, for libraries that cut at spaces.

    In a text with such letters, punctuation beyond ASCII gets spaces too. Other texts are returned
    as they are.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Example:
        >>> space_out("我用Python。")
        ' 我  用 Python 。 '
    """
    if text.isascii() or (patterns := _patterns_for(text, language)) is None:
        return text
    return patterns.apart.sub(r" \g<0> ", text)  # type: ignore[no-any-return]


def is_latin(text: str) -> bool:
    """Return whether more than half of the words of a text are without letters of other scripts.

    A text without words is Latin, and numbers are.
    """
    if text.isascii():
        return True
    words = words_of(text)
    foreign = _patterns(unspaced=True).foreign
    return 2 * sum(foreign.search(word) is not None for word in words) < max(len(words), 1)


def words_of(text: str, language: str = AUTO) -> list[str]:
    """Return the words of a text, case-folded, punctuation and symbols taken for spaces.

    Equivalent spellings of one letter (composed or decomposed) give the same word. What has neither
    a letter nor a digit, such as the invisible parts of emoji, is not a word.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Example:
        >>> words_of("Don't stop! 天气很好。")
        ['don', 't', 'stop', '天', '气', '很', '好']
    """
    folded = text.casefold()
    if text.isascii():
        return folded.translate(_PUNCTUATION_TO_SPACE).split()
    plain = unicodedata.normalize("NFC", folded).translate(_PUNCTUATION_TO_SPACE)
    patterns = _patterns_for(text, language)
    found = plain.split() if patterns is None else patterns.word.findall(plain)
    return [word for word in found if word[0].isalnum() or any(map(str.isalnum, word))]


def words_and_marks(text: str, language: str = AUTO) -> list[str]:
    """Return the words of a text and, apart from them, runs of its punctuation, in lower case.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Example:
        >>> words_and_marks("Well... 好。")
        ['well', '...', '好', '。']
    """
    lower = text.lower()
    if text.isascii():
        return _SPACED_TOKEN.findall(lower)
    patterns = _patterns_for(text, language) or _patterns(unspaced=False)
    return patterns.token.findall(unicodedata.normalize("NFC", lower))  # type: ignore[no-any-return]


def has_phrase(text: str, phrase: str, language: str = AUTO) -> bool:
    """Return whether a phrase is in a text as whole words.

    The phrase must neither begin nor end within a word, nor between a letter and its combining
    marks. In scripts without spaces every letter begins a word, so that ``"学校"`` is in
    ``"我们去学校"``.

    Args:
        text: Any text.
        phrase: One or more words; any space of the text stands for a space of the phrase. Case
            counts.
        language: ``"auto"``, or the language of the text.
    """
    if text.isascii():
        return _ascii_phrase(phrase).search(text) is not None
    text, phrase = (unicodedata.normalize("NFC", one) for one in (text, phrase))
    parts = phrase.split()
    if not parts or not all(part in text for part in parts):
        return False
    return _phrase(phrase, _by_script(language)).search(text) is not None


def _by_script(language: str) -> bool:
    return language == AUTO or re.split("[-_]", language)[0].lower() in UNSPACED_LANGUAGES


def _patterns_for(text: str, language: str) -> _Patterns | None:
    """The expressions that cut a text; None if it has no letters of scripts without spaces."""
    if not _by_script(language) or _MAYBE_UNSPACED.search(text) is None:
        return None
    patterns = _patterns(unspaced=True)
    return patterns if patterns.unspaced.search(text) else None


@lru_cache(maxsize=2)
def _patterns(unspaced: bool) -> _Patterns:
    import regex  # here, since its import takes longer than most texts need it

    scripts = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
    # A noncharacter, which no text has, where no script counts as one without spaces.
    letter, own = r"\uFFFF", r"\uFFFF"
    if unspaced:
        # Below are tone marks that Bopomofo shares with Latin. Thai's am is a vowel sign.
        letter = rf"[[{scripts}]&&[\p{{L}}\p{{Nl}}]&&[\u0e00-\U0010ffff]--\p{{GCB=SpacingMark}}]"
        own = rf"[[{scripts}]&&[\p{{L}}\p{{M}}\p{{Nl}}]&&[\u0e00-\U0010ffff]]"
    # Burmese vowel signs are marks, but Unicode's clusters end before them.
    cluster = rf"(?={letter})\X\p{{M}}*"
    space = r"\s\x1c-\x1f\u200b"  # as str.isspace has it, and the zero-width space
    opening = r"\p{Ps}\p{Pi}"
    syllables = r"\u0f0b\u0f0c"  # Tibetan
    # Bounded repetitions: a policy may write a thousand brackets.
    part = (
        rf"[{opening}]{{0,4}}{cluster}[^{space}\w{opening}]*"
        rf"|[^{space}{letter}]+?(?=[{opening}]{{0,4}}{letter}|(?<=[{syllables}])|[{space}]|\Z)"
    )
    word = rf"{cluster}|[^{space}{letter}]+"
    inner = rf"[[\p{{L}}\p{{N}}\p{{M}}_\u200c\u200d]--{own}]"
    token = (
        rf"{cluster}|[[\p{{L}}\p{{N}}_]--{letter}]{inner}*"
        rf"|[^{space}\p{{L}}\p{{N}}_]+"
    )
    found = rf"{letter}|[{syllables}]" if unspaced else letter
    apart = rf"{cluster}|[[\p{{P}}\p{{S}}]--[\x00-\x7f]]|[{syllables}]"
    foreign = r"[\p{L}--[\p{Latin}\p{Common}\p{Inherited}]]"
    has, parts, words, tokens, separate, other = (
        regex.compile(one, regex.V1) for one in (found, part, word, token, apart, foreign)
    )
    return _Patterns(has, parts, words, tokens, separate, other, letter, inner)


@lru_cache(maxsize=16384)
def _ascii_phrase(phrase: str) -> re.Pattern[str]:
    parts = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){parts}(?!\w)" if parts else "(?!)")


@lru_cache(maxsize=16384)
def _phrase(phrase: str, unspaced: bool) -> Any:
    import regex

    parts = r"\s+".join(map(re.escape, phrase.split()))
    patterns = _patterns(unspaced)
    first, last = phrase.strip()[0], phrase.strip()[-1]
    begins_word = regex.match(patterns.letter, first, regex.V1) is not None
    before = "" if begins_word else f"(?<!{patterns.inner})"
    # A cluster goes on with its marks; Thai's am is such a letter.
    cluster = r"[\p{M}\p{GCB=Extend}\p{GCB=SpacingMark}\u200d]"
    ends_word = regex.match(patterns.letter, last, regex.V1) or unicodedata.category(last)[0] == "M"
    after = f"(?!{cluster})" if ends_word else f"(?!{cluster}|{patterns.inner})"
    return regex.compile(f"{before}{parts}{after}", regex.V1)
