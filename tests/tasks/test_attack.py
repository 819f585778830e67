"""attack_task finds junk that scores high, and none for a sound scorer."""

import itertools
import re

import numpy as np
import pytest

from textgym.cli.main import main
from textgym.errors import TaskError
from textgym.tasks import Task, make_task
from textgym.testing import attack_task
from textgym.testing.mutations import MUTATIONS, mutants
from textgym.testing.pieces import FOREIGN, split

NAMES = ("Ann", "Tom", "Lucy", "Max", "Rosa", "Ben", "Ella", "Hugo")
ANSWER = re.compile(r" (\w+) gave the big red ball to (\w+) in the old kitchen on Monday\.")


class Gift(Task):
    """Say who gave what to whom; nothing but the whole answer is paid."""

    id = "TextGen/Gift-v0"
    max_prompt_tokens = 40
    max_new_tokens = 30
    levels = (1, 2)
    cheat_ceiling = 0.4

    def generate(self, rng):
        one, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
        reference = f" {one} gave the big red ball to {other} in the old kitchen on Monday."
        return {"prompt": f"{one}, {other}. Gift {rng.integers(10**6)}.", "reference": reference}

    def score(self, completion, row):
        return float(completion == row["reference"])


def paying(function):
    """A task whose scorer pays a share of 1.0 for texts that are not the answer."""

    def score(self, completion, row):
        return max(Gift.score(self, completion, row), float(function(completion, row)))

    return type("Paying", (Gift,), {"score": score})


def constant_penalty(text, row):
    return 0.5 * text.startswith(row["reference"])


def slot_unread(text, row):
    return 0.6 * bool(re.fullmatch(ANSWER.pattern.replace("big red ball", ".+"), text))


def first_sentence(text, row):
    return 0.45 * (text.partition(".")[0] == row["reference"].rstrip("."))


def bag(text, row):
    return 0.9 * (sorted(re.findall(r"\w+", text)) == sorted(re.findall(r"\w+", row["reference"])))


def repeats(text, row):
    return 0.7 * (set(text.split()) == set(row["reference"].split()))


def special(text, row):
    return 1.0 * (text.partition("<|endoftext|>")[0] == row["reference"])


def one_word(text, row):
    return 1.0 * bool(re.fullmatch(ANSWER.pattern.replace("Monday", r"\w+"), text))


def ends(text, row):
    return 0.5 * (row["reference"] in text)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (constant_penalty, "junk appended"),
        (constant_penalty, "denied"),
        (slot_unread, "junk in a slot"),
        (first_sentence, "denied"),
        (bag, "words out of order"),
        (repeats, "words or sentences repeated"),
        (special, "special tokens and junk"),
        (one_word, "one word replaced"),
        (ends, "junk prepended"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_scorer_that_rewards_junk_is_found(function, kind):
    found = attack_task(paying(function), rows=4, seconds=0)
    assert kind in {finding.kind for finding in found.failures}
    assert {finding.level for finding in found.failures} == {1, 2}


def test_a_sound_scorer_passes():
    found = attack_task(Gift, rows=4, seconds=0.5)
    assert not found.failures
    assert found.texts > 1000
    assert max(finding.score for finding in found.findings) == 0.0


def test_the_limit_is_the_tasks_own():
    lenient = type("Lenient", (paying(constant_penalty),), {"junk_ceiling": 0.5})
    assert not attack_task(lenient, rows=4, seconds=0).failures
    finding = attack_task(lenient, rows=4, seconds=0).findings[0]
    assert (finding.score, finding.limit) == (0.5, 0.5)
    assert finding.oracle.strip() in finding.text


def test_a_constant_text_that_pays_is_found():
    polite = paying(lambda text, row: 0.5 * (" in the old kitchen" in text))
    [finding] = [
        finding
        for finding in attack_task(polite(level=1), rows=6, seconds=0.6).findings
        if finding.kind == "constant text"
    ]
    assert finding.failed
    assert finding.prompt == ""
    task = polite(level=1)
    rows = [task.item(number) for number in range(20)]
    assert np.mean([task.score(finding.text, row) for row in rows]) >= 0.45


def test_hill_climbing_finds_combinations_of_changes():
    # The score is the share of the answer's words, wherever they are.
    def parts(text, row):
        words = row["reference"].split()
        return 0.6 * sum(word in text for word in words) / len(words)

    found = attack_task(paying(parts)(level=1), rows=2, seconds=1.0)
    best = {finding.kind: finding.score for finding in found.findings}
    assert best["climb: answer among junk"] > 0.2
    assert best["random words"] < best["climb: answer among junk"]


def test_the_same_seed_finds_the_same():
    first, again = (attack_task(paying(bag), rows=5, seconds=0, seed=3) for _ in range(2))
    assert first.findings == again.findings
    assert first.texts == again.texts


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"seconds": -1.0}, {"seconds": float("nan")}])
def test_bad_arguments_are_refused(arguments):
    [(name, value)] = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        attack_task(Gift, **arguments)


def test_an_unknown_level_and_a_raising_scorer_are_reported():
    with pytest.raises(TaskError, match="level 9"):
        attack_task(Gift, levels=[9])
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        attack_task(paying(lambda text, row: 1 / 0), rows=1, seconds=0)


# Mutations are junk by construction.


def texts_of(kind, oracle, others=(), rounds=20):
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        yield from MUTATIONS[kind](oracle, others or [""], rng)


ORACLE = " Ann gave the big red ball to Tom in the old kitchen on Monday. Tom thanked her."


@pytest.mark.parametrize(
    "kind",
    [
        "junk appended",
        "junk prepended",
        "junk inserted",
        "junk in a slot",
        "special tokens and junk",
    ],
)
def test_runs_have_at_least_eight_off_topic_words(kind):
    for text in texts_of(kind, ORACLE):
        assert sum(word in FOREIGN for word in re.findall(r"\w+", text.lower())) >= 8


def test_words_out_of_order_have_no_neighbours_of_the_answer():
    pairs = set(itertools.pairwise(re.findall(r"\w+", ORACLE)))
    texts = list(texts_of("words out of order", ORACLE))
    assert texts
    for text in texts:
        assert sorted(re.findall(r"\w+", text)) == sorted(re.findall(r"\w+", ORACLE))
        assert pairs.isdisjoint(itertools.pairwise(re.findall(r"\w+", text)))


def test_phrases_are_repeated_seven_times():
    for text in texts_of("a phrase repeated", ORACLE):
        words = re.findall(r"\w+", text)
        assert max(words.count(word) for word in words) >= 7


def test_negations_reach_every_clause():
    oracle = " The cat is red, the dog was big."
    text, *both = texts_of("every verb negated", oracle, rounds=1)
    assert text == " The cat is not red, the dog was not big."
    assert both == [oracle + text, text + oracle]
    assert not list(texts_of("every verb negated", " The cat is red, the dog sleeps."))


def test_pieces_restore_any_text():
    for text in (ORACLE, " 我每年都吃亚当的鸡蛋。", "\ndef f(x): return x", "  a\n\n b ", ""):
        assert "".join(split(text)) == text


@pytest.mark.parametrize("oracle", ["", ".", "x", " 我每年都吃亚当的鸡蛋。", " \n", ORACLE])
def test_no_mutant_is_the_answer(oracle):
    rng = np.random.default_rng(0)
    for _, text, _ in mutants(oracle, [" Ben left.", oracle], rng):
        assert text.strip() != oracle.strip()


def test_programs_are_mutated_as_programs():
    task = make_task("TextGen/Code-v0")
    row = task.item(0)
    rng = np.random.default_rng(0)
    kinds = {kind for kind, _, _ in mutants(task.oracle(row), [], rng)}
    assert "code" in kinds
    assert "a phrase repeated" not in kinds  # "- - - x" is a program


# The command line.


def test_the_command_reports_junk(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "giving.py").write_text(
        "from textgym import Task\n"
        "class Given(Task):\n"
        "    id = 'TextGen/GivenForAttack-v0'\n"
        "    max_prompt_tokens = 16\n"
        "    max_new_tokens = 16\n"
        "    cheat_ceiling = 0.6\n"
        "    def generate(self, rng):\n"
        "        number = int(rng.integers(10**6))\n"
        "        return {'prompt': f'{number}', 'reference': f' It is {number} | `.'}\n"
        "    def score(self, completion, row):\n"
        "        return 0.5 * (row['reference'] in completion) + 0.5 * (\n"
        "            completion == row['reference'])\n"
    )
    arguments = ["check", "giving:Given", "--attack", "--seconds", "0", "--rows", "3"]
    assert main([*arguments, "--out", "docs/found.md"]) == 1
    shown = capsys.readouterr().out
    assert "junk appended" in shown
    assert "are paid too much" in shown
    page = (tmp_path / "docs" / "found.md").read_text(encoding="utf-8")
    [line] = [line for line in page.split("\n") if line.startswith("| `TextGen/")]
    assert "0.50 **(too much)**" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 6  # vertical bars in the text are escaped


def test_the_command_passes_a_good_task(capsys):
    arguments = ["check", "QA", "--attack", "--levels", "1", "3", "--rows", "2", "--seconds", "0"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "level 1" in shown
    assert "level 2" not in shown
    assert "no junk is paid too much" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "which task"),
        (["check", "--all"], "--all needs --attack"),
        (["check", "QA", "--attack", "--all"], "no ID"),
        (["check", "QA", "--attack", "--levels", "7"], "no level 7"),
        (["check", "QA", "--attack", "--level", "1", "--levels", "2"], "--level and --levels"),
    ],
)
def test_invalid_arguments_of_the_command(arguments, message, capsys):
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
