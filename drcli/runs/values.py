"""The rows of a comparison as plain data and as CSV: in full precision, fractions, seconds and bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

from drcli.runs.comparison import Mean, Row
from drcli.runs.measures import measures_of


def _of_mean(value: Mean | None) -> tuple[float | None, float | None]:
    return (None, None) if value is None else (value.mean, value.std)


def _limits(limits: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if limits is None else (limits[0], limits[1])


_PAIRS: Mapping[str, Callable[[Row], tuple[object, object]]] = {
    "fused_probe_mean fused_probe_std": lambda row: _of_mean(row.fused_probe),
    "difference_to_joint difference_n": lambda row: (
        (row.difference.mean, row.difference.n) if row.difference else (None, None)
    ),
    "difference_t95_low difference_t95_high": lambda row: _limits(row.difference.t95 if row.difference else None),
    "difference_bootstrap95_low difference_bootstrap95_high": lambda row: _limits(
        row.difference.bootstrap95 if row.difference else None
    ),
    "difference_p difference_p_holm": lambda row: (
        (row.difference.p, row.difference.p_holm) if row.difference else (None, None)
    ),
    "seconds teacher_seconds": lambda row: (row.seconds, row.teacher_seconds),
    "selection test_watched": lambda row: ("+".join(sorted(row.selections)), str(row.watched).lower()),
}


def row_values(row: Row) -> dict[str, object]:
    """Return a row as plain data in full precision, fractions, absent values None."""
    found: dict[str, object] = {"method": row.name, "n": row.n, **_scores(row)}
    for names, values in _PAIRS.items():
        found |= dict(zip(names.split(), values(row), strict=True))
    return found | {"reference": row.difference.to if row.difference else None}


def _scores(row: Row) -> dict[str, object]:
    """Return accuracy, validation accuracy and macro-F1, or MAE and correlation in their place."""
    first, second = row.task.first.key, row.task.second.key
    means = {first: row.score, f"val_{first}": row.val_score, second: row.second}
    found: dict[str, object] = {}
    for key, mean in means.items():
        found[f"{key}_mean"], found[f"{key}_std"] = _of_mean(mean)
    return found


def comparison_csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return the rows of several recipes, as `row_values` gives them, with the probes and all that was measured.

    Absent values are empty.

    Args:
        rows: rows by name of the recipe; at least one.
    """
    everyone = [row for of_one in rows.values() for row in of_one]
    modalities = dict.fromkeys(m for row in everyone for m in row.probes)
    classes = dict.fromkeys(name for row in everyone for name in row.classes)
    plain = [
        {"recipe": recipe, **row_values(row), **_probe_values(row, modalities), **_measured_values(row, classes)}
        for recipe, of_one in rows.items()
        for row in of_one
    ]
    stream = io.StringIO()
    columns = dict.fromkeys(key for of_one in plain for key in of_one)
    out = csv.DictWriter(stream, list(columns) or ["recipe"], restval="", lineterminator="\n")
    out.writeheader()
    out.writerows(plain)
    return stream.getvalue()


def _probe_values(row: Row, modalities: Iterable[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for m in modalities:
        found[f"probe_{m}"], found[f"probe_{m}_std"] = _of_mean(row.probes.get(m))
    return found


def _measured_values(row: Row, classes: Iterable[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for one in measures_of(row.task.name):
        found[f"{one.key}_mean"], found[f"{one.key}_std"] = _of_mean(row.more.get(one.key))
    for name in classes:
        found[f"accuracy_of_{name}"] = _of_mean(row.classes.get(name))[0]
    return found
