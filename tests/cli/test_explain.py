"""`drcli show RECIPE --explain [KEY]`."""

from __future__ import annotations

import pytest
from support.command_line import Drcli, RecipeFile, Refused


def test_a_key_is_explained_with_type_default_range_and_meaning(drcli: Drcli) -> None:
    shown = drcli("show", "digits", "--explain", "methods.diagnose_relearn.lambda").stdout
    lines = [" ".join(line.replace("│", "|").split()) for line in shown.splitlines()]
    assert lines[0] == "methods.diagnose_relearn with method: diagnose_relearn"
    assert (
        "lambda | mapping of numbers or number | 3.0 | each from 0 to 1,000,000, or from 0 to 1,000,000 | "
        in " ".join(lines)
    )


def test_several_keys_and_blocks_are_explained_together(drcli: Drcli) -> None:
    shown = drcli("show", "digits", "seeds", "--explain", "training.schedule").stdout
    assert "one run per seed" in shown
    assert all(f"training.schedule with name: {name}" in shown for name in ("constant", "step", "cosine"))
    assert "batch_size" not in shown


def test_without_a_key_the_whole_recipe_is_explained(drcli: Drcli) -> None:
    shown = drcli("show", "digits", "--explain").stdout
    for title in (
        "top of the recipe",
        "dataset.prepare with dataset.name: digits",
        "modalities.<modality> with backbone: vit",
        "corrupt.<modality>",
        "fusion with name: mmtm",
        "methods.<label> with method: agm",
        "training.optimizer with name: adamw",
        "training.schedule with name: cosine",
        "diagnosis",
    ):
        assert f"{title}\n" in shown
    assert "dataset.name: cremad" not in shown
    for key in ("weights", "schedule", "clip_grad_norm", "eval_batch_size", "pooling", "splits"):
        assert key in shown


def test_an_override_decides_what_a_key_means(drcli: Drcli, recipe_file: RecipeFile) -> None:
    shown = drcli("show", recipe_file(), "methods.new.method=pmr", "--explain", "methods.new.ema").stdout
    assert "methods.new with method: pmr" in shown
    assert "weight of the old prototypes at an update" in shown


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("training.optimizer.lrr", "Did you mean training.optimizer.lr?"),
        ("trainin", "--explain trainin: unknown key; a recipe has: name, task, loss, method, "),
    ],
)
def test_an_unknown_key_is_one_error_with_the_nearest_spelling(key: str, message: str, refused: Refused) -> None:
    said = refused("show", "digits", "--explain", key, code=2)
    assert message in said
    assert said.count("\n") == 1


def test_a_narrow_terminal_keeps_every_column(drcli: Drcli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, drcli("show", "digits", "--explain", "training").stdout.splitlines())) == 80
    shown = drcli("show", "digits", "--explain", "training.clip_grad_norm").stdout
    assert all(word in shown for word in ("clip_grad_norm", "number or", "null", "greater than 0", "largest norm"))
