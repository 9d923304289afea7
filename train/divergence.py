"""Training that has left the finite numbers stops, and says where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class TrainingDiverged(Exception):
    """A loss, the gradient or the weights are no longer finite.

    Nothing of the step is kept: the run's last checkpoint stands.

    Args:
        part: the loss, or ``gradient`` or ``weights``.
        value: what it became.
        epoch: from 1.
        step: optimiser step of the whole run, from 1.
        names: the images of the batch.
    """

    def __init__(self, part: str, value: float, *, epoch: int, step: int, names: Sequence[str]) -> None:
        self.part, self.value, self.epoch, self.step, self.names = part, value, epoch, step, tuple(names)
        super().__init__(
            f"training diverged: `{part}` became {value} in epoch {epoch}, step {step}; images: {', '.join(names)}; "
            "the last checkpoint is untouched; try a lower optimiser.lr, a warm-up or a lower clip_norm"
        )


def first_non_finite(parts: Mapping[str, float]) -> str | None:
    """The name of the first value that is NaN or infinite; the total ``loss`` only where no part is."""
    broken = [name for name, value in parts.items() if not math.isfinite(value)]
    return next((name for name in broken if name != "loss"), broken[0] if broken else None)


def non_finite_value(state: Mapping[str, Tensor]) -> float | None:
    """The first NaN or infinite value in a state dict's floating tensors, none where all are finite."""
    for tensor in state.values():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return float(tensor[~torch.isfinite(tensor)][0])
    return None
