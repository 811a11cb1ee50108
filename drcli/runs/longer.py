"""Whether a run can go on to more epochs than it was begun with, and end with the bits of a run of that length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from drcli.names import METHODS, TEACHERS
from drcli.recipe.schema import Recipe
from drcli.recipe.text import Change, differences_in_words
from drcli.recipe.training import Cosine, Linear

EPOCHS = ("training", "epochs")


def is_longer(changes: Sequence[Change]) -> bool:
    """Return whether a recipe differs from that of a run in nothing but more epochs."""
    if [tuple(key) for key, _, _ in changes] != [EPOCHS]:
        return False
    _, there, asked = changes[0]
    return isinstance(there, int) and isinstance(asked, int) and there < asked


def obstacles(recipe: Recipe, changes: Sequence[Change], *, can_resume: bool) -> list[str]:
    """Return in lines what a run has otherwise than a recipe; nothing where the run can go on to its epochs.

    Args:
        recipe: what is to be trained.
        changes: what it has otherwise than the run.
        can_resume: whether the state of the run's last epoch is there.
    """
    lines = differences_in_words(changes)
    if not is_longer(changes):
        return lines
    reason = _why_not(recipe, int(changes[0][1])) if can_resume else "the state of its last epoch is missing"
    return [*lines, f"it does not go on to these: {reason}"] if reason else []


def _why_not(recipe: Recipe, before: int) -> str:
    """Return why a run of so many epochs cannot go on to those of the recipe; empty: it can."""
    block, method = recipe.methods[recipe.method], METHODS.load(recipe.methods[recipe.method].method)
    schedule = recipe.training.schedule
    if isinstance(schedule, Linear | Cosine):
        return f"with a {schedule.name} schedule the rates of all epochs depend on how many there are"
    if TEACHERS in method.requires:
        return "it starts from unimodal runs, which would be longer too"
    run = replace(recipe, training=recipe.training.model_copy(update={"epochs": before}))
    relearn = "" if block.relearn is None else block.relearn.longer_reason(before)
    reason = method.longer_reason(run) or relearn
    return f"{block.method} {reason}" if reason else ""
