"""What the runs of a recipe took: epochs, seconds, clips a second, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from drcli.report.collect import RunRecord
from drcli.report.page.section import Methods, Section
from drcli.report.page.series import at
from drcli.report.page.table import ABSENT, to_html
from drcli.report.render import TableText

COLUMNS = (
    "method",
    "runs",
    "epochs",
    "seconds a run",
    "of these, encoders before",
    "minutes in all",
    "clips / s",
    "device",
)


def cost(methods: Methods) -> Section:
    """Return the section of a recipe's finished runs."""
    rows = [_row(name, runs) for name, runs in methods.items()]
    table = TableText("Run times", COLUMNS, rows, ["Means over seeds."])
    intro = "Training with its diagnoses and the scoring of validation; other work on the machine counts too."
    return Section("Run times", intro, [to_html(table)])


def _row(name: str, runs: Sequence[RunRecord]) -> list[str]:
    summaries = [run.summary for run in runs if run.summary is not None]
    before = [summary.get("teacher_seconds", 0.0) for summary in summaries]
    seconds = [summary["seconds"] + prior for summary, prior in zip(summaries, before, strict=True)]
    speeds = [speed for run in runs for speed in at(run.epochs(), "clips_per_second").values()]
    epochs = sorted({str(summary.get("epochs", ABSENT)) for summary in summaries})
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
    return str(run.environment.get("accelerator") or run.environment.get("device") or "not recorded")
