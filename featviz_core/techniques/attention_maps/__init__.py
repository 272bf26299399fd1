"""Attention maps: which token looks at which, in every head of every layer, laid on the picture."""

from featviz_core.about import About
from featviz_core.lazy import lazily

PREVIEW_MODEL = "demo/shapes_vit"

ABOUT = About(
    slug="attention_maps",
    title="Attention maps",
    question="Which parts of my picture look at which, in every head of every layer?",
    icon=":material/hub:",
    symptoms=(
        "you have a transformer (ViT, Swin, MaxViT or your own) and want to see where it looks,",
        "some heads seem to do nothing, or all seem to do the same,",
        "attention sticks to the background, or to one corner, whatever the picture shows.",
    ),
    how_to_read=(
        "**A row of attention is a share of 1.** For one token (the query) it says how much of each other token (the "
        "keys) is mixed into it. The class token's row shows what the answer is made of.",
        "**Healthy:** early heads look near and far, some along rows or colours; later ones gather on the object; "
        "heads of one layer differ.",
        "**Unhealthy:** a head that looks at all tokens alike only averages (collapsed, or not trained yet); heads "
        "that park their attention on one patch that has nothing to say, an attention sink, carry no picture; two "
        "equal heads are one too many; a dead head adds nothing to the output, whatever it looks at.",
        "**Attention is not yet an explanation:** it says what is mixed, not what it does to the answer. Rollout "
        "follows it through all layers; relevance and LeGrad weight it by the gradient of a class. Compare them "
        "with class activation maps before you trust one of them.",
    ),
    references=(
        (
            "Abnar and Zuidema: Quantifying Attention Flow in Transformers (ACL 2020)",
            "https://arxiv.org/abs/2005.00928",
        ),
        (
            "Kobayashi et al.: Attention is Not Only a Weight (EMNLP 2020)",
            "https://arxiv.org/abs/2004.10102",
        ),
        (
            "Kobayashi et al.: Incorporating Residual and Normalization Layers into Analysis (EMNLP 2021)",
            "https://arxiv.org/abs/2109.07152",
        ),
        (
            "Chefer, Gur and Wolf: Generic Attention-model Explainability (ICCV 2021)",
            "https://arxiv.org/abs/2103.15679",
        ),
        (
            "Bousselham et al.: LeGrad: An Explainability Method for Vision Transformers (ICCV 2025)",
            "https://arxiv.org/abs/2404.03214",
        ),
        (
            "Darcet et al.: Vision Transformers Need Registers (ICLR 2024)",
            "https://arxiv.org/abs/2309.16588",
        ),
    ),
)

__all__ = [
    "AttentionLayer",
    "AttentionMaps",
    "AttentionOverview",
    "Explanations",
    "attention_explanations",
    "attention_layers",
    "attention_maps",
    "attention_overview",
]
__getattr__ = lazily(
    __name__,
    {
        "AttentionLayer": "layers",
        "attention_layers": "layers",
        "AttentionMaps": "compute",
        "attention_maps": "compute",
        "AttentionOverview": "overview",
        "attention_overview": "overview",
        "Explanations": "relevance",
        "attention_explanations": "relevance",
        "TokenLayout": "tokens",
        "FUSIONS": "rollout",
        "share_one_grid": "rollout",
        "preview": "examples",
    },
)
