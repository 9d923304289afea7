"""The gallery against a plain list that does the same slowly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from personsearch.core.similarity import l2_normalise
from personsearch.runtime.gallery import Gallery

DIM, CAPACITY = 3, 7


class GalleryMachine(RuleBasedStateMachine):
    """Any order of calls; ``rows`` is the twin: (id, time, embedding)."""

    def __init__(self) -> None:
        super().__init__()
        self.gallery = Gallery(DIM, CAPACITY)
        self.rows: list[tuple[int, float, np.ndarray]] = []
        self.next_id = 0

    @rule(count=st.integers(0, 9), time_s=st.integers(0, 20), seed=st.integers(0, 2**16))
    def add(self, count: int, time_s: int, seed: int) -> None:
        rows = l2_normalise(np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32))
        ids = self.gallery.add(rows, float(time_s))
        assert ids == list(range(self.next_id, self.next_id + count))
        self.next_id += count
        self.rows += [(id_, float(time_s), row) for id_, row in zip(ids, rows, strict=True)]
        self.rows.sort(key=lambda row: (row[1], row[0]))
        del self.rows[: max(0, len(self.rows) - CAPACITY)]

    @rule(ids=st.lists(st.integers(0, 40)))
    def remove(self, ids: list[int]) -> None:
        kept = [row for row in self.rows if row[0] not in ids]
        assert self.gallery.remove(ids) == len(self.rows) - len(kept)
        self.rows = kept

    @rule(before_s=st.integers(0, 21))
    def expire(self, before_s: int) -> None:
        kept = [row for row in self.rows if row[1] >= before_s]
        assert self.gallery.expire(before_s) == len(self.rows) - len(kept)
        self.rows = kept

    @rule(limit=st.integers(0, 9), seed=st.integers(0, 2**16), floor=st.sampled_from([-1.0, 0.0, 0.5]))
    def search(self, limit: int, seed: int, floor: float) -> None:
        queries = l2_normalise(np.random.default_rng(seed).normal(size=(2, DIM)).astype(np.float32))
        for query, hits in zip(queries, self.gallery.search(queries, limit, floor), strict=True):
            scored = sorted((-float(row @ query), id_, time_s) for id_, time_s, row in self.rows)[:limit]
            expected = [(id_, time_s) for negative, id_, time_s in scored if -negative >= floor]
            assert [(hit.id, hit.time_s) for hit in hits] == expected
            np.testing.assert_allclose(
                [hit.similarity for hit in hits], [-row[0] for row in scored[: len(hits)]], atol=1e-6
            )

    @invariant()
    def same_size(self) -> None:
        assert len(self.gallery) == len(self.rows) <= CAPACITY


TestGallery = GalleryMachine.TestCase
TestGallery.settings = settings(max_examples=60, stateful_step_count=25)


@pytest.mark.parametrize(
    ("rows", "time_s"),
    [
        (np.zeros((1, 2), np.float32), 0.0),
        (np.zeros(3, np.float32), 0.0),
        (np.full((1, 3), np.nan, np.float32), 0.0),
        (np.zeros((1, 3), np.float32), float("nan")),
    ],
)
def test_refuses_what_would_poison_a_search(rows: np.ndarray, time_s: float) -> None:
    gallery = Gallery(DIM, CAPACITY)
    with pytest.raises(ValueError, match=r"shape|finite"):
        gallery.add(rows, time_s)
    assert len(gallery) == 0


def test_searching_an_empty_gallery() -> None:
    assert Gallery(DIM, CAPACITY).search(np.eye(3, dtype=np.float32), 5) == [[], [], []]


def test_removed_embeddings_do_not_stay_in_memory() -> None:
    gallery = Gallery(DIM, CAPACITY)
    ids = gallery.add(np.full((5, DIM), 0.577, np.float32), 1.0)
    gallery.remove(ids[1:3])
    gallery.expire(2.0)
    assert not gallery._embeddings.any()


@pytest.mark.parametrize(("dim", "capacity"), [(0, 5), (5, 0)])
def test_impossible_sizes(dim: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        Gallery(dim, capacity)
