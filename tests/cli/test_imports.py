"""What a command imports before it answers: each of these packages costs seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import start
from support.names import OF_NUMBERS, OF_TEXT

HEAVY = {"torch", "pydantic", "numpy", "scipy", "sklearn", "matplotlib", "torchvision", "torchaudio"}
EXTRAS = {
    *(
        "timm",
        "transformers",
        "peft",
        "datasets",
        "pyarrow",
        "pandas",
        "accelerate",
        "lightning",
        "IPython",
        "ipykernel",
    ),
    *("ray", "optuna", "wandb", "mlflow", "av", "cv2", "h5py"),
}
"""What the extras install: none of it is loaded before a recipe, or a command, asks for it."""

# Runs drcli on its arguments and writes the imported modules to the last line of standard output.
AT_THE_END = """
import json, sys
from drcli.__main__ import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
# Makes every optimiser, lets it take a step and read its state back, and sketches every backbone.
WITHOUT_TRAINING = f"""
import json, sys, torch
from drcli.names import BACKBONES
from drcli.optim import build_optimizer, take_step
from drcli.recipe.training import Adam, AdamW, Sgd
for kind in (Sgd, Adam, AdamW):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(kind(lr=0.1), [parameter])
    optimizer.zero_grad(set_to_none=True)
    parameter.sum().backward()
    take_step(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    assert parameter[0] != 1
kinds = [BACKBONES.load(name) for name in {[*OF_NUMBERS, *OF_TEXT]}]
assert None not in [kind.sketch(kind.Settings()) for kind in kinds]
print(json.dumps(sorted(sys.modules)))
"""
# Trains, and writes the modules as soon as the first epoch is on the screen.
AT_THE_FIRST_EPOCH = """
import json, os, sys
from drcli.__main__ import main
from drcli.watch.console import ConsoleListener
from drcli.watch.events import EpochFinished

shown = ConsoleListener.on

def on(self, event):
    shown(self, event)
    if isinstance(event, EpochFinished):
        print(json.dumps(sorted(sys.modules)), flush=True)
        os._exit(0)

ConsoleListener.on = on
main()
"""


def imported(*args: object, program: str, cwd: Path | None = None) -> tuple[set[str], str]:
    """The modules that drcli imported, and what it wrote to standard error."""
    process = start(*args, program=program, cwd=cwd)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return set(json.loads(stdout.splitlines()[-1])), stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("train", "--help"),
        ("tune", "--help"),
        ("diagnose", "--help"),
        ("report", "--help"),
        ("ls",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_help_and_lists_import_neither_torch_nor_pydantic(args: tuple[str, ...]) -> None:
    modules, _ = imported(*args, program=AT_THE_END)
    assert "drcli.cli" in modules
    # Some releases of Typer check the values of a subcommand with pydantic; nothing of ours asks for it.
    theirs = {"pydantic"} if "typer._adapters" in modules else set()
    assert not modules & (HEAVY | EXTRAS) - theirs
    assert not {name for name in modules if name.startswith("drcli.recipe.")} - {"drcli.recipe.shipped"}


def test_root_help_does_not_import_pydantic_whatever_typer_does() -> None:
    modules, _ = imported("--help", program=AT_THE_END)
    assert "pydantic" not in modules


def test_the_first_epoch_on_digits_waits_for_no_package_it_does_not_need(tmp_path: Path) -> None:
    recipe = ("dataset.prepare.draws=1", "training.epochs=2", "modalities.audio.width=4", "modalities.visual.width=4")
    modules, said = imported("train", "digits", *recipe, program=AT_THE_FIRST_EPOCH, cwd=tmp_path)
    assert "epoch" in said
    assert "torch" in modules
    needless = HEAVY - {"torch", "pydantic", "numpy"} | {"torch._dynamo", "tensorboard"} | EXTRAS
    assert not modules & needless
    assert (tmp_path / "data" / "digits" / "dataset.json").is_file()


@pytest.mark.slow
def test_optimizers_and_sketches_import_none_of_the_packages_of_torch_that_take_seconds() -> None:
    """The compiler takes as long as torch itself; the first epoch, or `drcli show`, would wait for it."""
    modules, _ = imported(program=WITHOUT_TRAINING)
    assert {"torch", "drcli.optim", "drcli.models.backbone"} <= modules
    assert not modules & {"sympy", "torch._dynamo"}


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
    ids=str,
)
def test_threads_do_not_wait_spinning_unless_somebody_says_so(
    given: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    program = "import os, sys; import drcli.__main__ as m; sys.argv[1:] = ['--version']\n"
    program += "try: m.main()\nfinally: print(os.environ.get('GOMP_SPINCOUNT'))"
    stdout, _ = start(program=program).communicate(timeout=120)
    assert stdout.splitlines()[-1] == str(spins)
