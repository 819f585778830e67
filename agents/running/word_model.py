"""The language model that training starts from: a given one, or a new one for a closed vocabulary.

No pretrained model has the tokens of a closed vocabulary (``tokenizer=["good", "bad"]``). Training
then starts from a small GPT-2 with random weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from textgym.tokenization import TINY, WordTokenizer

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

WORD_MODELS = "word-models"
"""Name of the folder of these models."""


def starting_model(venv: VecEnv, lm: str | None, seed: int, out: Path) -> str:
    """The name of the language model that an agent starts from, which is created if necessary.

    Args:
        venv: The agent's environment.
        lm: The name that the user gave; None for ``"textgym/tiny"``, or for a new model of the
            words of a closed vocabulary.
        seed: Seed of a new model's weights.
        out: A new model is written to a subfolder of this one, or found there.

    Returns:
        A name or path for `textgym.sb3.LMPolicy`.
    """
    if lm is not None:
        return lm
    (tokenizer,) = set(venv.get_attr("tokenizer"))
    if not isinstance(tokenizer, WordTokenizer):
        return TINY
    assert venv.observation_space.shape is not None
    width = venv.observation_space.shape[0]
    # The name has everything that the weights depend on, so equal names are equal models.
    name = f"{tokenizer.vocab_size}-words-{tokenizer.content_hash()}-{width}-seed{seed}"
    # Absolute, so that a saved agent finds its model from any folder.
    folder = (out / WORD_MODELS / name).resolve()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "model"
            write_word_model(tokenizer, width, seed, made)
            try:
                made.rename(folder)
            except OSError:  # Another run has written the same model.
                if not folder.is_dir():
                    raise
    return str(folder)


def write_word_model(words: WordTokenizer, width: int, seed: int, folder: Path) -> None:
    """Write a GPT-2 with about 100,000 random weights, and a word-level tokenizer.

    Args:
        words: The vocabulary; the model has the same ids.
        width: Longest text in tokens.
        seed: Seed of the weights. Global random state is not touched.
        folder: The folder of the checkpoint.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from textgym.lm.loading.files import no_progress_bars

    vocabulary = {word: index for index, word in enumerate(words.words)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=""))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    eos = None if words.eos_id is None else words.words[words.eos_id]
    config = GPT2Config(
        vocab_size=words.vocab_size,
        n_positions=width,
        n_embd=64,
        n_layer=2,
        n_head=2,
        # The start of an empty text has to be a token.
        bos_token_id=words.eos_id or 0,
        eos_token_id=words.eos_id,
        # Tied, a random model would repeat its last word.
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos)  # type: ignore[no-untyped-call]
    with no_progress_bars():
        model.save_pretrained(folder)
    fast.save_pretrained(folder)
