"""`drcli diagnose`: the learning state of a checkpoint, or of features from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from drcli.diagnosis import ModalityDiagnosis, diagnose, reading, unequal_shares
from drcli.diagnosis.clustering import constant_dimensions
from drcli.diagnosis.features_file import load_features
from drcli.diagnosis.sampling import present_only, stratified_rows
from drcli.diagnosis.settings import MeasureSettings, Slopes
from drcli.engine.assemble import restore
from drcli.engine.cores import looking_at
from drcli.engine.device import resolve_device, set_determinism
from drcli.errors import UsageError
from drcli.models.multimodal import extract_features
from drcli.recipe.schema import Recipe, plain
from drcli.recipe.source import parse_overrides, split_root
from drcli.recipe.text import spelled
from drcli.recipe.validate import validate_settings
from drcli.relearning import strengths
from drcli.relearning.rules import shares_differ
from drcli.relearning.settings import StrengthSettings, unfit_slopes
from drcli.report.figures import diagnosis as diagnosis_figure
from drcli.report.render import titled
from drcli.report.theme import PAPER, write_figure
from drcli.runs.directory import checkpoint_at


class Settings(StrengthSettings):
    """What KEY=VALUE can set: how purities and gap are measured, lambda, and the rule that makes a strength of them."""


SETTINGS = frozenset(plain(Settings()))


@dataclass(frozen=True)
class Representations:
    """Representations to diagnose.

    Attributes:
        train: {m: (N, D_m)} and labels (N,).
        val: {m: (M, D_m)} and labels (M,).
        class_names: C names.
        epoch: epoch of the checkpoint, None for features from elsewhere.
        settings: how to diagnose, before overrides.
        present_train: which rows of train have a modality, {m: (N,)}, where some lack it.
        present_val: the same of validation.
    """

    train: tuple[Mapping[str, Tensor], Tensor]
    val: tuple[Mapping[str, Tensor], Tensor]
    class_names: Sequence[str]
    epoch: int | None
    settings: Settings
    present_train: Mapping[str, Tensor] = field(default_factory=dict)
    present_val: Mapping[str, Tensor] = field(default_factory=dict)


ADJUSTED = "in parentheses: corrected for chance, so that 0 is what permuted labels give"
LAST = ("gap of\npermuted\nlabels", "strength")
"""Headings of what has no adjusted value."""

UNEQUAL = 1.5
"""How many times the rows of validation those of train may be before the reader is warned."""


@dataclass(frozen=True)
class Report:
    """What a diagnosis found.

    Attributes:
        path: the checkpoint or the file of features.
        epoch: epoch of the checkpoint, or None.
        lambda_: slope from gap to strength; or {m: slope of m}.
        modalities: findings by modality.
        figure: the picture that was drawn, or None.
        warnings: what makes a finding worthless, one line each.
    """

    path: Path
    epoch: int | None
    lambda_: Slopes
    modalities: Mapping[str, ModalityDiagnosis]
    figure: Path | None = None
    warnings: tuple[str, ...] = ()


def run(path: Path, overrides: Sequence[str], device: str, figure: Path | None, threads: int | None = None) -> Report:
    """Diagnose a checkpoint, or a .npz file of features; nothing is changed.

    Args:
        path: a checkpoint.pt, a run directory, or a FEATURES.npz.
        overrides: KEY=VALUE of a diagnosis setting, or dataset.root=DIR.
        device: auto, cpu or cuda.
        figure: where to draw the picture, or None.
        threads: of torch; None: those that the run was begun with.

    Raises:
        DrcliError: bad usage, a damaged file, or missing data.
    """
    root, others = split_root(parse_overrides(overrides))
    asked = validate_settings(Settings, dict(others), where="drcli diagnose")
    where, path = resolve_device(device), checkpoint_at(path)
    if figure is not None:
        diagnosis_figure.check_place(figure)
    if path.suffix == ".npz" and root is not None:
        raise UsageError(f"dataset.root={root}: {path} holds the features themselves; leave it out")
    with looking_at(path, threads, where):
        found = _from_file(path) if path.suffix == ".npz" else _from_checkpoint(path, root, where, asked)
        report = _report(path, found, where, asked, figure)
    if figure is not None:
        _draw(figure, report, found)
    return report


def _report(path: Path, found: Representations, where: torch.device, asked: Settings, figure: Path | None) -> Report:
    """Diagnose representations."""
    settings = _with(found.settings, asked)
    if problem := unfit_slopes(settings.lambda_, found.train[0]):
        raise UsageError(f"lambda={spelled(settings.lambda_)}: {problem}")
    measured = diagnose(
        *present_only(*_on(where, found.train), found.present_train),
        *present_only(*_on(where, found.val), found.present_val),
        num_classes=len(found.class_names),
        settings=settings,
        lambda_=settings.lambda_,
    )
    pulls = strengths(settings.strength, measured, lambda_=settings.lambda_)
    modalities = {m: replace(one, strength=pulls[m]) for m, one in measured.items()}
    return Report(path, found.epoch, settings.lambda_, modalities, figure, tuple(_doubts(found)))


def _doubts(found: Representations) -> Iterator[str]:
    """Yield what makes a finding worthless, or a gap another thing than it seems."""
    yield from _constant(found)
    apart = unequal_shares(found.train[1], found.val[1])
    if apart is not None:
        yield f"{shares_differ(apart)}; the adjusted purities are corrected for it"


def _constant(found: Representations) -> Iterator[str]:
    """Yield a line for each modality whose features are the same for all samples of a split."""
    for split, (features, _) in (("train", found.train), ("val", found.val)):
        for m, x in features.items():
            if bool(constant_dimensions(x).all()):
                yield f"{m}: its features of {split} are constant; clusters of them say nothing about the classes"


def _draw(path: Path, report: Report, of: Representations) -> None:
    (train, labels_train), (val, labels_val) = ((_arrays(x), y.cpu().numpy()) for x, y in (of.train, of.val))
    drawn = diagnosis_figure.data(
        report.modalities,
        train,
        labels_train,
        val,
        labels_val,
        classes=of.class_names,
        theme=PAPER,
        title=title_of(report),
    )
    write_figure(path, PAPER, lambda figure: diagnosis_figure.draw(figure, drawn, PAPER))


def _arrays(features: Mapping[str, Tensor]) -> dict[str, Any]:
    return {m: x.cpu().numpy() for m, x in features.items()}


def _on(
    device: torch.device, representations: tuple[Mapping[str, Tensor], Tensor]
) -> tuple[Mapping[str, Tensor], Tensor]:
    """Move features to where they are clustered."""
    features, labels = representations
    return {m: x.to(device) for m, x in features.items()}, labels


def _from_file(path: Path) -> Representations:
    features = load_features(path)
    return Representations(
        train=(features.features_train, features.labels_train),
        val=(features.features_val, features.labels_val),
        class_names=features.class_names,
        epoch=None,
        settings=Settings(),
    )


def _with(settings: Settings, asked: Settings) -> Settings:
    """Return settings with those that the command line gives."""
    return settings.model_copy(update={name: getattr(asked, name) for name in asked.model_fields_set})


def _from_checkpoint(path: Path, root: Path | None, device: torch.device, asked: Settings) -> Representations:
    """Return the representations of a checkpoint; where a sample is diagnosed, only its rows are encoded."""
    restored = restore(path, device, root=root)
    assembly = restored.assembly
    if assembly.recipe.task != "classification":
        raise UsageError(
            f"{path}: is a regression, and purity compares clusters with classes; diagnose a run on classes, of "
            "CMU-MOSI one with dataset.prepare.target=seven"
        )
    set_determinism(assembly.recipe.training.deterministic)
    settings, classes = settings_of(assembly.recipe), assembly.dataset.info.classes
    sample = _with(settings, asked).sample
    found, masks = [], []
    for split in ("train", "val"):
        batches = assembly.batches(split)
        masks.append(batches.present)
        whole = sample is None or bool(batches.present)
        rows = None if whole else stratified_rows(batches.split.labels, max(sample or 0, len(classes)))
        found.append(extract_features(assembly.model, batches, assembly.eval_batch_size, rows))
    return Representations(found[0], found[1], classes, restored.epoch, settings, *masks)


def settings_of(recipe: Recipe) -> Settings:
    """Return how a run is diagnosed: as its method does it if it diagnoses, else as `diagnosis` says."""
    run = recipe.methods[recipe.method]
    method = run.relearn or run.settings
    block = plain(method if isinstance(method, MeasureSettings) else recipe.diagnosis)
    return Settings.model_validate({name: value for name, value in block.items() if name in SETTINGS})


def to_json(report: Report) -> dict[str, Any]:
    """Return the object of `drcli diagnose --json`."""
    return {
        "checkpoint": str(report.path),
        "epoch": report.epoch,
        "lambda": report.lambda_,
        "modalities": {m: {**found.to_dict(), "reading": reading(found)} for m, found in report.modalities.items()},
        **({"figure": str(report.figure)} if report.figure is not None else {}),
        **({"warnings": list(report.warnings)} if report.warnings else {}),
    }


def title_of(report: Report) -> str:
    """Return what was diagnosed, and with which slope from gap to strength."""
    epoch = "" if report.epoch is None else f", epoch {report.epoch}"
    slopes = report.lambda_
    words = ", ".join(f"{m} {a:g}" for m, a in slopes.items()) if isinstance(slopes, Mapping) else f"{slopes:g}"
    return f"{report.path}{epoch}, lambda {words}"


def table(report: Report) -> Group:
    """Return the findings, one row per modality; the headings are broken to leave room for the readings."""
    out = Table(collapse_padding=True)
    out.add_column("modality", overflow="fold")
    for name in ("purity\ntrain", "purity\nval", "gap", *LAST):
        out.add_column(name, justify="right", overflow="fold")
    out.add_column("reading", overflow="fold")
    for m, found in report.modalities.items():
        pairs = (
            (found.purity_train, found.purity_adjusted_train),
            (found.purity_val, found.purity_adjusted_val),
            (found.gap, found.gap_adjusted),
        )
        cells = [f"{raw:.3f}\n({adjusted:z.2f})" for raw, adjusted in pairs]
        out.add_row(Text(m), *cells, f"{found.gap_permuted:.3f}", f"{found.strength:.3f}", reading(found))
    lines = [ADJUSTED, *report.warnings, *caution(report.modalities.values())]
    return Group(titled(title_of(report), out), *(Text(line) for line in lines))


def caution(found: Iterable[ModalityDiagnosis]) -> list[str]:
    """Return a line where far more rows of train were clustered than of validation, which alone moves purity."""
    sizes = dict.fromkeys((one.num_train, one.num_val) for one in found if one.num_train > UNEQUAL * one.num_val)
    return [
        f"{train:,} rows of train against {val:,} of validation: purity depends on their number, too; "
        "match_sizes=true compares equal numbers"
        for train, val in sizes
    ]
