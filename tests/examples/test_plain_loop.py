"""The example of a plain loop ends with the weights of `drcli train`, whether it is stopped on the way or not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.examples import EXAMPLES, Parts, as_drcli_names, comparable, example
from support.training import StoppedError, bits, log, trained, weights

from drcli.recipe.schema import Recipe

plain_loop = example("plain_loop")


@pytest.fixture
def recipe(toy_dict: Callable[..., dict[str, Any]]) -> Recipe:
    return comparable(toy_dict())


def loop(parts: Parts, checkpoint: Path, seed: Callable[[int], object]) -> Any:
    model = plain_loop.TwoEncoders(parts.audio, parts.visual, parts.head)
    settings = {"epochs": 4, "every": 1, "times": 2, "restarts": 2, "lr": 0.05}
    plain_loop.train(model, parts.train, parts.val, checkpoint, seed=seed, **settings)
    return as_drcli_names(model.state_dict())


@pytest.mark.parametrize("stopped_before", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_its_weights_are_those_of_drcli_train(stopped_before: int | None, recipe: Recipe, tmp_path: Path) -> None:
    run = trained(recipe, tmp_path / "run")
    events = log(tmp_path / "run" / "events.jsonl")
    assert [event["event"] for event in events] == [1, 2]
    assert any(state["strength"] > 0 for event in events for state in event["modalities"].values())

    def stop(epoch: int) -> None:
        if epoch == stopped_before:
            raise StoppedError
        parts.seed(epoch)

    parts = Parts.of(recipe, tmp_path / "parts")
    if stopped_before is not None:
        with pytest.raises(StoppedError):
            loop(parts, tmp_path / "loop.pt", stop)
        parts = Parts.of(recipe, tmp_path / "again")
    found = loop(parts, tmp_path / "loop.pt", parts.seed)
    assert bits(found) == bits(weights(run))


def test_it_runs_and_says_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="only 1 of 3 re-learnings will happen"):
        plain_loop.main(7)
    said = capsys.readouterr().out
    assert said.count("validation accuracy") == 7
    assert "epoch 5: re-learning 1: audio purity" in said


def test_it_needs_nothing_else_of_drcli() -> None:
    tree = ast.parse((EXAMPLES / "plain_loop.py").read_bytes())
    found = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [line for line in found if "drcli" in line] == ["from drcli import Relearner"]
