"""Training methods, one a file; `base.py` is joint training and says what a method may change."""

from drcli.registry import Entry, Registry

METHODS = Registry(
    "method",
    {
        "joint": Entry("drcli.methods.base:Method", "joint training: one cross-entropy on the fused logits"),
        "unimodal": Entry("drcli.methods.unimodal:Unimodal", "each encoder trained alone, one run a modality"),
        "diagnose_relearn": Entry(
            "drcli.methods.diagnose_relearn:DiagnoseRelearn",
            "D&R: periodic diagnosis, soft re-initialisation",
        ),
    },
    group="drcli.methods",
)
