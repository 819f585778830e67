"""The dialogue task: the clerk's sentences, the user, scores by hand, and the environment."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs import TextGenEnv
from textgym.tasks.dialogue.public import score_public
from textgym.tasks.dialogue.reader import Act, read
from textgym.tasks.dialogue.task import Dialogue
from textgym.tasks.dialogue.world import DAYS, DOMAINS, NUMBERS
from textgym.testing import check_task, check_vector_env
from textgym.tokenization import load_tokenizer

TABLE = [
    ["Rosa", "modern", "harbour", "40"],
    ["Anna", "modern", "museum", "60"],
    ["Nora", "old", "harbour", "75"],
]


def stage(say, name, goal, told=(), hidden=(), ask=""):
    return {"say": say, "name": name, "goal": goal, "told": list(told), "hidden": list(hidden),
            "ask": ask}  # fmt: skip


def row(*stages, bookings=(), fewest=1):
    return {"prompt": "", "reference": "", "domain": "Hotels", "table": TABLE,
            "bookings": list(bookings), "stages": list(stages), "fewest": fewest}  # fmt: skip


ROSA = [["Rosa", "two", "Friday"]]
SLOTS = ["kind", "spot", "number", "day"]
TOLD = row(stage("", "Rosa", ROSA, SLOTS))
ASKS = row(stage("", "Rosa", ROSA, SLOTS), stage("What does it cost?", "Rosa", ROSA, ask="price"),
           fewest=2)  # fmt: skip
HIDES = row(
    stage("", "Rosa", ROSA, ["kind", "number"], [["day", "On Friday."], ["spot", "Near it."]]),
    fewest=2,
)
REBOOKS = row(
    stage("", "", [["Nora", "two", "Sunday"]], ["day", "number"]),
    stage("And Rosa.", "Rosa", [["Nora", "two", "Sunday"], *ROSA], SLOTS),
    bookings=[["Anna", "four", "Monday"], ["Nora", "two", "Sunday"]],
    fewest=2,
)
BOOK = " I have booked Rosa for two on Friday."


def test_contract():
    check_task(Dialogue, n=60)


@pytest.mark.parametrize(
    ("turn", "acts"),
    [
        (BOOK, [Act("book", "Rosa", number="two", day="Friday")]),
        (" Rosa is now booked on Friday for two.",
         [Act("book", "Rosa", number="two", day="Friday")]),
        (" Certainly, I have reserved a room at Rosa for two on Friday. Thank you.",
         [Act("book", "Rosa", number="two", day="Friday"), Act("polite")]),
        (" I have booked Rosa.", [Act("book", "Rosa")]),
        (" I have cancelled Rosa and booked Anna for two on Friday.",
         [Act("cancel", "Rosa"), Act("book", "Anna", number="two", day="Friday")]),
        (" I have cancelled it and I have booked Anna for two on Friday.",
         [Act("cancel", "it"), Act("book", "Anna", number="two", day="Friday")]),
        (" I have moved your booking to three.", [Act("change", "it", number="three")]),
        (" Rosa is now on Monday.", [Act("change", "Rosa", day="Monday")]),
        (" Which day?", [Act("ask", slot="day")]),
        (" For how many, on which day and near what?",
         [Act("ask", slot="number"), Act("ask", slot="day"), Act("ask", slot="spot")]),
        (" What kind of room would you like?", [Act("ask", slot="kind")]),
        (" How about Rosa? I recommend Anna.", [Act("offer", "Rosa"), Act("offer", "Anna")]),
        (" It costs 40.", [Act("state", "it", "price", "40")]),
        (" The price is 40. Rosa is near the harbour.",
         [Act("state", "it", "price", "40"), Act("state", "Rosa", "spot", "harbour")]),
        (" It is old. Goodbye.\n", [Act("state", "it", "kind", "old"), Act("bye")]),
        (" Certainly. Rosa Rosa.", [Act("polite"), Act("junk", faults=1)]),
        (" I've moved Rosa to Monday for two.",
         [Act("change", "Rosa", number="two", day="Monday")]),
        (" Rosa is now for Monday for two.", [Act("change", "Rosa", number="two", day="Monday")]),
        (" We'll cancel Rosa and book Anna for Friday for two people.",
         [Act("cancel", "Rosa"), Act("book", "Anna", number="two", day="Friday")]),
        (" Certainly, I'll change it to two people and I've cancelled Anna.",
         [Act("change", "it", number="two"), Act("cancel", "Anna")]),
        (" That's 40. It's near the harbour. That costs 40.",
         [Act("state", "it", "price", "40"), Act("state", "it", "spot", "harbour"),
          Act("state", "it", "price", "40")]),
        (" You're welcome.", [Act("polite")]),
    ],
)  # fmt: skip
def test_acts_of_a_turn(turn, acts):
    assert list(read("Hotels", turn)) == acts


@pytest.mark.parametrize(
    "turn",
    [
        " I have booked Rosa for {} {} {}.",
        " I've booked Rosa for {} {} {}.",
        " I've reserved you a room at Rosa for {} {} {}.",
        " I'll book Rosa for {} {} {}.",
        " Of course, we'll reserve a room for {} {} {} at Rosa.",
        " I will book you a room at Rosa for {} {} {}.",
        " Rosa is booked for {} {} {}.",
        " Your room at Rosa is now booked for {} {} {}.",
    ],
)
def test_bookings_are_parsed_in_either_order(turn):
    act = Act("book", "Rosa", number="two", day="Friday")
    for number in ("two", "two people"):
        day_first = turn.format("Friday", "for", number)
        for text in (
            turn.format(number, "on", "Friday"),
            turn.format(number, "for", "Friday"),
            day_first,
            day_first.replace("for Friday", "on Friday"),
        ):
            assert list(read("Hotels", text)) == [act], text
            assert Dialogue().score(text, TOLD) == 1


def test_variants_of_wording():
    start = Dialogue(1).item(0)
    _, second = start["reference"].split("\n")
    for first in (
        " I've booked Emma for two on Monday.",
        " I have booked Emma for Monday for two.",
    ):
        assert Dialogue(1).score(f"{first}\n{second}", start) == 1
        assert Dialogue(1).score(f"{first}\n That's 95.", start) == 1
        assert Dialogue(1).score(first.replace("two", "three") + f"\n{second}", start) == 0
    # "It" refers to the last offer, and to nothing without one.
    booked = " It's booked for Friday for two."
    assert Dialogue().score(f" How about Rosa?\n{booked}", TOLD) == 1 / 2
    assert Dialogue().score(booked, TOLD) == 0


@pytest.mark.parametrize(
    "turn",
    [" I'll booked Rosa for two on Friday.", " I've book Rosa for two on Friday.", " I'll.",
     " I'll", " I'll book.", " Will book Rosa for two on Friday.",
     " I'll cancel Rosa and booked Anna.",
     " I've cancelled Rosa and book Anna.", " I will recommend Rosa.", " It've booked Rosa.",
     " I's booked Rosa for two on Friday.", " I have booked Rosa for two for two.",
     " I have booked Rosa for Friday on Friday.", " That Rosa is booked for two on Friday.",
     " I can book Rosa for two on Friday.", "", " ",
     "Certainly.I have booked Rosa for two on Friday.",
     BOOK[:-1], BOOK.lower(), f" Certainly. {BOOK}",
     " Booked Rosa for two on Friday.", " I have booked Rosa for two on two.",
     " I have booked Rosa and Anna for two on Friday.", " It serves fish.", " Rosa.",
     " On which day and Rosa?", " On which day and and near what?", BOOK * 9,
     " I have booked Rosa\nfor two on Friday.", " \ud800."],
)  # fmt: skip
def test_nonsense(turn):
    assert read("Hotels", turn)[-1].type == "junk"


@pytest.mark.parametrize(
    ("start", "turns", "expected"),
    [
        (TOLD, [], 0),
        (TOLD, [BOOK], 1),
        (TOLD, [" Rosa is booked on Friday for two."], 1),
        (TOLD, [" I have booked Rosa for three on Friday."], 0),
        (TOLD, [" I have booked Anna for two on Friday."], 0),
        # Another booking exists, which scores 0.
        (TOLD, [" I have booked Anna for two on Friday.", BOOK], 0),
        # Corrected in a second turn: twice the turns, one fault.
        (TOLD, [" I have booked Rosa for three on Friday.", " I have changed it to two."], 0.4 / 2),
        (TOLD, [" I have booked Anna for two on Friday.",
                " I have cancelled Anna and booked Rosa for two on Friday."], 0.4 / 2),
        # A second booking is a fault; so is additional nonsense or a false statement.
        (TOLD, [BOOK * 2], 0.4),
        (TOLD, [BOOK + " x"], 0.4),
        (TOLD, [BOOK + " It costs 60."], 0.4),
        (TOLD, [BOOK + " It costs 40."], 1),
        # Long nonsense is several faults: of 10 words, of 30, and of 130 characters.
        (TOLD, [BOOK + " x" * 10], 0.4**2),
        (TOLD, [BOOK + " x" * 30], 0.4**4),
        (TOLD, [BOOK + " " + "x" * 130], 0.4**3),
        # Redundant acts in a turn with progress: repetitions and needless questions.
        (TOLD, [BOOK + " It costs 40. It costs 40."], 0.4),
        (TOLD, [BOOK + " For how many?"], 0.4),
        (TOLD, [BOOK + " Certainly. Thank you."], 1),
        (TOLD, [BOOK + " Certainly. Certainly. Certainly. Certainly."], 0.4**2),
        (HIDES, [" Near what and on which day? On which day?", BOOK], 0.4),
        # Two turns instead of one; a needless question has no other effect.
        (TOLD, [" On which day?", BOOK], 1 / 2),
        (TOLD, [" Nonsense", BOOK], 0.4 / 2),
        # An offer against the request is a fault, a suitable one is not.
        (TOLD, [" How about Nora?", BOOK], 0.4 / 2),
        (TOLD, [" How about Rosa?", BOOK], 1 / 2),
        (ASKS, [BOOK, " It costs 40."], 1),
        (ASKS, [BOOK, " It costs 60."], 0.4 / 2),
        (ASKS, [BOOK, " Anna costs 60."], 1 / 2),
        (ASKS, [BOOK], 1 / 2),
        (ASKS, [BOOK, " Goodbye."], 1 / 2),
        (ASKS, [BOOK, " Certainly.", " The price is 40."], 2 / 3),
        # The user has not asked yet.
        (ASKS, [BOOK + " It costs 40."], 1 / 2),
        (HIDES, [" Near what and on which day?", BOOK], 1),
        (HIDES, [" On which day? How about Rosa?", BOOK], 1),
        (HIDES, [" On which day? How about Anna?", BOOK], 0.4),  # a guess after all
        (HIDES, [BOOK], 0.4),
        # Asked and booked in one turn: still a guess.
        (HIDES, [" Near what and on which day?" + BOOK], 0.4),
        (ASKS, [BOOK, " It costs 40. It costs 60."], 0.4 / 2),
        (ASKS, [BOOK, " It costs 60. It costs 40."], 0.4 / 2),
        # Several offers in a turn, until one is accepted.
        (HIDES, [" How about Anna? How about Rosa? On which day?", BOOK], 0.4),
        (HIDES, [" On which day?", " Near what?", BOOK], 2 / 3),
        (REBOOKS, [" I have cancelled Anna.", BOOK], 1),
        (REBOOKS, [" I have cancelled Anna."], 1 / 2),
        (REBOOKS, [" I have cancelled Nora."], 0),
        (REBOOKS, [" I have cancelled Nora and cancelled Anna."], 0),
        (REBOOKS, [" I have cancelled Anna.", BOOK[:-7] + "Sunday."], 0.4 / 2),
        (REBOOKS, [" I have changed Nora to three."], 0),
        # The user leaves after three turns without progress.
        (TOLD, ["", " ", " Certainly.", BOOK], 0),
    ],
)  # fmt: skip
def test_scores_by_hand(start, turns, expected):
    task = Dialogue()
    assert task.score("", {**start, "turns": turns}) == pytest.approx(expected)
    if turns and not any(turn.strip() == "" for turn in turns):
        assert task.score("\n".join(turns), start) == pytest.approx(expected)


def test_turns_after_the_end_are_faults():
    assert Dialogue().score(BOOK + "\n Goodbye.", TOLD) == 0.4
    assert Dialogue().score("\n".join([BOOK] * 50), TOLD) < 1e-9


def test_replies():
    task = Dialogue()

    def reply(start, *turns):
        return task.reply(start, turns).text.removeprefix("\nUser: ").removesuffix("\nAgent:")

    assert reply(HIDES, " On which day?") == "On Friday."
    assert reply(HIDES, " On which day and near what?") == "On Friday. Near it."
    assert reply(HIDES, " On which day?", " On which day?") == "I told you."
    assert reply(HIDES, " How many people?") == "I told you."
    assert reply(HIDES, " How about Anna?") == "No, not Anna."
    assert reply(HIDES, " How about Rosa?") == "Yes, please."
    assert reply(HIDES, " Colourless green ideas.") == "Sorry?"
    assert reply(HIDES, " I have booked Nora for two on Friday.") == "No, not Nora."
    assert reply(TOLD, " I have booked Rosa for five on Friday.") == "That is wrong."
    assert reply(ASKS, BOOK) == "What does it cost?"
    assert reply(REBOOKS, " How about Rosa?") == "No, thank you."
    assert reply(REBOOKS, " What kind of room?") == "I do not mind."
    assert task.reply(TOLD, [BOOK]).done
    assert task.reply(TOLD, [" Goodbye."]).done
    assert not task.reply(TOLD, ["", ""]).done
    assert task.reply(TOLD, ["", "", ""]).done


def test_turn_rewards_are_given_once():
    task = Dialogue()
    turns = [" On which day?", " On which day?", " How about Rosa?", BOOK]
    rewards = [task.reply(HIDES, turns[: number + 1]).reward for number in range(4)]
    assert rewards == pytest.approx([0.1, 0, 0.1, 0.1])
    # A wrong answer does not complete the stage.
    assert task.reply(ASKS, [BOOK, " It costs 60."]).reward == 0
    assert task.reply(ASKS, [BOOK, " It costs 40."]).reward == pytest.approx(0.1)


def bound(start):
    """The maximum sum of turn rewards: for each withheld slot and each stage."""
    return 0.1 * sum(1 + len(one["hidden"]) for one in start["stages"])


def played(task, start, turns):
    """The turn rewards until the user leaves."""
    rewards = []
    for number in range(min(len(turns), task.max_turns)):
        reply = task.reply(start, turns[: number + 1])
        rewards.append(reply.reward)
        if reply.done:
            break
    return rewards


@pytest.mark.parametrize("level", Dialogue.levels)
def test_the_oracle_earns_all_turn_rewards_and_fits(level):
    task, tokenizer = Dialogue(level), load_tokenizer(None)
    for index in range(150):
        start = task.item(index)
        turns = task.oracle(start).split("\n")
        rewards = played(task, start, turns)
        assert len(rewards) == len(turns) == start["fewest"]
        assert sum(rewards) == pytest.approx(bound(start))
        assert task.score("", {**start, "turns": turns}) == 1.0
        # No part of the script is enough.
        for cut in range(len(turns)):
            assert task.score("\n".join(turns[:cut]), start) <= 0.5
        texts = [turn + task.reply(start, turns[: n + 1]).text for n, turn in enumerate(turns)]
        spent = len(tokenizer.encode("".join(texts))) + len(turns)
        assert spent <= task.max_new_tokens
        assert task.max_prompt_tokens + task.max_new_tokens <= 240


NAMES = [line[0] for line in TABLE]
names, numbers, days = map(st.sampled_from, (NAMES, NUMBERS, DAYS))
sentences = st.one_of(
    st.builds(" I have booked {} for {} on {}.".format, names, numbers, days),
    st.builds(" I have changed {} to {}.".format, names, st.one_of(numbers, days)),
    st.builds(" I have cancelled {}.".format, names),
    st.builds(" How about {}?".format, names),
    st.builds(" {} costs {}.".format, st.sampled_from(["It", *NAMES]), st.sampled_from("46")),
    st.sampled_from([" On which day?", " Near what?", " For how many?", " What kind?", " Goodbye.",
                     " Certainly.", BOOK, " It costs 40.", " On which day and near what?",
                     " I have cancelled Anna.", " How about Rosa?"]),
)  # fmt: skip
turns_of = st.lists(st.one_of(sentences, st.lists(sentences, max_size=3).map("".join)), max_size=8)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([TOLD, ASKS, HIDES, REBOOKS]), turns_of)
def test_nothing_beats_the_oracle(start, turns):
    task = Dialogue()
    before = copy.deepcopy(start)
    rewards = played(task, start, turns)
    value = task.score("", {**start, "turns": turns[: len(rewards)]})
    assert 0 <= value <= 1
    assert all(reward >= 0 for reward in rewards)
    assert sum(rewards) <= bound(start) + 1e-9
    if value == 1.0:
        # The script was equally short, and asked for all slots.
        assert len(rewards) == start["fewest"]
        assert sum(rewards) == pytest.approx(bound(start))
    assert start == before
    assert task.reply(start, turns) == task.reply(start, list(turns))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.sampled_from(Dialogue.levels), st.data())
def test_nothing_beats_the_oracle_on_drawn_rows(index, level, data):
    task = Dialogue(level)
    start = task.item(index)
    names = [line[0] for line in start["table"]]
    domain = DOMAINS[start["domain"]]
    script = task.oracle(start).split("\n")
    moves = st.one_of(
        st.sampled_from(script),
        st.builds(
            " I have booked {} for {} on {}.".format,
            st.sampled_from(names), st.sampled_from(NUMBERS), st.sampled_from(DAYS),
        ),
        st.builds(" I have cancelled {}.".format, st.sampled_from(names)),
        st.builds(" How about {}?".format, st.sampled_from(names)),
        st.sampled_from([" For how many?", " On which day?", f" {domain.ask_spot[0].capitalize()}?",
                         f" {domain.ask_kind[0].capitalize()}?", " Certainly."]),
    )  # fmt: skip
    turns = data.draw(st.lists(st.lists(moves, min_size=1, max_size=3).map("".join), max_size=6))
    rewards = played(task, start, turns)
    value = task.score("", {**start, "turns": turns[: len(rewards)]})
    assert sum(rewards) <= bound(start) + 1e-9
    assert value < 1.0 or len(rewards) == start["fewest"]
    assert value < 1.0 or sum(rewards) == pytest.approx(bound(start))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=40) | sentences, max_size=8), st.sampled_from([TOLD, HIDES]))
def test_junk_is_judged_and_answered(turns, start):
    task = Dialogue()
    text = "\n".join(turns)
    for value in (task.score(text, start), task.score("", {**start, "turns": turns})):
        assert type(value) is float
        assert 0 <= value <= 1
    for number in range(len(turns)):
        reply = task.reply(start, turns[: number + 1])
        assert reply.done or reply.text.startswith("\nUser: ")


@pytest.mark.parametrize("level", Dialogue.levels)
def test_any_changed_word_of_the_oracle_costs(level):
    task, rng = Dialogue(level), np.random.default_rng(level)
    words = [*NUMBERS, *DAYS, "Rosa", "15", "x", "booked", "cancelled"]
    for index in range(80):
        start = task.item(index)
        pieces = task.oracle(start).split(" ")
        for place in [n for n, piece in enumerate(pieces) if piece.rstrip(".\n") in words]:
            changed = list(pieces)
            word = words[int(rng.integers(len(words)))]
            end = pieces[place][len(pieces[place].rstrip(".\n")) :]
            changed[place] = word + end
            if changed != pieces:
                assert task.score(" ".join(changed), start) <= 0.5


def test_random_first_bookings_earn_little():
    rng = np.random.default_rng(0)
    for level in Dialogue.levels:
        task, scores = Dialogue(level), []
        for index in range(300):
            start = task.item(index)
            line = start["table"][int(rng.integers(len(start["table"])))]
            number, day = rng.choice(NUMBERS), rng.choice(DAYS)
            scores.append(task.score(f" I have booked {line[0]} for {number} on {day}.", start))
        assert np.mean(scores) < 0.05


@pytest.mark.parametrize(
    ("level", "hasty"), [(1, (0.39, 0.53)), (2, (0.02, 0.09)), (3, (0.07, 0.16))]
)
def test_baselines_and_documents_are_mediocre(level, hasty):
    task, rng = Dialogue(level), np.random.default_rng(level)
    rows = [task.sample(rng) for _ in range(400)]
    means = {
        name: np.mean([task.score(write(start, rng), start) for start in rows])
        for name, write in task.baselines().items()
    }
    assert hasty[0] < means["hasty"] < hasty[1]
    assert means["everything"] < 0.08

    scores, tokenizer = [], load_tokenizer(None)
    for seed in range(400):
        # A conversation draws its row first, so that the same seed gives the row.
        start = task.sample(np.random.default_rng([level, seed]))
        prompt, texts = task.conversation(np.random.default_rng([level, seed]))
        clerk, user = texts[::2], texts[1::2]
        assert len(clerk) == len(user) + 1 <= task.max_turns
        assert user == [task.reply(start, clerk[: n + 1]).text for n in range(len(clerk) - 1)]
        scores.append(task.score("", {**start, "turns": clerk}))
        if seed < 100:
            text = task.document(np.random.default_rng([level, seed]))
            assert text == prompt + "".join(texts)
            assert len(tokenizer.encode(text)) + len(clerk) <= 240
    assert 0.2 < np.mean(scores) < 0.62
    assert np.std(scores) > 0.25


def test_prompts_agree_with_their_rows():
    for level in Dialogue.levels:
        for index in range(100):
            start = Dialogue(level).item(index)
            first = start["stages"][0]
            table, *middle, request, last = start["prompt"].split("\n")
            assert (request, last) == (f"User: {first['say']}", "Agent:")
            assert table == f"{start['domain']}: " + " ".join(
                ", ".join(line) + "." for line in start["table"]
            )
            assert len(middle) == bool(start["bookings"])
            # Exactly one line matches the request.
            domain = DOMAINS[start["domain"]]
            wishes = [one for one in start["stages"] if "kind" in one["told"] or one["hidden"]]
            for one in wishes:
                spoken = " ".join([one["say"], *(answer for _, answer in one["hidden"])]).lower()
                fits = [
                    line[0]
                    for line in start["table"]
                    if all(
                        value.lower() not in spoken.replace(".", " ").split() or value in line
                        for value in (*domain.kinds, *domain.spots)
                    )
                ]
                assert fits == [one["name"]]


PROMPT = (
    "Hotels: Rosa, modern, harbour, 40. Anna, modern, museum, 60. Nora, old, harbour, 75.\n"
    "User: {}\nAgent:"
)


def test_prompts_by_hand_are_played():
    task = Dialogue()
    start = task.complete_row({"prompt": PROMPT.format("I want an old room for two on Friday.")})
    assert task.score(" I have booked Nora for two on Friday.", start) == 1.0
    assert task.score(BOOK, start) == 0.0
    start = task.complete_row({"prompt": PROMPT.format("A modern room, please.")})
    assert {slot for slot, _ in start["stages"][0]["hidden"]} == {"spot", "number", "day"}
    assert task.score(task.oracle(start), start) == 1.0
    mine = PROMPT.replace("\nUser", "\nBookings: Rosa for two on Friday.\nUser")
    for wish, answer in (
        ("Please cancel my room for two.", " I have cancelled Rosa."),
        ("Please change my room on Friday to Monday.", " I have moved Rosa to Monday."),
        ("I want an old room instead of my room on Friday.",
         " I have booked Nora for two on Friday. I have cancelled Rosa."),
    ):  # fmt: skip
        start = task.complete_row({"prompt": mine.format(wish)})
        assert task.score(answer, start) == 1.0
    for other in (
        "",
        "Agent:",
        PROMPT.format("I want a small room."),
        "Hotels: x\nUser: y\nAgent:",
    ):
        found = task.complete_row({"prompt": other})
        assert found == {"prompt": other, "reference": ""}
        assert task.score("Hello.", found) == 0.0


@pytest.mark.parametrize("level", Dialogue.levels)
def test_first_requests_can_be_read_back(level):
    task = Dialogue(level)
    for index in range(60):
        start = task.item(index)
        found = task.complete_row({"prompt": start["prompt"]})
        assert found["table"] == start["table"]
        assert found["bookings"] == start["bookings"]
        parsed, original = found["stages"][0], start["stages"][0]
        assert set(original["told"]) == set(parsed["told"])
        assert parsed["say"] == original["say"]
        if not original["hidden"]:
            assert (parsed["goal"], parsed["name"]) == (original["goal"], original["name"])
        assert json.loads(json.dumps(found)) == found


TALK = ["I need a cheap hotel.", "In which area?", "The north, please.", "Try the Arbury Lodge."]
WHO = ["USER", "SYSTEM", "USER", "SYSTEM"]
THANKS = "Thanks, bye."


@pytest.mark.parametrize(
    "public",
    [
        {"dialogue_id": "PMUL1.json", "turns": {"turn_id": ["0", "1", "2", "3", "4"],
         "speaker": [0, 1, 0, 1, 0], "utterance": [*TALK, THANKS]}},
        {"services": [], "turns": [{"speaker": who, "utterance": text}
                                   for who, text in zip(WHO, TALK, strict=True)]},
        {"dialog": [*TALK, THANKS]},
        {"messages": [{"role": "system", "content": "You are a clerk."}, *(
            {"role": "assistant" if n % 2 else "user", "content": text}
            for n, text in enumerate(TALK))]},
        {"history": TALK[:3], "response": TALK[3]},
        {"context": "\n".join(TALK[:3]), "response": TALK[3]},
    ],
)  # fmt: skip
def test_public_rows(public):
    task = Dialogue()
    made = task.convert(public)
    assert made["prompt"] == (
        "User: I need a cheap hotel.\nAgent: In which area?\nUser: The north, please.\nAgent:"
    )
    assert made["reference"] == " Try the Arbury Lodge."
    assert "turns" not in made
    assert task.score(made["reference"], made) == 1.0
    assert task.score("", {**made, "turns": [made["reference"]]}) == 1.0
    near, far = (task.score(text, made) for text in (" Try the Lodge.", " Which day?"))
    assert 0.2 < near < 1
    assert far < 0.15
    for cheat in ("", made["prompt"], made["reference"] * 20, "Lodge " * 5):
        assert task.score(cheat, made) < 0.4
    assert task.reply(made, ["x"]).done


def test_other_rows_are_left_alone():
    for other in ({"prompt": "x", "turns": TALK}, {"a": 1}, {"dialog": ["one"]}, {"turns": 3},
                  {"dialog": [1, 2]}, {"text": "x", "response": ""}):  # fmt: skip
        assert Dialogue().convert(other) == other
    assert score_public(" The same ", "The same") == 1.0


@pytest.mark.parametrize("level", Dialogue.levels)
def test_the_oracle_plays_the_environment(level):
    task, tokenizer = Dialogue(level), load_tokenizer(None)
    env = TextGenEnv(prompts=task)
    for seed in range(8):
        env.reset(options={"index": seed})
        start = task.item(seed)
        total = 0.0
        over = False
        for turn in task.oracle(start).split("\n"):
            assert not over
            for action in [*tokenizer.encode(turn), tokenizer.eos_id]:
                _, reward, over, truncated, info = env.step(action)
                total += reward
        assert over
        assert not truncated
        assert info["finish_reason"] == "task"
        assert info["reward_terms"]["score"] == 1.0
        assert info["reward_terms"]["turn_reward"] == pytest.approx(bound(start))
        assert total == pytest.approx(1.0 + bound(start))


def test_the_batch_equals_the_loop():
    check_vector_env("TextGen-v0", prompts=Dialogue(3), num_steps=120, num_envs=3)
