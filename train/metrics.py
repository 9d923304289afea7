"""One row a step in ``metrics.csv``, and the same in TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file

_LEADING = ("step", "epoch", "lr")
_LAST = "images_per_s"


class MetricsLog:
    """Writes ``metrics.csv`` and ``tensorboard/`` of a run folder; use `close` at the end.

    Rows beyond ``step`` are what a killed run did after its last checkpoint; they are cut, as the same steps
    are about to be taken again.

    Args:
        folder: the run folder.
        step: optimiser steps already taken, 0 for a new run.
        total_steps: of the whole run; TensorBoard gets at most some 10,000 of them, the CSV every one.
    """

    def __init__(self, folder: Path, *, step: int, total_steps: int) -> None:
        self._path = folder / "metrics.csv"
        self._columns = _cut(self._path, step)
        self._file = self._path.open("a", newline="", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._board_every = max(1, total_steps // 10_000)

    def write(self, step: int, epoch: int, lr: float, parts: Mapping[str, float], images_per_s: float) -> None:
        """Appends one step's row; it is on disk when this returns.

        Args:
            step: from 1.
            epoch: from 1.
            lr: the learning rate the step was taken with.
            parts: the total ``loss`` and every part, unweighted; the same names every step.
            images_per_s: rate since the step before, loading included.

        Raises:
            ValueError: the names differ from the file's columns.
        """
        columns = [*_LEADING, *parts, _LAST]
        if self._columns is None:
            self._columns = columns
            self._file.write(",".join(columns) + "\n")
        if columns != self._columns:
            raise ValueError(f"columns {', '.join(columns)}, but {self._path} has {', '.join(self._columns)}")
        # Nine digits give a float32 back exactly.
        values = [str(step), str(epoch), f"{lr:.9g}", *(f"{value:.9g}" for value in parts.values())]
        self._file.write(",".join([*values, f"{images_per_s:.1f}"]) + "\n")
        self._file.flush()
        if step % self._board_every == 0:
            for name, value in {**parts, "lr": lr, _LAST: images_per_s}.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        self._board.close()


def _cut(path: Path, step: int) -> list[str] | None:
    """Keeps the header and the rows up to ``step``; returns the columns, none where no row is kept."""
    kept: list[str] = []
    if path.is_file() and step > 0:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # A row without its line end was being written when the run was killed.
        whole = [line for line in lines[1:] if line.endswith("\n")]
        try:
            kept = [*lines[:1], *(line for line in whole if int(line.split(",")[0]) <= step)]
        except ValueError:
            raise InputError(
                "holds a row that starts with no step", where=str(path), remedy="remove the file and resume again"
            ) from None
    with atomic_file(path) as part:
        part.write_text("".join(kept), encoding="utf-8")
    return next(csv.reader(kept[:1])) if kept else None
