"""The tokenizer of textgym/tiny."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from textgym.pretrain.documents import HARD, Proportions, draw_documents
from textgym.pretrain.settings import TrainSettings

EOS = "<|endoftext|>"

_STREAM = 0
"""The first word of the documents' seed."""

_WORD = r"'s| ?\p{Han}| ?[\p{L}&&[^\p{Han}]]+| ?\d| ?[^\s\p{L}\d]+|\s+"
"""What the tokenizer may not merge across: Chinese characters and digits stand alone."""


def train_tokenizer(settings: TrainSettings) -> Tokenizer:
    """Train a byte-level BPE tokenizer, which can encode every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = draw_documents(
        [_STREAM, settings.seed], Proportions(favoured=HARD, weight=settings.hard)
    )
    count = settings.tokenizer_documents
    tokenizer.train_from_iterator(
        ("".join(text.pieces) for _, text in zip(range(count), texts, strict=False)), trainer
    )
    return tokenizer
