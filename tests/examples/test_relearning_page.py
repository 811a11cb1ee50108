"""What docs/relearning.md shows can be run, and what it lists is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.examples import EXAMPLES
from support.foreign import Model, data, loader, step

from drcli.relearning import RULES, Relearner

PAGE = (EXAMPLES.parent / "relearning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """What the blocks take for granted."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    audio, visual, labels = data(10).tensors

    def train_one_epoch(model: Model, loader: Any) -> None:
        for batch in loader:
            step(model, optimizer, batch)

    return {
        "torch": torch,
        "Relearner": Relearner,
        "model": model,
        "encoders": model.encoders(),
        "epochs": 3,
        "epoch": 1,
        "device": "cpu",
        "path": tmp_path / "checkpoint.pt",
        "train_one_epoch": train_one_epoch,
        "train_loader": loader(10, shuffle=True),
        "val_loader": loader(11),
        "relearner": Relearner(model.encoders(), every=1, restarts=1),
        "audio_features": audio,
        "visual_features": visual,
        "labels": labels,
        "val_features": {"audio": audio, "visual": visual},
        "val_labels": labels,
    }


@pytest.mark.filterwarnings("ignore:no re-learning will happen")
@pytest.mark.parametrize("block", [block for block in BLOCKS if "lightning" not in block])
def test_a_block_runs(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, "docs/relearning.md", "exec"), names)
    relearner = names["relearner"]
    relearner.settings = relearner.settings.model_copy(update={"every": 1, "restarts": 1})
    batches = [{"audio": a, "visual": v, "target": y} for a, v, y in loader(10)] if "run" in names else loader(10)
    assert relearner.diagnose(batches, batches).keys() == {"audio", "visual"}


def test_every_rule_is_listed() -> None:
    rows = re.findall(r'^\| `"(\w+)"` \|', PAGE, re.MULTILINE)
    assert rows == ["gap", "above_floor", "relative", "adjusted", "shuffled", "random"]
    assert set(rows) == set(RULES)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", PAGE)) - {"https://arxiv.org/abs/2407.09705"}))
def test_what_it_links_to_is_there(link: str) -> None:
    assert (EXAMPLES.parent / link).is_file()
