"""The single environment: a batch of one behind ``gymnasium.Env``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from textgym.data.observations import Observation
from textgym.envs.arguments import Arguments, check_memory, takes, whole
from textgym.envs.batch import TextBatch
from textgym.envs.observations import check_actions, observation_space, observe
from textgym.envs.rendering import (
    RENDER_MODES,
    Frame,
    check_render_mode,
    frame,
    prompt_and_response,
    show,
)
from textgym.envs.settings import resolve
from textgym.envs.state import State, batch_state, set_batch_state
from textgym.errors import ActionError, ResetNeededError, SettingsError, shown
from textgym.tokenization.writable import writable_tokens

_ALL = np.zeros(1, dtype=np.intp)


class TextGenEnv(gym.Env[Observation, np.integer[Any] | int]):
    """Text generation as a Markov decision process.

    ## Description
    The state is the text so far: a prompt and what was written after it. An action is one token of
    the vocabulary, which is appended. When the text ends, a reward function judges it. Nothing is
    ever tokenized again: token in, token out.

    ## Observation Space
    ``Box(-1, V - 1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids from the left, -1
    where nothing is written yet. ``(obs >= 0).sum()`` is the length of the text. Within an episode
    an observation only ever grows. Where the task shows a picture (`Task.image_shape`), it is
    ``Dict(tokens=that Box, image=Box(0, 255, (3, H, W), uint8))``; the picture stays what it is
    within an episode.

    ## Action Space
    ``Discrete(V)``: V is the size of the tokenizer's whole vocabulary, added tokens included.

    ## Rewards
    0 until the episode ends, then the weighted sum of the reward's terms; ``step_reward`` adds
    ``gamma * potential(text after) - potential(text before)`` to every step.

    ## Starting State
    A prompt drawn from ``prompts``. ``reset(seed=...)`` seeds the stream of prompts;
    ``reset(options={"prompt": "..."})``, ``{"row": {...}}`` or ``{"index": i}`` fixes the start.
    ``info`` has ``prompt`` (str) and ``prompt_tokens`` (int).

    ## Episode End
    Termination, with its name in ``info["finish_reason"]``: the end-of-sequence token ("eos"), a
    stop string ("stop"), or the budget of new tokens is spent ("length"). ``info`` then also has
    ``response`` (the text without the eos token or stop string that ended it), ``reward_terms``
    (each term before weighting) and the row's own columns. The environment itself never truncates.

    ## Conversations
    Where the task has several turns, eos (or a stop string) ends the agent's turn: the task answers
    (:meth:`textgym.tasks.Task.reply`), its tokens are appended, and the agent goes on. That step
    pays the turn's reward, and ``info`` has ``turn`` (turns so far; 0 after ``reset``) and
    ``turn_reward``. Both sides' tokens count as new tokens. The episode ends when the task says so
    ("task"), when an answer leaves no room for another turn ("context"), or in mid-turn ("length").
    Then ``info`` also has ``turns`` and ``replies``, the two sides' texts; ``response`` is all that
    the agent wrote, a line a turn, and ``reward_terms`` has the sum of the turns' rewards.

    ## Arguments
    prompts: A list of strings or of dictionaries (``{"prompt": ..., "reference": ..., ...}``), a
        data frame or ``datasets.Dataset``, the path of a .txt, .jsonl, .csv or .parquet file,
        ``"hf:NAME[:CONFIG][:SPLIT]"``, ``"reasoning_gym:DATASET?OPTION=VALUE"`` or a data set of
        that package, a function of a numpy Generator that returns a dictionary, or a Task (an
        object, a class or an id); or several of these (``{"a.jsonl": 2, "hf:NAME": 1}``, or
        ``textgym.mix([...], weights=[...])``). None: the task's, or the built-in ones. Lists and
        files are looked at whole when the environment is made (of data sets of the hub with more
        than 100,000 rows so many, evenly spread), and their prompts are tokenized, so that what is
        wrong with a row shows before training. A column such as ``question`` or ``answer``
        keeps its name, and is also there as ``prompt`` or ``reference``.
    reward: A registered name, a function ``(prompts, completions, **columns) -> list[float]``, or a
        dictionary of either to its weight. None: the task's, also for a user's own prompts; without
        a task, similarity to the reference, or the share of distinct bigrams where there is none.
    tokenizer: None (built-in), a list of words (a closed vocabulary, ``"<eos>"`` is appended if
        it has no eos and needs one), a path, a hub id, a ``tokenizers.Tokenizer``, or a
        transformers tokenizer.
    max_prompt_tokens, max_new_tokens: The budgets; None: the task's, or 64.
    stop: Stop strings, which may span tokens.
    prompt_overflow: What to do with a prompt of more than ``max_prompt_tokens``: ``"error"``;
        ``"left"`` or ``"right"`` cuts that side off (of what the policy reads: ``info["prompt"]``
        and the reward's ``prompts`` keep the whole one); ``"skip"`` takes another prompt.
    chat: Whether the tokenizer's chat template renders the prompts, generation prompt included:
        True (a string is one message of the user), False, or ``"auto"``: if they are lists of
        messages (a column ``prompt`` or ``messages``). ``info["prompt"]`` is the rendered text, and
        the messages are the column ``messages``. In a conversation the template writes the turns.
    on_bad_row: What to do with rows of lists, files and data sets that cannot be used (they cannot
        be read, have no prompt or one that cannot be tokenized, or lack what the task's score
        needs): ``"error"``; ``"skip"`` leaves them out, with a ``DataWarning`` that counts and
        names them.
    stop_at_eos: False makes eos a token like any other. None: the task's, or True.
    split: ``"train"`` or ``"eval"``, where the task or the data has them: rows by their column
        ``split``, a data set of the hub by its own splits.
    eval_share: Where rows have no such split, hold this share of the prompts out for
        ``split="eval"``, by a hash: give both environments the same. None: all rows are for
        training, and there is no ``"eval"`` split.
    level: A built-in task's difficulty.
    group_size: 1; other sizes are for the batch, ``gymnasium.make_vec``.
    step_reward: A potential function over partial texts, with a reward's signature
        (potential-based shaping, Ng et al. 1999; the potential after the end counts as 0).
    step_reward_gamma: The discount factor of that shaping, 0 to 1; use the agent's.
    costs: ``{"name": function}`` with a reward's signature: their sum is ``info["cost"]`` in every
        step (0 before the end), each one is in ``info["cost_terms"]``. None: the task's, if it has
        any; ``{}``: none.
    render_mode: ``"ansi"`` (the text as a string), ``"human"`` (printed as it is written) or
        ``"rgb_array"`` (an image of the text, uint8 ``[H, W, 3]``).
    task: Id of the registered task whose prompts, reward and budgets are the defaults; the ids
        ``TextGen/...`` set it.

    ## Version History
    v0: First version.

    Example:
        >>> import gymnasium, textgym
        >>> env = gymnasium.make(
        ...     "TextGen-v0",
        ...     prompts=["the cat"],
        ...     tokenizer=["the", "cat", "sat", "ran", "<eos>"],
        ...     reward=lambda completions: [text.count("sat") for text in completions],
        ... )
        >>> obs, info = env.reset(seed=1)
        >>> obs[:4], info["prompt"]
        (array([ 0,  1, -1, -1], dtype=int32), 'the cat')
        >>> obs, reward, terminated, truncated, info = env.step(2)
        >>> obs, reward, terminated, truncated, info = env.step(4)
        >>> reward, terminated, info["response"], info["finish_reason"]
        (1.0, True, 'sat', 'eos')
    """

    # An instance variable in Gymnasium's own class.
    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 8}  # noqa: RUF012

    @takes(Arguments)
    def __init__(self, given: Arguments) -> None:
        self.settings = resolve(given)
        name = self.settings.name
        if whole(name, "group_size", given.group_size, least=1) != 1:
            raise SettingsError(
                f"{name}: group_size={shown(given.group_size)} needs a batch; use "
                "gymnasium.make_vec(..., num_envs=N), or group_size=1 here"
            )
        self.tokenizer = self.settings.tokenizer
        self.render_mode = check_render_mode(name, given.render_mode)
        check_memory(name, 1, self.settings.width, self.settings.image_shape)
        size = self.tokenizer.vocab_size
        self.observation_space = observation_space(self.settings)
        self.action_space = gym.spaces.Discrete(size)
        self._batch = TextBatch(1, self.settings)
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the stream of prompts; None goes on with the present one.
            options: ``{"prompt": "..."}``, ``{"row": {...}}`` or ``{"index": i}`` fixes the start.

        Returns:
            The observation ``[L]`` int32, and ``info`` with ``prompt`` and ``prompt_tokens``.

        Raises:
            TextGymError: If seed or options are wrong, or the prompt does not fit; the episode and
                the stream of prompts go on as they were.
        """
        (info,) = self._batch.reset([0], [seed], options)
        self._remember_seed()
        self._over = False
        if self.render_mode == "human":
            self._show()
        return observe(self._batch, 0), info

    def step(
        self, action: np.integer[Any] | int
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Append one token.

        Args:
            action: A token id.

        Returns:
            Observation ``[L]`` int32, reward, terminated, truncated (never), and ``info``.

        Raises:
            ActionError: If the action is no token id; nothing changes.
            RewardError: If a reward function fails; nothing changes.
            ResetNeededError: If the episode is over or never began.
        """
        if self._over:
            raise ResetNeededError(
                f"{self.settings.name}: the episode is over, or never began; call reset()"
            )
        checked = check_actions(self._batch, self._as_batch(action), _ALL)
        outcome = self._batch.step(checked, _ALL)
        self._over = bool(outcome.terminated[0])
        info = outcome.infos[0] if outcome.infos else {}
        if self.settings.costs is not None:
            info.setdefault("cost", 0.0)
        if self.render_mode == "human":
            self._show()
        return observe(self._batch, 0), float(outcome.rewards[0]), self._over, False, info

    def get_state(self) -> State:
        """Everything that the environment's future depends on, the episode under way included.

        As for :meth:`textgym.envs.TextGenVectorEnv.get_state`. The wrappers that
        ``gymnasium.make`` adds hold state of their own, which is not part of it (whether ``reset``
        was called, a step limit's count): call ``env.unwrapped.get_state()``, and ``env.reset()``
        before ``env.unwrapped.set_state(state)``.

        Raises:
            DataError: If the row of prompts has a column that JSON cannot hold.
        """
        return batch_state(self._batch, np.array([self._over]), begun=True)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`; nothing changes if an error is raised.

        Raises:
            SettingsError: If it is another environment's, or damaged; the message names what
                differs.
        """
        over, _ = set_batch_state(self._batch, state)
        self._over = bool(over[0])
        self._remember_seed()

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens may be written: bool ``[V]``, True for text and eos.

        Other special tokens (padding, unknown, ...) are masked. sb3-contrib's ``MaskablePPO`` asks
        for this; ``step`` takes any token. :class:`textgym.wrappers.masks.ActionMasks` masks more.
        """
        return writable_tokens(self.tokenizer)

    def render(self) -> Frame | list[Frame] | None:  # type: ignore[override]
        """The text as a string ("ansi") or an image ("rgb_array"); None in the mode "human"."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() was called without a render mode; make the environment with "
                "render_mode='ansi', 'human' or 'rgb_array'"
            )
            return None
        if self.render_mode == "human":
            return None
        return frame(self.render_mode, *prompt_and_response(self._batch, 0))

    def _remember_seed(self) -> None:
        """Keep Gymnasium's own record of the generator and the seed."""
        streams = self._batch.streams
        self._np_random = streams.rngs[0]
        self._np_random_seed = -1 if streams.seeds[0] is None else streams.seeds[0]

    def _as_batch(self, action: Any) -> Any:
        """An action as an array of one; SB3 hands over arrays of one already."""
        try:
            array = np.asarray(action)
        except ValueError:  # Nested lists of different lengths, which the batch refuses.
            return action
        if array.ndim > 1 or array.size != 1:
            raise ActionError(
                f"{self.settings.name}: the action {shown(action)} has shape {array.shape}; "
                "an action is one token id"
            )
        return array.reshape(1)

    def _show(self) -> None:
        show(*prompt_and_response(self._batch, 0))
