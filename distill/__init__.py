"""Distillation: a student recipe, its teachers' files and a data set in, a run folder out.

A distillation is a map of criteria ``{(student tap, teacher tap): loss}``; `DistillationTask` runs the networks on the
same images, anchors and RoIs and applies it, inside the training stage's loop. Losses have a file each; a method is a
file that says which taps, which loss, which weight: ``hierarchical`` (HDL), ``kd_det`` (a detector's maps, classes and
boxes), ``kd_reid`` (a frozen look-up table). The next paper is one more file like them. `run_distillation` is the whole
stage; ``sources`` makes teachers of networks that are not of this project.
"""

from personsearch.distill.run import run_distillation
from personsearch.distill.task import Criteria, DistillationTask, Knowledge

__all__ = ["Criteria", "DistillationTask", "Knowledge", "run_distillation"]
