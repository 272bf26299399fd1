"""The fifteen items, and which of them explains which. Importing this needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist: `id` as in reports, what it is called, and the question it answers."""

    id: str
    title: str
    question: str

    @property
    def stage(self) -> str:
        """The stage it belongs to: data, model, loss, optimizer or training."""
        return self.id.partition(".")[0]


STAGES = {
    "data": "Data",
    "model": "Model",
    "loss": "Loss",
    "optimizer": "Optimiser",
    "training": "Training",
}
ITEMS: dict[str, Item] = {
    item.id: item
    for item in (
        Item("data.range", "Range of the pictures", "Are the pictures what the network expects, in type and range?"),
        Item("data.labels", "Labels", "Is every label one that the loss can use?"),
        Item("data.augmentation", "Augmentation", "Does augmentation leave what the label says?"),
        Item("model.output_shape", "Output shape", "Does the model give one score for each picture and class?"),
        Item("model.finite", "NaN and Inf", "Are all outputs finite, at the start and after a few steps?"),
        Item("model.init", "Initialisation", "Does every layer pass on what it gets?"),
        Item("loss.value", "First loss", "Is the first loss what guessing would give?"),
        Item("loss.decreases", "Loss falls", "Can the model learn one batch by heart?"),
        Item("loss.gradients", "Gradients of the loss", "Is the loss connected with the parameters?"),
        Item("optimizer.learning_rate", "Learning rate", "Is the learning rate in the range where training works?"),
        Item("optimizer.gradients", "Gradients at each step", "Does each step get this step's gradients, all of them?"),
        Item("optimizer.updates", "Parameters update", "Does the optimiser hold and move every trainable parameter?"),
        Item("training.fit", "Over- and underfitting", "Does what is learned hold for other pictures?"),
        Item("training.curves", "Curves", "Are training and validation each measured in their own mode?"),
        Item("training.convergence", "Convergence", "Does training get where it should in the epochs it has?"),
    )
}

# What a failed item explains: a fail further on is not a second mistake. No item explains one that explains it.
_LEARNING = ("optimizer.learning_rate", "model.finite", "loss.decreases", "training.convergence", "training.fit")
EXPLAINS: dict[str, tuple[str, ...]] = {
    "data.range": (
        "data.labels",
        "data.augmentation",
        "model.output_shape",
        "model.init",
        "loss.value",
        "loss.gradients",
        "optimizer.gradients",
        "training.curves",
        *_LEARNING,
    ),
    "data.labels": ("data.augmentation", "model.output_shape", "loss.value", "loss.gradients", *_LEARNING),
    "data.augmentation": _LEARNING,
    "model.output_shape": ("model.init", "loss.value", "loss.gradients", "training.curves", *_LEARNING),
    "model.init": (
        "loss.value",
        "loss.gradients",
        "optimizer.gradients",
        "data.augmentation",
        "optimizer.learning_rate",
        "loss.decreases",
        "training.convergence",
        "training.fit",
    ),
    "loss.value": ("loss.gradients", "optimizer.gradients", *_LEARNING),
    "loss.gradients": ("optimizer.gradients", "optimizer.updates", *_LEARNING),
    "optimizer.gradients": ("optimizer.updates", *_LEARNING),
    "optimizer.updates": _LEARNING,
    "training.curves": _LEARNING,
    "optimizer.learning_rate": ("model.finite", "loss.decreases", "training.convergence", "training.fit"),
    "model.finite": ("loss.decreases", "training.convergence", "training.fit"),
    "loss.decreases": ("training.convergence", "training.fit"),
}
