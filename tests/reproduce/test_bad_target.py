"""Targets that are not valid: read and refused by the machinery of recipes, all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from drcli.errors import RecipeError
from drcli.reproduce.target import load_target

VALID = """\
title: Some table
kind: table
recipes: [digits]
runs:
  - labels: [joint, diagnose_relearn]
"""

HUGE = ", ".join(f"{name}: {{key: k.{name}, values: {list(range(29))}}}" for name in "abcdefgh")
"""A grid of 29^8 points."""


def refused(folder: Path, text: str) -> str:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_target(path)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_target_of_these_tests_is_valid_and_named_like_its_file(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(VALID, encoding="utf-8")
    assert load_target(tmp_path / "some.yaml").name == "some"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[joint, diagnose_relearn]", "[]", "line 5  runs[0].labels = []   must have at least 1 item"),
        ("title: Some table\n", "", "title   required"),
        ("kind: table", "kind: tabel", "line 2  kind = tabel   must be one of: table, figure. Did you mean table?"),
        ("kind: table", "kind: figure", "a figure needs `draw`, and a table must not have it"),
        ("  - labels:", "  - label:", "line 5  runs[0].labels   required"),
        (
            "  - labels: [joint, diagnose_relearn]",
            "  - {labels: [joint], varaints: []}",
            ("line 5  runs[0].varaints = []   unknown key; known: labels, variants, grid. Did you mean variants?"),
        ),
        (
            "runs:",
            "for_recipe: {digits: [{labels: [joint], gird: {}}]}\nruns:",
            "line 4  for_recipe.digits[0].gird = {}   unknown key; known: labels, variants, grid. Did you mean grid?",
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            "  - labels: [joint]\n    variants: [{set: [a=1]}]",
            (
                'line 6  runs[0].variants[0] = {set: ["a=1"]}   needs a name, since its runs differ from those of the '
                "recipe itself"
            ),
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            "  - labels: [joint]\n    variants: [{name: x}]\n    grid: {l: {key: k, values: [1]}}",
            "must not have both variants and a grid",
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            f"  - labels: [joint]\n    grid: {{{HUGE}}}",
            "has more than 1,000 combinations of values",
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            "  - labels: [joint]\n    grid: {l: {key: k, values: [a b]}}",
            "must be a name: letters, digits, _ . and -",
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            "  - labels: [joint]\n    variants: [{name: x, set: [a=1]}, {name: x, set: [a=2]}]",
            "has two variants of the name 'x'",
        ),
        (
            "  - labels: [joint, diagnose_relearn]",
            f"  - &a {{labels: [joint], grid: {{x: {{key: k, values: {list(range(501))}}}}}}}\n  - *a",
            "has more than 1,000 variants of one recipe",
        ),
        ("kind: table", "kind: table\nseeds: [-1]", "line 3  seeds[0] = -1   must be from 0 to "),
        ("kind: table", "kind: table\nkind: table", "line 3  kind   given twice, first on line 2"),
        ("kind: table", "kind: table\nsecnds: 1", "line 3  secnds = 1   unknown key; known: "),
        ("kind: table", "kind: !!python/name:os.system x", "line 2: the tag tag:yaml.org,2002:python/name:os.system"),
        (VALID, "- 1\n", "line 1: must be a mapping, such as {key: value}; it is [1]"),
    ],
)
def test_a_wrong_target_is_refused_with_line_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert message in refused(tmp_path, VALID.replace(old, new))


def test_all_problems_of_a_target_come_at_once(tmp_path: Path) -> None:
    text = VALID.replace("kind: table", "kind: tabel").replace("[digits]", "[]").replace("joint", "3")
    assert refused(tmp_path, text).splitlines() == [
        "some.yaml: 3 problems",
        "  line 2  kind = tabel   must be one of: table, figure. Did you mean table?",
        "  line 3  recipes = []   must have at least 1 item",
        "  line 5  runs[0].labels[0] = 3   must be a string",
    ]


def test_numbers_without_a_range_are_finite(tmp_path: Path) -> None:
    grid = "    grid: {l: {key: k, values: [.inf]}}\n"
    assert "runs[0].grid.l.values[0] = .inf   must be a finite number" in refused(tmp_path, VALID + grid)
