"""Random constructions and uses of the environments, for ``test_fuzz.py``.

Each argument is drawn from a pool of right, unusual and wrong values. The generator is seeded, so a
failure is reproduced by its number alone.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np

from textgym.errors import TextGymError

WORDS = ["the", "cat", "sat", "ran", "<eos>"]
ROWS = [{"prompt": "the cat", "reference": "sat"}, {"prompt": "the", "reference": "ran"}]


def _reward(completions: list[str]) -> list[float]:
    return [float(len(text)) for text in completions]


def _raising(completions: list[str]) -> list[float]:
    raise KeyError("broken")


def _odd_row(rng: np.random.Generator) -> dict[str, Any]:
    return {"prompt": "the", "id": int(rng.integers(9))}


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no representation")


_CYCLE: list[Any] = []
_CYCLE.append(_CYCLE)

ODD: list[Any] = [
    None, True, False, np.True_, np.False_, 0, 1, -1, 2, 3, 7, 2**31, 2**31 - 1, 2**40, 2**63,
    2**64, 10**400, -(10**400), 10**5000, np.int64(3), np.int8(2), np.uint8(200), np.uint64(2**64
    - 1), np.float32(0.5), np.float64(1.0), 0.5, 1.0, -0.0, 1e300, float("nan"), float("inf"), 1j,
    Decimal(1), Fraction(1, 2), "", "3", "the", "the cat", "TextGen-v0", "eval", "distinct",
    "\ud800", "\x00", "a" * 5000, b"", b"the", bytearray(b"x"), [], [1], [None], ["the"], ["the",
    "cat"], [["the"]], [[1], [2, 3]], (), ("the",), {}, {"a": 1}, {"prompt": "the"}, {"distinct":
    1.0}, {1: 2}, {None: None}, set(), {"the"}, frozenset(), range(3), iter([1]), np.array([1,
    2]), np.array(1), np.array(True), np.array([True, False]), np.array([]), np.array([[1]]),
    np.array(["a"]), np.array([None]), np.array("the"), np.zeros((2, 2)),
    np.datetime64("2020-01-01"), object(), int, len, _reward, lambda: None, Ellipsis,
    NotImplemented, slice(3), memoryview(b"a"), _Unprintable(), _CYCLE, ValueError("x"),
    gym.spaces.Discrete(3), np.nan, np.str_("the"), [np.int64(1), np.int64(2)], [{"prompt": 3}],
    [{"prompt": "the"}, {"prompt": None}], {"prompt": ["the", "cat"]},
]  # fmt: skip


VALID: dict[str, list[Any]] = {
    "prompts": [["the cat", "the"], ROWS, _odd_row, "reasoning_gym:chain_sum", "TextGen/QA-v0",
                ("the", "cat"), [{"question": "the", "answer": "cat"}], {"a": ["the"]}],
    "reward": ["distinct", _reward, _raising, {"distinct": 1.0}, {"distinct": 10**400}, "rouge",
               {"distinct": True}, {"distinct": "1"}, {"distinct": None}, {"distinct": [1]},
               {"distinct": float("nan"), "length": np.float32(0.5)}, {"distinct": np.int64(2)},
               {_reward: np.float32(1)}, lambda prompts, completions: [0.0] * len(completions)],
    "tokenizer": [None, WORDS, tuple(WORDS), ["a", "b"], "textgym/tiny", "textgym/tinny"],
    "max_prompt_tokens": [0, 1, 2, 8, 64, np.int64(3), np.uint8(200)],
    "max_new_tokens": [1, 2, 4, 8, np.int64(3), np.int16(4)],
    "stop": [None, [], ["cat"], ("\n", "sat"), np.array(["a", "b"]), ["", "a"], ["a" * 3000]],
    "prompt_overflow": ["error", "left", "right", "skip", "lefft", np.str_("left")],
    "stop_at_eos": [None, True, False, np.True_, np.False_, 0, 1],
    "split": ["train", "eval", "test", np.str_("eval")],
    "level": [None, 1, 2, 3, np.int64(1), 99],
    "group_size": [1, 2, np.int64(2), np.int64(1)],
    "dense": [False, True, np.True_, 0, 1],
    "step_reward": [None, "distinct", _reward],
    "step_reward_gamma": [1.0, 0.9, 0, 1, np.float32(0.5), np.int64(1)],
    "costs": [None, {}, {"length": _reward}, {"a": "distinct"}, {1: _reward}, {"": _reward}],
    "render_mode": [None, "ansi", "rgb_array"],
    "task": ["TextGen/QA-v0", "TextGen/Nothing-v0"],
}  # fmt: skip
BATCH: dict[str, list[Any]] = {
    "num_envs": [1, 2, 3, 4, np.int64(2), np.uint8(4)],
    "autoreset_mode": ["NextStep", "SameStep", "Disabled", *gym.vector.AutoresetMode, "Same"],
    "max_episode_steps": [None, 1, 3, np.int64(2)],
}
UNKNOWN = ["prompt", "rewards", "max_new_token", "seed", "n_envs", "env_kwargs", "zzz", "self_"]
IDS = ["TextGen-v0", "TextGen-v0", "TextGen/QA-v0", "TextGen/GoodBad-v0", "TextGen/Dialogue-v0",
       "TextGen/Sentiment-v0", "TextGen/Caption-v0", "TextGen/Risk-v0"]  # fmt: skip
OPTIONS = ["prompt", "row", "index", "reset_mask", "promt", 3, None]


class HangError(Exception):
    """A call took too long."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `HangError` if the block takes longer (main thread only)."""

    def expire(signum: int, frame: FrameType | None) -> None:
        raise HangError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Construction:
    """A random environment and its use, determined by a number."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        self.batch = self.rng.random() < 0.5
        self.id = self.rng.choice(IDS)
        self.calls: list[Any] = []
        pools = VALID | (BATCH if self.batch else {})
        names = self.rng.sample(sorted(pools), self.rng.randint(0, 5))
        self.kwargs = {name: self._value(pools[name]) for name in names}
        if not self.batch and not isinstance(self.kwargs.get("render_mode"), str):
            # Gymnasium calls a string's method on it before the environment is reached.
            self.kwargs.pop("render_mode", None)
        if self.rng.random() < 0.3:
            self.kwargs.setdefault("tokenizer", WORDS)
            self.kwargs.setdefault("prompts", ROWS)
        self.kwargs.setdefault("max_new_tokens", 3)
        if self.batch:
            self.kwargs.setdefault("num_envs", 2)
        if self.rng.random() < 0.05:
            self.kwargs[self.rng.choice(UNKNOWN)] = self.rng.choice(ODD)
            # Gymnasium puts all arguments into the message.
            self.kwargs = {name: value for name, value in self.kwargs.items() if _has_repr(value)}

    def _value(self, pool: list[Any], odd: float = 0.25) -> Any:
        return self.rng.choice(ODD if self.rng.random() < odd else pool)

    def _attempt(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """The result, or an error of textgym; other errors are raised."""
        self.calls.append((getattr(function, "__name__", function), args, kwargs))
        try:
            return function(*args, **kwargs)
        except TextGymError as error:
            if not 0 < len(str(error)) < 3000:
                raise AssertionError("a message that nobody can read") from error
            return error

    def run(self) -> str:
        """Make the environment and use it; returns "refused" or "used"."""
        make = gym.make_vec if self.batch else gym.make
        env = self._attempt(make, self.id, **self.kwargs)
        if isinstance(env, TextGymError):
            return "refused"
        fresh = self._attempt(env.reset, seed=0)
        for _ in range(self.rng.randint(1, 6)):
            result = self._use(env)
            if isinstance(result, TextGymError):
                self._same(fresh, self._attempt(env.reset, seed=0))
        env.close()
        return "used"

    def _use(self, env: Any) -> Any:
        kind = self.rng.random()
        if kind < 0.3:
            return self._attempt(env.reset, seed=self._seed(env), options=self._options(env))
        if kind < 0.35:
            return self._attempt(env.unwrapped.set_state, self._state(env))
        if kind < 0.4:
            return self._attempt(env.unwrapped.render)
        return self._attempt(env.step, self._action(env))

    def _seed(self, env: Any) -> Any:
        rows = getattr(env, "num_envs", 1)
        return self._value([None, 0, 5, np.int64(3), 2**70, [1] * rows, np.arange(rows)])

    def _options(self, env: Any) -> Any:
        if self.rng.random() < 0.3:
            return self.rng.choice(ODD)
        values: list[Any] = [
            "the",
            {"prompt": "the cat"},
            0,
            1,
            np.int64(1),
            ["the", "cat"],
            [0, 1],
        ]
        values += [np.array([True, False]), np.array([0, 1]), [{"prompt": "the"}, None]]
        return {
            self.rng.choice(OPTIONS): self._value(values) for _ in range(self.rng.randint(0, 2))
        }

    def _state(self, env: Any) -> Any:
        """A state with one damaged value, or another object."""
        state = self._attempt(env.unwrapped.get_state)
        if isinstance(state, TextGymError) or self.rng.random() < 0.2:
            return self.rng.choice(ODD)
        place: Any = state
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = self.rng.choice(keys)
            inner = place[key]
            if not isinstance(inner, (dict, list)) or not inner or self.rng.random() < 0.3:
                break
            place = inner
        if isinstance(place, dict) and self.rng.random() < 0.2:
            del place[key]
        else:
            place[key] = self.rng.choice([*ODD, -1, 10**6, np.full_like(inner, 10**6)])
        return state

    def _action(self, env: Any) -> Any:
        if self.rng.random() < 0.25:
            return self.rng.choice(ODD)
        env.action_space.seed(self.rng.randrange(2**31))
        return env.action_space.sample()

    @staticmethod
    def _same(first: Any, second: Any) -> None:
        """Check that a reset after an error is the same as the first one."""
        if isinstance(first, TextGymError):
            assert type(first) is type(second), (first, second)
            return
        for a, b in zip(_leaves(first[0]), _leaves(second[0]), strict=True):
            np.testing.assert_array_equal(a, b)

    def __repr__(self) -> str:
        """The calls in order, for the message of a failure."""
        shown = []
        for name, args, kwargs in self.calls:
            try:
                shown.append(f"{name}{args!r:.300} {kwargs!r:.1500}")
            except Exception:
                shown.append(f"{name}(something that has no representation)")
        return "\n".join(shown)


def _has_repr(value: Any) -> bool:
    try:
        repr(value)
    except Exception:
        return False
    return True


def _leaves(observation: Any) -> list[Any]:
    return list(observation.values()) if isinstance(observation, dict) else [observation]
