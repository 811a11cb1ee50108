from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drcli.diagnosis.settings import DiagnosisSettings
from drcli.errors import RecipeError
from drcli.recipe.load import load_recipe, recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.recipe.training import Adam, AdamW, Constant, Cosine, Sgd, Step
from drcli.recipe.validate import validate_settings

Load = Callable[..., Recipe]
Refuse = Callable[..., str]


def with_training(valid: str, training: str) -> str:
    return valid.partition("training:")[0] + f"training: {training}\n"


def test_a_recipe_holds_what_it_says_and_every_default(loaded: Load, valid: str) -> None:
    recipe = loaded(valid)
    assert recipe.name == "some"
    assert recipe.dataset.root == Path("data/digits")
    assert recipe.dataset.prepare.model_dump()["noise"] == 0.5
    assert list(recipe.modalities) == ["audio", "visual"]
    assert recipe.modalities["visual"].settings.model_dump() == {"width": 8}
    assert recipe.methods["strong"].method == "relearn"
    assert recipe.methods["strong"].settings.model_dump() == {"every": 20, "lambda_": 10.0}
    assert recipe.methods["joint"].method == "joint"
    assert recipe.training.optimizer == Sgd(lr=0.02, momentum=0.9, weight_decay=1e-4, nesterov=False)
    assert recipe.training.schedule == Constant()
    assert (recipe.training.batch_size, recipe.training.eval_batch_size) == (64, None)
    assert recipe.diagnosis == DiagnosisSettings()
    assert (recipe.selection, recipe.monitor, recipe.seeds) == ("val", "none", (0,))


def test_the_order_of_modalities_is_the_files(loaded: Load, valid: str) -> None:
    swapped = valid.replace("audio: {backbone: small}", "zeta: {backbone: small}")
    assert list(loaded(swapped).modalities) == ["zeta", "visual"]


def test_a_fusion_may_be_a_name_or_a_block_or_absent(loaded: Load, valid: str) -> None:
    assert loaded(valid.replace("fusion: concat\n", "")).fusion.name == "concat"
    gated = loaded(valid.replace("fusion: concat", "fusion: {name: gated, bias: false}")).fusion
    assert (gated.name, gated.settings.model_dump()) == ("gated", {"bias": False})


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("{name: adam, lr: 1}", Adam(lr=1.0)),
        ("{name: adamw, lr: 1e-3, betas: [0.8, 0.99]}", AdamW(lr=1e-3, betas=(0.8, 0.99))),
        ("{name: sgd, lr: 0.1, nesterov: true}", Sgd(lr=0.1, nesterov=True)),
    ],
)
def test_an_optimizer_is_chosen_by_name(loaded: Load, valid: str, block: str, expected: Any) -> None:
    assert loaded(with_training(valid, f"{{epochs: 1, optimizer: {block}}}")).training.optimizer == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("{name: step, every: 30}", Step(every=30, factor=0.1)),
        ("{name: cosine, warmup_epochs: 5}", Cosine(final=0.0, warmup_epochs=5)),
    ],
)
def test_a_schedule_is_chosen_by_name(loaded: Load, valid: str, block: str, expected: Any) -> None:
    assert loaded(valid + f"  schedule: {block}\n").training.schedule == expected


def test_all_problems_come_at_once_in_the_order_of_lines(refused: Refuse, valid: str) -> None:
    text = valid.replace("fusion: concat", "fusion: concta").replace("every: 10", "evry: 10")
    text = text.replace("  epochs: 60\n", "  batch_size: 64.0\n") + "selection: vol\n"
    assert refused(text, "training.optimizer.lr=-0.01") == (
        "some.yaml: 6 problems\n"
        "  line 5        fusion.name = concta   unknown fusion; known: concat, gated. Did you mean concat?\n"
        "  line 8        methods.relearn.evry = 10   unknown key; known: method, relearn, training, every, lambda. "
        "Did you mean every?\n"
        "  line 11       training.epochs   required\n"
        "  line 12       training.batch_size = 64.0   must be a whole number\n"
        "  line 14       selection = vol   must be one of: val, last, test. Did you mean val?\n"
        "  command line  training.optimizer.lr = -0.01   must be greater than 0 and at most 1,000,000"
    )


def test_a_file_whose_stem_is_no_name_must_name_its_recipe(fakes: None, tmp_path: Path, valid: str) -> None:
    path = tmp_path / "my recipe.yaml"
    path.write_text(valid)
    with pytest.raises(RecipeError, match=r'line 1  name = "my recipe"   must be a name: letters'):
        load_recipe(path)
    path.write_text(valid + "name: mine\n")
    assert load_recipe(path).name == "mine"


def test_a_method_may_refuse_the_recipe_it_stands_in(refused: Refuse, loaded: Load, valid: str) -> None:
    text = valid.replace("  joint:\n", "  picky: {}\n  joint:\n")
    assert refused(text) == (
        "some.yaml: 2 problems\n"
        "  line 5  fusion.name = concat   method picky needs gates\n"
        "  line 9  methods.picky.modalities   method picky needs three modalities"
    )
    three = text.replace("fusion: concat", "fusion: gated").replace("  visual:", "  text: {backbone: small}\n  visual:")
    assert "picky" in loaded(three).methods


def test_plain_data_gets_the_same_validation_without_lines(fakes: None) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict({"name": "x", "modalities": {}, "methods": {"joint": 3}}, where="checkpoint.pt")
    assert str(caught.value) == (
        "checkpoint.pt: 6 problems\n"
        "  method   required\n"
        "  dataset.name   required; known: digits, avmnist.\n"
        "  modalities   required: at least one, such as {audio: {backbone: resnet_small}}\n"
        "  methods.joint = 3   must be a mapping, such as {key: value}\n"
        "  training.epochs   required\n"
        "  training.optimizer.name   required; known: sgd, adam, adamw."
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "must be a mapping, such as {key: value}; it is null"),
        ({"name": object()}, "name   must be a string, a number, true, false or null, not object"),
        ({1: 2}, "a key must be printable text, not 1"),
        ({"na\ud800me": 2}, r"a key must be printable text, not 'na\ud800me'"),
        ({"name": "a\0b"}, r"name   must not hold control characters: 'a\x00b'"),
    ],
)
def test_data_that_no_recipe_holds_is_refused(fakes: None, raw: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict(raw, where="c.pt")
    assert str(caught.value) == f"c.pt: 1 problem\n  {message}"


def test_data_that_holds_itself_is_refused(fakes: None) -> None:
    raw: dict[str, Any] = {"name": "x"}
    raw["dataset"] = raw
    with pytest.raises(RecipeError, match=r"dataset.*nested more than 32 levels deep"):
        recipe_from_dict(raw, where="c.pt")


def test_settings_that_stand_alone_are_validated_like_a_block() -> None:
    good = validate_settings(DiagnosisSettings, {"lambda": 2, "gap": "signed"}, where="drcli diagnose")
    assert (good.lambda_, good.gap) == (2.0, "signed")
    with pytest.raises(RecipeError) as caught:
        validate_settings(
            DiagnosisSettings, {"lamda": 2, "lambda": float("nan"), "restarts": 0}, where="drcli diagnose"
        )
    assert str(caught.value) == (
        "drcli diagnose: 3 problems\n"
        "  restarts = 0   must be from 1 to 10,000\n"
        "  lambda = .nan   must be a finite number\n"
        "  lamda = 2   unknown key; known: scaler, gap, restarts, match_sizes, sample, kmeans, lambda, monitor_every. "
        "Did you mean lambda?"
    )
    with pytest.raises(RecipeError, match="a key must be printable text"):
        validate_settings(DiagnosisSettings, {"a\0": 2}, where="drcli diagnose")


def test_settings_of_a_fusion_may_follow_its_name_on_the_command_line(
    loaded: Callable[..., Recipe], refused: Refuse, valid: str
) -> None:
    recipe = loaded(valid, "fusion=gated", "fusion.bias=false")
    assert recipe.to_dict()["fusion"] == {"name": "gated", "lr": None, "bias": False}
    assert refused(valid, "fusion=gatde", "fusion.bias=false") == (
        "some.yaml: 1 problem\n"
        "  command line  fusion.name = gatde   unknown fusion; known: concat, gated. Did you mean gated?"
    )
