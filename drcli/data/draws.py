"""The random choices that one batch is made by."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random choices of one batch, all on the CPU.

    Attributes:
        index: row numbers (B,).
        flips: rows to mirror (B,), or None in evaluation.
        frames: stored frames to take, {m: (B, T)}.
        boxes: crops {m: (B, 4)}; without one, pictures are resized whole.
        noise: seed of the noise {m: int}; without one, the noise is the row's own.
        whole: row numbers of the whole batch, where these are the rows of one of several processes.
        rows: where in it they are (B,).
        partners: rows of the pool {m: (B,)} that are taken in place of the stored ones.
        seen: of which rows a modality is seen, {m: (B,)}.
        seen_whole: the same of the whole batch, where these are the rows of one of several processes.
    """

    index: Tensor
    flips: Tensor | None = None
    frames: dict[str, Tensor] = field(default_factory=dict)
    boxes: dict[str, Tensor] = field(default_factory=dict)
    noise: dict[str, int] = field(default_factory=dict)
    whole: Tensor | None = None
    rows: Tensor | None = None
    partners: dict[str, Tensor] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)
    seen_whole: dict[str, Tensor] = field(default_factory=dict)

    def of(self, rows: Tensor) -> Draws:
        """Return the choices for some rows (B,) of the batch."""
        return Draws(
            self.index[rows],
            None if self.flips is None else self.flips[rows],
            {m: x[rows] for m, x in self.frames.items()},
            {m: x[rows] for m, x in self.boxes.items()},
            self.noise,
            whole=self.index,
            rows=rows,
            partners={m: x[rows] for m, x in self.partners.items()},
            seen={m: x[rows] for m, x in self.seen.items()},
            seen_whole=self.seen,
        )
