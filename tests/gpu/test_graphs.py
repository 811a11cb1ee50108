"""Compiled runs of every method: CUDA graphs record what a step computes and replay it into the same memory.

What is replayed is held against the run that is not compiled. Of methods on the CPU, where compiling takes as long and
there are no graphs, those are tried that go through a forward pass more than once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.test_contract import CASES
from support.shared_runs import the_modality
from support.toy_recipes import two_epochs
from support.training import log, make_trainer

from drcli.engine.device import compile_forward
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.names import FUSIONS, METHODS
from drcli.recipe.schema import Recipe

ON_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")]
AGAIN = ("agm", "lfm")
"""Methods that take several gradients of one forward pass, or gradients of several."""


def replayed(name: str) -> bool:
    """Whether CUDA graphs can replay a method's training, over the fusion that it is tested with."""
    method = METHODS.load(name)
    return bool(FUSIONS.load(CASES[name].fusion).graphs and method.trains and method.compiled and method.graphs)


GRAPHS = [name for name in METHODS.names() if replayed(name)]


@pytest.fixture(autouse=True)
def _compiler() -> Iterator[None]:
    """Each test compiles anew, and what the compiler says of itself is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.compiler.reset()


def trained(recipe: Recipe, folder: Path, device: torch.device) -> Trainer:
    """A run as `drcli train` does it, compiled if its recipe asks for it."""
    trainer = make_trainer(recipe, folder, modality=the_modality(recipe), device=device)
    assert compile_forward(trainer.ctx, trainer.assembly.method) is None
    trainer.train()
    return trainer


def losses(trainer: Trainer) -> list[float]:
    return [line["train"]["loss"] for line in log(trainer.directory.folder / "metrics.jsonl")]


def compared(name: str, mode: str, made: dict[str, Any], folder: Path, device: torch.device) -> None:
    """Hold the losses of a compiled run against those of the same run as it is written.

    Memory that was overwritten gives any number; rounding may let a method draw another channel or row.
    """
    plain, ours = (
        trained(two_epochs(name, made, precision="fp32", compile=how), folder / how, device) for how in ("off", mode)
    )
    assert losses(ours) == pytest.approx(losses(plain), rel=0.15)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(pytest.param("cuda", name, marks=ON_CUDA) for name in GRAPHS),
        *(pytest.param("cpu", name, marks=pytest.mark.slow) for name in AGAIN),
    ],
)
def test_cuda_graphs_train_to_nearly_the_same_losses(
    kind: str, name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    compared(name, "reduce-overhead", toy_dict(), tmp_path, torch.device(kind))


def test_gates_are_refused_with_graphs(toy_dict: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(RecipeError, match="CUDA graphs overwrite the averages that mmtm keeps; use default"):
        two_epochs("greedy", toy_dict(), compile="reduce-overhead")


@pytest.mark.parametrize("name", ["greedy", "mmpareto"])
def test_what_graphs_cannot_replay_is_compiled_without_them(
    name: str, device: torch.device, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    compared(name, "default", toy_dict(), tmp_path, device)
