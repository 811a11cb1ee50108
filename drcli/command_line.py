"""What all commands share: arguments and options that several take, how they print, and how an error ends them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from drcli import terminal
from drcli.errors import DataError, DrcliError, RunError
from drcli.files import reason
from drcli.names import METHODS
from drcli.reading import LESS_MEMORY, is_memory_shortage, one_line, printable
from drcli.terminal import EXIT_CODE, MESSAGE, raising_again

P = ParamSpec("P")


def _recipes(incomplete: str) -> list[str]:
    """The names of recipes that a shell offers."""
    from drcli.recipe.shipped import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def _methods(incomplete: str) -> list[str]:
    """The names of methods that a shell offers, behind those that are written already."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in ("all", *METHODS.names()) if name.startswith(last)]


RecipeArg = Annotated[
    str,
    typer.Argument(help="A recipe: a path, or the name of one that `drcli ls recipes` lists.", autocompletion=_recipes),
]
OverridesArg = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values in place of the recipe's, such as training.epochs=5."),
]
ExplainOpt = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Explain all keys, or only each KEY, such as training.optimizer.lr: type, default, allowed values.",
    ),
]
MovedArg = Annotated[list[str] | None, typer.Argument(metavar="[dataset.root=DIR]", help="Where the data was moved.")]
DeviceOpt = Annotated[str, typer.Option(help="auto, cpu or cuda; auto: a GPU if there is one, else the CPU.")]
DevicesOpt = Annotated[
    int | None, typer.Option(min=1, help="GPUs, or processes on the CPU, that train each run together; default: 1.")
]
EngineOpt = Annotated[
    str,
    typer.Option(
        help="local: this machine, see --jobs; ray: as many at once as there is room, on nodes that share files."
    ),
]
PrepareEngineOpt = Annotated[
    str, typer.Option(help="local: this machine; ray: parts of the clips on all cores, of nodes that share files.")
]
WorkersOpt = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Number of processes that decode clips; default: 1, on Ray one for each core."),
]
AddressOpt = Annotated[
    str | None, typer.Option(help="Ray cluster, such as auto; default: RAY_ADDRESS, or this machine alone.")
]
CpusOpt = Annotated[int | None, typer.Option(min=1, help="Cores and threads per run on Ray; default: 1.")]
GpusOpt = Annotated[
    float | None, typer.Option(min=0, max=1, help="GPUs per run on Ray, such as 0.25; default: 1 if there is any.")
]
JobsOpt = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Runs trained at once on this machine, which share its cores; default: as many as pay, see docs/jobs.md.",
    ),
]
ThreadsOpt = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Threads that a run computes with on a CPU; default: as many as cores are free for it."
    ),
]
LookingThreadsOpt = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Threads to compute with on a CPU; default: those that the run was begun with."),
]
ReferenceOpt = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Label that differences are to; default: joint training.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
MethodOpt = Annotated[
    str | None,
    typer.Option(
        "--method",
        "--methods",
        autocompletion=_methods,
        help="Labels of the recipe's methods, NAME[,NAME] or all, or unimodal:MODALITY; default: its `method`.",
    ),
]
SeedsOpt = Annotated[
    str | None, typer.Option("--seeds", "--seed", help="Seeds, such as 0,1,2; default: those of the recipe.")
]
LogOpt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[,NAME]",
        help="Where curves go: tensorboard, wandb, mlflow, trackio; the recipe's key log. Default: tensorboard.",
    ),
]
PlanOpt = Annotated[bool, typer.Option("--plan", help="Show what would be run and how long it takes; run nothing.")]
EmitOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Train nothing; write a command line for each run, and scripts for SLURM: docs/jobs.md.",
    ),
]
ColumnsOpt = Annotated[
    str | None,
    typer.Option(
        metavar="KEY[,KEY]",
        help="Columns of the tables: seeds, val, accuracy, macro_f1, probes, fused_probe, difference, p, bootstrap, "
        "seconds, published; balanced_accuracy, nll, ece, brier, temperature, nll_scaled, ece_scaled, brier_scaled; "
        "of a regression mae, corr, acc2, f1, acc2_nonzero, f1_nonzero, acc5, acc7; "
        "parameters, seconds_per_epoch, seconds_per_1000, peak_memory, peak_gpu_memory.",
    ),
]
SourceOpt = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|hf://OWNER/NAME",
        help="Folder of the official download, or hf://owner/name on the Hugging Face Hub, with /folder and @revision "
        "where wanted.",
    ),
]
MaxBadOpt = Annotated[
    str, typer.Option(metavar="SHARE", help="Largest share of clips that may be skipped, such as 1% or 0.01.")
]
SplitDirOpt = Annotated[
    Path | None, typer.Option(help="Folder of the authors' split files: dataset.prepare.split_dir.")
]
ShardOpt = Annotated[
    str | None, typer.Option(metavar="I/N", help="Decode part I of N alone; other processes decode the others.")
]
MergeOpt = Annotated[bool, typer.Option("--merge", help="Join the parts that --shard made, and finish.")]
VerifyOpt = Annotated[bool, typer.Option("--verify", help="Only read every file of the prepared dataset anew.")]
SubsetsOpt = Annotated[
    str | None,
    typer.Option(
        metavar="all|NAMES",
        help="Score without the other modalities: audio,audio+visual, or all for every subset of them.",
    ),
]
AbsentOpt = Annotated[
    str, typer.Option(help="Features in the place of an absent modality: zero, or mean, their mean over training.")
]
MissingOpt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODALITY=SHARE[,SHARE]", help="Score where a share of the samples lacks a modality: audio=0.3."
    ),
]
NoiseOpt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODALITY=DB[,DB]", help="Score with white noise on a modality's inputs, in dB: audio=20,10,0,-10."
    ),
]
DrawsOpt = Annotated[int, typer.Option(min=1, max=1000, help="Draws of the noise, and of the samples that lack it.")]
TrialsOpt = Annotated[
    int, typer.Option(min=1, max=999, help="Trials of each method; the first has the recipe's own values.")
]
TuneSeedsOpt = Annotated[
    str, typer.Option(help="Seeds of each trial; none of those that the recipe's final runs have.")
]
SamplerOpt = Annotated[
    str,
    typer.Option(help="How values are drawn: random, or tpe, Optuna's estimator, which learns from earlier trials."),
]
PruneOpt = Annotated[
    bool,
    typer.Option(
        "--prune", help="Stop trials that are behind the median of earlier ones; default: train all to the end."
    ),
]
TunedOpt = Annotated[
    Path, typer.Option(help="Folder in which tuned/<recipe>.yaml and the study, tuned/<recipe>/, are written.")
]


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Let a command end in one message and the exit code of its error, without a traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with raising_again():
                command(*args, **kwargs)
        except DrcliError as error:
            _end(str(error), error.exit_code)
        except OSError as error:
            if error.filename is None:
                raise
            # Of a path that cannot even be looked at: its name is too long, or a folder above it is closed.
            path = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
            _end(f"{path}: {reason(error)}; check the path and its permissions", DataError.exit_code)
        except (MemoryError, RuntimeError) as error:
            if not is_memory_shortage(error):
                raise
            _end(f"not enough memory ({one_line(error)}); {LESS_MEMORY}", RunError.exit_code)
        except KeyboardInterrupt:
            typer.echo(MESSAGE, err=True)
            raise typer.Exit(EXIT_CODE) from None

    return wrapper


def emit(as_json: bool, value: Callable[[], Any], table: Callable[[], Any]) -> None:
    """Print the result: one JSON object, or a table."""
    if as_json:
        typer.echo(json.dumps(value(), allow_nan=False))
    else:
        terminal.show(table())


def end_failed(failed: Sequence[str], exit_code: int = 1) -> None:
    """End with an exit code, and say what failed, if anything has."""
    if failed:
        typer.echo("drcli: " + "\n".join(failed), err=True)
        raise typer.Exit(exit_code)


def _end(message: str, code: int) -> NoReturn:
    """Say what is wrong and end; characters of a file or path that would steer the terminal are spelled out."""
    typer.echo(f"drcli: {printable(message)}", err=True)
    raise typer.Exit(code) from None
