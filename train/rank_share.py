"""The part of a data set that one of several training processes sees."""

from __future__ import annotations

from personsearch.core.errors import InputError
from personsearch.data.sample import Frame, Query, Sample, SearchDataset


class RankShare:
    """Every ``world_size``-th image of a data set, from ``rank`` on; identities stay those of the whole.

    Raises:
        InputError: there are fewer images than processes.
    """

    def __init__(self, dataset: SearchDataset, rank: int, world_size: int) -> None:
        if len(dataset) < world_size:
            raise InputError(
                f"has {len(dataset)} images for {world_size} processes",
                where=dataset.name,
                expected="at least one image a process",
            )
        self._dataset = dataset
        self._indices = range(rank, len(dataset), world_size)
        self.name, self.terms, self.person_count = dataset.name, dataset.terms, dataset.person_count
        self.queries: tuple[Query, ...] = ()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def frame_bgr(self, index: int) -> Frame:
        """The frame of ``index``, ``(H, W, 3)`` uint8."""
        return self._dataset.frame_bgr(self._indices[index])
