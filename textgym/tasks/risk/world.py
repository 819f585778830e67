"""Loan applications, lenders' rules, and the decisions that follow from them.

A rule is a dictionary with its ``action``, the ``fact`` it tests, the ``limit``, and the exception
``unless`` (or an empty string). `decide` applies rules, `write` writes them as a prompt, and
`read` parses a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

SHARES = {
    "a quarter": Fraction(1, 4),
    "a third": Fraction(1, 3),
    "half": Fraction(1, 2),
    "two thirds": Fraction(2, 3),
}
TIMES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PURPOSES = ("car", "boat", "house", "barn", "kitchen", "garden", "journey", "workshop", "violin")
EXCEPTIONS = ("guarantor", "pledge")
_SHOWN = {
    "amount": "amount {}",
    "debts": "debts {}",
    "years": "{} job years",
    "late": "{} late bills",
}
"""Wordings of the optional facts of an application."""

ACTIONS = ("approve", "decline", "refer")

VALUES = {
    "approve": {"approve": 1.0, "decline": 0.0, "refer": 0.1},
    "decline": {"approve": 0.3, "decline": 1.0, "refer": 0.3},
    "refer": {"approve": 0.4, "decline": 0.4, "refer": 1.0},
}
"""Value of a decision: ``VALUES[made][right]``."""

FLOOR = 0.1
"""Share of a decision's value without a reason."""

Facts = Mapping[str, Any]
Rule = Mapping[str, Any]


def holds(rule: Rule, facts: Facts) -> bool:
    """Whether the condition of a rule is met, regardless of its exception."""
    fact, limit = rule["fact"], rule["limit"]
    if fact == "debts":
        return bool(facts["debts"] > SHARES[limit] * facts["income"])
    if fact == "amount":
        return bool(facts["amount"] > TIMES[limit] * facts["income"])
    if fact == "purpose":
        return bool(facts["purpose"] == limit)
    if fact == "late":
        return bool(facts["late"] > int(limit))
    return bool(facts[fact] < int(limit))


_CONDITIONS = {
    "debts": "the debts are above {} of the income",
    "amount": "the amount is above {} times the income",
    "income": "the income is under {}",
    "years": "the job years are under {}",
    "late": "the late bills are above {}",
    "purpose": "the loan is for a {}",
}
_FINDINGS = {
    "debts": "the debts of {debts} are{no} above {limit} of the income of {income}",
    "amount": "the amount of {amount} is{no} above {limit} times the income of {income}",
    "income": "the income of {income} is{no} under {limit}",
    "years": "the {years} job years are{no} under {limit}",
    "late": "the {late} late bills are{no} above {limit}",
    "purpose": "the loan is{no} for a {limit}",
}


def finding(rule: Rule, facts: Facts) -> str:
    """State the facts of a rule, their comparison, and the exception if the condition is met."""
    met = holds(rule, facts)
    text = _FINDINGS[rule["fact"]].format_map(
        {**facts, "no": "" if met else " not", "limit": rule["limit"]}
    )
    unless = rule["unless"]
    if met and unless:
        text += f" but there is a {unless}" if facts[unless] else f" and there is no {unless}"
    return text


def decide(facts: Facts, rules: Sequence[Rule], last: bool) -> tuple[str, list[int], list[str]]:
    """Apply the rules.

    Args:
        facts: The application.
        rules: The rules in the order of the prompt.
        last: Whether the last rule that applies decides, rather than the first.

    Returns:
        The decision, the indices of the decisive rules (the one that decided, or all if none
        applies), and the finding of every rule.
    """
    fits = [
        number
        for number, rule in enumerate(rules)
        if holds(rule, facts) and not (rule["unless"] and facts[rule["unless"]])
    ]
    findings = [finding(rule, facts) for rule in rules]
    if not fits:
        return "approve", list(range(len(rules))), findings
    number = fits[-1 if last else 0]
    return rules[number]["action"], [number], findings


def write(facts: Facts, rules: Sequence[Rule], last: bool) -> str:
    """Write the prompt."""
    known = [f"income {facts['income']}"]
    for name, text in _SHOWN.items():
        if name in facts:
            known.append(text.format(facts[name]))
    known += [f"{'a' if facts[name] else 'no'} {name}" for name in EXCEPTIONS if name in facts]
    lines = []
    for rule in rules:
        unless = f", unless there is a {rule['unless']}" if rule["unless"] else ""
        condition = _CONDITIONS[rule["fact"]].format(rule["limit"])
        lines.append(f"{rule['action'].capitalize()} if {condition}{unless}.")
    lines.append("Else approve.")
    if len(rules) > 1:
        lines.append(f"The {'last' if last else 'first'} that fits counts.")
    application = f"for a {facts['purpose']}, {', '.join(known)}"
    return f"Loan: {application}.\nRules: {' '.join(lines)}\nDecision:"


_APPLICATION = re.compile(
    r"Loan: for a (?P<purpose>\w+), income (?P<income>\d{1,12})"
    r"(?:, amount (?P<amount>\d{1,12}))?(?:, debts (?P<debts>\d{1,12}))?"
    r"(?:, (?P<years>\d{1,12}) job years)?(?:, (?P<late>\d{1,12}) late bills)?"
    r"(?P<more>(?:, (?:a|no) \w+)*)\.\nRules: (?P<rules>.*)\nDecision:"
)
_RULE = re.compile(
    r"(Approve|Decline|Refer) if (?:"
    r"the debts are above (?P<debts>a quarter|a third|half|two thirds) of the income"
    r"|the amount is above (?P<amount>two|three|four|five|six) times the income"
    r"|the income is under (?P<income>\d{1,12})"
    r"|the job years are under (?P<years>\d{1,12})"
    r"|the late bills are above (?P<late>\d{1,12})"
    r"|the loan is for a (?P<purpose>\w+)"
    r")(?:, unless there is a (?P<unless>\w+))?\."
)


def read(prompt: str) -> tuple[dict[str, Any], list[dict[str, Any]], bool] | None:
    """Parse the arguments of `write` from a prompt; None if it is in another format."""
    layout = _APPLICATION.fullmatch(prompt)
    if layout is None:
        return None
    facts: dict[str, Any] = {"purpose": layout["purpose"]}
    for name in ("amount", "income", "debts", "years", "late"):
        if layout[name]:
            facts[name] = int(layout[name])
    for word, name in re.findall(r", (a|no) (\w+)", layout["more"]):
        facts[name] = word == "a"
    rules = []
    for match in _RULE.finditer(layout["rules"]):
        named = match.groupdict()
        unless = named.pop("unless") or ""
        fact, limit = next((name, value) for name, value in named.items() if value)
        if fact not in facts or (unless and unless not in facts):
            return None
        rules.append({"action": match[1].lower(), "fact": fact, "limit": limit, "unless": unless})
    return (facts, rules, "The last that fits" in layout["rules"]) if rules else None
