"""What Python code calls to prepare data: `drcli.prepare`, the command as a function, and `drcli.prepare_from`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.arrays import Arrays
from data_prep.streamed import ORIGIN, Given, Streamed
from drcli import arguments, terminal
from drcli.arguments import Overrides, Place
from drcli.commands import prepare as preparing
from drcli.commands.prepare import Prepared, PrepareRequest
from drcli.recipe.validate import validate_settings


def prepare(  # noqa: PLR0913 - one argument for each option
    target: Place,
    overrides: Overrides = (),
    *,
    source: Place | None = None,
    out: Place | None = None,
    workers: int = 1,
    limit: int | None = None,
    fresh: bool = False,
    max_bad: str | float = "1%",
    split_dir: Place | None = None,
    progress: bool = True,
) -> Prepared:
    """Turn an official download into a prepared dataset, as `drcli prepare` does.

    Args:
        target: name of a dataset, or a recipe.
        overrides: values in place of the recipe's.
        source: folder of the download, or its address "hf://owner/name[/folder][@revision]" on the Hugging Face Hub.
        out: folder of the prepared dataset; None: the recipe's dataset.root.
        workers: processes that decode clips.
        limit: largest number of samples, all splits together.
        fresh: replace a dataset that is already there.
        max_bad: largest share of clips that may be skipped.
        split_dir: folder of the authors' split files.
        progress: whether to show what is done, notes and warnings.

    Raises:
        DrcliError: bad usage or recipe, or a source that is missing or unreadable.
    """
    arguments.at_least(1, workers=workers, limit=limit)
    request = PrepareRequest(
        str(target),
        arguments.texts(overrides),
        source,
        arguments.path(out),
        workers,
        limit,
        fresh,
        str(max_bad),
        arguments.path(split_dir),
    )
    console = terminal.console(stderr=True, quiet=not progress)
    return preparing.prepare(preparing.fetched(request, console), console)


def prepare_from(  # noqa: PLR0913 - one argument for each setting
    splits: Mapping[str, Iterable[Any]],
    root: Place,
    *,
    classes: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    longest: Mapping[str, int] | None = None,
    vocabularies: Mapping[str, int] | None = None,
    pads: Mapping[str, int] | None = None,
    val_share: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    version: str | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> Prepared:
    """Write samples of any origin as a prepared dataset, one after another; memory does not grow with their number.

    A split is anything that gives pairs ({modality: array}, label), one sample each: a torch Dataset, a generator, a
    list. Arrays are numpy's, tensors, lists of numbers or pictures of Pillow; what they mean is said in the README
    ("Your own arrays"). Sequences (L, D) may be of any length each. A sample lacks a modality where it is None or not
    there. A recipe uses the dataset by `dataset: {name: arrays, root: ROOT}`. Samples pass through files in a folder
    beside `root`, which takes as much disk as the dataset while it is made.

    Args:
        splits: train, test and val; without val, a part of train is drawn for it.
        root: folder of the prepared dataset; it appears when it is complete.
        classes: names of the classes, of which labels are then numbers or names; None: the labels themselves.
        kinds: meaning of the axes, by modality: array, frames, flow, sequence, vector, tokens; else by their number.
        longest: most steps of sequences and tokens, by modality; longer ones are cut. Else as many as the longest has.
        vocabularies: number of token ids, by modality of the kind tokens.
        pads: token id of the padding, by modality of the kind tokens.
        val_share: part of train that is drawn for val.
        seed: of that draw, and of the one under `limit`.
        limit: largest number of samples, all splits together; stratified by class.
        version: a name for this state of the data: where it is prepared already, nothing is read.
        fresh: replace a dataset that is in the folder.
        progress: whether to show what is done, notes and warnings.

    Raises:
        UsageError: an argument is not valid.
        DataError: a sample is not like those before it, or is no array; the message names split, number and modality.
    """
    arguments.at_least(1, limit=limit)
    asked = {
        "kinds": kinds or {},
        "vocabularies": vocabularies or {},
        "pads": pads or {},
        "longest": longest or {},
        "val_share": val_share,
        "seed": seed,
    }
    settings = validate_settings(Arrays.Settings, asked, where=ORIGIN)
    given = Given(splits, classes, settings.longest, version)
    preparer = Streamed(settings.model_copy(update={"longest": {}}), given)
    return preparing.run_preparer(
        preparer, terminal.console(stderr=True, quiet=not progress), root=Path(root), limit=limit, fresh=fresh
    )
