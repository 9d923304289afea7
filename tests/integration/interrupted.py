"""A run that somebody stops."""

from __future__ import annotations

from collections.abc import Iterator

from personsearch.data.loader import Batch, TrainingLoader


class Stopping:
    """A loader whose second epoch never comes."""

    def __init__(self, loader: TrainingLoader) -> None:
        self.loader, self.record = loader, loader.record

    def set_epoch(self, epoch: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt
        self.loader.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)
