"""Episodes of several turns: the agent's eos ends its turn, and the other side's text is appended.

The other side is the task (:meth:`textgym.tasks.Task.reply`), a function of the row and of what the
agent has said so far. Observations hold both sides' tokens in the order of the conversation and
stay append-only; what the agent wrote is told apart by its spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.envs.prompts.chat import task_row
from textgym.envs.scoring import Info
from textgym.errors import TaskError
from textgym.tasks.base import Reply, Task
from textgym.tokenization import ChatTemplate, Tokenizer


class Turn(NamedTuple):
    """The end of one turn of a row's agent.

    Attributes:
        said: What the agent said in it.
        reply: What the other side makes of it.
        ids: The tokens that the other side appends; none if the episode is over.
    """

    said: str
    reply: Reply
    ids: list[int]


@dataclass
class Talk:
    """One row's conversation so far.

    Attributes:
        said: The agent's turns that are over.
        heard: What the other side said after each but the last.
        spans: Where the tokens of each turn in ``said`` stand, ends excluded.
        start: Where the agent's present turn begins.
        foreign: Tokens of the other side, the prompt's left out.
        reward: Sum of the turns' rewards.
    """

    said: list[str]
    heard: list[str]
    spans: list[tuple[int, int]]
    start: int
    foreign: int = 0
    reward: float = 0.0


class Conversations:
    """The conversations of a batch.

    Args:
        task: The other side.
        tokenizer: Spells what it says.
        rows: Number of rows N.
        template: Writes the turns of a chat; None appends what the other side says as it is.

    Attributes:
        talks: One a row.
        turn: ``[N]``, the agent's turns that are over.
        start: ``[N]``, where the agent's present turn begins.
        foreign: ``[N]``, tokens of the other side behind the prompt.
    """

    def __init__(
        self, task: Task, tokenizer: Tokenizer, rows: int, template: ChatTemplate | None = None
    ) -> None:
        self.task = task
        self.template = template
        self.tokenizer = tokenizer
        self.talks = [Talk([], [], [], 0) for _ in range(rows)]
        self.turn = np.zeros(rows, dtype=np.int64)
        self.start = np.zeros(rows, dtype=np.int64)
        self.foreign = np.zeros(rows, dtype=np.int64)

    def begin(self, rows: NDArray[np.intp], lengths: Sequence[int]) -> None:
        """Start conversations in some rows, behind prompts of these lengths."""
        for row, length in zip(rows.tolist(), lengths, strict=True):
            self.talks[row] = Talk([], [], [], length)
        self.turn[rows] = 0
        self.start[rows] = lengths
        self.foreign[rows] = 0

    def end_turn(self, number: int, row: Row, said: str, where: str, closed: bool) -> Turn:
        """Ask the other side what it says; nothing changes yet.

        Args:
            number: The row's number.
            row: What the episode started from.
            said: The agent's turn.
            where: How errors name the row.
            closed: Whether the agent wrote the token that ends its turn.

        Raises:
            TaskError: If the task raises, or its reply is none.
        """
        turns = [*self.talks[number].said, said]
        try:
            reply = self.task.reply(task_row(row, self.template), turns)
            ids = [] if reply.done else self._spelled(row, reply, closed)
            reward = float(reply.reward)
        except Exception as error:
            raise TaskError(
                f"{where}: the reply of {type(self.task).__name__} after turn {len(turns)} failed "
                f"({type(error).__name__}: {error}); it has to answer whatever the agent says, in "
                "the tokenizer's words"
            ) from error
        if not np.isfinite(reward):
            raise TaskError(f"{where}: the reply after turn {len(turns)} has the reward {reward}")
        over = reply.done or len(turns) >= self.task.max_turns
        return Turn(said, reply._replace(reward=reward, done=over), [] if over else ids)

    def _spelled(self, row: Row, reply: Reply, closed: bool) -> list[int]:
        """The token ids that the other side appends."""
        if self.template is None:
            return self.tokenizer.encode_continuation(reply.text)
        answer = reply.text.strip() if reply.message is None else reply.message
        behind = self.template.behind_reply(row["messages"], answer)
        ids = self.tokenizer.encode_continuation(behind)
        return ids[1:] if closed and ids[:1] and ids[0] in self.tokenizer.ends else ids

    def keep(self, number: int, turn: Turn, end: int) -> Info:
        """Take a turn down that ended before position `end`, and return what ``info`` says of it.

        The other side's tokens, if any, stand from there.
        """
        talk = self.talks[number]
        talk.spans.append((talk.start, end))
        talk.said.append(turn.said)
        talk.reward += turn.reply.reward
        if not turn.reply.done:
            talk.heard.append(turn.reply.text)
        talk.foreign += len(turn.ids)
        talk.start = end + len(turn.ids)
        self._count(number)
        return {"turn": len(talk.said), "turn_reward": turn.reply.reward}

    def columns(self, number: int, said: str | None, rest: str) -> Info:
        """What reward functions and ``info`` are told of a conversation that is over.

        Args:
            number: The row's number.
            said: The turn that ends with the episode, or None.
            rest: An unfinished turn.

        Returns:
            ``turns`` and ``replies``, and as ``response`` all that the agent wrote, by lines.
        """
        talk = self.talks[number]
        turns = list(talk.said) if said is None else [*talk.said, said]
        written = [*turns, rest] if rest else turns
        return {"response": "\n".join(written), "turns": turns, "replies": list(talk.heard)}

    def own(self, number: int, end: int) -> list[tuple[int, int]]:
        """The spans of the agent's tokens before position `end`."""
        talk = self.talks[number]
        return [*talk.spans, (talk.start, end)] if talk.start < end else list(talk.spans)

    def state(self) -> list[dict[str, Any]]:
        """The conversations as values that JSON can hold."""
        return [
            {
                **vars(talk),
                "said": list(talk.said),
                "heard": list(talk.heard),
                "spans": [list(span) for span in talk.spans],
            }
            for talk in self.talks
        ]

    def set_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Go on from :meth:`state`."""
        self.talks = [
            Talk(
                said=[str(text) for text in each["said"]],
                heard=[str(text) for text in each["heard"]],
                spans=[(int(start), int(end)) for start, end in each["spans"]],
                start=int(each["start"]),
                foreign=int(each["foreign"]),
                reward=float(each["reward"]),
            )
            for each in state
        ]
        for number in range(len(self.talks)):
            self._count(number)

    def _count(self, number: int) -> None:
        talk = self.talks[number]
        self.turn[number] = len(talk.said)
        self.start[number] = talk.start
        self.foreign[number] = talk.foreign
