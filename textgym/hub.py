"""Names of the Hugging Face hub, refused at once where nothing can come of them.

Without a network, transformers and datasets try again and again before they give up (about 25 s a
name), also for a name that is only misspelt. Here the hub is asked once whether it has the name.
What was downloaded before is then read from the cache.
"""

from __future__ import annotations

import os
from pathlib import Path

from textgym.errors import near_matches

# Seconds until a connection has to be made; the answer may take longer.
_PATIENCE = 3.0

# The errors of a host that cannot be reached, in the libraries that huggingface_hub is built on.
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ConnectionError", "OfflineModeIsEnabled"}


def find_on_hub(name: str, kind: str = "model", known: tuple[str, ...] = ()) -> str:
    """Where a hub id can be loaded from.

    Args:
        name: The id, ``"owner/name"`` or ``"name"``.
        kind: ``"model"`` or ``"dataset"``.
        known: Other names that may have been meant.

    Returns:
        The id itself if the hub can be asked for it, or the folder in the cache if it cannot.

    Raises:
        OSError: If the hub has no such id, or it cannot be reached and the cache has none either.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=_PATIENCE)
    except GatedRepoError:  # The library's own message says how access is granted.
        return name
    except RepositoryNotFoundError as error:
        meant = near_matches(name, [*known, *_cached(kind)])
        raise OSError(f"the hub has no {kind} {name!r}, or it is private{meant}") from error
    except Exception as error:
        if not {each.__name__ for each in type(error).__mro__} & _NO_CONNECTION:
            return name  # Slow, or out of order: what loads it says so.
        folder = _snapshot(name, kind)
        if folder is not None:
            return folder
        there = _cached(kind)
        if kind == "dataset" and name in there:
            return name
        meant = near_matches(name, [*known, *there])
        raise OSError(
            f"the Hugging Face hub cannot be reached, and {name!r} is not among what was "
            f"downloaded before{meant}"
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
    """The ids of what was downloaded before."""
    from huggingface_hub import constants

    prefix = f"{kind}s--"
    found = [
        folder.name.removeprefix(prefix).replace("--", "/")
        for folder in _folders(Path(constants.HF_HUB_CACHE))
        if folder.name.startswith(prefix)
    ]
    if kind == "dataset":  # The library keeps what it has prepared in a place of its own.
        prepared = os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets")
        found += [folder.name.replace("___", "/") for folder in _folders(Path(prepared))]
    return found


def _folders(place: Path) -> list[Path]:
    return [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []
