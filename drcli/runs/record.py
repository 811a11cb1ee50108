"""The base of all records that a run keeps, and how a file's contents become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1 + 1e-6)]
"""A fraction in [0, 1], give or take rounding."""

Seconds = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """Base of all records: immutable, strict about types, with finite numbers only."""

    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, validate_by_name=True, validate_by_alias=True
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, as it is written; values that are absent are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


CLASSES, VALUES = "(classes)", "(values)"
"""Tags of the two forms that a record has, of a classification and of a regression."""

_OF_VALUES = frozenset({"mae", "probe_mae", "acc7"})


def form(found: Any) -> str:
    """Return which of the two forms a record or its plain data has."""
    keys = found if isinstance(found, Mapping) else getattr(type(found), "model_fields", ())
    return VALUES if any(key in keys for key in _OF_VALUES) else CLASSES


class RecordError(ValueError):
    """What a file holds is not the record that it should be; the message says why in a few words."""


def parse(model: type[Record], found: object) -> Any:
    """Return what a file holds as a record.

    Raises:
        RecordError: it is not a mapping, lacks a value, or has one of another type.
    """
    if not isinstance(found, Mapping):
        raise RecordError("not a mapping")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part not in {CLASSES, VALUES})
        text = f"no {key}" if first["type"] == "missing" else ": ".join(filter(None, [key, first["msg"]]))
        raise RecordError(text.replace("Value error, ", "")) from error
