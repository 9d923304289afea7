"""The OIM loss against its equations in plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personsearch.losses.memory import LookupTable, RingQueue
from personsearch.losses.oim import oim_loss

PERSONS, SIZE, DIM = 4, 3, 5


def unit_rows(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)))


def memories(filled: bool = True) -> tuple[LookupTable, RingQueue]:
    table, queue = LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)
    if filled:
        table.update(unit_rows(PERSONS, 1), torch.arange(PERSONS))
        queue.update(unit_rows(2, 2), torch.tensor([-1, -1]))
    return table, queue


def slow_loss(embeddings: Tensor, ids: list[int], table: LookupTable, queue: RingQueue, scale: float) -> float:
    """Equations 1 to 4, with a sum for every word "sum" in them."""
    columns = [*table.rows.tolist(), *queue.rows.tolist()]
    losses = []
    for row, person in zip(embeddings.tolist(), ids, strict=True):
        if person >= 0:
            powers = [math.exp(scale * sum(a * b for a, b in zip(row, column, strict=True))) for column in columns]
            losses.append(-math.log(powers[person] / sum(powers)))
    return sum(losses) / max(1, len(losses))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-2, PERSONS - 1), max_size=8), st.sampled_from([1.0, 10.0, 30.0]), st.booleans())
def test_equals_the_equations(ids: list[int], scale: float, filled: bool) -> None:
    table, queue = memories(filled)
    embeddings = unit_rows(len(ids), 3)
    found = oim_loss(embeddings, torch.tensor(ids, dtype=torch.int64), table, queue, scale=scale)
    assert float(found) == pytest.approx(slow_loss(embeddings, ids, table, queue, scale), rel=1e-4, abs=1e-6)


def test_empty_memories_give_the_logarithm_of_their_rows() -> None:
    # 5532 identities and 5000 strangers: the early loss of CUHK-SYSU, log(10532) = 9.26.
    table, queue = LookupTable(5532, DIM), RingQueue(5000, DIM)
    loss = oim_loss(unit_rows(3, 0), torch.tensor([5531, -1, 7]), table, queue)
    assert float(loss) == pytest.approx(9.2622, abs=1e-4)


def test_gradient_is_the_closed_form_with_constant_memories() -> None:
    table, queue = memories()
    embeddings, ids = unit_rows(3, 4).requires_grad_(), torch.tensor([2, -1, 0])
    oim_loss(embeddings, ids, table, queue, scale=10.0).backward()
    columns = torch.cat([table.rows, queue.rows])
    chances = (10 * embeddings.detach() @ columns.T).softmax(dim=1)
    expected = 10 * (chances @ columns - columns[ids]) / 2  # d loss / d x, equation 5 of the paper; two labelled
    expected[1] = 0  # nobody's row
    torch.testing.assert_close(embeddings.grad, expected)


@pytest.mark.parametrize("ids", [[], [-1, -2]])
def test_nobody_labelled_gives_zero_and_a_zero_gradient(ids: list[int]) -> None:
    table, queue = memories()
    embeddings = unit_rows(len(ids), 0).requires_grad_()
    loss = oim_loss(embeddings, torch.tensor(ids, dtype=torch.int64), table, queue)
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_the_loss_writes_nothing() -> None:
    table, queue = memories()
    before = [value.clone() for memory in (table, queue) for value in memory.buffers()]
    oim_loss(unit_rows(2, 0).requires_grad_(), torch.tensor([1, -1]), table, queue).backward()
    after = [value for memory in (table, queue) for value in memory.buffers()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_an_identity_beyond_the_table_is_not_taken_for_a_queue_slot() -> None:
    table, queue = memories()
    with pytest.raises(ValueError, match="person id 4 with only 4 identities"):
        oim_loss(unit_rows(1, 0), torch.tensor([PERSONS]), table, queue)
    with pytest.raises(ValueError, match="do not fit"):
        oim_loss(unit_rows(2, 0), torch.tensor([0]), table, queue)
