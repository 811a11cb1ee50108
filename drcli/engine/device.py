"""What a run computes on: its device, whether that repeats its bits, the compiled forward pass, and a record of it."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drcli import __version__
from drcli.checkpoint import copied
from drcli.errors import UsageError
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.names import METHODS
from drcli.recipe.conflicts import GRAPHS
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating
from drcli.runs.records import FORMAT, Environment

PACKAGES = ("torch", "numpy", "scikit-learn", "scipy")

BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Names by which torch tells of a processor's instructions for bfloat16; the last one is ARM's."""

_PROCESS = Path("/proc/self")

CALLS = 3
"""CUDA graphs warm up at the first call, record at the second, and replay from the third on."""


def resolve_device(name: str) -> torch.device:
    """Return the device of "auto", "cpu" or "cuda"; auto is a GPU where there is one.

    Raises:
        UsageError: cuda is requested and there is none, or the name is unknown.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise UsageError(f"--device {name}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is visible here; use --device cpu, or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def set_determinism(deterministic: bool) -> None:
    """Make torch repeat itself bit for bit on one device and thread count, or stop insisting on it."""
    # torch looks at this once, at the first matrix product on a GPU, and refuses deterministic mode ever after where it
    # was not there then: a run without the mode must not spoil those that follow it in the process.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms, which would import torch's compiler: seconds.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling memory that no result reads costs time and changes nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic


def environment(recipe: Recipe, fingerprint: str, device: torch.device, devices: int = 1) -> Environment:
    """Return what is to be noted of this process.

    Args:
        recipe: of the run.
        fingerprint: of the data.
        device: where the run is trained.
        devices: how many processes train it together.
    """
    return Environment(
        format=FORMAT,
        drcli=__version__,
        python=sys.version.split()[0],
        packages={name: version(name) for name in PACKAGES},
        platform=platform.platform(),
        device=device.type,
        devices=devices,
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        dataset_fingerprint=fingerprint,
        dataset_root=str(recipe.dataset.root.absolute()),
        command=[*sys.argv],
        method_source=source_of(recipe),
    )


def bfloat16_line(device: torch.device, recipes: Iterable[Recipe]) -> str | None:
    """Return where bfloat16 would make training on this processor faster, in a line; None where nothing is gained.

    Without instructions of its own a processor computes it more slowly than single precision. What is gained was
    measured with convolutional encoders, and only these are spoken of.

    Args:
        device: where they are trained.
        recipes: of the runs.
    """
    has = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    found = next((name for name in BFLOAT16 if has.get(name)), None)
    if found is None or not any(map(_gains, recipes)):
        return None
    return f"this processor has {found}: training.precision=bf16 is faster by a quarter or more, with other results"


def _gains(recipe: Recipe) -> bool:
    encoders = (block.backbone for block in recipe.modalities.values())
    return recipe.training.precision == "auto" and any(name.startswith("resnet") for name in encoders)


class PeakMemory:
    """The most memory in use from now on.

    Where the kernel can forget its own mark (Linux), it is asked to; elsewhere the process's mark since its start
    counts.

    Args:
        device: where a run is trained.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with suppress(OSError):  # another system, or a read-only /proc
            (_PROCESS / "clear_refs").write_text("5")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def of_process(self) -> int | None:
        """Return bytes of main memory that this process held at most; None where the system does not tell."""
        try:
            lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return _peak_by_rusage()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)

    def of_gpu(self) -> int | None:
        """Return bytes that tensors took on the GPU at most; None on a CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None


def _peak_by_rusage() -> int | None:
    """Return the same since the process began; None on Windows, which has no such call."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def source_of(recipe: Recipe) -> str:
    """Return a digest of the file that a run's method is written in; "" where there is none."""
    path = inspect.getsourcefile(METHODS.load(recipe.methods[recipe.method].method))
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path is not None else ""


def compile_forward(ctx: Context, method: Method) -> str | None:
    """Compile the model's forward pass as the recipe asks, and try it on a batch of train and one of val.

    The trial leaves parameters, buffers, the method's state and the global generator as they were. Where it fails, the
    model runs uncompiled.

    Returns:
        Why the model is not compiled, in a line; None where it is, or was not asked to be.
    """
    mode = ctx.training.compile
    if mode == "off":
        return None
    reason = _not_compiled(ctx, method)
    if reason is not None:
        return f"{reason}; the model runs uncompiled"
    model = ctx.model
    buffers = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    state = copied(method.state_dict())
    try:
        # As `torch.use_deterministic_algorithms` would set it: kernels are not chosen by what is fastest today.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.deterministic = ctx.training.deterministic
        # Methods that compare the gradients of several losses go back through one forward pass more than once.
        importlib.import_module("torch._functorch.config").donated_buffer = False  # type: ignore[attr-defined]
        model.compile(mode=None if mode == "default" else mode)
        with torch.random.fork_rng(devices=[ctx.device] if ctx.device.type == "cuda" else []):
            _try(ctx, method)
    except Exception as error:  # noqa: BLE001 - a compiler can fail in any way; the run must not
        model._compiled_call_impl = None  # noqa: SLF001 - there is no other way to undo it
        return f"torch.compile failed ({type(error).__name__}: {_first_line(error)}); the model runs uncompiled"
    finally:
        _restore(model, buffers)
        method.load_state_dict(state)
        ctx.take_logged()
        model.train()
        ctx.optimizer.zero_grad(set_to_none=True)
    return None


def _not_compiled(ctx: Context, method: Method) -> str | None:
    """Return why there is nothing to compile; None: there is."""
    if ctx.train.present:
        return "rows lack modalities, so that each batch has other numbers of them"
    if not method.compiled:
        return f"{ctx.label} trains parts of the model, never the whole, which is what is compiled"
    if ctx.training.compile == GRAPHS and not method.graphs:
        return f"CUDA graphs cannot replay how {ctx.label} goes back through the model; use default"
    return None


def _try(ctx: Context, method: Method) -> None:
    """Run what training and evaluation compile, without a step."""
    batch = ctx.train.take(_first(len(ctx.train), ctx.training.batch_size))
    ctx.model.train()
    for _ in range(CALLS):
        outputs = method.forward(ctx, batch)
        ctx.criterion(outputs.logits, batch.labels).backward()
        ctx.optimizer.zero_grad(set_to_none=True)
    batch = ctx.val.take(_first(len(ctx.val), ctx.eval_batch_size))
    with evaluating(ctx.model):
        for _ in range(CALLS):
            method.predict(ctx.model, batch)


def _first(rows: int, batch_size: int) -> Tensor:
    return torch.arange(min(batch_size, rows))


def _restore(model: torch.nn.Module, buffers: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Put buffers back with what they held; a forward pass may have put others in their place."""
    for name, (buffer, held) in buffers.items():
        owner, _, short = name.rpartition(".")
        buffer.copy_(held)
        setattr(model.get_submodule(owner), short, buffer)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")[:200]
