"""The command line: parses, calls `drcli.commands`, prints. No mathematics, and no heavy import."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drcli import __version__, terminal
from drcli.command_line import (
    AbsentOpt,
    AddressOpt,
    ColumnsOpt,
    CpusOpt,
    DeviceOpt,
    DevicesOpt,
    DrawsOpt,
    EmitOpt,
    EngineOpt,
    ExplainOpt,
    GpusOpt,
    JobsOpt,
    JsonOpt,
    LogOpt,
    LookingThreadsOpt,
    MaxBadOpt,
    MergeOpt,
    MethodOpt,
    MissingOpt,
    MovedArg,
    NoiseOpt,
    OverridesArg,
    PlanOpt,
    PrepareEngineOpt,
    PruneOpt,
    RecipeArg,
    ReferenceOpt,
    SamplerOpt,
    SeedsOpt,
    ShardOpt,
    SourceOpt,
    SplitDirOpt,
    SubsetsOpt,
    ThreadsOpt,
    TrialsOpt,
    TunedOpt,
    TuneSeedsOpt,
    VerifyOpt,
    WorkersOpt,
    emit,
    end_failed,
    reports_errors,
)
from drcli.errors import UsageError
from drcli.terminal import leaving_at_once

if TYPE_CHECKING:
    from drcli.commands.train import TrainRequest

app = typer.Typer(
    name="drcli",
    help="Diagnosing & Re-learning: train, diagnose and evaluate multimodal models, from one recipe.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"drcli {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Diagnosing & Re-learning: train, diagnose and evaluate multimodal models, from one recipe."""
    del version


@app.command("ls")
@reports_errors
def list_names(
    kind: Annotated[str | None, typer.Argument(help="recipes, methods, datasets, backbones or fusions.")] = None,
) -> None:
    """List what a recipe can name."""
    with leaving_at_once():
        from drcli.commands import listing

    for table in listing.tables(kind):
        terminal.show(table)


@app.command()
@reports_errors
def show(
    recipe: RecipeArg,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE|KEY]...",
            help="Values in place of the recipe's, such as training.epochs=5; with --explain, keys to explain.",
        ),
    ] = None,
    explain: ExplainOpt = False,
) -> None:
    """Show a recipe with every default filled in, and where each value comes from."""
    with leaving_at_once():
        from drcli.commands import show as command

    if explain:
        terminal.show(command.explain(recipe, overrides or []))
    else:
        typer.echo(command.show(recipe, overrides or []), nl=False)


@app.command()
@reports_errors
def prepare(  # noqa: PLR0913, PLR0917 - one argument for each option
    target: Annotated[str, typer.Argument(metavar="DATASET|RECIPE", help="What to prepare.")],
    overrides: OverridesArg = None,
    source: SourceOpt = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the prepared dataset; default: dataset.root.")] = None,
    workers: WorkersOpt = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Largest number of samples, all splits together; stratified by class.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace a dataset that is already in the folder.")] = False,
    max_bad: MaxBadOpt = "1%",
    split_dir: SplitDirOpt = None,
    shard: ShardOpt = None,
    merge: MergeOpt = False,
    verify: VerifyOpt = False,
    engine: PrepareEngineOpt = "local",
    address: AddressOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Turn an official download into a prepared dataset."""
    with leaving_at_once():
        from drcli.commands import prepare as command

    given = overrides or []
    request = command.PrepareRequest(
        target, given, source, out, workers, limit, fresh, max_bad, split_dir, shard, merge, verify, engine, address
    )
    prepared = command.run(request, terminal.console(stderr=True))
    emit(as_json, lambda: command.to_json(prepared), lambda: command.table(prepared))


@app.command()
@reports_errors
def train(  # noqa: PLR0913, PLR0917 - one argument for each option
    recipe: RecipeArg,
    overrides: OverridesArg = None,
    method: MethodOpt = None,
    seeds: SeedsOpt = None,
    out: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    device: DeviceOpt = "auto",
    devices: DevicesOpt = None,
    jobs: JobsOpt = None,
    threads: ThreadsOpt = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete runs that are in the folder, and start over.")] = False,
    engine: EngineOpt = "local",
    address: AddressOpt = None,
    cpus_per_run: CpusOpt = None,
    gpus_per_run: GpusOpt = None,
    reference: ReferenceOpt = None,
    columns: ColumnsOpt = None,
    log: LogOpt = None,
    plan: PlanOpt = False,
    emit_jobs: EmitOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Train methods and seeds; finished runs are shown, unfinished ones are resumed."""
    with leaving_at_once():
        from drcli.commands import train as command
        from drcli.commands.engines import EngineOptions

    options = EngineOptions(device, engine, address, cpus_per_run, gpus_per_run, devices, fresh, jobs, threads)
    keys = None if columns is None else columns.split(",")
    values = [*(overrides or []), *([] if log is None else [f"log=[{log}]"])]
    request = command.TrainRequest(recipe, values, method, seeds, out, options, reference, keys)
    if plan or emit_jobs is not None:
        _prepare_to_train(request, emit_jobs, plan=plan, as_json=as_json)
        return
    result = command.train(request, terminal.console(stderr=True))
    if result is None:
        return  # the main process of torchrun shows it
    if as_json or result.runs:  # where every run failed there is nothing to compare
        emit(as_json, lambda: command.to_json(result, reference), lambda: command.tables(result, request))
    end_failed(result.messages, result.exit_code)


def _prepare_to_train(request: TrainRequest, folder: Path | None, *, plan: bool, as_json: bool) -> None:
    """Show what would be trained, or write it down as jobs; nothing is trained."""
    if folder is not None and (plan or as_json):
        raise UsageError(f"--emit-jobs {folder}: not with {'--plan' if plan else '--json'}; leave one of them out")
    if folder is not None:
        from drcli.commands.emit import emit_jobs

        typer.echo("\n".join(emit_jobs(request, folder, terminal.console(stderr=True))))
        return
    from drcli.commands import plan as command

    found = command.planned(request)
    emit(as_json, lambda: command.to_json(found), lambda: command.table(found))


@app.command()
@reports_errors
def tune(  # noqa: PLR0913, PLR0917 - one argument for each option
    recipe: RecipeArg,
    overrides: OverridesArg = None,
    method: MethodOpt = None,
    trials: TrialsOpt = 16,
    tune_seeds: TuneSeedsOpt = "100,101",
    sampler: SamplerOpt = "random",
    prune: PruneOpt = False,
    out: TunedOpt = Path(),
    device: DeviceOpt = "auto",
    jobs: JobsOpt = None,
    threads: ThreadsOpt = None,
    engine: EngineOpt = "local",
    address: AddressOpt = None,
    cpus_per_run: CpusOpt = None,
    gpus_per_run: GpusOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Tune methods alike, on the validation split alone; a study that was stopped goes on."""
    with leaving_at_once():
        from drcli.commands import tune as command
        from drcli.commands.engines import EngineOptions

    options = EngineOptions(device, engine, address, cpus_per_run, gpus_per_run, jobs=jobs, threads=threads)
    request = command.TuneRequest(recipe, overrides or [], method, trials, tune_seeds, sampler, prune, out, options)
    done = command.tune(request, terminal.console(stderr=True))
    if as_json or done.found:
        emit(as_json, lambda: command.to_json(done), lambda: command.show(done))
    end_failed(command.failures(done))


@app.command()
@reports_errors
def diagnose(
    checkpoint: Annotated[Path, typer.Argument(metavar="RUN|CHECKPOINT.pt|FEATURES.npz", help="What to diagnose.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="lambda, restarts, scaler, gap, match_sizes, sample or kmeans; dataset.root where the data was moved.",
        ),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw purities and representations (.png, .svg, .pdf).")] = None,
    device: DeviceOpt = "auto",
    threads: LookingThreadsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Report how over-trained each modality is; nothing is changed."""
    with leaving_at_once():
        from drcli.commands import diagnose as command

    report = command.run(checkpoint, overrides or [], device, figure, threads)
    emit(as_json, lambda: command.to_json(report), lambda: command.table(report))
    if figure is not None:
        typer.echo(f"written: {figure}", err=True)


@app.command("eval")
@reports_errors
def evaluate(  # noqa: PLR0913, PLR0917 - one argument for each option
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CHECKPOINT.pt", help="What to evaluate: a run directory, or a file in it.")
    ],
    overrides: MovedArg = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    subsets: SubsetsOpt = None,
    missing: MissingOpt = None,
    noise: NoiseOpt = None,
    absent: AbsentOpt = "zero",
    draws: DrawsOpt = 3,
    device: DeviceOpt = "auto",
    threads: LookingThreadsOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Score a checkpoint, and its frozen encoders by linear probes; or runs without modalities and under noise."""
    with leaving_at_once():
        from drcli.commands import evaluate as command
        from drcli.commands.conditions import Asked

    asked = Asked(subsets, missing or [], noise or [], absent, draws)
    tell = functools.partial(typer.echo, err=True)
    result = command.evaluate(checkpoint, overrides or [], split, device, asked, tell, threads)
    emit(as_json, lambda: command.to_json(result), lambda: command.table(result))


@app.command()
@reports_errors
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CHECKPOINT.pt", help="Whose encoder: a run directory, or a file in it.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="File to write.")],
    encoder: Annotated[
        str | None, typer.Option(metavar="MODALITY", help="Encoder to export; default: the only one.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Write one trained encoder as a .safetensors file, for other programs and for `weights` of a recipe."""
    with leaving_at_once():
        from drcli.commands import export as command

    result = command.export(checkpoint, encoder, out)
    emit(as_json, lambda: result, lambda: command.line(result))


@app.command()
@reports_errors
def report(  # noqa: PLR0913, PLR0917 - one argument for each option
    folders: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Folders with runs at or below them.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: report.html, or standard output for tables.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, or only the tables: markdown or latex.")] = "html",
    figures: Annotated[
        Path | None, typer.Option(help="Folder of the figures as .svg files; default: beside the page.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write the figures as .png files too.")] = False,
    maps: Annotated[
        str | None,
        typer.Option(metavar="LABEL[,LABEL]", help="Methods in maps and confusion matrices; default: joint and D&R."),
    ] = None,
    no_maps: Annotated[
        bool, typer.Option("--no-maps", help="Leave out the maps, which take most of the time.")
    ] = False,
    reference: ReferenceOpt = None,
    columns: ColumnsOpt = None,
    second_hand: Annotated[
        bool,
        typer.Option("--second-hand", help="Also show published figures that were quoted, copied or not published."),
    ] = False,
) -> None:
    """Report runs as one HTML page that needs no network, or as tables."""
    with leaving_at_once():
        from drcli.commands import report as command

    labels = maps.split(",") if maps is not None else []
    keys = None if columns is None else columns.split(",")
    request = command.ReportRequest(folders, out, form, figures, png, labels, no_maps, reference, keys, second_hand)
    typer.echo(command.report(request, terminal.console(stderr=True)), nl=False)


@app.command()
@reports_errors
def reproduce(  # noqa: PLR0913, PLR0917 - one argument for each option
    name: Annotated[str, typer.Argument(help="table1 to table4, fig1, fig3, fig4, fig5, all, or a path to a YAML.")],
    overrides: OverridesArg = None,
    dataset: Annotated[
        str | None, typer.Option(help="Recipe in place of the paper's datasets, such as digits or avmnist.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the prepared datasets, DIR/<dataset>; default: dataset.root.")
    ] = None,
    seeds: SeedsOpt = None,
    out: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    figures: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("reproduced"),
    device: DeviceOpt = "auto",
    devices: DevicesOpt = None,
    jobs: JobsOpt = None,
    threads: ThreadsOpt = None,
    engine: EngineOpt = "local",
    address: AddressOpt = None,
    cpus_per_run: CpusOpt = None,
    gpus_per_run: GpusOpt = None,
    plan: PlanOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Make a table or figure of the paper; runs that are finished are not trained again."""
    with leaving_at_once():
        from drcli.commands import reproduce as command
        from drcli.commands.engines import EngineOptions
        from drcli.reproduce.target import Choice

    options = EngineOptions(device, engine, address, cpus_per_run, gpus_per_run, devices, jobs=jobs, threads=threads)
    request = command.ReproduceRequest(name, Choice(overrides or [], dataset, data, seeds, out), figures, options)
    plans = command.planned(request)
    if plan:
        emit(as_json, lambda: command.plan_json(plans), lambda: command.plan_table(plans))
        return
    result = command.reproduce(plans, request, terminal.console(stderr=True))
    emit(as_json, lambda: command.to_json(result), lambda: command.show(result))
    if result.ended is not None:
        end_failed([*result.failed, str(result.ended)], result.ended.exit_code)
    end_failed(result.failed)
