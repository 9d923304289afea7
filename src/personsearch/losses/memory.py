"""Memories of identities: OIM's look-up table and queue (Xiao et al., CVPR 2017, section 3.3), as buffers.

They are read as constants and written outside autograd, once an optimiser step, after backward. Every process of a
distributed run writes the rows of all processes in the order of their ranks, so that all hold equal memories. A state
dict holds everything, the ring's pointer too: a resumed run goes on with the same rows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn


class LookupTable(nn.Module):
    """One row an identity, a running average of its unit embeddings; zero until the identity is first seen.

    A row of zeros has cosine 0 with everything, so it acts as a weak negative.

    Args:
        person_count: identities, P.
        dim: width of a row, D.
        momentum: share of the old row, gamma; 0.5 in OIM.
        renormalise: scale a row to length 1 after writing, as the paper says; its published code does not.
    """

    rows: Tensor
    frozen: Tensor

    def __init__(self, person_count: int, dim: int, *, momentum: float = 0.5, renormalise: bool = True) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, expected 0 to 1")
        self.momentum, self.renormalise = momentum, renormalise
        self.register_buffer("rows", torch.zeros(person_count, dim))
        # Not saved: that rows are frozen is up to the run, not to the network.
        self.register_buffer("frozen", torch.zeros(person_count, dtype=torch.bool), persistent=False)

    @torch.no_grad()
    def freeze(self, rows: Tensor) -> None:
        """Copies a teacher's rows ``(P, D)``, which nothing writes from then on (KD_reid, Munjal et al., BMVC 2019).

        A row of zeros is an identity that the teacher does not know: its own row stays, and is written as before.

        Raises:
            ValueError: the shape is not this table's.
        """
        if rows.shape != self.rows.shape:
            raise ValueError(f"rows are {tuple(rows.shape)}, the look-up table's {tuple(self.rows.shape)}")
        known = rows.any(dim=1).to(self.rows.device)
        self.rows[known] = rows.to(self.rows)[known]
        self.frozen.copy_(known)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Products ``(R, P)`` of ``(R, D)`` with every row, float32; cosines where both are of length 1."""
        return _products(embeddings, self.rows)

    @torch.no_grad()
    def update(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """Writes unit embeddings ``(R, D)`` of labelled people; rows whose id ``(R,)`` is negative are passed over.

        Several embeddings of one identity are written one after the other, in their order. Every process has to
        call this, with as few rows as none.

        Raises:
            ValueError: shapes do not fit, or an id is not below P.
        """
        self.write(*gather_rows_of_all(*_checked(embeddings, person_ids, self.rows)))

    @torch.no_grad()
    def write(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """As `update`, of this process's rows alone."""
        labelled = person_ids >= 0
        embeddings, person_ids = embeddings[labelled], person_ids[labelled]
        if len(person_ids) and int(person_ids.max()) >= len(self.rows):
            raise ValueError(f"person id {int(person_ids.max())} with only {len(self.rows)} rows")
        written = ~self.frozen[person_ids]
        embeddings, person_ids = embeddings[written], person_ids[written]
        turns = _turns(person_ids)
        # Rows of different identities do not meet, so all first embeddings are written at once, then all second ones.
        for turn in range(int(turns.max()) + 1 if len(turns) else 0):
            ids, new = person_ids[turns == turn], embeddings[turns == turn]
            mixed = self.momentum * self.rows[ids] + (1 - self.momentum) * new
            self.rows[ids] = F.normalize(mixed) if self.renormalise else mixed

    def extra_repr(self) -> str:
        return f"{len(self.rows)} x {self.rows.shape[1]}, momentum={self.momentum}, renormalise={self.renormalise}"


class RingQueue(nn.Module):
    """The latest embeddings of people without identity; the oldest is replaced first. Zero until filled.

    Args:
        size: rows, Q; 0 for a queue that remembers nobody.
        dim: width of a row, D.
        write_dims: only so many dimensions of a row are written, the rest stay 0; none for all of them. OIM's
            published layer writes 64 of 256.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, *, write_dims: int | None = None) -> None:
        super().__init__()
        if write_dims is not None and not 0 < write_dims <= dim:
            raise ValueError(f"write_dims is {write_dims}, expected 1 to {dim}")
        self.write_dims = write_dims
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Products ``(R, Q)`` of ``(R, D)`` with every row, float32."""
        return _products(embeddings, self.rows)

    @torch.no_grad()
    def update(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """Writes unit embeddings ``(R, D)`` of people without identity, those whose id ``(R,)`` is -1.

        The others (identities, and -2: background or ignored) are passed over. Every process has to call this, with
        as few rows as none.

        Raises:
            ValueError: shapes do not fit.
        """
        self.write(*gather_rows_of_all(*_checked(embeddings, person_ids, self.rows)))

    @torch.no_grad()
    def write(self, embeddings: Tensor, person_ids: Tensor) -> None:
        """As `update`, of this process's rows alone."""
        size, new = len(self.rows), embeddings[person_ids == -1]
        if size == 0 or len(new) == 0:
            return
        start = int(self.pointer)
        places = torch.arange(start, start + len(new), device=new.device)[-size:] % size  # the last of them stay
        self.rows[places, : self.write_dims] = new[-size:, : self.write_dims]
        self.pointer.fill_((start + len(new)) % size)

    def extra_repr(self) -> str:
        return f"{len(self.rows)} x {self.rows.shape[1]}, write_dims={self.write_dims}"


@torch.no_grad()
def gather_rows_of_all(embeddings: Tensor, person_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``(R, D)`` and ids ``(R,)`` of every process, in the order of ranks; R may differ between them.

    With one process, or where torch.distributed is not in use, they are returned as they are.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return embeddings, person_ids
    world_size = distributed.get_world_size()
    own = torch.tensor([len(embeddings)], device=embeddings.device)
    counts = [torch.zeros_like(own) for _ in range(world_size)]
    distributed.all_gather(counts, own)
    sizes = [int(count) for count in counts]
    longest = max(sizes)
    if longest == 0:
        return embeddings, person_ids
    spare = longest - len(embeddings)
    padded = F.pad(embeddings, (0, 0, 0, spare)), F.pad(person_ids, (0, spare), value=-2)
    gathered = []
    for part in padded:
        parts = [torch.empty_like(part) for _ in range(world_size)]
        distributed.all_gather(parts, part.contiguous())
        gathered.append(torch.cat([rows[:size] for rows, size in zip(parts, sizes, strict=True)]))
    return gathered[0], gathered[1]


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Products in float32 also under autocast: a cosine in bfloat16 has two digits, and is multiplied by 10 to 30.

    The meta device, on which sizes are worked out, knows no autocast.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _products(embeddings: Tensor, rows: Tensor) -> Tensor:
    with full_precision(embeddings.device):
        return embeddings.float() @ rows.T


def _checked(embeddings: Tensor, person_ids: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    if embeddings.ndim != 2 or embeddings.shape[1] != rows.shape[1] or person_ids.shape != embeddings.shape[:1]:
        raise ValueError(
            f"embeddings {tuple(embeddings.shape)} and person ids {tuple(person_ids.shape)}, "
            f"expected (R, {rows.shape[1]}) and (R,)"
        )
    return embeddings.detach().to(rows.dtype), person_ids


def _turns(person_ids: Tensor) -> Tensor:
    """For each row how many rows before it have the same id, ``(R,)``."""
    same = person_ids[:, None] == person_ids[None, :]
    return same.tril(-1).sum(dim=1)
