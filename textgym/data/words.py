r"""Splitting a text of any script into words, for rewards, metrics and tasks.

* Scripts with spaces (Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Hangul, ...): words are
  separated by spaces and punctuation. Combining marks (accents, Hindi and Arabic vowel signs) and
  joiners belong to the letter before them, as in Unicode's word boundaries (UAX #29).
* Scripts without spaces (Chinese characters, Japanese kana, Bopomofo, Thai, Lao, Khmer, Burmese, Yi
  and some smaller ones): every letter with its vowel signs and tone marks (a grapheme cluster) is a
  word. Segmenting real words needs a dictionary; the literature counts characters instead (CMRC's
  F1, the character error rate, sacrebleu's ``zh`` tokenizer).
* Tibetan: words are separated by syllable marks.

A text may mix scripts. ``language`` disables the second rule: with the code of a language that uses
spaces, such as ``"ko"``, Chinese characters are treated like other letters.

ASCII texts have a fast path. The package ``regex``, which has Unicode's tables, is imported for the
first text that is not ASCII.
"""

from __future__ import annotations

import re
import unicodedata
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
"""Codes of languages written without spaces between words."""

_SCRIPTS = (
    *("Han", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr"),
    *("Mymr", "Yiii", "Tale", "Talu", "Lana", "Tavt", "Ahom"),
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]+)*", re.IGNORECASE)
_SPACED_TOKEN = re.compile(r"\w+|[^\w\s]+")
# Includes all scripts without spaces, but not accented Latin and typographic punctuation.
_MAYBE_UNSPACED = re.compile("[\u0e00-\u1fff\u2c00-\U0010ffff]")


class _Punctuation(dict[int, str | int]):
    """A table for ``str.translate`` that replaces punctuation, filled on demand."""

    def __init__(self, replacement: str) -> None:
        self._replacement = replacement

    def __missing__(self, code: int) -> str | int:
        is_mark = unicodedata.category(chr(code))[0] in "PS"
        self[code] = self._replacement if is_mark else code
        return self[code]


WITHOUT_PUNCTUATION = _Punctuation("")
"""A table for ``str.translate`` that removes punctuation and symbols of any script."""

_PUNCTUATION_TO_SPACE = _Punctuation(" ")


class _Patterns(NamedTuple):
    """Compiled regular expressions to split texts; "unspaced" are scripts without spaces."""

    unspaced: Any  # an unspaced letter, or Tibetan's syllable mark
    part: Any  # a part between spaces, or an unspaced letter with its punctuation
    word: Any  # a word of a text without punctuation
    token: Any  # a word or a run of punctuation
    separate: Any  # an unspaced letter, or punctuation other than ASCII
    non_latin: Any  # a letter of any script but Latin
    letter: str  # a character class: unspaced letters
    inner: str  # a character class: characters that continue a word of a spaced script


def checked_language(language: Any, name: str, error: type[TextGymError] = TextGymError) -> str:
    """Check a ``language`` option.

    Args:
        language: ``"auto"`` or the code of a language (ISO 639, BCP 47), such as ``"ko"``.
        name: The owner of the option, for the error.
        error: The class of the error.

    Returns:
        The option.

    Raises:
        TextGymError: If it is invalid; of the class ``error``.
    """
    if isinstance(language, str) and (language == AUTO or _LANGUAGE.fullmatch(language)):
        return language
    raise error(
        f"{name}: language must be 'auto' or the code of a language such as 'zh', 'th' or 'ko', "
        f"not {language!r:.80}"
    )


def is_unspaced(text: str, language: str = AUTO) -> bool:
    """Return whether a text has letters of a script without spaces.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.
    """
    return not text.isascii() and _patterns_for(text, language) is not None


def split_words(text: str, language: str = AUTO) -> list[str]:
    """Split a text at spaces, and between the letters of scripts without spaces.

    Without such scripts this is ``text.split()``. Punctuation stays with the word before it, or,
    like opening brackets, with the word after it. Only spaces are removed. Lengths, budgets and
    word error rates count these words.

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
    """Return the number of words of :func:`split_words`."""
    return len(split_words(text, language))


def space_out(text: str, language: str = AUTO) -> str:
    """Put spaces around letters of scripts without spaces, for libraries that split at spaces.

    In a text with such letters, punctuation other than ASCII gets spaces too. Other texts are
    unchanged.

    Args:
        text: Any text.
        language: ``"auto"``, or the language of the text.

    Example:
        >>> space_out("我用Python。")
        ' 我  用 Python 。 '
    """
    if text.isascii() or (patterns := _patterns_for(text, language)) is None:
        return text
    return patterns.separate.sub(r" \g<0> ", text)  # type: ignore[no-any-return]


def is_latin(text: str) -> bool:
    """Return whether more than half of a text's words have no letters of other scripts.

    Numbers and texts without words are Latin.
    """
    if text.isascii():
        return True
    words = words_of(text)
    non_latin = _patterns(unspaced=True).non_latin
    return 2 * sum(non_latin.search(word) is not None for word in words) < max(len(words), 1)


def words_of(text: str, language: str = AUTO) -> list[str]:
    """Return the case-folded words of a text, with punctuation and symbols replaced by spaces.

    Composed and decomposed letters give the same word. A word has at least one letter or digit,
    unlike the invisible parts of emoji.

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
    """Return the words of a text and its runs of punctuation, in lower case.

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
    """Return whether a text contains a phrase as whole words.

    The phrase must not start or end within a word, nor between a letter and its combining marks. In
    scripts without spaces every letter is a word, so that ``"我们去学校"`` contains ``"学校"``.

    Args:
        text: Any text.
        phrase: One or more words, which are case-sensitive. Its spaces match any whitespace.
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
    """The expressions to split a text; None if it has no letters of scripts without spaces."""
    if not _by_script(language) or _MAYBE_UNSPACED.search(text) is None:
        return None
    patterns = _patterns(unspaced=True)
    return patterns if patterns.unspaced.search(text) else None


@lru_cache(maxsize=2)
def _patterns(unspaced: bool) -> _Patterns:
    import regex  # Imported here because it is slow to import and rarely needed.

    scripts = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
    # A noncharacter, which does not occur in text, if scripts without spaces are not distinguished.
    letter, unspaced_characters = r"\uFFFF", r"\uFFFF"
    if unspaced:
        # Below U+0E00 are tone marks that Bopomofo shares with Latin. Thai's am is a vowel sign.
        letter = rf"[[{scripts}]&&[\p{{L}}\p{{Nl}}]&&[\u0e00-\U0010ffff]--\p{{GCB=SpacingMark}}]"
        unspaced_characters = rf"[[{scripts}]&&[\p{{L}}\p{{M}}\p{{Nl}}]&&[\u0e00-\U0010ffff]]"
    # Burmese vowel signs are marks, but Unicode's clusters end before them.
    cluster = rf"(?={letter})\X\p{{M}}*"
    space = r"\s\x1c-\x1f\u200b"  # str.isspace, and the zero-width space
    opening = r"\p{Ps}\p{Pi}"
    syllables = r"\u0f0b\u0f0c"  # Tibetan
    # Repetitions are bounded, because a policy may write a thousand brackets.
    part = (
        rf"[{opening}]{{0,4}}{cluster}[^{space}\w{opening}]*"
        rf"|[^{space}{letter}]+?(?=[{opening}]{{0,4}}{letter}|(?<=[{syllables}])|[{space}]|\Z)"
    )
    word = rf"{cluster}|[^{space}{letter}]+"
    inner = rf"[[\p{{L}}\p{{N}}\p{{M}}_\u200c\u200d]--{unspaced_characters}]"
    token = (
        rf"{cluster}|[[\p{{L}}\p{{N}}_]--{letter}]{inner}*"
        rf"|[^{space}\p{{L}}\p{{N}}_]+"
    )
    found = rf"{letter}|[{syllables}]" if unspaced else letter
    separate = rf"{cluster}|[[\p{{P}}\p{{S}}]--[\x00-\x7f]]|[{syllables}]"
    non_latin = r"[\p{L}--[\p{Latin}\p{Common}\p{Inherited}]]"
    return _Patterns(
        unspaced=regex.compile(found, regex.V1),
        part=regex.compile(part, regex.V1),
        word=regex.compile(word, regex.V1),
        token=regex.compile(token, regex.V1),
        separate=regex.compile(separate, regex.V1),
        non_latin=regex.compile(non_latin, regex.V1),
        letter=letter,
        inner=inner,
    )


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
    # Marks continue a cluster, and so does Thai's am.
    cluster = r"[\p{M}\p{GCB=Extend}\p{GCB=SpacingMark}\u200d]"
    ends_word = regex.match(patterns.letter, last, regex.V1) or unicodedata.category(last)[0] == "M"
    after = f"(?!{cluster})" if ends_word else f"(?!{cluster}|{patterns.inner})"
    return regex.compile(f"{before}{parts}{after}", regex.V1)
