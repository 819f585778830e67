"""Preferences of files and stores as token ids: pairs, and single texts with labels.

The rows are those of :mod:`textgym.rewards.preferences.pairs` and
:mod:`textgym.rewards.preferences.labels`. A text becomes the tokens that a policy would write in
the environment: behind the prompt, with the end that the environment ends texts with, and cut where
an episode would be over. In environments of conversations, texts are messages; the assistant's are
the agent's turns, and the user's are read between them.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agents.running.judged import Ints, Judged, bare_texts, key_of, padded
from textgym.envs.prompts.chat import messages_of, no_template
from textgym.envs.prompts.fitting import PromptFitter
from textgym.envs.settings import Settings
from textgym.errors import DataError, DataWarning, PromptError, SettingsError, TokenizerError
from textgym.feedback import Store
from textgym.lm.scoring import SequenceBatch
from textgym.rewards.preferences.labels import is_labelled, labelled_of
from textgym.rewards.preferences.pair_texts import Part
from textgym.rewards.preferences.pairs import comparisons_of, read_rows
from textgym.rollouts import Episodes

STORES = (".sqlite", ".sqlite3", ".db")
"""Endings of stores of judgements (:mod:`textgym.feedback`)."""

# The content of a message that finds the text which a chat template writes after it.
_MARK = "textgym0mark0"


class _Judgement(NamedTuple):
    """A row: its texts by their columns, and the values of `Judged`."""

    where: str
    prompt: Part
    texts: dict[str, Part]
    target: float
    margin: float
    weight: float


class _Text(NamedTuple):
    """Token ids of a prompt and its response, and the places of the agent's own tokens in them."""

    ids: NDArray[np.int32]
    own: Ints


def read_judged(source: str, settings: Settings) -> Judged:
    """Read pairs, or single texts with labels.

    Args:
        source: A .jsonl, .csv or .parquet file, ``"hf:NAME[:CONFIG][:SPLIT]"``, or the .sqlite file
            of a store of judgements.
        settings: The settings of the environment.

    Raises:
        DataError: If the file or a row cannot be read, or nothing is left to learn from.
        PromptError: If a prompt does not fit into the environment.
        SettingsError: If the environment shows pictures.
        StorageError: If a store cannot be read.
    """
    if settings.pictures is not None:
        raise SettingsError(
            f"--pairs {source}: {settings.name} is about pictures, which a file of texts does not "
            "hold; leave --pairs out, for texts of the policy that the reward judges"
        )
    encoder, known = _Encoder(settings), _Texts()
    columns: list[tuple[int, int, float, float, float, int]] = []
    left_out = dict.fromkeys(("without weight", "skipped for their prompt", "equal"), 0)
    rows = list(_judgements(source))
    for row in rows:
        found = encoder.encode(row) if row.weight else None
        if found is None:
            left_out["skipped for their prompt" if row.weight else "without weight"] += 1
            continue
        prompt, texts = found
        numbers = [known.number(text) for text in texts]
        if len(set(numbers)) < len(numbers):
            left_out["equal"] += 1
            continue
        first, second = (*numbers, -1)[:2]
        key = key_of(prompt, map(str, row.texts.values()))
        columns.append((first, second, row.target, row.margin, row.weight, key))
    if not columns:
        reasons = [f"{count} {why}" for why, count in left_out.items() if count]
        raise DataError(
            f"--pairs {source}: none of {len(rows)} rows can be learned from "
            f"({', '.join(reasons) or 'it is empty'}); give rows with a prompt that fits and two "
            "different texts, 'chosen' and 'rejected'"
        )
    _warn(source, settings, len(rows), left_out["skipped for their prompt"], encoder.cut)
    values = [np.array(column) for column in zip(*columns, strict=True)]
    target, margin, weight = (column.astype(np.float32) for column in values[2:5])
    judged = Judged(known.episodes(), values[0], values[1], target, margin, weight, values[5])
    return judged.compact()


def _judgements(source: str) -> Iterator[_Judgement]:
    """The judgements of a source, in its order."""
    rows, name = _rows(source)
    if len(rows) and is_labelled(rows[0]):
        for one in labelled_of(rows, name):
            text = {"completion": one.completion}
            yield _Judgement(one.where, one.prompt, text, one.label, 0.0, one.weight)
        return
    for pair in comparisons_of(rows, name):
        both = {"chosen": pair.chosen, "rejected": pair.rejected}
        numbers = (pair.preference, pair.margin, pair.weight)
        yield _Judgement(pair.where, pair.prompt, both, *numbers)


def _rows(source: str) -> tuple[Sequence[Any], str]:
    """The rows of a source, and its name for errors."""
    if source.endswith(STORES):
        store = Store(Path(source), create=False)
        try:
            return store.pairs(), f"the store {source}"
        finally:
            store.close()
    return read_rows(source)


def _warn(source: str, settings: Settings, rows: int, skipped: int, cut: int) -> None:
    if skipped:
        warnings.warn(
            f"--pairs {source}: {skipped} of {rows} rows are left out: their prompts have more "
            f"than max_prompt_tokens={settings.max_prompt_tokens} tokens (prompt_overflow='skip')",
            DataWarning,
            stacklevel=3,
        )
    if cut:
        warnings.warn(
            f"--pairs {source}: {cut} texts are longer than max_new_tokens="
            f"{settings.max_new_tokens}, and were cut where {settings.name} ends an episode; raise "
            "--max-new-tokens to learn all of them",
            DataWarning,
            stacklevel=3,
        )


class _Texts:
    """Different texts, numbered from 0."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], int] = {}
        self._texts: list[_Text] = []

    def number(self, text: _Text) -> int:
        """The number of a text, which is added if it is new."""
        key = (text.ids.tobytes(), text.own.tobytes())
        if key not in self._known:
            self._known[key] = len(self._texts)
            self._texts.append(text)
        return self._known[key]

    def episodes(self) -> Episodes:
        """All texts."""
        lengths = np.array([len(text.own) for text in self._texts], np.int64)
        actions = np.concatenate([text.ids[text.own] for text in self._texts])
        ends = np.concatenate([text.own for text in self._texts]) - 1
        sequences = SequenceBatch(
            padded([text.ids for text in self._texts]),
            torch.arange(len(lengths)).repeat_interleave(torch.from_numpy(lengths)),
            torch.from_numpy(ends),
        )
        return bare_texts(lengths, torch.from_numpy(actions).long(), sequences)


class _Encoder:
    """Writes prompts and texts as token ids.

    Args:
        settings: The settings of the environment.

    Attributes:
        cut: Number of texts that were longer than the environment's episodes.
    """

    def __init__(self, settings: Settings) -> None:
        self.cut = 0
        self._settings = settings
        self._prompts = PromptFitter(settings, cached=True)
        self._ending: list[int] = []
        if settings.stop_at_eos and settings.end_id is not None:
            self._ending = [settings.end_id]
        elif settings.stops:
            self._ending = settings.tokenizer.encode_continuation(settings.stops.stops[0])
        self._header = ""
        if settings.chat is not None:
            text = settings.chat.render([{"role": "user", "content": _MARK}])
            self._header = text.rpartition(_MARK)[2].strip()

    def encode(self, row: _Judgement) -> tuple[str, list[_Text]] | None:
        """The prompt as it is shown, and the texts behind it; None if the prompt is skipped.

        Raises:
            DataError: If the row cannot be shown or written in this environment.
            PromptError: If the prompt does not fit.
        """
        prompt = self._prompt(row)
        before = self._prompts.fit(row.where, prompt)
        if before is None:
            return None
        return prompt, [self._text(row, name, before) for name in row.texts]

    def _prompt(self, row: _Judgement) -> str:
        """The prompt as the environment shows it."""
        prompt, settings = row.prompt, self._settings
        if not prompt and not isinstance(prompt, str):
            raise DataError(f"{row.where} has no prompt; give it a column 'prompt'")
        if settings.chat is not None:
            # Prompts that were recorded from an environment are rendered already.
            if isinstance(prompt, str) and self._header and prompt.strip().endswith(self._header):
                return prompt
            try:
                return settings.chat.render(messages_of(prompt))
            except PromptError as error:
                raise DataError(f"{row.where}: {error}") from error
        if isinstance(prompt, str):
            return prompt
        if len(prompt) == 1 and prompt[0]["role"] == "user":
            return prompt[0]["content"]
        raise DataError(
            f"{row.where}: the prompt is a list of messages, but {no_template(settings.tokenizer)}"
        )

    def _text(self, row: _Judgement, column: str, before: list[int]) -> _Text:
        """A text behind its prompt."""
        where = f"{row.where}: {column!r}"
        ids, own = list(before), list[int]()
        turns = self._turns(where, row.texts[column])
        try:
            for turn, reply in zip_longest(turns[::2], turns[1::2]):
                written = self._written(turn, ids)
                own += range(len(ids), len(ids) + len(written))
                ids += written
                if reply is not None:
                    ids += self._reply(row.prompt, reply, ids[-1:])
        except (TokenizerError, PromptError) as error:
            raise DataError(f"{where}: {error}") from error
        end = len(before) + self._settings.max_new_tokens
        # A text that fills the budget has no room for its end, and needs none.
        self.cut += len(own) > 0 and own[-1] - len(self._ending) >= end
        own = [place for place in own if place < end]
        if not own:
            raise DataError(
                f"{where} is empty, and nothing ends texts here before their budget; give a text, "
                "or use stop_at_eos=True or stop=[...]"
            )
        return _Text(np.array(ids[: own[-1] + 1], np.int32), np.array(own, np.int64))

    def _turns(self, where: str, text: Part) -> list[str]:
        """The turns of a text: the agent's, with the other side's between them."""
        name, several = self._settings.name, self._settings.conversation is not None
        if isinstance(text, str):
            if several:
                raise DataError(
                    f"{where} is a string, which does not show the agent's turns, and {name} is "
                    "about conversations; give lists of messages, whose assistant is the agent"
                )
            return [text]
        roles = [message["role"] for message in text]
        if roles != [("assistant", "user")[at % 2] for at in range(len(roles))] or not (
            len(roles) % 2
        ):
            raise DataError(
                f"{where} has messages of the roles {', '.join(roles)}; the assistant's turns and "
                "the user's have to alternate, and the assistant has the first and the last one"
            )
        if len(roles) > 1 and not several:
            raise DataError(
                f"{where} has several turns of the assistant, and an episode of {name} has one; "
                "put the earlier turns into the prompt, or use an environment of conversations"
            )
        return [message["content"] for message in text]

    def _written(self, turn: str, before: list[int]) -> list[int]:
        """The tokens of a turn, up to the one with which the environment ends it."""
        settings = self._settings
        tokenizer, stops = settings.tokenizer, settings.stops
        ids = [*tokenizer.encode_continuation(turn), *self._ending]
        if settings.stop_at_eos:
            ends = [at for at, token in enumerate(ids, 1) if token in tokenizer.ends]
            ids = ids[: ends[0]] if ends else ids

        def stopped(count: int) -> bool:
            return stops.found_in(tokenizer.continuation(ids[:count], before))

        if stops:
            counts = range(1, len(ids) + 1)
            ids = ids[: bisect_left(counts, True, key=stopped) + 1]
        return ids

    def _reply(self, prompt: Part, reply: str, last: list[int]) -> list[int]:
        """The tokens between two turns of the agent, as the environment appends them."""
        settings = self._settings
        if settings.chat is None:
            return settings.tokenizer.encode_continuation(f"\nUser: {reply}\nAgent:")
        ends = settings.tokenizer.ends
        text = settings.chat.behind_reply(messages_of(prompt), reply)
        ids = settings.tokenizer.encode_continuation(text)
        # The template closes the agent's turn with the token that the agent has already written.
        return ids[1:] if ids[:1] and ids[0] in ends and last[:1] and last[0] in ends else ids
