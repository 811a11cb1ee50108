"""ur_funny: whether a punchline of a talk makes people laugh (Hasan et al. 2019), from MultiBench's `humor.pkl`.

Words are vectors of GloVe (300), sound of COVAREP (81) and face of OpenFace (371), aligned by word; context and
punchline are one sequence. The splits share no speaker, says the dataset's paper; the file has no names of them.
"""

from __future__ import annotations

from typing import ClassVar

from data_prep.segment_pickles import YesNoPickles


class UrFunny(YesNoPickles):
    """Punchlines, modalities `text`, `audio` and `visual`, each a sequence (L, D) with its length."""

    name = "ur_funny"
    title = "UR-FUNNY"
    files: ClassVar = {"humor.pkl": False}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return ("not funny", "funny")
