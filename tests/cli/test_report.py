"""`drcli report`: the page, its figures, tables as text, and refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support.command_line import Drcli, Refused, tree
from support.run_folders import write_run
from support.run_tree import MadeRun, small_study, write_runs

from drcli.runs.collect import by_name, collect


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_runs(tmp_path / "runs", small_study())


@pytest.mark.slow
def test_the_page_and_its_figures_are_written_where_asked(drcli: Drcli, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "mine.html"
    assert drcli("report", runs, "--out", out, "--no-maps").stdout == f"{out}\n"
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    figures = sorted(path.name for path in (out.parent / "mine_figures").iterdir())
    assert "digits-val-accuracy.svg" in figures
    assert all(name.endswith(".svg") for name in figures)


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(drcli: Drcli, runs: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        drcli("report", runs, "--out", tmp_path / name / "report.html", "--no-maps")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")


def test_figures_can_be_pictures_in_another_folder(drcli: Drcli, tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", [MadeRun()])
    drcli("report", runs, "--out", tmp_path / "r.html", "--figures", tmp_path / "paper", "--png")
    assert {path.suffix for path in (tmp_path / "paper").iterdir()} == {".svg", ".png"}
    assert not (tmp_path / "r_figures").exists()


def test_second_hand_figures_are_shown_on_request(drcli: Drcli, tmp_path: Path) -> None:
    modalities = {m: {"backbone": "resnet18"} for m in ("audio", "visual")}
    write_run(tmp_path, 0.9, recipe="cremad", dataset={"name": "cremad"}, modalities=modalities)
    shown = [drcli("report", tmp_path, "--format", "markdown", *more).stdout for more in ([], ["--second-hand"])]
    assert ["second-hand" in text for text in shown] == [False, True]


@pytest.mark.parametrize(("form", "sign"), [("markdown", "| method |"), ("latex", r"\toprule")])
def test_tables_alone_go_to_standard_output_or_to_a_file(
    drcli: Drcli, runs: Path, tmp_path: Path, form: str, sign: str
) -> None:
    shown = drcli("report", runs, "--format", form).stdout
    assert sign in shown
    out = tmp_path / "tables" / "table.txt"
    done = drcli("report", runs, "--format", form, "--out", out)
    assert done.stdout == f"{out}\n"
    assert out.read_text(encoding="utf-8") == shown
    beside = {"latex": [out.with_suffix(".csv")], "markdown": []}[form]
    assert sorted(out.parent.iterdir()) == sorted([out, *beside])
    assert done.stderr == "".join(f"written beside it: {path}\n" for path in beside)


def test_the_numbers_beside_a_latex_table_are_those_of_its_runs(drcli: Drcli, runs: Path, tmp_path: Path) -> None:
    drcli("report", runs, "--format", "latex", "--out", tmp_path / "x.tex", "--reference", "diagnose_relearn")
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "x.csv").read_text().splitlines())}
    scores = {name: [run.score for run in found] for name, found in by_name(collect([runs])).items()}
    for name, found in scores.items():
        assert float(rows[name]["accuracy_mean"]) == pytest.approx(sum(found) / 2)
    difference = (sum(scores["joint"]) - sum(scores["diagnose_relearn"])) / 2
    assert float(rows["joint"]["difference_to_joint"]) == pytest.approx(difference)
    assert rows["joint"]["reference"] == "diagnose_relearn"
    assert r"D\&R & 2 &" in (tmp_path / "x.tex").read_text()


def test_columns_and_reference_are_chosen(drcli: Drcli, runs: Path) -> None:
    options = ("--format", "markdown", "--columns", "accuracy,difference", "--reference", "diagnose_relearn")
    assert "| method | accuracy | minus diagnose_relearn |" in drcli("report", runs, *options).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "pdf"], "--format pdf: must be one of html, markdown, latex"),
        (["--maps", "joint", "--no-maps"], "--maps and --no-maps: choose one of them"),
        (
            ["--format", "latex", "--png", "--no-maps"],
            "--png, --no-maps: only for --format html; latex has tables alone",
        ),
        (["--maps", "jont"], "--maps jont: no run has this label; known: joint, diagnose_relearn. Did you mean joint?"),
        (
            ["--columns", "acuracy"],
            (
                "--columns acuracy: no such column; known: method, seeds, val, accuracy, macro_f1, mae, corr, acc2, "
                "acc7, probes, fused_probe, difference, p, bootstrap, seconds, published, balanced_accuracy, nll, ece, "
                "brier, temperature, nll_scaled, ece_scaled, brier_scaled, f1, acc2_nonzero, f1_nonzero, acc5, "
                "parameters, seconds_per_epoch, seconds_per_1000, peak_memory, peak_gpu_memory. Did you mean accuracy?"
            ),
        ),
        (
            ["--format", "latex", "--out", "x.csv"],
            "--out x.csv: its numbers are written as .csv beside it; choose another suffix, .tex",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(refused: Refused, runs: Path, options: list[str], message: str) -> None:
    assert refused("report", runs, *options, code=2) == f"{message}\n"


def test_a_folder_as_the_page_is_refused(refused: Refused, runs: Path) -> None:
    said = refused("report", runs, "--out", runs, code=2)
    assert said == f"--out {runs}: is a folder; name the file to write, such as {runs}/report.html\n"


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not drawn, for tests that only ask where they would be written."""
    monkeypatch.setattr("drcli.report.page.page.to_svg", lambda _: "<svg></svg>")


def test_a_file_where_a_folder_should_be_is_named(
    refused: Refused, runs: Path, tmp_path: Path, unrendered: None
) -> None:
    (tmp_path / "file").write_text("")
    said = refused("report", runs, "--out", tmp_path / "file" / "report.html", "--no-maps", code=1)
    assert said.startswith(f"{tmp_path / 'file'}")


def test_a_place_where_no_folder_can_be_made_is_named_with_the_remedy(
    refused: Refused, runs: Path, tmp_path: Path, unrendered: None
) -> None:
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "new"
    said = refused("report", runs, "--out", inside / "x.html", "--no-maps", code=1)
    assert said == (
        f"{inside}/x_figures: cannot be made (Not a directory); choose another place with --out or --figures\n"
    )
    said = refused("report", runs, "--format", "latex", "--out", inside / "x.tex", code=1)
    assert said == f"{inside}: cannot be made (Not a directory); choose another place with --out\n"


@pytest.mark.parametrize(
    ("seeds", "remark"),
    [
        ([0], "the run is not finished: the page shows its progress only\n"),
        ([0, 1], "none of the 2 runs is finished: the page shows their progress only\n"),
    ],
)
def test_a_page_of_unfinished_runs_alone_is_written_with_a_remark(
    drcli: Drcli, tmp_path: Path, seeds: list[int], remark: str
) -> None:
    runs = write_runs(tmp_path / "runs", [MadeRun(seed=seed, finished=False) for seed in seeds])
    said = drcli("report", runs, "--out", tmp_path / "r.html")
    assert (said.stdout, said.stderr) == (f"{tmp_path / 'r.html'}\n", remark)
    assert "Unfinished runs" in (tmp_path / "r.html").read_text(encoding="utf-8")
    write_runs(tmp_path / "runs", [MadeRun("ogm")])
    assert not drcli("report", runs, "--out", tmp_path / "r.html", "--no-maps").stderr


def test_tables_of_runs_that_are_all_unfinished_are_refused(refused: Refused, tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", [MadeRun(finished=False)])
    assert "no run is finished yet" in refused("report", runs, "--format", "markdown", code=2)


def test_a_folder_without_runs_is_refused(refused: Refused, tmp_path: Path) -> None:
    assert refused("report", tmp_path, code=2).startswith(f"{tmp_path}: no run here or below")


def test_a_folder_that_is_not_there_is_refused(refused: Refused, tmp_path: Path) -> None:
    said = refused("report", tmp_path / "none", code=3)
    assert said == f"{tmp_path / 'none'}: no such folder; give the folders that `drcli train` wrote to\n"


def test_a_path_that_cannot_be_looked_at_is_refused(refused: Refused) -> None:
    said = refused("report", "x" * 300, code=3)
    assert said == f"{'x' * 300}: File name too long; check the path and its permissions\n"


def test_validation_that_test_does_not_bear_out_is_said_on_the_screen_too(drcli: Drcli, tmp_path: Path) -> None:
    root = write_runs(tmp_path / "runs", [MadeRun(gap=0.15), MadeRun(recipe="other")])
    said = drcli("report", root, "--out", tmp_path / "report.html", "--no-maps").stderr
    assert "digits: Validation and test differ by more than sampling explains: " in said
    assert "other: " not in said
    table = drcli("report", root, "--format", "markdown")
    assert table.stdout.count("- **Validation and test differ") == 1
    assert table.stderr == ""
