"""Episodes of several turns: eos ends the agent's turn, and the task's reply is appended.

The reply (:meth:`textgym.tasks.Task.reply`) is a function of the row and of the agent's turns so
far. Observations hold the tokens of both sides in order and stay append-only; spans record which of
them the agent wrote.
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
    """A finished turn of the agent.

    Attributes:
        text: The agent's turn.
        reply: The task's reply to it.
        ids: The reply's token ids; empty if the episode is over.
    """

    text: str
    reply: Reply
    ids: list[int]


@dataclass
class History:
    """The conversation of one row so far.

    Attributes:
        turns: The agent's finished turns.
        replies: The task's replies.
        spans: Start and end of each finished turn in the text.
        turn_start: Position at which the agent's current turn starts.
        reply_tokens: Number of tokens of the replies.
        reward: Sum of the turns' rewards.
    """

    turns: list[str]
    replies: list[str]
    spans: list[tuple[int, int]]
    turn_start: int
    reply_tokens: int = 0
    reward: float = 0.0


class Conversations:
    """The conversations of a batch.

    Args:
        task: Makes the replies.
        tokenizer: Encodes the replies.
        num_rows: Number of rows N.
        template: The chat template that renders the replies; None appends them as they are.

    Attributes:
        histories: One per row.
        turn: ``[N]``, number of the agent's finished turns.
        turn_start: ``[N]``, position at which the agent's current turn starts.
        reply_tokens: ``[N]``, number of tokens of the replies.
    """

    def __init__(
        self, task: Task, tokenizer: Tokenizer, num_rows: int, template: ChatTemplate | None = None
    ) -> None:
        self.task = task
        self.template = template
        self.tokenizer = tokenizer
        self.histories = [History([], [], [], 0) for _ in range(num_rows)]
        self.turn = np.zeros(num_rows, dtype=np.int64)
        self.turn_start = np.zeros(num_rows, dtype=np.int64)
        self.reply_tokens = np.zeros(num_rows, dtype=np.int64)

    def reset(self, rows: NDArray[np.intp], prompt_lengths: Sequence[int]) -> None:
        """Start conversations in some rows."""
        for row, length in zip(rows.tolist(), prompt_lengths, strict=True):
            self.histories[row] = History([], [], [], length)
        self.turn[rows] = 0
        self.turn_start[rows] = prompt_lengths
        self.reply_tokens[rows] = 0

    def end_turn(self, index: int, row: Row, text: str, where: str, with_eos: bool) -> Turn:
        """Get the task's reply to a turn, without changing the conversation.

        Args:
            index: Index of the row in the batch.
            row: The data row that the episode started from.
            text: The agent's turn.
            where: Describes the row in errors.
            with_eos: Whether the agent ended its turn with eos, rather than with a stop string.

        Raises:
            TaskError: If the task raises, or its reply is invalid.
        """
        turns = [*self.histories[index].turns, text]
        try:
            reply = self.task.reply(task_row(row, self.template), turns)
            ids = [] if reply.done else self._encode(row, reply, with_eos)
            reward = float(reply.reward)
        except Exception as error:
            raise TaskError(
                f"{where}: the reply of {type(self.task).__name__} after turn {len(turns)} failed "
                f"({type(error).__name__}: {error}); reply() has to accept any turn, and reply in "
                "words that the tokenizer can encode"
            ) from error
        if not np.isfinite(reward):
            raise TaskError(f"{where}: the reply after turn {len(turns)} has the reward {reward}")
        over = reply.done or len(turns) >= self.task.max_turns
        return Turn(text, reply._replace(reward=reward, done=over), [] if over else ids)

    def _encode(self, row: Row, reply: Reply, with_eos: bool) -> list[int]:
        if self.template is None:
            return self.tokenizer.encode_continuation(reply.text)
        message = reply.text.strip() if reply.message is None else reply.message
        rendered = self.template.behind_reply(row["messages"], message)
        ids = self.tokenizer.encode_continuation(rendered)
        # The template closes the agent's turn with the token that the agent has already written.
        return ids[1:] if with_eos and ids[:1] and ids[0] in self.tokenizer.ends else ids

    def add_turn(self, index: int, turn: Turn, end: int) -> Info:
        """Add a turn that ended before position `end`, and return its entries of ``info``."""
        history = self.histories[index]
        history.spans.append((history.turn_start, end))
        history.turns.append(turn.text)
        history.reward += turn.reply.reward
        if not turn.reply.done:
            history.replies.append(turn.reply.text)
        history.reply_tokens += len(turn.ids)
        history.turn_start = end + len(turn.ids)
        self._update_arrays(index)
        return {"turn": len(history.turns), "turn_reward": turn.reply.reward}

    def columns(self, index: int, ended: str | None, unfinished: str) -> Info:
        """The columns of a conversation for reward functions and ``info``.

        Args:
            index: Index of the row in the batch.
            ended: The turn that ends with the episode and has not been added yet, or None.
            unfinished: The text of an unfinished turn.

        Returns:
            ``turns`` and ``replies``; ``response`` joins all that the agent wrote with newlines.
        """
        history = self.histories[index]
        turns = list(history.turns) if ended is None else [*history.turns, ended]
        written = [*turns, unfinished] if unfinished else turns
        return {"response": "\n".join(written), "turns": turns, "replies": list(history.replies)}

    def agent_spans(self, index: int, end: int) -> list[tuple[int, int]]:
        """The spans of the agent's tokens before position `end`."""
        history = self.histories[index]
        if history.turn_start < end:
            return [*history.spans, (history.turn_start, end)]
        return list(history.spans)

    def state(self) -> list[dict[str, Any]]:
        """The conversations as JSON-serializable values."""
        return [
            {
                # The names of the format, which older states share.
                "said": list(history.turns),
                "heard": list(history.replies),
                "spans": [list(span) for span in history.spans],
                "start": history.turn_start,
                "foreign": history.reply_tokens,
                "reward": history.reward,
            }
            for history in self.histories
        ]

    def set_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Restore the conversations from :meth:`state`."""
        self.histories = [
            History(
                turns=[str(text) for text in saved["said"]],
                replies=[str(text) for text in saved["heard"]],
                spans=[(int(start), int(end)) for start, end in saved["spans"]],
                turn_start=int(saved["start"]),
                reply_tokens=int(saved["foreign"]),
                reward=float(saved["reward"]),
            )
            for saved in state
        ]
        for index in range(len(self.histories)):
            self._update_arrays(index)

    def _update_arrays(self, index: int) -> None:
        history = self.histories[index]
        self.turn[index] = len(history.turns)
        self.turn_start[index] = history.turn_start
        self.reply_tokens[index] = history.reply_tokens
