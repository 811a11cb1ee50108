"""The base of every block of settings that a method, a backbone or a fusion has in a recipe."""

from __future__ import annotations

from pydantic import BaseModel


class Settings(BaseModel, extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True):
    """Unknown keys are refused, values cannot be changed, and a field may have an alias in the recipe.

    A field whose name Python reserves ends in an underscore and has its plain name as its alias:
    `lambda_: float = Field(3.0, alias="lambda")`.
    """
