"""Small random checkpoints of the common tokenizer families."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import GenerationConfig

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_LLAMA = {**_SMALL, "intermediate_size": 32, "num_key_value_heads": 1}
_ENCODER_DECODER = {"d_model": 16, "decoder_start_token_id": 0}
_BART = {
    **_ENCODER_DECODER,
    **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 32 for side in ("encoder", "decoder")},
}
_T5 = {**_ENCODER_DECODER, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}

CONTEXT = 4096


def byte_level(texts: Iterable[str], special: list[str], split: str | None = None) -> Tokenizer:
    """GPT-2's kind; Qwen's and Llama 3's with their own expression."""
    backend = Tokenizer(models.BPE())
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    if split is None:
        backend.pre_tokenizer = cut
    else:
        backend.normalizer = normalizers.NFC()
        first = pre_tokenizers.Split(Regex(split), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([first, cut])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def sentencepiece_bpe(texts: Iterable[str], prefix: bool) -> Tokenizer:
    """Llama 2's kind (the first word is marked), and Gemma's (it is not)."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    scheme = "always" if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, initial_alphabet=["▁"], show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    state = json.loads(backend.to_str())
    state.update(added_tokens=state["added_tokens"][:3], pre_tokenizer=None)
    backend = Tokenizer.from_str(json.dumps(state))
    marks = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*marks, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return framed(backend, "<s> $A")


def unigram(texts: Iterable[str]) -> Tokenizer:
    """T5's kind."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return framed(backend, "$A </s>")


def framed(backend: Tokenizer, single: str) -> Tokenizer:
    """A tokenizer that adds special tokens around texts."""
    names = [name for name in ("<s>", "</s>") if backend.token_to_id(name) is not None]
    backend.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, backend.token_to_id(name)) for name in names]
    )
    return backend


def phi(texts: Iterable[str]) -> Tokenizer:
    """GPT-2's, with runs of spaces added as tokens."""
    backend = byte_level(texts, ["<|endoftext|>"])
    runs = [AddedToken(" " * count, normalized=True) for count in range(8, 1, -1)]
    backend.add_tokens([*runs, AddedToken("\t\t", normalized=True)])
    return backend


Build = Callable[[list[str]], Tokenizer]
_ENDED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}

FAMILIES: dict[str, tuple[Build, dict[str, Any], str, dict[str, Any]]] = {
    # Tokenizer, its configuration, the model's class of configuration, and its sizes.
    "gpt2": (
        lambda texts: byte_level(texts, ["<|endoftext|>"]),
        {"tokenizer_class": "GPT2Tokenizer", **_GPT2},
        "GPT2Config",
        {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": CONTEXT},
    ),
    "opt": (
        lambda texts: byte_level(texts, ["<s>", "<pad>", "</s>"]),
        {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>",
         "pad_token": "<pad>", "add_bos_token": True},
        "OPTConfig",
        {**_SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16},
    ),
    "llama2": (
        lambda texts: sentencepiece_bpe(texts, prefix=True),
        {"tokenizer_class": "LlamaTokenizer", **_ENDED},
        "LlamaConfig",
        _LLAMA,
    ),
    "mistral": (
        lambda texts: sentencepiece_bpe(texts, prefix=True),
        {"tokenizer_class": "PreTrainedTokenizerFast", **_ENDED},
        "MistralConfig",
        _LLAMA,
    ),
    "llama3": (
        lambda texts: framed(byte_level(texts, ["<s>", "</s>", "<|eot|>"], _QWEN), "<s> $A"),
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"},
        "LlamaConfig",
        _LLAMA,
    ),
    "gemma": (
        lambda texts: sentencepiece_bpe(texts, prefix=False),
        {"tokenizer_class": "PreTrainedTokenizerFast", **_ENDED},
        "GemmaConfig",
        {**_LLAMA, "head_dim": 8},
    ),
    "qwen": (
        lambda texts: byte_level(texts, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], _QWEN),
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>",
         "pad_token": "<|endoftext|>"},
        "Qwen2Config",
        _LLAMA,
    ),
    "phi": (
        phi,
        {"tokenizer_class": "CodeGenTokenizer", **_GPT2},
        "PhiConfig",
        {**_SMALL, "intermediate_size": 32},
    ),
    "t5": (
        unigram,
        {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "unk_token": "<unk>",
         "pad_token": "<pad>", "extra_ids": 0},
        "T5Config",
        _T5,
    ),
    "mt5": (
        unigram,
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>",
         "pad_token": "<pad>"},
        "MT5Config",
        _T5,
    ),
    "bart": (
        lambda texts: framed(
            byte_level(texts, ["<s>", "<pad>", "</s>", "<unk>"]), "<s> $A </s>"
        ),
        {"tokenizer_class": "BartTokenizer", **_ENDED, "pad_token": "<pad>", "cls_token": "<s>",
         "sep_token": "</s>"},
        "BartConfig",
        _BART,
    ),
    "marian": (
        unigram,
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>",
         "pad_token": "<pad>"},
        "MarianConfig",
        _BART,
    ),
}  # fmt: skip


def write(name: str, texts: list[str], folder: Path) -> None:
    """Write a checkpoint of a family, with a random model."""
    build, options, kind, sizes = FAMILIES[name]
    backend = build(texts)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    ids = {key: backend.token_to_id(options.get(key, "")) for key in ("bos_token", "eos_token")}
    pad = backend.token_to_id(options.get("pad_token", options["eos_token"]))
    config = getattr(transformers, kind)(
        # Models pad their vocabulary.
        vocab_size=(backend.get_vocab_size() + 63) // 64 * 64,
        bos_token_id=ids["bos_token"],
        eos_token_id=ids["eos_token"],
        pad_token_id=pad,
        **({} if "n_positions" in sizes else {"max_position_embeddings": CONTEXT}),
        **sizes,
    )
    seq2seq = config.is_encoder_decoder
    auto = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    if name == "qwen":
        ends = [backend.token_to_id("<|im_end|>"), backend.token_to_id("<|endoftext|>")]
        model.generation_config = GenerationConfig(eos_token_id=ends)
    model.save_pretrained(folder)
