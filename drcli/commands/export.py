"""`drcli export`: one trained encoder as a .safetensors, for programs that know nothing of drcli."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import Tensor

from drcli import __version__
from drcli.engine.loaded import Loaded, load
from drcli.errors import UsageError
from drcli.files import write_atomic
from drcli.models.lora import merged
from drcli.models.weight_files import metadata_of
from drcli.recipe.load import identity_of
from drcli.registry import known
from drcli.safetensors_file import write_safetensors

SUFFIX = ".safetensors"


def export(path: Path, encoder: str | None, out: Path) -> dict[str, Any]:
    """Write an encoder, and what it takes to use it, and return the object of `drcli export --json`.

    Adapters are merged into the weights that they are put on.

    Args:
        path: a checkpoint.pt or last.pt, or a run directory.
        encoder: its modality; None: the only one.
        out: the file to write.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or the file cannot be written.
    """
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: the name must end in {SUFFIX}")
    found = load(path)
    modality = _chosen(encoder, found)
    tensors = merged(found.encoders[modality])
    metadata = _metadata(found, modality, tensors)
    write_atomic(out, write_safetensors(tensors, metadata))
    return {"checkpoint": str(found.path), "encoder": modality, "out": str(out), "metadata": metadata}


def _chosen(encoder: str | None, found: Loaded) -> str:
    names = list(found.encoders)
    if encoder is None and len(names) == 1:
        return names[0]
    if encoder not in names:
        asked = "" if encoder is None else f" {encoder}"
        raise UsageError(f"--encoder{asked}: name an encoder of {found.path}; {known(encoder or '', names)}")
    return encoder


def _metadata(found: Loaded, modality: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    recipe, plan = found.recipe, found.transforms[modality].plan
    return metadata_of(
        recipe.modalities[modality],
        tensors,
        format="pt",
        drcli=__version__,
        modality=modality,
        classes=found.classes,
        **({"task": found.recipe.task} if found.recipe.task == "regression" else {}),
        input_shape=plan.shape,
        input_kind=plan.info.kind,
        input_mean=plan.info.mean,
        input_std=plan.info.std,
        dataset=recipe.dataset.name,
        recipe=recipe.name,
        recipe_digest=_digest(identity_of(recipe.to_dict())),
        method=recipe.method,
        seed=recipe.seeds[0],
        epoch=found.epoch,
    )


def _digest(recipe: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def line(result: dict[str, Any]) -> Text:
    """Return what was written, on one line."""
    notes = result["metadata"]
    return Text(
        f"{result['out']}: encoder {result['encoder']} of {result['checkpoint']}, epoch {notes['epoch']}; backbone "
        f"{notes['backbone']}, input {notes['input_shape']}"
    )
