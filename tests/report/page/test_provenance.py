"""Where runs come from, and how far they came: commands, environments, recipes, unfinished runs."""

from __future__ import annotations

import re
from pathlib import Path

from support.run_tree import MadeRun, change_environment
from support.sections import runs_of, text

from drcli.report.page import provenance
from drcli.runs.collect import collect


def test_commands_are_given_once_and_without_the_place_of_the_program(tmp_path: Path) -> None:
    odd = MadeRun("ogm", command=("/x/drcli", "train", "a b; c"))
    found = text(provenance.commands(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=1), odd)))
    assert found.count("drcli train digits") == 1
    assert "drcli train &#x27;a b; c&#x27;" in found
    assert "somewhere" not in found


def test_a_command_by_python_reads_like_the_program(tmp_path: Path) -> None:
    run = MadeRun(command=("/somewhere/drcli/__main__.py", "train", "digits"))
    assert ">drcli train digits<" in text(provenance.commands(runs_of(tmp_path, run)))


def test_a_command_that_was_not_recorded_is_said_to_be(tmp_path: Path) -> None:
    assert "joint seed 0: command not recorded" in text(provenance.commands(runs_of(tmp_path, MadeRun(command=()))))


def cells(table: str) -> list[list[str]]:
    """The cells of a table's body, row by row."""
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tbody>")[1].split("</tr>")[:-1]]


def test_environments_that_are_alike_are_one_column(tmp_path: Path) -> None:
    section = provenance.environments(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=1), MadeRun(recipe="other")))
    same, data = section.content
    assert ["python", "3.11.7"] in cells(str(same))
    assert {len(row) for row in cells(str(same))} == {2}
    assert "Prepared data" in data


def test_what_differs_between_environments_is_named_with_its_runs(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=1), MadeRun("ogm", recipe="other"))
    change_environment(runs[1].folder, python="3.12.1", accelerator="GPU")
    same, others, _ = provenance.environments(collect([tmp_path])).content
    assert not any(row[0] in {"python", "accelerator"} for row in cells(str(same)))
    assert ["torch", "2.11.0"] in cells(str(same))
    assert cells(str(others)) == [
        ["python", "3.11.7", "digits joint seed 0; other ogm"],
        ["python", "3.12.1", "digits joint seed 1"],
        ["accelerator", "not recorded", "digits joint seed 0; other ogm"],
        ["accelerator", "GPU", "digits joint seed 1"],
    ]


def test_seeds_of_a_method_share_a_recipe(tmp_path: Path) -> None:
    section = provenance.recipes(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=3), MadeRun("ogm")))
    assert len(section.content) == 2
    assert "seeds: [0, 3]" in text(section)


def test_unfinished_runs_are_listed_with_how_far_they_came(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=7, finished=False, epochs=12))
    found = text(provenance.unfinished(runs))
    assert [f">{value}<" in found for value in (7, 12)] == [True, True]
    assert "nan" not in found
    assert provenance.unfinished(runs[:1]) is None


def test_what_ended_an_unfinished_run_is_said(tmp_path: Path) -> None:
    failed = MadeRun("ogm", finished=False, failed="the loss is nan;\nlower <lr>")
    found = text(provenance.unfinished(runs_of(tmp_path, MadeRun(), failed, MadeRun("pmr", finished=False))))
    assert [row[1:2] + row[-1:] for row in cells(found)] == [
        ["pmr", "\N{EN DASH}"],
        ["ogm", "E: the loss is nan; lower &lt;lr&gt;"],
    ]
