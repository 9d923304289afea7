"""Whatever the set, the epoch and the batch: everyone is seen, and an epoch may start at any step."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.data.sampling import EpochBatches, IdentityRounds, UniformRounds

SIZES = [(64, 48), (96, 64)]


@settings(max_examples=80)
@given(count=st.integers(1, 20), epoch_images=st.integers(1, 50), batch=st.integers(1, 9), seed=st.integers(0, 99))
def test_epochs_walk_through_whole_permutations(count: int, epoch_images: int, batch: int, seed: int) -> None:
    batches = EpochBatches(
        UniformRounds(count, seed), epoch_images=epoch_images, batch_images=batch, seed=seed, input_sizes=SIZES
    )
    flat: list[int] = []
    for epoch in range(3):
        batches.epoch = epoch
        steps = list(batches)
        assert len(steps) == len(batches)
        assert [key.position for step in steps for key in step] == list(range(epoch_images))
        flat += [key.index for step in steps for key in step]
    for start in range(0, len(flat), count):
        run = flat[start : start + count]
        assert len(set(run)) == len(run)
        if len(run) == count:
            assert sorted(run) == list(range(count))


@settings(max_examples=80)
@given(
    count=st.integers(1, 30),
    people=st.integers(1, 8),
    group=st.integers(2, 5),
    share=st.floats(0, 0.6),
    seed=st.integers(0, 999),
)
def test_identity_rounds_show_every_image_and_repeat_fewer_than_a_group(
    count: int, people: int, group: int, share: float, seed: int
) -> None:
    labelled = np.random.default_rng(seed).random((people, count)) < share
    members = [np.flatnonzero(row) for row in labelled]
    rounds = IdentityRounds(members, count, group, seed)
    for number in range(2):
        order = rounds.order(number)
        assert len(order) == rounds.length
        assert rounds.length % group == 0
        assert rounds.length - count < group
        # The repeats, if any, are the last ones.
        assert sorted(order[:count].tolist()) == list(range(count))
        np.testing.assert_array_equal(order, IdentityRounds(members, count, group, seed).order(number))


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(2, 9), min_size=1, max_size=8), group=st.integers(2, 4), seed=st.integers(0, 999))
def test_each_identity_forms_as_many_whole_groups_as_it_has_images_for(sizes: list[int], group: int, seed: int) -> None:
    owner = np.repeat(np.arange(len(sizes)), sizes)  # one person a frame
    members = [np.flatnonzero(owner == person) for person in range(len(sizes))]
    rows = IdentityRounds(members, len(owner), group, seed).order(0).reshape(-1, group)
    whole = [
        int(owner[row[0]]) for row in rows if len(set(row.tolist())) == group and len(set(owner[row].tolist())) == 1
    ]
    for person, size in enumerate(sizes):
        assert whole.count(person) >= size // group


@settings(max_examples=60)
@given(
    count=st.integers(4, 24),
    epoch_groups=st.integers(1, 20),
    batch_groups=st.integers(1, 4),
    start=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_an_identity_epoch_starts_at_any_step(
    count: int, epoch_groups: int, batch_groups: int, start: int, seed: int
) -> None:
    members = [np.arange(0, count, 2), np.arange(1, count, 2)]

    def keys(epoch: int, start_step: int) -> list[list[object]]:
        batches = EpochBatches(
            IdentityRounds(members, count, 3, seed),
            epoch_images=3 * epoch_groups,
            batch_images=3 * batch_groups,
            seed=seed,
            input_sizes=SIZES,
        )
        batches.epoch, batches.start_step = epoch, start_step
        return [list(batch) for batch in batches]

    assert keys(2, start) == keys(2, 0)[start:]
