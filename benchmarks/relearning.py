"""What each rule of re-learning gains on each base method, from the runs of recipes/relearning*.yaml.

    python benchmarks/relearning.py RUNS

RUNS is the folder of such a recipe's runs: labels BASE and BASE-RULE. Two Markdown tables are printed, in percentage
points of test accuracy, mean and 95 % interval of Student's t over the seeds that both sides have: each rule minus its
base, and the paper's rule (gap) minus the controls and minus the fixed strength whose mean accuracy on validation is
highest.
A fixed strength and `random` look at no purity, and `shuffled` gives each modality that of another: the controls.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from drcli.runs.collect import RunRecord, by_label, collect, finished
from drcli.runs.statistics import paired_differences, t_interval
from drcli.runs.wording import interval, points

FIXED = ("0.3", "0.5", "0.7", "0.9")
CONTROLS = ("shuffled", "random")
RULES = ("gap", "above_floor", "relative", "adjusted", *CONTROLS, *FIXED)

Runs = Mapping[str, list[RunRecord]]


def test_accuracies(runs: list[RunRecord]) -> dict[int, float]:
    """Return test accuracy by seed."""
    return {run.seed: run.score for run in runs}


def on_validation(runs: list[RunRecord]) -> float:
    """Return the mean validation accuracy of the selected epochs."""
    return fmean(run.done.val.first for run in runs if run.done.val is not None)


def difference(runs: Runs, label: str, reference: str) -> str:
    """Return a label's test accuracy minus another's; a dash where no two runs share a seed."""
    if label not in runs or reference not in runs:
        return "-"
    found = paired_differences(test_accuracies(runs[label]), test_accuracies(runs[reference]))
    if not found:
        return "-"
    limits = t_interval(found)
    return points(fmean(found)) + ("" if limits is None else f" {interval(limits)}")


def best_fixed(runs: Runs, base: str) -> str | None:
    """Return the fixed strength of a base that validation chooses."""
    tried = [strength for strength in FIXED if f"{base}-{strength}" in runs]
    return max(tried, key=lambda strength: on_validation(runs[f"{base}-{strength}"]), default=None)


def gains(runs: Runs, bases: list[str]) -> list[list[str]]:
    """Return a row per rule: its gain on each base."""
    rows = [[rule, *(difference(runs, f"{base}-{rule}", base) for base in bases)] for rule in RULES]
    return [["rule", *bases], *rows]


def choices(runs: Runs, bases: list[str]) -> list[list[str]]:
    """Return a row per base: its accuracy, the fixed strength that validation chooses, and the gap minus controls."""
    head = ("base", "seeds", "accuracy", "fixed strength chosen", "its gain", "gap's gain", "gap minus fixed")
    rows = [[*head, *(f"gap minus {control}" for control in CONTROLS)]]
    for base in bases:
        scores, chosen = test_accuracies(runs[base]), best_fixed(runs, base)
        fixed, gap = f"{base}-{chosen}", f"{base}-gap"
        pairs = ((fixed, base), (gap, base), (gap, fixed), *((gap, f"{base}-{control}") for control in CONTROLS))
        found = (difference(runs, *pair) for pair in pairs)
        rows.append([base, str(len(scores)), f"{100 * fmean(scores.values()):.1f}", str(chosen), *found])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """Return rows as a Markdown table, the first of them as its head."""
    head, *rest = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join([head, f"|---|{'---:|' * (len(rows[0]) - 1)}", *rest])


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    runs = by_label(finished(collect([parser.parse_args(arguments).runs])))
    bases = [label for label in runs if f"{label}-gap" in runs]
    print(markdown(gains(runs, bases)), markdown(choices(runs, bases)), sep="\n\n")


if __name__ == "__main__":
    main()
