"""The tables of what each rule of re-learning gains, on runs made by hand."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from support.run_folders import write_run

ACCURACY = {
    # test accuracy by seed, and validation accuracy
    "joint": ((0.50, 0.60), 0.55),
    "joint-gap": ((0.54, 0.62), 0.60),
    "joint-0.3": ((0.53, 0.63), 0.70),
    "joint-shuffled": ((0.49, 0.57), 0.50),
    "joint-0.9": ((0.59, 0.69), 0.65),  # better on test, but not chosen
    "multi_loss": ((0.70, 0.70), 0.60),  # without re-learning: no base
}


def test_rules_are_held_against_their_base_and_the_strength_that_validation_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, (scores, val) in ACCURACY.items():
        for seed, accuracy in enumerate(scores):
            split = {"accuracy": val, "macro_f1": val, "n": 60}
            write_run(tmp_path, accuracy, label=label, method="joint", seed=seed, summary={"val": split})
    import_module("benchmarks.relearning").main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| rule | joint |"
    # +4 and +2: mean 3, standard error 1, Student's t with one degree of freedom 12.7
    assert lines[2] == "| gap | +3.0 [-9.7, +15.7] |"
    assert "| 0.9 | +9.0 [+9.0, +9.0] |" in lines
    assert "| 0.5 | - |" in lines
    # gap minus 0.3 is +1 and -1
    row = "| joint | 2 | 55.0 | 0.3 | +3.0 [+3.0, +3.0] | +3.0 [-9.7, +15.7] | +0.0 [-12.7, +12.7] |"
    assert lines[-1] == f"{row} +5.0 [+5.0, +5.0] | - |"  # gap minus shuffled, and minus random
