"""What plug-ins and scripts import from drcli; nothing else is promised to stay.

    from drcli.api import Batch, Context, Losses, Method, Outputs

Importing this module costs nothing: a name brings in its module, and torch with most of them, when it is used
first.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.base import DownloadPreparer, EmbeddedPreparer, Filled, Preparer
    from data_prep.clip_preparer import Chosen, ClipPreparer
    from data_prep.job import Job
    from data_prep.writing.writer import DatasetWriter
    from drcli.bases import Search, Settings
    from drcli.data.batches import Batch
    from drcli.data.format import DatasetInfo
    from drcli.diagnosis import GapSettings, MeasureSettings, ModalityDiagnosis, diagnose, snapshot, soft_reinitialise
    from drcli.engine.loaded import Loaded, load
    from drcli.errors import DataError, DrcliError, RunError, UsageError
    from drcli.methods.base import Event, Last, Losses, Method, Window, own_block
    from drcli.methods.context import Context
    from drcli.methods.parts.unimodal_scores import UnimodalScores, apply_heads, linear_heads
    from drcli.models.backbone import Backbone, Hidden, Maps, Tokens
    from drcli.models.fusion import Encoders, Features, Fusion, Outputs
    from drcli.models.multimodal import MultimodalModel
    from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
    from drcli.recipe.load import load_recipe
    from drcli.recipe.schema import Recipe
    from drcli.relearning import Relearned, Relearner, strengths

_MODULES = {
    "data_prep.base": ("DownloadPreparer", "EmbeddedPreparer", "Filled", "Preparer"),
    "data_prep.clip_preparer": ("Chosen", "ClipPreparer"),
    "data_prep.job": ("Job",),
    "data_prep.writing.writer": ("DatasetWriter",),
    "drcli.bases": ("Search", "Settings"),
    "drcli.data.batches": ("Batch",),
    "drcli.data.format": ("DatasetInfo",),
    "drcli.diagnosis": (
        "GapSettings", "MeasureSettings", "ModalityDiagnosis", "diagnose", "snapshot", "soft_reinitialise",
    ),
    "drcli.engine.loaded": ("Loaded", "load"),
    "drcli.errors": ("DataError", "DrcliError", "RunError", "UsageError"),
    "drcli.methods.base": ("Event", "Last", "Losses", "Method", "Window", "own_block"),
    "drcli.methods.context": ("Context",),
    "drcli.methods.parts.unimodal_scores": ("UnimodalScores", "apply_heads", "linear_heads"),
    "drcli.models.backbone": ("Backbone", "Hidden", "Maps", "Tokens"),
    "drcli.models.fusion": ("Encoders", "Features", "Fusion", "Outputs"),
    "drcli.models.multimodal": ("MultimodalModel",),
    "drcli.names": ("BACKBONES", "DATASETS", "FUSIONS", "METHODS"),
    "drcli.recipe.load": ("load_recipe",),
    "drcli.recipe.schema": ("Recipe",),
    "drcli.relearning": ("Relearned", "Relearner", "strengths"),
}  # fmt: skip

_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BACKBONES",
    "DATASETS",
    "FUSIONS",
    "METHODS",
    "Backbone",
    "Batch",
    "Chosen",
    "ClipPreparer",
    "Context",
    "DataError",
    "DatasetInfo",
    "DatasetWriter",
    "DownloadPreparer",
    "DrcliError",
    "EmbeddedPreparer",
    "Encoders",
    "Event",
    "Features",
    "Filled",
    "Fusion",
    "GapSettings",
    "Hidden",
    "Job",
    "Last",
    "Loaded",
    "Losses",
    "Maps",
    "MeasureSettings",
    "Method",
    "ModalityDiagnosis",
    "MultimodalModel",
    "Outputs",
    "Preparer",
    "Recipe",
    "Relearned",
    "Relearner",
    "RunError",
    "Search",
    "Settings",
    "Tokens",
    "UnimodalScores",
    "UsageError",
    "Window",
    "apply_heads",
    "diagnose",
    "linear_heads",
    "load",
    "load_recipe",
    "own_block",
    "snapshot",
    "soft_reinitialise",
    "strengths",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"drcli.api has no {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
