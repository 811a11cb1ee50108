"""Files tokenizer.json of fast tokenizers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzz.mutation import mutated, refused
from hypothesis import strategies as st
from support.image_text_trees import save_tokenizer

from data_prep.texts.pretrained import Pretrained
from drcli.errors import DrcliError

TEXTS = ("Grandma's beef tartare pie", "", "x" * 50)
LENGTH = 8


def valid() -> bytes:
    """A tokenizer of word pieces."""
    with tempfile.TemporaryDirectory() as folder:
        return (save_tokenizer(Path(folder)) / "tokenizer.json").read_bytes()


VALID = valid()


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged file, or a whole one, within which a number or a word is another."""
    words = st.sampled_from((b'"[CLS]": {', b'"pie": 9', b'"[UNK]"', b'"type_id": 0', b"lowercase", b"Whitespace"))
    values = st.sampled_from((b'"x": {', b'"pie": -1', b'"y"', b'"type_id": 9', b"null", b'"pie": 4294967295'))
    changed = st.builds(lambda old, new: VALID.replace(old, new, 1), words, values)
    return st.one_of(mutated([VALID]), changed, st.just(VALID))


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must make ids of its vocabulary, as many as there is room for."""
    (folder / "tokenizer.json").write_bytes(data)
    try:
        made = Pretrained(str(folder), LENGTH)
        ids, lengths, _ = made.token_ids(TEXTS)
    except DrcliError as error:
        return refused(error)
    assert ids.shape == (len(TEXTS), LENGTH)
    assert 0 <= ids.min() <= ids.max() < made.vocabulary
    assert max(lengths) <= LENGTH
    return "accepted"
