"""Arguments and options that commands share, or that need more than a line."""

from __future__ import annotations

from typing import Annotated

import typer

DevicesOpt = Annotated[
    int | None, typer.Option(min=1, help="GPUs, or processes on the CPU, that train each run together; default: 1.")
]
EngineOpt = Annotated[
    str,
    typer.Option(help="local: one run after another; ray: many at once, on nodes that share the working directory."),
]
AddressOpt = Annotated[
    str | None, typer.Option(help="Ray cluster, such as auto; default: RAY_ADDRESS, or this machine alone.")
]
CpusOpt = Annotated[int | None, typer.Option(min=1, help="Cores and threads per run on Ray; default: 1.")]
GpusOpt = Annotated[
    float | None, typer.Option(min=0, max=1, help="GPUs per run on Ray, such as 0.25; default: 1 if there is any.")
]
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
