"""`drcli prepare`: from the official download to a prepared dataset."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from drcli.amounts import counted
from drcli.data.format import INFO_FILE, DatasetInfo, read_info
from drcli.engine.ray_cluster import import_ray, uses_ray
from drcli.errors import UsageError
from drcli.names import DATASETS
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.report.render import titled
from drcli.watch.console import stages

if TYPE_CHECKING:
    from data_prep.clip_preparer import ClipPreparer
    from data_prep.job import Job


@dataclass(frozen=True)
class PrepareRequest:
    """What the command line asks for; see `drcli prepare --help`.

    Attributes:
        source: a folder, or an address hf://... until `fetched` puts the folder in its place.
        origin: what `dataset.json` says about where the folder was fetched from.
    """

    target: str
    overrides: Sequence[str]
    source: Path | str | None
    out: Path | None
    workers: int | None
    limit: int | None
    fresh: bool
    max_bad: str = "1%"
    split_dir: Path | None = None
    shard: str | None = None
    merge: bool = False
    verify: bool = False
    engine: str = "local"
    address: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset and what it took.

    Attributes:
        info: its `dataset.json`.
        root: where it is.
        seconds: what this command took.
    """

    info: DatasetInfo
    root: Path
    seconds: float


@dataclass(frozen=True)
class PartPrepared:
    """A part of a dataset's clips.

    Attributes:
        name: of the dataset.
        root: where the dataset will be.
        shard: which part, such as "2/8".
        stored: clips of it that are stored.
        skipped: the others, by id: the reason.
        seconds: what this command took.
    """

    name: str
    root: Path
    shard: str
    stored: int
    skipped: Mapping[str, str]
    seconds: float


def run(request: PrepareRequest, progress: Console) -> Prepared | PartPrepared:
    """Prepare what a request asks for, or the part of it that it names.

    Raises:
        DrcliError: bad usage or recipe, or a source that is missing or unreadable; a file that was altered.
    """
    on_ray = uses_ray(request.engine, {"--address": request.address})
    _check_parts(request, on_ray=on_ray)
    request = fetched(request, progress)
    if on_ray:
        from drcli.commands.prepare_ray import prepare_on_ray

        return prepare_on_ray(request, progress)
    return prepare(request, progress) if request.shard is None else prepare_shard(request, progress)


def _check_parts(request: PrepareRequest, *, on_ray: bool) -> None:
    """Refuse what the options about parts alone show to be wrong: before anything is fetched, which may take hours."""
    from data_prep.writing.shards import Shard

    commands = sum((request.shard is not None, request.merge, request.verify))
    if commands > 1:
        raise UsageError("--shard, --merge and --verify are three commands; give one of them")
    if on_ray and commands:
        raise UsageError("--engine ray makes all parts and joins them; leave out --shard, --merge and --verify")
    if request.shard is not None:
        Shard.parse(request.shard)
    if on_ray:
        import_ray()
    if on_ray or request.shard is not None or request.merge:
        shardable(recipe_of(request))


def fetched(request: PrepareRequest, progress: Console) -> PrepareRequest:
    """Return a request with the folder of its source, fetched from the hub where it is an address there.

    Raises:
        UsageError: the dataset needs no download, its folder holds something else, or huggingface_hub is missing.
        DataError: it cannot be fetched.
    """
    from data_prep.files import hub

    text = hub.text_of(request.source)
    if text is None or request.verify:
        return request
    from data_prep.writing.publish import is_occupied

    parse_share(request.max_bad)
    address, block = hub.Address.parse(text), recipe_of(request).dataset
    if not DATASETS.load(block.name).needs_source:
        raise UsageError(f"dataset {block.name!r} needs no download: leave out --source {text}")
    there = read_info(block.root).source.get("hub") if is_occupied(block.root.resolve()) and not request.fresh else None

    def note(text: str) -> None:
        progress.print(Text(text))

    commit = hub.commit_of(address, there, note)
    folder = hub.fetch(replace(address, revision=commit), note, is_watched=progress.is_interactive)
    return replace(request, source=folder, origin={"hub": hub.provenance(address, commit)})


def prepare(request: PrepareRequest, progress: Console) -> Prepared:
    """Prepare what a request asks for, join the parts of it, or read again what is prepared; see `run`."""
    max_bad, recipe = parse_share(request.max_bad), recipe_of(request)
    if request.verify:
        return verify(recipe)
    if request.merge and (request.fresh or not (recipe.dataset.root / INFO_FILE).is_file()):
        shardable(recipe).join(job_of(recipe, request, max_bad, progress))
    prepared = prepare_recipe(
        recipe,
        progress,
        source=_folder(request),
        origin=request.origin,
        workers=request.workers or 1,
        limit=request.limit,
        fresh=request.fresh,
        max_bad=max_bad,
    )
    if request.merge:
        from data_prep.writing.shards import shards_folder

        shutil.rmtree(shards_folder(recipe.dataset.root.resolve()), ignore_errors=True)
    return prepared


def recipe_of(request: PrepareRequest) -> Recipe:
    """The recipe, with what the options say in place of its own."""
    overrides = list(request.overrides)
    if request.split_dir is not None:
        overrides.append(f"dataset.prepare.split_dir={json.dumps(str(request.split_dir))}")
    recipe = load_recipe(find_recipe(request.target), overrides, only())
    if request.out is None:
        return recipe
    return replace(recipe, dataset=replace(recipe.dataset, root=request.out))


def verify(recipe: Recipe) -> Prepared:
    """Read every file of a prepared dataset and compare its digest.

    Raises:
        DataError: it is not there, is not the recipe's, or a file was altered.
    """
    from drcli.data.prepared import open_dataset

    started, block = time.perf_counter(), recipe.dataset
    settings = block.prepare.model_dump(mode="json", by_alias=True)
    found = open_dataset(block.root, name=block.name, settings=settings, everything=True)
    return Prepared(found.info, block.root, time.perf_counter() - started)


def prepare_shard(request: PrepareRequest, progress: Console) -> PartPrepared:
    """Decode the clips of one part, showing progress and warnings."""
    from data_prep.writing.shards import Shard

    started, max_bad, recipe = time.perf_counter(), parse_share(request.max_bad), recipe_of(request)
    shard = Shard.parse(str(request.shard))
    display, advance = stages(progress, f"preparing {recipe.dataset.name}, part {shard}")
    display.disable = not progress.is_interactive
    with display:
        job = replace(job_of(recipe, request, max_bad, progress), progress=advance)
        report = shardable(recipe).fill_shard(job, shard)
    skipped = {clip.id: f"{clip.reason} ({clip.detail})" for clip in report.skipped}
    seconds = time.perf_counter() - started
    return PartPrepared(recipe.dataset.name, recipe.dataset.root, str(shard), report.done, skipped, seconds)


def shardable(recipe: Recipe) -> ClipPreparer:
    """The preparer of a dataset of clips."""
    from data_prep.clip_preparer import ClipPreparer

    preparer = DATASETS.load(recipe.dataset.name)(recipe.dataset.prepare)
    if not isinstance(preparer, ClipPreparer):
        raise UsageError(
            f"dataset {recipe.dataset.name!r} is not made clip by clip; leave out --shard, --merge and --engine ray"
        )
    return preparer


def job_of(recipe: Recipe, request: PrepareRequest, max_bad: float, progress: Console) -> Job:
    """What a preparer is given."""
    from data_prep.job import Job

    return Job(
        _folder(request),
        recipe.dataset.root.resolve(),
        workers=request.workers or 1,
        limit=request.limit,
        warn=lambda text: progress.print(Text(text, style="yellow")),
        note=lambda text: progress.print(Text(text)),
        max_bad=max_bad,
    )


def _folder(request: PrepareRequest) -> Path | None:
    """The folder of the source."""
    return None if request.source is None else Path(request.source)


def parse_share(text: str) -> float:
    """Return a share in [0, 1], written as "1%" or as "0.01".

    Raises:
        UsageError: it is neither.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise UsageError(f"--max-bad is {text!r}; write a share such as 1% or 0.01, from 0 to 100%")
    return share


def prepare_recipe(
    recipe: Recipe,
    progress: Console,
    *,
    source: Path | None = None,
    origin: Mapping[str, Any] | None = None,
    workers: int = 1,
    limit: int | None = None,
    fresh: bool = False,
    max_bad: float = 0.01,
) -> Prepared:
    """Prepare a recipe's dataset, showing progress and warnings."""
    block = recipe.dataset
    preparer = DATASETS.load(block.name)(block.prepare)
    return run_preparer(
        preparer,
        progress,
        root=block.root,
        source=source,
        origin=origin,
        workers=workers,
        limit=limit,
        fresh=fresh,
        max_bad=max_bad,
    )


def run_preparer(preparer: Any, progress: Console, *, root: Path, **options: Any) -> Prepared:
    """Let a preparer work, showing progress and warnings.

    Args:
        preparer: of a dataset.
        progress: where to show them.
        root: folder of the prepared dataset.
        options: see `data_prep.base.Preparer.run`.
    """
    started = time.perf_counter()
    display, advance = stages(progress, f"preparing {preparer.name}")
    display.disable = not progress.is_interactive  # else it would leave an empty line
    with display:
        info = preparer.run(
            **{"source": None, **options},
            out=root,
            progress=advance,
            warn=lambda text: progress.print(Text(text, style="yellow")),
            note=lambda text: progress.print(Text(text)),
        )
    return Prepared(info, root, time.perf_counter() - started)


def to_json(prepared: Prepared | PartPrepared) -> dict[str, Any]:
    """Return the object of `drcli prepare --json`."""
    if isinstance(prepared, PartPrepared):
        return {**asdict(prepared), "root": str(prepared.root)}
    info = prepared.info
    return {
        "dataset": info.name,
        "root": str(prepared.root),
        "classes": list(info.classes),
        **({} if info.regression is None else {"task": info.contents.task, "regression": asdict(info.regression)}),
        "samples": dict(info.samples),
        "rows": dict(info.rows),
        "modalities": {m: {"shape": list(spec.shape), "dtype": spec.dtype} for m, spec in info.modalities.items()},
        "settings": dict(info.settings),
        "source": dict(info.source),
        "fingerprint": info.fingerprint,
        "seconds": prepared.seconds,
    }


def table(prepared: Prepared | PartPrepared) -> Group:
    """Return what was prepared, one row per split."""
    if isinstance(prepared, PartPrepared):
        done = f"{counted(prepared.stored, 'clip')} stored, {len(prepared.skipped)} skipped"
        return Group(Text(f"{prepared.name}, part {prepared.shard}: {done}; when all parts are, join them by --merge"))
    info = prepared.info
    out = Table()
    for name in ("split", "samples", "rows", *info.modalities):
        out.add_column(name, justify="left" if name == "split" else "right")
    for split, rows in info.rows.items():
        shapes = [f"{spec.dtype} {' x '.join(map(str, spec.shape))}" for spec in info.modalities.values()]
        out.add_row(split, str(info.samples[split]), str(rows), *shapes)
    scale = info.regression
    target = f"{len(info.classes)} classes" if scale is None else f"a value from {scale.low:g} to {scale.high:g}"
    return titled(f"{info.name} in {prepared.root}: {target}", out)
