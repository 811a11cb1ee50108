from __future__ import annotations

from torch import nn

from drcli.recipe.load import RESERVED_BY_TORCH


def test_every_name_that_torchs_containers_use_is_reserved() -> None:
    """A modality of such a name would end in a KeyError when the model is built."""
    used = {*dir(nn.ModuleDict()), *dir(nn.ParameterDict())}
    assert {name for name in used if not name.startswith("_")} <= RESERVED_BY_TORCH


def test_usual_names_of_modalities_are_free() -> None:
    assert not {"audio", "visual", "text", "rgb", "flow", "image", "depth", "imu"} & RESERVED_BY_TORCH
