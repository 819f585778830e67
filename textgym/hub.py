"""A fast check whether the Hugging Face hub has a name.

Without a network, transformers and datasets retry for about 25 s per name, even for a misspelt one.
Here the hub is asked once, and otherwise the cache is used.
"""

from __future__ import annotations

import os
from pathlib import Path

from textgym.errors import near_matches

# Seconds to connect; the response may take longer.
_TIMEOUT = 3.0

# Errors of an unreachable host in the libraries of huggingface_hub.
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ConnectionError", "OfflineModeIsEnabled"}


def find_on_hub(name: str, kind: str = "model", known: tuple[str, ...] = ()) -> str:
    """The place from which a hub id can be loaded.

    Args:
        name: The id, ``"owner/name"`` or ``"name"``.
        kind: ``"model"`` or ``"dataset"``.
        known: Further names to suggest for a misspelt one.

    Returns:
        The id itself, or its folder in the cache if the hub cannot be reached.

    Raises:
        OSError: If the hub does not have the id, or neither the hub nor the cache can provide it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_TIMEOUT)
    except GatedRepoError:  # The library's message explains how to get access.
        return name
    except RepositoryNotFoundError as error:
        suggestion = near_matches(name, [*known, *_cached(kind)])
        raise OSError(f"the hub has no {kind} {name!r}, or it is private{suggestion}") from error
    except Exception as error:
        if not {base.__name__ for base in type(error).__mro__} & _NO_CONNECTION:
            return name  # The hub is slow or faulty, which loading the name reports.
        folder = _snapshot(name, kind)
        if folder is not None:
            return folder
        cached = _cached(kind)
        if kind == "dataset" and name in cached:
            return name
        suggestion = near_matches(name, [*known, *cached])
        raise OSError(
            f"the Hugging Face hub cannot be reached, and {name!r} was not downloaded before"
            f"{suggestion}"
        ) from error
    return name


def _snapshot(name: str, kind: str) -> str | None:
    """The folder of a repository in the hub's cache, if it was downloaded."""
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, repo_type=kind, local_files_only=True))
    except (OSError, ValueError):
        return None


def _cached(kind: str) -> list[str]:
    """The ids in the hub's cache."""
    from huggingface_hub import constants

    prefix = f"{kind}s--"
    found = [
        folder.name.removeprefix(prefix).replace("--", "/")
        for folder in _folders(Path(constants.HF_HUB_CACHE))
        if folder.name.startswith(prefix)
    ]
    if kind == "dataset":  # The library stores prepared data sets separately.
        prepared = os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets")
        found += [folder.name.replace("___", "/") for folder in _folders(Path(prepared))]
    return found


def _folders(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()] if path.is_dir() else []
