"""Batches of one split: which rows, in which order, made into inputs on the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from drcli.data import transforms
from drcli.data.draws import Draws
from drcli.data.input import Corruption
from drcli.data.pairs import draw_partners
from drcli.data.plan import PICTURES, InputPlan, norm, normalised, token_ids
from drcli.data.prepared import Split
from drcli.data.rows import Residence, Rows, ahead, free_at_peak, to_device
from drcli.seeding import generator
from drcli.world import ALONE, World

CPU = torch.device("cpu")

KEPT_NOISE = 256 * 2**20
"""Bytes up to which the fixed noise of a split and modality is kept in memory instead of drawn at every pass."""


@dataclass(frozen=True)
class Selection:
    """Rows of a split to train on, and which modalities are seen of each.

    Attributes:
        rows: row numbers (n,), int64, on the CPU; one may occur several times. None: every row once.
        seen: whether a modality is seen, {m: (n,)}, bool, on the CPU; of a modality that is left out, every row is.
    """

    rows: Tensor | None = None
    seen: Mapping[str, Tensor] = field(default_factory=dict)

    def at(self, places: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the row numbers and what is seen of them, at some places (B,) of the selection."""
        rows = places if self.rows is None else self.rows[places]
        return rows, {m: seen[places] for m, seen in self.seen.items()}


EVERY_ROW = Selection()


@dataclass(frozen=True)
class Batch:
    """Rows of a split, on the device.

    Attributes:
        inputs: inputs {m: (B, ...)}, float32; of tokens their ids {m: (B, L)}, int64.
        labels: class indices (B,), int64; of a regression, values, float32.
        index: row numbers in the split (B,), int64, on the CPU.
        lengths: valid steps {m: (B,)} of the modalities that are sequences or tokens.
        share_of: labels, row numbers and what is seen of the whole batch, where these are the rows of one of
            several processes; else None.
        seen: of which rows a modality is seen, {m: (B,)}, bool, on the CPU; of one that is left out, every row is.
        present: which rows have a modality, {m: (B,)}, bool, on the CPU; of one that is left out, every row has.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    index: Tensor
    lengths: dict[str, Tensor] = field(default_factory=dict)
    share_of: Batch | None = None
    seen: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)

    @property
    def whole(self) -> Batch:
        """The batch over all processes: this one, or, without inputs, the one that this is a share of."""
        return self if self.share_of is None else self.share_of

    def split(self, count: int, world: World = ALONE) -> tuple[Batch, ...]:
        """Return the batch in `count` parts of nearly equal size, each of two rows or more where it can be.

        A share is split as the whole batch would be: each part is the share of a part.
        """
        if count == 1:
            return (self,)
        found, start = [], 0
        for span in spans(len(self.whole.labels), count):
            own = world.shard(span.stop - span.start)
            stop = start + own.stop - own.start
            whole = None if self.share_of is None else self.share_of._rows(span)  # noqa: SLF001 - of its own class
            found.append(replace(self._rows(slice(start, stop)), share_of=whole))
            start = stop
        return tuple(found)

    def _rows(self, span: slice) -> Batch:
        inputs = {m: x[span] for m, x in self.inputs.items()}
        lengths = {m: x[span] for m, x in self.lengths.items()}
        seen = {m: x[span] for m, x in self.seen.items()}
        present = {m: x[span] for m, x in self.present.items()}
        return Batch(inputs, self.labels[span], self.index[span], lengths, seen=seen, present=present)


class Batches:
    """Makes the batches of one split.

    Args:
        split: the split.
        plans: how each modality becomes inputs, in the recipe's order.
        device: where batches go.
        residence: where the arrays are meanwhile; the batches are the same bit for bit.
        world: the processes that share shuffled batches.
        accumulate: parts of a shuffled batch, each of which is shared.
        pairs_anew: `pair_anew` takes rows from the split's pools, which are read for it.
    """

    def __init__(
        self,
        split: Split,
        plans: Mapping[str, InputPlan],
        device: torch.device,
        residence: Residence = "auto",
        *,
        world: World = ALONE,
        accumulate: int = 1,
        pairs_anew: bool = False,
    ) -> None:
        self.world = world
        self.accumulate = accumulate
        self.split = split
        self.device = device
        self.plans = dict(plans)
        self._pools = {m: pool for m, pool in split.pools.items() if pairs_anew and m in plans}
        self._partners: dict[str, Tensor] = {}
        arrays = {m: split.arrays[m] for m in plans} | {_pool(m): pool.stored.array for m, pool in self._pools.items()}
        files = {**split.files, **{_pool(m): pool.stored.files for m, pool in self._pools.items()}}
        self.rows = Rows(arrays, device, residence, files)
        self._norms = {m: norm(plan.info, device) for m, plan in plans.items()}
        self._labels = split.labels.to(device)
        self._lengths = {m: steps.to(device) for m, steps in split.lengths.items() if m in self.plans}
        self._fixed_noise: dict[str, Tensor] = {}
        self._noise_names: tuple[str | int, ...] = ()
        self.present = {m: rows for m, rows in split.present.items() if m in self.plans}

    def without(self, present: Mapping[str, Tensor]) -> Batches:
        """Return the same batches of rows that lack more: those not in {m: (N,)}, bool, on the CPU."""
        found = copy.copy(self)
        found.present = {m: rows & self.present[m] if m in self.present else rows for m, rows in present.items()}
        found.present = {**self.present, **found.present}
        return found

    def noisy(self, modality: str, draw: int = 0) -> Callable[[float], Batches]:
        """Return what maps a signal-to-noise ratio in dB to the same batches, with white noise on a modality's inputs.

        The noise is in place of what the recipe adds; see `drcli.data.transforms.add_noise`.

        Args:
            modality: whose inputs.
            draw: number of the noise, from 0; at every ratio it is the same up to its scale.
        """
        kept: dict[str, Tensor] = {}

        def at(snr_db: float) -> Batches:
            found = copy.copy(self)
            noise = Corruption(snr_db=snr_db, splits=(self.split.name,))
            found.plans = {**self.plans, modality: replace(self.plans[modality], corruption=noise)}
            found._fixed_noise, found._noise_names = kept, ("draw", draw) if draw else ()  # noqa: SLF001 - of its class
            return found

        return at

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.split.labels)

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        """All rows in stored order, or the given ones, with evaluation transforms; the last batch may be smaller.

        Noise is fixed: it depends on split, row and modality alone.
        """
        yield from self._make(self._draw(index, None) for index in self._parts(batch_size, rows))

    def dealt(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        """The batches of `in_order` that are this process's: they are sharded over the processes in turn."""
        own = self._parts(batch_size, rows)[self.world.rank :: self.world.size]
        yield from self._make(self._draw(index, None) for index in own)

    def collected(self, rows: Tensor, batch_size: int, order: Tensor | None = None) -> Tensor:
        """Return the rows of all processes, in the order of `in_order`, from those of the dealt batches.

        Args:
            rows: (n, K), what was computed for this process's batches.
            batch_size: as `dealt` was given.
            order: row numbers as `dealt` was given.
        """
        sizes = [len(part) for part in self._parts(batch_size, order)]
        hands = [range(peer.rank, len(sizes), peer.size) for peer in self.world.peers()]
        found = self.world.all_gather(rows, [sum(sizes[i] for i in hand) for hand in hands])
        numbers = [i for hand in hands for i in hand]
        pieces = dict(zip(numbers, torch.split(found, [sizes[i] for i in numbers]), strict=True))
        return torch.cat([pieces[i] for i in range(len(sizes))])

    def _parts(self, batch_size: int, rows: Tensor | None) -> tuple[Tensor, ...]:
        return parts(torch.arange(len(self)) if rows is None else rows, batch_size)

    def shuffled(
        self,
        batch_size: int,
        order: torch.Generator,
        augment: torch.Generator | None = None,
        selection: Selection = EVERY_ROW,
    ) -> Iterator[Batch]:
        """All rows in a random order; the last batch may be smaller. Of each, several processes get shares.

        Args:
            batch_size: rows of a batch.
            order: CPU generator that the order is drawn from.
            augment: CPU generator of frames, crops, flips and noise; without it, evaluation transforms.
            selection: the rows, and what is seen of them.
        """
        count = len(self) if selection.rows is None else len(selection.rows)
        places = parts(torch.randperm(count, generator=order), batch_size)
        yield from self._make(self._draw_share(*selection.at(place), augment) for place in places)

    def take(self, index: Tensor, augment: torch.Generator | None = None) -> Batch:
        """Return the rows `index` (B,) as a batch, with evaluation transforms unless `augment` is given."""
        draws = self._draw(index, augment)
        return self._batch(draws, self._read(draws))

    def pair_anew(self, generator: torch.Generator) -> None:
        """Give each row another one of its class from the pool of each modality that has one.

        Batches of `shuffled` are made of these pairs until the next call, all others of the stored ones. Without
        `pairs_anew`, nothing is drawn.

        Args:
            generator: CPU generator that they are drawn from.
        """
        self._partners = {
            m: draw_partners(self.split.labels, pool.labels, generator) for m, pool in self._pools.items()
        }

    def _make(self, jobs: Iterable[Draws]) -> Iterator[Batch]:
        if not self.rows.prefetches:
            yield from (self._batch(draws, self._read(draws)) for draws in jobs)
            return
        for draws, stored in ahead(jobs, lambda draws: (draws, self._read(draws))):
            yield self._batch(draws, stored)

    def _draw_share(self, index: Tensor, seen: dict[str, Tensor], augment: torch.Generator | None) -> Draws:
        """Draw for a whole batch, and keep what is this process's."""
        partners = {m: rows[index] for m, rows in self._partners.items()}
        draws = replace(self._draw(index, augment), seen=seen, partners=partners)
        return draws if self.world.size == 1 else draws.of(own_rows(len(index), self.accumulate, self.world))

    def _draw(self, index: Tensor, augment: torch.Generator | None) -> Draws:
        """Draw all that is random in a batch, in a fixed order."""
        draws = Draws(index, self._flips(len(index), augment))
        for m, plan in self.plans.items():
            if plan.info.kind in PICTURES:
                self._draw_pictures(draws, m, augment)
            if augment is not None and self._is_noisy(plan):
                draws.noise[m] = int(torch.randint(2**62, (), generator=augment))
        return draws

    def _flips(self, rows: int, augment: torch.Generator | None) -> Tensor | None:
        if augment is None or not any(plan.settings.flip for plan in self.plans.values()):
            return None
        return torch.rand(rows, generator=augment) < 0.5

    def _draw_pictures(self, draws: Draws, modality: str, augment: torch.Generator | None) -> None:
        plan, rows = self.plans[modality], len(draws.index)
        stored, _, height, width = plan.info.shape
        wanted = plan.shape[0]
        draws.frames[modality] = transforms.middle_frames(stored, wanted).expand(rows, -1)
        if augment is None:
            return
        # Drawn without augmentation, too: what is random in the other modalities does not depend on this one's.
        frames = transforms.random_frames(rows, stored, wanted, augment)
        boxes = None if plan.settings.size is None else transforms.random_boxes(rows, height, width, augment)
        if plan.settings.augment:
            draws.frames[modality] = frames
            draws.boxes.update({} if boxes is None else {modality: boxes})

    def _read(self, draws: Draws) -> dict[str, Tensor]:
        return {m: self._stored(m, draws) for m in self.plans}

    def _stored(self, modality: str, draws: Draws) -> Tensor:
        frames = draws.frames.get(modality)
        if modality in draws.partners:
            return self.rows.read(_pool(modality), draws.partners[modality], frames)
        return self.rows.read(modality, draws.index, frames)

    def _batch(self, draws: Draws, stored: Mapping[str, Tensor]) -> Batch:
        where = to_device(draws.index, self.device)
        lengths = {m: steps[where] for m, steps in self._lengths.items()}
        inputs = {m: self._input(m, stored[m], draws, lengths.get(m)) for m in self.plans}
        whole = None
        if draws.whole is not None:
            labels = self._labels[to_device(draws.whole, self.device)]
            whole = Batch({}, labels, draws.whole, seen=draws.seen_whole)
        present = lacking_only({m: rows[draws.index] for m, rows in self.present.items()})
        for m, rows in present.items():  # whatever a method does with it, there is nothing in it
            inputs[m][to_device(~rows, self.device)] = 0
        return Batch(inputs, self._labels[where], draws.index, lengths, whole, draws.seen, present)

    def _input(self, modality: str, stored: Tensor, draws: Draws, lengths: Tensor | None) -> Tensor:
        plan = self.plans[modality]
        if plan.info.vocabulary:
            return token_ids(to_device(stored, self.device), plan.info.pad, lengths)
        inputs = to_device(stored, self.device).to(torch.float32)  # a copy already: it may be changed in place
        inputs = normalised(inputs, plan, self._norms[modality], draws.boxes.get(modality), lengths)
        if draws.flips is not None and plan.settings.flip and plan.settings.augment:
            inputs = transforms.mirror(inputs, draws.flips, is_flow=plan.info.kind == "flow")
        if plan.corruption is not None and self._is_noisy(plan):
            noise = self._noise(modality, draws, inputs.shape[1:])
            inputs = transforms.add_noise(inputs, noise, plan.corruption.snr_db, lengths)
        return inputs

    def _is_noisy(self, plan: InputPlan) -> bool:
        return plan.corruption is not None and self.split.name in plan.corruption.splits

    def _noise(self, modality: str, draws: Draws, shape: tuple[int, ...]) -> Tensor:
        """Standard normal (B, *shape): new in every epoch of training, fixed by row in evaluation."""
        if modality in draws.noise:
            stream = torch.Generator(self.device).manual_seed(draws.noise[modality])
            rows = draws.index if draws.whole is None else draws.whole
            noise = torch.randn(len(rows), *shape, generator=stream, device=self.device)
            return noise if draws.rows is None else noise[to_device(draws.rows, self.device)]
        if modality not in self._fixed_noise and self._keeps_noise(4 * len(self) * math.prod(shape)):
            self._fixed_noise[modality] = self._noise_of(modality, range(len(self)), shape, self.device)
        if modality in self._fixed_noise:
            return self._fixed_noise[modality][to_device(draws.index, self.device)]
        return to_device(self._noise_of(modality, draws.index.tolist(), shape, CPU), self.device)

    def _keeps_noise(self, nbytes: int) -> bool:
        """On a GPU a quarter of what is free may go into it: drawing it on the CPU takes seconds per pass."""
        return nbytes <= (free_at_peak(self.device) // 4 if self.device.type == "cuda" else KEPT_NOISE)

    def _noise_of(self, modality: str, rows: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return the rows' own noise (B, *shape) on a device; it is drawn on the CPU, which need not hold it all."""
        noise, names = torch.empty(len(rows), *shape, device=device), ("noise", self.split.name, modality)
        for place, row in zip(noise, rows, strict=True):
            place.copy_(torch.randn(*shape, generator=generator(0, *names, row, *self._noise_names)))
        return noise


def lacking_only(present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return of {m: (B,)} those of the modalities that a row lacks."""
    return {m: rows for m, rows in present.items() if not bool(rows.all())}


def _pool(modality: str) -> str:
    """The name of a pool among the arrays of a split."""
    return f"{modality} pool"


def parts(index: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split row numbers into batches; a row that would be left alone joins the batch before it.

    Batch normalisation has no variance over a single row.
    """
    if size > 1 and len(index) > size and len(index) % size == 1:
        *full, _ = torch.split(index, size)
        return (*full[:-1], index[len(index) - size - 1 :])
    return torch.split(index, size)


def spans(rows: int, count: int) -> list[slice]:
    """Return `count` parts of a batch of so many rows: nearly equal, each of two rows or more where it can be."""
    sizes = [len(part) for part in parts(torch.arange(rows), -(-rows // count))]
    return [slice(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]


def own_rows(rows: int, count: int, world: World) -> Tensor:
    """Return which rows of a batch are a process's: its share of each of the `count` parts."""
    whole = torch.arange(rows)
    return torch.cat([whole[span][world.shard(span.stop - span.start)] for span in spans(rows, count)])
