"""Weights in a file from anywhere: read without running anything in it, and fitted to an architecture."""

from featviz_core.checkpoints.architecture import guess_architecture
from featviz_core.checkpoints.class_names import read_class_names
from featviz_core.checkpoints.fitting import FitReport, fit_checkpoint
from featviz_core.checkpoints.reading import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "FitReport", "fit_checkpoint", "guess_architecture", "read_checkpoint", "read_class_names"]
