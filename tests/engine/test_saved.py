"""What a checkpoint must hold: a wrong field is one message that names file, field and value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drcli.engine.saved import SPARE, at_most, check_optimizer, check_state, check_tensors, saved
from drcli.errors import CheckpointError

PATH = Path("last.pt")
STATE: dict[str, Any] = {
    "recipe": {"modalities": {"audio": {}, "visual": {}}},
    "modalities": ["audio"],
    "dataset_fingerprint": "f",
    "epoch": 3,
    "step": 40,
    "seconds": 1.5,
    "selected": {"epoch": 2, "accuracy": 0.5},
    "model": {"w": torch.ones(2)},
    "extras": {},
    "method": {},
    "optimizer": {"state": {}},
}


def message(call: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    return str(caught.value)


def test_the_contents_come_back_as_they_are() -> None:
    found = saved(STATE, PATH)
    assert (found.modalities, found.fingerprint, found.epoch, found.step) == (("audio",), "f", 3, 40)
    assert (found.seconds, found.selected_epoch, found.selected_merit) == (1.5, 2, 0.5)
    assert found.model["w"].tolist() == [1, 1]


REMEDY = "not a checkpoint of drcli train: use another checkpoint of the run, or train again"
WRONG: tuple[Any, ...] = (
    None,
    True,
    -5,
    1.5,
    float("nan"),
    "x",
    [],
    ["no"],
    ["audio", "audio"],
    {},
    {"a": 1},
    {"epoch": 9},
    torch.ones(1),
)


@pytest.mark.parametrize("field", list(STATE))
def test_a_field_that_is_missing_or_anything_else_is_named(field: str) -> None:
    rest = {name: value for name, value in STATE.items() if name != field}
    said = message(lambda: saved(rest, PATH))
    assert said.startswith(f"last.pt: {field} is missing, not a")
    assert said.endswith(f"; {REMEDY}")
    accepted = []
    for value in WRONG:
        with suppress(CheckpointError):
            accepted.append(saved({**STATE, field: value}, PATH))
    assert len(accepted) <= 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": True}, "epoch is true, not a whole number from 0 to 9007199254740992"),
        ({"epoch": -1}, "epoch is -1, not a whole number"),
        ({"seconds": float("inf")}, "seconds is .inf, not a number from 0 to inf"),
        ({"selected": {"epoch": 4, "accuracy": 0.5}}, "selected.epoch is 4, not a whole number from -1 to 3"),
        ({"selected": {"epoch": 2, "accuracy": 1.5}}, "selected.accuracy is 1.5, not a number from -1 to 1"),
        ({"modalities": ["smell"]}, 'modalities is "a list", not a list of modalities of its recipe'),
        ({"model": {"w": [1.0]}}, "model is \"a dict\", not a mapping of tensors: 'w' is not one"),
        ({"recipe": {3: 4}}, 'recipe is "a dict", not a mapping'),
        ({"optimizer": torch.ones(2)}, 'optimizer is "a tensor (2,)", not a mapping'),
    ],
)
def test_the_message_names_what_is_there_and_what_is_allowed(change: dict[str, Any], said: str) -> None:
    assert message(lambda: saved({**STATE, **change}, PATH)).startswith(f"last.pt: {said}")


def test_tensors_must_have_the_names_shapes_and_types_of_the_model() -> None:
    expected = {"w": torch.empty(2, device="meta"), "n": torch.empty(3, dtype=torch.int64, device="meta")}
    good = {"w": torch.ones(2), "n": torch.zeros(3, dtype=torch.int64)}
    check_tensors(good, expected, "last.pt: model")
    wrong = {
        "'w' is missing": {"n": good["n"]},
        "'x' belongs to another model": {**good, "x": torch.ones(1)},
        "'w' is torch.float32 (1,), the model of its recipe has torch.float32 (2,)": {**good, "w": torch.ones(1)},
        "'w' is torch.float16 (2,), the": {**good, "w": torch.ones(2).half()},
        "'w' has values that are NaN or infinite": {**good, "w": torch.tensor([1.0, float("nan")])},
    }
    for said, tensors in wrong.items():
        assert message(partial(check_tensors, tensors, expected, "last.pt: model")).startswith(
            f"last.pt: model does not fit the model of its recipe: {said}"
        )


def test_a_model_that_is_far_larger_than_the_weights_is_refused_before_it_takes_memory() -> None:
    """2^20 x 2^13 weights of 4 bytes are 34 GB; they are counted when the layer gets them, unfilled."""
    found = saved(STATE, PATH)
    message = "its recipe describes a larger model than its 2 weights are of"
    with pytest.raises(CheckpointError, match=message), at_most(found):
        nn.Linear(2**13, 2**20)
    with at_most(found):
        assert nn.Linear(3, 2).weight.shape == (2, 3)
    assert nn.Linear(2**13, 2**12).weight.numel() > SPARE  # nothing is counted any more


def test_a_state_needs_every_tensor_of_a_fresh_one() -> None:
    fresh = {"means": {"audio": torch.zeros(2)}, "all": [torch.zeros(1)], "count": 0}
    check_state({"means": {"audio": torch.ones(2)}, "all": [torch.ones(1)], "count": 7, "more": 1}, fresh, "a: method")
    for wrong in (
        3,
        {"means": {"audio": torch.ones(2)}, "all": [torch.ones(1)]},
        {"means": {"audio": torch.ones(1)}, "all": [torch.ones(1)], "count": 0},
        {"means": {"audio": 2.0}, "all": [torch.ones(1)], "count": 0},
        {"means": {}, "all": [torch.ones(1)], "count": 0},
        {"means": {"audio": torch.ones(2)}, "all": [], "count": 0},
        {"means": {"audio": torch.ones(2)}, "all": None, "count": 0},
    ):
        assert "a: method" in message(partial(check_state, wrong, fresh, "a: method"))


def stepped(kind: Callable[..., torch.optim.Optimizer], **settings: float) -> torch.optim.Optimizer:
    layer = nn.Linear(2, 1)
    optimizer = kind(layer.parameters(), lr=0.1, **settings)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param(torch.optim.SGD, {}, id="sgd"),
        pytest.param(torch.optim.SGD, {"momentum": 0.9}, id="momentum"),
        pytest.param(torch.optim.Adam, {}, id="adam"),
        pytest.param(torch.optim.AdamW, {}, id="adamw"),
    ],
)
def test_an_optimizer_takes_its_own_state_and_no_other(
    kind: Callable[..., torch.optim.Optimizer], settings: dict[str, float]
) -> None:
    optimizer = stepped(kind, **settings)
    good = optimizer.state_dict()
    check_optimizer(good, optimizer, "last.pt: optimizer")
    check_optimizer({"state": {}}, optimizer, "last.pt: optimizer")
    states: list[Any] = [None, 3, [], {"a": 1}, {7: {}}, {0: 3}, {0: {"unknown": torch.ones(1, 2)}}]
    for name, value in good["state"].get(0, {}).items():
        if value is not None:
            wrong = [3.0, torch.ones(5), value.double(), torch.full_like(value, float("nan"))]
            states += [{0: {**good["state"][0], name: other}} for other in wrong]
    for state in states:
        said = message(partial(check_optimizer, {"state": state}, optimizer, "last.pt: optimizer"))
        assert said.startswith("last.pt: optimizer does not fit the model of its recipe: ")
