"""The single environment: a batch of one row with the interface of ``gymnasium.Env``."""

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
    print_row,
    render_rows,
)
from textgym.envs.settings import resolve
from textgym.envs.state import State, batch_state, set_batch_state
from textgym.errors import ActionError, ResetNeededError, SettingsError, shown
from textgym.tokenization.writable import writable_tokens

_ALL = np.zeros(1, dtype=np.intp)


class TextGenEnv(gym.Env[Observation, np.integer[Any] | int]):
    """Text generation as a Markov decision process.

    ## Description
    The state is the text so far: a prompt and the response to it. An action appends one token of
    the vocabulary. When the text ends, a reward function scores it. The response is never tokenized
    again, only decoded.

    ## Observation Space
    ``Box(-1, V - 1, (max_prompt_tokens + max_new_tokens,), int32)``: token ids from the left,
    padded with -1. ``(obs >= 0).sum()`` is the length of the text. Within an episode tokens are
    only appended. If the task has pictures (`Task.image_shape`), the space is
    ``Dict(tokens=that Box, image=Box(0, 255, (3, H, W), uint8))``; the picture does not change
    within an episode.

    ## Action Space
    ``Discrete(V)``: V is the size of the tokenizer's vocabulary, added tokens included.

    ## Rewards
    0 until the episode ends, then the weighted sum of the reward's terms; ``dense`` or
    ``step_reward`` adds ``gamma * potential(text after) - potential(text before)`` to every step.

    ## Starting State
    A prompt drawn from ``prompts``. ``reset(seed=...)`` seeds the stream of prompts;
    ``reset(options={"prompt": "..."})``, ``{"row": {...}}`` or ``{"index": i}`` fixes the start.
    ``info`` has ``prompt`` (str) and ``prompt_tokens`` (int).

    ## Episode End
    The episode terminates, with the reason in ``info["finish_reason"]``, at the end-of-sequence
    token ("eos"), at a stop string ("stop"), or after ``max_new_tokens`` ("length"). ``info`` then
    also has ``response`` (without the eos token or stop string that ended it), ``reward_terms``
    (each term before weighting) and the row's other columns. The environment never truncates.

    ## Conversations
    If the task has several turns, eos (or a stop string) ends the agent's turn, and the tokens of
    the task's reply (:meth:`textgym.tasks.Task.reply`) are appended. This step pays the turn's
    reward, and ``info`` has ``turn`` (number of turns so far; 0 after ``reset``) and
    ``turn_reward``. The tokens of both sides count as new tokens. The episode ends when the task
    ends it ("task"), when a reply leaves no room for another turn ("context"), or within a turn
    ("length"). ``info`` then also has ``turns`` and ``replies``, the texts of both sides;
    ``response`` joins the agent's turns with newlines, and ``reward_terms`` has the sum of the
    turns' rewards.

    ## Arguments
    prompts: A list of strings or of dictionaries (``{"prompt": ..., "reference": ..., ...}``), a
        data frame or ``datasets.Dataset``, the path of a .txt, .jsonl, .csv or .parquet file,
        ``"hf:NAME[:CONFIG][:SPLIT]"``, ``"reasoning_gym:DATASET?OPTION=VALUE"`` or a data set of
        that package, a function of a numpy Generator that returns a dictionary, or a Task (an
        object, a class or an id); or several of these (``{"a.jsonl": 2, "hf:NAME": 1}``, or
        ``textgym.mix([...], weights=[...])``). None: the task's, or the built-in ones. Lists and
        files are checked and tokenized when the environment is made (of hub data sets with more
        than 100,000 rows that many, evenly spaced), so that invalid rows raise before training.
        Columns such as ``question`` or ``answer`` are copied to ``prompt`` or ``reference``.
    reward: A registered name, a function ``(prompts, completions, **columns) -> list[float]``, or a
        dictionary from either to its weight. None: the task's, also for a user's own prompts;
        without a task, the similarity to the reference, or the share of distinct bigrams without
        a reference.
    tokenizer: None (built-in), a list of words (a closed vocabulary; ``"<eos>"`` is appended if
        it has no eos and needs one), a path, a hub id, a ``tokenizers.Tokenizer``, or a
        transformers tokenizer.
    max_prompt_tokens, max_new_tokens: Maximal numbers of tokens. None: the task's, or 64.
    stop: Stop strings, which may span tokens.
    prompt_overflow: How to treat a prompt of more than ``max_prompt_tokens``: ``"error"`` raises,
        ``"left"`` or ``"right"`` truncates that side of the observation (``info["prompt"]`` and the
        reward's ``prompts`` are not truncated), ``"skip"`` draws another prompt.
    chat: Whether to render prompts with the tokenizer's chat template, generation prompt included:
        True (a string is one user message), False, or ``"auto"`` (if they are lists of messages, in
        a column ``prompt`` or ``messages``). ``info["prompt"]`` is the rendered text, and the
        column ``messages`` has the messages. In a conversation the template renders all turns.
    on_bad_row: How to treat invalid rows of lists, files and data sets (they cannot be read, have
        no prompt or one that cannot be tokenized, or lack what the task's reward needs):
        ``"error"`` raises, ``"skip"`` leaves them out, with a ``DataWarning`` that counts and names
        them.
    stop_at_eos: Whether eos ends the text. None: the task's, or True.
    split: ``"train"`` or ``"eval"``, if the task or the data has splits: a column ``split``, or the
        splits of a hub data set.
    eval_share: If rows have no splits, the share of prompts held out for ``split="eval"``, selected
        by a hash; pass the same share to both environments. None: there is no ``"eval"`` split.
    level: The difficulty of a built-in task.
    group_size: 1; other sizes are for the batch, ``gymnasium.make_vec``.
    dense: Whether to shape the reward with the task's own potential of unfinished texts
        (:meth:`textgym.tasks.Task.potential`), so that a part of the reward is paid after each
        sentence, token or turn. The best policy is the same, and so is the sum of an episode's
        rewards, less the potential of the empty text. Tasks that define none raise.
    step_reward: A potential function over partial texts, with a reward's signature
        (potential-based shaping, Ng et al. 1999; the potential after the end is 0).
    step_reward_gamma: The discount factor of either shaping, 0 to 1; use the agent's.
    costs: ``{"name": function}`` with a reward's signature. Their sum is ``info["cost"]`` in every
        step (0 before the end), and ``info["cost_terms"]`` has each of them. None: the task's;
        ``{}``: none.
    render_mode: ``"ansi"`` (a string), ``"human"`` (printed at every step) or ``"rgb_array"`` (an
        image, uint8 ``[H, W, 3]``).
    task: Id of the registered task that has the default prompts, reward and budgets; the ids
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

    # An instance variable in Gymnasium's class.
    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 8}  # noqa: RUF012

    @takes(Arguments)
    def __init__(self, arguments: Arguments) -> None:
        self.settings = resolve(arguments)
        name = self.settings.name
        if whole(name, "group_size", arguments.group_size, least=1) != 1:
            raise SettingsError(
                f"{name}: group_size={shown(arguments.group_size)} needs a batch; use "
                "gymnasium.make_vec(..., num_envs=N), or group_size=1"
            )
        self.tokenizer = self.settings.tokenizer
        self.render_mode = check_render_mode(name, arguments.render_mode)
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
            seed: Seeds the stream of prompts; None continues it.
            options: ``{"prompt": "..."}``, ``{"row": {...}}`` or ``{"index": i}`` fixes the start.

        Returns:
            The observation ``[L]`` int32, and ``info`` with ``prompt`` and ``prompt_tokens``.

        Raises:
            TextGymError: If seed or options are invalid, or the prompt does not fit; nothing
                changes.
        """
        (info,) = self._batch.reset([0], [seed], options)
        self._update_np_random()
        self._over = False
        if self.render_mode == "human":
            print_row(self._batch, 0)
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
            ActionError: If the action is not a token id; nothing changes.
            RewardError: If a reward function fails; nothing changes.
            ResetNeededError: If the episode is over, or before the first ``reset``.
        """
        if self._over:
            raise ResetNeededError(
                f"{self.settings.name}: the episode is over, or has not started; call reset()"
            )
        checked = check_actions(self._batch, self._as_batch(action), _ALL)
        outcome = self._batch.step(checked, _ALL)
        self._over = bool(outcome.terminated[0])
        info = outcome.infos[0] if outcome.infos else {}
        if self.settings.costs is not None:
            info.setdefault("cost", 0.0)
        if self.render_mode == "human":
            print_row(self._batch, 0)
        return observe(self._batch, 0), float(outcome.rewards[0]), self._over, False, info

    def get_state(self) -> State:
        """The whole state, the current episode included.

        See :meth:`textgym.envs.TextGenVectorEnv.get_state`. It does not include the state of the
        wrappers that ``gymnasium.make`` adds (whether ``reset`` was called, the count of a step
        limit): call ``env.unwrapped.get_state()``, and ``env.reset()`` before
        ``env.unwrapped.set_state(state)``.

        Raises:
            DataError: If the data row has a column that JSON cannot represent.
        """
        return batch_state(self._batch, np.array([self._over]), begun=True)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_state`; nothing changes if an error is raised.

        Raises:
            SettingsError: If the state is damaged, or of an environment with other arguments.
        """
        over, _ = set_batch_state(self._batch, state)
        self._over = bool(over[0])
        self._update_np_random()

    def action_masks(self) -> NDArray[np.bool_]:
        """A mask of the tokens, bool ``[V]``, False for special tokens other than eos.

        sb3-contrib's ``MaskablePPO`` uses it; ``step`` accepts any token.
        :class:`textgym.wrappers.ActionMasks` masks more.
        """
        return writable_tokens(self.tokenizer)

    def render(self) -> Frame | list[Frame] | None:  # type: ignore[override]
        """The text as a string ("ansi") or an image ("rgb_array"); None for "human"."""
        frames = render_rows(self._batch, self.render_mode)
        return None if frames is None else frames[0]

    def _update_np_random(self) -> None:
        """Set Gymnasium's attributes for the generator and the seed."""
        streams = self._batch.streams
        self._np_random = streams.rngs[0]
        self._np_random_seed = -1 if streams.seeds[0] is None else streams.seeds[0]

    def _as_batch(self, action: Any) -> Any:
        """An action as an array of one element, which SB3 passes."""
        try:
            array = np.asarray(action)
        except ValueError:  # Ragged lists, which the batch refuses.
            return action
        if array.ndim > 1 or array.size != 1:
            raise ActionError(
                f"{self.settings.name}: the action {shown(action)} has shape {array.shape}; "
                "an action is one token id"
            )
        return array.reshape(1)
