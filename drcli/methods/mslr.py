"""Modality-specific learning rates (Yao and Mihalcea; Findings of ACL 2022, findings-acl.143)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from drcli.bases import Search
from drcli.methods.base import Event, own_block
from drcli.methods.context import Context
from drcli.methods.parts.unimodal_scores import UnimodalScores
from drcli.metrics import accuracy
from drcli.models.fusion import Sum
from drcli.models.multimodal import MultimodalModel
from drcli.optim import set_learning_rates
from drcli.recipe.schema import Recipe

WINDOW = 5
"""Epochs whose accuracies the present one is compared with."""

OF = "modality"
"""Key of the optimiser's groups: whose parameters they are."""


class MSLR(UnimodalScores):
    """Joint training in which every modality has a learning rate of its own.

    In epoch e of E, with lr the rate of the schedule and c_m = `rates[m]`, encoder m is trained at

        lr_m = lr * c_m                                        strategy keep
        lr_m = lr * (1 + (c_m - 1) * (1 - e / E))              strategy smooth: from c_m to the common rate
        lr_m = lr * c_m * rho_m                                strategy dynamic
        rho_m = clip(a_m / (mean of the five a_m before it), 1 / bound, bound)

    a_m is the validation accuracy of the unimodal logits z_m after the last epoch; rho is 1 until there are five
    before it. With fusion `sum` the modality's own linear layer has the rate lr_m too; everything else has lr. The
    rates are groups of parameters of the optimiser, so they act under Adam and on weight decay as well. Any number
    of modalities.

    Differences: the code of Li et al. (2308.07686), which has strategy dynamic, scales gradients instead of rates,
    takes the TEST accuracy and no bound: a modality that had one bad epoch nearly stops. The line of strategy smooth
    is ours; the paper moves from the best unimodal rate to a common one. With `concat` the columns of the linear
    layer share one rate.
    """

    class Settings(UnimodalScores.Settings):
        """The recipe block of `mslr`."""

        rates: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
            {},
            description="factor c of the learning rate by modality; 1 where none is given. Li et al. have audio 0.9, "
            "visual 1.1 on CREMA-D",
        )
        strategy: Literal["keep", "smooth", "dynamic"] = Field(
            "dynamic",
            description="keep: constant factors; smooth: from the factors to 1 over the run; dynamic: the factors "
            "times how the validation accuracy of the modality compares with its last five",
        )
        bound: Annotated[float | None, Search(1.2, 4, when={"strategy": "dynamic"})] = Field(
            2.0, gt=1, le=1e6, description="largest rho; its inverse is the smallest; null: no bounds"
        )

    year: ClassVar[int | None] = 2022
    neutral: ClassVar[Mapping[str, Any] | None] = {"rates": {}, "strategy": "keep"}
    state: ClassVar[tuple[str, ...]] = ("history",)

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer, and rates of modalities that there are not."""
        yield from super().check(recipe)
        key, settings = own_block(recipe)
        unknown = [m for m in settings.rates if m not in recipe.modalities]
        if unknown:
            yield f"{key}.rates", f"must name modalities of the recipe, {', '.join(recipe.modalities)}"

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where rates approach their aim over all epochs."""
        smooth = own_block(recipe)[1].strategy == "smooth"
        return "with strategy: smooth spreads its rates over all epochs" if smooth else ""

    def setup(self, ctx: Context) -> None:
        """Give every modality groups of its own in the optimiser."""
        self.history: dict[str, list[float]] = {m: [] for m in ctx.model.modalities}
        regroup(ctx.optimizer, {m: parameters_of(ctx.model, m) for m in ctx.model.modalities})

    def on_epoch_start(self, ctx: Context) -> None:
        """Set the rates of this epoch: those of the schedule, times the factor of the modality."""
        set_learning_rates(ctx.optimizer, ctx.training.schedule, ctx.epoch, ctx.epochs)
        factors = {m: self._factor(m, ctx) for m in ctx.model.modalities}
        for group in ctx.optimizer.param_groups:
            group["lr"] *= factors.get(group.get(OF, ""), 1.0)
        for m, factor in factors.items():
            ctx.log(f"coefficient/{m}", torch.full((), factor, device=ctx.device))

    def _factor(self, modality: str, ctx: Context) -> float:
        base = self.settings.rates.get(modality, 1.0)
        if self.settings.strategy == "smooth":
            return 1 + (base - 1) * (1 - ctx.epoch / ctx.epochs)
        return base * (rho(self.history[modality], self.settings.bound) if self.settings.strategy == "dynamic" else 1)

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Remember the validation accuracy of every modality; the rates are the schedule's again."""
        set_learning_rates(ctx.optimizer, ctx.training.schedule, ctx.epoch, ctx.epochs)
        if self.settings.strategy == "dynamic":
            features, labels = ctx.features("val")
            on_device = {m: x.to(ctx.device) for m, x in features.items()}
            for m, z in self.unimodal_logits(ctx.model, on_device).items():
                right = accuracy(z.argmax(dim=1).cpu(), labels, ctx.val.split.weight)
                self.history[m] = [*self.history[m], right][-WINDOW - 1 :]
        return None


def rho(history: Sequence[float], bound: float | None) -> float:
    """Return the last accuracy over the mean of the five before it, within [1 / bound, bound]; 1 if there are fewer."""
    *before, now = history[-WINDOW - 1 :] or [0.0]
    if len(before) < WINDOW or not any(before):
        return 1.0
    ratio = now * WINDOW / sum(before)
    return ratio if bound is None else min(max(ratio, 1 / bound), bound)


def parameters_of(model: MultimodalModel, modality: str) -> list[nn.Parameter]:
    """Return the parameters of an encoder, and of the modality's own linear layer under fusion `sum`."""
    own = model.fusion.linears[modality].parameters() if isinstance(model.fusion, Sum) else ()
    return [*model.encoders[modality].parameters(), *own]


def regroup(optimizer: torch.optim.Optimizer, owned: Mapping[str, Sequence[nn.Parameter]]) -> None:
    """Split the optimiser's groups of parameters by owner: groups that belong to one name it, and come last."""
    owner = {id(parameter): m for m, parameters in owned.items() for parameter in parameters}
    for group in list(optimizer.param_groups):
        parameters, settings = group["params"], {key: value for key, value in group.items() if key != "params"}
        group["params"] = [parameter for parameter in parameters if id(parameter) not in owner]
        for m in owned:
            own = [parameter for parameter in parameters if owner.get(id(parameter)) == m]
            if own:
                optimizer.add_param_group({**settings, "params": own, OF: m})
