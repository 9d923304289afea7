"""Distillation: a student recipe, its teacher's checkpoint and a data set in, a run folder out.

A distillation is a map of criteria ``{(student tap, teacher tap): loss}``; `DistillationTask` runs both networks on
the same images and the same RoIs and applies it, inside the training stage's loop. ``attention_transfer`` and
``prediction`` are losses, ``hierarchical`` is HDL: which taps, which loss, which weight. The next paper is one
more file like it. `run_distillation` is the whole stage.
"""

from personsearch.distill.run import run_distillation
from personsearch.distill.task import Criteria, DistillationTask

__all__ = ["Criteria", "DistillationTask", "run_distillation"]
