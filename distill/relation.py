"""Relation distillation: who resembles whom, as the teacher sees it (not part of HDL).

A teacher that knows its training people well gives identity distributions of nearly one value, from which little is
left to learn. How alike it finds different people, and two views of one, is richer, and it needs neither equal widths
nor an adaptation layer. After Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019; theirs
normalises rows of the Gram matrix of raw activations, ours takes cosines of embeddings, as matching does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def relation_loss(student_embedding: Tensor, teacher_embedding: Tensor, person_ids: Tensor) -> Tensor:
    """Mean squared difference between the two networks' cosines of every pair of people.

    Rows without a labelled person do not take part, as in `prediction_loss`; nor do pairs of a row with itself, which
    are 1 for everybody.

    Args:
        student_embedding: ``(R, D_s)``, before normalisation.
        teacher_embedding: ``(R, D_t)``, of the same RoIs; no gradient is taken through it.
        person_ids: ``(R,)`` int64; negative rows do not count.

    Returns:
        A scalar in [0, 4]; exactly 0, with a gradient path, where fewer than two rows are labelled.

    Raises:
        ValueError: the numbers of rows differ.
    """
    if not len(student_embedding) == len(teacher_embedding) == len(person_ids):
        raise ValueError(
            f"{len(student_embedding)} rows of the student, {len(teacher_embedding)} of the teacher, "
            f"{len(person_ids)} person ids: expected equal numbers"
        )
    labelled = person_ids >= 0
    count = int(labelled.sum())
    if count < 2:
        return student_embedding.sum() * 0
    difference = _cosines(student_embedding[labelled]) - _cosines(teacher_embedding[labelled].detach())
    return difference.square().sum() / (count * (count - 1))  # the diagonal adds 0


def _cosines(embedding: Tensor) -> Tensor:
    wide = F.normalize(embedding.to(torch.promote_types(embedding.dtype, torch.float32)))
    cosines = wide @ wide.T
    return cosines - torch.diag(cosines.diagonal())
