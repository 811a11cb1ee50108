"""What the command line takes: arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeArg = Annotated[str, typer.Argument(help="A recipe: a path, or the name of one that `drcli ls recipes` lists.")]
OverridesArg = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values in place of the recipe's, such as training.epochs=5."),
]
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
ColumnsOpt = Annotated[
    str | None,
    typer.Option(
        metavar="KEY[,KEY]",
        help="Columns of the tables: seeds, val, accuracy, macro_f1, probes, fused_probe, difference, p, bootstrap, "
        "seconds, published; balanced_accuracy, nll, ece, brier, temperature, nll_scaled, ece_scaled, brier_scaled; "
        "parameters, seconds_per_epoch, seconds_per_1000, peak_memory, peak_gpu_memory.",
    ),
]
ReferenceOpt = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Label that differences are to; default: joint training.")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
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
MethodOpt = Annotated[
    str | None, typer.Option(help="Labels of the recipe's methods, NAME[,NAME], or all; default: its `method`.")
]
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
TunedOpt = Annotated[
    Path, typer.Option(help="Folder in which tuned/<recipe>.yaml and the study, tuned/<recipe>/, are written.")
]
