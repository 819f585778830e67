"""Decisions judged by hand, and an independent implementation of the rules."""

import re
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import split_documents
from textgym.tasks.risk.baselines import negated
from textgym.tasks.risk.task import VALUES, Risk

PROMPT = (
    "Loan: for a boat, income 1200, amount 5000, debts 900, 3 job years, 2 late bills, a pledge.\n"
    "Rules: Decline if the debts are above half of the income, unless there is a pledge. Refer if"
    " the loan is for a boat. Decline if the amount is above four times the income. Else approve."
    " The first that fits counts.\nDecision:"
)
ROW = Risk(3).complete_row({"prompt": PROMPT})
LAST = Risk(3).complete_row({"prompt": PROMPT.replace("The first that", "The last that")})
ONE = Risk(1).complete_row(
    {
        "prompt": "Loan: for a car, income 1200, amount 900, debts 900, 3 job years, 2 late bills."
        "\nRules: Decline if the debts are above half of the income. Else approve.\nDecision:"
    }
)
DEBTS = "the debts of 900 are above half of the income of 1200"
BOAT = "the loan is for a boat"
AMOUNT = "the amount of 5000 is above four times the income of 1200"


def test_precedence_and_exceptions():
    assert (ROW["decision"], ROW["decisive"]) == ("refer", [1])
    assert (LAST["decision"], LAST["decisive"]) == ("decline", [2])
    assert ROW["findings"] == [f"{DEBTS} but there is a pledge", BOAT, AMOUNT]
    no = Risk(3).complete_row({"prompt": PROMPT.replace("a pledge.\nR", "no pledge.\nR")})
    assert no["reference"] == f" Decline: {DEBTS} and there is no pledge."


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (f" Decline: {DEBTS}.", 1.0),
        (" Decline.", 0.1),
        (f" Approve: {DEBTS}.", 0.0),
        (f" Refer: {DEBTS}.", 0.4),
        (" Refer.", 0.04),
        # False claims: two points each.
        (" Decline: the debts of 900 are not above half of the income of 1200.", 0.1 / 3),
        (" Decline: the debts of 800 are above half of the income of 1200.", 0.1 / 3),
        (" Decline: the loan is for a car.", 0.1 / 3),
        (f" Decline: {DEBTS} and the loan is for a car.", 0.1 / 3 + 0.9 / 9),
        (f" Decline: {DEBTS}, {DEBTS}.", 0.1 / 3 + 0.9 / 9),
        (f"Decline: {DEBTS}.", 1.0),
        # Another format.
        ("", 0),
        (f" Decline: {DEBTS}", 0),
        (f" decline: {DEBTS}.", 0),
        (f" Decline Approve: {DEBTS}.", 0),
        (f" Decline. {DEBTS}.", 0),
        (f" {DEBTS}.", 0),
        (f" Decline: {DEBTS}. Approve: {DEBTS}.", 0.1 / 3),
        (f" Decline: {DEBTS}.\n", 1.0),
    ],
)
def test_by_hand(text, score):
    assert Risk(1).score(text, ONE) == pytest.approx(score)


def test_a_changed_word_costs_little():
    """Level 1, the first item: the amount of 2240 is not above six times the income of 480."""
    task = Risk(1)
    row = task.item(0)
    for reason, score in (
        ("the amount of 2240 is not above 6 times the income of 480", 1.0),
        ("the amount of 2,240 is not over six times the income of 480", 1.0),
        ("The amount of 2240 does not exceed 6 times the income of 480", 1.0),
        ("the amount is not above six times the income", 0.1),
        ("the amount of 2240 isn't more than 6 times the income", 0.1),
        # Not understood: the value of the decision, and a discount on other findings.
        ("it is a small amount", 0.1),
        ("", 0.1),
        ("the amount of 2240 is not above 6 times the income of 480, all is well", 0.1 + 0.9 / 4),
        # False.
        ("the amount is above six times the income", 0.1 / 3),
        ("the amount of 2250 is not above 6 times the income", 0.1 / 3),
        ("the amount of 480 is not above six times the income of 2240", 0.1 / 3),
        ("the amount is not above 5 times the income", 0.1 / 3),
        ("I approve or decline", 0.1 / 3),
    ):
        assert task.score(f" Approve: {reason}.", row) == pytest.approx(score), reason


@pytest.mark.parametrize("level", Risk.levels)
def test_digits_and_number_words_are_alike(level):
    words = ["zero", *NUMBERS, "seven", "eight", "nine"]
    words.insert(1, "one")
    task, rng = Risk(level), np.random.default_rng(level)
    for _ in range(300):
        row = task.sample(rng)
        text = row["reference"]
        spelled = re.sub(r"\b[1-9]\b", lambda m: words[int(m[0])], text)
        digits = text.replace("two thirds", "2/3")
        digits = re.sub("two|three|four|five|six", lambda m: str(NUMBERS[m[0]]), digits)
        assert task.score(spelled, row) == task.score(digits, row) == 1.0
        brief = brief_of(text)
        assert (task.score(brief, row) == 1.0) == (brief == text)
        # A finding without its numbers counts as if it were missing.
        without = sum(
            brief_of(row["findings"][at]) != row["findings"][at] for at in row["decisive"]
        )
        share = 1 - without / len(row["decisive"])
        assert task.score(brief, row) == pytest.approx(0.1 + 0.9 * share)


def brief_of(text):
    return re.sub(r"\d+ (?=job|late)", "", re.sub(r" of \d+", "", text))


def test_a_finding_without_its_exception():
    no = Risk(3).complete_row({"prompt": PROMPT.replace("a pledge.\nR", "no pledge.\nR")})
    for end, score in ((" and there is no pledge", 1.0), (", and there is no pledge", 1.0),
                       ("", 0.1), (" but there is a pledge", 0.1 / 3)):  # fmt: skip
        assert Risk(3).score(f" Decline: {DEBTS}{end}.", no) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (f" Refer: {BOAT}.", 1.0),
        (f" Decline: {BOAT}.", 0.3),
        (f" Approve: {BOAT}.", 0.1),
        # True, but not decisive.
        (f" Refer: {AMOUNT}.", 0.05),
        (f" Refer: {BOAT} and {AMOUNT}.", 0.05 + 0.9 / 4),
        (f" Refer: {DEBTS} but there is a pledge, {BOAT} and {AMOUNT}.", 0.1 / 3 + 0.9 / 9),
    ],
)
def test_only_decisive_facts_count(text, score):
    assert Risk(3).score(text, ROW) == pytest.approx(score)


def test_half_of_the_reasons_for_approval():
    row = Risk(2).complete_row(
        {
            "prompt": "Loan: for a car, income 1000, debts 500, 3 job years.\nRules: Decline if the"
            " debts are above half of the income. Refer if the job years are under 3. Else approve."
            " The first that fits counts.\nDecision:"
        }
    )
    one = "the debts of 500 are not above half of the income of 1000"
    two = "the 3 job years are not under 3"
    assert row["reference"] == f" Approve: {one} and {two}."
    for text in (f" Approve: {two} and {one}.", f" Approve: {two}, {one}.",
                 f" Approve: {two}, and {one}."):  # fmt: skip
        assert Risk(2).score(text, row) == 1.0
    assert Risk(2).score(f" Approve: {two}.", row) == pytest.approx(0.1 + 0.9 / 2)


# An independent implementation of the rules.

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PARTS = {"a quarter": (1, 4), "a third": (1, 3), "half": (1, 2), "two thirds": (2, 3)}


def decide(prompt):
    loan, rules, _ = prompt.split("\n")

    def number(pattern):
        return int(re.search(pattern, loan)[1])

    fitting = []
    for rule in rules.removeprefix("Rules: ").split(". "):
        if " if " not in rule:
            continue
        action, condition = rule.rstrip(".").split(" if ")
        condition, _, exception = condition.partition(", unless there is a ")
        limit = condition.split(" ")[-1]
        if "debts" in condition:
            over, under = PARTS[re.search(r"above (.*) of the income", condition)[1]]
            fits = number(r"debts (\d+)") * under > number(r"income (\d+)") * over
        elif "times" in condition:
            times = NUMBERS[re.search(r"above (\w+) times", condition)[1]]
            fits = number(r"amount (\d+)") > number(r"income (\d+)") * times
        elif "job" in condition:
            fits = number(r"(\d+) job") < int(limit)
        elif "late" in condition:
            fits = number(r"(\d+) late") > int(limit)
        elif "income" in condition:
            fits = number(r"income (\d+)") < int(limit)
        else:
            fits = f"for a {limit}," in loan
        if fits and not (exception and f", a {exception}" in loan):
            fitting.append(action.lower())
    if not fitting:
        return "approve"
    return fitting[-1 if "The last" in rules else 0]


@pytest.mark.parametrize("level", Risk.levels)
def test_decisions_equal_the_second_implementation(level):
    task, rng = Risk(level), np.random.default_rng(level)
    seen = {}
    for _ in range(1500):
        row = task.sample(rng)
        assert row["decision"] == decide(row["prompt"]), row["prompt"]
        assert task.complete_row({"prompt": row["prompt"]}) == row
        seen[row["decision"]] = seen.get(row["decision"], 0) + 1
        # Every number of a finding occurs in the prompt.
        for finding in row["findings"]:
            assert set(re.findall(r"\d+", finding)) <= set(re.findall(r"\d+", row["prompt"]))
    assert len(seen) == (2 if level == 1 else 3)
    assert min(seen.values()) > 250


@pytest.mark.parametrize("level", Risk.levels)
def test_each_corruption_of_the_oracle_lowers_the_score(level):
    task, rng = Risk(level), np.random.default_rng(level)
    for _ in range(200):
        row = task.sample(rng)
        said = [row["findings"][number] for number in row["decisive"]]
        action = row["decision"].capitalize()
        for order in permutations(said):
            assert task.score(f" {action}: {', '.join(order)}.", row) == 1.0
        for number, finding in enumerate(said):
            rest = said[:number] + said[number + 1 :]
            for other in (
                negated(finding),
                re.sub(r"\d+", lambda m: str(int(m[0]) + 1), finding, count=1),
                re.sub(r" (?:but there is a|and there is no) \w+", "", finding),
            ):
                if other != finding:
                    assert task.score(f" {action}: {', '.join([*rest, other])}.", row) < 0.8
            if rest:
                assert task.score(f" {action}: {', '.join(rest)}.", row) < 0.8
        for wrong in {"approve", "decline", "refer"} - {row["decision"]}:
            text = row["reference"].replace(action, wrong.capitalize())
            assert task.score(text, row) == VALUES[wrong][row["decision"]]
        words = row["reference"].split(" ")
        for number in range(1, len(words)):
            text = " ".join(words[:number] + words[number + 1 :])
            assert task.score(text, row) < 1.0


def test_wrong_approval_costs_most():
    for right in ("decline", "refer"):
        assert VALUES["approve"][right] < min(
            VALUES[said][other]
            for said in ("decline", "refer")
            for other in VALUES
            if said != other
        )


@pytest.mark.parametrize("level", Risk.levels)
def test_baselines_and_documents_are_in_their_bands(level):
    task, rng = Risk(level), np.random.default_rng(level)
    written = list(split_documents(task, 1000))
    scores = [task.score(text, row) for row, text in written]
    assert 0.3 < np.mean(scores) < 0.62
    assert np.std(scores) > 0.2
    expected = {
        "strict": (0.52, 0.29, 0.21),
        "everything": (0.66, 0.22, 0.16),
        "lenient": (0.49, 0.33, 0.28),
        "cautious": (0.04, 0.06, 0.05),
        "guess": (0.26, 0.14, 0.10),
    }
    for name, write in task.baselines().items():
        mean = np.mean([task.score(write(row, rng), row) for row, _ in written])
        assert mean == pytest.approx(expected[name][level - 1], abs=0.06), name


def test_rows_with_a_reason():
    task = Risk(1)
    raw = {"application": "A man wants 900.", "decision": "Rejected", "reason": "Debts too high."}
    row = task.convert(raw)
    assert row["decision"] == "decline"
    assert row["reference"] == " Decline: Debts too high."
    assert row["prompt"] == "Application: A man wants 900.\nDecision:"
    assert task.score(row["reference"], row) > 0.9
    assert task.score(" Decline.", row) == pytest.approx(0.1)
    half = task.score(" Decline: the debts.", row)
    assert 0.1 < half < task.score(row["reference"], row)
    assert task.score(" Approve: Debts too high.", row) == 0


def test_reasons_similar_to_the_right_one():
    task = Risk(1)
    reason = "The applicant has a history of late payments and the income does not cover the debts."
    row = task.convert({"application": "x", "label": "bad", "reason": reason})
    words = reason.removesuffix(".").split()
    assert task.score(f" Decline: {reason}", row) == 1.0
    assert task.score(f" Decline: {reason} and ruins.", row) > 0.8
    assert task.score(f" Decline: {' '.join(words[:8])} and is poor.", row) == 0.1  # no "not"
    for junk in (" ".join(words[::2] + words[1::2]), " ".join(words[::-1]),
                 reason.replace("not ", ""), reason.replace("has a", "never had a"),
                 "marzipan walrus kettle trombone yodel",
                 "the dog has a story of a payment that does not cover the hat"):  # fmt: skip
        assert task.score(f" Decline: {junk}.", row) <= 0.4, junk


def test_junk_after_a_decision_without_a_reason():
    row = Risk(1).convert({"application": "x", "label": "bad"})
    assert Risk(1).score(" Decline.", row) == Risk(1).score("decline", row) == 1.0
    assert Risk(1).score(" Decline: so it is.", row) == 0.4
    assert Risk(1).score(f" Decline {'walrus ' * 16}", row) <= 0.2


@pytest.mark.parametrize(
    ("raw", "decision"),
    [
        ({"duration": 6, "credit_amount": 1169, "purpose": "radio/tv", "class": "good"}, "approve"),
        ({"Age": 22, "Credit amount": 5951, "Purpose": "car", "Risk": "bad"}, "decline"),
        ({"duration": 48, "class": 2}, "decline"),
        ({"text": "A loan of 900.", "label": "refer"}, "refer"),
        ({"loan_amnt": 900, "loan_status": "Fully Paid"}, "approve"),
        ({"loan_amnt": 900, "loan_status": "Charged Off"}, "decline"),
    ],
)
def test_credit_data(raw, decision):
    task = Risk(1)
    before = dict(raw)
    row = task.convert(raw)
    assert raw == before
    assert row["decision"] == decision
    label = str(list(raw.values())[-1])
    assert label not in row["prompt"].replace("A loan", "")
    for said, values in VALUES.items():
        assert task.score(f" {said.capitalize()}.", row) == values[decision]
    assert task.score(" Approve or decline.", row) == 0
    assert task.score("", row) == task.score(row["prompt"], row) == 0
    assert task.score(row["reference"], row) == 1.0


def test_ambiguous_rows_are_unchanged():
    for raw in ({"text": "x", "label": 1}, {"text": "x"}, {"text": "x", "label": "perhaps"}):
        assert Risk(1).convert(raw) == raw
    assert Risk(1).complete_row({"prompt": "Hello"}) == {"prompt": "Hello"}


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_junk_is_judged(text):
    for junk in (text, f" Refer: {text}.", f" {text}: {BOAT}.", f" Refer: {BOAT}, {text}."):
        assert 0 <= Risk(3).score(junk, ROW) <= 1
    assert 0 <= Risk(3).score(text, Risk(1).convert({"text": "x", "label": "bad"})) <= 1
