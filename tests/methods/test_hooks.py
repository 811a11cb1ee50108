"""Hooks are declared on the bases: a misspelt one is refused, state is declared in a line, windows are one."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from support.names import OF_NUMBERS, OF_TEXT
from torch import nn

from drcli.bases import LIKENESS, hooks
from drcli.methods.base import Method, Window
from drcli.models.backbone import Backbone
from drcli.models.fusion import Fusion
from drcli.names import BACKBONES, FUSIONS, METHODS
from drcli.registry import Registry

BASES: list[tuple[Registry, type]] = [(METHODS, Method), (FUSIONS, Fusion), (BACKBONES, Backbone)]


@pytest.mark.parametrize(
    ("base", "name", "meant"),
    [
        (Method, "loses", "losses"),
        (Method, "on_epoch_begin", "on_epoch_start or on_epoch_end"),
        (Method, "on_batch_end", "on_epoch_start or on_epoch_end"),
        (Method, "cheek", "check"),
        (Method, "warning", "warnings"),
        (Method, "require", "requires"),
        (Method, "modulates", "modulate"),
        (Method, "load_state", "load_state_dict"),
        (Fusion, "offer", "offers"),
        (Fusion, "checks", "check"),
        (Fusion, "num_modality", "num_modalities"),
        (Backbone, "stages", "stage"),
        (Backbone, "channel", "channels"),
        (Backbone, "takes_length", "takes_lengths"),
    ],
)
def test_a_misspelt_hook_is_refused_where_the_class_is_defined(base: type, name: str, meant: str) -> None:
    with pytest.raises(TypeError) as caught:
        type("Mine", (base,), {name: lambda self: None})
    assert str(caught.value) == (
        f"Mine.{name}: {base.__name__} has no hook of this name, so it would never be called; "
        f"did you mean {meant}? A helper needs another name, or a leading underscore"
    )


def test_helpers_of_other_names_are_allowed_and_so_are_private_ones() -> None:
    helpers = {"horizon": 1, "gradients": lambda self: None, "_loses": lambda self: None, "_on_step": 2}
    mine: Any = type("Mine", (Method,), helpers)
    assert mine._loses is helpers["_loses"]


def test_what_a_base_class_has_is_known_in_its_subclasses_whatever_it_looks_like() -> None:
    class Parent(Method):
        _alias = None

    Parent.loses = None  # type: ignore[attr-defined]
    child: Any = type("Child", (Parent,), {"loses": 1})
    assert child.loses == 1


@pytest.mark.parametrize(("registry", "base"), BASES, ids=lambda value: getattr(value, "kind", ""))
def test_our_classes_override_declared_hooks_and_their_helpers_look_like_none(registry: Registry, base: type) -> None:
    declared = hooks(base)
    for name in registry.names():
        for cls in registry.load(name).__mro__:
            if issubclass(cls, base) and cls is not base:
                helpers = {key for key in vars(cls) if not key.startswith("_")} - {*declared, *dir(base)}
                near = {key: difflib.get_close_matches(key, declared, n=1, cutoff=LIKENESS) for key in helpers}
                assert not any(near.values()), (cls, near)


def test_every_hook_has_a_default_or_is_declared_by_its_type() -> None:
    for name in ("check", "setup", "warnings", "build", "predict", "state", "distributed_reason"):
        assert name in hooks(Method)
    for name in ("check", "graphs", "provides", "offers", "over", "num_modalities"):
        assert name in hooks(Fusion)
    for name in ("sketch", "ranks", "width", "channels", "hidden"):
        assert name in hooks(Backbone)


class Counting(Method):
    """Keeps something of every kind."""

    state = ("means", "nested", "count", "word")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.means = {"a": torch.zeros(2), "b": torch.zeros(())}
        self.nested: dict[str, Any] = {"a": {"weight": torch.zeros(3)}, "empty": {}}
        self.count = 0
        self.word: str | None = None
        self.left_out = 1


def test_state_is_what_is_declared_and_comes_back_in_place() -> None:
    first, second = Counting(), Counting()
    first.means["a"] += torch.tensor([1.0, 2.0])
    first.nested["empty"] = {"new": [0.5, 2.0]}
    first.count, first.word, first.left_out = 3, "audio", 5
    kept = second.means["a"]
    second.load_state_dict(first.state_dict())
    assert second.means["a"] is kept
    assert kept.tolist() == [1.0, 2.0]
    assert (second.nested["empty"], second.count, second.word) == ({"new": [0.5, 2.0]}, 3, "audio")
    assert second.left_out == 1
    first.means["a"] += 1  # the states are apart
    assert kept.tolist() == [1.0, 2.0]


def test_state_of_another_run_is_refused() -> None:
    state = Counting().state_dict()
    with pytest.raises(ValueError, match=r"a tensor of shape \(1,\) instead of \(2,\)"):
        Counting().load_state_dict({**state, "means": {"a": torch.zeros(1), "b": torch.zeros(())}})
    with pytest.raises(KeyError, match="count"):
        Counting().load_state_dict({key: value for key, value in state.items() if key != "count"})


@pytest.mark.parametrize("name", [n for n in METHODS.names() if issubclass(METHODS.load(n), Window)])
def test_windows_have_one_wording(name: str) -> None:
    fields = METHODS.load(name).Settings.model_fields
    assert fields["starts"].description == "first epoch in which the method acts, from 0"
    assert fields["ends"].description == "last epoch in which the method acts; -1: none"
    assert fields["starts"].default == 0


def test_methods_that_act_in_some_epochs_have_a_window() -> None:
    windows = {name for name in METHODS.names() if issubclass(METHODS.load(name), Window)}
    assert windows == {"agm", "amss", "cggm", "ogm", "ogm_ge", "pmr"}


class Fragile(Backbone):
    """Cannot be built of a made-up sample."""

    ranks = (3,)

    def __init__(self, settings: BaseModel, shape: Any) -> None:
        super().__init__(settings, shape)
        if shape[-1] < 1000:
            raise RuntimeError("too small")


@pytest.mark.parametrize("name", [*OF_NUMBERS, *OF_TEXT])
def test_a_sketch_is_the_encoder_without_its_numbers(name: str) -> None:
    kind = BACKBONES.load(name)
    settings = kind.Settings()
    state = torch.get_rng_state()
    sketch = kind.sketch(settings)
    assert sketch is kind.sketch(kind.Settings())
    assert torch.equal(state, torch.get_rng_state())
    built = kind.example(settings)
    assert (sketch.width, sketch.channels, sketch.hidden) == (built.width, built.channels, built.hidden)
    assert [p.shape for p in sketch.parameters()] == [p.shape for p in built.parameters()]
    assert {p.device.type for p in sketch.parameters()} == {"meta"}


def test_a_backbone_that_cannot_be_sketched_has_no_sketch() -> None:
    assert Fragile.sketch(Fragile.Settings()) is None
    assert isinstance(Fragile(Fragile.Settings(), (1, 1000, 1000)), nn.Module)
