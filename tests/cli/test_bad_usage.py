"""Command lines that ask for something that cannot be done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support.command_line import Drcli, RecipeFile, Refused, tree


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's folder, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("seeds", ["", "a", "-1", "0,0", "1.5", "0,,1", "0 1", "1e3", "\u00b2"])
def test_seeds_that_are_no_distinct_whole_numbers_are_refused(
    seeds: str, refused: Refused, recipe_file: RecipeFile, in_tmp: Path
) -> None:
    recipe = recipe_file()
    message = refused("train", recipe, "--seeds", seeds, code=2)
    assert message == f"--seeds {seeds}: must be distinct whole numbers from 0 to 2^63 - 1, such as 0,1,2\n"
    assert list(in_tmp.iterdir()) == [recipe]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("jiont", "--method jiont: not in this recipe's methods; known: joint, unimodal, diagnose_relearn."),
        ("joint,unimodel", "Did you mean unimodal?"),
        (",", "--method ,: not in this recipe's methods"),
    ],
)
def test_a_method_that_the_recipe_lacks_is_refused(
    method: str, message: str, refused: Refused, recipe_file: RecipeFile, in_tmp: Path
) -> None:
    recipe = recipe_file()
    assert message in refused("train", recipe, "--method", method, code=2)
    assert list(in_tmp.iterdir()) == [recipe]


def test_a_known_method_that_the_recipe_leaves_out_can_be_added(
    refused: Refused, recipe_file: RecipeFile, in_tmp: Path
) -> None:
    recipe = recipe_file(methods={"joint": {}})
    message = refused("train", recipe, "--method", "unimodal", code=2)
    assert "add it with methods.unimodal={}" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("command", ["train", "eval", "diagnose"])
def test_cuda_without_a_device_is_refused(
    command: str, refused: Refused, recipe_file: RecipeFile, finished: Path, in_tmp: Path
) -> None:
    recipe = recipe_file()
    target = recipe if command == "train" else finished / "checkpoint.pt"
    assert refused(command, target, "--device", "cuda", code=2) == (
        "--device cuda: no CUDA device is visible here; use --device cpu, or auto\n"
    )
    assert list(in_tmp.iterdir()) == [recipe]


@pytest.mark.parametrize("command", ["train", "eval", "diagnose"])
def test_an_unknown_device_is_refused(command: str, refused: Refused, recipe_file: RecipeFile, finished: Path) -> None:
    target = recipe_file() if command == "train" else finished / "checkpoint.pt"
    assert refused(command, target, "--device", "tpu", code=2) == "--device tpu: must be auto, cpu or cuda\n"


@pytest.mark.parametrize("figure", ["figure.jpg", "figure", "figure.png.txt"])
def test_a_figure_of_an_unknown_type_is_refused_before_any_work(figure: str, refused: Refused, in_tmp: Path) -> None:
    message = refused("diagnose", in_tmp / "none.pt", "--figure", figure, code=2)
    assert message.startswith(f"{figure}: a figure ends in .png, .svg, .pdf")
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/figure.png", "file/figure.png"])
def test_a_figure_without_a_folder_is_refused_before_any_work(place: str, refused: Refused, in_tmp: Path) -> None:
    (in_tmp / "file").write_text("in the way")
    message = refused("diagnose", in_tmp / "none.pt", "--figure", in_tmp / place, code=2)
    folder = (in_tmp / place).parent
    assert message == f"{in_tmp / place}: there is no folder {folder}; make it, or name another\n"
    assert list(tree(in_tmp)) == ["file"]


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_an_out_that_is_a_file_is_refused(place: str, refused: Refused, recipe_file: RecipeFile, in_tmp: Path) -> None:
    (in_tmp / "file").write_text("in the way")
    message = refused("train", recipe_file(), "--out", in_tmp / place, code=2)
    assert message.startswith(f"{in_tmp / place / 'toy' / 'joint' / 'seed0'}: not writable (")
    assert message.endswith("choose another folder with --out\n")
    assert list(tree(in_tmp)) == ["file", "toy.yaml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_without_permission_is_refused(refused: Refused, recipe_file: RecipeFile, in_tmp: Path) -> None:
    out = in_tmp / "runs"
    out.mkdir(mode=0o555)
    message = refused("train", recipe_file(), "--out", out, code=2)
    assert "not writable (Permission denied); choose another folder with --out" in message
    assert tree(out) == {}


@pytest.mark.parametrize("option", [("--limit", "0"), ("--workers", "0"), ("--limit", "x"), ("--nonsense",)])
def test_an_option_out_of_range_is_bad_usage(option: tuple[str, ...], drcli: Drcli, in_tmp: Path) -> None:
    result = drcli("prepare", "digits", *option, code=2)
    assert option[0] in result.stderr
    assert result.stdout == ""
    assert list(in_tmp.iterdir()) == []


def test_a_command_that_does_not_exist_is_bad_usage(drcli: Drcli) -> None:
    assert "trian" in drcli("trian", code=2).stderr
