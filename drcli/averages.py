"""Exponential moving averages of weights (EMA), which are evaluated in place of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from drcli.diagnosis.reinitialise import BATCH_NORMS


class Averages:
    """The averages v of weights w: after step t = 1, 2, ...

        v <- d_t v + (1 - d_t) w,    d_t = min(decay, (1 + t) / (10 + t)),    v_0 = w_0

    so that in a short run the first weights do not outweigh the others. Weights are the parameters that are trained,
    and the running statistics of batch normalisation, which belong to them; all other tensors are as they are.

    Args:
        decay: in (0, 1).
        modules: by name; their weights are changed in place only.
    """

    def __init__(self, decay: float, modules: Mapping[str, nn.Module]) -> None:
        self.decay = decay
        self.steps = 0
        self._weights = {f"{key}.{name}": x for key, module in modules.items() for name, x in _averaged(module)}
        self._values = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights into the averages, after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self._values.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def applied(self, *, changing: bool = False) -> Iterator[None]:
        """Within it, the modules have the averages in place of their weights.

        Args:
            changing: what the body does to them is done to the averages.
        """
        raw = {name: weight.detach().clone() for name, weight in self._weights.items()}
        _copy(self._values, self._weights)
        try:
            yield
            if changing:
                _copy(self._weights, self._values)
        finally:
            _copy(raw, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold beside the averages: the weights themselves, and the number of steps."""
        return {"steps": self.steps, "weights": {name: weight.detach() for name, weight in self._weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, where the modules have the averages."""
        self.steps = int(state["steps"])
        _copy(self._weights, self._values)
        _copy(state["weights"], self._weights)


def _averaged(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that are trained, and the running statistics of batch normalisation, by name."""
    yield from ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)
    for prefix, layer in module.named_modules():
        if isinstance(layer, BATCH_NORMS):
            buffers = layer.named_buffers(prefix)
            yield from ((name, buffer) for name, buffer in buffers if buffer.is_floating_point())


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
