"""Take bookings in a conversation with a simulated user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Reply, Task
from textgym.tasks.dialogue.baselines import converse, everything, hasty
from textgym.tasks.dialogue.prompts import read_prompt
from textgym.tasks.dialogue.public import convert, score_public
from textgym.tasks.dialogue.user import User
from textgym.tasks.dialogue.writer import draw_row
from textgym.tasks.judgement import Judgement, unreadable
from textgym.tasks.random_draws import draws


class Dialogue(Task):
    """Take bookings in a conversation with a simulated user.

    ## Description

    The prompt shows a table (hotels, restaurants or boats: name, kind, place or time, price), at
    level 3 bookings, and the first words of the user. The policy is the clerk. End-of-sequence
    ends its turn; the user, a simulator with an agenda (Schatzmann et al. 2007), replies, and the
    reply is appended. The clerk finds matching lines, asks for missing slots, books, changes,
    cancels, and answers questions, in sentences such as these, most of which have variants::

        For how many, on which day and near what?       How about Rosa?
        I have booked Rosa for two on Friday.           Rosa is near the harbour.
        I have cancelled Rosa and booked Anna for two on Friday.    It costs 40.
        I have changed it to Sunday.                    Certainly. Goodbye.
        I'll book Rosa for Friday for two.              That's 40.

    Number and day may be in either order. Anything else is nonsense ("Sorry?"). The user leaves
    when its agenda is complete, at the clerk's goodbye, after three turns without progress or with
    a fault, and after six turns. It believes the clerk's statements. It is a deterministic function
    of the row and the clerk's turns.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids of both speakers in
    the order of the conversation, padded with -1.

    ## Action Space

    ``Discrete(V)``: the next token of the clerk.

    ## Rewards

    The score in [0, 1], at the end of the episode:

        score = right * min(1, fewest / turns) * answered * 0.4 ** faults

    * ``right``: the share of wanted bookings, changes and cancellations with the right name, number
      and day. 0 if any other booking was changed.
    * ``fewest``: the number of turns of the shortest script that does not guess.
    * ``answered``: 0.5 if the user's final question was not answered rightly, else 1.
    * ``faults``: unwanted bookings, changes and cancellations, even if corrected later; any made
      before all slots were asked for; false statements; offers against the user's request, or
      several in a turn; sentences of nonsense, plus one for every eight words of them; in a turn
      with progress, repetitions, needless questions, and courtesy beyond two phrases; in a script
      (below) each turn after the user left, plus one for every eight words of it.

    In addition, turns are rewarded (``info["turn_reward"]``): 0.1 for each slot found out by a
    question or an accepted offer, and 0.1 for each completed stage of the agenda, both once. The
    shortest script earns all of these rewards, so the maximum return is 1 plus their sum (0.1 to
    0.5).

    A completion without the column ``turns`` is read as a script with one turn per line.

    The ``hasty`` baseline uses one attribute of the user's request, asks nothing, and states the
    price: 0.43 on average at level 1, 0.04 and 0.12 above. ``everything``, which books line by
    line, gets less than 0.01.

    ## Starting State

    A prompt of `generate`, by level: the user (1) states all slots at once; (2) withholds one to
    three slots; (3) has two bookings, and cancels, changes or replaces one, or adds another; a
    second request follows, often a change of mind. At levels 1 and 2 half of the users finally ask
    for the price or the place.

    ``item(0)`` at level 1, with the shortest script::

        Boats: Ruth, Athens, night, 65. Emma, Naples, evening, 95. Laura, Athens, evening,
        60.
        User: I would like a boat to Naples on Monday for two.
        Agent:-> I have booked Emma on Monday for two.
        User: What is the price?
        Agent:-> It costs 95.

    ``item(0)`` at level 2::

        Hotels: Ella, cosy, chapel, 25. Alice, cosy, tower, 50. Lucy, small, chapel, 75.
        User: Please book a room near the tower.
        Agent:-> For how many and on which day?
        User: For four. Sunday.
        Agent:-> I have booked Alice on Sunday for four.

    ``item(0)`` at level 3::

        Hotels: Alice, old, tower, 35. Emma, large, harbour, 85. Clara, large, tower, 55.
        Ruth, old, harbour, 20.
        Bookings: Alice for four on Friday. Emma for five on Monday.
        User: Please cancel my room for four.
        Agent:-> I have cancelled Alice.
        User: I would like an old room near the harbour on Friday.
        Agent:-> How many?
        User: Three.
        Agent:-> I have booked Ruth for three on Friday.

    The row's other columns are ``domain``, ``table``, ``bookings``, ``stages`` (the user's agenda:
    for each request its words, the answers to questions, and the wanted bookings) and ``fewest``.

    ## Episode End

    The user leaves (``finish_reason`` is ``"task"``), or 112 tokens of both speakers: a
    termination.
    The clerk's turns begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts=`` takes conversations in these forms: MultiWOZ 2.2 from the Hub (``turns`` with
    columns ``speaker`` and ``utterance``) and from its own files (``turns`` as a list of
    dictionaries), chats (``messages`` with ``role`` and ``content``), lists of alternating strings
    (``dialogue``, ``dialog``), and pairs: ``context``, ``history`` or ``text`` with ``response``.
    The prompt is the conversation up to the agent's last turn, which is the reference. The episode
    has one turn, scored by the geometric mean of sentence BLEU and chrF (package sacrebleu,
    ``textgym[metrics]``) times a factor (`textgym.tasks.on_topic`) below 1 for words out of order
    or repeated, for extra length, and for negations that are not in the reference. Such prompts are
    long: pass ``max_prompt_tokens=`` and ``max_new_tokens=``. A prompt written by hand in the
    task's format is played as above; open slots are drawn from a hash of the prompt.

    ## Version History

    * v0: first version.
    """

    id = "TextGen/Dialogue-v0"
    tags = ("conversation", "graded")
    scored_by = "the state of the bookings and the number of turns; each turn's progress"
    max_prompt_tokens = 96
    max_new_tokens = 112
    max_turns = 6
    levels = (1, 2, 3)
    dense_at = "turn"
    cheat_ceiling = 0.41

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a table, bookings, and a user with an agenda."""
        return draw_row(self.level, draws(rng, 64))

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        """The user's reply to the clerk's last turn."""
        reply = Reply(done=True)
        if "stages" in row:
            user = User(row)
            for turn in turns:
                reply = user.respond(turn)
        return reply

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """Score the final bookings and the number of turns; of other rows, the response."""
        turns = row.get("turns")
        if "stages" not in row:
            value = score_public(turns[0] if turns else text, row["reference"])
            what = "BLEU and chrF against the reference, times the on-topic factor"
            return Judgement().add("the response", what, value)
        if turns is None:
            turns = text.split("\n")
        user = User(row)
        for number, turn in enumerate(turns):
            if user.done or number == self.max_turns:
                return user.judge(late_faults=sum(unreadable(late) for late in turns[number:]))
            user.respond(turn)
        return user.judge()

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Convert a public conversation to a prompt for one response; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Read the table, the bookings and the request in a prompt that a user wrote.

        In a prompt of another form every response scores 0, unless the row has a reference.
        """
        if "stages" in row:
            return row
        return {**(read_prompt(row["prompt"]) or {"reference": ""}), **row}

    def potential(self, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """The score if the conversation ended after the finished turns; 0 for public rows."""
        return [self.score("", row) if "stages" in row else 0.0 for row in rows]

    def baselines(self) -> dict[str, Baseline]:
        """``hasty`` asks nothing, ``everything`` books all lines."""
        return {"hasty": hasty, "everything": everything}

    def conversation(self, rng: np.random.Generator) -> tuple[str, list[str]]:
        """A conversation to train a language model on.

        Returns:
            The prompt, and the alternating turns after it, the clerk's first and last. The clerk's
            turns have no eos; the user's end with the clerk's label.
        """
        row = self.sample(rng)
        draw = draws(rng, 128)
        return row["prompt"], converse(row, draw, self.max_turns)

    def document(self, rng: np.random.Generator) -> str:
        """The text of `conversation`, with a clerk who makes mistakes."""
        return "".join(self.turns_document(rng))

    def turns_document(self, rng: np.random.Generator) -> list[str]:
        """The text of `conversation` in pieces, each of which ends with a turn of the clerk."""
        prompt, texts = self.conversation(rng)
        contexts = [prompt, *texts[1::2]]
        return [before + clerk for before, clerk in zip(contexts, texts[::2], strict=True)]
