"""One sample through a multimodal bottleneck transformer over ViTs, literally: numpy, loops, nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

Weights = Mapping[str, np.ndarray]


def slow_mbt(
    state: Mapping[str, Tensor],
    pictures: Mapping[str, np.ndarray],
    *,
    patch: int,
    heads: int,
    layers: int,
    fusion_layer: int,
    classifier: str,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features {m: (D,)} and logits (C,) of one sample, in float64.

    Args:
        state: the model's tensors.
        pictures: {m: (T, C, H, W)}, in the order of the modalities.
        patch: height and width of a patch.
        heads: attention heads.
        layers: layers of each encoder.
        fusion_layer: first layer that exchanges, from 0.
        classifier: "token" (the encoders take their CLS token) or "gap" (the mean).
    """
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in state.items()}
    own = {m: below(weights, f"encoders.{m}.") for m in pictures}
    tokens = {m: embedded(own[m], picture, patch) for m, picture in pictures.items()}
    shared = list(weights["fusion.bottlenecks"][0])
    for layer in range(layers):
        bottlenecks = []
        for m in pictures:
            block = below(own[m], f"blocks.{layer}.")
            if layer < fusion_layer:
                tokens[m] = block_of(block, tokens[m], heads)
            else:
                after = block_of(block, tokens[m] + shared, heads)
                tokens[m], left = after[: len(tokens[m])], after[len(tokens[m]) :]
                bottlenecks.append(left)
        if bottlenecks:
            shared = [np.mean([left[i] for left in bottlenecks], axis=0) for i in range(len(shared))]
    normed = {m: [layer_norm(below(own[m], "norm."), x) for x in tokens[m]] for m in pictures}
    if classifier == "token":
        features = {m: normed[m][0] for m in pictures}
        return features, np.mean([linear(below(weights, "fusion.linear."), h) for h in features.values()], axis=0)
    everything = [x for m in pictures for x in normed[m]]
    features = {m: np.mean(normed[m], axis=0) for m in pictures}
    return features, linear(below(weights, "fusion.linear."), np.mean(everything, axis=0))


def below(weights: Weights, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def embedded(weights: Weights, picture: np.ndarray, patch: int) -> list[np.ndarray]:
    """CLS if there is one, then the patches, frame by frame, row by row; what lies outside a picture is 0."""
    tokens = [weights["cls"][0, 0]] if "cls" in weights else []
    frames, channels, height, width = picture.shape
    for t in range(frames):
        for top in range(0, height, patch):
            for left in range(0, width, patch):
                square = np.zeros((channels, patch, patch))
                part = picture[t, :, top : top + patch, left : left + patch]
                square[:, : part.shape[1], : part.shape[2]] = part
                token = [float((kernel * square).sum()) for kernel in weights["patches.weight"]]
                tokens.append(np.array(token) + weights["patches.bias"])
    return [token + position for token, position in zip(tokens, weights["positions"][0], strict=True)]


def block_of(weights: Weights, tokens: list[np.ndarray], heads: int) -> list[np.ndarray]:
    normed = [layer_norm(below(weights, "attention.0."), x) for x in tokens]
    mixed = attention(below(weights, "attention.1."), normed, heads)
    tokens = [x + y for x, y in zip(tokens, mixed, strict=True)]
    return [x + mlp(weights, x) for x in tokens]


def attention(weights: Weights, tokens: list[np.ndarray], heads: int) -> list[np.ndarray]:
    query, key, value = ([linear(below(weights, f"{name}."), x) for x in tokens] for name in ("query", "key", "value"))
    size = len(tokens[0]) // heads
    out = []
    for asking in query:
        pieces = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.array([asking[part] @ k[part] / math.sqrt(size) for k in key])
            shares = np.exp(scores) / np.exp(scores).sum()
            pieces.append(sum(share * v[part] for share, v in zip(shares, value, strict=True)))
        out.append(linear(below(weights, "out."), np.concatenate(pieces)))
    return out


def mlp(weights: Weights, x: np.ndarray) -> np.ndarray:
    hidden = linear(below(weights, "mlp.1."), layer_norm(below(weights, "mlp.0."), x))
    gelu = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in hidden])
    return linear(below(weights, "mlp.4."), gelu)


def linear(weights: Weights, x: np.ndarray) -> np.ndarray:
    out: np.ndarray = weights["weight"] @ x + weights["bias"]
    return out


def layer_norm(weights: Weights, x: np.ndarray) -> np.ndarray:
    out: np.ndarray = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * weights["weight"] + weights["bias"]
    return out
