"""Several data sets as one, each with its share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from personsearch.core.seeding import rng_for
from personsearch.data.sample import UNLABELLED, Frame, Query, Sample, SearchDataset, person_names_of

_CAMERAS_A_PART = 1000


class MixedDataset:
    """Draws each index from one of several data sets, by a seeded choice that never changes.

    The first data set keeps its identities; people of the others become unlabelled, and their cameras are counted
    from 1000 on, 2000 on and so forth, as they are none of the first's. A mix is for training: it has no queries, as
    an index may show a frame of any of its parts.

    Args:
        first: the data set whose identities are learnt; index i of the mix is its frame i, where it is drawn.
        others: data sets that only teach what a person looks like.
        weights: share of each of ``others``; together at most 1, the rest is ``first``'s.
        seed: of the choice.

    Attributes:
        parts: the data sets, the first one first.

    Raises:
        ValueError: weights that do not fit.
    """

    queries: tuple[Query, ...] = ()

    def __init__(
        self, first: SearchDataset, others: Sequence[SearchDataset], weights: Sequence[float], seed: int
    ) -> None:
        if len(weights) != len(others) or min(weights, default=0) < 0 or sum(weights) > 1:
            raise ValueError(f"weights {list(weights)} do not fit {len(others)} data sets")
        self._first, self._others, self._seed = first, list(others), seed
        self._limits = np.cumsum(np.asarray(weights, dtype=np.float64))
        self.parts: tuple[SearchDataset, ...] = (first, *others)
        self.name = " + ".join(dict.fromkeys(part.name for part in self.parts))
        self.terms = "; ".join(dict.fromkeys(part.terms for part in self.parts))
        self.person_count, self.person_names = first.person_count, person_names_of(first)

    def __len__(self) -> int:
        return len(self._first)

    def _source(self, index: int) -> tuple[SearchDataset, int, int]:
        """Data set, index in it, and its place among the parts."""
        rng = rng_for(self._seed, "mix", index)
        part = int(np.searchsorted(self._limits, rng.random(), side="right"))
        if part == len(self._others):
            return self._first, index, 0
        other = self._others[part]
        return other, int(rng.integers(len(other))), part + 1

    def __getitem__(self, index: int) -> Sample:
        source, inner, part = self._source(index)
        sample = source[inner]
        if part == 0:
            return sample
        ids = np.where(sample.person_ids >= 0, UNLABELLED, sample.person_ids)
        camera_id = _CAMERAS_A_PART * part + sample.camera_id
        return replace(sample, person_ids=ids, camera_id=camera_id)

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR; `InputError` where its file cannot be read."""
        source, inner, _ = self._source(index)
        return source.frame_bgr(inner)
