"""`drcli eval --subsets --missing --noise`: the contract of the output, what is kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli.runs.directory import RunDirectory


@pytest.fixture
def grid(run_copy: Path) -> Path:
    """A folder with a finished run of seed 0 and one without a finished epoch."""
    (run_copy.parent / "seed1").mkdir()
    shutil.copy(run_copy / "recipe.yaml", run_copy.parent / "seed1")
    shutil.copy(run_copy / "environment.json", run_copy.parent / "seed1")
    text = (run_copy.parent / "seed1" / "recipe.yaml").read_text()
    (run_copy.parent / "seed1" / "recipe.yaml").write_text(text.replace("seeds:\n- 0", "seeds:\n- 1"))
    return run_copy.parent


def test_subsets_stand_beside_the_plain_scores_and_are_kept(drcli: Drcli, run_copy: Path) -> None:
    plain = json.loads(drcli("eval", run_copy, "--json").stdout)
    found = json.loads(drcli("eval", run_copy, "--subsets", "all", "--json").stdout)
    assert {key: found[key] for key in plain} == plain
    assert (list(found["subsets"]), found["absent"]) == (["audio", "visual", "audio+visual"], "zero")
    whole = found["subsets"]["audio+visual"]
    assert {key: whole[key] for key in ("accuracy", "macro_f1", "n")} == {
        key: plain[key] for key in ("accuracy", "macro_f1", "n")
    }
    noisy = json.loads(drcli("eval", run_copy, "--noise", "audio=10,-10", "--draws", "2", "--json").stdout)
    assert list(noisy["noise"]["audio"]) == ["10", "-10"]
    assert noisy["noise"]["audio"]["10"]["draws"] == 2
    kept = RunDirectory(run_copy).conditions()
    assert kept is not None
    assert list(kept.subsets) == list(found["subsets"])
    assert kept.to_dict()["noise"] == noisy["noise"]


def test_a_checkpoint_or_another_split_is_scored_without_a_trace(drcli: Drcli, run_copy: Path) -> None:
    before = tree(run_copy)
    found = json.loads(drcli("eval", run_copy / "last.pt", "--subsets", "audio", "--json").stdout)
    assert list(found["subsets"]) == ["audio"]
    drcli("eval", run_copy, "--split", "val", "--missing", "audio=0.5")
    assert tree(run_copy) == before


def test_the_finished_runs_of_a_folder_are_scored(drcli: Drcli, grid: Path) -> None:
    done = drcli("eval", grid, "--subsets", "visual", "--missing", "audio=0.5", "--json")
    found = json.loads(done.stdout)
    assert done.stderr == f"[1/1] {grid / 'seed0'}\n"
    (run,) = found["runs"]
    assert (run["run"], run["name"], run["seed"]) == (str(grid / "seed0"), "joint", 0)
    assert (list(run["subsets"]), list(run["missing"]["audio"])) == (["visual"], ["0.5"])
    assert RunDirectory(grid / "seed0").conditions() is not None
    shown = drcli("eval", grid, "--subsets", "all").stdout
    for word in ("joint", "audio+visual", "modalities alone", "Features of absent modalities are zeros"):
        assert word in shown


def test_tables_name_the_condition(drcli: Drcli, run_copy: Path) -> None:
    shown = drcli("eval", run_copy, "--noise", "audio=20,0", "--missing", "visual=0.3", "--draws", "2").stdout
    for word in ("20 dB", "0 dB", "as it is", "lacks visual", "white noise on the inputs of audio", "Mean of 2 draws"):
        assert word in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subsets", "audio+"], "--subsets audio+: must be all, or modalities joined by +, such as audio,"),
        (["--subsets", "smell"], "no modality 'smell' here; known: audio, visual."),
        (["--missing", "audio=1.5"], "--missing audio=1.5: must be MODALITY=SHARE[,SHARE], shares above 0 and"),
        (["--missing", "audio"], "--missing audio: must be MODALITY=SHARE"),
        (["--noise", "audio=loud"], "--noise audio=loud: must be MODALITY=DB[,DB], from -60 to 60 dB"),
        (["--noise", "audio=nan"], "--noise audio=nan: must be MODALITY=DB"),
        (["--noise", "audio=0", "--absent", "one"], "--absent one: must be one of zero, mean"),
        (["--noise", "audio=0", "--absent", "mean"], "--absent mean: nothing is absent; add --subsets or --missing"),
        (["--subsets", "all", "--draws", "5"], "--draws 5: nothing is drawn; add --missing or --noise, or leave"),
    ],
)
def test_what_is_no_condition_is_refused(options: list[str], message: str, refused: Refused, finished: Path) -> None:
    assert message in refused("eval", finished, *options, code=2)


def test_a_folder_without_a_finished_run_is_refused(refused: Refused, grid: Path) -> None:
    shutil.rmtree(grid / "seed0")
    assert refused("eval", grid, "--subsets", "all", code=2) == (f"{grid}: no run is finished yet; train to the end\n")


def test_a_folder_whose_runs_can_be_in_no_condition_is_refused(
    drcli: Drcli, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    drcli(
        "train", recipe_file(methods={"joint": {}, "unimodal": {}}), "--method", "unimodal", "--out", tmp_path / "runs"
    )
    said = refused("eval", tmp_path / "runs", "--missing", "audio=0.5", code=2)
    assert "none of its 2 finished runs can be in these conditions" in said


def test_of_damaged_scores_nothing_but_their_file_has_to_be_deleted(refused: Refused, run_copy: Path) -> None:
    (run_copy / "conditions.json").write_text("{")
    said = refused("eval", run_copy, "--subsets", "audio", code=3)
    assert "conditions.json: damaged" in said
    assert "; delete this file alone, and repeat `drcli eval`" in said
