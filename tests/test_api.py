"""The public face: what it holds, what it costs, and the examples of CONTRIBUTING.md that are written with it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.training import bits, log, trained, weights

from drcli import api
from drcli.recipe.load import recipe_from_dict

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


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = {"torch", "pydantic", "numpy", "data_prep"}
    code = f"import sys, drcli.api, drcli.names; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples of CONTRIBUTING.md as files that can be imported, registered under their names."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, code in EXAMPLES:
        (tmp_path / f"{name}.py").write_text(code)
    with ExitStack() as stack:
        stack.enter_context(api.METHODS.registered("louder", "my_method:Louder"))
        stack.enter_context(api.BACKBONES.registered("flat", "my_backbone:Flat"))
        stack.enter_context(api.FUSIONS.registered("product", "my_fusion:Product"))
        stack.enter_context(api.DATASETS.registered("ramps", "my_dataset:Ramps"))
        yield
    for name, _ in EXAMPLES:
        sys.modules.pop(name, None)


def test_the_examples_import_of_drcli_its_public_face_alone() -> None:
    assert [name for name, _ in EXAMPLES] == ["my_method", "my_dataset", "my_backbone", "my_fusion"]
    for _, code in EXAMPLES:
        assert set(re.findall(r"^(?:from|import) ((?:drcli|data_prep)\S*)", code, re.MULTILINE)) == {"drcli.api"}
        assert code.count("\n") < 55  # with a line in names.py and a row of the contract test, fewer than 60


@pytest.fixture
def recipe(examples: None, tmp_path: Path) -> Callable[..., Any]:
    """Makes a recipe in which dataset, backbone, fusion and method are the examples; `blocks` replace its own."""
    from data_prep.base import run as prepare

    prepare("ramps", api.DATASETS.load("ramps").Settings(), source=None, out=tmp_path / "ramps")

    def make(**blocks: Any) -> Any:
        data = {
            "name": "examples",
            "dataset": {"name": "ramps", "root": str(tmp_path / "ramps")},
            "modalities": {m: {"backbone": "flat", "width": 8} for m in ("up", "down")},
            "fusion": "product",
            "method": "louder",
            "methods": {"louder": {"factor": 2.0}, "joint": {}},
            "training": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
        }
        return recipe_from_dict({**data, **blocks}, where="the test's recipe")

    return make


def test_the_examples_train_together(recipe: Callable[..., Any], tmp_path: Path) -> None:
    trainer = trained(recipe(), tmp_path / "run")
    lines = log(trainer.directory.metrics)
    assert [set(line["train"]) for line in lines] == [{"loss", "loss_louder", "accuracy"}] * 2
    assert lines[1]["train"]["loss"] < lines[0]["train"]["loss"]


def test_the_example_of_a_method_is_joint_training_under_its_neutral_settings(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    methods = {"louder": {"factor": 1.0}, "joint": {}}
    ours, joint = (
        bits(weights(trained(recipe(method=method, methods=methods), tmp_path / method))) for method in methods
    )
    assert ours == joint
