"""One interface over every kind of tokenizer: text to token ids and back.

:func:`load_tokenizer` takes what users have (nothing, a list of words, a path, a hub id, a
``tokenizers.Tokenizer``, a transformers tokenizer) and returns a :class:`Tokenizer`. Only numpy
and ``tokenizers`` are needed; transformers is imported when a hub id or a folder without
``tokenizer.json`` asks for it.

What this module does not do: train a tokenizer (:mod:`textgym.lm.train` does), or re-tokenize what
a policy wrote. Token in, token out: environments only ever *decode* a response.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tokenizers

from textgym.errors import ModelError, TokenizerError
from textgym.gguf_files import file_version, find_gguf, gguf_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY = "textgym/tiny"
"""Name of the built-in language model and of its tokenizer."""

ASSETS = Path(__file__).parent / "assets"
TINY_DIR = ASSETS / "tiny"

EOS_NAMES = (
    "<|endoftext|>",
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "[EOS]",
    "[SEP]",
)
"""Names under which end-of-sequence is looked for where a tokenizer does not say which it is."""

TokenizerSpec: TypeAlias = (
    "list[str] | tuple[str, ...] | str | Path | tokenizers.Tokenizer "
    "| PreTrainedTokenizerBase | Tokenizer | None"
)


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        name: Where it comes from, for error messages and reports.
        vocab_size: Size of the whole vocabulary, added tokens included; ids are ``0 .. V-1``.
        eos_id: Id of the end-of-sequence token, or None.
        token_bytes: One ``bytes`` per id if decoding is context-free, that is if ``decode(ids)``
            equals the concatenation of these bytes read as UTF-8; None otherwise. Fast decoding
            and stop strings that span tokens rest on it.
    """

    name: str
    vocab_size: int
    eos_id: int | None
    token_bytes: list[bytes] | None

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; special tokens are visible in it."""

    @abstractmethod
    def token(self, index: int) -> str:
        """The vocabulary entry of one id, as the vocabulary spells it."""

    @property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a prompt; none for most tokenizers.

        A tokenizer that closes every text with eos by itself (T5's: ``... </s>``, BART's:
        ``<s> ... </s>``) belongs to an encoder-decoder, which must see where the prompt ends.
        """
        return [], []

    def content_hash(self) -> str:
        """Hash of the vocabulary (id by id) and of eos: equal hashes speak the same token ids."""
        digest = hashlib.sha256(f"{self.vocab_size}:{self.eos_id}".encode())
        for index in range(self.vocab_size):
            token = self.token(index).encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(token), token))
        return digest.hexdigest()[:16]

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        # Immutable after construction. Gymnasium deep-copies every keyword argument into env.spec.
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, vocab_size={self.vocab_size})"


class WordTokenizer(Tokenizer):
    """A closed vocabulary of words: one token a word, joined by single spaces.

    Args:
        words: The vocabulary, in the order of the ids. A word that is named like an
            end-of-sequence token (``"<eos>"``, ``"</s>"``, ...) is eos.
        add_eos: Append ``"<eos>"`` if no word is one.

    Raises:
        TokenizerError: If the list is empty, or a word is repeated, empty or holds white space.
    """

    token_bytes = None

    def __init__(self, words: Sequence[str], add_eos: bool = True) -> None:
        self.words = list(words)
        if not self.words:
            raise TokenizerError("the list of words is empty; give at least one word")
        for word in self.words:
            if not isinstance(word, str) or not word or word.split() != [word]:
                raise TokenizerError(
                    f"{word!r} cannot be a word of a closed vocabulary; words are non-empty "
                    "strings without white space"
                )
        eos = next((word for word in EOS_NAMES if word in self.words), None)
        if eos is None and add_eos:
            eos = "<eos>"
            self.words.append(eos)
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) < len(self.words):
            twice = next(word for word in self.words if self.words.count(word) > 1)
            raise TokenizerError(f"the word {twice!r} is in the list twice; remove one")
        self.name = f"{len(self.words)} words"
        self.vocab_size = len(self.words)
        self.eos_id = None if eos is None else self._ids[eos]

    def encode(self, text: str) -> list[int]:
        """Token ids of white-space separated words.

        Raises:
            TokenizerError: If a word is not in the vocabulary.
        """
        try:
            return [self._ids[word] for word in text.split()]
        except KeyError as error:
            raise TokenizerError(
                f"the word {error.args[0]!r} is not in the closed vocabulary of {self.name} "
                f"({', '.join(self.words[:8])}{', ...' if len(self.words) > 8 else ''}); "
                "add it to the list, or use an open tokenizer"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The words, joined by single spaces."""
        words = self.words
        return " ".join([words[index] for index in ids])

    def token(self, index: int) -> str:
        """The word of one id."""
        return self.words[index]


class FastTokenizer(Tokenizer):
    """A ``tokenizers.Tokenizer``, with short cuts for byte-level BPE (GPT-2, Llama 3, Qwen, ...).

    Byte-level BPE cuts text into pieces by GPT-2's expression (Radford et al. 2019, "Language
    Models are Unsupervised Multitask Learners") and merges each piece on its own. The expression
    always cuts before a single space, other than between white space, so the token ids of " word"
    are the same in every text, and are looked up once. Decoding is a join of bytes. Every other
    tokenizer goes through the library.

    Args:
        backend: The tokenizer.
        name: Where it comes from.
        eos: The end-of-sequence token; None looks for one of :data:`EOS_NAMES`.
    """

    def __init__(self, backend: tokenizers.Tokenizer, name: str, eos: str | None = None) -> None:
        self.backend = backend
        self.name = name
        vocabulary = backend.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise TokenizerError(f"the tokenizer {name!r} has an empty vocabulary; train it first")
        # Ids may have holes (padding of the vocabulary): the action space covers the largest id.
        self.vocab_size = max(vocabulary.values()) + 1
        candidates = EOS_NAMES if eos is None else (eos,)
        self.eos_id = next((vocabulary[word] for word in candidates if word in vocabulary), None)
        if eos is not None and self.eos_id is None:
            raise TokenizerError(
                f"the tokenizer {name!r} names {eos!r} as its eos token, "
                "but its vocabulary lacks it; add the token or name another"
            )
        self._tokens = [""] * self.vocab_size
        for token, index in vocabulary.items():
            self._tokens[index] = token
        self._added = frozenset(
            token.content for token in backend.get_added_tokens_decoder().values()
        )
        # A file may ask for these; an environment says itself how long a prompt may be.
        backend.no_truncation()
        backend.no_padding()
        state = json.loads(_serialized(backend, name))
        self.token_bytes = self._byte_table(state)
        # Token ids of words, at the start of a text and after a space.
        self._first: dict[str, list[int]] = {}
        self._spaced: dict[str, list[int]] | None = {} if self._cuts_like_gpt2(state) else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it.

        Raises:
            TokenizerError: If the text is not Unicode: if it holds a lone surrogate.
        """
        spaced = self._spaced
        words = text.split(" ")
        if spaced is None or "" in words or self._holds_added(text):
            return self._encode(text)
        try:
            ids = list(self._first[words[0]])
            for word in words[1:]:
                ids += spaced[word]
        except KeyError:
            # A space before other white space may belong to a longer run: no such word is kept.
            if any(word[0].isspace() for word in words[1:]):
                return self._encode(text)
            if len(spaced) + len(self._first) > _MAX_WORDS:
                spaced.clear()
                self._first.clear()
            self._first[words[0]] = self._encode(words[0])
            ids = list(self._first[words[0]])
            for word in words[1:]:
                spaced[word] = spaced.get(word) or self._encode(f" {word}")
                ids += spaced[word]
        return ids

    @cached_property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a prompt: the post-processor's, if it adds eos."""
        return _prompt_frame(self, lambda text: list(self.backend.encode(text).ids))

    def _encode(self, text: str) -> list[int]:
        try:
            return list(self.backend.encode(text, add_special_tokens=False).ids)
        except TypeError as error:
            raise TokenizerError(
                f"{text!r} cannot be tokenized: it holds half of a surrogate pair; "
                "read the text as UTF-8, or drop the character"
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; special tokens are visible, broken UTF-8 becomes U+FFFD."""
        table = self.token_bytes
        if table is None:
            return str(self.backend.decode(list(ids), skip_special_tokens=False))
        return b"".join(map(table.__getitem__, ids)).decode("utf-8", "replace")

    def token(self, index: int) -> str:
        """The vocabulary entry of one id, as the vocabulary spells it."""
        return self._tokens[index]

    def _holds_added(self, text: str) -> bool:
        """Whether a text spells an added token, which the library cuts out before anything else."""
        for token in self._added:  # noqa: SIM110 (a generator would cost more than the search)
            if token in text:
                return True
        return False

    def _byte_table(self, state: dict[str, Any]) -> list[bytes] | None:
        if (state.get("decoder") or {}).get("type") != "ByteLevel":
            return None
        return [_unmap_bytes(token) for token in self._tokens]

    @staticmethod
    def _cuts_like_gpt2(state: dict[str, Any]) -> bool:
        """Whether text is cut into pieces by GPT-2's expression, and by nothing before it."""
        cutter = state.get("pre_tokenizer") or {}
        return (
            state.get("normalizer") is None
            and cutter.get("type") == "ByteLevel"
            and bool(cutter.get("use_regex", True))
            and not cutter.get("add_prefix_space", True)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "backend": self.backend.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, backend=tokenizers.Tokenizer.from_str(state["backend"]))


class SlowTokenizer(Tokenizer):
    """A transformers tokenizer that has no ``tokenizers`` backend."""

    token_bytes = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.vocab_size = max(tokenizer.get_vocab().values()) + 1
        self.eos_id = tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    @cached_property
    def prompt_frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a prompt: the tokenizer's own, if eos is last."""
        return _prompt_frame(self, lambda text: list(self.tokenizer.encode(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some token ids; special tokens are visible in it."""
        return str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def token(self, index: int) -> str:
        """The vocabulary entry of one id, as the vocabulary spells it."""
        return str(self.tokenizer.convert_ids_to_tokens(index))


def _prompt_frame(
    tokenizer: Tokenizer, encode: Callable[[str], list[int]]
) -> tuple[list[int], list[int]]:
    """Find the frame from texts that are encoded with special tokens around them."""
    frame = encode("")
    if tokenizer.eos_id is None or frame[-1:] != [tokenizer.eos_id]:
        return [], []
    for index in range(tokenizer.vocab_size):
        text = tokenizer.decode([index])
        plain = tokenizer.encode(text)
        if plain and not set(plain) & set(frame):
            # The text stands where the frame is cut in two.
            before = encode(text).index(plain[0])
            return frame[:before], frame[before:]
    return [], frame


def load_tokenizer(spec: TokenizerSpec = None, *, add_eos: bool = True) -> Tokenizer:
    """Get a :class:`Tokenizer` from whatever describes one.

    Args:
        spec: None or ``"textgym/tiny"`` for the built-in one; a list of words (a closed
            vocabulary); the path of a ``tokenizer.json``, of a GGUF file, or of a folder that holds
            either; a hub id; a ``tokenizers.Tokenizer``; a transformers tokenizer; or a
            :class:`Tokenizer`.
        add_eos: Whether a list of words without an eos token gets ``"<eos>"`` appended.

    Raises:
        TokenizerError: If there is no such tokenizer, or its file is broken.
        MissingDependencyError: If it is a GGUF file, and the extra ``gguf`` is not installed.
    """
    if isinstance(spec, Tokenizer):
        return spec
    if spec is None or spec == TINY:
        return _load_folder(TINY_DIR, TINY)
    if isinstance(spec, (list, tuple)):
        return WordTokenizer(spec, add_eos=add_eos)
    if isinstance(spec, tokenizers.Tokenizer):
        name = "a tokenizers.Tokenizer"
        return FastTokenizer(_copy(spec, name), name)
    if isinstance(spec, (str, Path)):
        try:
            path = Path(spec).expanduser()
            if (gguf := _find_gguf(path)) is not None:
                return _load_gguf(gguf, str(spec))
            if path.is_file():
                return _load_file(path, str(spec), eos=_named_eos(path.parent))
            if path.is_dir():
                return _load_folder(path, str(spec))
        except (OSError, RuntimeError):  # No name that a file could have.
            pass
        if isinstance(spec, Path) or looks_local(spec) or is_ours(spec):
            raise TokenizerError(
                f"there is no tokenizer at {str(spec)[:200]!r}; give the path of a tokenizer.json "
                f"or of a folder that holds one, a hub id, or {TINY!r}"
            )
        return _load_hub(spec)
    if callable(getattr(spec, "convert_ids_to_tokens", None)):
        return _from_transformers(spec, str(getattr(spec, "name_or_path", "")) or "a tokenizer")
    raise TokenizerError(
        f"a {type(spec).__name__} is no tokenizer; give None, a list of words, a path, a hub id, "
        "a tokenizers.Tokenizer or a transformers tokenizer"
    )


# Letters, digits, "-", "_" and "."; at most one slash, between owner and name.
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?", re.ASCII)
_FILE_TYPES = (".json", ".txt", ".model", ".safetensors", ".bin", ".gguf", ".pt")


def looks_local(name: str) -> bool:
    """Whether a name can only be meant for a file or folder: no id of the hub reads like it."""
    return _HUB_ID.fullmatch(name) is None or name.lower().endswith(_FILE_TYPES)


def is_ours(name: str) -> bool:
    """Whether a name is one of this library's own, which no hub has: a typo, if it is not known."""
    return name.startswith(TINY.partition("/")[0] + "/")


def _find_gguf(path: Path) -> Path | None:
    try:
        return find_gguf(path)
    except ModelError as error:
        raise TokenizerError(str(error)) from error


def _load_gguf(path: Path, name: str) -> Tokenizer:
    """A large vocabulary takes seconds, so that an environment and its models share one."""
    key = (name, *file_version(path))
    if key not in _FROM_GGUF:
        try:
            _FROM_GGUF[key] = _from_transformers(gguf_tokenizer(path), name)
        except ModelError as error:
            raise TokenizerError(str(error)) from error
    return _FROM_GGUF[key]


_FROM_GGUF: dict[tuple[Any, ...], Tokenizer] = {}


def _load_folder(folder: Path, name: str) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return _load_file(folder / "tokenizer.json", name, eos=_named_eos(folder))
    if (folder / "lm" / "tokenizer.json").is_file():  # The folder of a run.
        raise TokenizerError(
            f"the folder {name!r} holds no tokenizer; did you mean {str(folder / 'lm')!r}?"
        )
    return _load_hub(str(folder))


def _load_file(path: Path, name: str, eos: str | None) -> Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises bare Exception.
        raise TokenizerError(
            f"{path} is not a tokenizer.json that the tokenizers library can read: {error}"
        ) from error
    return FastTokenizer(backend, name, eos)


def _named_eos(folder: Path) -> str | None:
    """The eos token that the files beside a tokenizer.json name."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        try:
            eos = json.loads((folder / file).read_text("utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(eos, dict):
            eos = eos.get("content")
        if isinstance(eos, str):
            return eos
    return None


def _load_hub(name: str) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise TokenizerError(
            f"no tokenizer could be loaded from {name!r}: it is neither a file or folder here nor "
            f"a hub id that can be reached ({str(error).partition(chr(10))[0]})"
        ) from error
    return _from_transformers(tokenizer, name)


def _from_transformers(tokenizer: Any, name: str) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, tokenizers.Tokenizer):
        fast = FastTokenizer(_copy(backend, name), name, tokenizer.eos_token)
        if tokenizer.eos_token is None:
            fast.eos_id = None  # The tokenizer's own word counts, also when it says "none".
        return fast
    return SlowTokenizer(tokenizer, name)


def _copy(backend: tokenizers.Tokenizer, name: str) -> tokenizers.Tokenizer:
    """A tokenizer of our own: its owner may add tokens to the first, or make it truncate."""
    return tokenizers.Tokenizer.from_str(_serialized(backend, name))


def _serialized(backend: tokenizers.Tokenizer, name: str) -> str:
    try:
        return str(backend.to_str())
    except Exception as error:  # The library raises bare Exception.
        raise TokenizerError(
            f"the tokenizer {name!r} has parts written in Python ({error}), so it cannot be sent "
            "to worker processes; build it from the library's own parts"
        ) from error


# Bounds the words remembered: natural text has far fewer, junk has no end.
_MAX_WORDS = 200_000


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + rank): byte for rank, byte in enumerate(others)})
    return alphabet


_BYTE_OF = _byte_alphabet()


def _unmap_bytes(token: str) -> bytes:
    """The bytes of one byte-level vocabulary entry."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:  # An added token with, say, a space in it: the library takes it as it is.
        return token.encode()
