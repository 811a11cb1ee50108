"""Features of encoders inside somebody else's model: a pass over a loader that leaves no trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from drcli.relearning.loaders import in_order, is_dealt, whole
from drcli.world import ALONE, World

Features = tuple[Mapping[str, Tensor], Tensor]
"""Features {m: (N, D_m)} and labels (N,)."""

INSTEAD = "give step() features instead, ({modality: (N, D)}, labels) or a function that returns them"

LABELS = "labels"
"""Key of the labels in a batch that is a mapping."""


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode without gradients, and each layer back as it was after."""
    modes = [(layer, layer.training) for module in modules for layer in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training


def present_world() -> World:
    """Return the processes of torch's default group, or this one alone."""
    if distributed.is_available() and distributed.is_initialized():
        return World(distributed.get_rank(), distributed.get_world_size())
    return ALONE


def bare(module: nn.Module) -> nn.Module:
    """Return a module without what `torch.compile`, DataParallel and DistributedDataParallel wrap around it."""
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def default_run(encoders: Mapping[str, nn.Module], model: nn.Module | None) -> Callable[[Any], Tensor]:
    """Return what runs the model, or the encoders alone where there is none, on a batch, and returns its labels.

    A batch is (x_1, ..., x_M, labels) in the order of the encoders, ({m: x_m}, labels), or a mapping with the
    key "labels"; a model is called with what is left without the labels.
    """
    target = bare(model) if model is not None else None

    def run(batch: Any) -> Tensor:
        inputs, labels = split_batch(batch)
        inputs = _moved(inputs, device_of(encoders.values()))
        if target is None:
            for m, x in _by_modality(inputs, list(encoders)).items():
                encoders[m](x)
        elif isinstance(inputs, Mapping):
            target(**inputs)
        else:
            target(*inputs)
        return labels

    return run


def device_of(modules: Iterable[nn.Module]) -> torch.device:
    """Return where the first parameter of some modules is; the CPU if they have none."""
    return next((parameter.device for module in modules for parameter in module.parameters()), torch.device("cpu"))


def split_batch(batch: Any) -> tuple[Any, Tensor]:
    """Return the inputs of a batch, a mapping or a sequence, and its labels (B,).

    Raises:
        ValueError: it is none of the kinds that `default_run` describes.
    """
    if isinstance(batch, Mapping) and LABELS in batch:
        return {key: value for key, value in batch.items() if key != LABELS}, batch[LABELS]
    if isinstance(batch, Sequence) and len(batch) > 1 and isinstance(batch[-1], Tensor):
        first = batch[0]
        return (first if len(batch) == 2 and isinstance(first, Mapping) else tuple(batch[:-1])), batch[-1]
    raise ValueError(
        "a batch must be (inputs..., labels), ({modality: input}, labels) or a mapping with the key 'labels'; "
        "for any other kind give the Relearner run=, a function that runs the model on a batch and returns its labels"
    )


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    return tuple(_moved(item, device) for item in value) if isinstance(value, tuple | list) else value


def _by_modality(inputs: Any, modalities: Sequence[str]) -> dict[str, Any]:
    found = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(modalities, inputs, strict=False))
    if found.keys() != set(modalities) or len(inputs) != len(modalities):
        raise ValueError(
            f"a batch has inputs {', '.join(map(str, inputs)) if isinstance(inputs, Mapping) else len(inputs)}, the "
            f"encoders are {', '.join(modalities)}; give the Relearner model= or run= if the batch holds more"
        )
    return found


def collect(
    loader: Iterable[Any],
    encoders: Mapping[str, nn.Module],
    run: Callable[[Any], Tensor],
    model: nn.Module | None = None,
    rows: Tensor | None = None,
) -> Features:
    """Return what the encoders put out over a loader, and the labels, on the CPU.

    Outputs are caught where they arise, by a hook, so that the model may be anybody's. Rows come in stored order,
    even if the loader shuffles, see `in_order`. Of several processes with a loader over a DistributedSampler each
    returns the rows of all.

    Args:
        loader: of batches; a second pass over it must give its rows again.
        encoders: by modality, without wrappers (`bare`).
        run: runs the model on a batch, the encoders in it, and returns the labels (B,).
        model: what is put into evaluation mode for the pass, beside the encoders.
        rows: numbers of the rows that are wanted, ascending; None: all. See `in_order`.

    Raises:
        ValueError: an encoder was not run, or more than once, or puts out anything but (B, D_m); labels are not (B,).
    """
    caught: dict[str, list[Any]] = {m: [] for m in encoders}
    pieces: dict[str, list[Tensor]] = {m: [] for m in encoders}
    labels: list[Tensor] = []
    world = present_world() if is_dealt(loader) else ALONE
    modules = [*encoders.values(), *([] if model is None else [model])]
    with _hooks(encoders, caught), evaluating(*modules), uncompiled():
        for batch in in_order(loader, world, rows=rows):
            labels.append(_labels(run(batch)))
            for m, parts in pieces.items():
                parts.append(_features(m, caught[m], len(labels[-1])))
                caught[m].clear()
    if not labels:
        raise ValueError("the loader is empty")
    count = whole(loader) if rows is None else len(rows)
    return _of_all_processes({m: torch.cat(parts) for m, parts in pieces.items()}, torch.cat(labels), world, count)


def uncompiled() -> AbstractContextManager[object]:
    """Run compiled models as they are written: what is compiled does not call hooks that came later."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _hooks(encoders: Mapping[str, nn.Module], caught: Mapping[str, list[Any]]) -> Iterator[None]:
    def catch(m: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: caught[m].append(output)

    handles = [encoder.register_forward_hook(catch(m)) for m, encoder in encoders.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _labels(labels: Any) -> Tensor:
    found = torch.as_tensor(labels).detach().cpu()
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ValueError(f"labels must be one class per row, (B,), got {tuple(found.shape)}")
    return found


def _features(m: str, outputs: Sequence[Any], rows: int) -> Tensor:
    if not outputs:
        raise ValueError(f"the encoder of {m} was not run on a batch: is it a part of the model that was given?")
    if len(outputs) > 1:
        raise ValueError(f"the encoder of {m} ran {len(outputs)} times on a batch; {INSTEAD}")
    (output,) = outputs
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != rows:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the encoder of {m} puts out {shape}, not ({rows}, D); {INSTEAD}")
    return output.detach().to("cpu", torch.float64 if output.dtype == torch.float64 else torch.float32)


def _of_all_processes(features: dict[str, Tensor], labels: Tensor, world: World, rows: int | None) -> Features:
    """Return the rows of all processes, without those that were passed over twice."""
    if world.size == 1:
        return features, labels
    counts: list[Any] = [None] * world.size
    distributed.all_gather_object(counts, len(labels))
    on_gpu = distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    packed = {m: world.all_gather(x.to(device), counts).cpu()[:rows] for m, x in features.items()}
    return packed, world.all_gather(labels[:, None].to(device), counts).cpu()[:rows, 0]
