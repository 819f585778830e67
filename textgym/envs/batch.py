"""Text generation as a Markov decision process, for a whole batch of rows at once.

The state of a row is its text so far, an action appends one token, the row ends at
end-of-sequence, at a stop string, or when its token budget is spent, and a reward function then
judges the response. This is the one implementation: :class:`textgym.envs.TextGenVectorEnv` adds
Gymnasium's autoreset and info to it, and :class:`textgym.envs.TextGenEnv` is a batch of one.

What this module does not do: draw prompts (:mod:`textgym.envs.prompts.drawing`), judge texts
(:mod:`textgym.envs.scoring`), autoreset, rendering, vector infos.
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
from textgym.envs.prompts.drawing import PromptStreams, Start, place
from textgym.envs.scoring import Info, potential, score, text_of
from textgym.envs.settings import Settings
from textgym.errors import ActionError

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Outcome:
    """What one step did.

    Attributes:
        rewards: ``[N]`` float64; 0 for rows that did not step.
        terminated: ``[N]`` bool.
        truncated: ``[N]`` bool.
        told: Indices of the rows that report something, because their episode or their turn is
            over, ``[E]``.
        reports: What each of these reports in its ``info``, E dictionaries.
        starts: A prompt for each row that was to get one, by row.
    """

    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    told: Rows
    reports: list[Info]
    starts: dict[int, Start]


class TextBatch:
    """A batch of text-generation episodes.

    Args:
        num_rows: Number of rows N.
        settings: What the episodes are made of.
        group_size: So many neighbouring rows draw the same prompts in the same order.

    Attributes:
        tokens: ``[N, L]`` int32, the text of each row from the left; -1 where nothing is written.
        length: ``[N]`` tokens written, prompt included.
        prompt_length: ``[N]`` tokens of the prompt.
        images: ``[N, 3, H, W]`` uint8, the picture beside each text; None where there are none.
        streams: What each row's prompts are drawn from.
        rows: The row (prompt and columns) that each episode started from.
        talk: The conversations, where the agent has several turns; else None.
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
        self.images: NDArray[np.uint8] | None = None
        if settings.pictures is not None and settings.pictures.image_shape is not None:
            self.images = np.zeros((num_rows, *settings.pictures.image_shape), dtype=np.uint8)
        other = settings.conversation
        self.talk = (
            Conversations(other, settings.tokenizer, num_rows, settings.chat) if other else None
        )

    # ------------------------------------------------------------------ starting an episode

    def reset(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None = None,
    ) -> list[Info]:
        """Start episodes in some rows; nothing changes if an error is raised.

        Args:
            rows: The rows.
            seeds: See `PromptStreams.reseed`, ``[N]``.
            options: What ``reset`` was given.

        Returns:
            What each row reports in its ``info``.

        Raises:
            TextGymError: If seeds or options are wrong, or as `prepare` does.
        """
        with self.streams.restored_on_error(rows):
            self.streams.reseed(rows, seeds)
            starts = self.prepare(rows, options)
        return self.begin(starts)

    def prepare(
        self, rows: Sequence[int], options: Mapping[str, Any] | None = None
    ) -> dict[int, Start]:
        """Draw the next prompts of some rows, or the ones that the options name.

        Everything that can go wrong with a start goes wrong here: `begin` raises nothing.

        Raises:
            TextGymError: As `PromptStreams.draw` does.
            RewardError: If the potential function fails.
        """
        starts = self.streams.draw(rows, options)
        if self.settings.step_reward is not None:
            at = np.asarray(rows, dtype=np.intp)
            drawn = [start.row for start in starts.values()]
            empty = {"response": "", "turns": [], "replies": []}
            talks = None if self.talk is None else [dict(empty) for _ in rows]
            before = [start.ids for start in starts.values()]
            potentials = potential(
                self.settings, at, drawn, [[] for _ in rows], before, talks
            ).tolist()
            for row, value in zip(rows, potentials, strict=True):
                starts[row] = starts[row]._replace(potential=value)
        return starts

    def begin(self, starts: Mapping[int, Start]) -> list[Info]:
        """Start episodes, and return what each reports in its ``info``."""
        at = np.array(list(starts), dtype=np.intp)
        counts = [len(start.ids) for start in starts.values()]
        written = np.arange(self.tokens.shape[1]) < np.array(counts)[:, None]
        ids = chain.from_iterable(start.ids for start in starts.values())
        prompts = np.full(written.shape, -1, dtype=np.int32)
        prompts[written] = np.fromiter(ids, np.int32, sum(counts))
        self.tokens[at] = prompts
        for row, start in starts.items():
            self.rows[row] = start.row
            if self.images is not None and start.image is not None:
                self.images[row] = start.image
        self.length[at] = self.prompt_length[at] = counts
        self.stop_state[at] = 0
        self.potential[at] = [start.potential for start in starts.values()]
        self.shaping[at] = 0.0
        infos = [
            {"prompt": start.row["prompt"], "prompt_tokens": count}
            for start, count in zip(starts.values(), counts, strict=True)
        ]
        if self.talk is not None:
            self.talk.begin(at, counts)
            for info in infos:
                info["turn"] = 0
        return infos

    # ------------------------------------------------------------------ one step

    def check_actions(self, actions: Any, stepping: Rows) -> NDArray[np.intp]:
        """The actions as an array ``[N]``, or a clear error.

        Raises:
            ActionError: If their shape or dtype is wrong, or one is out of range.
        """
        settings = self.settings
        try:
            array = np.asarray(actions)
        except ValueError as error:
            raise ActionError(
                f"{settings.name}: the actions are no array ({error}); the batch takes one "
                f"token id a row, shape {self.length.shape}"
            ) from error
        if array.shape != self.length.shape:
            raise ActionError(
                f"{settings.name}: actions have shape {array.shape}; the batch takes one "
                f"token id a row, shape {self.length.shape}"
            )
        if array.dtype.kind not in "iu":
            raise ActionError(
                f"{settings.name}: actions have dtype {array.dtype}; token ids are integers"
            )
        size = settings.tokenizer.vocab_size
        taken = array[stepping]
        # Seen as unsigned numbers, the negative ones are too large as well.
        if len(taken) and taken.astype(np.int64, copy=False).view(np.uint64).max() >= size:
            row = int(stepping[(taken < 0) | (taken >= size)][0])
            raise ActionError(
                f"{place(settings, row, self.rows[row]['prompt'])}: action {int(array[row])} is no "
                f"token id; the vocabulary has {size}, so actions go from 0 to {size - 1}"
            )
        return array.astype(np.intp, copy=False)

    def step(
        self, actions: NDArray[np.intp], stepping: Rows, waiting: Sequence[int] | None = ()
    ) -> Outcome:
        """Append one token to some rows; ended rows are scored.

        Nothing changes if an error is raised, a reward function's included. (A prompt that does not
        fit counts as drawn, though: the next call does not meet it again.)

        Args:
            actions: Token ids, ``[N]``, checked.
            stepping: Indices of the rows that step, ``[S]``.
            waiting: The rows that get a new prompt (see `Outcome.starts`); None: those that end.

        Raises:
            RewardError: If a reward function raises or returns something that is no reward.
            PromptError: If a new prompt does not fit, or cannot be tokenized.
            DataError: If the source cannot make a row.
            TaskError: If the other side of a conversation fails.
        """
        settings = self.settings
        taken = actions[stepping]
        position = self.length[stepping]
        self.tokens[stepping, position] = taken
        try:
            written = position + 1 - self.prompt_length[stepping]
            reason, stop_state = self._finish_reasons(stepping, taken, position, written)
            turns: dict[int, Turn] = {}
            if self.talk is not None:
                turns = self._end_turns(self.talk, stepping, position + 1, reason)
                written -= self.talk.foreign[stepping]
            terminated = reason != _GOES_ON
            over = terminated.nonzero()[0]
            scored = stepping[over]
            rewards = np.zeros(len(stepping))
            reports: list[Info] = []
            if settings.step_reward is not None:
                reached = self._potential_now(stepping, position + 1, terminated, turns)
                shaping = settings.step_reward_gamma * reached - self.potential[stepping]
                rewards += shaping
            if len(over):
                scores, reports = self._score(
                    scored, reason[over], position[over] + 1, stepping, turns
                )
                rewards[over] += scores
            for at, turn in turns.items():
                rewards[at] += turn.reply.reward
            # The step limit of gymnasium.make(max_episode_steps=...): the process itself goes on,
            # so the text is not judged.
            limit = settings.max_episode_steps
            truncated = np.zeros(len(stepping), np.bool_) if limit is None else written >= limit
            if waiting is None:
                waiting = stepping[terminated | truncated].tolist()
            starts = self.prepare(waiting) if waiting else {}
        except BaseException:
            self.tokens[stepping, position] = -1
            raise
        self.length[stepping] = position + 1
        if stop_state is not None:
            self.stop_state[stepping] = stop_state
        if settings.step_reward is not None:
            self.potential[stepping] = reached
            self.shaping[stepping] += shaping
            for row, report in zip(scored, reports, strict=True):
                report["reward_terms"]["step_reward"] = float(self.shaping[row])
        if self.talk is not None:
            scored, reports = self._keep_turns(self.talk, stepping, turns, scored, reports)
        return Outcome(
            self._spread(stepping, rewards),
            self._spread(stepping, terminated),
            self._spread(stepping, truncated),
            scored,
            reports,
            starts,
        )

    def _finish_reasons(
        self,
        stepping: Rows,
        taken: NDArray[np.intp],
        position: NDArray[np.intp],
        written: NDArray[np.intp],
    ) -> tuple[NDArray[np.intp], NDArray[np.int32] | None]:
        """Why each stepping row ends, an index into the reasons, and its stop automaton's state."""
        settings = self.settings
        reason = (written >= settings.max_new_tokens).astype(np.intp)  # _LENGTH or _GOES_ON
        stop_state = None
        if settings.stops:
            if settings.stops.final is not None:
                stop_state = settings.stops.advance(self.stop_state[stepping], taken)
                if settings.stops.first_differs:
                    self._read_first_tokens(stepping, written, stop_state)
                stopped = stop_state == settings.stops.final
            else:
                texts = [
                    self._turn_text(row, end)
                    for row, end in zip(stepping.tolist(), (position + 1).tolist(), strict=True)
                ]
                stopped = np.array([settings.stops.found_in(text) for text in texts], dtype=bool)
            reason[stopped] = _STOP
        if settings.stop_at_eos:
            for end in settings.tokenizer.ends:
                reason[taken == end] = _EOS
        return reason, stop_state

    def _read_first_tokens(
        self, stepping: Rows, written: NDArray[np.intp], stop_state: NDArray[np.int32]
    ) -> None:
        """Correct the stop automaton's states where a token is the first of a whole text."""
        for at in np.flatnonzero(written == 1).tolist():
            row = int(stepping[at])
            end = int(self.length[row]) + 1
            if self.settings.tokenizer.is_empty(self.tokens[row, : end - 1]):
                stop_state[at] = self.settings.stops.state_after(self._turn_text(row, end))

    def _score(
        self,
        ended: Rows,
        reasons: NDArray[np.intp],
        ends: NDArray[np.intp],
        stepping: Rows,
        turns: Mapping[int, Turn],
    ) -> tuple[NDArray[np.float64], list[Info]]:
        """Rewards and reports of rows whose episode is over."""
        rows = ended.tolist()
        ids = self._written(ended, ends)
        talks = self._talks(ended, ends, stepping, turns)
        return score(
            self.settings,
            ended,
            [self.rows[row] for row in rows],
            ids,
            self._prompts(rows),
            [_REASONS[reason] for reason in reasons.tolist()],
            talks,
        )

    # ------------------------------------------------------------------ turns

    def _talks(
        self, rows: Rows, ends: Rows, stepping: Rows, turns: Mapping[int, Turn]
    ) -> list[Info] | None:
        """What reward functions are told of some rows' conversations, up to a position in each."""
        if self.talk is None:
            return None
        last = {int(stepping[at]): turn.said for at, turn in turns.items()}
        talks = []
        for row, end in zip(rows.tolist(), ends.tolist(), strict=True):
            # An unfinished turn was said to nobody, but it was written.
            rest = "" if row in last else self._turn_text(row, end)
            talks.append(self.talk.columns(row, last.get(row), rest))
        return talks

    def _end_turns(
        self, talk: Conversations, stepping: Rows, ends: Rows, reason: NDArray[np.intp]
    ) -> dict[int, Turn]:
        """What ends of turns lead to, by place in `stepping`; changes `reason` to that.

        Raises:
            TaskError: If the other side fails.
        """
        turns = {}
        for at in np.flatnonzero(reason >= _STOP).tolist():
            row, end = int(stepping[at]), int(ends[at])
            said = self._turn_text(row, end, _REASONS[reason[at]])
            start = self.rows[row]
            where = place(self.settings, row, start["prompt"])
            turn = talk.end_turn(row, start, said, where, closed=bool(reason[at] == _EOS))
            reason[at] = _TASK if turn.reply.done else _GOES_ON
            # The agent has to have room for an answer.
            room = self.prompt_length[row] + self.settings.max_new_tokens - end - len(turn.ids)
            if not turn.reply.done and room < 1:
                reason[at] = _CONTEXT
                turn = turn._replace(ids=[], reply=turn.reply._replace(done=True))
            turns[at] = turn
        return turns

    def _keep_turns(
        self,
        talk: Conversations,
        stepping: Rows,
        turns: Mapping[int, Turn],
        scored: Rows,
        reports: list[Info],
    ) -> tuple[Rows, list[Info]]:
        """Append what the other side said; what rows report whose turn or episode is over."""
        told = dict(zip(scored.tolist(), reports, strict=True))
        for at, turn in turns.items():
            row = int(stepping[at])
            end = int(self.length[row])
            told.setdefault(row, {}).update(talk.keep(row, turn, end))
            self.tokens[row, end : end + len(turn.ids)] = turn.ids
            self.length[row] = end + len(turn.ids)
            self.stop_state[row] = 0
        for row, report in zip(scored.tolist(), reports, strict=True):
            report["turn"] = int(talk.turn[row])
            report["reward_terms"]["turn_reward"] = talk.talks[row].reward
        rows = sorted(told)
        return np.array(rows, dtype=np.intp), [told[row] for row in rows]

    def _turn_text(self, row: int, end: int, reason: str = "") -> str:
        """What the agent has said in its present turn, up to a position."""
        start = self.prompt_length[row] if self.talk is None else self.talk.start[row]
        ids: list[int] = self.tokens[row, start:end].tolist()
        return text_of(self.settings, ids, self.tokens[row, :start], reason)

    def _prompts(self, rows: Sequence[int]) -> list[NDArray[np.int32]]:
        """The token ids of some rows' prompts."""
        return [self.tokens[row, : self.prompt_length[row]] for row in rows]

    # ------------------------------------------------------------------ texts

    def response(self, row: int) -> str:
        """The text behind a row's prompt; in a conversation the other side's too."""
        ids = self.tokens[row, self.prompt_length[row] : self.length[row]].tolist()
        if self.talk is not None:
            ends = self.settings.tokenizer.ends
            ids = [index for index in ids if index not in ends]
        return text_of(self.settings, ids, self.tokens[row, : self.prompt_length[row]], "")

    def shown(self, row: int) -> tuple[str, str]:
        """A row's prompt and response as they read side by side."""
        prompt, response = str(self.rows[row]["prompt"]), self.response(row)
        separator = self.settings.tokenizer.separator if prompt and response else ""
        return prompt + separator, response

    def _written(self, rows: Rows, ends: NDArray[np.intp]) -> list[list[int]]:
        """The token ids of some rows' responses, up to a position in each."""
        if self.talk is not None:
            return [
                [
                    int(i)
                    for start, stop in self.talk.own(row, end)
                    for i in self.tokens[row, start:stop]
                ]
                for row, end in zip(rows.tolist(), ends.tolist(), strict=True)
            ]
        spans = zip(rows.tolist(), self.prompt_length[rows].tolist(), ends.tolist(), strict=True)
        return [self.tokens[row, start:end].tolist() for row, start, end in spans]

    # ------------------------------------------------------------------ shaping

    def _potential_now(
        self,
        stepping: Rows,
        ends: NDArray[np.intp],
        terminated: NDArray[np.bool_],
        turns: Mapping[int, Turn],
    ) -> NDArray[np.float64]:
        """The potential of each stepping row's text; 0 where the process has ended.

        Zero at the end keeps the optimal policy what it was (Ng, Harada and Russell 1999, "Policy
        invariance under reward transformations"; Grzes 2017 for episodes of finite length).
        """
        going = np.flatnonzero(~terminated)
        at = stepping[going]
        values = np.zeros(len(stepping))
        rows = [self.rows[row] for row in at]
        talks = self._talks(at, ends[going], stepping, turns)
        ids, before = self._written(at, ends[going]), self._prompts(at.tolist())
        values[going] = potential(self.settings, at, rows, ids, before, talks)
        return values

    # ------------------------------------------------------------------ small things

    def _spread(self, stepping: Rows, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the stepping rows, in an array over all rows."""
        if len(stepping) == len(self.length):
            return values
        full = np.zeros(len(self.length), dtype=values.dtype)
        full[stepping] = values
        return full


# Those from "stop" on end a turn, where there are several.
_REASONS = ("", "length", "context", "task", "stop", "eos")
_GOES_ON, _LENGTH, _CONTEXT, _TASK, _STOP, _EOS = range(6)
