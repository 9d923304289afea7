"""What a student is compared with: another network, or a table of identities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from personsearch.models import SearchModel
from personsearch.models.search_model import TrainOutput
from personsearch.train.task import TaskBatch

Precision = Literal["same", "float32", "bfloat16", "float16"]
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Teacher(nn.Module, ABC):
    """A source of taps that does not learn: always in evaluation mode, no gradient, in no checkpoint."""

    def begin(self, batch: TaskBatch) -> None:
        """Starts what needs no answer of the student, to go on beside its forward pass; nothing here.

        `taps` of the same batch follows.
        """

    @abstractmethod
    def taps(self, batch: TaskBatch, output: TrainOutput, wanted: Collection[str]) -> dict[str, Tensor]:
        """What it knows at the student's own RoIs and anchors, by name; more than is wanted, or less.

        Args:
            batch: what the student saw.
            output: the student's.
            wanted: names of the taps that are asked for.
        """

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode: batch statistics and dropout are fixed."""
        super().train(False)
        return self


class NetworkTeacher(Teacher):
    """A trained network.

    Args:
        model: the network; its parameters are frozen.
        precision: of its forward pass: ``same`` as the student's, or a type of its own. Weights stay as they are.
        sha256: of its checkpoint.
    """

    def __init__(self, model: SearchModel, precision: Precision = "same", *, sha256: str = "") -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.sha256 = sha256
        self._precision: Precision = precision

    def taps(self, batch: TaskBatch, output: TrainOutput, wanted: Collection[str]) -> dict[str, Tensor]:
        # Only a teacher that is asked about anchors needs to have the student's.
        anchors = output.anchors if any(name.startswith("rpn_") for name in wanted) else None
        with torch.no_grad(), _precision(batch.images.device.type, self._precision):
            return self.model.taps(batch.images, output.rois, anchors)


class TableTeacher(Teacher):
    """A frozen look-up table, whose one tap ``lookup_table`` is the same for every image.

    Args:
        table: ``(P, D)`` float32, one unit row an identity.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def taps(self, batch: TaskBatch, output: TrainOutput, wanted: Collection[str]) -> dict[str, Tensor]:
        return {"lookup_table": self.table}


def _precision(device_type: str, precision: Precision) -> AbstractContextManager[object]:
    if precision == "same":
        return nullcontext()
    if precision == "float32":
        return torch.autocast(device_type, enabled=False)
    return torch.autocast(device_type, dtype=_DTYPES[precision])
