"""The public face: what it holds, what it costs, and the examples of CONTRIBUTING.md that are written with it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from support.training import bits, log, trained, weights

from drcli import api
from drcli.recipe.schema import Recipe

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"```python\n# (my_\w+)\.py\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)


def test_every_promised_name_is_there_and_listed_once() -> None:
    assert sorted(api.__all__) == sorted(api._PLACES) == dir(api)
    for name, module in api._PLACES.items():
        assert getattr(api, name) is getattr(import_module(module), name)


def test_a_type_checker_sees_the_names_that_python_sees() -> None:
    tree = ast.parse((ROOT / "drcli" / "api.py").read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    assert {name.name: node.module for node in imports for name in node.names} == api._PLACES
    assert (ROOT / "drcli" / "py.typed").is_file()


def test_a_name_that_is_not_promised_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"drcli\.api has no 'Trainer'"):
        _ = api.Trainer


def test_importing_the_api_imports_nothing_heavy() -> None:
    heavy = {"torch", "pydantic", "numpy", "data_prep"}
    code = f"import sys, drcli.api, drcli.names; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_the_examples_import_of_drcli_its_public_face_alone() -> None:
    assert [name for name, _ in EXAMPLES] == ["my_method", "my_backbone", "my_fusion"]
    for _, code in EXAMPLES:
        assert set(re.findall(r"^(?:from|import) ((?:drcli|data_prep)\S*)", code, re.MULTILINE)) == {"drcli.api"}
        assert code.count("\n") < 58  # with a line in names.py and a row of the contract test, fewer than 60


@pytest.fixture
def recipe(
    toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Recipe]]:
    """Makes recipes in which backbone, fusion and method are the examples, as files that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in EXAMPLES:
        (tmp_path / f"{name}.py").write_text(code)
    blocks = {
        "modalities": {m: {"backbone": "flat", "width": 8} for m in ("audio", "visual")},
        "fusion": "product",
        "training": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
    }
    with (
        api.METHODS.registered("louder", "my_method:Louder"),
        api.BACKBONES.registered("flat", "my_backbone:Flat"),
        api.FUSIONS.registered("product", "my_fusion:Product"),
    ):
        yield lambda method, factor: toy_recipe(
            method=method, methods={"louder": {"factor": factor}, "joint": {}}, **blocks
        )
    for name, _ in EXAMPLES:
        sys.modules.pop(name, None)


def test_the_examples_train_together(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = trained(recipe("louder", 2.0), tmp_path / "run")
    lines = log(trainer.directory.folder / "metrics.jsonl")
    assert [set(line["train"]) for line in lines] == [{"loss", "loss_louder", "accuracy"}] * 2
    assert lines[1]["train"]["loss"] < lines[0]["train"]["loss"]
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == []


def test_the_method_of_the_example_is_joint_training_under_its_neutral_settings(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    ours, joint, louder = (
        trained(recipe(method, factor), tmp_path / f"{method}{factor}")
        for method, factor in (("louder", 1.0), ("joint", 1.0), ("louder", 2.0))
    )
    assert bits(weights(ours)) == bits(weights(joint)) != bits(weights(louder))
    assert list(ours.assembly.method.warnings(ours.ctx)) == ["factor: 1 is joint training"]
