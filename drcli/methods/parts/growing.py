"""Classifiers of which more join while training goes on; all of them are built beforehand.

What has not joined is part of the checkpoint and of the optimiser from the start, but it is not run: it gets no
gradient, so that neither momentum nor weight decay moves it. A run that is resumed, and a model that is evaluated,
find how many have joined among the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from drcli.errors import CheckpointError
from drcli.models.multimodal import MultimodalModel


class GrowingClassifiers(nn.Module):
    """z_m = W (sum over the first n_m hidden layers i of relu(A_m,i h_m + a_m,i)) + b, with W and b for all m.

    Args:
        model: gives modalities, widths D_m and C.
        hidden: width of each hidden layer.
        most: hidden layers per modality, one of which has joined at first.
    """

    def __init__(self, model: MultimodalModel, hidden: int, most: int) -> None:
        super().__init__()
        widths = model.fusion.widths
        self.final = nn.Linear(hidden, model.fusion.num_classes)
        self.layers = nn.ModuleDict(
            {m: nn.ModuleList(nn.Linear(d, hidden) for _ in range(most)) for m, d in widths.items()}
        )
        self.most = most
        self.counts = dict.fromkeys(
            widths, 1
        )  # n_m, as the host needs them; the buffers are their copies in checkpoints
        for m in widths:
            self.register_buffer(f"count_{m}", torch.ones((), dtype=torch.int64))
        self.register_load_state_dict_post_hook(_read_counts)  # type: ignore[no-untyped-call]

    def grow(self, modality: str) -> None:
        """Let one more hidden layer of a modality join, if there is one."""
        self.counts[modality] = min(self.counts[modality] + 1, self.most)
        self.get_buffer(f"count_{modality}").fill_(self.counts[modality])

    def parts(self, modality: str, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits (B, C) of all layers but the last, with b, and those of the last, without; None for one.

        Args:
            modality: m.
            features: h_m (B, D_m).
        """
        layers: Any = self.layers[modality]
        hidden = [layer(features).relu() for layer in layers[: self.counts[modality]]]
        if len(hidden) == 1:
            return self.final(hidden[0]), None
        first = self.final(torch.stack(hidden[:-1]).sum(dim=0))
        return first, functional.linear(hidden[-1], self.final.weight)

    def forward(self, modality: str, features: Tensor) -> Tensor:
        """Return z_m (B, C) of features h_m (B, D_m)."""
        first, last = self.parts(modality, features)
        return first if last is None else first + last


def _read_counts(module: GrowingClassifiers, _keys: object) -> None:
    """Take from loaded weights how many layers have joined.

    Raises:
        CheckpointError: there cannot be so many.
    """
    for m in module.counts:
        count = int(module.get_buffer(f"count_{m}"))
        if not 1 <= count <= module.most:
            raise CheckpointError(
                f"extras: {count} hidden layers of {m} have joined, of 1 to {module.most}; "
                "use another checkpoint of the run"
            )
        module.counts[m] = count
