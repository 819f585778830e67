from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import logging

from tests.rewards.neural.checkpoints import write
from textgym.errors import RewardError
from textgym.rewards import RewardSum
from textgym.rewards.neural import checkpoint
from textgym.rewards.neural.bertscore import BertScore
from textgym.rewards.neural.classifier import Classifier, RewardModel
from textgym.rewards.neural.fluency import Fluency
from textgym.rewards.neural.scorer import ModelReward, encodable, length_batches
from textgym.rewards.neural.similarity import SemanticSimilarity

LOADS: list[str] = []
ASKED: list[str] = []


@dataclass(frozen=True, eq=False)
class Counting(ModelReward[Callable[[str], int]]):
    """Scores a text by its length, and records loads and texts."""

    bonus: float = 0.0
    name: ClassVar[str] = "counting"

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        model = self._loaded()

        def compute(texts: list[str]) -> list[float]:
            ASKED.extend(texts)
            return [model(text) + self.bonus for text in texts]

        return self._remembered(completions, compute)

    def _load(self, device: torch.device, dtype: torch.dtype | None) -> Callable[[str], int]:
        LOADS.append(f"{self.model} {device} {dtype}")
        return len


@given(st.lists(st.integers(0, 50)), st.integers(1, 100))
def test_batches(lengths: list[int], budget: int) -> None:
    batches = list(length_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batches)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
    # No two neighbours would have fitted together.
    for one, other in pairwise(batches):
        assert (len(one) + 1) * lengths[other[0]] > budget
        assert lengths[one[-1]] <= lengths[other[0]]


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=6),
    st.integers(0, 4),
)
def test_the_memory_is_a_bounded_lru(calls: list[list[str]], size: int) -> None:
    reward = Counting("m", 0.5, device="cpu", cache_size=size)
    known: list[str] = []
    for texts in calls:
        ASKED.clear()
        assert reward([""] * len(texts), texts) == [1.5] * len(texts)
        # Brute force: what was known is moved to the end, then what is new follows.
        new = [text for text in dict.fromkeys(texts) if text not in known]
        assert new == ASKED
        for text in texts:
            if text in known:
                known.remove(text)
                known.append(text)
        known = [*known, *new[:size]]
        known = known[max(len(known) - size, 0) :]
    ASKED.clear()
    reward([""] * len(known), known)
    assert ASKED == []


def test_a_model_is_loaded_once_at_the_first_call() -> None:
    LOADS.clear()
    reward = Counting("once")
    assert LOADS == []
    threads = [threading.Thread(target=reward, args=([""], ["ab"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuda = torch.cuda.is_available()
    place = "cuda torch.bfloat16" if cuda else "cpu torch.float32"
    assert [f"once {place}"] == LOADS


def test_pickles_hold_the_options_and_copies_are_the_same() -> None:
    reward = Counting("m", bonus=2.0, device="cpu", cache_size=7)
    assert reward(["", ""], ["a", "bcd"]) == [3.0, 5.0]
    LOADS.clear()
    ASKED.clear()
    again = pickle.loads(pickle.dumps(reward))
    assert (again.model, again.bonus, again.device, again.cache_size) == ("m", 2.0, "cpu", 7)
    assert (LOADS, ASKED) == ([], [])
    assert again([""], ["a"]) == [3.0]
    assert (len(LOADS), ASKED) == (1, ["a"])
    assert copy.deepcopy(reward) is reward
    assert copy.deepcopy({"reward": [reward]})["reward"][0] is reward


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model .*not ''"),
        ({"model": torch.nn.Linear(1, 1)}, "model .*not Linear; .*save_pretrained"),
        ({"device": "gpu0"}, "gpu0|Expected one of cpu, cuda"),
        ({"dtype": "float99"}, "dtype='float99'"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"batch_tokens": 0}, "batch_tokens .*not 0"),
        ({"cache_size": -1}, "cache_size .*not -1"),
        ({"cache_size": True}, "cache_size .*not True"),
    ],
)
def test_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(RewardError, match=f"^counting: .*({message})"):
        Counting(**{"model": "m", **options})


def _pickled(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: Fluency(str(path / "none")), "none'.*folder"),
        (lambda path: Fluency(str(path)), "no config.json.*save_pretrained"),
        (lambda path: BertScore(str(path / "none")), "none'"),
        (lambda path: SemanticSimilarity(str(path / "none")), "none'"),
        (lambda path: Classifier(str(path / "none"), 0), "none'"),
        (lambda path: RewardModel("nobody/nothing"), "'nobody/nothing'.*model="),
        (lambda path: SemanticSimilarity("nobody/nothing"), "'nobody/nothing'.*model="),
    ],
)
def test_models_that_are_not_there(tmp_path: Path, make: Any, message: str) -> None:
    reward = make(tmp_path)  # Cheap, and never fails.
    with pytest.raises(RewardError, match=f"(?s)^env: reward .* cannot load its model .*{message}"):
        RewardSum(reward, "env")(["a"], ["b"], {"reference": ["c"]})


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, "bert", "classes")
    _pickled(tmp_path)
    for reward in (Classifier(str(tmp_path), 0), BertScore(str(tmp_path))):
        with pytest.raises(RewardError, match=r"no .*safetensors"):
            reward(["a"], ["b"], reference=["c"])


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    write(tmp_path, "bert", "classes")
    config = (tmp_path / "config.json").read_text().replace(
        '"model_type": "bert"',
        '"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", '
        '"AutoModel": "evil.Model", "AutoModelForSequenceClassification": "evil.Model"}',
    )  # fmt: skip
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for reward in (Classifier(str(tmp_path), 0), SemanticSimilarity(str(tmp_path))):
        with pytest.raises(RewardError, match="cannot load its model"):
            reward(["a"], ["b"], reference=["c"])
    assert not (tmp_path / "ran").exists()


def test_weights_that_would_be_drawn_at_random_are_refused(tmp_path: Path) -> None:
    language_model = write(tmp_path / "lm", "gpt2", "lm")
    with pytest.raises(RewardError, match=r"lacks 'score.weight'"):
        Classifier(language_model, 0)(["a"], ["b"])
    # But of a language model's checkpoint the head may be left over, the pooler missing.
    verbosity = logging.get_verbosity()
    write(tmp_path / "bert", "bert", "lm", is_decoder=True)
    assert SemanticSimilarity(str(tmp_path / "bert"))(["a"], ["the cat"], reference=["the cat"])
    assert logging.get_verbosity() == verbosity


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    folder = write(tmp_path, "bert", "lm", is_decoder=True)  # The pooler is drawn.
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    SemanticSimilarity(folder)(["a"], ["the cat"], reference=["the dog"])
    assert torch.equal(torch.rand(4), expected)


def test_rewards_of_one_model_share_its_weights_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, "bert", "classes")
    loads: list[str] = []
    load = checkpoint.load_pretrained

    def counted(kind: Any, name: str, *args: Any, **options: Any) -> Any:
        loads.append(name)
        return load(kind, name, *args, **options)

    monkeypatch.setattr(checkpoint, "load_pretrained", counted)
    one, other = Classifier(folder, 0), Classifier(folder, 1, truncate="left")
    text = [""], ["the cat sat"]
    first = one(*text)
    assert sum(first + other(*text)) == pytest.approx(1)
    assert loads == [folder]
    write(tmp_path, "bert", "classes", initializer_range=0.9)
    assert Classifier(folder, 0)(*text) != first
    assert one(*text) == first


def test_encodable() -> None:
    assert encodable("a\ud800b é 猫") == "a?b é 猫"
