"""Attention transfer: where a network looks, compared as unit vectors (HDL, equations 4 to 6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "norm"]


def spatial_vectors(maps: Tensor) -> Tensor:
    """Sum of squares over the channels, vectorised and scaled to unit length (HDL, equation 4).

    Half precision is raised to float32 first: squares of activations overflow it.

    Args:
        maps: ``(N, C, h, w)``, feature or attention maps.

    Returns:
        ``(N, h * w)``, rows of length 1; a row of zeros where the map is all zero.
    """
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
    # The unit vector does not depend on the map's scale, so the division is free; it keeps the squares from
    # under- and overflowing.
    scale = wide.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    energy = (wide / scale.where(scale > 0, 1)).square().sum(dim=1).flatten(1)  # (N, h * w)
    length: Tensor = torch.linalg.vector_norm(energy, dim=1, keepdim=True)
    return energy / length.where(length > 0, 1)


def attention_transfer_loss(student: Tensor, teacher: Tensor, *, reduction: Reduction) -> Tensor:
    """Distance between the unit spatial vectors of two networks' maps (HDL, equations 5 and 6, one level).

    A scene map gives one vector an image, a person map one vector a RoI; the mean over the rows is taken. The
    paper writes one vector a level and is silent about batches.

    ``norm`` is the printed ``1/2 * ||u_S - u_T||_2``, at most ``sqrt(2) / 2``. ``mean`` is the mean squared
    difference, smaller by a factor of the order of ``h * w``: the printed weights of 2e3 and 2e4 are of the
    size of the other losses only with it.

    Args:
        student: ``(N, C_s, h, w)``.
        teacher: ``(N, C_t, h, w)``; its channels may differ, its rows and its size may not.
        reduction: see above.

    Returns:
        A scalar; exactly 0, with a gradient path, where ``N`` is 0.

    Raises:
        ValueError: rows or spatial sizes differ, or the reduction is unknown.
    """
    if student.ndim != 4 or teacher.ndim != 4:
        raise ValueError(f"maps are {tuple(student.shape)} and {tuple(teacher.shape)}, expected (N, C, h, w)")
    if student.shape[0] != teacher.shape[0] or student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"the student's map is {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}: "
            "rows, height and width must be equal"
        )
    if student.shape[0] == 0:
        return student.sum() * 0
    difference = spatial_vectors(student) - spatial_vectors(teacher)  # (N, h * w)
    squared = difference.square()
    if reduction == "mean":
        return squared.mean()
    if reduction == "norm":
        total = squared.sum(dim=1)
        # The root has an infinite slope at 0: equal maps must give gradient 0, not NaN.
        distance = total.where(total > 0, 1).sqrt() * (total > 0)
        return distance.mean() / 2
    raise ValueError(f"reduction is {reduction!r}, expected 'mean' or 'norm'")
