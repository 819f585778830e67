"""Serve customers over several turns: find, ask, book, change and cancel, against a user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.data.rows import Row
from textgym.tasks.base import Baseline, Reply, Task
from textgym.tasks.dialogue.baselines import converse, everything, hasty
from textgym.tasks.dialogue.prompts import understand
from textgym.tasks.dialogue.public import convert, overlap
from textgym.tasks.dialogue.user import User
from textgym.tasks.dialogue.world import draw_row
from textgym.tasks.judgement import Judgement, unreadable


class Dialogue(Task):
    """Serve a customer over several turns, until the bookings are as the customer wants them.

    ## Description

    The prompt shows a table (hotels, restaurants or boats: name, kind, place or time, price), at
    level 3 the customer's bookings, and what the customer says first. The policy is the clerk. Its
    turn ends with end-of-sequence; the user, a simulator with an agenda (Schatzmann et al. 2007),
    answers, and what it says is appended. The clerk finds what fits, asks for what it was not told,
    books, changes, cancels, and answers a question; it is understood where it says so in sentences
    such as these, most of which have variants::

        For how many, on which day and near what?       How about Rosa?
        I have booked Rosa for two on Friday.           Rosa is near the harbour.
        I have cancelled Rosa and booked Anna for two on Friday.    It costs 40.
        I have changed it to Sunday.                    Certainly. Goodbye.
        I'll book Rosa for Friday for two.              That's 40.

    Number and day may stand in either order. Anything else is nonsense ("Sorry?"). The user leaves
    when all is done, at the clerk's goodbye, after three turns that brought nothing or something
    wrong, and after six turns. It believes what it is told. All that it wants and will say stands
    in the row: it is a function of the row and the clerk's turns.

    ## Observation Space

    ``Box(-1, V-1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids of both sides in the
    order of the conversation, -1 where nothing is written.

    ## Action Space

    ``Discrete(V)``: the next token of the clerk.

    ## Rewards

    The score, in [0, 1], at the end, a product:

        score = right * min(1, fewest / turns) * answered * 0.4 ** faults

    * ``right``: of the bookings that should have been made, changed or cancelled, the share that
      are as they should be: the right name, number and day. 0 if any other booking was touched.
    * ``fewest``: the turns of the shortest script that serves this user without guessing.
    * ``answered``: 0.5 if the user asked something at the end and was not answered rightly.
    * ``faults``: bookings, changes and cancellations that the user did not want, also if they were
      mended; those made while the user had still something to say to it, right or not; untrue
      statements; offers against what the user said, or several in a turn; each sentence of
      nonsense, and one more for every eight words of it; in a turn that brings something, what is
      said twice, questions that the user has answered or does not care about, and courtesy beyond
      two phrases; in a script (below) each turn after the user left, and one more for every eight
      words of it.

    On top of it, and apart from it, turns pay (``info["turn_reward"]``): 0.1 for each slot that is
    found out by asking or by an offer that is accepted, and 0.1 for each of the user's wishes that
    is fulfilled, both once. No other script earns more of these than the shortest one, which earns
    all, so the return is at most 1 plus their sum (0.1 to 0.5).

    A completion that comes without the column ``turns`` is read as a script, a turn a line.

    The ``hasty`` baseline hears one of the attributes that the user names, asks nothing, and tells
    the price: 0.43 on average at level 1, 0.04 and 0.12 above. ``everything``, which books line by
    line, gets less than 0.01.

    ## Starting State

    A prompt of `generate`, by level: the user (1) says all at once; (2) keeps one to three things
    back; (3) has two bookings, and cancels or changes one, replaces it, or wants one more; then
    there is a second wish, often another mind. At levels 1 and 2 half of the users ask for the
    price, or the place, in the end.

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
    for each wish what is said, what is told only when asked, and the bookings wanted then) and
    ``fewest``.

    ## Episode End

    The user leaves (``finish_reason`` is ``"task"``), or 112 tokens of both sides: a termination.
    The clerk's turns begin with a space.

    ## Arguments

    ``level``: 1 (default), 2 or 3. ``split``: ``"train"`` or ``"eval"``.

    ## Real data

    ``prompts=`` takes conversations in these forms: MultiWOZ 2.2 as the Hub has it (``turns`` with
    columns ``speaker`` and ``utterance``) and as its own files have it (``turns`` as a list of
    dictionaries), chats (``messages`` with ``role`` and ``content``), lists of strings in turn
    (``dialogue``, ``dialog``), and pairs: ``context``, ``history`` or ``text`` with ``response``.
    The prompt is the conversation up to the agent's last turn, which is the reference; there is one
    turn, scored by the geometric mean of sentence BLEU and chrF (package sacrebleu,
    ``textgym[metrics]``), 1 for the reference itself, times a factor (`textgym.tasks.on_topic`)
    below 1 for words out of order or repeated, for a response longer than the reference, and for
    one that denies where that does not. Such prompts are long: pass
    ``max_prompt_tokens=`` and ``max_new_tokens=``. A prompt that is written by hand in the task's
    own format is played as above; what it leaves open is drawn from a hash of it.

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
    cheat_ceiling = 0.41

    def generate(self, rng: np.random.Generator) -> Row:
        """Draw a table, bookings, and a user with a goal."""
        # One call for all the choices of a row: several times faster than a call for each.
        return draw_row(self.level, iter(rng.random(64).tolist()).__next__)

    def reply(self, row: Mapping[str, Any], turns: Sequence[str]) -> Reply:
        """What the user says to the clerk's last turn."""
        reply = Reply(done=True)
        if "stages" in row:
            user = User(row)
            for turn in turns:
                reply = user.hear(turn)
        return reply

    def judge(self, text: str, row: Mapping[str, Any]) -> Judgement:
        """How the bookings stand in the end, and what it took to get there."""
        turns = row.get("turns")
        if "stages" not in row:
            value = overlap(turns[0] if turns else text, row["reference"])
            what = "BLEU and chrF against the reference, times how far it is on topic"
            return Judgement().add("the response", what, value)
        if turns is None:
            turns = text.split("\n")
        user = User(row)
        for number, turn in enumerate(turns):
            if user.done or number == self.max_turns:
                return user.judge(unheard=sum(unreadable(late) for late in turns[number:]))
            user.hear(turn)
        return user.judge()

    def convert(self, row: dict[str, Any]) -> dict[str, Any]:
        """Turn a conversation of public data into a prompt for one response; see Real data."""
        return convert(row)

    def complete_row(self, row: Row) -> Row:
        """Read the table, the bookings and the wish in a prompt that a user wrote.

        In a prompt of another form there is no wish, and nothing that is said is worth anything,
        unless the row brings a reference.
        """
        if "stages" in row:
            return row
        return {**(understand(row["prompt"]) or {"reference": ""}), **row}

    def baselines(self) -> dict[str, Baseline]:
        """``hasty`` hears half of what is said and asks for nothing, ``everything`` books all."""
        return {"hasty": hasty, "everything": everything}

    def conversation(self, rng: np.random.Generator) -> tuple[str, list[str]]:
        """A conversation to train a language model on, by turns.

        Returns:
            The prompt, and what clerk and user say behind it, in turn, the clerk first and last.
            The clerk's texts have no eos; what the user says ends where the clerk begins.
        """
        row = self.sample(rng)
        draw = iter(rng.random(128).tolist()).__next__
        return row["prompt"], converse(row, draw, self.max_turns)

    def document(self, rng: np.random.Generator) -> str:
        """The text of `conversation`: a clerk who mishears, guesses, and leaves early at times."""
        return "".join(self.turns_document(rng))

    def turns_document(self, rng: np.random.Generator) -> list[str]:
        """The same in pieces, each of which ends with a turn of the clerk's."""
        prompt, texts = self.conversation(rng)
        heard = [prompt, *texts[1::2]]
        return [user + clerk for user, clerk in zip(heard, texts[::2], strict=True)]
