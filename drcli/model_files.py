"""Finds the files of a model of others: in a folder, or in the user's cache of Hugging Face; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from drcli.errors import DataError


def find_file(model: str, names: Sequence[str], *, saved: str = "a model") -> Path:
    """Return the first of some files of a model that is there: in a folder, or in the user's cache of Hugging Face.

    Args:
        model: a folder, or the model's name "owner/name" or "name".
        names: of files.
        saved: what is looked for, for messages.

    Raises:
        DataError: none is there; names the file, and the command that fetches it.
    """
    if _is_folder(model):
        found = next((Path(model) / name for name in names if (Path(model) / name).is_file()), None)
        if found is None:
            raise DataError(f"{Path(model) / names[0]}: no such file; name a folder that {saved} was saved in")
        return found
    found = next((Path(path) for name in names if isinstance(path := _cached(model, name), str)), None)
    if found is None:
        raise DataError(
            f"{model}: no folder, and {names[0]} of a model of this name is not in the cache; fetch it where there is "
            f"a network: hf download {model}"
        )
    return found


def _is_folder(model: str) -> bool:
    try:
        return Path(model).is_dir()
    except OSError:  # longer than a path may be
        return False


def _cached(model: str, name: str) -> Any:
    hub = import_module("huggingface_hub")  # which timm and transformers bring along
    try:
        return hub.try_to_load_from_cache(model, name)
    except ValueError:  # it can be no model's name
        return None
