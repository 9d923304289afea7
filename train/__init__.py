"""Training: a recipe and a data set in, a run folder with a checkpoint out.

`run_training` is the whole stage. ``loop`` is the short loop on Lightning Fabric; all it knows of what is trained
is a `Task`: ``task(batch) -> {"loss": ..., parts}``. ``task`` has that contract and the plain person-search task,
``step`` takes one optimiser step, over several batches and processes where a recipe asks for it, ``optimiser`` has
the rate of every step, ``averaging`` a running average of the weights, ``memory`` refuses what will not fit,
``checkpoint`` is what is saved, ``metrics`` the CSV and TensorBoard, ``run_folder`` what may be resumed or
overwritten. Start reading at ``run``, then ``loop`` and ``step``.
"""

from personsearch.train.divergence import TrainingDiverged
from personsearch.train.run import run_training
from personsearch.train.task import SearchTask, Task, TaskBatch

__all__ = ["SearchTask", "Task", "TaskBatch", "TrainingDiverged", "run_training"]
