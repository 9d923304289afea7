"""Look-up table and queue against slow twins that write row by row, and across two processes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, multiprocessing

from personsearch.losses.memory import LookupTable, RingQueue

PERSONS, SIZE, DIM = 4, 5, 6


def unit_rows(count: int, seed: int, dim: int = DIM) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)))


def slow_table(batches: list[tuple[Tensor, list[int]]], momentum: float, renormalise: bool) -> list[list[float]]:
    """The published loop: one row after the other, in Python numbers."""
    rows = [[0.0] * DIM for _ in range(PERSONS)]
    for embeddings, ids in batches:
        for new, person in zip(embeddings.tolist(), ids, strict=True):
            if person < 0:
                continue
            mixed = [momentum * old + (1 - momentum) * value for old, value in zip(rows[person], new, strict=True)]
            length = sum(value**2 for value in mixed) ** 0.5
            rows[person] = [value / length for value in mixed] if renormalise and length else mixed
    return rows


def slow_queue(batches: list[tuple[Tensor, list[int]]], size: int, dims: int) -> tuple[list[list[float]], int]:
    rows, pointer = [[0.0] * DIM for _ in range(size)], 0
    for embeddings, ids in batches:
        for new, person in zip(embeddings.tolist(), ids, strict=True):
            if person == -1:
                rows[pointer][:dims] = new[:dims]
                pointer = (pointer + 1) % size
    return rows, pointer


batch_ids = st.lists(st.lists(st.integers(-2, PERSONS - 1), max_size=12), max_size=4)


def with_rows(ids: list[list[int]]) -> list[tuple[Tensor, list[int]]]:
    return [(unit_rows(len(batch), seed), batch) for seed, batch in enumerate(ids)]


@settings(deadline=None, max_examples=60)
@given(batch_ids, st.sampled_from([0.0, 0.5, 0.9]), st.booleans())
def test_table_equals_writing_row_after_row(ids: list[list[int]], momentum: float, renormalise: bool) -> None:
    table, batches = LookupTable(PERSONS, DIM, momentum=momentum, renormalise=renormalise), with_rows(ids)
    for embeddings, batch in batches:
        table.update(embeddings, torch.tensor(batch, dtype=torch.int64))
    torch.testing.assert_close(table.rows, torch.tensor(slow_table(batches, momentum, renormalise)))
    if renormalise:
        lengths = table.rows.norm(dim=1)
        seen = {person for batch in ids for person in batch if person >= 0}
        expected = torch.tensor([float(person in seen) for person in range(PERSONS)])
        torch.testing.assert_close(lengths, expected)


@settings(deadline=None, max_examples=60)
@given(batch_ids, st.integers(1, 7), st.sampled_from([None, 1, 4]))
def test_queue_equals_writing_row_after_row(ids: list[list[int]], size: int, dims: int | None) -> None:
    queue, batches = RingQueue(size, DIM, write_dims=dims), with_rows(ids)
    for embeddings, batch in batches:
        queue.update(embeddings, torch.tensor(batch, dtype=torch.int64))
    rows, pointer = slow_queue(batches, size, dims or DIM)
    torch.testing.assert_close(queue.rows, torch.tensor(rows))
    assert int(queue.pointer) == pointer


def test_first_sight_and_second_sight_by_hand() -> None:
    table = LookupTable(2, 2)
    table.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    torch.testing.assert_close(table.rows, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    table.update(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    torch.testing.assert_close(table.rows[1], torch.tensor([0.5**0.5, 0.5**0.5]))


def test_the_published_layer_s_rows_are_short_and_narrow() -> None:
    table, queue = LookupTable(1, 4, renormalise=False), RingQueue(2, 4, write_dims=2)
    row = torch.full((1, 4), 0.5)
    table.update(row, torch.tensor([0]))
    queue.update(row, torch.tensor([-1]))
    assert table.rows.tolist() == [[0.25] * 4]
    assert queue.rows.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_more_strangers_than_the_queue_holds_leave_the_last_ones() -> None:
    queue, strangers = RingQueue(3, DIM), unit_rows(8, 0)
    queue.update(strangers[:1], torch.tensor([-1]))
    queue.update(strangers[1:], torch.full((7,), -1))
    held = {tuple(row) for row in queue.rows.tolist()}
    assert held == {tuple(row) for row in strangers[-3:].tolist()}
    assert int(queue.pointer) == 8 % 3


def test_background_is_remembered_nowhere_and_an_empty_batch_changes_nothing() -> None:
    table, queue = LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)
    for count in (0, 3):
        ids = torch.full((count,), -2)
        table.update(unit_rows(count, 0), ids)
        queue.update(unit_rows(count, 0), ids)
    assert not table.rows.any()
    assert not queue.rows.any()
    assert int(queue.pointer) == 0


def test_a_queue_of_no_rows_is_no_queue() -> None:
    queue = RingQueue(0, DIM)
    queue.update(unit_rows(2, 0), torch.tensor([-1, -1]))
    assert queue(unit_rows(2, 0)).shape == (2, 0)


def test_reading_gives_gradients_to_the_embeddings_only_and_writing_may_follow_backward() -> None:
    table, embeddings = LookupTable(PERSONS, DIM), unit_rows(3, 1).requires_grad_()
    ids = torch.tensor([0, 1, 3])
    table.update(unit_rows(3, 2), ids)
    before = table.rows.clone()
    table(embeddings)[:, 1].sum().backward()
    torch.testing.assert_close(embeddings.grad, before[1].expand(3, DIM))
    assert not list(table.parameters())
    table.update(embeddings, ids)
    assert not table.rows.requires_grad


def test_half_precision_rows_are_read_and_written_in_full() -> None:
    table = LookupTable(PERSONS, DIM)
    rows = unit_rows(2, 0)
    with torch.autocast("cpu", torch.bfloat16):
        table.update(rows.bfloat16(), torch.tensor([0, 1]))
        products = table(rows)
    assert products.dtype == table.rows.dtype == torch.float32
    torch.testing.assert_close(table.rows[:2].norm(dim=1), torch.ones(2))


def test_resuming_from_the_state_dict_continues_exactly(tmp_path: Path) -> None:
    ids = torch.tensor([-1, 0, -1, -1, 2, -1])
    whole = torch.nn.ModuleList([LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)])
    for memory in whole:
        memory.update(unit_rows(6, 0), ids)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    resumed = torch.nn.ModuleList([LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)])
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for memories in (whole, resumed):
        for memory in memories:
            memory.update(unit_rows(6, 1), ids)
    assert int(whole[1].pointer) == 8 % SIZE
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (unit_rows(2, 0), torch.tensor([0]), r"\(2, 6\) and person ids \(1,\), expected \(R, 6\)"),
        (unit_rows(2, 0, dim=3), torch.tensor([0, 1]), r"expected \(R, 6\)"),
        (unit_rows(1, 0), torch.tensor([PERSONS]), "person id 4 with only 4 rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Tensor, ids: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LookupTable(PERSONS, DIM).update(rows, ids)


@pytest.mark.parametrize("dims", [0, DIM + 1])
def test_more_dimensions_than_a_row_has_cannot_be_written(dims: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 6"):
        RingQueue(SIZE, DIM, write_dims=dims)


def rank_rows(rank: int, step: int) -> tuple[Tensor, Tensor]:
    """Rows of one process: of different number, one step with none at all on rank 0, one with none anywhere."""
    count = ((0, 3), (4, 2), (0, 0))[step][rank]
    return unit_rows(count, 10 * step + rank), torch.tensor([-1, rank, 3, -1][:count], dtype=torch.int64)


def one_process(rank: int, port: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    memories = torch.nn.ModuleList([LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)])
    for step in range(3):
        for memory in memories:
            memory.update(*rank_rows(rank, step))
    torch.save(memories.state_dict(), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_hold_what_one_would(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(one_process, (port, str(tmp_path)), nprocs=2)
    alone = torch.nn.ModuleList([LookupTable(PERSONS, DIM), RingQueue(SIZE, DIM)])
    for step in range(3):
        parts = [rank_rows(rank, step) for rank in range(2)]
        for memory in alone:
            memory.update(torch.cat([rows for rows, _ in parts]), torch.cat([ids for _, ids in parts]))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], value), name
