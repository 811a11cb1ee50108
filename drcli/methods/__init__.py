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
        "multi_loss": Entry("drcli.methods.multi_loss:MultiLoss", "fused loss plus one a modality"),
        "g_blending": Entry(
            "drcli.methods.g_blending:GBlending", "losses blended by how their heads generalise and overfit"
        ),
        "ensemble": Entry("drcli.methods.ensemble:Ensemble", "unimodal runs, their probabilities averaged"),
        "uni_pretrained": Entry(
            "drcli.methods.uni_pretrained:UniPretrained", "a new fusion over unimodal runs' encoders, frozen or not"
        ),
        "pmr": Entry("drcli.methods.pmr:PMR", "losses on class prototypes for the modalities behind"),
        "agm": Entry("drcli.methods.agm:AGM", "gradients scaled through each modality's share of the logits"),
        "ogm": Entry("drcli.methods.ogm:Ogm", "gradients of the encoders that are ahead are damped"),
        "ogm_ge": Entry("drcli.methods.ogm_ge:OgmGe", "OGM with noise on the gradients"),
        "greedy": Entry("drcli.methods.greedy:Greedy", "curation: gates held constant where they learn too fast"),
    },
    group="drcli.methods",
)
