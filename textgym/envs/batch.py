"""Text generation as a Markov decision process, for a batch of rows.

The state of a row is its text so far, an action appends one token, and the episode ends at
end-of-sequence, at a stop string, or when the token budget is spent; a reward function then scores
the response. The environments add Gymnasium's interface to this class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textgym.data.rows import Row
from textgym.envs.conversation import Conversations, Turn
from textgym.envs.prompts.drawing import PromptStreams, Start
from textgym.envs.prompts.fitting import describe_row
from textgym.envs.scoring import Info, can_change, decode_response, potential, score
from textgym.envs.settings import Settings

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Outcome:
    """The result of one step.

    Attributes:
        rewards: ``[N]`` float64; 0 for rows that did not step.
        terminated: ``[N]`` bool.
        truncated: ``[N]`` bool.
        info_rows: Indices ``[E]`` of the rows whose episode or turn is over.
        infos: The ``info`` of each of these rows, E dictionaries.
        starts: The next prompt of each row that asked for one, by row.
    """

    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    info_rows: Rows
    infos: list[Info]
    starts: dict[int, Start]


class TextBatch:
    """A batch of text-generation episodes.

    Args:
        num_rows: Number of rows N.
        settings: The resolved settings of the environment.
        group_size: This many neighbouring rows draw the same prompts in the same order.

    Attributes:
        tokens: ``[N, L]`` int32, the text of each row from the left, padded with -1.
        length: ``[N]``, number of tokens of the text, prompt included.
        prompt_length: ``[N]``, number of tokens of the prompt.
        images: ``[N, 3, H, W]`` uint8, the picture of each row; None if the task has no pictures.
        streams: Draws each row's prompts.
        rows: The data row (prompt and columns) that each episode started from.
        conversations: The turns of each row in multi-turn tasks; else None.
    """

    def __init__(self, num_rows: int, settings: Settings, group_size: int = 1) -> None:
        self.settings = settings
        self.streams = PromptStreams(num_rows, settings, group_size)
        self.tokens = np.full((num_rows, settings.width), -1, dtype=np.int32)
        self.length = np.zeros(num_rows, dtype=np.intp)
        self.prompt_length = np.zeros(num_rows, dtype=np.intp)
        self.stop_state = np.zeros(num_rows, dtype=np.int32)
        self.potential = np.zeros(num_rows)
        self.shaping = np.zeros(num_rows)
        self.rows: list[Row] = [{"prompt": ""}] * num_rows
        shape = settings.image_shape
        self.images = None if shape is None else np.zeros((num_rows, *shape), dtype=np.uint8)
        task = settings.conversation
        self.conversations = (
            Conversations(task, settings.tokenizer, num_rows, settings.chat) if task else None
        )

    def reset(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None = None,
    ) -> list[Info]:
        """Start episodes in some rows; nothing changes if an error is raised.

        Args:
            rows: Indices of the rows.
            seeds: One seed for each of the N rows; see `PromptStreams.reseed`.
            options: The options of the environment's ``reset``.

        Returns:
            The ``info`` of each row.

        Raises:
            TextGymError: If the seeds or options are invalid, or as for `draw_starts`.
        """
        with self.streams.restored_on_error(rows):
            self.streams.reseed(rows, seeds)
            starts = self.draw_starts(rows, options)
        return self.start_episodes(starts)

    def draw_starts(
        self, rows: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> dict[int, Start]:
        """Draw the next prompts of some rows, or those that the options name.

        All errors of a reset are raised here, so `start_episodes` cannot fail half-way.

        Raises:
            TextGymError: As for `PromptStreams.draw`.
            RewardError: If the potential function fails.
        """
        starts = self.streams.draw(rows, options)
        if self.settings.step_reward is not None:
            conversations: list[Info] | None = None
            if self.conversations is not None:
                conversations = [{"response": "", "turns": [], "replies": []} for _ in rows]
            potentials = potential(
                self.settings,
                np.asarray(rows, dtype=np.intp),
                [start.row for start in starts.values()],
                [[] for _ in rows],
                [start.ids for start in starts.values()],
                conversations,
            ).tolist()
            for row, value in zip(rows, potentials, strict=True):
                starts[row] = starts[row]._replace(potential=value)
        return starts

    def start_episodes(self, starts: Mapping[int, Start]) -> list[Info]:
        """Start episodes from drawn prompts, and return the ``info`` of each row."""
        rows = np.array(list(starts), dtype=np.intp)
        counts = [len(start.ids) for start in starts.values()]
        written = np.arange(self.tokens.shape[1]) < np.array(counts)[:, None]
        ids = chain.from_iterable(start.ids for start in starts.values())
        prompts = np.full(written.shape, -1, dtype=np.int32)
        prompts[written] = np.fromiter(ids, np.int32, sum(counts))
        self.tokens[rows] = prompts
        for row, start in starts.items():
            self.rows[row] = start.row
            if self.images is not None and start.image is not None:
                self.images[row] = start.image
        self.length[rows] = self.prompt_length[rows] = counts
        self.stop_state[rows] = 0
        self.potential[rows] = [start.potential for start in starts.values()]
        self.shaping[rows] = 0.0
        infos = [
            {"prompt": start.row["prompt"], "prompt_tokens": count}
            for start, count in zip(starts.values(), counts, strict=True)
        ]
        if self.conversations is not None:
            self.conversations.reset(rows, counts)
            infos = [{**info, "turn": 0} for info in infos]
        return infos

    def step(
        self, actions: NDArray[np.intp], stepping: Rows, starting: Sequence[int] | None = ()
    ) -> Outcome:
        """Append one token to some rows, and score those whose episode ends.

        No episode changes if an error is raised. Prompts drawn before the error are skipped, so
        that a prompt that does not fit is not drawn again by the next call.

        Args:
            actions: Token ids ``[N]``, as returned by `textgym.envs.observations.check_actions`.
            stepping: Indices ``[S]`` of the rows that step.
            starting: The rows to draw a new prompt for (`Outcome.starts`); None: those that end.

        Raises:
            RewardError: If a reward function raises or returns an invalid value.
            PromptError: If a new prompt does not fit, or cannot be tokenized.
            DataError: If the source cannot make a row.
            TaskError: If the task of a conversation cannot reply.
        """
        settings = self.settings
        taken = actions[stepping]
        position = self.length[stepping]
        ends = position + 1
        self.tokens[stepping, position] = taken
        try:
            written = ends - self.prompt_length[stepping]
            reason, stop_state = self._finish_reasons(stepping, taken, ends, written)
            turns: dict[int, Turn] = {}
            if self.conversations is not None:
                turns = self._end_turns(self.conversations, stepping, ends, reason)
                written -= self.conversations.reply_tokens[stepping]
            terminated = reason != _UNFINISHED
            over = terminated.nonzero()[0]
            scored = stepping[over]
            rewards = np.zeros(len(stepping))
            infos: list[Info] = []
            if settings.step_reward is not None:
                changed = can_change(settings, taken, turns) & ~terminated
                unchanged = np.where(terminated, 0.0, self.potential[stepping])
                potentials = self._potentials(stepping, ends, changed, unchanged, turns)
                shaping = settings.step_reward_gamma * potentials - self.potential[stepping]
                rewards += shaping
            if len(over):
                scores, infos = score(
                    settings,
                    scored,
                    [self.rows[row] for row in scored.tolist()],
                    self._response_ids(scored, ends[over]),
                    self._prompt_ids(scored),
                    [_REASONS[index] for index in reason[over].tolist()],
                    self._conversation_columns(scored, ends[over], stepping, turns),
                )
                rewards[over] += scores
            for index, turn in turns.items():
                rewards[index] += turn.reply.reward
            # A step limit, gymnasium.make(max_episode_steps=...), is not an end: no score is paid.
            limit = settings.max_episode_steps
            truncated = np.zeros(len(stepping), np.bool_) if limit is None else written >= limit
            if starting is None:
                starting = stepping[terminated | truncated].tolist()
            starts = self.draw_starts(starting) if starting else {}
        except BaseException:
            self.tokens[stepping, position] = -1
            raise
        self.length[stepping] = ends
        if stop_state is not None:
            self.stop_state[stepping] = stop_state
        if settings.step_reward is not None:
            self.potential[stepping] = potentials
            self.shaping[stepping] += shaping
            for row, info in zip(scored, infos, strict=True):
                info["reward_terms"]["step_reward"] = float(self.shaping[row])
        if self.conversations is not None:
            scored, infos = self._append_replies(self.conversations, stepping, turns, scored, infos)
        return Outcome(
            self._for_all_rows(stepping, rewards),
            self._for_all_rows(stepping, terminated),
            self._for_all_rows(stepping, truncated),
            scored,
            infos,
            starts,
        )

    def _finish_reasons(
        self,
        stepping: Rows,
        taken: NDArray[np.intp],
        ends: NDArray[np.intp],
        written: NDArray[np.intp],
    ) -> tuple[NDArray[np.intp], NDArray[np.int32] | None]:
        """The reason index of each stepping row, and its stop automaton's next state."""
        settings = self.settings
        reason = (written >= settings.max_new_tokens).astype(np.intp)  # _LENGTH or _UNFINISHED
        stop_state = None
        if settings.stops:
            if settings.stops.final is not None:
                stop_state = settings.stops.advance(self.stop_state[stepping], taken)
                if settings.stops.first_differs:
                    self._correct_first_tokens(stepping, written, stop_state)
                stopped = stop_state == settings.stops.final
            else:
                texts = map(self._turn_text, stepping.tolist(), ends.tolist())
                stopped = np.array([settings.stops.found_in(text) for text in texts], dtype=bool)
            reason[stopped] = _STOP
        if settings.stop_at_eos:
            for end in settings.tokenizer.ends:
                reason[taken == end] = _EOS
        return reason, stop_state

    def _correct_first_tokens(
        self, stepping: Rows, written: NDArray[np.intp], stop_state: NDArray[np.int32]
    ) -> None:
        """Recompute the stop automaton's states after first tokens of an empty text."""
        for index in np.flatnonzero(written == 1).tolist():
            row = int(stepping[index])
            end = int(self.length[row]) + 1
            if self.settings.tokenizer.is_empty(self.tokens[row, : end - 1]):
                stop_state[index] = self.settings.stops.state_after(self._turn_text(row, end))

    def _potentials(
        self,
        stepping: Rows,
        ends: NDArray[np.intp],
        changed: NDArray[np.bool_],
        unchanged: NDArray[np.float64],
        turns: Mapping[int, Turn],
    ) -> NDArray[np.float64]:
        """The potential of each stepping row's text; computed where it may have changed.

        A potential of 0 at the end leaves the best policy the best (Ng, Harada and Russell 1999,
        "Policy invariance under reward transformations"; Grzes 2017 for finite episodes).
        """
        rows, ends = stepping[changed], ends[changed]
        unchanged[changed] = potential(
            self.settings,
            rows,
            [self.rows[row] for row in rows],
            self._response_ids(rows, ends),
            self._prompt_ids(rows),
            self._conversation_columns(rows, ends, stepping, turns),
        )
        return unchanged

    def _conversation_columns(
        self, rows: Rows, ends: Rows, stepping: Rows, turns: Mapping[int, Turn]
    ) -> list[Info] | None:
        """The reward columns of some rows' conversations, up to a position in each."""
        if self.conversations is None:
            return None
        ended = {int(stepping[index]): turn.text for index, turn in turns.items()}
        return [
            self.conversations.columns(
                row, ended.get(row), unfinished="" if row in ended else self._turn_text(row, end)
            )
            for row, end in zip(rows.tolist(), ends.tolist(), strict=True)
        ]

    def _end_turns(
        self, conversations: Conversations, stepping: Rows, ends: Rows, reason: NDArray[np.intp]
    ) -> dict[int, Turn]:
        """End the turns of rows that wrote eos or a stop string, by index into `stepping`.

        Changes `reason` in place, because the end of a turn need not end the episode.
        """
        turns = {}
        for index in np.flatnonzero(reason >= _STOP).tolist():
            row, end = int(stepping[index]), int(ends[index])
            text = self._turn_text(row, end, _REASONS[reason[index]])
            where = describe_row(self.settings, row, self.rows[row]["prompt"])
            turn = conversations.end_turn(row, self.rows[row], text, where, reason[index] == _EOS)
            reason[index] = _TASK if turn.reply.done else _UNFINISHED
            # The agent needs room for at least one token of its next turn.
            room = self.prompt_length[row] + self.settings.max_new_tokens - end - len(turn.ids)
            if not turn.reply.done and room < 1:
                reason[index] = _CONTEXT
                turn = turn._replace(ids=[], reply=turn.reply._replace(done=True))
            turns[index] = turn
        return turns

    def _append_replies(
        self,
        conversations: Conversations,
        stepping: Rows,
        turns: Mapping[int, Turn],
        scored: Rows,
        infos: list[Info],
    ) -> tuple[Rows, list[Info]]:
        """Append the task's replies; returns the rows whose turn or episode is over, and infos."""
        by_row = dict(zip(scored.tolist(), infos, strict=True))
        for index, turn in turns.items():
            row = int(stepping[index])
            end = int(self.length[row])
            by_row.setdefault(row, {}).update(conversations.add_turn(row, turn, end))
            self.tokens[row, end : end + len(turn.ids)] = turn.ids
            self.length[row] = end + len(turn.ids)
            self.stop_state[row] = 0
        for row, info in zip(scored.tolist(), infos, strict=True):
            info["turn"] = int(conversations.turn[row])
            info["reward_terms"]["turn_reward"] = conversations.histories[row].reward
        rows = sorted(by_row)
        return np.array(rows, dtype=np.intp), [by_row[row] for row in rows]

    def _turn_text(self, row: int, end: int, reason: str = "") -> str:
        """The text of the agent's current turn, up to a position."""
        starts = self.prompt_length if self.conversations is None else self.conversations.turn_start
        start = starts[row]
        ids: list[int] = self.tokens[row, start:end].tolist()
        return decode_response(self.settings, ids, self.tokens[row, :start], reason)

    def _prompt_ids(self, rows: Rows) -> list[NDArray[np.int32]]:
        """The token ids of some rows' prompts."""
        return [self.tokens[row, : self.prompt_length[row]] for row in rows.tolist()]

    def _response_ids(self, rows: Rows, ends: NDArray[np.intp]) -> list[list[int]]:
        """The token ids that the agent wrote in some rows, up to a position in each."""
        if self.conversations is not None:
            return [
                [
                    int(index)
                    for start, stop in self.conversations.agent_spans(row, end)
                    for index in self.tokens[row, start:stop]
                ]
                for row, end in zip(rows.tolist(), ends.tolist(), strict=True)
            ]
        spans = zip(rows.tolist(), self.prompt_length[rows].tolist(), ends.tolist(), strict=True)
        return [self.tokens[row, start:end].tolist() for row, start, end in spans]

    def _for_all_rows(self, stepping: Rows, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the stepping rows as an array over all rows, 0 elsewhere."""
        if len(stepping) == len(self.length):
            return values
        full = np.zeros(len(self.length), dtype=values.dtype)
        full[stepping] = values
        return full


# "stop" and "eos" end a turn in a conversation, so that they come last.
_REASONS = ("", "length", "context", "task", "stop", "eos")
_UNFINISHED, _LENGTH, _CONTEXT, _TASK, _STOP, _EOS = range(6)
