"""KD_reid: the teacher's look-up table, copied and frozen, in place of one that the student learns (section 4.2)."""

from __future__ import annotations

import torch

from personsearch.core.errors import InputError
from personsearch.core.lookup_table_file import LookupTableFile
from personsearch.distill.lookup_table import FrozenTableLoss, Projection
from personsearch.distill.task import Criteria, Knowledge
from personsearch.distill.teachers import TableTeacher
from personsearch.losses.oim import IdentityMemory
from personsearch.models import SearchModel
from personsearch.models.detectors.oim import MemorySearch

OIM_SCALE = 10.0
OWN_LOSS = "identity"
"""Name of the loss that a student with a look-up table of its own has against it."""


def lookup_table_knowledge(
    student: SearchModel,
    table: LookupTableFile,
    *,
    lambda_oim: float,
    scale: float | None,
    projection: Projection | None,
    where: str,
) -> Knowledge:
    """Identities taken from ``table``, whose rows are for the student's person ids (Munjal et al., section 4.2).

    A student with a look-up table of that width gets a copy, and its own OIM loss has the weight ``lambda_oim``: no
    forward pass more, no parameter more. Its queue of people without identity goes on; the paper says only that the
    table is fixed.

    A student of another width learns through a projection (`FrozenTableLoss`) against the same table and its own
    queue. Its own look-up table is still written, in its own space, for those who learn from this student; its own
    loss has weight 0. A student that has no look-up table, HDL's for instance, gets the same loss, without a queue,
    beside its own identity loss: what section 6.1 calls additional supervision.

    Args:
        student: is changed: its look-up table, where there is one of the same width.
        table: checked to be of the student's identities.
        lambda_oim: weight of the loss against the frozen table.
        scale: of the cosines where the loss is not the student's own; none for the student's, 10 without one.
        projection: for tables of another width; none refuses them.
        where: the table's file, for messages.

    Raises:
        InputError: the widths differ and ``projection`` does not allow it.
        ValueError: the table has not one row for each of the student's identities.
    """
    if len(table.table) != student.person_count:
        raise ValueError(f"{len(table.table)} rows for {student.person_count} identities")
    rows = torch.from_numpy(table.table)
    own, width = memory_of(student), rows.shape[1]
    if own is not None and own.table.rows.shape[1] == width:
        own.table.freeze(rows)
        return Knowledge(None, {}, {OWN_LOSS: lambda_oim})
    _check_width(student.embedding_dim, width, projection, where)
    queue = None if own is None else own.queue
    if scale is None:
        scale = OIM_SCALE if own is None else own.scale
    loss = FrozenTableLoss(student.embedding_dim, width, projection=projection, scale=scale, queue=queue)
    criteria = {"lookup_table": Criteria(lambda_oim, {("embedding", "lookup_table"): loss})}
    return Knowledge(TableTeacher(rows), criteria, {} if own is None else {OWN_LOSS: 0.0})


def memory_of(model: SearchModel) -> IdentityMemory | None:
    """A network's look-up table and queue; none where it learns its identities another way."""
    return model.memory if isinstance(model, MemorySearch) else None


def _check_width(student_width: int, table_width: int, projection: Projection | None, where: str) -> None:
    if student_width == table_width or projection == "linear":
        return
    if projection is None:
        raise InputError(
            f"rows of the look-up table are {table_width} wide, the student's embeddings {student_width}",
            where=where,
            expected=f"a table of width {student_width}",
            remedy="give the student that width, or set lookup_table.projection",
        )
    if student_width > table_width:
        raise InputError(
            f"the student's embeddings are {student_width} wide, the look-up table's rows {table_width}",
            where=where,
            expected="a student no wider than the table with projection=orthogonal",
            remedy="make it narrower, or set lookup_table.projection=linear",
        )
