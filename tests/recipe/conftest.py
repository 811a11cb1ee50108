from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveInt, StringConstraints

from drcli.errors import RecipeError, UsageError
from drcli.recipe import conflicts, load
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.registry import Entry, Registry

VALID = """\
dataset: {name: digits, prepare: {noise: 0.5}}
modalities:
  audio: {backbone: small}
  visual: {backbone: small, width: 8}
fusion: concat
method: relearn
methods:
  relearn: {every: 10, lambda: 2}
  joint:
  strong: {method: relearn, lambda: 1e1}
training:
  epochs: 60
  optimizer: {name: sgd, lr: 2e-2}
"""


class Tone(BaseModel, extra="forbid", frozen=True):
    kind: Literal["tone"]
    rows: tuple[float, float] = (697.0, 770.0)


class Hiss(BaseModel, extra="forbid", frozen=True):
    kind: Literal["hiss"]
    level: float = 0.0


class Digits:
    class Settings(BaseModel, extra="forbid", frozen=True):
        noise: float = 0.1
        folder: Path = Path("raw")
        amplitude: tuple[float, float] = (0.3, 1.0)
        ratio: Literal["auto"] | float = "auto"
        tone: Tone = Tone(kind="tone")
        audio: Annotated[Tone | Hiss, Field(discriminator="kind")] = Tone(kind="tone")
        tones: tuple[Tone, ...] = ()
        parts: dict[Annotated[str, StringConstraints(pattern="^[a-z]+$")], int] = {}


class Small:
    @classmethod
    def sketch(cls, settings: BaseModel) -> None:
        return None

    @classmethod
    def check(cls, settings: BaseModel) -> tuple[()]:
        return ()

    class Settings(BaseModel, extra="forbid", frozen=True):
        width: PositiveInt = 16


class Concat:
    num_modalities = (1, None)
    graphs = True
    provides: frozenset[str] = frozenset()

    class Settings(BaseModel, extra="forbid", frozen=True):
        pass


class Gated(Concat):
    provides = frozenset({"gates"})

    class Settings(BaseModel, extra="forbid", frozen=True):
        bias: bool = True


class Joint:
    num_modalities = (1, None)
    requires: frozenset[str] = frozenset()
    per_modality = False

    class Settings(BaseModel, extra="forbid", frozen=True):
        pass

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from ()


class Relearn(Joint):
    class Settings(BaseModel, extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True):
        every: PositiveInt = 20
        lambda_: NonNegativeFloat = Field(3.0, alias="lambda")


class Picky(Joint):
    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if recipe.fusion.name != "gated":
            yield "fusion.name", "method picky needs gates"
        if len(recipe.modalities) != 3:
            yield f"methods.{recipe.method}.modalities", "method picky needs three modalities"


class Table(Registry):
    """A registry over classes that are there already; `broken` is a package that does not import."""

    def __init__(self, kind: str, **classes: Any) -> None:
        super().__init__(kind, {name: Entry("", "") for name in classes}, group="drcli.none")
        self.classes = classes

    def load(self, name: str) -> Any:
        if self.classes[name] is None:
            raise UsageError(f"{self.kind} {name!r} (from other.package) does not load: no such module")
        return self.classes[name]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DATASETS", Table("dataset", digits=Digits, avmnist=Digits))
    for module in (load, conflicts):
        monkeypatch.setattr(module, "BACKBONES", Table("backbone", small=Small, broken=None))
        monkeypatch.setattr(module, "FUSIONS", Table("fusion", concat=Concat, gated=Gated))
        monkeypatch.setattr(module, "METHODS", Table("method", joint=Joint, relearn=Relearn, picky=Picky))


@pytest.fixture
def valid() -> str:
    return VALID


@pytest.fixture
def loaded(fakes: None, tmp_path: Path) -> Callable[..., Recipe]:
    """Load a recipe from its text, with overrides."""

    def load_text(text: str, *overrides: str) -> Recipe:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides)

    return load_text


@pytest.fixture
def refused(loaded: Callable[..., Recipe], tmp_path: Path) -> Callable[..., str]:
    """The message with which a recipe's text is refused, the folder cut from the file's name."""

    def message(text: str, *overrides: str) -> str:
        with pytest.raises(RecipeError) as caught:
            loaded(text, *overrides)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return message
