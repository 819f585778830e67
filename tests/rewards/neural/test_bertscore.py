from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.rewards.neural.checkpoints import write
from textgym.errors import RewardError
from textgym.rewards.neural.bertscore import BertScore, Embedded, greedy_match
from textgym.rewards.neural.checkpoint import Checkpoint

SAID = ["the cat sat on the mat", "a dog", "very good ! a great film", "it was unknown"]
MEANT = ["a cat sat", "the dogs ran on the mat", "the movie was good .", "bad"]
CORPUS = [*MEANT, "the cat was on the mat", "a film"]
MEASURES = ("precision", "recall", "f1")
EMPTY = [""] * 4


def by_definition(
    folder: str, said: str, meant: str, layer: int = -1, idf: list[str] | None = None
) -> dict[str, float]:
    """Zhang et al. (2020), equations for R, P and F, token by token."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.eos_token_id}

    def embed(text: str) -> tuple[list[int], list[torch.Tensor]]:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
        return inputs["input_ids"][0].tolist(), list(states)

    def weight(token: int) -> float:
        if token in special:
            return 0.0
        if idf is None:
            return 1.0
        holding = sum(token in tokenizer(text)["input_ids"] for text in idf)
        return -math.log((holding + 1) / (len(idf) + 1))

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    def covered(tokens: list[int], rows: list[torch.Tensor], others: list[torch.Tensor]) -> float:
        total = sum(weight(token) for token in tokens)
        best = [max(cosine(row, other) for other in others) for row in rows]
        return sum(weight(t) * b for t, b in zip(tokens, best, strict=True)) / total

    (a, x), (b, y) = embed(said), embed(meant)
    precision, recall = covered(a, x, y), covered(b, y, x)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


@pytest.fixture(scope="module", params=["bert", "gpt2", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp(request.param), request.param, "body")


@pytest.mark.parametrize(
    "options", [{}, {"layer": 0}, {"layer": 1}, {"layer": -2}, {"idf": CORPUS}]
)
def test_it_is_the_definition(folder: str, options: dict) -> None:
    expected = [by_definition(folder, *pair, **options) for pair in zip(SAID, MEANT, strict=True)]
    for measure in MEASURES:
        reward = BertScore(folder, measure=measure, device="cpu", **options)
        got = reward(EMPTY, SAID, reference=MEANT)
        assert got == pytest.approx([one[measure] for one in expected], abs=1e-4)
        alone = [reward([""], [s], reference=[m])[0] for s, m in zip(SAID, MEANT, strict=True)]
        assert got == pytest.approx(alone, abs=1e-5)
    if options:
        plain = BertScore(folder, device="cpu")(EMPTY, SAID, reference=MEANT)
        assert (got == pytest.approx(plain, abs=1e-4)) == (options == {"layer": -1})


@pytest.mark.parametrize("idf", [None, CORPUS])
@pytest.mark.parametrize("layer", [1, 2])
def test_it_is_the_authors(tmp_path: Path, layer: int, idf: list[str] | None) -> None:
    library = pytest.importorskip("bert_score")
    folder = write(tmp_path, "bert", "body", tokenizer={"model_max_length": 16})
    scorer = library.BERTScorer(
        model_type=folder, num_layers=layer, idf=idf is not None, idf_sents=idf, nthreads=0,
        device="cpu",
    )  # fmt: skip
    # Each pair by itself: against padding, the package takes no cosine below 0 for the best.
    rows = [scorer.score([s], [[m, "a cat"]]) for s, m in zip(SAID, MEANT, strict=True)]
    for at, measure in enumerate(MEASURES):
        reward = BertScore(folder, measure=measure, layer=layer, idf=idf, device="cpu")
        got = reward(EMPTY, SAID, reference=[[m, "a cat"] for m in MEANT])
        assert got == pytest.approx([float(row[at]) for row in rows], abs=1e-4)


def test_matching_by_hand() -> None:
    def rows(*angles: float) -> torch.Tensor:
        radians = [math.radians(angle) for angle in angles]
        return torch.tensor([[math.cos(one), math.sin(one)] for one in radians])

    said = Embedded(rows(0, 90), torch.tensor([1.0, 1.0]))
    meant = Embedded(rows(0, 60, 180), torch.tensor([1.0, 2.0, 1.0]))
    precision = (1 + math.cos(math.radians(30))) / 2
    recall = (1 + 2 * math.cos(math.radians(30)) + 0) / 4
    f1 = 2 * precision * recall / (precision + recall)
    assert greedy_match(said, meant).tolist() == pytest.approx([precision, recall, f1], abs=1e-6)
    # A token without weight is not averaged over, but it is matched.
    marked = Embedded(rows(0, 90), torch.tensor([1.0, 0.0]))
    assert greedy_match(marked, meant).tolist()[:2] == pytest.approx([1.0, recall], abs=1e-6)
    nothing = Embedded(rows(0), torch.tensor([0.0]))
    assert greedy_match(nothing, nothing).tolist() == [0.0, 0.0, 0.0]
    opposite = Embedded(rows(180), torch.tensor([1.0]))
    assert greedy_match(opposite, Embedded(rows(0), torch.tensor([1.0]))).tolist() == [-1, -1, 0]


def test_references(folder: str) -> None:
    reward = BertScore(folder, device="cpu")
    one, two = reward(["", ""], [SAID[0]] * 2, reference=MEANT[:2])
    got = reward(EMPTY, [SAID[0]] * 4, reference=[MEANT[:2], MEANT[1], None, []])
    assert got == [max(one, two), two, None, None]
    same = reward(EMPTY, SAID, reference=SAID)
    assert same == pytest.approx([1.0] * 4, abs=1e-5)
    assert max(same) <= 1
    other = BertScore(folder, column="answer", device="cpu")
    assert other([""], [SAID[0]], answer=[MEANT[0]]) == [pytest.approx(one, abs=1e-6)]
    with pytest.raises(RewardError, match="'reference'"):
        reward([""], ["a"], answer=["b"])


def test_texts_of_nothing(folder: str) -> None:
    for measure in MEASURES:
        reward = BertScore(folder, measure=measure, device="cpu")
        said, meant = ["", " ", "the cat", ""], ["the cat", "a", [""], ""]
        assert reward(EMPTY, said, reference=meant) == [0.0] * 4
        assert math.isfinite(reward([""], ["\ud800 猫"], reference=["猫 \x00"])[0])
    idf = BertScore(folder, idf=["the"], device="cpu")  # All weights are 0 in every text of it.
    assert idf([""], ["the"], reference=["the"]) == [0.0]


def test_the_built_in_model() -> None:
    reward = BertScore(device="cpu")
    said = ["The movie was great.", "Tom owes 300 euros"]
    near, far = reward(["", ""], said, reference=["The film was great."] * 2)
    assert 1 > near > far
    # The first word is read as it would be within a text.
    assert reward([""], ["cat"], reference=[" cat"]) == [pytest.approx(1, abs=1e-5)]


def test_references_are_embedded_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = BertScore(folder, device="cpu")
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
        ({"measure": "f2"}, "measure .*not 'f2'"),
        ({"idf": "a text"}, "idf .*not 'a text'"),
        ({"idf": []}, r"idf .*not \[\]"),
        ({"truncate": "no"}, "truncate .*not 'no'"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^bertscore: {message}"):
        BertScore(**options)


def test_layers(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "body")
    for layer in (3, -4):
        with pytest.raises(RewardError, match=f"has layer={layer}, but .* has 2 layers"):
            BertScore(folder, layer=layer, device="cpu")([""], ["a"], reference=["b"])
    reward = BertScore(folder, layer=2, idf=CORPUS, device="cpu")
    values = reward(EMPTY, SAID, reference=MEANT)
    again = pickle.loads(pickle.dumps(reward))
    assert again(EMPTY, SAID, reference=MEANT) == values
