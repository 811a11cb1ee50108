"""What a checkpoint of `drcli train` must hold: every field is checked before anything is built of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from drcli.data.format import Contents, parse_contents
from drcli.errors import CheckpointError
from drcli.reading import is_memory_shortage
from drcli.recipe.schema import RELEARN
from drcli.recipe.text import excerpt

Tensors = Mapping[str, Tensor]
SPARE = 2**24
"""Weights that layers may have which are not part of the model in the end, beyond four times those of the model."""

_MOMENTUM = "momentum_buffer"
_ADAM = {"step", "exp_avg", "exp_avg_sq"}


@dataclass(frozen=True)
class Saved:
    """The contents of a checkpoint.

    Attributes:
        path: the file.
        recipe: plain data; not validated yet.
        modalities: of the run, at least one, distinct, all of them in the recipe.
        fingerprint: of the data.
        contents: what the data holds; None in checkpoints of before this was kept.
        epoch: epoch at whose end it was written.
        step: steps so far.
        seconds: training time so far.
        selected_epoch: epoch that the run had selected by then, -1 before the first.
        selected_merit: the accuracy it was selected by, or the MAE with the other sign.
        model: tensors of the model by name.
        extras: tensors of the method's modules by name.
        method: state of the method.
        optimizer: state of the optimizer.
        relearn: state of the re-learning that the recipe puts on the method; empty without.
        ema: weights in training, where those of the model are averages, and steps; empty without.
        scaler: scale of the losses in half precision; empty without.
    """

    path: Path
    recipe: Mapping[str, Any]
    modalities: tuple[str, ...]
    fingerprint: str
    contents: Contents | None
    epoch: int
    step: int
    seconds: float
    selected_epoch: int
    selected_merit: float
    model: Tensors
    extras: Tensors
    method: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    relearn: Mapping[str, Any]
    ema: Mapping[str, Any]
    scaler: Mapping[str, Any]


def saved(state: Mapping[str, Any], path: Path) -> Saved:
    """Return the checked contents of a checkpoint.

    Args:
        state: what `checkpoint.load` returned.
        path: the file, for messages.

    Raises:
        CheckpointError: a field is missing, of another type, or out of range.
    """
    fields = _Fields(state, path)
    selected = _Fields(fields.mapping("selected"), path, "selected.")
    recipe = fields.mapping("recipe")
    epoch = fields.count("epoch")
    return Saved(
        path=path,
        recipe=recipe,
        modalities=fields.modalities("modalities", recipe.get("modalities")),
        fingerprint=fields.text("dataset_fingerprint"),
        contents=fields.contents("dataset"),
        epoch=epoch,
        step=fields.count("step"),
        seconds=fields.number("seconds", 0.0, math.inf),
        selected_epoch=selected.count("epoch", -1, epoch),
        selected_merit=selected.merit(recipe.get("task")),
        model=fields.tensors("model"),
        extras=fields.tensors("extras"),
        method=fields.mapping("method"),
        optimizer=fields.mapping("optimizer"),
        **{name: fields.mapping(name) if name in state else {} for name in (RELEARN, "ema", "scaler")},
    )


class _Fields:
    """Reads the fields of a mapping that may hold anything."""

    def __init__(self, state: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self._state = state
        self._path = path
        self._prefix = prefix

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raise the error that names file, field, value and what is expected."""
        value = self._state.get(name)
        found = "missing" if name not in self._state else excerpt(_brief(value))
        raise CheckpointError(
            f"{self._path}: {self._prefix}{name} is {found}, not {wanted}; not a checkpoint of drcli train: "
            "use another checkpoint of the run, or train again"
        )

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self._state.get(name)
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.refuse(name, "a mapping")
        return value

    def text(self, name: str) -> str:
        value = self._state.get(name)
        return value if isinstance(value, str) else self.refuse(name, "a string")

    def count(self, name: str, least: int = 0, most: int = 2**53) -> int:
        value = self._state.get(name)
        if type(value) is not int or not least <= value <= most:
            self.refuse(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float, most: float) -> float:
        value: Any = self._state.get(name)
        if type(value) not in {int, float} or not math.isfinite(value) or not least <= value <= most:
            self.refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def merit(self, task: Any) -> float:
        return -self.number("mae", 0.0, math.inf) if task == "regression" else self.number("accuracy", -1.0, 1.0)

    def modalities(self, name: str, known: Any) -> tuple[str, ...]:
        value: Any = self._state.get(name)
        is_list = isinstance(value, list | tuple) and value and all(isinstance(m, str) for m in value)
        if not is_list or len(set(value)) < len(value) or not isinstance(known, dict) or not set(value) <= set(known):
            self.refuse(name, "a list of modalities of its recipe")
        return tuple(value)

    def contents(self, name: str) -> Contents | None:
        if name not in self._state:
            return None
        try:
            return parse_contents(self.mapping(name))
        except ValueError as error:
            raise CheckpointError(
                f"{self._path}: {self._prefix}{name}: {error}; use another checkpoint of the run, or train again"
            ) from error

    def tensors(self, name: str) -> Tensors:
        value = self.mapping(name)
        for key, tensor in value.items():
            if not isinstance(tensor, Tensor):
                self.refuse(name, f"a mapping of tensors: {key!a} is not one")
        return value


@contextmanager
def at_most(found: Saved) -> Iterator[None]:
    """Refuse to build a model that is far larger than a checkpoint's weights, before memory is taken for it.

    Each layer's weights are counted when the layer gets them, which is before they are filled in.

    Raises:
        CheckpointError: the recipe describes a larger model.
    """
    held = sum(tensor.numel() for tensor in (*found.model.values(), *found.extras.values()))
    left = SPARE + 4 * held
    where = f"{found.path}: its recipe describes a larger model than its {held} weights are of"

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise CheckpointError(f"{where}; use another checkpoint of the run")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_memory_shortage(error):
            raise CheckpointError(f"{where}; use another checkpoint of the run") from error
        raise
    finally:
        handle.remove()


def check_tensors(saved: Tensors, expected: Tensors, where: str) -> None:
    """Check that tensors have the names, shapes and types of others.

    Args:
        saved: of the checkpoint.
        expected: of the model that its recipe describes.
        where: file and field, for messages.

    Raises:
        CheckpointError: they do not fit; names the first that does not.
    """
    names = [*(name for name in expected if name not in saved), *(name for name in saved if name not in expected)]
    for name in names:
        what = "is missing" if name in expected else "belongs to another model"
        _refuse(where, f"{name!a} {what}")
    for name, tensor in expected.items():
        _check_like(saved[name], tensor, where, ascii(name))
        if not is_finite(saved[name]):
            _refuse(where, f"{name!a} has values that are NaN or infinite")


def check_state(saved: Any, fresh: Any, where: str) -> None:
    """Check that the state of a method or optimizer has every tensor that a fresh one has, of its shape and type.

    Args:
        saved: of the checkpoint.
        fresh: what `state_dict()` returns before the first step; what a state fills in later is not checked.
        where: file and field, for messages.

    Raises:
        CheckpointError: it does not.
    """
    if isinstance(fresh, Tensor):
        _check_like(saved, fresh, where, "it")
        return
    if isinstance(fresh, Mapping):
        if not isinstance(saved, Mapping) or not set(fresh) <= set(saved):
            _refuse(where, f"holds {excerpt(_brief(saved))}, not {', '.join(map(str, fresh))}")
        _check_items(((saved[key], item, f"{where}.{key}") for key, item in fresh.items()))
    elif isinstance(fresh, list | tuple):
        if not isinstance(saved, list | tuple) or len(saved) < len(fresh):
            _refuse(where, f"is {excerpt(_brief(saved))}, not a list of at least {len(fresh)} items")
        _check_items((saved[i], item, f"{where}[{i}]") for i, item in enumerate(fresh))


def _check_items(items: Iterable[tuple[Any, Any, str]]) -> None:
    for one, other, where in items:
        check_state(one, other, where)


def check_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer, where: str) -> None:
    """Check that an optimizer's state holds for its parameters what a step of SGD or Adam needs.

    Args:
        state: of the checkpoint.
        optimizer: that the recipe describes.
        where: file and field, for messages.

    Raises:
        CheckpointError: it does not.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = state.get("state")
    if not isinstance(held, dict) or not set(held) <= set(range(len(parameters))):
        _refuse(where, f"it is for other parameters than the {len(parameters)} of the model")
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    for number, values in held.items():
        if not isinstance(values, dict) or set(values) not in ([set(), {_MOMENTUM}] if is_sgd else [_ADAM]):
            _refuse(where, f"parameter {number} has {excerpt(_brief(values))}")
        for name, value in values.items():
            if not (is_sgd and value is None):
                _check_moment(value, torch.zeros(()) if name == "step" else parameters[number], where, name)


def check_scaler(state: Mapping[str, Any], where: str) -> None:
    """Check that the state of a `LossScaler` has a scale, how it is changed, and counts.

    Raises:
        CheckpointError: it has not.
    """
    for name in ("scale", "growth_factor", "backoff_factor"):
        if type(state.get(name)) is not float or not 0 < state[name] < math.inf:
            _refuse(where, f"{name} is {excerpt(_brief(state.get(name)))}")
    for name in ("growth_interval", "_growth_tracker", "skipped"):
        if type(state.get(name)) is not int or state[name] < 0:
            _refuse(where, f"{name} is {excerpt(_brief(state.get(name)))}")


def _check_moment(value: Any, like: Tensor, where: str, name: str) -> None:
    _check_like(value, like, where, name)
    if not is_finite(value):
        _refuse(where, f"{name} has values that are not finite")


def _check_like(saved: Any, expected: Tensor, where: str, name: str) -> None:
    if not isinstance(saved, Tensor) or saved.shape != expected.shape or saved.dtype != expected.dtype:
        found = f"{saved.dtype} {tuple(saved.shape)}" if isinstance(saved, Tensor) else excerpt(_brief(saved))
        _refuse(where, f"{name} is {found}, the model of its recipe has {expected.dtype} {tuple(expected.shape)}")


def _refuse(where: str, what: str) -> NoReturn:
    raise CheckpointError(f"{where} does not fit the model of its recipe: {what}; use another checkpoint of the run")


def is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds no NaN and no infinity."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _brief(value: Any) -> Any:
    """A value for a message: tensors and containers by their kind alone."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}" if isinstance(value, dict | list | tuple) else value
