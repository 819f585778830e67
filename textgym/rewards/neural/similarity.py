"""Semantic similarity: the cosine of the embeddings of two texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel
from transformers.utils.hub import cached_file

from textgym.data.messages import reads_texts
from textgym.errors import RewardError, require
from textgym.lm.loading.pretrained import load_pretrained
from textgym.rewards.neural.checkpoint import Checkpoint
from textgym.rewards.neural.scorer import ModelReward, encodable, shared
from textgym.rewards.references import against_references
from textgym.tokenization import TINY, looks_local

Encoder = Callable[[list[str]], list[Tensor]]
"""A function from N texts to N embeddings ``[d]`` of length 1."""

# Modules of sentence-transformers without weights, apart from those of the transformer.
_WITHOUT_WEIGHTS = ("Transformer", "Pooling", "Normalize", "Dropout")


@dataclass(frozen=True, eq=False)
class SemanticSimilarity(ModelReward[Encoder]):
    """The cosine of the sentence embeddings of the completion and the most similar reference.

    References are those of a column, the prompt itself (``column="prompt"``, to stay on topic), or
    fixed texts (``text=``).

    Checkpoints of sentence-transformers (Reimers and Gurevych 2019) are run with that library. For
    other checkpoints, the hidden states of the last layer are averaged, which works well for
    encoders that were trained for it. The built-in model was not: its embeddings distinguish words
    rather than meanings, and its cosines are close together. It is the default because it needs no
    download.

    Range: [-1, 1], higher is better; typical values of paraphrases and of unrelated texts depend on
    the model. An empty text gets 0.
    Needs: the column ``column``, unless ``text`` is given; for checkpoints of sentence-transformers
    that package (``textgym[embeddings]``).
    Cost: 1.1 ms per text of 22 tokens with ``"textgym/tiny"`` on a busy CPU core (890 texts/s), and
    as much for each new reference.
    Gaming: words of the topic in any order, copies of the reference or of the prompt; negation and
    numbers hardly change an embedding.

    Args:
        model: A checkpoint of sentence-transformers or of transformers; see :class:`ModelReward`
            for it and for the options ``device``, ``dtype``, ``batch_tokens`` and ``cache_size``
            (of references).
        column: The column of references: a string, or a list of alternatives (the best counts); or
            ``"prompt"``.
        text: One or more fixed references, used instead of the column.
        pooling: ``"auto"`` is the pooling of the sentence-transformers checkpoint, or else the
            mean. ``"mean"``, ``"first"`` (the first token, BERT's [CLS]) and ``"last"`` (for
            decoders) read the checkpoint with transformers.
        truncate: The side on which long texts are truncated, ``"left"`` or ``"right"``; not used
            for checkpoints of sentence-transformers.
        max_tokens: The longest text that is not truncated, in tokens; None for the model's limit.

    Raises:
        RewardError: If an option is unknown, or the column is missing; at the first call, if the
            model cannot be loaded.
        MissingDependencyError: At the first call, if the checkpoint needs sentence-transformers and
            it is not installed.
    """

    model: str = TINY
    column: str = "reference"
    text: str | tuple[str, ...] | None = None
    pooling: str = "auto"
    _: KW_ONLY
    truncate: str = "right"
    max_tokens: int | None = None
    name: ClassVar[str] = "similarity"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("pooling", self.pooling, ("auto", "mean", "first", "last"))
        self._check_truncation(self.truncate, self.max_tokens)
        if self.text is not None:
            texts = (self.text,) if isinstance(self.text, str) else tuple(self.text)
            if not texts or not all(isinstance(one, str) and one.strip() for one in texts):
                raise RewardError(
                    f"{self.name}: text must be one or more non-empty texts, not {self.text!r:.80}"
                )
            object.__setattr__(self, "text", texts)

    @reads_texts
    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """Return N rewards; None for a row without references."""
        # Collect the pairs first, so that all texts are embedded in one call.
        pairs: list[tuple[str, str]] = []

        def collect(completion: str, references: list[str]) -> int:
            pairs.extend((completion, one) for one in references if completion and one.strip())
            return len(references)

        sources: dict[str, Sequence[Any]] = {self.column: []}
        if self.text is not None:
            sources = {self.column: [self.text] * len(completions)}
        elif self.column == "prompt":
            sources = {"prompt": prompts}
        else:
            sources = columns
        stripped = [completion.strip() and completion for completion in completions]
        against_references(collect, stripped, sources, self.column)
        cosines = self._cosines(pairs)

        def best(completion: str, references: list[str]) -> float:
            return max(cosines.get((completion, one), 0.0) for one in references)

        return against_references(best, stripped, sources, self.column)

    def _cosines(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
        if not pairs:
            return {}
        encoder = self._loaded()
        references = self._remembered([reference for _, reference in pairs], encoder)
        texts = list(dict.fromkeys(completion for completion, _ in pairs))
        embedded = dict(zip(texts, encoder(texts), strict=True))
        left = torch.stack([embedded[completion] for completion, _ in pairs])
        cosines = (left * torch.stack(references)).sum(-1).clamp(-1.0, 1.0)
        return dict(zip(pairs, cosines.tolist(), strict=True))

    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Encoder:
        if self.pooling == "auto" and self.model != TINY:
            modules = _file(self.model, "modules.json")
            if modules is not None:
                return self._load_library(modules, device, dtype)
        checkpoint = Checkpoint.load(
            AutoModel, self.model, device, dtype, self.truncate, self.max_tokens, "pooler"
        )
        body: Any = checkpoint.model
        if body.config.is_encoder_decoder:
            body = body.get_encoder()

        def read(batch: dict[str, Tensor]) -> list[Tensor]:
            hidden = body(**batch).last_hidden_state.float()
            pooled = _pooled(hidden, batch["attention_mask"], self.pooling)
            return list(functional.normalize(pooled, dim=-1).cpu())

        return lambda texts: checkpoint.run(checkpoint.encode(texts), self.batch_tokens, read)

    def _load_library(
        self, modules: str, device: torch.device, dtype: torch.dtype | None
    ) -> Encoder:
        library = require("sentence_transformers", "embeddings")
        self._check_modules(modules)
        self._check_weights(modules)

        def read() -> Any:
            model = library.SentenceTransformer(
                self.model,
                device=str(device),
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
            model.eval().requires_grad_(False)
            return model if dtype is None else model.to(dtype)

        # The limit is an attribute of the model, so models with other limits are not shared.
        kind = f"SentenceTransformer of {self.max_tokens} tokens"
        model = shared(kind, self.model, device, dtype, read)
        room = model.max_seq_length or 512
        if self.max_tokens is not None and self.max_tokens < room:
            room = model.max_seq_length = self.max_tokens

        def encode(texts: list[str]) -> list[Tensor]:
            with torch.inference_mode():
                vectors = model.encode(
                    [encodable(text) for text in texts],
                    batch_size=max(1, self.batch_tokens // room),
                    show_progress_bar=False,
                    convert_to_tensor=True,
                )
                return list(functional.normalize(vectors.float(), dim=-1).cpu())

        return encode

    def _check_modules(self, modules: str) -> None:
        """Reject code and pickled weights, which the library would import and unpickle."""
        for module in json.loads(Path(modules).read_text(encoding="utf-8")):
            package, _, kind = module["type"].rpartition(".")
            if package.partition(".")[0] != "sentence_transformers":
                raise RewardError(
                    f"cannot use its model {self.model!r}: it needs the class "
                    f"{module['type']!r}, but only modules of sentence-transformers are allowed; "
                    "use another model"
                )
            weights = f"{module['path']}/model.safetensors".lstrip("/")
            if kind not in _WITHOUT_WEIGHTS and _file(self.model, weights) is None:
                raise RewardError(
                    f"cannot use its model {self.model!r}: its module {kind} has no {weights}, and "
                    "pickled weights (.bin) are not read because they can run code; load the model "
                    "with sentence-transformers and save it again with save(folder)"
                )

    def _check_weights(self, modules: str) -> None:
        """Reject an incomplete checkpoint, whose missing weights the library would draw."""
        folder = Path(modules).parent
        for module in json.loads(Path(modules).read_text(encoding="utf-8")):
            inner = folder / module["path"]
            if module["type"].endswith(".Transformer") and (inner / "config.json").is_file():
                load_pretrained(
                    AutoModel, self.model, str(inner), may_lack=["pooler"], other_heads=True
                )


def _pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool hidden states ``[B, L, d]`` to ``[B, d]``; no row is all padding."""
    if pooling == "first":
        return hidden[torch.arange(len(hidden)), mask.argmax(-1)]
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        return hidden[torch.arange(len(hidden)), (mask * places).argmax(-1)]
    weights = mask[..., None].float()
    return (hidden * weights).sum(1) / weights.sum(1)


def _file(name: str, path: str) -> str | None:
    """Return the path of a file in a checkpoint (a folder or a hub id); None if it is missing."""
    folder = Path(name).expanduser()
    if folder.is_dir() or looks_local(name):
        return str(folder / path) if (folder / path).is_file() else None
    return cached_file(
        name,
        path,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
