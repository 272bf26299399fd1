"""What a training script keeps: a monitor that writes down how it goes."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featviz_core.errors import RunError
from featviz_core.runs import tags
from featviz_core.runs.writing import Sink, TensorBoardSink, free_folder
from featviz_core.techniques.training_monitor.inspector import Inspector
from featviz_core.techniques.training_monitor.ranks import ranks
from featviz_core.techniques.training_monitor.recorder import Recorder


class TrainingMonitor:
    """How does my training go? Writes a run that TensorBoard and FeatViz can open while it grows.

        with fv.TrainingMonitor("runs/first", model, optimizer) as monitor:
            for epoch in range(epochs):
                for images, targets in loader:
                    ...  # the step, as it always was
                    monitor.update(loss=loss, accuracy=accuracy)
                monitor.validate(loss=..., accuracy=...)

    - `logdir`: the run's folder. If it holds a run already, the new one goes beside it (`first-2`); see `.logdir`.
    - `model`: looked into at each `every`-th step: activations and, with `optimizer`, gradient norms and update
      ratios; now and then histograms; after each validation what it says of `samples`, and where it looks; once its
      graph. Looking takes 1.5 % of the time and half a second: what would take more is left out. The model, its
      hooks and modes, its gradients and the random state stay as they are, so the training goes as it does without.
      Of a model that `torch.compile` made, activations are not looked at.
    - `optimizer`: where the learning rate is read, as it was in the step.
    - `samples`: pictures (N, C, H, W) as the model takes them, or `(pictures, targets)`; left out, the first four of
      the training. `class_names`: for their captions.
    - `wandb`: arguments of `wandb.init` (`{"project": "shapes", "name": "first", "mode": "offline"}`), to write the
      run to Weights & Biases as well; what it keeps on this machine goes beside `logdir`.

    Make it after `init_process_group`, in every process: values are averaged, and the first process writes them.
    Everything is on disk within a second, whatever happens to the script; after `close`, all of it.
    To take a run up again, keep `state_dict()` in the checkpoint and `load_state_dict()` it before the first step.
    The tags stand in `featviz_core.runs.tags`. Raises `RunError` where nothing can be written.
    """

    def __init__(
        self,
        logdir: str | Path,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int = 20,
        samples: Tensor | tuple[Tensor, Sequence[int] | Tensor] | None = None,
        class_names: Sequence[str] = (),
        wandb: Mapping[str, Any] | None = None,
    ) -> None:
        if every < 1:
            raise RunError(f"Every {every} steps is not possible.", why="Expected a whole number of at least 1.")
        self.logdir, self.step, self.epoch = Path(logdir), 0, 0
        self._wandb, self._resumed, self._closed = wandb, False, False
        processes = ranks()
        self._recorder = Recorder(self._sinks, processes)
        self._inspector: Inspector | None = None
        if processes.writes:
            self._inspector = Inspector(model, optimizer, self._recorder, every, samples, class_names)
            self._inspector.prepare(0)
        atexit.register(self.close)

    def update(self, *, loss: Any = None, accuracy: Any = None, lr: float | None = None) -> None:
        """One training step is done. `loss`, `accuracy`: numbers or tensors of one; a GPU is not waited for.

        Raises `RunError` for what is no number, and after `close`.
        """
        self._check_open()
        rates = {} if lr is None else {tags.LR: lr}
        if lr is None and self._inspector is not None:
            rates = self._inspector.rates()
        values = {
            tags.of_split(tags.LOSS, tags.TRAIN): loss,
            tags.of_split(tags.ACCURACY, tags.TRAIN): accuracy,
            **rates,
        }
        self._recorder.add("update", self.step, values)
        if self._inspector is not None:
            self._inspector.look(self.step)
            self._inspector.prepare(self.step + 1)
        self.step += 1

    def validate(
        self, *, loss: Any = None, accuracy: Any = None, train_loss: Any = None, train_accuracy: Any = None
    ) -> None:
        """One validation is done, which ends an epoch. `train_loss`, `train_accuracy`: of training pictures, by the
        model in evaluation mode as well, so that both can be compared. Raises as `update` does."""
        self._check_open()
        self.epoch += 1
        values = {
            tags.of_split(tags.LOSS, tags.VALIDATION): loss,
            tags.of_split(tags.ACCURACY, tags.VALIDATION): accuracy,
            tags.of_split(tags.LOSS, tags.TRAIN_EVAL): train_loss,
            tags.of_split(tags.ACCURACY, tags.TRAIN_EVAL): train_accuracy,
            tags.EPOCH: self.epoch,
        }
        self._recorder.add("validate", max(0, self.step - 1), values)
        if self._inspector is not None:
            self._inspector.draw(max(0, self.step - 1))

    def save_model(self, file: str | Path, name: str = "model") -> None:
        """Keep a file with the model's weights with the run: an artifact on Weights & Biases, which has to be asked
        for; TensorBoard keeps no files. Raises `RunError` where there is no such file."""
        self._check_open()
        if not Path(file).is_file():
            raise RunError(f"There is no model at {file}.", do="Save it first: torch.save(model.state_dict(), file).")
        if self._inspector is not None:
            self._recorder.send(lambda sink: sink.model_file(Path(file), name))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep so that the run can be taken up again."""
        return {"step": self.step, "epoch": self.epoch, "logdir": str(self.logdir)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a run up again, in its own folder: what it wrote for later steps than the checkpoint's is replaced.

        Raises `RunError` after the first step.
        """
        self._check_open()
        if self._recorder.opened:
            raise RunError("The run cannot be taken up here.", why="It has begun.", do="Load before the first step.")
        self.step, self.epoch, self.logdir = int(state["step"]), int(state["epoch"]), Path(state["logdir"])
        self._resumed = True
        if self._inspector is not None:
            self._inspector.prepare(self.step)

    def close(self) -> None:
        """Everything is on disk afterwards, and nothing is left on the optimiser. Can be called again."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            if self._inspector is not None:
                self._inspector.close()
            self._recorder.close()

    def _sinks(self) -> list[Sink]:
        with nullcontext(self.logdir) if self._resumed else free_folder(self.logdir) as self.logdir:
            sinks: list[Sink] = [TensorBoardSink(self.logdir, purge_step=self.step if self._resumed else None)]
        if self._wandb is not None:
            from featviz_core.runs.wandb_writer import WandbSink

            sinks.append(WandbSink(self.logdir.parent, self._wandb))
        return sinks

    def _check_open(self) -> None:
        if self._closed:
            raise RunError("The monitor is closed.", do="Make a new one for a new run.")

    def __enter__(self) -> TrainingMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
