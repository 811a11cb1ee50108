"""Re-learning as a part that any training loop can hold: diagnosis, rule, pull, count of events.

    from drcli import Relearner

Only `drcli.diagnosis` is below it: neither recipes nor drcli's own loop are needed. Names are imported at their
first use: the settings alone need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drcli.relearning.relearner import Relearned, Relearner
    from drcli.relearning.rules import RULES, strengths
    from drcli.relearning.settings import RelearnSettings

_MODULES = {
    "relearner": ("Relearned", "Relearner"),
    "settings": ("RelearnSettings",),
    "rules": ("RULES", "strengths"),
}

__all__ = ["RULES", "RelearnSettings", "Relearned", "Relearner", "strengths"]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
