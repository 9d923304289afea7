"""Several processes together see the batches that one process would see, and take its steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.data.sampling import EpochBatches, UniformRounds


def batches(share: tuple[int, int], *, count: int, epoch_images: int, batch: int, start: int) -> EpochBatches:
    rank, world_size = share
    made = EpochBatches(
        UniformRounds(count, 4),
        epoch_images=epoch_images,
        batch_images=batch,
        seed=9,
        input_sizes=[(64, 48), (96, 64)],
        rank=rank,
        world_size=world_size,
    )
    made.epoch, made.start_step = 2, start
    return made


@settings(max_examples=60)
@given(
    world_size=st.integers(1, 4),
    batch=st.integers(1, 5),
    parts=st.integers(1, 12),
    count=st.integers(1, 30),
    data=st.data(),
)
def test_processes_share_each_batch_of_one(
    world_size: int, batch: int, parts: int, count: int, data: st.DataObject
) -> None:
    shape = {"count": count, "epoch_images": parts * world_size}
    whole = batches((0, 1), **shape, batch=batch * world_size, start=0)
    start = data.draw(st.integers(0, len(whole) - 1))
    ranks = [list(batches((rank, world_size), **shape, batch=batch, start=start)) for rank in range(world_size)]
    for step, expected in enumerate(list(whole)[start:]):
        together = [keys[step] for keys in ranks]
        assert [key for keys in together for key in keys] == expected
        assert len({len(keys) for keys in together}) == 1, "no process waits for another's images"
    assert {len(keys) for keys in ranks} == {len(whole) - start}


def test_an_epoch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="7 images an epoch cannot be shared by 2 processes"):
        batches((0, 2), count=9, epoch_images=7, batch=2, start=0)


def test_one_process_sees_what_it_always_saw() -> None:
    keys = [key for batch in batches((0, 1), count=5, epoch_images=5, batch=2, start=0) for key in batch]
    assert [key.index for key in keys] == UniformRounds(5, 4).order(2).tolist()
    np.testing.assert_array_equal([key.position for key in keys], np.arange(5))
