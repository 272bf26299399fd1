"""Does what is learned hold for other pictures: over- and underfitting, and validation that is oddly good?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from featviz_core.diagnosis.curves import Curve, Curves, Floats
from featviz_core.diagnosis.evidence import number, seen
from featviz_core.diagnosis.learning import flat_between
from featviz_core.findings import Finding

_GAP = 0.1  # of accuracy between training and validation; healthy runs stay below .06
_MORE_DATA = (
    "More pictures, stronger augmentation, weight decay or dropout, a smaller network, or the best step's weights help."
)


def overfitting(curves: Curves) -> Iterator[Finding]:
    """Validation gets worse while training gets better, or training is much better than validation."""
    rise = _rise(curves)
    gap = _gap(curves)
    if rise is not None and gap is not None:
        loss, best, risen = rise
        accuracy, distance = gap
        yield seen(
            "overfitting",
            "fail" if _accuracy_lost(curves) else "warn",
            "Overfitting",
            f"Validation was best at step {best:,}; since then its loss rose by {risen:.3g} while training went on "
            f"falling, and training pictures are recognised {distance:.0%} more often than others.",
            on=loss,
            between=(best, float(loss.steps[-1])),
            remedy=_MORE_DATA,
            best_step=best,
            rise=number(risen),
            gap=number(distance),
            healthy_gap="below 0.06",
        )
    elif rise is not None:
        loss, best, risen = rise
        worse = _accuracy_lost(curves)
        known = curves.validation_accuracy is not None
        yield seen(
            "overfitting",
            "warn",
            "Overfitting",
            f"Validation was best at step {best:,}; since then its loss rose by {risen:.3g} while training went on "
            "falling."
            + (" Its accuracy holds: the network only gets too sure of its mistakes." if known and not worse else ""),
            on=loss,
            between=(best, float(loss.steps[-1])),
            remedy=_MORE_DATA,
            best_step=best,
            rise=number(risen),
        )
    elif gap is not None:
        accuracy, distance = gap
        yield seen(
            "overfitting",
            "warn",
            "Training is much better than validation",
            f"Training pictures are recognised {distance:.0%} more often than others.",
            on=accuracy,
            between=(float(accuracy.level_steps[-min(3, len(accuracy.levels))]), float(accuracy.steps[-1])),
            remedy=f"{_MORE_DATA} Check as well that both get the same preprocessing.",
            gap=number(distance),
            healthy_gap="below 0.06",
        )


def _rise(curves: Curves) -> tuple[Curve, int, float] | None:
    """The validation loss, its best step, and by how much it rose since, where training went on falling."""
    loss, training = curves.validation_loss, curves.eval_loss or curves.train_loss
    if loss is None or len(loss.levels) < 5:
        return None
    best = int(np.argmin(loss.levels))
    lowest = float(loss.levels[best])
    gained = max(loss.start, float(loss.levels[0])) - lowest
    clear = max(0.15 * gained, 0.05 * abs(lowest), 4 * loss.noise)
    if len(loss.levels) - best < 4 or not loss.lasting(loss.levels > lowest + clear):
        return None
    if training is not None:
        still = training.level_at(float(loss.level_steps[best])) - training.end
        if still < -2 * training.noise:
            return None
    return loss, int(loss.level_steps[best]), loss.end - lowest


def _gap(curves: Curves) -> tuple[Curve, float] | None:
    """The validation accuracy, and by how much training is better at each of the last evaluations."""
    training, validation = curves.eval_accuracy or curves.train_accuracy, curves.validation_accuracy
    if training is None or validation is None or len(validation.levels) < 3:
        return None
    distances = _differences(training, validation)
    return (validation, float(np.median(distances))) if (distances > _GAP).all() else None


def _differences(training: Curve, validation: Curve) -> Floats:
    """Training minus validation at the last three evaluations or the last fifth of them."""
    last = max(3, len(validation.levels) // 5)
    at, values = validation.level_steps[-last:], validation.levels[-last:]
    return np.interp(at, training.level_steps, training.levels) - values


def _accuracy_lost(curves: Curves) -> bool:
    accuracy = curves.validation_accuracy
    return accuracy is not None and accuracy.lasting(accuracy.levels < accuracy.levels.max() - 0.05)


def underfitting(curves: Curves) -> Iterator[Finding]:
    """Training and validation are alike, and both stay poor."""
    loss, training, validation = curves.loss, curves.accuracy, curves.validation_accuracy
    if loss is None or len(loss.levels) < 8 or not flat_between(loss, 2 * len(loss.levels) // 3, len(loss.levels)):
        return
    if training is None and not curves.by_step:
        return
    poor = training.end < 0.7 if training is not None else loss.end > 0.5 * loss.start
    alike = validation is None or training is None or training.end - validation.end < 0.06
    gained = loss.start - loss.end > 4 * loss.doubt
    if poor and alike and gained and loss.end > 0.4 * loss.start:
        yield seen(
            "underfitting",
            "warn",
            "Underfitting",
            "The loss has come to rest at a high level, for training pictures as for others: the network cannot, or is "
            "not allowed to, learn more.",
            on=loss,
            between=(float(loss.level_steps[2 * len(loss.levels) // 3]), float(loss.steps[-1])),
            remedy="Use a larger network, less weight decay, dropout or augmentation, or another learning rate; and "
            "check that the labels can be told from the pictures at all.",
            end=number(loss.end),
            start=number(loss.start),
            **({"accuracy": number(training.end)} if training else {}),
        )


def loss_floor(curves: Curves) -> Iterator[Finding]:
    """Most pictures are recognised, and still the loss does not fall."""
    loss, accuracy = curves.loss, curves.accuracy
    if loss is None or accuracy is None or len(loss.levels) < 8 or not curves.by_step:
        return
    if accuracy.end > 0.8 and loss.end > 0.5 * loss.start and loss.start > 0.5:
        yield seen(
            "loss_floor",
            "warn",
            "The loss has a floor that it should not have",
            f"{accuracy.end:.0%} are recognised, but the loss only came from {loss.start:.3g} to {loss.end:.3g}.",
            on=loss,
            between=(float(loss.level_steps[len(loss.levels) // 2]), float(loss.steps[-1])),
            remedy="Cross-entropy wants raw scores: take away a softmax or sigmoid before it. Strong label smoothing "
            "does the same on purpose.",
            start=number(loss.start),
            end=number(loss.end),
            accuracy=number(accuracy.end),
        )


def modes_differ(curves: Curves) -> Iterator[Finding]:
    """The same pictures do much worse in evaluation mode than in training mode."""
    training, evaluation = curves.train_accuracy, curves.eval_accuracy
    if training is None or evaluation is None or len(evaluation.levels) < 3:
        return
    distances = _differences(training, evaluation)
    if (distances > 0.15).all():
        yield seen(
            "modes_differ",
            "warn",
            "Evaluation mode does much worse on the same pictures",
            f"Training pictures are recognised {float(np.median(distances)):.0%} less often once the network is in "
            "evaluation mode: the statistics that BatchNorm keeps do not fit.",
            on=evaluation,
            between=(float(evaluation.level_steps[-3]), float(evaluation.steps[-1])),
            remedy="Use larger batches or GroupNorm, train longer, or raise BatchNorm's momentum; and do not run "
            "validation in training mode.",
            difference=number(float(np.median(distances))),
        )


def validation_better(curves: Curves) -> Iterator[Finding]:
    """Validation is better than training: mostly harmless, and why."""
    measured = curves.eval_accuracy is not None
    training, validation = curves.eval_accuracy or curves.train_accuracy, curves.validation_accuracy
    if training is None or validation is None or len(validation.levels) < 3:
        return
    distances = -_differences(training, validation)
    odd = measured and bool((distances > 0.05).all())
    if not odd and not (distances > 0.02).all():
        return
    numbers = {"difference": number(float(np.median(distances)))}
    place = (float(validation.level_steps[-min(3, len(validation.levels))]), float(validation.steps[-1]))
    if odd:
        yield seen(
            "validation_better",
            "warn",
            "Validation is better than training, in the same mode",
            "Dropout and augmentation cannot explain it: the validation pictures are easier, few, or seen in training.",
            on=validation,
            between=place,
            remedy="Look for pictures that are in both, with the data check, and at how the two were split.",
            **numbers,
        )
    else:
        yield seen(
            "validation_better",
            "note",
            "Validation is better than training",
            "That is fine where training is measured with dropout or augmentation, or averaged over an epoch in which "
            "the network was still learning: validation has neither.",
            on=validation,
            between=place,
            remedy="To compare like with like, measure the training pictures in evaluation mode.",
            **numbers,
        )
