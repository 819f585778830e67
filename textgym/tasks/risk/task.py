"""Decide on loans by written rules, and say why: cost-sensitive decisions with checked reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Task
from textgym.tasks.judgement import Judgement, nothing, quoted, unreadable
from textgym.tasks.risk.baselines import (
    cautious,
    everything,
    guess,
    joined,
    lenient,
    mediocre,
    strict,
)
from textgym.tasks.risk.public import LABELS, LONGEST, judge_public, meant
from textgym.tasks.risk.reader import FALSE, UNREAD, phrases, stated
from textgym.tasks.risk.world import (
    EXCEPTIONS,
    FLOOR,
    PURPOSES,
    SHARES,
    TIMES,
    VALUES,
    judge,
    read,
    write,
)

_BRIEF = 0.7
"""What a finding is worth without its numbers."""

_UNREAD = 3
"""What a phrase that nobody can read costs: of the worth of the reason, a quarter is left."""

# How often a rule fits, by level.
_FITS = {1: 0.5, 2: 0.42, 3: 0.38}


class Risk(Task):
    """Decide on a loan by the lender's rules, and give the facts that decide.

    ## Description

    The prompt has an application and the lender's rules, with limits that differ from prompt to
    prompt. The policy writes a decision (``Approve``, ``Decline`` or ``Refer``, which leaves it to
    a human) and the reason: the facts that the rules make decisive, with their numbers and how they
    compare. If a rule fits, these are the facts of the rule that decides; if none does, those of
    every rule. "above" and "under" do not hold of equal numbers. Where a rule's condition holds and
    it has an exception, the exception belongs to the reason ("and there is no pledge", "but there
    is a pledge").

    The rules and people are made up; a score here says nothing of whether a lender is fair.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids, -1 where nothing is
    written.

    ## Action Space

    ``Discrete(V)``: the next token.

    ## Rewards

    The score, in [0, 1], once at the end:

        score = value(said, right) * (0.2 / (1 + o) + 0.8 * share * precision^2 / (1 + 3 u))

    * ``value``: cost-sensitive, for it is worse to approve wrongly than to decline wrongly:

      ======== ======= ======= =====
      said     right decision
      -------- ---------------------
               approve decline refer
      ======== ======= ======= =====
      approve  1       0       0.1
      decline  0.3     1       0.3
      refer    0.4     0.4     1
      ======== ======= ======= =====

    * ``share``: how many of the decisive findings are stated, in any order. One without (all of)
      its numbers counts 0.7 ("the amount is not above six times the income").
    * ``o``: a point for each other true finding about a rule, two for each that is false or said
      before, and for another decision.
    * ``precision``: decisive findings stated / (these + o).
    * ``u``: a point for each phrase that is not understood, and one more per eight words of it.

    Understood are the words of the examples, with digits for number words and the reverse, "1/3"
    and the like, and the usual words for "above" and "under" ("over", "exceeds", "less than", "at
    least"). What is not understood is worth nothing, and does not make a decision worth less.

    A decision alone is worth 0.2 of its value; a text of another form, nothing. The baselines:
    ``strict`` declines and claims that the first rule fits (0.52, 0.31 and 0.22 by level),
    ``everything`` declines and states every rule's finding correctly (0.66, 0.23, 0.17: at level 1
    there is but one rule, and half of the applications are declined), ``lenient`` does so and
    approves (0.49, 0.33, 0.28: the best of them above level 1), ``cautious`` always refers, without
    a reason (0.08, 0.12, 0.11), ``guess`` guesses (0.27, 0.16, 0.12).

    ## Starting State

    A prompt of `generate`, by level: (1) one rule, (2) two rules, one of which refers, of which the
    first that fits counts, (3) three rules, one with an exception, of which the first or the last
    that fits counts.

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

    The row's other columns are ``decision``, ``findings`` (the true one about each rule) and
    ``decisive`` (the numbers of those that decide).

    ## Episode End

    End-of-sequence, or 56 tokens: a termination. Decisions begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts=`` takes rows of credit data with a label in one of the columns ``decision``,
    ``label``, ``class``, ``Risk``, ``risk``, ``credit_risk`` or ``loan_status``: words such as
    approve, good, accepted, "Fully Paid", decline, bad, rejected, "Charged Off", refer or review;
    in ``class`` also UCI's 1 (good) and 2 (bad). Other numbers are not guessed at. The application
    is the column ``application`` or ``text``, or else all other columns, written out (the German
    credit data of UCI, OpenML's credit-g). A column ``reason`` is what the reason is compared with.

    Such rows have no rules. The score is ``value`` of the decision that the text begins with (0 if
    it names two), times 0.2 + 0.8 times the likeness of the reason if the row has one: the
    smaller of BLEU and chrF (which need sacrebleu), and 0 where one of the two reasons denies
    more often than the other. Without a reason the score is the decision's alone, and what else is
    said costs as in other tasks: always to say the commonest label is worth its share. Likeness is
    not truth.

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
        """Draw an application and rules, and decide."""
        draw = iter(rng.random(40).tolist()).__next__
        income = 20 * (10 + int(draw() * 40))
        facts: dict[str, Any] = {
            "purpose": PURPOSES[int(draw() * len(PURPOSES))],
            "income": income,
            "debts": 10 * round(income * (0.2 + 0.6 * draw()) / 10),
            "amount": 10 * round(income * (1.6 + 5 * draw()) / 10),
            "years": 2 + int(draw() * 7),
            "late": 2 + int(draw() * 5),
        }
        names = ["debts", "amount", "income", "years", "late", "purpose"]
        looked = []
        if self.level == 3:  # one of each sort: others would make the texts too long
            looked = [names[int(draw() * 2)], names[3 + int(draw() * 2)], "purpose"]
        while len(looked) < self.level:
            looked.append(names.pop(int(draw() * len(names))))
        looked.append(looked.pop(int(draw() * len(looked))))
        looked.insert(0, looked.pop(int(draw() * len(looked))))
        if self.level > 1:  # few facts that no rule looks at, to keep prompts short
            spare = [name for name in ("amount", "debts", "years", "late") if name not in looked]
            for _ in range(len(spare) - (self.level == 2)):
                del facts[spare.pop(int(draw() * len(spare)))]
        refers = int(draw() * self.level) if self.level > 1 else -1
        rules: list[dict[str, Any]] = []
        for number, fact in enumerate(looked):
            limit = _limit(fact, facts, draw() < _FITS[self.level], draw())
            # Both actions occur wherever there are several rules.
            action = "refer" if number == refers else "decline"
            rules.append({"action": action, "fact": fact, "limit": limit, "unless": ""})
        if self.level == 3:
            unless = EXCEPTIONS[int(draw() * len(EXCEPTIONS))]
            facts[unless] = draw() < 0.5
            rules[int(draw() * 3)]["unless"] = unless
        last = self.level == 3 and draw() < 0.5
        return {"prompt": write(facts, rules, last), **_judged(*judge(facts, rules, last))}

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """What the decision is worth, times how far the reason supports it."""
        if "decision" in row and "findings" not in row:
            return judge_public(text, row)
        if len(text) > LONGEST:
            return nothing("the text", f"longer than {LONGEST} characters")
        decision, colon, reason = text[1:-1].partition(": ")
        values = VALUES.get(decision.lower()) if decision.istitle() else None
        if values is None or text[-1:] != "." or text[:1] != " ":
            return nothing("the text", "not of the form 'Approve: the reason.'")
        value = values[row["decision"]]
        worth = "right" if value == 1.0 else f"right is {row['decision']}"
        judgement = Judgement().add(f"decision {decision.lower()}", worth, FLOOR * value)
        return _reasoned(judgement, value, phrases(reason), row) if colon else judgement

    def complete_row(self, row: Row) -> Row:
        """Read application and rules out of a prompt that a user wrote, and apply them."""
        found = read(row["prompt"])
        return row if found is None else {**_judged(*judge(*found)), **row}

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Bring a row of credit data (see "Real data") into the form of a prompt."""
        found = ((name, meant(name, row[name])) for name in LABELS if row.get(name) is not None)
        decision = next((one for _, one in found if one), None)
        if decision is None or "findings" in row:
            return row
        text = next((row[name] for name in ("application", "text", "prompt") if name in row), None)
        reason = row["reason"].strip() if isinstance(row.get("reason"), str) else ""
        if text is None:
            text = ", ".join(
                f"{str(name).replace('_', ' ')} {value}"
                for name, value in row.items()
                if name not in (*LABELS, "reason", "reference") and value is not None
            )
        return {
            "prompt": f"Application: {str(text).strip()}\nDecision:",
            "reference": f" {decision.capitalize()}{': ' if reason else ''}{reason.rstrip('.')}.",
            "decision": decision,
            "reason": reason,
        }

    def baselines(self) -> dict[str, Baseline]:
        """Writers that do not compare anything, or do not look which rule decides."""
        return {
            "strict": strict,
            "everything": everything,
            "lenient": lenient,
            "cautious": cautious,
            "guess": guess,
        }

    def document(self, rng: np.random.Generator) -> str:
        """A fluent decision with lapses: another decision, another rule, wrong numbers."""
        row = self.sample(rng)
        return str(row["prompt"]) + mediocre(row, rng)


def _reasoned(
    judgement: Judgement, value: float, reasons: Sequence[str], row: Mapping[str, Any]
) -> Judgement:
    """Add to the judgement of a decision what its reasons are worth."""
    decisive, findings = row["decisive"], row["findings"]
    told: set[int] = set()
    right = others = unread = 0
    worth = 0.0
    for said in reasons:
        number, whole = stated(said, findings)
        if number == UNREAD:
            unread += unreadable(said)
            judgement.note(quoted(said), "nobody can read it")
        elif number == FALSE or number in told:
            others += 2
            judgement.note(quoted(said), "false" if number == FALSE else "said before")
        elif number in decisive:
            right += 1
            worth += 1.0 if whole else _BRIEF
            judgement.note(quoted(said), "decides" if whole else "decides; its numbers are missing")
        else:
            others += 1
            judgement.note(quoted(said), "true, and decides nothing")
        told.add(number)
    for number in decisive:
        if number not in told:
            judgement.note(quoted(findings[number]), "missing: it decides")
    share = worth / len(decisive)
    precision = right / (right + others) if right else 0.0
    reasoned = share * precision**2

    def total(reason: float, others: int = others) -> float:
        return value * (FLOOR / (1 + others) + (1 - FLOOR) * reason)

    judgement.settle(f"{right} of {len(decisive)} reasons that decide", "stated", total(share, 0))
    judgement.settle("other claims", "false, repeated, or beside the point", total(reasoned))
    return judgement.settle(
        "what nobody can read", "it discredits the rest", total(reasoned / (1 + _UNREAD * unread))
    )


def _limit(fact: str, facts: Mapping[str, Any], fits: bool, luck: float) -> str:
    """A limit under which a rule fits or does not, where one exists."""
    if fact in ("debts", "amount"):
        table: Mapping[str, Any] = SHARES if fact == "debts" else TIMES
        income = facts["income"]
        limits = [name for name, one in table.items() if (facts[fact] > one * income) == fits]
        limits = limits or list(table)
        return limits[int(luck * len(limits))]
    if fact == "purpose":
        number = PURPOSES.index(facts["purpose"])
        return PURPOSES[number if fits else number - 1 - int(luck * (len(PURPOSES) - 1))]
    if fact == "income":
        step = 20 * (1 + int(luck * 6)) if fits else -20 * int(luck * 6)
        return str(facts["income"] + step)
    step = int(luck * 3)
    if fact == "late":
        return str(max(1, facts["late"] - 1 - step) if fits else facts["late"] + step)
    return str(min(9, facts["years"] + 1 + step) if fits else max(1, facts["years"] - step))


def _judged(decision: str, decisive: list[int], findings: list[str]) -> Row:
    """The columns of a row besides the prompt."""
    said = joined([findings[number] for number in decisive])
    return {
        "reference": f" {decision.capitalize()}: {said}.",
        "decision": decision,
        "decisive": decisive,
        "findings": findings,
    }
