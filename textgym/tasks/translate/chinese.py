"""Parses Chinese sentences of the translation task.

The parser accepts more variants than the writer produces: synonyms, 红色的帽子 for 红帽子, the
time before or after the subject, 没有买 for 没买, 买过 for 买了, 把, 买帽子了吗, 村里 for 村子里,
这个男孩 for "the boy", and similar ones. A wrong measure word is marked as wrong; any other
deviation from the grammar is an error.
"""

from __future__ import annotations

from textgym.tasks.translate.lexicon import (
    ADJECTIVES,
    COUNTED,
    FUTURE,
    HABIT,
    NAMES,
    NOUNS,
    NOW,
    PLACES,
    PLURALS,
    PRONOUNS,
    TIMES,
    VERBS,
)
from textgym.tasks.translate.meaning import MOST_WORDS, Clause, Phrase, Unreadable, WordReader
from textgym.tasks.translate.writer import COMMA, QUESTION, STOP


def _senses(table: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The senses of each Chinese word, separated by ``|``, the usual one first."""
    found: dict[str, list[str]] = {}
    for rank in range(9):
        for sense, words in table.items():
            for word in words[rank : rank + 1]:
                found.setdefault(word, []).append(sense)
    return {word: "|".join(senses) for word, senses in found.items()}


_TIMES = _senses(TIMES)
_PLACES = _senses({name: place[1] for name, place in PLACES.items()})
# Short forms of places only occur with 里, as one word.
_SHORT = {"村": "village", "院": "garden"}
_PLACES |= {f"{short}{after}": name for short, name in _SHORT.items() for after in ("里", "里面")}
_NOUNS = _senses({name: noun.chinese for name, noun in NOUNS.items()})
_ADJECTIVES = _senses({name: adjective.chinese for name, adjective in ADJECTIVES.items()})
_NAMES = {word: name for name, word in NAMES.items()}
_PEOPLE = {word: name for name, parts in PRONOUNS.items() for word in parts[2]} | _NAMES
_DETS = {word: det for det, word in COUNTED.items()} | {"二": "two", "几": "some"}
_MANY = _senses(PLURALS)
_VERBS = _senses(
    {name: verb.chinese for name, verb in VERBS.items() if verb.kind not in ("give", "move")}
)
_GIVING = {"给": "give", "送": "give|send", "交": "give", "寄": "send", "借": "lend", "卖": "sell"}
_MOVES = _senses({name: verb.chinese for name, verb in VERBS.items() if verb.kind == "move"})
_DONE = {
    "睡了": "sleep", "睡了觉": "sleep", "跳了舞": "dance", "游了泳": "swim", "唱了歌": "sing",
    "睡过": "sleep", "睡过觉": "sleep", "跳过舞": "dance", "游过泳": "swim", "唱过歌": "sing",
}  # fmt: skip
_THINK = {word for word, senses in _VERBS.items() if VERBS[senses.split("|")[0]].kind == "think"}
_MODALS = {
    "会": "future|can", "将": "future", "将会": "future", "要": "future|want", "想": "want",
    "想要": "want", "能": "can", "可以": "can", "能够": "can", "必须": "must", "一定要": "must",
}  # fmt: skip
_WITH, _FOR = ("和", "跟", "同", "与"), ("给", "为", "替")
_AT, _DURING = ("在", "正在"), ("正在", "正", "在")
_ENDINGS = ("了", "过")
_MEASURES = {measure for noun in NOUNS.values() for measure in noun.measures}
_THE = {"this": "this|", "that": "|that", "these": "these|plural", "those": "those|plural"}
"""Determiners of a person after a demonstrative, which may translate an English article."""
_BUT = ("但是", "可是", "不过", "但")

_PREDICATE = {
    *_VERBS, *_MOVES, *_DONE, *_GIVING, *_MODALS, *_WITH, *_FOR, *_DURING,
    "没", "没有", "有没有", "不", "把", "一起",
}  # fmt: skip
_WORDS = {
    *_PREDICATE, *_TIMES, *_PLACES, *_NOUNS, *_ADJECTIVES, *_PEOPLE, *_DETS, *_MANY, *_MEASURES,
    *_BUT, "因为", "所以", "都", "里", "里面", "中", "上", "们", "的", "了", "过", "着", "吗", "很",
    COMMA, QUESTION, STOP,
}  # fmt: skip
_SIZES = {
    first: sorted({len(word) for word in _WORDS if word[0] == first}, reverse=True)
    for first in {word[0] for word in _WORDS}
}

_DEEP = 3
"""Maximum depth of nested relative clauses, since each level may be parsed twice."""


def segment(text: str) -> list[str]:
    """Split a text into words, taking the longest match at each position.

    Raises:
        Unreadable: If no word matches at some position.
    """
    words, at = [], 0
    while at < len(text):
        for size in _SIZES.get(text[at], ()):
            word = text[at : at + size]
            if word in _WORDS:
                words.append(word)
                at += size
                break
        else:
            raise Unreadable
    return words


def read(text: str) -> Clause:
    """Parse a sentence.

    Raises:
        Unreadable: If the sentence is not grammatical.
    """
    words = segment(text)
    if len(words) > MOST_WORDS:
        raise Unreadable
    return _Reader(words).sentence()


class _Reader(WordReader):
    """A recursive-descent parser with little backtracking."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words)
        self.depth = 0  # number of enclosing relative clauses

    def sentence(self) -> Clause:
        if self.take(("因为",)):
            reason = self.clause()
            self.need((COMMA,))
            self.take(("所以",))
            main = self.clause()
            main.link, main.other = "because", reason
        else:
            main = self.clause()
            if main.other is None:
                comma = self.take((COMMA,))
                if self.take(("因为",)):
                    main.link, main.other = "because", self.clause()
                elif comma:
                    self.need(_BUT)
                    main.link, main.other = "but", self.clause()
        if self.take(("吗",)):
            main.ask = True
        self.need((QUESTION,) if main.ask else (STOP,))
        if self.words[self.at]:
            raise Unreadable
        return main

    def clause(self) -> Clause:
        clause = Clause()
        if time := self.take(_TIMES):
            clause.time, clause.front = _TIMES[time], True
            self.take((COMMA,))
        if self.words[self.at] in _PREDICATE:  # 买了帽子的老师...
            clause.agent = self.relative("", Clause())
        else:
            clause.agent = self.phrase()
        return self.predicate(clause)

    def predicate(self, clause: Clause, gap: bool = False) -> Clause:
        """Parse the words after the agent; with `gap`, the object is missing."""
        if not clause.time and (time := self.take(_TIMES)):
            clause.time = _TIMES[time]
        neg, tense, verb = self.before(clause)
        given = loose = False
        if not verb:
            word = self.words[self.at]
            self.at += 1
            if word in _DONE:
                once = "过" in word
                if (neg and not once) or neg == "不" or (once and tense not in ("", "past")):
                    raise Unreadable
                verb, tense = _DONE[word], tense or "past"
            elif word == "给" or (word in _GIVING and self.take(("给",))):
                verb, given = _GIVING[word], True
            elif word in _MOVES:
                verb = _MOVES[word]
            elif word in _VERBS:
                verb = _VERBS[word]
            elif word in _GIVING:  # 送了安娜一本书, 送了一本书给安娜
                verb, loose = _GIVING[word], True
            else:
                raise Unreadable
            if word in _THINK and self.words[self.at] not in (STOP, QUESTION, ""):
                clause.link, clause.other = "that", self.clause()
        clause.verb = verb
        done = self.take(_ENDINGS)
        if done == "过" and not neg:
            self.take(("了",))
        lasting = not done and bool(self.take(("着",)))
        if given or (loose and (self.words[self.at] in _PEOPLE or self.person_follows())):
            clause.to = self.phrase()
        if clause.patient is None and not gap and clause.other is None and self.noun_follows():
            clause.patient = self.phrase(relative=True)
        if not done:
            done = self.take(("了",))
        if (loose or verb in ("sell", "borrow")) and not clause.to and self.take(("给",)):
            clause.verb = "lend" if verb == "borrow" else verb
            clause.to = self.phrase()
        self.finish(clause, neg, tense, done, lasting, gap)
        return clause

    def before(self, clause: Clause) -> tuple[str, str, str]:
        """Parse the words between the time and the verb.

        Returns:
            The negation, the tense if it is explicit, and "have" if 没有 is the verb.
        """
        neg = tense = ""
        together = False
        if clause.time in HABIT:  # 每天都
            self.take(("都",))
        while True:
            word = self.words[self.at]
            start = self.at
            self.at += 1
            if word == "没有" and not neg and self.words[self.at] not in _PREDICATE:
                return "没", tense, "have"
            if word in ("没", "没有", "不") and not neg and not tense:
                neg = word
            elif word == "有没有" and not neg and not tense:
                clause.ask, tense = True, "past"
            elif (
                word in _MODALS
                and not tense
                and (word != "想" or self.words[self.at] in _PREDICATE)
            ):
                tense = _MODALS[word]
            elif (
                word in _AT
                and self.words[self.at] in _PLACES
                and not clause.place
                and (word == "在" or not tense)
            ):
                if word == "正在":
                    tense = "progressive"
                clause.place = _PLACES[self.words[self.at]]
                self.at += 1
                if "里" not in self.words[self.at - 1]:
                    self.take(("里", "里面", "中", "上"))
            elif word in _DURING and not tense and self.words[self.at] not in _AT:
                tense = "progressive"
            elif word in _WITH and clause.company is None:
                clause.company = self.phrase()
            elif word == "一起" and clause.company is not None and not together:
                together = True
            elif word in _FOR and clause.benefit is None and self.words[self.at] not in _ENDINGS:
                clause.benefit = self.phrase()
                if self.words[self.at] not in _PREDICATE:  # 给 is the verb
                    clause.benefit = None
                    self.at = start
                    return neg, tense, ""
            elif word == "把" and clause.patient is None:
                clause.patient = self.phrase(relative=True)
            else:
                self.at = start
                return neg, tense, ""

    def person_follows(self) -> bool:
        noun = _NOUNS.get(self.words[self.at])
        return noun is not None and NOUNS[noun].sort == "person"

    def noun_follows(self) -> bool:
        word = self.words[self.at]
        return word not in ("", "的", "了", "吗", "给", "因为", COMMA, STOP, QUESTION)

    def finish(
        self, clause: Clause, neg: str, tense: str, done: str, lasting: bool, gap: bool
    ) -> None:
        """Derive polarity and tense from the negation, explicit tense, 了, 过 and 着."""
        clause.neg = bool(neg)
        if done == "过" and neg in ("没", "没有") and not tense:
            tense = "past"
        elif done and (neg or tense):
            if tense != "past":
                raise Unreadable
        elif done:
            tense = "past"
        elif neg in ("没", "没有") and clause.verb != "have":
            if tense not in ("", "past"):
                raise Unreadable
            tense = "past"
        elif lasting:
            tense = tense or "present|progressive"
        elif not tense:
            tense = "past" if gap else "present"
            if clause.time in FUTURE:
                tense += "|future"
            if (clause.time in NOW or clause.place) and not neg:
                tense += "|progressive"
        clause.tense = tense

    def phrase(self, relative: bool = False) -> Phrase:
        """Parse a noun phrase; with `relative`, relative clauses may precede the noun."""
        if word := self.take(_PEOPLE):
            if self.take(("的",)) or (word not in _NAMES and self.person_follows()):
                found = self.noun(f"{_PEOPLE[word]}'s")
            else:
                head = _PEOPLE[word]
                found = Phrase(head, many=head in PRONOUNS and head not in ("he", "she"))
        elif relative and self.words[self.at] in _PREDICATE:
            return self.relative("", Clause())
        else:
            det, measure = self.determiner()
            if det and self.words[self.at] in _PREDICATE:  # 那个买了帽子的老师
                return self.relative(measure, Clause())
            if relative and det and self.words[self.at] in _PEOPLE:  # 那顶他买的帽子
                return self.relative(measure, Clause(agent=self.phrase()))
            found = self.noun(det, measure)
        if relative and (self.words[self.at] in _TIMES or self.verb_follows()):
            return self.relative("", Clause(agent=found))
        return found

    def verb_follows(self) -> bool:
        word = self.words[self.at]
        return word in _PREDICATE and word != "给"

    def relative(self, measure: str, clause: Clause) -> Phrase:
        """Parse a relative clause, whose agent may have been parsed already, and its noun."""
        self.depth += 1
        if self.depth > _DEEP:
            raise Unreadable
        self.predicate(clause, gap=clause.agent is not None)
        self.need(("的",))
        self.depth -= 1
        if not measure:
            _, measure = self.determiner()
        found = self.noun("", measure)
        found.det, found.that = "", clause
        return found

    def determiner(self) -> tuple[str, str]:
        """Parse an optional determiner and its measure word."""
        if word := self.take(_MANY):
            self.take(_MEASURES)
            return _MANY[word], ""
        if not (word := self.take(_DETS)):
            return "", ""
        if word in ("这", "那"):
            self.take(("一",))
        # A missing measure word counts as a wrong one.
        return _DETS[word], self.take(_MEASURES) or "?"

    def noun(self, det: str = "", measure: str = "") -> Phrase:
        """Parse an optional adjective and a noun."""
        self.take(("很",))
        adj = self.take(_ADJECTIVES)
        if adj:
            joined = self.take(("的",)) or len(adj) == 1 or adj.endswith("色")
            if not joined:
                raise Unreadable
        head = _NOUNS[self.need(_NOUNS)]
        noun = NOUNS[head]
        found = Phrase(head, det, _ADJECTIVES[adj] if adj else "")
        if measure and measure not in noun.measures:
            # 这男孩 is accepted, but not 这帽子, since measure words are part of the task.
            loose = measure == "?" and noun.sort == "person" and det in _THE
            found.measure = "fits" if loose else "wrong"
        if self.take(("们",)):
            if noun.sort != "person":
                raise Unreadable
            found.det, found.many = det or "plural", True
        elif noun.sort == "person":
            found.det = _THE.get(det, det)
            found.many = det in PLURALS
        elif not det:
            found.det = "any"
        return found
