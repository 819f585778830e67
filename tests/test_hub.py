"""Names on the hub: refused after one request, or read from the cache without a network."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

import textgym
from textgym.errors import DataError, ModelError, TokenizerError
from textgym.hub import find_on_hub
from textgym.tokenization import TINY_DIR


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model, and an unreachable hub."""
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    shutil.copytree(TINY_DIR, snapshot)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "nothing"))
    answer(monkeypatch, ConnectionError("no network"))
    download = huggingface_hub.snapshot_download

    def from_cache(name: str, **kwargs: Any) -> Any:
        return download(name, cache_dir=tmp_path, **kwargs)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", from_cache)
    return snapshot


def answer(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    def repo_info(self: Any, name: str, **kwargs: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)


def test_misspelt_names_without_a_network(cache: Path) -> None:
    from textgym.lm import LanguageModel

    textgym.load_tokenizer("some/model")  # Imports what both need.
    before = time.monotonic()
    with pytest.raises(TokenizerError, match=r"'some/modle'.*did you mean 'some/model'"):
        textgym.load_tokenizer("some/modle")
    with pytest.raises(ModelError, match=r"'txtgym/tiny'.*did you mean 'textgym/tiny'"):
        LanguageModel.load("txtgym/tiny")
    assert time.monotonic() - before < 5, "transformers alone takes 45 s"


def test_a_misspelt_data_set_without_a_network(cache: Path) -> None:
    pytest.importorskip("datasets")
    import gymnasium as gym

    with pytest.raises(DataError, match=r"abisee/cnn_dailymale.*cannot be reached"):
        gym.make("TextGen-v0", prompts="hf:abisee/cnn_dailymale")


def test_what_was_downloaded_is_read_from_the_cache(cache: Path) -> None:
    assert find_on_hub("some/model") == str(cache)
    tokenizer = textgym.load_tokenizer("some/model")
    assert tokenizer.content_hash() == textgym.load_tokenizer().content_hash()


def test_a_hub_that_answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, object())
    assert find_on_hub("some/other") == "some/other"
    answer(monkeypatch, TimeoutError("slow"))
    assert find_on_hub("some/other") == "some/other", "loading may take longer"


def test_no_such_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    answer(monkeypatch, error)
    with pytest.raises(OSError, match=r"no model 'some/modl'.*did you mean 'some/model'"):
        find_on_hub("some/modl")
