"""Parses English sentences of the translation task.

The parser accepts more variants than the writer produces: the time at either end, contractions,
"is going to" for "will", "has bought" for "bought", both orders of two objects, and similar ones.
It requires agreement ("she buys", "two hats", "an apple"), capitalization and a full stop.
"""

from __future__ import annotations

from textgym.tasks.translate.lexicon import (
    ADJECTIVES,
    NAMES,
    NOUNS,
    NUMBERS,
    PAST,
    PLACES,
    PLURALS,
    PRONOUNS,
    TIMES,
    VERBS,
)
from textgym.tasks.translate.meaning import MOST_WORDS, Clause, Phrase, Unreadable, WordReader

_FORMS: tuple[dict[str, list[str]], ...] = tuple({} for _ in range(5))
for _name, _entry in VERBS.items():
    for _table, _form in zip(_FORMS, _entry.forms, strict=True):
        _table.setdefault(_form, []).append(_name)
_BASE, _THIRD, _PAST, _PARTICIPLE, _ING = _FORMS
_ONE = {noun.one: name for name, noun in NOUNS.items()}
_MANY = {noun.many: name for name, noun in NOUNS.items()}
_ADJECTIVES: dict[str, list[str]] = {}
for _name, _adjective in ADJECTIVES.items():
    _ADJECTIVES.setdefault(_adjective.english, []).append(_name)
_SUBJECTS = {name: name for name in (*PRONOUNS, *NAMES)}
_OBJECTS = {forms[0]: name for name, forms in PRONOUNS.items()} | {name: name for name in NAMES}
_OWNERS = {forms[1]: f"{name}'s" for name, forms in PRONOUNS.items()} | {
    f"{name}'s": f"{name}'s" for name in NAMES
}
_TIMES = {tuple(time.split()): time for time in TIMES}
_NOT = {
    "didn't": "did", "don't": "do", "doesn't": "does", "won't": "will", "can't": "can",
    "cannot": "can", "isn't": "is", "aren't": "are", "hasn't": "has", "haven't": "have",
}  # fmt: skip
_PLURAL_DETS = {
    **{det: det for det in PLURALS}, **{det: det for det in NUMBERS if det != "a"},
    "any": "any", "several": "some",
}  # fmt: skip


def read(text: str) -> Clause:
    """Parse a sentence.

    Raises:
        Unreadable: If the sentence is not grammatical.
    """
    if text[-1:] not in ".?" or not text[:1].isupper():
        raise Unreadable
    words = text[:-1].replace(",", " ,").split(" ")
    if "" in words or len(words) > MOST_WORDS:
        raise Unreadable
    if words[0] not in _SUBJECTS and words[0] not in _OWNERS:
        words[0] = words[0].lower()
    return _Reader(words).sentence(text[-1])


class _Reader(WordReader):
    """A recursive-descent parser."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words)
        self.gap = ""  # the noun that is the object of a relative clause

    def sentence(self, end: str) -> Clause:
        if self.take(("because",)):
            reason = self.clause()
            self.need((",",))
            main = self.clause()
            main.link, main.other = "because", reason
        else:
            main = self.clause(question=end == "?")
            if main.other is None:
                comma = self.take((",",))
                if self.take(("but",)):
                    main.link, main.other = "but", self.clause()
                elif self.take(("because",)):
                    main.link, main.other = "because", self.clause()
                elif comma:
                    raise Unreadable
        if self.words[self.at] or main.ask != (end == "?"):
            raise Unreadable
        return main

    def time(self) -> str:
        one, two = self.words[self.at : self.at + 2]
        if (one,) in _TIMES:
            self.at += 1
            return one
        if (one, two) in _TIMES:
            self.at += 2
            return _TIMES[one, two]
        return ""

    def clause(self, question: bool = False, agent: Phrase | None = None) -> Clause:
        """Parse a clause; `agent` is the antecedent of a relative clause without a subject."""
        clause = Clause()
        if agent is None:
            clause.time = self.time()
            if clause.time:
                clause.front = True
                self.take((",",))
        aux = ""
        if question and self.words[self.at] in _AUX:
            aux = self.need(_AUX)
            clause.ask = True
        if agent is None:
            clause.agent = agent = self.subject()
        first = agent.head == "I"
        verbs = self.verb(clause, aux, "first" if first else "many" if agent.many else "one")
        self.objects(clause, verbs)
        return clause

    def verb(self, clause: Clause, aux: str, person: str) -> list[str]:
        """Parse auxiliaries and verb, set the tense, and return the possible senses of the verb."""
        if not aux:
            word = self.words[self.at]
            if word in _NOT:
                self.at += 1
                clause.neg, aux = True, _NOT[word]
            elif word in _AUX and not self.main_have(word):
                self.at += 1
                aux = word
            if aux and not clause.neg:
                clause.neg = bool(self.take(("not",)))
        if aux in ("do", "does", "did") and not (clause.neg or clause.ask):
            raise Unreadable
        if aux in _AGREE and person not in _AGREE[aux]:
            raise Unreadable
        return self.main_verb(clause, aux, person)

    def main_have(self, word: str) -> bool:
        """Whether "have" is the main verb rather than an auxiliary."""
        following = self.words[self.at + 1]
        return word in ("has", "have") and following != "not" and following not in _PARTICIPLE

    def main_verb(self, clause: Clause, aux: str, person: str) -> list[str]:
        if aux in ("is", "am", "are"):
            if self.words[self.at] == "going" and self.words[self.at + 1] == "to":
                self.at += 2
                clause.tense = "future"
                return _BASE[self.need(_BASE)]
            clause.tense = "progressive"
            return _ING[self.need(_ING)]
        if aux in ("has", "have"):
            clause.tense = "past"
            return _PARTICIPLE[self.need(_PARTICIPLE)]
        third = not aux and person == "one"
        if aux in ("", "do", "does") and self.words[self.at] == ("wants" if third else "want"):
            self.at += 1
            self.need(("to",))
            clause.tense = "want"
            return _BASE[self.need(_BASE)]
        if aux:
            clause.tense = _TENSES[aux]
            return _BASE[self.need(_BASE)]
        word = self.words[self.at]
        self.at += 1
        present = _THIRD if third else _BASE
        # "read" may be past or present.
        tenses = [
            tense for tense, forms in (("past", _PAST), ("present", present)) if word in forms
        ]
        if not tenses:
            raise Unreadable
        clause.tense = "|".join(tenses)
        return (_PAST if tenses[0] == "past" else present)[word]

    def objects(self, clause: Clause, senses: list[str]) -> None:
        """Parse the words after the verb."""
        kind = VERBS[senses[0]].kind
        if kind == "think":
            self.take(("that",))
            clause.verb, clause.link, clause.other = senses[0], "that", self.clause()
            return
        if kind != "move" and self.noun_follows():
            found = self.object()
            # "bought Anna a hat" and "gave Anna a hat"
            person = found.head in _SUBJECTS or NOUNS[found.head].sort == "person"
            if person and kind in ("give", "do") and self.noun_follows():
                if kind == "give" or senses[0] == "sell":
                    clause.to = found
                else:
                    clause.benefit = found
                found = self.object()
            clause.patient = found
        head = clause.patient.head if clause.patient else self.gap
        clause.verb = next((sense for sense in senses if head in VERBS[sense].nouns), senses[0])
        self.circumstances(clause)

    def circumstances(self, clause: Clause) -> None:
        """Parse place, time, companion, beneficiary and receiver, in any order."""
        while True:
            start = self.at
            if self.take(("to",)) and clause.to is None:
                clause.to = self.object()
            elif self.take(("for",)) and clause.benefit is None:
                clause.benefit = self.object()
            elif self.take(("with",)) and clause.company is None:
                clause.company = self.object()
            elif self.take(("in", "at", "on")) and not clause.place:
                self.need(("the",))
                clause.place = self.need(PLACES)
            elif not clause.time and (time := self.time()):
                clause.time = time
            else:
                self.at = start
                break
        if "|" in clause.tense and clause.time:
            clause.tense = "past" if clause.time in PAST else "present"

    def noun_follows(self) -> bool:
        word = self.words[self.at]
        return (
            word in _OBJECTS or word in _OWNERS or word in _STARTS or word in _PLURAL_DETS
            or word in _MANY or word in _ADJECTIVES
        ) and (word, self.words[self.at + 1]) not in _TIMES  # fmt: skip

    def subject(self) -> Phrase:
        if word := self.take(_SUBJECTS):
            head = _SUBJECTS[word]
            return Phrase(head, many=head in ("you", "we", "they"))
        return self.noun()

    def object(self) -> Phrase:
        word = self.words[self.at]
        if word in _OBJECTS:
            # "her" may be possessive ("her hat").
            following = self.words[self.at + 1]
            if word != "her" or not (
                following in _ONE or following in _MANY or following in _ADJECTIVES
            ):
                self.at += 1
                return Phrase(_OBJECTS[word])
        return self.noun()

    def noun(self) -> Phrase:
        """Parse a determiner, adjective, noun and relative clause."""
        start = self.at
        word = self.words[self.at]
        self.at += 1
        number = "either"
        if word in ("a", "an"):
            det, number = "a|any", "one"
            if (self.words[self.at][:1] in "aeiou") != (word == "an"):
                raise Unreadable
            if word == "a" and self.words[self.at] == "lot":
                self.at += 1
                self.need(("of",))
                det, number = "many", "many"
        elif word in ("this", "that"):
            det, number = word, "one"
        elif word in _PLURAL_DETS:
            det, number = _PLURAL_DETS[word], "many"
        elif word in _OWNERS:
            det = _OWNERS[word]
        elif word == "the":
            det = ""
        else:
            det, number = "any|bare", "many"
            self.at = start
        adj = self.take(_ADJECTIVES)
        word = self.words[self.at]
        self.at += 1
        one = word in _ONE and number != "many"
        if not one and (word not in _MANY or number == "one"):
            raise Unreadable
        head = _ONE[word] if one else _MANY[word]
        sort = NOUNS[head].sort
        found = Phrase(head, det, many=not one)
        if adj:
            senses = _ADJECTIVES[adj]
            fitting = (sense for sense in senses if sort in ADJECTIVES[sense].sorts)
            found.adj = next(fitting, senses[0])
        return self.relative(found, sort)

    def relative(self, found: Phrase, sort: str) -> Phrase:
        if not found.det:
            if sort == "person":
                found.det = "plural" if found.many else ""
            elif self.words[self.at] not in ("that", "which", "who"):
                found.det = "those|the" if found.many else "that|the"
        if sort == "person" and self.words[self.at] == "that":
            # "gave the nurse that hat" has no relative clause.
            following = self.words[self.at + 1]
            if following in _ONE or following in _ADJECTIVES:
                return found
        if not self.take(("that", "which") if sort != "person" else ("that", "who")):
            return found
        if sort == "person":
            found.that = self.clause(agent=found)
        else:
            self.gap = found.head
            found.that = self.clause()
            self.gap = ""
            if found.that.patient is not None:
                raise Unreadable
        return found


_AUX = ("did", "do", "does", "will", "can", "must", "is", "am", "are", "has", "have")
_TENSES = {
    "did": "past", "do": "present", "does": "present", "will": "future", "can": "can",
    "must": "must",
}  # fmt: skip
_AGREE = {
    "do": ("first", "many"), "have": ("first", "many"), "does": ("one",), "has": ("one",),
    "is": ("one",), "am": ("first",), "are": ("many",),
}  # fmt: skip
_STARTS = ("a", "an", "the", "this", "that", "these", "those")
