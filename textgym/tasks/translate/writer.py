"""Writes meanings as Chinese and English sentences."""

from __future__ import annotations

from textgym.tasks.translate.lexicon import (
    ADJECTIVES,
    COUNTED,
    HABIT,
    JOINED,
    NAMES,
    NOUNS,
    NUMBERS,
    PLACES,
    PLURALS,
    PRONOUNS,
    TIMES,
    VERBS,
)
from textgym.tasks.translate.meaning import Clause, Phrase

COMMA, QUESTION, STOP = "\uff0c", "\uff1f", "。"
"""Chinese punctuation."""

_CHINESE_MODAL = {"future": "会", "want": "想", "can": "能", "must": "必须"}
_LINKS = {"that": "", "but": f"{COMMA}但是"}


def chinese(clause: Clause) -> str:
    """The Chinese sentence of a meaning."""
    text = _chinese_clause(clause)
    return f"{text}吗{QUESTION}" if clause.ask else f"{text}{STOP}"


def _chinese_clause(clause: Clause) -> str:
    time = TIMES[clause.time][0] if clause.time else ""
    agent = _chinese_phrase(clause.agent) if clause.agent else ""
    out = time + agent if clause.front else agent + time
    if clause.time in HABIT:
        out += "都"
    tense, verb = clause.tense, VERBS[clause.verb].chinese[0]
    going = tense == "progressive"
    if going:
        out += "正在"
    elif tense == "past" or clause.verb == "have":
        out += "没" if clause.neg else ""
    else:
        out += ("不" if clause.neg else "") + _CHINESE_MODAL.get(tense, "")
    if clause.company:
        out += f"和{_chinese_phrase(clause.company)}一起"
    if clause.place:
        _, names, after = PLACES[clause.place]
        out += f"{'' if going else '在'}{names[0]}{after}"
    if clause.benefit:
        out += f"给{_chinese_phrase(clause.benefit)}"
    out += verb
    if clause.to and clause.verb != "give":
        out += "给"
    # A relative clause without an object takes no 了: 老师买的帽子.
    lacks = clause.patient is None and VERBS[clause.verb].nouns
    if tense == "past" and not clause.neg and not lacks:
        out += "了"
    if clause.to:
        out += _chinese_phrase(clause.to)
    if clause.patient:
        out += _chinese_phrase(clause.patient)
    if clause.other is None:
        return out
    if clause.link == "because":
        return f"因为{_chinese_clause(clause.other)}{COMMA}所以{out}"
    return out + _LINKS[clause.link] + _chinese_clause(clause.other)


def _chinese_phrase(phrase: Phrase) -> str:
    head, det = phrase.head, phrase.det
    if head in NAMES:
        return NAMES[head]
    if head in PRONOUNS:
        return PRONOUNS[head][2][0]
    noun = NOUNS[head]
    out = ""
    if det in COUNTED:
        # The wrong measure word is always 个, the most common one.
        out = COUNTED[det] + (noun.measures[0] if phrase.measure == "fits" else "个")
    elif det in PLURALS:
        out = PLURALS[det][0]
    elif det.endswith("'s"):
        out = _chinese_phrase(Phrase(det[:-2])) + "的"
    if phrase.that:
        out += _chinese_clause(phrase.that) + "的"
    if phrase.adj:
        adj = ADJECTIVES[phrase.adj].chinese[0]
        out += adj if adj in JOINED else f"{adj}的"
    return out + noun.chinese[0] + ("们" if det == "plural" else "")


_ENGLISH_MODAL = {"future": "will", "can": "can", "must": "must"}


def english(clause: Clause) -> str:
    """The English sentence of a meaning."""
    text = _english_clause(clause)
    return text[0].upper() + text[1:] + ("?" if clause.ask else ".")


def _english_clause(clause: Clause) -> str:
    words = []
    if clause.time and clause.front:
        words.append(clause.time)
    agent = _english_phrase(clause.agent) if clause.agent else ""
    many = clause.agent is not None and clause.agent.many
    first = clause.agent is not None and clause.agent.head == "I"
    be, do, verb = _english_verb(clause, many, first)
    if clause.ask:
        words += [be or do, agent, verb]
    else:
        if agent:
            words.append(agent)
        words.append(f"{be or do} not" if clause.neg else be)
        words.append(verb)
        if clause.neg and be == "can":
            words[-2] = "cannot"
    if clause.to:
        words.append(_english_phrase(clause.to, True))
    if clause.patient:
        words.append(_english_phrase(clause.patient, True))
    if clause.benefit:
        words.append(f"for {_english_phrase(clause.benefit, True)}")
    if clause.company:
        words.append(f"with {_english_phrase(clause.company, True)}")
    if clause.place:
        words.append(f"{PLACES[clause.place][0]} the {clause.place}")
    if clause.time and not clause.front:
        words.append(clause.time)
    text = " ".join([word for word in words if word])
    if clause.other is None:
        return text
    joint = ", but" if clause.link == "but" else f" {clause.link}"
    return f"{text}{joint} {_english_clause(clause.other)}"


def _english_verb(clause: Clause, many: bool, first: bool) -> tuple[str, str, str]:
    """The auxiliary, the do-support of negations and questions, and the verb form."""
    verb, tense = VERBS[clause.verb], clause.tense
    doubt = clause.neg or clause.ask
    if tense in _ENGLISH_MODAL:
        return _ENGLISH_MODAL[tense], "", verb.base
    if tense == "progressive":
        return ("am" if first else "are" if many else "is"), "", verb.ing
    if tense == "past":
        return "", "did", verb.base if doubt else verb.past
    do = "do" if many or first else "does"
    if tense == "want":
        return "", do, f"{'want' if doubt or do == 'do' else 'wants'} to {verb.base}"
    return "", do, verb.base if doubt or do == "do" else verb.third


def _english_phrase(phrase: Phrase, objective: bool = False) -> str:
    head, det = phrase.head, phrase.det
    if head in NAMES:
        return head
    if head in PRONOUNS:
        return PRONOUNS[head][0] if objective else head
    noun = NOUNS[head]
    word = noun.many if det in _PLURAL else noun.one
    if phrase.adj:
        word = f"{ADJECTIVES[phrase.adj].english} {word}"
    if det == "a":
        word = f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
    elif det.endswith("'s"):
        owner = det[:-2]
        word = f"{PRONOUNS[owner][1] if owner in PRONOUNS else det} {word}"
    else:
        word = f"{'the' if det in ('', 'plural') else det} {word}"
    if phrase.that is None:
        return word
    return f"{word} {'that' if phrase.that.agent else 'who'} {_english_clause(phrase.that)}"


_PLURAL = {*PLURALS, *NUMBERS, "any", "plural"} - {"a"}
