"""Stories judged by hand, and the world against a brute-force simulation."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.documents import split_documents
from textgym.tasks import make_task
from textgym.tasks.story.grammar import FEELINGS, HAPPY
from textgym.tasks.story.reader import read
from textgym.tasks.story.task import Story
from textgym.tasks.story.world import World

FACTS = [["Tom", "hall"], ["Anna", "hall"], ["lantern", "chest"], ["chest", "hall"],
         ["key", "Anna"], ["coin", "attic"]]  # fmt: skip
BOXES = [["chest", "locked"]]


def reasons(text):
    reading = read(text, World(FACTS, BOXES))
    assert reading.faults == 0, text
    return [reason for _, reason in reading.events]


@pytest.mark.parametrize(
    "text",
    [
        " Anna unlocked the chest and opened it. She took the lantern and gave it to Tom.",
        " Anna gave the key to Tom. He thanked her and unlocked the chest.",
        " Tom went to the attic and took the coin. Then he went back to the hall and gave Anna the"
        " coin. She smiled.",
        " Tom went to the attic. Anna sighed.",
        " Anna told him a joke. He laughed.",
        " Tom walked to the garden with Anna. He greeted her.",
        " Anna dropped the key. Tom took it and unlocked the chest.",
        " Anna unlocked the chest. Then she opened it and put the key in the chest. Tom took the"
        " key from the chest and closed it.",
        " Tom went to the attic. Soon Anna hurried to the attic. She gave him the key.",
        " Anna gave the key to Tom and ran to the cellar. Later Tom ran to the cellar and handed"
        " her the key.",
    ],
)
def test_possible_events(text):
    # "closed it" above is the key, which was named last: see test_it_is_the_last_named_thing.
    text = text.replace("and closed it", "and closed the chest")
    assert set(reasons(text)) == {""}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (" Tom took the lantern.", "the chest is locked"),
        (" Tom opened the chest.", "the chest is locked"),
        (" Tom unlocked the chest.", "Tom does not have the key"),
        (" Tom took the key.", "the key is not in the hall"),
        (" Tom gave Anna the coin.", "Tom does not have the coin"),
        (" Tom took the coin.", "the coin is not in the hall"),
        (" Tom took the ring.", "there is no ring in this story"),
        (" Ruth smiled.", "there is no Ruth in this story"),
        (" Tom went to the hall.", "Tom is in the hall already"),
        (" Tom smiled.", "Tom has no reason to smile"),
        (" Anna gave Tom the key. Tom sobbed.", "Tom has no reason to sob"),
        (" Tom thanked Anna.", "Tom has nothing to thank Anna for"),
        (" Tom went to the attic. He told her a joke.", "Anna is not in the attic"),
        (" Tom greeted Anna. Tom greeted Anna.", "it has happened already"),
        (" Tom greeted him.", "Tom cannot do this to Tom"),
        (" Tom went to the attic and unlocked the chest.", "the chest is not in the attic"),
        (" Anna dropped the key and gave it to Tom.", "Anna does not have the key"),
        (" Anna gave Tom the key. He smiled and laughed.", "Tom has no reason to laugh"),
        (" Anna unlocked the chest. Anna put the key in the chest.", "the chest is shut"),
        (" Tom took it.", "'it' does not refer to anything"),
        (" Tom went to the attic. He took the coin. She sighed.", "'She' does not refer to anyone"),
        (" Tom opened the key.", None),
    ],
)
def test_impossible_events(text, faults):
    reading = read(text, World(FACTS, BOXES))
    if faults is None:
        assert reading.faults == 1
        assert reading.events == []
    else:
        *before, last = [reason for _, reason in reading.events]
        assert last == faults
        assert [reason for reason in before if reason not in ("", "it has happened already")] == []


def test_it_is_the_last_named_thing():
    assert reasons(" Anna took the key.")[0] != ""
    assert reasons(" Anna dropped the key. Tom took it and gave it to Anna.") == ["", "", ""]
    assert reasons(" Anna unlocked the chest and opened it.") == ["", ""]
    assert reasons(" Anna unlocked the chest. Tom took it.")[-1] == "the chest is not for that"
    assert reasons(" Anna dropped the key. Tom opened it.")[-1] == "the key is not for that"


@pytest.mark.parametrize("text", [
    "Tom smiled.", " tom smiled.", " Tom smiled", " Tom smiled .", " he smiled.",
    " Then He smiled.", " Tom smile.", " Tom gave to Anna the key.", " Tom gave it Anna.",
    " Tom went the attic.", " Tom went to attic.", " Tom and smiled.",
    " Words: lantern, garden, smile.", " lantern garden smile.", " Tom took the box.",
])  # fmt: skip
def test_ungrammatical_texts(text):
    reading = read(text, World(FACTS, BOXES))
    assert reading.events == []
    assert reading.faults >= 1


# An independent implementation, with preconditions and effects on a set of facts.

PEOPLE, ROOMS = ("Tom", "Anna"), ("hall", "attic")


def start_facts():
    return {("at", "Tom", "hall"), ("at", "Anna", "hall"), ("inside", "lantern", "chest"),
            ("stands", "chest", "hall"), ("locked", "chest"), ("has", "Anna", "key"),
            ("lies", "coin", "attic")}  # fmt: skip


def simulate(facts, event):
    """Apply an event if its preconditions hold. Returns whether they did."""
    verb, who, *rest = event
    other = PEOPLE[1 - PEOPLE.index(who)]
    room = next(place for place in ROOMS if ("at", who, place) in facts)
    together = ("at", other, room) in facts
    need, drop, add = [("told", *event) not in facts], set(), {("told", *event)}
    if verb in ("go", "go with"):
        (place,) = rest
        need.append(place != room)
        drop.add(("at", who, room))
        add.add(("at", who, place))
        if verb == "go with":
            need.append(together)
            drop.add(("at", other, room))
            add.add(("at", other, place))
        elif together:
            drop.add(("glad", other))
            add.add(("sad", other))
    elif verb == "take":
        (thing,) = rest
        if ("lies", thing, room) in facts:
            drop.add(("lies", thing, room))
        else:
            need += [("inside", thing, "chest") in facts, ("stands", "chest", room) in facts,
                     ("open", "chest") in facts]  # fmt: skip
            drop.add(("inside", thing, "chest"))
        add.add(("has", who, thing))
    elif verb in ("give", "drop", "put"):
        (thing,) = rest
        need.append(("has", who, thing) in facts)
        drop.add(("has", who, thing))
        if verb == "give":
            need.append(together)
            drop |= {("sad", other)}
            add |= {("has", other, thing), ("glad", other), ("owes", other)}
        elif verb == "drop":
            add.add(("lies", thing, room))
        else:
            need += [("open", "chest") in facts, ("stands", "chest", room) in facts]
            add.add(("inside", thing, "chest"))
    elif verb in ("open", "close", "unlock"):
        before, after = {"open": ("shut", "open"), "close": ("open", "shut"),
                         "unlock": ("locked", "shut")}[verb]  # fmt: skip
        need += [(before, "chest") in facts, ("stands", "chest", room) in facts]
        need.append(verb != "unlock" or ("has", who, "key") in facts)
        drop.add((before, "chest"))
        add.add((after, "chest"))
    elif verb == "thank":
        need += [together, ("owes", who) in facts]
        drop.add(("owes", who))
    elif verb in ("tell", "greet"):
        need.append(together)
        if verb == "tell":
            drop |= {("sad", other)}
            add.add(("glad", other))
    else:
        mood = "glad" if verb in HAPPY else "sad"
        need.append((mood, who) in facts)
        drop.add((mood, who))
    if all(need):
        facts -= drop
        facts |= add
        return True
    return False


def render(event):
    verb, who, *rest = event
    other = PEOPLE[1 - PEOPLE.index(who)]
    words = {
        "go": "went to the {0}", "go with": "ran to the {0} with {o}", "take": "took the {0}",
        "give": "gave the {0} to {o}", "drop": "dropped the {0}", "put": "put the {0} in the chest",
        "open": "opened the chest", "close": "closed the chest", "unlock": "unlocked the chest",
        "thank": "thanked {o}", "tell": "told {o} a story", "greet": "greeted {o}",
    }.get(verb) or FEELINGS[verb]  # fmt: skip
    return f" {who} {words.format(*rest, o=other)}."


someone, thing = st.sampled_from(PEOPLE), st.sampled_from(("key", "coin", "lantern"))
event = st.one_of(
    st.tuples(st.sampled_from(("go", "go with")), someone, st.sampled_from(ROOMS)),
    st.tuples(st.sampled_from(("take", "give", "drop", "put")), someone, thing),
    st.tuples(
        st.sampled_from(("open", "close", "unlock", "thank", "tell", "greet", "smile", "sigh")),
        someone,
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(event, max_size=25))
def test_world_equals_a_brute_force_simulation(events):
    # Half of all random events are impossible; a second pass adds possible ones.
    facts = start_facts()
    possible = [simulate(facts, one) for one in events]
    told = reasons("".join(render(one) for one in events))
    assert [reason == "" for reason in told] == possible


@pytest.mark.parametrize("seed", range(5))
def test_world_equals_the_simulation_on_long_possible_stories(seed):
    rng = np.random.default_rng(seed)
    facts, events = start_facts(), []
    verbs = ("go", "go with", "take", "give", "drop", "put", "open", "close", "unlock", "thank",
             "tell", "greet", "smile", "sigh")  # fmt: skip
    for _ in range(3000):
        verb, who = rng.choice(verbs), str(rng.choice(PEOPLE))
        one = (str(verb), who)
        if verb in ("go", "go with"):
            one += (str(rng.choice(ROOMS)),)
        elif verb in ("take", "give", "drop", "put"):
            one += (str(rng.choice(("key", "coin", "lantern"))),)
        if simulate(facts, one):
            events.append(one)
    assert len(events) >= 15
    assert set(reasons("".join(map(render, events)))) == {""}


@pytest.mark.parametrize("level", Story.levels)
def test_every_other_order_of_the_oracle_is_a_cheat(level):
    task, rng = Story(level), np.random.default_rng(level)
    for _ in range(150):
        row = task.sample(rng)
        sentences = [f"{sentence}." for sentence in row["reference"].split(".")[:-1]]
        for order in permutations(sentences):
            text = "".join(order)
            value = task.score(text, row)
            assert value == 1.0 if text == row["reference"] else value < task.cheat_ceiling, text


ROW = {
    "prompt": "",
    "reference": "",
    "words": ["coin", "attic", "smile"],
    "facts": [["Tom", "hall"], ["Anna", "hall"], ["coin", "attic"]],
    "boxes": [],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        (" Tom went to the attic and took the coin. He went back to the hall and gave it to Anna."
         " She smiled.", 1),
        # One event, one verb, one of three words.
        (" Tom went to the attic.", (0.2 + 0.8 / 3) * (1 / 4) * (1 / 3)),
        # Two events, two words.
        (" Tom went to the attic and took the coin.", (0.2 + 0.8 * 2 / 3) * (2 / 4) * (2 / 3)),
        # The coin is elsewhere: one event, two faults.
        (" Tom took the coin and gave it to Anna. Tom went to the attic.",
         (0.2 + 0.8 / 3) * (1 / 4) * (1 / 3) / 4),
        # An incomplete sentence, an ungrammatical one (12 pieces), and one of 100 characters.
        (" Tom went to the attic. Then he", (0.2 + 0.8 / 3) * (1 / 4) * (1 / 3) / 2.5),
        (" Tom went to the attic. a b c d e f g h i j k.",
         (0.2 + 0.8 / 3) * (1 / 4) * (1 / 3) / 4),
        (" Tom went to the attic. " + "x" * 100, (0.2 + 0.8 / 3) * (1 / 4) * (1 / 3) / 4),
    ],
)  # fmt: skip
def test_scores_by_hand(text, expected):
    assert Story(1).score(text, ROW) == pytest.approx(expected)


@pytest.mark.parametrize("level", Story.levels)
def test_documents_are_fluent_and_mediocre(level):
    task = Story(level)
    scores, faulty, unused = [], 0, 0
    for row, text in split_documents(task, 500):
        reading = read(text, World(row["facts"], row["boxes"]))
        assert reading.faults == 0, text
        faulty += any(reason for _, reason in reading.events)
        unused += not all(word in str(reading.events) for word in row["words"])
        scores.append(task.score(text, row))
    assert 0.2 < np.mean(scores) < 0.5
    assert np.std(scores) > 0.2
    assert 100 < faulty < 450
    assert 100 < unused < 450


WORDS = [
    "Tom", "Anna", "He", "She", "him", "her", "took", "gave", "went", "to", "the", "coin", "attic",
    "hall", "and", "it", ".", ",", "Then", "smiled",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)))
def test_junk_is_judged(text):
    for junk in (text, f" {text}.", " Tom went to the attic." + text):
        value = Story(1).score(junk, ROW)
        assert type(value) is float
        assert 0 <= value <= 1
        assert value == Story(1).score(junk, ROW)


def test_prompts_state_the_facts():
    """The facts of the row can be parsed from the prompt."""
    for level in Story.levels:
        for index in range(100):
            row = make_task(Story.id, level).item(index)
            scene = row["prompt"].split("\n")[1]
            for name, where in row["facts"]:
                assert name in scene
                assert where in scene
            for box, state in row["boxes"]:
                assert f"{state} {box}" in scene
            assert row["prompt"].startswith(f"Words: {', '.join(row['words'])}.")
