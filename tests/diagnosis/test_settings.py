"""Settings of a diagnosis: the authors' behaviour by default, spelt as in the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from drcli.diagnosis import DiagnosisSettings, MeasureSettings


def test_defaults_are_those_of_the_authors_code() -> None:
    assert DiagnosisSettings().model_dump(by_alias=True) == {
        "scaler": "per_split",
        "gap": "abs",
        "restarts": 10,
        "match_sizes": False,
        "sample": None,
        "kmeans": "auto",
        "lambda": 3.0,
        "monitor_every": 0,
    }


def test_lambda_is_accepted_under_both_names() -> None:
    assert DiagnosisSettings.model_validate({"lambda": 2}) == DiagnosisSettings(lambda_=2.0)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in DiagnosisSettings.model_fields.values())


@pytest.mark.parametrize(
    "bad",
    [
        {"lambda": -1},
        {"lambda": math.inf},
        {"lambda": math.nan},
        {"monitor_every": -1},
        {"restarts": 0},
        {"scaler": "none"},
        {"gap": "squared"},
        {"lamda": 3},
    ],
)
def test_values_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        DiagnosisSettings.model_validate(bad)
    assert caught.value.errors()[0]["loc"] == tuple(bad)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MeasureSettings().restarts = 3  # type: ignore[misc]
