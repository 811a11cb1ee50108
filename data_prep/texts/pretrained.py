"""Token ids as a pre-trained model knows them: its own fast tokenizer, from a folder or the user's cache.

The file tokenizer.json says all that a fast tokenizer does; no code that comes with a model is run, and nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drcli.data.info_checks import LARGEST_VOCABULARY
from drcli.errors import DataError, UsageError
from drcli.model_files import find_file
from drcli.reading import one_line, read_bytes, read_json_object

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
KEY = "dataset.prepare.tokenizer"


def tokenizer_file(name: str) -> Path:
    """Return the file of a model's fast tokenizer.

    Args:
        name: a folder, or the model's name.

    Raises:
        UsageError: the package tokenizers is not installed.
        DataError: it is neither in the folder nor in the cache.
    """
    try:
        import tokenizers  # noqa: F401 - told before anything is looked for
    except ModuleNotFoundError as error:
        raise UsageError(f"{KEY} = {name}: needs tokenizers; run pip install 'drcli[transformers]'") from error
    try:
        return find_file(name, (FILE,), saved="a fast tokenizer")
    except DataError as error:
        raise DataError(f"{KEY}: {error}; hashing needs no file") from error


class Pretrained:
    """The fast tokenizer of a model, with the tokens that it puts around a text.

    Args:
        name: a folder, or the model's name.
        length: tokens L of a row, the tokenizer's own among them.

    Attributes:
        vocabulary: one more than its largest id.
        pad: the id that it pads with; 0 where it has none.
        digest: SHA-256 of its file.

    Raises:
        UsageError: tokenizers is not installed; the length leaves no room for a word.
        DataError: the file is not there, or damaged.
    """

    def __init__(self, name: str, length: int) -> None:
        self._path, self._length = tokenizer_file(name), length
        from tokenizers import Tokenizer

        content = read_bytes(self._path, remedy="save the tokenizer again")
        self.digest = hashlib.sha256(content).hexdigest()
        with self._refusing():
            self._made = Tokenizer.from_buffer(content)
            self.vocabulary = 1 + max(self._made.get_vocab(with_added_tokens=True).values())
            own = self._made.num_special_tokens_to_add(False)
        if self.vocabulary > LARGEST_VOCABULARY:
            raise DataError(f"{self._path}: has {self.vocabulary} ids, {LARGEST_VOCABULARY} may be; is it damaged?")
        if length <= own:
            raise UsageError(
                f"dataset.prepare.max_length = {length}: the tokenizer adds {own} tokens of its own; set it to "
                f"{own + 1} at least"
            )
        self.pad = self._pad_id(self._path.with_name(CONFIG))
        if self.pad >= self.vocabulary:
            raise self._beyond(self.pad)
        self._made.no_padding()
        self._made.enable_truncation(length)

    def token_ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], list[int], int]:
        """Ids of texts, cut at the length; the tokens around a text stay.

        Returns:
            (N, L) ids, padded at the end; N numbers of valid ones; how many texts were cut.

        Raises:
            DataError: the tokenizer's file is damaged in a place that a text shows.
        """
        ids = np.full((len(texts), self._length), self.pad, np.int32)
        lengths, cut = [], 0
        for row, text in enumerate(texts):  # one by one: threads of tokenizers and processes do not go together
            with self._refusing():
                found = self._made.encode(text)
                ids[row, : len(found.ids)] = found.ids  # one beyond int32 is refused here
            lengths.append(len(found.ids))
            cut += bool(found.overflowing)
        if (most := int(ids.max(initial=0))) >= self.vocabulary:
            raise self._beyond(most)
        return ids, lengths, cut

    def _beyond(self, found: int) -> DataError:
        """The error of an id that none of its tokens has."""
        last = self.vocabulary - 1
        return DataError(
            f"{self._path}: gives the id {found}, those of its tokens end at {last}; save the tokenizer again"
        )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what the package raises into a message; a panic of its Rust part is no `Exception`."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise DataError(
                f"{self._path}: is no fast tokenizer that can be used ({one_line(error)}); save the tokenizer again"
            ) from error

    def _pad_id(self, config: Path) -> int:
        """The id of the padding, by the tokenizer's file or the configuration beside it."""
        padding = self._made.padding
        if padding is not None:
            return int(padding["pad_id"])
        token = read_json_object(config, remedy="save it again").get("pad_token") if config.is_file() else None
        found = self._made.token_to_id(str(token.get("content") if isinstance(token, dict) else token))
        return 0 if found is None else int(found)
