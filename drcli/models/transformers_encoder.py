"""Models of the package transformers as encoders of texts, pictures, spectrograms and waveforms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from drcli.errors import DataError, DrcliError, UsageError
from drcli.model_files import find_file
from drcli.models.foreign import Foreign, Options, Trainable, over_frames, package
from drcli.models.text import padding_of
from drcli.models.transformer import pool_steps
from drcli.models.weight_files import Weights, read
from drcli.reading import one_line, read_bytes, read_json_object

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
FILES = ("model.safetensors", INDEX, "pytorch_model.bin")

_UNUSED = {"architectures", "auto_map", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version"}
"""Keys of a configuration that say nothing about an encoder, or name code that would be run."""

Reads = Literal["tokens", "pictures", "spectrogram", "waveform", "steps"]

_RANKS: Mapping[Reads, tuple[int, ...]] = {
    "tokens": (1,),
    "pictures": (3, 4),
    "spectrogram": (3, 2),
    "waveform": (1, 2),
    "steps": (2,),
}
_SAMPLES: Mapping[Reads, str] = {
    "tokens": "token ids (L,)",
    "pictures": "pictures (C, H, W) or clips (T, C, H, W)",
    "spectrogram": "spectrograms (1, mels, steps), or sequences (steps, mels)",
    "waveform": "waveforms (L,), or sequences (L, 1)",
    "steps": "sequences (L, D)",
}


class Transformers(Foreign):
    """A model of transformers without its head: its last hidden states, pooled to one vector a sample.

    What it reads is what the model's class says: token ids and a mask of the valid ones; pictures, the frames of a
    clip one by one and their features averaged; a spectrogram (1, mels, steps), turned to (steps, mels); a waveform.
    With random weights, the model is made for the sizes of the samples; pre-trained ones need theirs.

    Masking of time steps in training (SpecAugment) is left out, because it draws from numpy's global generator.

    Args:
        settings: the model, its configuration, pooling, and which part is trained.
        shape: of one sample.
        vocabulary: number of token ids; 0 where samples are none.
    """

    class Settings(Foreign.Settings):
        """The recipe block of `transformers`."""

        model: str = Field(
            min_length=1,
            description="folder that holds the model's config.json and weights, or its name in the user's cache, such "
            "as bert-base-uncased",
        )
        pretrained: bool = Field(True, description="whether the model's weights are taken; false: random ones")
        pooling: Literal["mean", "cls", "last"] = Field(
            "mean",
            description="features of a sample; mean: the mean of its valid steps; cls: its first; last: its last valid",
        )
        trainable: Trainable = "all"
        config: Options = Field(
            {}, description="the model's configuration, which a checkpoint keeps; {}: that of its config.json"
        )

        @model_validator(mode="before")
        @classmethod
        def _with_config(cls, data: Any) -> Any:
            if not isinstance(data, dict) or not isinstance(data.get("model"), str) or data.get("config"):
                return data
            try:
                return {**data, "config": read_config(data["model"])}
            except DrcliError as error:
                raise ValueError(str(error)) from error

    settings: Settings

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    takes_lengths: ClassVar[bool] = True

    def __init__(self, settings: Settings, shape: Sequence[int], vocabulary: int = 0) -> None:
        super().__init__(settings, shape)
        self._config = config_of(settings)
        self._reads = reads(self._config)
        self._check_samples(shape, vocabulary)
        if not settings.pretrained:
            _fit_config(self._config, self._reads, shape)
        try:
            self.model = package("transformers").AutoModel.from_config(self._config)
        except Exception as error:
            raise self.refused(shape, error) from error
        _drop_pooler(self.model)
        example = torch.zeros(1, *shape, dtype=torch.int64 if vocabulary else torch.float32)
        self.finish(settings.trainable, self._layers(), example, getattr(self._config, "hidden_size", None))

    @classmethod
    def for_input(cls, settings: Any, shape: Sequence[int], vocabulary: int = 0) -> Self:
        """Build for the samples of a modality, token ids included; see `Backbone.for_input`."""
        return cls(settings, shape, vocabulary)

    @classmethod
    def example(cls, settings: Any, number: int = 0) -> Self:
        """Build for made-up samples, of the sizes that the configuration names."""
        config = config_of(settings)
        kind = reads(config)
        vocabulary = int(config.vocab_size) if kind == "tokens" else 0
        return cls(settings, _example_shape(config, kind, number), vocabulary)

    @classmethod
    def check(cls, settings: Any) -> Iterator[tuple[str, str]]:
        """Yield that the configuration is of no model that can be an encoder."""
        try:
            reads(config_of(settings))
        except UsageError as error:
            yield "model", str(error)

    @classmethod
    def doubt_tokenizer(cls, settings: Any, tokenizer: str) -> str | None:
        """Return that a pre-trained model of texts gets ids of another tokenizer; see `Backbone.doubt_tokenizer`."""
        if not settings.pretrained or settings.model == tokenizer or reads(config_of(settings)) != "tokens":
            return None
        own, made = (_tokenizer_digest(name) for name in (settings.model, tokenizer))
        if own is not None and own == made:
            return None
        return (
            f"the token ids were made by tokenizer: {tokenizer}, and {settings.model} was trained with its own; "
            f"prepare the dataset again with dataset.prepare.tokenizer={settings.model}"
        )

    @classmethod
    def own_weights(cls, settings: Any) -> Weights | None:
        """Return the weights of the model's folder, of all its shards; see `Backbone.own_weights`."""
        if not settings.pretrained:
            return None
        try:
            path = find_file(settings.model, FILES)
        except DataError as error:
            raise DataError(f"{error}; pretrained=false begins with random weights") from error
        if path.name != INDEX:
            return read(str(path))
        tensors: dict[str, Tensor] = {}
        for name in _shards(path):
            tensors |= read(str(find_file(settings.model, (name,)))).tensors
        return Weights(tensors)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, *shape), of which steps (B,) are valid, to features (B, width)."""
        if self._reads == "pictures":
            return over_frames(self._of_pictures, x)
        if self._reads == "spectrogram":
            return self._pooled(self._hidden(input_values=x[:, 0].transpose(1, 2) if x.dim() == 4 else x), None)
        if self._reads == "waveform":
            return self._of_waveform(x[:, :, 0] if x.dim() == 3 else x, lengths)
        return self._of_steps(x, lengths)

    def with_weights(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
        """Return a model with weights, and what they lack."""
        kind: Any = type(self.model)
        with torch.random.fork_rng(devices=[]), _quietly():
            source, found = kind.from_pretrained(
                None, config=self._config, state_dict=dict(weights), output_loading_info=True, dtype=torch.float32
            )
        _drop_pooler(source)
        own = self.model.state_dict().keys()
        absent = sorted(name for name in found["missing_keys"] if name in own)
        named = ", ".join(absent[:3])
        return source, f"the weights of {self.settings.model} lack {named} of its {len(own)} tensors" if absent else ""

    def _check_samples(self, shape: Sequence[int], vocabulary: int) -> None:
        """Refuse samples of another kind than the model reads, and ids and lengths beyond its tables."""
        kind, model = self._reads, f"model {self.settings.model} of backbone transformers"
        fits = len(shape) in _RANKS[kind] and bool(vocabulary) == (kind == "tokens")
        fits &= kind != "waveform" or len(shape) == 1 or shape[1] == 1
        fits &= kind != "spectrogram" or len(shape) == 2 or shape[0] == 1
        if not fits:
            given = f"{'token ids' if vocabulary else 'samples'} {tuple(shape)}"
            raise UsageError(f"{model} reads {_SAMPLES[kind]}, not {given}")
        if kind != "tokens":
            return
        known, longest = self._config.vocab_size, getattr(self._config, "max_position_embeddings", None)
        if vocabulary > known:
            raise UsageError(
                f"{model} knows {known} token ids, the dataset has {vocabulary}; prepare it with the model's tokenizer "
                "(food101, mvsa_single: dataset.prepare.tokenizer)"
            )
        if isinstance(longest, int) and shape[0] > longest:
            raise UsageError(
                f"{model} takes {longest} tokens at most, texts have up to {shape[0]}; prepare shorter ones"
            )

    def _layers(self) -> list[nn.Module]:
        """The model's layers: the list of as many modules as its configuration says."""
        count = getattr(self._config, "num_hidden_layers", 0)
        lists = [m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
        return list(lists[0]) if lists else []

    def _hidden(self, **inputs: Tensor) -> Tensor:
        found: Tensor = self.model(**inputs).last_hidden_state
        return found

    def _of_pictures(self, x: Tensor) -> Tensor:
        hidden = self._hidden(pixel_values=x)
        return hidden.mean(dim=(2, 3)) if hidden.dim() == 4 else self._pooled(hidden, None)

    def _of_waveform(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Run (B, L); the model says how many of its steps the valid samples make."""
        if lengths is None:
            return self._pooled(self._hidden(input_values=x), None)
        valid = _mask(x, lengths)
        hidden = self._hidden(input_values=x, attention_mask=valid.long())
        steps = getattr(self.model, "_get_feature_vector_attention_mask")(hidden.shape[1], valid.long())  # noqa: B009
        return self._pooled(hidden, steps.sum(dim=1) * (lengths > 0))

    def _of_steps(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Run token ids (B, L) or steps (B, L, D) with a mask of the valid ones."""
        valid, key = _mask(x, lengths), "input_features"
        if self._reads == "tokens":
            pad = getattr(self._config, "pad_token_id", None)
            x, key = x.masked_fill(padding_of(x, lengths), 0 if pad is None else pad), "input_ids"
        hidden = self._hidden(**{key: x, "attention_mask": valid.long()})
        return self._pooled(hidden, lengths)

    def _pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Reduce (B, L, D), of which steps (B,) are valid, to (B, D); 0 where there is none."""
        if lengths is None:
            lengths = torch.full((len(hidden),), hidden.shape[1], device=hidden.device)
        if self.settings.pooling == "cls":
            return hidden[:, 0] * (lengths > 0)[:, None]
        return pool_steps(hidden, lengths, self.settings.pooling)


def _tokenizer_digest(model: str) -> str | None:
    """Return the digest of a model's fast tokenizer; None where it is not on this machine."""
    try:
        return sha256(read_bytes(find_file(model, ("tokenizer.json",)), remedy="save it again")).hexdigest()
    except DataError:
        return None


def read_config(model: str) -> dict[str, Any]:
    """Return the configuration of a model, without what is of no use to an encoder.

    Raises:
        DataError: the file is not there or damaged.
    """
    raw = read_json_object(find_file(model, (CONFIG,)), remedy="save the model again")
    return {key: value for key, value in raw.items() if not key.startswith("_") and key not in _UNUSED}


def config_of(settings: Any) -> Any:
    """Return transformers' object of a configuration, a new one at each call.

    Raises:
        UsageError: transformers is not installed, or knows no such model, or the configuration does not name one.
    """
    transformers = package("transformers")
    raw = {key: value for key, value in settings.config.items() if key not in _UNUSED}
    if not raw.get("model_type"):
        raise UsageError(
            f"config lacks model_type, such as bert: it is the whole configuration, not a change to the {CONFIG} of "
            f"{settings.model}; leave config out to take that, or add model_type and every key that is to differ from "
            "transformers' default"
        )
    try:
        config = transformers.AutoConfig.for_model(**raw)
    except Exception as error:
        raise UsageError(
            f"transformers {transformers.__version__} takes no such {CONFIG} ({one_line(error)})"
        ) from error
    if hasattr(config, "apply_spec_augment"):
        config.apply_spec_augment = False
    return config


def reads(config: Any) -> Reads:
    """Return what a model reads.

    Raises:
        UsageError: it is no encoder of texts, pictures or sounds.
    """
    mapping = package("transformers").MODEL_MAPPING
    name = getattr(mapping[type(config)], "main_input_name", "") if type(config) in mapping else ""
    if getattr(config, "is_encoder_decoder", False) or name not in {
        "input_ids",
        "pixel_values",
        "input_values",
        "input_features",
    }:
        raise UsageError(f"a model of the type {config.model_type} is no encoder of texts, pictures or sounds")
    if name == "input_values":
        return "spectrogram" if hasattr(config, "num_mel_bins") else "waveform"
    kinds: Mapping[str, Reads] = {"input_ids": "tokens", "pixel_values": "pictures", "input_features": "steps"}
    return kinds[name]


def _fit_config(config: Any, kind: Reads, shape: Sequence[int]) -> None:
    """Make a configuration of random weights that of the samples' sizes."""
    if kind == "pictures":
        config.num_channels = shape[-3]
        if hasattr(config, "image_size"):
            height, width = shape[-2:]
            config.image_size = height if height == width else (height, width)
    elif kind == "spectrogram":
        config.num_mel_bins, config.max_length = shape[-2:] if len(shape) == 3 else (shape[1], shape[0])


def _example_shape(config: Any, kind: Reads, number: int) -> tuple[int, ...]:
    """The shape of a made-up sample; that of number 1 differs in the sizes that a model can be made for."""
    if kind == "pictures":
        size = getattr(config, "image_size", 64)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        more = number * 2 * int(getattr(config, "patch_size", 16))
        return (config.num_channels + number, height + more, width + more)
    if kind == "spectrogram":
        return (1, config.num_mel_bins, config.max_length + 32 * number)
    return {"tokens": (8,), "waveform": (4000,), "steps": (16, getattr(config, "feature_projection_input_dim", 80))}[
        kind
    ]


def _drop_pooler(model: Any) -> None:
    """Take a head away that no feature comes from, where the model runs without."""
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        model.pooler = None


@contextmanager
def _quietly() -> Iterator[None]:
    """Let transformers neither draw a bar nor report what its weights lack, which is refused or of no use."""
    said = package("transformers").utils.logging
    verbosity, has_bar = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(verbosity)
        if has_bar:
            said.enable_progress_bar()


def _shards(index: Path) -> list[str]:
    """The files that the index of a model's weights names.

    Raises:
        DataError: it is damaged.
    """
    names = read_json_object(index, remedy="save the model again").get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(n, str) and "/" not in n for n in names.values()):
        raise DataError(f"{index}: damaged (weight_map is no mapping to file names); save the model again")
    return sorted(set(names.values()))


def _mask(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return which steps of (B, L, ...) are valid, bool; the first of a sample without any, which attends to it."""
    valid = ~padding_of(x[..., 0] if x.dim() == 3 else x, lengths)
    valid[:, 0] = True
    return valid
