"""What docs/python.md, the README and the notebook show runs as it is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command_line import ROOT
from support.examples import EXAMPLES

PAGE = (EXAMPLES.parent / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NOTEBOOK = EXAMPLES / "first_steps.ipynb"


def run(script: str, folder: Path) -> str:
    """What a script prints that is run as a user would: a file, in a folder of its own."""
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=folder, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_first_block_of_the_page_trains_and_scores(tmp_path: Path) -> None:
    assert BLOCKS[0].count("\n") == 10
    printed = run(BLOCKS[0], tmp_path)
    assert printed.startswith("**digits: test scores in per cent**")
    assert re.search(r"\n\| diagnose_relearn \| 1 \|", printed)
    assert len(printed.splitlines()[-1].split(".")) == 2


@pytest.mark.slow
def test_the_block_of_the_readme_is_that_of_the_page() -> None:
    found = re.search(r"## Python\n.*?```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        pytest.skip("the README has no section Python")
    assert found[1] == BLOCKS[0]


def test_the_dataset_of_the_page_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "docs/python.md", "exec"), names)
    assert names["prepared"].info.rows == {"train": 300, "val": 60, "test": 60}
    assert names["prepared"].info.modalities["motion"].shape == (8, 2)
    assert (tmp_path / "data" / "mine" / "dataset.json").is_file()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", PAGE))))
def test_what_the_page_links_to_is_there(link: str) -> None:
    assert (EXAMPLES.parent / link).is_file()


def test_the_notebook_is_stored_without_its_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 4
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_each_thing_once(tmp_path: Path) -> None:
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prepared, trained, compared = cells[0].outputs, cells[1].outputs, cells[-1].outputs
    assert prepared[-1].data["text/plain"] == "({'train': 400, 'val': 100, 'test': 100}, (8, 2))"
    progress, table = trained  # one output for the progress of four runs, and the value of the cell
    assert progress.output_type == "display_data"
    assert "4 of 4 runs finished" in progress.data["text/plain"]
    assert progress.data["text/plain"].count("test accuracy") == 4
    assert table.data["text/markdown"] == compared[-1].data["text/markdown"]
    assert "| diagnose_relearn | 2 |" in table.data["text/markdown"]
    assert not [out for cell in cells for out in cell.outputs if out.get("name") == "stderr"]
