"""What the runs of a recipe took: epochs, seconds, samples per second, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from drcli.report.page.section import Methods, Section
from drcli.report.page.table import ABSENT, to_html
from drcli.report.render import TableText
from drcli.runs.collect import RunRecord

COLUMNS = (
    "method",
    "runs",
    "epochs",
    "seconds per run",
    "of these, encoders before",
    "minutes in all",
    "samples / s",
    "device",
)


def cost(methods: Methods) -> Section:
    """Return the section of a recipe's finished runs."""
    rows = [_row(name, runs) for name, runs in methods.items()]
    table = TableText("Run times", COLUMNS, rows, ["Means over seeds."])
    intro = "Training with its diagnoses and the scoring of validation; other work on the machine counts too."
    return Section("Run times", intro, [to_html(table)])


def _row(name: str, runs: Sequence[RunRecord]) -> list[str]:
    summaries = [run.done for run in runs]
    before = [summary.teacher_seconds for summary in summaries]
    seconds = [summary.all_seconds for summary in summaries]
    speeds = [record.samples_per_second for run in runs for record in run.epochs()]
    epochs = sorted({str(summary.epochs) for summary in summaries})
    return [
        name,
        str(len(runs)),
        ", ".join(epochs),
        f"{fmean(seconds):.1f}",
        f"{fmean(before):.1f}" if any(before) else ABSENT,
        f"{sum(seconds) / 60:.1f}",
        f"{fmean(speeds):.0f}" if speeds else ABSENT,
        ", ".join(dict.fromkeys(map(device, runs))),
    ]


def device(run: RunRecord) -> str:
    """Return what a run was trained on."""
    return run.environment.accelerator or run.environment.device or "not recorded"
