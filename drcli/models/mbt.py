"""The multimodal bottleneck transformer: modalities exchange what they know through a few tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.models.backbone import Backbone, Hidden, Tokens
from drcli.models.fusion import (
    Decomposition,
    Encoders,
    Features,
    Fusion,
    Outputs,
    backbone_key,
    begin,
    end,
    num_stages,
    unequal_stages,
)
from drcli.models.presence import weights_of


class Mbt(Fusion):
    """Bottleneck fusion (Nagrani et al., NeurIPS 2021, arXiv 2107.00135), for any M.

    Layers l < L_f run alone. From L_f on, every modality runs its own layer over the bottlenecks and
    its tokens, all from the same b, and the modalities' bottlenecks are averaged:

        [b_m ; x_m] <- Layer_{m,l}([b ; x_m])        for every m
        b           <- (1 / M) sum over m of b_m

    x_m: (B, N_m, D), b: (B, B_n, D), b learned from N(0, 0.02) on. From h_m, the features of
    encoder m, `classifier: token` makes the logits z = (1 / M) sum over m of z_m, z_m = W h_m + c with one
    W for all; `classifier: gap` makes z = W (sum over m of N_m h_m / sum over m of N_m) + c, where h_m must
    be a mean of tokens, so that z comes from the mean of all tokens. W and c start at 0. What another
    modality knows reaches h_m when at least two layers exchange: one into b, one out of it.

    Bottlenecks and classifier belong to the fusion, layers to their encoders. Padding of sequences stays
    masked; a sequence without steps attends to the bottlenecks alone. A row that lacks a modality has no tokens of
    it: means over m are over those that the row has.

    Differences from the authors' released code: with the classifier `token` it minimises the mean of
    the cross-entropies of the z_m, while `joint` here minimises that of z, like any fusion's, and
    `multi_loss` with `unimodal_logits: head` the sum of both kinds; it adds one bottleneck more with that
    classifier; without bottlenecks its last layers attend over the tokens of all modalities, while here
    nothing is exchanged; it draws stochastic depth, which no encoder here has.
    """

    class Settings(Fusion.Settings):
        """The recipe block of `mbt`."""

        bottlenecks: NonNegativeInt = Field(
            4, le=65_536, description="B_n: number of bottleneck tokens, which carry the exchange; 0: no exchange"
        )
        fusion_layer: NonNegativeInt | None = Field(
            None,
            le=1024,
            description="L_f: first layer, from 0, with an exchange; null: after two thirds of the layers, but so that "
            "two have one",
        )
        classifier: Literal["token", "gap"] = Field(
            "token",
            description="token: one linear layer on the features of each modality, the logits averaged; "
            "gap: one on the mean of all tokens",
        )

    leaves_out: ClassVar[bool] = True

    settings: Settings

    def __init__(self, settings: Settings, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        width = next(iter(widths.values()))
        self.bottlenecks = nn.Parameter(0.02 * torch.randn(1, settings.bottlenecks, width))
        self.linear = nn.Linear(width, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def check(cls, settings: BaseModel, encoders: Encoders) -> Iterator[tuple[str, str]]:
        """Refuse an encoder that is not a transformer, unequal widths or numbers of layers, and settings beyond them.

        These are an L_f after the last layer, and a classifier that averages tokens where an encoder does not.
        """
        assert isinstance(settings, Mbt.Settings)
        strangers = [m for m, encoder in encoders.items() if not _is_transformer(encoder)]
        yield from ((backbone_key(m), "must be a transformer (transformer, vit) with fusion mbt") for m in strangers)
        if not strangers:
            yield from unequal_stages("mbt", encoders)
            yield from _of_tokens(settings, encoders)

    @classmethod
    def offers(cls, settings: BaseModel) -> tuple[Decomposition, ...]:
        """The shared classifier on each modality's features, where there is one.

        Zeros in place of other features take nothing away: what they know is in the modality's own.
        """
        assert isinstance(settings, Mbt.Settings)
        return ("head",) if settings.classifier == "token" else ()

    def encode(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the encoders layer by layer with the exchange; features {m: (B, D)}."""
        return end(encoders, self.exchange(encoders, inputs, lengths))

    def run(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> Outputs:
        """Run encoders and classifier."""
        tokens = self.exchange(encoders, inputs, lengths)
        features = end(encoders, tokens)
        if self.settings.classifier == "token":
            return Outputs(features, self(features))
        counts = torch.stack([tokens[m].lengths() for m in features])  # (M, B)
        weights = counts / counts.sum(dim=0).clamp(min=1)
        mean = (weights[:, :, None] * torch.stack(list(features.values()))).sum(dim=0)
        return Outputs(features, self.linear(mean))

    def exchange(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Tokens]:
        """Return what the last layers give, {m: tokens (B, N_m, D)}, without the bottlenecks."""
        num_layers = num_stages(encoders)
        start = first_exchange(num_layers, self.settings.fusion_layer)
        tokens = {m: _tokens(encoders[m], hidden) for m, hidden in begin(encoders, inputs, lengths).items()}
        bottlenecks = self.bottlenecks.expand(len(next(iter(inputs.values()))), -1, -1)
        for layer in range(num_layers):
            if layer < start:
                tokens = {m: run_layer(encoder, layer, tokens[m]) for m, encoder in encoders.items()}
            else:
                pairs = {m: together(encoder, layer, bottlenecks, tokens[m]) for m, encoder in encoders.items()}
                bottlenecks = self._mean({m: after for m, (after, _) in pairs.items()})
                tokens = {m: own for m, (_, own) in pairs.items()}
        return tokens

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C) of the classifier `token`: the mean of the modalities' logits."""
        assert self.settings.classifier == "token"
        return self._mean({m: self.linear(features[m]) for m in self.widths})

    def _mean(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the mean (B, ...) over the modalities that each row has, of {m: (B, ...)}."""
        stacked = torch.stack(list(values.values()))
        if not self.present:
            return stacked.mean(dim=0)
        weights = weights_of(self.present, values, stacked)
        return (weights.reshape(*weights.shape, *[1] * (stacked.dim() - 2)) * stacked).sum(dim=0)

    def unimodal_logits(self, features: Features, how: Decomposition) -> dict[str, Tensor]:
        """Return the shared classifier's logits z_m = W h_m + c, {m: (B, C)}."""
        assert how in self.offers(self.settings)
        return {m: self.linear(features[m]) for m in self.widths}


def first_exchange(num_layers: int, asked: int | None) -> int:
    """Return L_f: the requested layer, else two thirds of the layers (the paper's 8 of 12), at most all but two."""
    return max(0, min(round(2 * num_layers / 3), num_layers - 2)) if asked is None else asked


def run_layer(encoder: Backbone, layer: int, tokens: Tokens) -> Tokens:
    """Run one layer over tokens (B, N, D)."""
    return _tokens(encoder, encoder.stage(layer, tokens))


def together(encoder: Backbone, layer: int, bottlenecks: Tensor, tokens: Tokens) -> tuple[Tensor, Tokens]:
    """Run one layer over [b ; x]; returns b_m and x_m.

    The bottlenecks come first, where a sequence without valid steps finds something to attend to.

    Args:
        encoder: the layer's encoder.
        layer: index of the layer.
        bottlenecks: b, (B, B_n, D).
        tokens: x, (B, N, D).
    """
    count = bottlenecks.shape[1]
    padding = None if tokens.padding is None else functional.pad(tokens.padding, (count, 0), value=False)
    after = run_layer(encoder, layer, Tokens(torch.cat([bottlenecks, tokens.values], dim=1), padding)).values
    return after[:, :count], Tokens(after[:, count:], tokens.padding)


def _tokens(encoder: Backbone, hidden: Hidden) -> Tokens:
    assert isinstance(hidden, Tokens), f"{type(encoder).__name__} says that it gives tokens, and gives maps"
    return hidden


def _is_transformer(encoder: Backbone) -> bool:
    """Whether an encoder has layers over tokens, all of the width of its features."""
    return encoder.hidden is Tokens and set(encoder.channels) == {encoder.width}


def _of_tokens(settings: Mbt.Settings, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """Yield what does not fit of transformers: pooling, width, and L_f."""
    first, *others = encoders
    for m, encoder in encoders.items():
        pooling = getattr(encoder.settings, "pooling", "mean")  # a backbone without the setting averages
        if settings.classifier == "gap" and pooling != "mean":
            yield f"modalities.{m}.pooling", "must be mean with fusion.classifier gap, which averages tokens"
    for m in (m for m in others if encoders[m].width != encoders[first].width):
        yield f"modalities.{m}.dim", f"must be {encoders[first].width}, as of {first}: fusion mbt needs equal ones"
    layers = num_stages(encoders)
    if settings.fusion_layer is not None and settings.fusion_layer > layers:
        yield "fusion.fusion_layer", f"must be 0 ... {layers}, the number of layers ({layers}: nothing is exchanged)"
