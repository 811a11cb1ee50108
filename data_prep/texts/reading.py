"""Text of any encoding: what was decoded how, and how many characters were replaced, is counted, never hidden."""

from __future__ import annotations

import codecs
import html
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from drcli.amounts import counted

REPLACED = "\N{REPLACEMENT CHARACTER}"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass
class Reading:
    """Decodes texts and counts what it met.

    Attributes:
        encodings: texts by the encoding that they were in.
        replaced: characters that no encoding gives, by the name of the text.
    """

    encodings: Counter[str] = field(default_factory=Counter)
    replaced: dict[str, int] = field(default_factory=dict)

    def decode(self, content: bytes, name: str) -> str:
        """Return a text: by its byte order mark, else UTF-8, else GB18030, which old Chinese collections are in.

        Bytes that are none of them become the replacement character.

        Args:
            content: its bytes.
            name: of the text, for the report.
        """
        marked = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
        for encoding in [marked] if marked else ["utf-8", "gb18030"]:
            try:
                text = content.decode(encoding)
            except UnicodeDecodeError:
                continue
            self.encodings[encoding] += 1
            return self._counted(text, name)
        self.encodings["none"] += 1
        return self._counted(content.decode(marked or "utf-8", errors="replace"), name)

    def clean(self, text: str) -> str:
        """Return a text in one line, without HTML entities and control characters, in Unicode's composed form."""
        plain = unicodedata.normalize("NFC", html.unescape(text))
        return " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in plain).split())

    def report(self, warn: Callable[[str], None]) -> None:
        """Warn of texts with characters that no encoding gives."""
        if self.replaced:
            total, first = sum(self.replaced.values()), next(iter(self.replaced))
            warn(
                f"{counted(len(self.replaced), 'text')}, {first} first, with {counted(total, 'character')} that "
                "neither UTF-8 nor GB18030 gives; each became the replacement character"
            )

    def source(self) -> dict[str, object]:
        """The part of `source` in dataset.json that is about texts."""
        return {"encodings": dict(sorted(self.encodings.items())), "replaced": dict(sorted(self.replaced.items()))}

    def _counted(self, text: str, name: str) -> str:
        count = text.count(REPLACED)
        if count:
            self.replaced[name] = count
        return text
