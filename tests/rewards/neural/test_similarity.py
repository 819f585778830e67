from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, AutoTokenizer

from tests.rewards.neural.checkpoints import write
from textgym.errors import MissingDependencyError, RewardError
from textgym.rewards.neural.checkpoint import Checkpoint
from textgym.rewards.neural.similarity import SemanticSimilarity

SAID = ["the cat sat on the mat", "a dog", "very good ! a great film", "it was not good"]
MEANT = ["a cat sat", "the dog ran on the mat", "the movie was good .", "bad"]
EMPTY = [""] * 4


def vector(folder: str, text: str, pooling: str = "mean") -> torch.Tensor:
    """A text on its own, without padding."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    with torch.no_grad():
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]


def cosine(folder: str, one: str, other: str, pooling: str = "mean") -> float:
    pair = vector(folder, one, pooling), vector(folder, other, pooling)
    return float(cosine_similarity(*pair, dim=0))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "roberta", "t5", "xlnet"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_cosines_of_pooled_states(tmp_path: Path, kind: str, pooling: str) -> None:
    folder = write(tmp_path, kind, "body")
    reward = SemanticSimilarity(folder, pooling=pooling, device="cpu")
    expected = [cosine(folder, *pair, pooling) for pair in zip(SAID, MEANT, strict=True)]
    got = reward(EMPTY, SAID, reference=MEANT)
    assert got == pytest.approx(expected, abs=1e-4)
    assert max(got) - min(got) > 0.02 or pooling == "first"
    if pooling == "mean":
        assert SemanticSimilarity(folder, device="cpu")(EMPTY, SAID, reference=MEANT) == got
    alone = SemanticSimilarity(folder, pooling=pooling, device="cpu", batch_tokens=1, cache_size=0)
    assert alone(EMPTY, SAID, reference=MEANT) == pytest.approx(got, abs=1e-5)


def test_what_is_compared(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "body")
    reward = SemanticSimilarity(folder, device="cpu")
    one, two = (cosine(folder, SAID[0], reference) for reference in MEANT[:2])
    columns: dict[str, Any] = {"reference": [MEANT[:2], MEANT[0], None, []]}
    assert reward(EMPTY, [SAID[0]] * 4, **columns) == [
        pytest.approx(max(one, two), abs=1e-4), pytest.approx(one, abs=1e-4), None, None,
    ]  # fmt: skip
    prompt = SemanticSimilarity(folder, column="prompt", device="cpu")
    assert prompt([MEANT[0]], [SAID[0]]) == [pytest.approx(one, abs=1e-4)]
    other = SemanticSimilarity(folder, column="answer", device="cpu")
    assert other([""], [SAID[0]], answer=[MEANT[1]]) == [pytest.approx(two, abs=1e-4)]
    for text, value in ((MEANT[1], two), (MEANT[:2], max(one, two))):
        fixed = SemanticSimilarity(folder, text=text, device="cpu")
        assert fixed([""], [SAID[0]]) == [pytest.approx(value, abs=1e-4)]
    with pytest.raises(RewardError, match="'reference'"):
        reward([""], ["a"], answer=["b"])


def test_the_same_text_gets_one_and_an_empty_one_nothing() -> None:
    reward = SemanticSimilarity(device="cpu")
    texts = ["Once upon a time", "", " \n", "\ud800 猫", "the cat"]
    references = ["Once upon a time", "the cat", "the cat", "\ud800 猫", ["", " "]]
    values = reward([""] * 5, texts, reference=references)
    assert values == pytest.approx([1, 0, 0, 1, 0], abs=1e-5)
    assert max(values) <= 1
    assert reward([], [], reference=[]) == []


def test_the_built_in_model_knows_some_words() -> None:
    reward = SemanticSimilarity(text="the movie was wonderful and great", device="cpu")
    near, far = reward(["", ""], ["a great movie, wonderful", "Tom, 45, owes 300 euros"])
    assert near > far


def test_references_are_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = SemanticSimilarity(write(tmp_path, "bert", "body"), device="cpu")
    first = reward(EMPTY, SAID, reference=MEANT)
    asked: list[str] = []
    encode = Checkpoint.encode
    monkeypatch.setattr(
        Checkpoint, "encode", lambda self, texts: (asked.extend(texts), encode(self, texts))[1]
    )
    assert reward(EMPTY, SAID, reference=MEANT) == pytest.approx(first, abs=1e-6)
    assert asked == SAID


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling .*not 'max'"),
        ({"text": " "}, "text .*not ' '"),
        ({"text": ()}, r"text .*not \(\)"),
        ({"truncate": "middle"}, "truncate .*not 'middle'"),
        ({"max_tokens": 0}, "max_tokens .*not 0"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^similarity: {message}"):
        SemanticSimilarity(**options)


# -- sentence-transformers -------------------------------------------------------------------------


def write_modules(folder: Path, *more: dict[str, Any]) -> str:
    """The files by which the library knows its own checkpoints."""
    write(folder, "bert", "body")
    kinds = ("base.modules.transformer.Transformer", "sentence_transformer.modules.pooling.Pooling")
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.{kind}"}
        for at, (path, kind) in enumerate(zip(("", "1_Pooling"), kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps([*modules, *more]))
    (folder / "1_Pooling").mkdir()
    pooling = {"embedding_dimension": 16, "pooling_mode": "mean"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(folder)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_it_is_the_librarys(tmp_path: Path, mode: str) -> None:
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    torch.manual_seed(0)
    body = modules.Transformer(write(tmp_path / "bert", "bert", "body"))
    parts = [body, modules.Pooling(16, mode), modules.Dense(16, 8), modules.Normalize()]
    model = library.SentenceTransformer(modules=parts, device="cpu")
    model.save(str(tmp_path / "st"))
    expected = library.util.pairwise_cos_sim(model.encode(SAID), model.encode(MEANT)).tolist()
    for budget in (1, 8192):
        reward = SemanticSimilarity(str(tmp_path / "st"), device="cpu", batch_tokens=budget)
        assert reward(EMPTY, SAID, reference=MEANT) == pytest.approx(expected, abs=1e-4)
    again = pickle.loads(pickle.dumps(reward))
    assert again(EMPTY, SAID, reference=MEANT) == pytest.approx(expected, abs=1e-4)
    plain = SemanticSimilarity(str(tmp_path / "st"), pooling="mean", device="cpu")
    averaged = [cosine(str(tmp_path / "bert"), *pair) for pair in zip(SAID, MEANT, strict=True)]
    assert plain(EMPTY, SAID, reference=MEANT) == pytest.approx(averaged, abs=1e-4)


def test_the_library_is_asked_for_by_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    folder = write_modules(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"pip install 'textgym\[embeddings\]'"):
        SemanticSimilarity(folder, device="cpu")([""], ["a"], reference=["b"])
    plain = SemanticSimilarity(folder, pooling="mean", device="cpu")
    assert plain([""], [SAID[0]], reference=[MEANT[0]]) == [
        pytest.approx(cosine(folder, SAID[0], MEANT[0]), abs=1e-4)
    ]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": "os.path", "path": ""}, "'os.path'"),
        ({"type": "evil.sentence_transformers", "path": ""}, "'evil.sentence_transformers'"),
        (
            {"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
            "its module Dense has no 2_Dense/model.safetensors, and pickled weights",
        ),
    ],
)
def test_a_checkpoint_runs_no_code_and_no_pickle(
    tmp_path: Path, monkeypatch: Any, module: dict, message: str
) -> None:
    def loading(*args: Any, **kwargs: Any) -> None:
        pytest.fail("the library was asked to load it")

    library = type(sys)("sentence_transformers")
    library.SentenceTransformer = loading
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    folder = write_modules(tmp_path, {"idx": 2, "name": "2", **module})
    with pytest.raises(RewardError, match=message):
        SemanticSimilarity(folder, device="cpu")([""], ["a"], reference=["b"])
