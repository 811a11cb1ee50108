"""YAML files that one model describes, such as the targets of `drcli reproduce`: read and refused like recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from drcli.recipe.problems import refusal
from drcli.recipe.source import read_source
from drcli.recipe.validate import Checker, excessive, unfit

Model = TypeVar("Model", bound=BaseModel)


def validated(path: Path, model: type[Model], **absent: Any) -> Model:
    """Return the validated content of a YAML file.

    Args:
        path: the file.
        model: describes it as a whole.
        absent: values of keys that the file may leave out, as plain data.

    Raises:
        RecipeError: the file cannot be read or is not valid; all problems are in the one message, with line,
            dotted key, value and what is allowed.
    """
    source = read_source(path)
    checker = Checker({**absent, **source.data})
    checker.problems += [*source.problems, *unfit(checker.data)]
    found = None if checker.problems else checker.settings(model, ())
    checker.problems += excessive(checker.data, checker.problems)
    if found is None or checker.problems:
        raise refusal(source.where, checker.problems, source.places)
    return found
