"""What FeatViz says when something cannot be done.

Every error says what was expected, what came, and what to do about it. Pages show these messages as they
are and catch nothing else, so a bug stays visible as a bug.

    FeatVizError
    ├── ImageError        a picture cannot be read, or should not be
    ├── ModelError        a model cannot be found, built or used
    │   ├── WeightsError      published weights are missing, damaged or cannot be downloaded
    │   ├── CheckpointError   a checkpoint file cannot be read, trusted or fitted to the model
    │   └── LayerError        a layer does not exist, is never called, or gives nothing that can be shown
    ├── DeviceError       the chosen device is not there, or ran out of memory
    ├── ExperimentError   an experiment, its file or its data cannot be used
    └── RunError          the log of a training run cannot be read or written
"""

from __future__ import annotations


class FeatVizError(Exception):
    """Something a user can act on: `what` happened, `why` (expected and got), and what to `do`."""

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        self.what, self.why, self.do = what, why, do
        super().__init__(" ".join(part for part in (what, why, do) if part))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.why, self.do)


def _rebuild(kind: type[FeatVizError], what: str, why: str, do: str) -> FeatVizError:
    return kind(what, why=why, do=do)


class ImageError(FeatVizError):
    """A picture cannot be read, or should not be."""


class ModelError(FeatVizError):
    """A model cannot be found, built or used."""


class WeightsError(ModelError):
    """Published weights are missing, damaged or cannot be downloaded."""


class CheckpointError(ModelError):
    """A checkpoint file cannot be read, trusted or fitted to the model."""


class LayerError(ModelError):
    """A layer does not exist, is never called, or gives nothing that can be shown."""


class DeviceError(FeatVizError):
    """The chosen device is not there, or ran out of memory."""


class ExperimentError(FeatVizError):
    """An experiment, its file or its data cannot be used. `trace`: the user's own lines that led there, if any."""

    def __init__(self, what: str, *, why: str = "", do: str = "", trace: str = "") -> None:
        super().__init__(what, why=why, do=do)
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_experiment_error, (self.what, self.why, self.do, self.trace)


class RunError(FeatVizError):
    """The log of a training run cannot be read or written."""


def _rebuild_experiment_error(what: str, why: str, do: str, trace: str) -> ExperimentError:
    return ExperimentError(what, why=why, do=do, trace=trace)
