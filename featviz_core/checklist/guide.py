"""What a person needs for each item, whatever was measured: how to look at it by hand, and what it means.

Importing this needs no torch. The code goes on from `START`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

START = """from featviz_core.experiment_file import open_experiment

experiment = open_experiment("my_experiment.py")()
images, targets = experiment.pair(next(iter(experiment.train_loader)))
logits = experiment.logits(experiment.model(images))
"""

_DATA = {"data": "an experiment"}
_OUTPUT = {"source": "an experiment"}
_LAYERS = {"source": "an experiment", "part": "train"}
_FLOW = {"flow": "an experiment's training"}


@dataclass(frozen=True, slots=True)
class Guide:
    """One item, explained.

    `healthy`: what it looks like when all is well; `means`: what it means when it does not; `look`: what to do by hand;
    `code`: the same in a few lines; `page`: the technique that shows it (its slug), opened with `query`.
    """

    healthy: str
    means: str
    look: tuple[str, ...]
    code: str
    page: str
    query: Mapping[str, str] = field(default_factory=dict)


STAGE_REASONS: dict[str, str] = {
    "data": "What goes in wrong comes out wrong, whatever the network. Most mistakes are here, and easy to see.",
    "model": "A network that gives the wrong shape, numbers that are none, or the same for every picture cannot learn.",
    "loss": "The loss is all that training sees. Its first value is known before any training.",
    "optimizer": "The right gradient helps nobody when it is not used, or used in steps of the wrong size.",
    "training": "Only when everything before is right do curves tell something about the model and the data.",
}

GUIDES: dict[str, Guide] = {
    "data.range": Guide(
        "Floating-point pictures (N, C, H, W), all finite. After normalisation each channel's mean is near 0 and its "
        "standard deviation near 1; values from 0 to 1 without normalisation are fine too.",
        "The network gets numbers that it was not made for. Activations and gradients grow or shrink with them: the "
        "first steps explode or do nothing, and a pretrained network sees what it never saw.",
        (
            "Print shape, type, smallest and largest value of one batch.",
            "Look at the pictures with the normalisation undone: are the colours right, is nothing too dark?",
            "Compare training and validation: both need the same range.",
        ),
        "print(images.shape, images.dtype, float(images.min()), float(images.max()))\n"
        "print(images.mean((0, 2, 3)), images.std((0, 2, 3)))",
        "data_check",
        _DATA,
    ),
    "data.labels": Guide(
        "Whole numbers from 0 to C − 1, one for each picture, and they say what the picture shows.",
        "Labels out of range stop the loss, or ask for a class that is not there. Labels that do not belong to their "
        "pictures can only be learned by heart: training gets better, validation stays at chance.",
        (
            "Print the labels of one batch, and count each class.",
            "Look at twenty pictures beside their class names. One wrong pair in twenty is already too many.",
            "Check that files and labels are sorted, filtered and shuffled together.",
        ),
        "print(targets.dtype, targets.shape, targets.unique(return_counts=True))\nprint(experiment.class_names)",
        "data_check",
        _DATA,
    ),
    "data.augmentation": Guide(
        "Augmented pictures differ from each other, and a person still names the right class. Validation is not "
        "augmented.",
        "Augmentation that destroys what the label says teaches noise: the loss stalls well above what the clean "
        "pictures give. Augmented validation gives another number each time.",
        (
            "Draw the same picture eight times and look: would you still give it this label?",
            "Read the same validation picture twice: it has to be the same.",
            "Train for a little while without augmentation. If that is far better, it is too strong.",
        ),
        "first, again = (experiment.train_loader.dataset[0][0] for _ in range(2))\n"
        'print("augmented" if (first != again).any() else "the same each time")',
        "data_check",
        _DATA,
    ),
    "model.output_shape": Guide(
        "One row of scores for each picture and one column for each class, (N, C), before any softmax.",
        "A wrong shape is broadcast or flattened somewhere, and the loss compares the wrong things. Probabilities in "
        "the place of scores make the gradient of cross-entropy small.",
        (
            "Print the output's shape for one batch, and compare it with the number of classes.",
            "Add up each row: if all give 1, there is a softmax already.",
            "Check that each picture's answer stays the same when the others in the batch change.",
        ),
        "print(logits.shape, len(images), experiment.class_names)\nprint(logits.sum(1))",
        "output_check",
        _OUTPUT,
    ),
    "model.finite": Guide(
        "Every layer gives finite numbers, at the start and after some steps.",
        "One NaN reaches every weight with the next step. It comes from a division by zero, the logarithm of zero, "
        "numbers too large for the type, or steps that are too long.",
        (
            "Ask each layer in order: the first one with NaN or Inf is the place, the others only pass it on.",
            "If it comes after some steps only, divide the learning rate by ten and try again.",
            "With mixed precision, try once in float32.",
        ),
        "print(bool(logits.isfinite().all()))\n"
        "print([name for name, p in experiment.model.named_parameters() if not p.isfinite().all()])",
        "activation_stats",
        _LAYERS,
    ),
    "model.init": Guide(
        "The spread of the activations stays within a few powers of ten from the first layer to the last, at most "
        "about half of the units are silent, and different pictures give different scores.",
        "Where activations vanish, explode or die on the way, no gradient comes back, and the layers before cannot "
        "learn. It is usually the scale of the initial weights, a large bias, or missing normalisation.",
        (
            "Print the standard deviation of each layer's output for one batch: look for a trend.",
            "Count the units behind each ReLU that are zero for all pictures.",
            "Compare with PyTorch's own initialisation, or with one of the known ones (He, Xavier).",
        ),
        "import featviz_core as fv\n\n"
        "print(fv.activation_stats(experiment.model, images).frame()[['layer', 'std', 'dead_fraction']])",
        "activation_stats",
        _LAYERS,
    ),
    "loss.value": Guide(
        "With a fresh head, the first loss is what guessing gives: ln C for cross-entropy over C classes (2.30 for "
        "10). It does not depend on the size of the batch, and it can only get better from there.",
        "Far above: the scores are large before anything was learned. Far below: the answer leaks in, or the loss "
        "leaves something out. Below zero: the sign is wrong.",
        (
            "Print the first loss beside ln C.",
            "Halve the batch: an average stays about the same, a sum halves.",
            "Give the loss the perfect answer: it must be smaller than for a wrong one.",
        ),
        "import math\n\nprint(float(experiment.loss_fn(logits, targets)), math.log(logits.shape[1]))",
        "output_check",
        _OUTPUT,
    ),
    "loss.decreases": Guide(
        "The model learns one batch by heart: in some hundred steps, every picture in it is right and the loss is near "
        "the least it can be.",
        "A network that cannot even learn 32 pictures by heart will not learn a data set. Something before is broken: "
        "labels, gradients, the learning rate or the loop.",
        (
            "Train on one batch again and again, without augmentation, dropout and weight decay.",
            "If it works with Adam and a rate of 1e-3 only, it is the learning rate.",
            "Do the same with black pictures: if that is as good, the pictures are not used.",
        ),
        "from featviz_core.experiment import train_on\n\n"
        "print(train_on(experiment, [(images, targets)] * 50, scheduler=False)[::10])",
        "gradient_flow",
        _FLOW,
    ),
    "loss.gradients": Guide(
        "After one `backward()`, every parameter that is to be trained has a gradient.",
        "Somewhere between the model and the loss the connection is cut, so that nothing can be learned at all.",
        (
            "Call `loss.backward()` once and list the parameters whose `.grad` is None.",
            "Search for `.detach()`, `.item()`, `.data`, `no_grad`, `argmax` and `torch.tensor(...)` on the way.",
            "Print `loss.requires_grad` and `loss.grad_fn`.",
        ),
        "experiment.loss_fn(logits, targets).backward()\n"
        "print([name for name, p in experiment.model.named_parameters() if p.grad is None])",
        "gradient_flow",
        _FLOW,
    ),
    "optimizer.learning_rate": Guide(
        "Each step changes a weight matrix by about a thousandth of its size: ‖Δw‖/‖w‖ of roughly 1e-4 to 2e-1. The "
        "loss falls from step to step, apart from noise.",
        "Too high: the loss jumps, or becomes NaN. Too low: everything is right and nothing happens.",
        (
            "Try a tenth and ten times the rate for fifty steps each, and compare.",
            "Run a learning rate range test: raise it step by step and note where the loss begins to rise.",
            "Check that the scheduler does not start, or end, near zero.",
        ),
        'print([(group["lr"], len(group["params"])) for group in experiment.optimizer.param_groups])',
        "gradient_flow",
        _FLOW | {"shown": "update ‖Δw‖/‖w‖"},
    ),
    "optimizer.gradients": Guide(
        "Each step gets the gradients of its own batches, all of them, and nothing that is left from before.",
        "Without `zero_grad()` old gradients add up, as if the rate rose with every step. Where a layer gets none, or "
        "only zeros, it does not learn.",
        (
            "Look at the loop: `zero_grad()`, `backward()`, `step()`, once each and in this order.",
            "Print each parameter's gradient norm after `backward()`: none missing, none exactly zero.",
            "With accumulation: divide the loss by the number of batches.",
        ),
        "experiment.loss_fn(logits, targets).backward()\n"
        "print([(n, float(p.grad.norm())) for n, p in experiment.model.named_parameters() if p.grad is not None])",
        "gradient_flow",
        _FLOW | {"more": "Ledger"},
    ),
    "optimizer.updates": Guide(
        "The optimiser holds every parameter that is to be trained exactly once, and after a step each has changed.",
        "Parameters that the optimiser does not hold stay as they were made. It happens when a layer is added or "
        "replaced after the optimiser was built, or kept in a plain list.",
        (
            "Count: parameters of the model that want gradients, and parameters in the optimiser.",
            "Copy the weights, make one step, compare.",
            "Build the optimiser last, when the model is complete and on its device.",
        ),
        'held = {id(p) for group in experiment.optimizer.param_groups for p in group["params"]}\n'
        "print([name for name, p in experiment.model.named_parameters() if id(p) not in held])",
        "gradient_flow",
        _FLOW | {"more": "Ledger"},
    ),
    "training.fit": Guide(
        "Accuracy on training and validation pictures, both in evaluation mode, is about the same, and both are well "
        "above guessing. No picture is in both sets.",
        "Much better on training pictures: learned by heart. Bad on both: too little of network, time or rate. Better "
        "than it should be: validation pictures are among those for training.",
        (
            "Measure both sets in the same way: evaluation mode, no augmentation.",
            "Look for the same files, or the same pictures, in both sets.",
            "Compare with the simplest rule: always the most frequent class.",
        ),
        "from featviz_core.experiment import evaluate\n\n"
        "for loader in (experiment.train_loader, experiment.val_loader):\n"
        "    print(evaluate(experiment, loader) if loader is not None else None)",
        "data_check",
        _DATA,
    ),
    "training.curves": Guide(
        "Training runs in training mode, validation in evaluation mode and without gradients; two validation passes "
        "give the same numbers.",
        "In the wrong mode, dropout and BatchNorm make the numbers wrong, or let validation change the model: curves "
        "then tell nothing.",
        (
            "Look for `model.train()` before each epoch and `model.eval()` before validation.",
            "Run validation twice: any difference is a mistake.",
            "Put validation under `torch.no_grad()`, and average over pictures, not over batches.",
        ),
        "from featviz_core.experiment import evaluate_on\n\n"
        "for _ in range(2 if experiment.val_loader is not None else 0):\n"
        "    print(evaluate_on(experiment, experiment.val_loader))",
        "training_monitor",
    ),
    "training.convergence": Guide(
        "The loss still falls where training ends or has come to rest low, and the schedule ends with it.",
        "Training stops too early, wanders because the steps are too long, or stands still because the rate went to "
        "zero before the end.",
        (
            "Look at the loss over all epochs, on a logarithmic scale.",
            "Print the learning rate of each epoch: does the schedule fit the number of epochs?",
            "Train twice as long once: if it gets clearly better, it was too short.",
        ),
        "print(experiment.epochs, experiment.scheduler, experiment.scheduler_step)",
        "training_monitor",
    ),
}
