"""Tokenizers, compared with the tokenizers library for any text and ids."""

from __future__ import annotations

import copy
import json
import pickle
import string
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from tests.envs.families import sentencepiece_bpe
from textgym import load_tokenizer
from textgym.errors import TextGymError, TokenizerError
from textgym.tokenization import TINY, TINY_DIR, Tokenizer, WordTokenizer, looks_local

CORPUS = [
    "the cat sat on the mat",
    "a dog, 3 dogs and 42 cats' tails",
    "naïve café — 日本語 🙂",
] * 3
EOS = "<|endoftext|>"


def byte_level(**options: Any) -> tokenizers.Tokenizer:
    """A byte-level BPE that was trained on a few words."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **options})
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def white_space() -> tokenizers.Tokenizer:
    """A tokenizer with merges within runs of whitespace, which the expression splits specially."""
    backend = byte_level()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["a\n \n b \n\t c\u00a0 \u00a0d \r\n  e\n\n \t"] * 9, trainer)
    return backend


def with_odd_added_tokens() -> tokenizers.Tokenizer:
    """Added tokens whose characters are all, partly, or not in the byte alphabet."""
    backend = byte_level()
    backend.add_tokens(["é", "Ġthe", "日本", "two words", AddedToken("strip", lstrip=True)])
    backend.add_special_tokens(["<tool>", "[PAD]"])
    return backend


def with_holes() -> tokenizers.Tokenizer:
    """A vocabulary with unused ids, like padded vocabularies."""
    backend = tokenizers.Tokenizer(
        models.WordLevel({"a": 0, "b": 3, "[UNK]": 7}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


def metaspace() -> tokenizers.Tokenizer:
    """A unigram model, as SentencePiece's are in the library."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


BACKENDS = {
    "tiny": lambda: tokenizers.Tokenizer.from_file(str(TINY_DIR / "tokenizer.json")),
    "byte-level": byte_level,
    "white-space": white_space,
    "no-regex": lambda: byte_level(use_regex=False),
    "prefix-space": lambda: byte_level(add_prefix_space=True),
    "added": with_odd_added_tokens,
    "holes": with_holes,
    "metaspace": metaspace,
}


@pytest.fixture(scope="module", params=BACKENDS)
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """A tokenizer of textgym, and the library's tokenizer that it was made from."""
    backend = BACKENDS[request.param]()
    return load_tokenizer(backend), backend


texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(string.printable + "\x00\x1c\x1f\x7f"),
    st.lists(
        st.sampled_from(
            [EOS, "<tool>", "strip", "é", "日本", "two words", " the", "'ll", " \n", "a"]
        )
    ).map("".join),
    st.lists(st.sampled_from([" ", " ", "\n", "\t", "\u00a0", "\r", "a", "b", "'s", "1"])).map(
        "".join
    ),
)


@settings(max_examples=60)
@given(text=texts)
@example(text="we'll  \t go\r\n ' 'S 12 ab12 \x0b\x1c ")
@example(text=f"a{EOS}b {EOS} <|endoftext|")
def test_encode_is_the_librarys_own(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], text: str
) -> None:
    ours, backend = pair
    expected = backend.encode(text, add_special_tokens=False).ids
    assert ours.encode(text) == expected
    again = ours.encode(text)
    assert again == expected, "the second time, from the cache"
    again.append(-1)
    assert ours.encode(text) == expected, "the list is a copy"


@settings(max_examples=60)
@given(data=st.data())
def test_decode_is_the_librarys_own(
    pair: tuple[Tokenizer, tokenizers.Tokenizer], data: st.DataObject
) -> None:
    ours, backend = pair
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size - 1)))
    # An added "é" is the byte 0xE9 to the library, also where that is not part of a character.
    added = backend.get_added_tokens_decoder()
    ids = [index for index in ids if index not in added or ours.token(index) != "é"]
    assert ours.decode(ids) == backend.decode(ids, skip_special_tokens=False)
    if ours.token_bytes is not None:
        joined = b"".join(ours.token_bytes[index] for index in ids)
        assert ours.decode(ids) == joined.decode("utf-8", "replace")


def test_every_token_alone_decodes_as_the_library_says(
    pair: tuple[Tokenizer, tokenizers.Tokenizer],
) -> None:
    ours, backend = pair
    for index in range(ours.vocab_size):
        if ours.token(index) == "é" and index in backend.get_added_tokens_decoder():
            assert ours.decode([index]) == "é", "added as plain text"
        else:
            assert ours.decode([index]) == backend.decode([index], skip_special_tokens=False)
        assert ours.token(index) == (backend.id_to_token(index) or "")


def test_the_vocabulary_covers_every_id(pair: tuple[Tokenizer, tokenizers.Tokenizer]) -> None:
    ours, backend = pair
    assert ours.vocab_size == max(backend.get_vocab().values()) + 1
    if ours.token_bytes is not None:
        assert len(ours.token_bytes) == ours.vocab_size


@settings(max_examples=60)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_byte_level_text_survives_the_round_trip(text: str) -> None:
    tiny = load_tokenizer()
    assert tiny.decode(tiny.encode(text)) == text


def test_the_owners_later_changes_are_not_ours() -> None:
    backend = byte_level()
    ours = load_tokenizer(backend)
    before = ours.encode("the cat sat on the mat")
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    backend.add_tokens(["cat sat"])
    assert ours.encode("the cat sat on the mat") == before
    assert ours.decode(before) == "the cat sat on the mat"


def test_a_tokenizer_that_truncates_and_pads_does_neither_here(tmp_path: Path) -> None:
    backend = byte_level()
    expected = backend.encode("the cat sat on the mat").ids
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    assert load_tokenizer(backend).encode("the cat sat on the mat") == expected
    backend.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("the cat sat on the mat") == expected


# ------------------------------------------------------------------ words


WORDS = ["the", "cat", "sat", "<eos>"]


def test_words() -> None:
    ours = load_tokenizer(WORDS)
    assert ours.vocab_size == 4
    assert ours.eos_id == 3
    assert ours.token_bytes is None
    assert ours.encode(" the\tcat \n sat ") == [0, 1, 2]
    assert ours.encode("") == []
    assert ours.decode([2, 3, 0]) == "sat <eos> the"
    assert ours.decode([]) == ""


@given(
    words=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1),
        min_size=1,
        unique=True,
    ),
    data=st.data(),
)
def test_words_survive_the_round_trip(words: list[str], data: st.DataObject) -> None:
    ours = load_tokenizer(words)
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size - 1)))
    assert ours.encode(ours.decode(ids)) == ids


def test_eos_is_appended_only_if_there_is_none_and_one_is_needed() -> None:
    words = ["a", "b"]
    ours = load_tokenizer(words)
    assert (ours.decode([2]), ours.eos_id) == ("<eos>", 2)
    assert words == ["a", "b"], "the caller's list"
    assert load_tokenizer(["a", "</s>", "b"]).eos_id == 1
    bare = load_tokenizer(words, add_eos=False)
    assert (bare.vocab_size, bare.eos_id) == (2, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "list of words is empty"),
        (["a", "a"], "'a' is in the list twice"),
        (["a", ""], "''"),
        (["a", "b c"], "'b c'"),
        (["a", "b\u00a0c"], r"b\\xa0c"),
        (["a", 3], "3 cannot be a word"),
    ],
)
def test_word_lists_that_cannot_be(words: list[Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(words)


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(TokenizerError, match="'dog' is not in the closed vocabulary"):
        load_tokenizer(WORDS).encode("the dog")


# ------------------------------------------------------------------ loading


def test_the_built_in_one() -> None:
    tiny = load_tokenizer()
    vocabulary = json.loads((TINY_DIR / "tokenizer.json").read_text())["model"]["vocab"]
    assert (tiny.name, tiny.vocab_size, tiny.eos_id) == (TINY, len(vocabulary), 0)
    assert tiny.decode([0]) == EOS
    assert tiny.content_hash() == load_tokenizer(TINY).content_hash()
    assert load_tokenizer(tiny) is tiny


def save(folder: Path, config: dict[str, Any] | None, name: str = "tokenizer_config.json") -> Path:
    backend = byte_level()
    backend.add_special_tokens(["<stop>", "</s>"])
    backend.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / name).write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "eos"),
    [
        (None, EOS),  # Guessed by name, the commonest first.
        ({"eos_token": "<stop>"}, "<stop>"),
        ({"eos_token": {"content": "</s>", "lstrip": False}}, "</s>"),
        ({"model_max_length": 5}, EOS),
    ],
)
def test_eos_of_a_file_and_of_its_folder(
    tmp_path: Path, config: dict[str, Any] | None, eos: str
) -> None:
    save(tmp_path, config)
    for spec in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        ours = load_tokenizer(spec)
        assert ours.eos_id is not None
        assert ours.token(ours.eos_id) == eos


def test_eos_of_special_tokens_map(tmp_path: Path) -> None:
    ours = load_tokenizer(save(tmp_path, {"eos_token": "<stop>"}, "special_tokens_map.json"))
    assert ours.decode([ours.eos_id or 0]) == "<stop>"


def test_an_eos_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"'<gone>'.*lacks it"):
        load_tokenizer(save(tmp_path, {"eos_token": "<gone>"}))


def test_no_eos_at_all() -> None:
    assert load_tokenizer(with_holes()).eos_id is None


def test_transformers_fast_tokenizer() -> None:
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<stop>")
    ours = load_tokenizer(theirs)
    assert ours.eos_id == theirs.eos_token_id
    assert ours.vocab_size == len(theirs)
    text = "the cat<stop> naïve <|endoftext|>"
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    ids = list(range(len(theirs)))
    assert ours.decode(ids) == theirs.decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    theirs(["a", "the cat sat on the mat"], truncation=True, max_length=2)
    assert len(ours.encode("the cat sat on the mat")) > 2


def test_a_transformers_tokenizer_without_eos_has_none() -> None:
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level())
    assert load_tokenizer(theirs).eos_id is None, "although its vocabulary has a common name of eos"


def test_transformers_tokenizer_written_in_python() -> None:
    theirs = transformers.ByT5Tokenizer()
    ours = load_tokenizer(theirs)
    assert ours.eos_id == theirs.eos_token_id
    assert ours.vocab_size == len(theirs.get_vocab())
    text = "naïve 日本"
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ours.encode(text)) == text
    assert theirs.eos_token in ours.decode([*ours.encode(text), theirs.eos_token_id])
    assert ours.content_hash() == load_tokenizer(transformers.ByT5Tokenizer()).content_hash()


def test_remote_code_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def from_pretrained(name: str, **options: Any) -> Any:
        seen.append(options)
        return transformers.PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token=EOS)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    monkeypatch.setattr("textgym.tokenization.loading.find_on_hub", lambda name, **_: name)
    load_tokenizer("someone/something")
    assert seen == [{"trust_remote_code": False}]


LOCAL = ["nope.json", "./dir/x", "../x", "~/x", "/x", "a/b/c", "a/tokenizer.json", "a b", "", "."]
ON_THE_HUB = ["gpt2", "openai-community/gpt2", "Qwen/Qwen2.5-0.5B", "01-ai/Yi-1.5-6B", "a/b_c.d"]


def test_names_of_files_and_of_hub_ids() -> None:
    assert all(map(looks_local, LOCAL))
    assert not any(map(looks_local, ON_THE_HUB))


@pytest.mark.parametrize("spec", [*LOCAL[:-2], Path("gone"), Path("some/one")], ids=str)
def test_mistyped_paths_do_not_go_to_the_hub(
    spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def from_pretrained(name: str, **options: Any) -> Any:
        asked.append(name)
        raise OSError("no tokenizer there")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", from_pretrained)
    monkeypatch.setattr("textgym.tokenization.loading.find_on_hub", lambda name, **_: name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError):
        load_tokenizer(spec)
    assert asked == []
    with pytest.raises(TokenizerError, match="hub id that can be reached"):
        load_tokenizer("some/one")
    assert asked == ["some/one"]


@pytest.mark.parametrize(
    "spec",
    [
        "no/such-tokenizer",
        "x" * 5000,
        "~nobody-of-that-name/x",
        "a\0b",
        3,
        object(),
        tokenizers.Tokenizer(models.BPE()),
    ],
    ids=["hub", "long", "home", "nul", "int", "object", "empty"],
)
def test_what_is_no_tokenizer(spec: Any) -> None:
    with pytest.raises(TokenizerError):
        load_tokenizer(spec)


def test_broken_files(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"model":')
    with pytest.raises(TokenizerError, match=r"not a tokenizer\.json"):
        load_tokenizer(broken)
    with pytest.raises(TokenizerError, match=r"not a tokenizer\.json"):
        load_tokenizer(tmp_path)
    broken.unlink()
    with pytest.raises(TokenizerError, match="no tokenizer could be loaded"):
        load_tokenizer(tmp_path)


def test_parts_written_in_python_are_refused_by_name() -> None:
    class Cutter:
        def pre_tokenize(self, text: Any) -> None: ...

    backend = with_holes()
    backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Cutter())
    with pytest.raises(TokenizerError, match="written in Python"):
        load_tokenizer(backend)


def test_half_a_surrogate_pair() -> None:
    with pytest.raises(TokenizerError, match="surrogate"):
        load_tokenizer().encode("a\ud83d")


def test_errors_are_value_errors_of_textgym() -> None:
    with pytest.raises(TextGymError) as caught:
        load_tokenizer([])
    assert isinstance(caught.value, ValueError)


# ------------------------------------------------------------------ identity


@pytest.mark.parametrize(
    "make", [load_tokenizer, lambda: load_tokenizer(WORDS), lambda: load_tokenizer(metaspace())]
)
def test_pickling_and_copying(make: Any) -> None:
    ours = make()
    other = pickle.loads(pickle.dumps(ours))
    assert other.content_hash() == ours.content_hash()
    assert (other.name, other.vocab_size, other.eos_id) == (ours.name, ours.vocab_size, ours.eos_id)
    ids = ours.encode("the cat sat")
    assert other.encode("the cat sat") == ids
    assert other.decode(ids) == ours.decode(ids)
    assert copy.deepcopy(ours) is ours
    assert copy.deepcopy({"tokenizer": [ours]})["tokenizer"][0] is ours


def test_content_hash_tells_vocabularies_apart() -> None:
    vocabularies = [
        ["a", "b", "c"],
        ["b", "a", "c"],
        ["a", "b", "d"],
        ["a", "b", "c", "d"],
        ["ab", "c", "d"],
        ["a", "bc", "d"],
        ["a\0b", "c"],
        ["a", "b\0c"],
        ["\ud800"],
        ["a", "b", "<eos>", "c"],
        ["a", "b", "</s>", "c"],
    ]
    hashes = {WordTokenizer(words).content_hash() for words in vocabularies}
    assert len(hashes) == len(vocabularies)
    assert WordTokenizer(["a", "b"]).content_hash() == WordTokenizer(["a", "b"]).content_hash()
    # The same entries mean the same ids, whatever kind of tokenizer holds them.
    level = tokenizers.Tokenizer(models.WordLevel({"a": 0, "<eos>": 1}, unk_token="a"))
    assert load_tokenizer(level).content_hash() == load_tokenizer(["a", "<eos>"]).content_hash()


def test_content_hash_does_not_depend_on_the_process_or_path(tmp_path: Path) -> None:
    save(tmp_path, {"eos_token": EOS})
    first = load_tokenizer(tmp_path)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    assert load_tokenizer(moved).content_hash() == first.content_hash()
    assert load_tokenizer(save(tmp_path, {"eos_token": "<stop>"})).content_hash() != (
        first.content_hash()
    ), "another eos is another language of ids"


# ------------------------------------------------------------------ the frame of a prompt


def with_template(backend: tokenizers.Tokenizer, template: str) -> tokenizers.Tokenizer:
    names = ["<s>", "</s>", "<extra>"]
    backend.add_special_tokens(names)
    special = [(name, backend.token_to_id(name)) for name in names]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return backend


@pytest.mark.parametrize("make", [metaspace, byte_level])
@pytest.mark.parametrize(
    ("template", "before", "behind"),
    [
        ("$A </s>", [], ["</s>"]),
        ("<s> $A </s>", ["<s>"], ["</s>"]),
        ("<extra> <s> $A <extra> </s>", ["<extra>", "<s>"], ["<extra>", "</s>"]),
        ("</s> $A </s>", ["</s>"], ["</s>"]),
        ("<s> $A", ["<s>"], []),
        ("<s> $A </s> <extra>", ["<s>"], ["</s>", "<extra>"]),
        ("$A", [], []),
    ],
)
def test_prompt_frame(make: Any, template: str, before: list[str], behind: list[str]) -> None:
    backend = with_template(make(), template)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    # Which of its tokens is eos, the library does not know.
    for tokenizer in [load_tokenizer(fast)] + [load_tokenizer(backend)] * (make is metaspace):
        names = [[tokenizer.token(index) for index in side] for side in tokenizer.prompt_frame]
        assert names == [before, behind]
        assert pickle.loads(pickle.dumps(tokenizer)).prompt_frame == tokenizer.prompt_frame
        if before or behind:
            for text in ("", "the cat", "a dog, 3 dogs"):
                framed = [*tokenizer.prompt_frame[0], *tokenizer.encode(text)]
                assert [*framed, *tokenizer.prompt_frame[1]] == backend.encode(text).ids


def test_tokenizers_that_write_no_special_tokens_have_no_frame() -> None:
    assert load_tokenizer().prompt_frame == ([], [])
    assert WordTokenizer(["a", "b"]).prompt_frame == ([], [])
    backend = with_template(byte_level(), "<s> $A </s>")
    nameless = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    names = {name: backend.token_to_id(name) for name in ("<s>", "</s>")}
    assert load_tokenizer(nameless).prompt_frame == ([names["<s>"]], [names["</s>"]])


def test_frame_of_a_tokenizer_written_in_python() -> None:
    slow = transformers.ByT5Tokenizer()
    tokenizer = load_tokenizer(slow)
    assert tokenizer.prompt_frame == ([], [slow.eos_token_id])
    assert [*tokenizer.encode("the"), *tokenizer.prompt_frame[1]] == slow("the").input_ids


def test_a_large_tokenizer_is_shared_as_long_as_its_files_stay_the_same(tmp_path: Path) -> None:
    words = [f"w{index}" for index in range(40_000)]
    for first in ("<eos>", "</s>"):
        vocabulary = {word: at for at, word in enumerate([first, *words])}
        tokenizers.Tokenizer(models.WordLevel(vocabulary)).save(str(tmp_path / "tokenizer.json"))
        loaded = load_tokenizer(str(tmp_path))
        assert loaded.token(0) == first
        assert load_tokenizer(str(tmp_path)) is loaded
    # Other files of the folder differ.
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "w3"}')
    assert load_tokenizer(str(tmp_path)).eos_id == 4


# ------------------------------------------------------------------ continuations


def sentencepiece() -> tokenizers.Tokenizer:
    """A tokenizer like Llama 2's, with a marked first word and byte-fallback tokens."""
    return sentencepiece_bpe(CORPUS, prefix=True)


def word_pieces() -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[UNK]", "[SEP]"], show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


@pytest.fixture(
    scope="module", params=[byte_level, white_space, metaspace, sentencepiece, word_pieces]
)
def family(request: pytest.FixtureRequest) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    backend = request.param()
    return load_tokenizer(backend), backend


@settings(max_examples=200)
@given(data=st.data())
def test_a_response_is_the_text_of_both_less_that_of_the_prompt(
    family: tuple[Tokenizer, tokenizers.Tokenizer], data: st.DataObject
) -> None:
    ours, backend = family
    ids = st.lists(st.integers(0, ours.vocab_size - 1), max_size=6)
    before, written = data.draw(ids), data.draw(ids)
    if ours.is_empty(before):
        assert ours.continuation(written, before) == backend.decode(
            written, skip_special_tokens=False
        )
        return
    prompt = backend.decode(before, skip_special_tokens=False)
    whole = backend.decode([*before, *written], skip_special_tokens=False)
    got = ours.continuation(written, before)
    if whole.startswith(prompt):
        assert got == whole[len(prompt) :]
    else:  # The prompt ends within a character, which the response completes.
        assert whole.endswith(got)


@settings(max_examples=100)
@given(text=st.text("ab c.\n\té日🙂Z0", max_size=12))
def test_a_text_behind_others_reads_as_it_was_written(text: str) -> None:
    for make in (byte_level, sentencepiece):
        ours = load_tokenizer(BUILT.setdefault(make, make()))
        before = ours.prompt_ids("the cat")
        assert ours.continuation(ours.encode_continuation(text), before) == text


BUILT: dict[Any, tokenizers.Tokenizer] = {}
