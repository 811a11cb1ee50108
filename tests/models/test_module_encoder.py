"""A class of one's own as an encoder, and what is said where the class, or a package, is not as it must be."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from support.models_of_others import Mean, config_folder

from drcli.errors import DataError, RecipeError, UsageError
from drcli.models import foreign
from drcli.models.module_encoder import Module
from drcli.recipe.load import recipe_from_dict

HERE = "support.models_of_others"


def make(path: str, shape: tuple[int, ...], vocabulary: int = 0, **options: Any) -> Module:
    torch.manual_seed(0)
    return Module.for_input(Module.Settings(path=f"{HERE}:{path}", options=options), shape, vocabulary)


def test_the_class_gets_the_shape_and_its_options_and_its_features_are_the_encoders() -> None:
    encoder = make("Mean", (1, 4, 7), width=9, bias=False)
    assert encoder.width == 9
    assert isinstance(encoder.model, Mean)
    assert list(encoder.state_dict()) == ["model.linear.weight"]
    assert encoder.training
    x = torch.randn(5, 1, 4, 7)
    torch.testing.assert_close(encoder(x), encoder.model.linear(x.mean(dim=(1, 2))).relu())


def test_a_forward_with_lengths_gets_them_and_texts_come_with_a_vocabulary() -> None:
    encoder = make("Valid", (4,), 11)
    assert encoder.width == 5
    ids = torch.tensor([[3, 0, 0, 0], [7, 7, 0, 0]])
    found = encoder(ids, torch.tensor([1, 0]))
    assert found[1].tolist() == [0.0] * 5
    assert found[0].tolist() == encoder.state_dict()["model.table.weight"][3].tolist()


def test_weights_are_taken_by_the_names_of_the_class_or_as_drcli_saves_them_and_all_of_them() -> None:
    encoder, other = make("Mean", (1, 4, 7)), make("Mean", (1, 4, 7))
    named = {name: torch.full_like(tensor, 0.5) for name, tensor in other.model.state_dict().items()}
    encoder.load_pretrained(named)
    assert encoder.model.state_dict()["linear.weight"].unique().tolist() == [0.5]
    other.load_pretrained(encoder.state_dict())
    assert other.model.state_dict()["linear.bias"].unique().tolist() == [0.5]
    with pytest.raises(DataError, match=r"linear.bias of 2 tensors of .*Mean are not among the weights"):
        encoder.load_pretrained({"linear.weight": named["linear.weight"]})


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (
            "Picture",
            {},
            r"Picture returns torch.float32 \(2, 1, 4, 7\) of a batch of 2; it must return features \(2, D\)",
        ),
        ("OverTheBatch", {}, "OverTheBatch gives a sample other features in another batch"),
        ("Mean", {"depth": 3}, r"Mean cannot be made for samples \(1, 4, 7\) \(TypeError: .*unexpected.*depth"),
        ("Valid", {}, r"Valid cannot be made for samples .*missing.*vocabulary"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_in_one_line(
    path: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make(path, (1, 4, 7), **options)
    assert str(caught.value).endswith("; see `backbone: module` in docs/encoders.md")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"backbone": "module", "path": "no_such_place:Mean"}, r"audio.path.*no_such_place:Mean is not found"),
        ({"backbone": "module", "path": f"{HERE}:Nothing"}, f"audio.path.*module {HERE} has no Nothing"),
        (
            {"backbone": "module", "path": f"{HERE}:NOT_A_MODULE"},
            "audio.path.*no class that derives from torch.nn.Module",
        ),
        ({"backbone": "module", "path": "os.system"}, "audio.path"),
        ({"backbone": "module", "path": "subprocess:Popen"}, "audio.path.*no class that derives from torch.nn.Module"),
        ({"backbone": "module"}, r"audio.path +required"),
    ],
)
def test_a_recipe_with_no_such_class_is_refused_before_data_is_read(
    block: dict[str, Any], message: str, toy_dict: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict({**toy_dict(("audio",)), "modalities": {"audio": block}}, where="the test's recipe")


@pytest.mark.parametrize("name", ["timm", "transformers"])
def test_without_its_package_a_backbone_says_which_extra_to_install(
    name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> Any:
        if package == name:
            raise ModuleNotFoundError(package)
        return import_module(package)

    monkeypatch.setattr(foreign, "import_module", absent)
    model = config_folder(tmp_path / "bert", "bert") if name == "transformers" else "resnet18"
    block = {"backbone": name, "model": model}
    with pytest.raises(RecipeError, match=rf"{name} is not installed; run pip install 'drcli\[{name}\]'"):
        recipe_from_dict({**toy_dict(("audio",)), "modalities": {"audio": block}}, where="the test's recipe")


@pytest.mark.slow
def test_a_model_that_is_not_there_is_named_with_the_command_that_fetches_it(
    toy_dict: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    block = {"backbone": "transformers", "model": "somebody/no-such-model"}
    with pytest.raises(
        RecipeError, match=r"config.json of a model .* not in the cache; .* hf download somebody/no-such"
    ):
        recipe_from_dict({**toy_dict(("audio",)), "modalities": {"audio": block}}, where="the test's recipe")
    (tmp_path / "empty").mkdir()
    block["model"] = str(tmp_path / "empty")
    with pytest.raises(RecipeError, match=r"empty/config.json: no such file; name a folder that a model was saved in"):
        recipe_from_dict({**toy_dict(("audio",)), "modalities": {"audio": block}}, where="the test's recipe")
