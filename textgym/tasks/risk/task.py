"""Decide on loans by written rules and give reasons: cost-sensitive decisions, verified reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, finished, nothing, quoted, unreadable
from textgym.tasks.random_draws import draws, pick
from textgym.tasks.risk.baselines import (
    cautious,
    everything,
    guess,
    joined,
    lenient,
    mediocre,
    strict,
)
from textgym.tasks.risk.public import LONGEST, convert, judge_public
from textgym.tasks.risk.reader import FALSE, UNREAD, phrases, stated
from textgym.tasks.risk.world import (
    EXCEPTIONS,
    FLOOR,
    PURPOSES,
    SHARES,
    TIMES,
    VALUES,
    decide,
    read,
    write,
)

_UNREADABLE_WEIGHT = 3
"""Weight of an unreadable phrase: one leaves a quarter of the value of the reason."""

_APPLIES = {1: 0.5, 2: 0.42, 3: 0.38}
"""Probability that a rule applies, by level."""


class Risk(Task):
    """Decide on a loan by the lender's rules, and state the decisive facts.

    ## Description

    The prompt has an application and the lender's rules, whose limits vary between prompts. The
    policy writes a decision (``Approve``, ``Decline``, or ``Refer`` to a human) and the reason: the
    decisive facts with their numbers and comparisons. If a rule applies, these are the facts of the
    rule that decides; otherwise those of every rule. "above" and "under" are strict comparisons. If
    a rule's condition is met and it has an exception, the exception is part of the reason ("and
    there is no pledge", "but there is a pledge").

    The rules and applicants are invented. A score does not measure whether a lender is fair.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

        score = value(said, right) * (0.1 / (1 + o) + 0.9 * share * precision^2 / (1 + 3 u))

    * ``value``: cost-sensitive; a wrong approval is worse than a wrong refusal:

      ======== ======= ======= =====
      said     right decision
      -------- ---------------------
               approve decline refer
      ======== ======= ======= =====
      approve  1       0       0.1
      decline  0.3     1       0.3
      refer    0.4     0.4     1
      ======== ======= ======= =====

    * ``share``: the share of the decisive findings that are stated, in any order, with all their
      numbers: "the amount is not above six times the income" only repeats the rule.
    * ``o``: 1 for each other true finding about a rule, 2 for each that is false or repeated and
      for each other decision.
    * ``precision``: decisive findings stated / (decisive findings stated + o).
    * ``u``: 1 for each phrase that is not understood, plus 1 per eight words of it.

    The parser understands the words of the examples, digits and number words, fractions such as
    "1/3", and the usual synonyms of "above" and "under" ("over", "exceeds", "less than", "at
    least"). A reason that is not understood is worth 0 and leaves the value of the decision.

    A decision alone scores 0.1 of its value, a text in another format 0. The baselines, with their
    mean scores by level:

    * ``strict`` declines and claims that the first rule applies: 0.52, 0.29, 0.21;
    * ``everything`` declines and states every rule's finding correctly: 0.66 (there is only one
      rule, and half of the applications are declined), 0.22, 0.16;
    * ``lenient`` approves and states every rule's finding correctly: 0.49, 0.33, 0.28;
    * ``cautious`` always refers, without a reason: 0.04, 0.06, 0.05;
    * ``guess`` is random: 0.26, 0.14, 0.10.

    ## Starting State

    A prompt of `generate`, by level: (1) one rule; (2) two rules, one of which refers, where the
    first that fits counts; (3) three rules, one with an exception, where the first or the last that
    fits counts.

    ``item(0)`` at level 1::

        Loan: for a workshop, income 480, amount 2240, debts 320, 8 job years, 6 late
        bills.
        Rules: Decline if the amount is above six times the income. Else approve.
        Decision:

        -> Approve: the amount of 2240 is not above six times the income of 480.

    ``item(0)`` at level 2::

        Loan: for a workshop, income 200, debts 100, 5 job years.
        Rules: Refer if the loan is for a workshop. Decline if the job years are under
        7. Else approve. The first that fits counts.
        Decision:

        -> Refer: the loan is for a workshop.

    ``item(0)`` at level 3::

        Loan: for a house, income 640, amount 3420, 7 job years, no pledge.
        Rules: Decline if the loan is for a violin. Refer if the job years are under 9.
        Decline if the amount is above six times the income, unless there is a pledge.
        Else approve. The last that fits counts.
        Decision:

        -> Refer: the 7 job years are under 9.

    The row's other columns are ``decision``, ``findings`` (the true finding about each rule) and
    ``decisive`` (the indices of the decisive ones).

    ## Episode End

    End-of-sequence, or 56 tokens: a termination. Decisions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts=`` accepts rows of credit data with a label in one of the columns ``decision``,
    ``label``, ``class``, ``Risk``, ``risk``, ``credit_risk`` or ``loan_status``: words such as
    approve, good, accepted, "Fully Paid", decline, bad, rejected, "Charged Off", refer or review;
    in ``class`` also UCI's 1 (good) and 2 (bad). Other numbers are not interpreted. The application
    is the column ``application`` or ``text``, or else all other columns (the German credit data of
    UCI, OpenML's credit-g). The column ``reason``, if there is one, is the reference for the
    reason.

    Such rows have no rules. The score is the ``value`` of the decision at the start of the text (0
    if the text has two). If the row has a reason, it is multiplied by 0.1 + 0.9 s, where the
    similarity s is the smaller of BLEU and chrF (which need sacrebleu), or 0 if the numbers of
    negations differ. Otherwise any further text is discounted as in other tasks, and a constant
    decision scores the share of its label. Similarity does not imply truth.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Risk-v0"
    tags = ("judging", "graded")
    scored_by = "cost-sensitive accuracy times a reason that the facts support"
    max_prompt_tokens = 96
    max_new_tokens = 56
    levels = (1, 2, 3)
    cheat_ceiling = 0.5
    lead = " "

    def generate(self, rng: np.random.Generator) -> Row:
        """Generate an application, rules, and the right decision."""
        draw = draws(rng, 40)
        income = 20 * (10 + int(draw() * 40))
        facts: dict[str, Any] = {
            "purpose": pick(PURPOSES, draw),
            "income": income,
            "debts": 10 * round(income * (0.2 + 0.6 * draw()) / 10),
            "amount": 10 * round(income * (1.6 + 5 * draw()) / 10),
            "years": 2 + int(draw() * 7),
            "late": 2 + int(draw() * 5),
        }
        names = ["debts", "amount", "income", "years", "late", "purpose"]
        tested = []
        if self.level == 3:  # one fact of each kind, to limit the length of the texts
            tested = [names[int(draw() * 2)], names[3 + int(draw() * 2)], "purpose"]
        while len(tested) < self.level:
            tested.append(names.pop(int(draw() * len(names))))
        tested.append(tested.pop(int(draw() * len(tested))))
        tested.insert(0, tested.pop(int(draw() * len(tested))))
        if self.level > 1:  # few facts that no rule tests, to keep prompts short
            spare = [name for name in ("amount", "debts", "years", "late") if name not in tested]
            for _ in range(len(spare) - (self.level == 2)):
                del facts[spare.pop(int(draw() * len(spare)))]
        refers = int(draw() * self.level) if self.level > 1 else -1
        rules: list[dict[str, Any]] = []
        for number, fact in enumerate(tested):
            limit = _limit(fact, facts, draw() < _APPLIES[self.level], draw())
            # Several rules have both actions.
            action = "refer" if number == refers else "decline"
            rules.append({"action": action, "fact": fact, "limit": limit, "unless": ""})
        if self.level == 3:
            unless = pick(EXCEPTIONS, draw)
            facts[unless] = draw() < 0.5
            rules[int(draw() * 3)]["unless"] = unless
        last = self.level == 3 and draw() < 0.5
        return {"prompt": write(facts, rules, last), **_columns(*decide(facts, rules, last))}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the value of a decision, times the quality of its reason."""
        if "decision" in row and "findings" not in row:
            return judge_public(text, row)
        if len(text) > LONGEST:
            return nothing("the text", f"longer than {LONGEST} characters")
        decision, colon, reason = text[1:-1].partition(": ")
        values = VALUES.get(decision.lower()) if decision.istitle() else None
        if values is None or text[-1:] != "." or text[:1] != " ":
            return nothing("the text", "not of the form 'Approve: the reason.'")
        value = values[row["decision"]]
        verdict = "right" if value == 1.0 else f"right is {row['decision']}"
        judgement = Judgement().add(f"decision {decision.lower()}", verdict, FLOOR * value)
        return _reasoned(judgement, value, phrases(reason), row) if colon else judgement

    def complete_row(self, row: Row) -> Row:
        """Parse the application and rules of a user's prompt, and apply them."""
        found = read(row["prompt"])
        return row if found is None else {**_columns(*decide(*found)), **row}

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a row of credit data (see "Real data")."""
        return convert(row)

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score of the decision and the complete reasons so far."""
        return list(map(self.score, map(_finished_reasons, texts), rows))

    def baselines(self) -> dict[str, Baseline]:
        """Policies that do not compare numbers, or ignore which rule decides."""
        return {
            "strict": strict,
            "everything": everything,
            "lenient": lenient,
            "cautious": cautious,
            "guess": guess,
        }

    def document(self, rng: np.random.Generator) -> str:
        """A fluent decision with errors: another decision, another rule, wrong numbers."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _reasoned(
    judgement: Judgement, value: float, reasons: Sequence[str], row: Mapping[str, Any]
) -> Judgement:
    """Add the value of the reasons to the judgement of a decision."""
    decisive, findings = row["decisive"], row["findings"]
    seen: set[int] = set()
    right = others = unread = 0
    for phrase in reasons:
        number, complete = stated(phrase, findings)
        if number == UNREAD:
            unread += unreadable(phrase)
            what = "not understood"
        elif number == FALSE or number in seen:
            others += 2
            what = "false" if number == FALSE else "repeated"
        elif number in decisive:
            # The rule's own words, copied from the prompt, are not a finding.
            right += complete
            what = "decisive" if complete else "decisive, but without its numbers"
        else:
            others += 1
            what = "true, but not decisive"
        judgement.note(quoted(phrase), what)
        seen.add(number)
    for number in decisive:
        if number not in seen:
            judgement.note(quoted(findings[number]), "missing: it is decisive")
    share = right / len(decisive)
    precision = right / (right + others) if right else 0.0
    reasoned = share * precision**2

    def total(reason: float, others: int = others) -> float:
        return value * (FLOOR / (1 + others) + (1 - FLOOR) * reason)

    judgement.settle(f"{right} of {len(decisive)} decisive reasons", "stated", total(share, 0))
    judgement.settle("other claims", "false, repeated, or not decisive", total(reasoned))
    return judgement.settle(
        "phrases not understood",
        "they discredit the reason",
        total(reasoned / (1 + _UNREADABLE_WEIGHT * unread)),
    )


def _finished_reasons(text: str) -> str:
    """The decision and the complete reasons of an unfinished text, as a text."""
    text = finished(text, ".,:").rstrip(".,:")
    return f"{text}." if text else ""


def _limit(fact: str, facts: Mapping[str, Any], fits: bool, choice: float) -> str:
    """A limit with which a rule applies or does not, if there is one; `choice` is in [0, 1)."""
    if fact in ("debts", "amount"):
        table: Mapping[str, Any] = SHARES if fact == "debts" else TIMES
        income = facts["income"]
        limits = [name for name, factor in table.items() if (facts[fact] > factor * income) == fits]
        limits = limits or list(table)
        return limits[int(choice * len(limits))]
    if fact == "purpose":
        number = PURPOSES.index(facts["purpose"])
        return PURPOSES[number if fits else number - 1 - int(choice * (len(PURPOSES) - 1))]
    if fact == "income":
        step = 20 * (1 + int(choice * 6)) if fits else -20 * int(choice * 6)
        return str(facts["income"] + step)
    step = int(choice * 3)
    if fact == "late":
        return str(max(1, facts["late"] - 1 - step) if fits else facts["late"] + step)
    return str(min(9, facts["years"] + 1 + step) if fits else max(1, facts["years"] - step))


def _columns(decision: str, decisive: list[int], findings: list[str]) -> Row:
    """The columns of a row other than the prompt."""
    reason = joined([findings[number] for number in decisive])
    return {
        "reference": f" {decision.capitalize()}: {reason}.",
        "decision": decision,
        "decisive": decisive,
        "findings": findings,
    }
