"""What the loop trains: a task turns a batch into named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.models import SearchModel


class TaskBatch:
    """A batch on its way to the device.

    Deliberately no dataclass, tuple or dictionary: Fabric casts every floating tensor inside those to the half
    type under mixed precision, and bfloat16 rounds a box coordinate of 800 px to a multiple of 4 px.

    Attributes:
        images: ``(B, H, W, 3)`` uint8 BGR, letterboxed.
        boxes: for each image ``(N, 4)`` float32 xyxy, input pixels.
        person_ids: for each image ``(N,)`` int64: identity, -1 without identity, -2 to ignore.
        names: for each image a name for error messages.
    """

    def __init__(
        self, images: Tensor, boxes: Sequence[Tensor], person_ids: Sequence[Tensor], names: Sequence[str]
    ) -> None:
        self.images = images
        self.boxes = list(boxes)
        self.person_ids = list(person_ids)
        self.names = list(names)

    def to(self, device: torch.device, non_blocking: bool = False) -> TaskBatch:
        """The same batch with its tensors on ``device``; dtypes stay."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        boxes, person_ids = [move(t) for t in self.boxes], [move(t) for t in self.person_ids]
        return TaskBatch(move(self.images), boxes, person_ids, self.names)


class Task(nn.Module, ABC):
    """One thing to train, as a module that Fabric wraps whole.

    ``task(batch)`` returns ``{"loss": ..., part: ...}``: the scalar to descend and the unweighted scalars to
    log, the same names every step. The loop knows nothing else of what is trained.
    """

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The module whose parameters are optimised and whose state a checkpoint holds.

        Anything else the task owns, a teacher for instance, stays out of the checkpoint.
        """

    @property
    def auxiliary(self) -> nn.Module | None:
        """Trained beside `trained` and saved for resuming only: adaptation layers, weights of losses; none here."""
        return None

    @abstractmethod
    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        """One step's losses."""

    def after_step(self) -> None:
        """Called on every process after each optimiser step, outside of forward and backward; does nothing here."""


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum of named losses, each times its weight, 1 where ``weights`` has none.

    Raises:
        InputError: a weight names no loss.
    """
    unknown = sorted(set(weights) - set(losses))
    if unknown:
        raise InputError(
            f"`{unknown[0]}` is no loss of this model", where="loss_weights", expected="one of " + ", ".join(losses)
        )
    return torch.stack([loss * weights.get(name, 1.0) for name, loss in losses.items()]).sum()


class SearchTask(Task):
    """A person-search network learning from labels alone: every loss times its weight (HDL, equation 9).

    Args:
        model: the network.
        loss_weights: weight of a named loss; 1 where absent.
    """

    def __init__(self, model: SearchModel, loss_weights: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self._loss_weights = dict(loss_weights)

    @property
    def trained(self) -> nn.Module:
        return self.model

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        losses = self.model.losses(batch.images, batch.boxes, batch.person_ids)
        return {"loss": weighted_sum(losses, self._loss_weights), **losses}

    def after_step(self) -> None:
        self.model.update_memories()
