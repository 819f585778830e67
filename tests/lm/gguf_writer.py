"""A GGUF file of a few kilobytes: a random Llama with a SentencePiece-like vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

WORDS = ["▁the", "▁movie", "▁was", "▁good", "▁bad", "▁t", "he", "th", "in", "▁s"]
TOKENS = [
    "<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁",
    *"abcdefghijklmnopqrstuvwxyz.!?", *WORDS,
]  # fmt: skip
# Everything that merges on the way to a word has to be a token.
TOKENS += sorted({word[:end] for word in WORDS for end in range(2, len(word))} - set(TOKENS))
BOS, EOS = 1, 2
_UNKNOWN, _CONTROL, _BYTE, _NORMAL = 2, 3, 6, 1


def llama(seed: int = 0) -> Any:
    """The model that the file holds."""
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.25, bos_token_id=BOS, eos_token_id=EOS, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path,
    model: Any = None,
    template: str | None = None,
    leave_out: str = "\0",
    quantized: str = "\0",
) -> str:
    """Write a model as llama.cpp's conversion does, in float32.

    Args:
        path: The file.
        model: A Llama; the random one if None.
        template: A chat template.
        leave_out: A part of the names of tensors that the file shall lack.
        quantized: A part of the names of tensors that are written in 8 bits (Q8_0).
    """
    import gguf

    model = llama() if model is None else model
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(index) for index in range(len(TOKENS))])
    writer.add_token_types([_type(token) for token in TOKENS])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    if template is not None:
        writer.add_chat_template(template)
    for name, weight in model.state_dict().items():
        if leave_out in name:
            continue
        values = _arranged(name, weight, config).contiguous().numpy()
        kind = None
        if quantized in name:
            kind = gguf.GGMLQuantizationType.Q8_0
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(_name(name), values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _type(token: str) -> int:
    if token == "<unk>":
        return _UNKNOWN
    if token in ("<s>", "</s>"):
        return _CONTROL
    return _BYTE if token.startswith("<0x") else _NORMAL


_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
}


def _name(name: str) -> str:
    for old, new in _NAMES.items():
        name = name.replace(old, new)
    return name


def _arranged(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Llama.cpp rotates neighbouring dimensions, transformers the two halves of a head."""
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }.get(name.split(".")[-2])
    if heads is None:
        return weight
    pairs = weight.view(heads, 2, weight.shape[0] // heads // 2, -1)
    return pairs.transpose(1, 2).reshape(weight.shape)
