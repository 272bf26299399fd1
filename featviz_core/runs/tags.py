"""What a run's values are called: one home for those that write them, find them again and draw them.

loss/train           accuracy/train            of one training step
loss/validation      accuracy/validation       of one validation
loss/train_eval      accuracy/train_eval       of training pictures, by the model in evaluation mode
lr                   lr/group1, lr/group2 …    the rate of the optimiser's first group, and of its others
epoch                                          how many validations are done
gradient/<parameter>                           ‖g‖ of what the optimiser got
update/<parameter>                             ‖Δw‖/‖w‖ of one step, for parameters of two or more dimensions
activation/<layer>/<statistic>                 "mean" of a layer's output on one batch, "std" and "zero_fraction" of
                                               at most 65,536 of its values
histogram/weight/<parameter>   histogram/gradient/<parameter>   histogram/activation/<layer>
prediction/<sample>            class_activation/<sample>        pictures
"""

from __future__ import annotations

LOSS, ACCURACY = "loss", "accuracy"
TRAIN, VALIDATION, TRAIN_EVAL = "train", "validation", "train_eval"
LR, EPOCH = "lr", "epoch"
GRADIENT, UPDATE, ACTIVATION, HISTOGRAM = "gradient/", "update/", "activation/", "histogram/"
PREDICTION, CLASS_ACTIVATION = "prediction/", "class_activation/"
STATISTICS = ("mean", "std", "zero_fraction")


def of_split(metric: str, split: str) -> str:
    """The tag of a loss or an accuracy: `loss/train`."""
    return f"{metric}/{split}"


def of_rate(group: int) -> str:
    """The tag of the learning rate of one of the optimiser's groups."""
    return f"{LR}/group{group}" if group else LR


def of_activation(layer: str, statistic: str) -> str:
    """The tag of one of `STATISTICS` of a layer's output."""
    return f"{ACTIVATION}{layer}/{statistic}"


def activation_of(tag: str) -> tuple[str, str] | None:
    """The layer and the statistic that an activation's tag speaks of; None for another tag."""
    layer, _, statistic = tag.removeprefix(ACTIVATION).rpartition("/")
    return (layer, statistic) if tag.startswith(ACTIVATION) and layer and statistic in STATISTICS else None


def of_histogram(kind: str, name: str) -> str:
    """The tag of a histogram; `kind`: "weight", "gradient" or "activation"."""
    return f"{HISTOGRAM}{kind}/{name}"
