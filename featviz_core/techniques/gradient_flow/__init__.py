"""Gradient flow: whether the loss reaches every parameter, how much of it, and whether the parameters then move."""

from featviz_core.about import About
from featviz_core.lazy import lazily

ABOUT = About(
    slug="gradient_flow",
    title="Gradient flow",
    question="Does the gradient reach every layer, and does every parameter move?",
    icon=":material/water:",
    symptoms=(
        "the loss does not fall, or falls only until the last layer has learned what it can,",
        "the loss turns into NaN, or jumps,",
        "part of the network was frozen, replaced or added, and nobody is sure what trains.",
    ),
    how_to_read=(
        "**Healthy:** bars of similar length from the first layer to the last. Within a factor of a hundred is common; "
        "biases and normalisations have lengths of their own. The mean is a tenth to a thousandth of the maximum.",
        "**Unhealthy:** bars that shrink from layer to layer towards the input vanish: the first do not learn. "
        "Bars that grow towards the input explode. No bar at all is exactly zero: something behind the layer passes "
        "nothing back. *Cut off* means that the layer ran, but its answer does not reach the loss; *frozen* that "
        "it wants no gradient; *unused* that it never ran.",
        "**Gradient to weight** ‖g‖/‖w‖ puts each gradient in relation to what it is to change. Layers far above the "
        "others set the limit for the learning rate.",
        "**Over training steps**, ‖Δw‖/‖w‖ says by what share a step changes a weight. About a thousandth to a "
        "hundredth is healthy; the first steps may be ten times that. Below a hundred-thousandth the layer stands "
        "still, at one and above it forgets all that it knew.",
        "**The ledger** has one row for each parameter: in the model, in the optimiser, with a gradient, moved. A "
        "column that is empty from some row on is a forgotten parameter group; rows that only the optimiser knows "
        "belong to a model that was thrown away.",
        "**A model that is sure** of its answer gets tiny gradients everywhere: the loss asks for nothing. Compare "
        "layers with each other, or ask for another class.",
    ),
    references=(
        (
            "Glorot and Bengio: Understanding the difficulty of training deep feedforward networks (AISTATS 2010)",
            "https://proceedings.mlr.press/v9/glorot10a.html",
        ),
        (
            "Pascanu, Mikolov and Bengio: On the difficulty of training recurrent neural networks (ICML 2013)",
            "https://arxiv.org/abs/1211.5063",
        ),
        (
            "You, Gitman and Ginsburg: Large Batch Training of Convolutional Networks (2017)",
            "https://arxiv.org/abs/1708.03888",
        ),
    ),
)

__all__ = ["GradientFlow", "GradientHistory", "gradient_flow", "gradient_history"]
__getattr__ = lazily(
    __name__,
    {
        "GradientFlow": "result",
        "GradientHistory": "history_result",
        "HistoryStep": "history_result",
        "LedgerRow": "history_result",
        "ParameterGradient": "result",
        "gradient_flow": "compute",
        "gradient_history": "history",
        "steps_frame": "history_result",
        "preview": "examples",
    },
)
