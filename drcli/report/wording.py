"""What tables and figures call recipes, seeds and methods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from drcli.runs.collect import RunRecord
from drcli.runs.comparison import Row

Methods = Mapping[str, Sequence[RunRecord]]
"""The finished runs of one recipe by their name in tables, in the recipe's order."""

IN_PRINT: Mapping[str, str] = {
    "joint": "Joint",
    "unimodal": "Unimodal",
    "diagnose_relearn": "D&R",
    "multi_loss": "Multi-loss",
    "g_blending": "G-Blending",
    "ensemble": "Ensemble",
    "uni_frozen": "Uni-frozen",
    "uni_finetuned": "Uni-finetuned",
    "uni_pretrained": "Uni-pretrained",
    "uni_pretrained_frozen": "Uni-frozen",
    "uni_pretrained_finetuned": "Uni-finetuned",
    "pmr": "PMR",
    "agm": "AGM",
    "ogm": "OGM",
    "ogm_ge": "OGM-GE",
    "greedy": "Greedy",
    "mcr": "MCR",
    "mmpareto": "MMPareto",
}
"""Names of labels in a paper's table; a label that is not here, such as a plug-in's, stands for itself."""

SELECTED_ON_TEST, TEST_WATCHED = "†", "‡"
"""Marks of figures whose epoch was selected on test, and of those of runs that scored it while training."""

JOINT, RELEARN = "joint", "diagnose_relearn"
"""The two methods that pages show in detail, by their names in the registry."""


def in_print(name: str) -> str:
    """Return what a paper calls a name in tables: "D&R", "Unimodal (audio)"; see IN_PRINT."""
    label, _, modality = name.partition(":")
    shown = IN_PRINT.get(label, label)
    return f"{shown} ({modality})" if modality else shown


def name_recipe(runs: Sequence[RunRecord]) -> str:
    """Return the names of the runs' recipes, and those of their datasets where they are others."""
    recipes = list(dict.fromkeys(run.recipe_name for run in runs))
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    names = ", ".join(recipes)
    return names if recipes == datasets else f"{names} (dataset {', '.join(datasets)})"


def count_seeds(counts: Collection[int]) -> str:
    """Return how many seeds there are: "1 seed", "5 seeds", or "3 to 5 seeds" where it is not the same everywhere."""
    least, most = min(counts), max(counts)
    number = str(most) if least == most else f"{least} to {most}"
    return f"{number} seed{'' if most == 1 else 's'}"


def mark(rows: Sequence[Row]) -> str:
    """Return the marks of a figure that these rows are behind."""
    on_test = any("test" in row.selections for row in rows)
    return (SELECTED_ON_TEST if on_test else "") + (TEST_WATCHED if any(row.watched for row in rows) else "")


def marked(rows: Sequence[Row]) -> list[str]:
    """Return what the marks of these rows mean."""
    marks = {
        SELECTED_ON_TEST: "The epoch was selected on the test split: the score is optimistic.",
        TEST_WATCHED: "The test split was watched while training; it selected nothing by that.",
    }
    return [f"{sign} {meaning}" for sign, meaning in marks.items() if sign in mark(rows)]
