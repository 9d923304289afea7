"""A look-up table of identities as a file: what any re-ID network, or a trained teacher, hands to a student.

A compressed NumPy archive (``.npz``) with five arrays: ``format`` (text), ``names`` (P,) text, ``table`` (P, D)
float32, ``counts`` (P,) int64 and ``source`` (text). Row k belongs to the person that the training set numbers k.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file

LOOKUP_TABLE_FORMAT = "personsearch-lookup-table/1"
UNIT_LENGTH_TOLERANCE = 1e-3
"""How far a row's length may be from 1; a table that went through half precision is within it."""


@dataclass(frozen=True, eq=False)
class LookupTableFile:
    """One unit vector an identity, and where it comes from.

    Attributes:
        names: P identities as the data set calls them, by person id; empty where the data set has no names.
        table: ``(P, D)`` float32, L2-normalised rows; a row of zeros is a person whom the source never saw.
        counts: ``(P,)`` int64, images that each row was made from; 0 where that is not known.
        source: what made it, for the run's record.

    Raises:
        ValueError: shapes disagree, a value is not finite, or a row has neither length 1 nor 0.
    """

    names: tuple[str, ...]
    table: NDArray[np.float32]
    counts: NDArray[np.int64]
    source: str

    def __post_init__(self) -> None:
        table, counts = np.asarray(self.table, np.float32), np.asarray(self.counts, np.int64)
        if table.ndim != 2 or 0 in table.shape:
            raise ValueError(f"table has shape {table.shape}, expected (P, D)")
        if counts.shape != (len(table),) or (counts < 0).any():
            raise ValueError(f"counts has shape {counts.shape}, expected ({len(table)},) of at least 0")
        if len(self.names) not in (0, len(table)):
            raise ValueError(f"{len(self.names)} names for {len(table)} rows")
        lengths = np.linalg.norm(table.astype(np.float64), axis=1)
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_LENGTH_TOLERANCE) | (lengths == 0)))
        if len(wrong):  # a NaN fails both comparisons
            raise ValueError(f"row {wrong[0]} has length {lengths[wrong[0]]:.4g}, expected 1, or 0 for nobody seen")
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "counts", counts)

    @property
    def unseen(self) -> tuple[int, ...]:
        """Person ids whose row is zero."""
        return tuple(np.flatnonzero(~self.table.any(axis=1)).tolist())


def write_lookup_table(path: Path, content: LookupTableFile) -> None:
    """Writes ``path`` atomically.

    Raises:
        InputError: ``path`` does not end in ``.npz``.
    """
    if path.suffix != ".npz":
        raise InputError(f"the file's name ends in `{path.suffix}`", where=str(path), expected=".npz")
    with atomic_file(path) as part:
        np.savez_compressed(
            part,
            format=np.array(LOOKUP_TABLE_FORMAT),
            names=np.array(content.names, dtype=np.str_),
            table=content.table,
            counts=content.counts,
            source=np.array(content.source),
        )


def read_lookup_table(path: Path) -> LookupTableFile:
    """Reads and checks a file of `write_lookup_table`.

    Raises:
        InputError: missing, unreadable, not one of this project's, or its content is not as documented.
    """
    expected = "a look-up table (.npz with format, names, table, counts and source)"
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {name: stored[name] for name in ("format", "names", "table", "counts", "source")}
    except FileNotFoundError:
        raise InputError("no such file", where=str(path), expected=expected) from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InputError("cannot be read", where=str(path), expected=expected, remedy=str(error)) from None
    if str(parts["format"]) != LOOKUP_TABLE_FORMAT:
        raise InputError(f"has format `{parts['format']}`", where=str(path), expected=LOOKUP_TABLE_FORMAT)
    try:
        names = tuple(str(name) for name in parts["names"].tolist())
        return LookupTableFile(names, parts["table"], parts["counts"], str(parts["source"]))
    except (TypeError, ValueError) as error:
        raise InputError("is not as documented", where=str(path), expected=expected, remedy=str(error)) from None


def check_identities(
    given: Sequence[str],
    wanted: Sequence[str],
    *,
    where: str,
    whose: str,
    remedy: str = "make it from this data set and split",
) -> None:
    """Refuses a teacher's identities that are not, one by one and in this order, those of the training set.

    A list in another order fits in shape and teaches every person somebody else's row.

    Args:
        given: names of the teacher's identities, by row.
        wanted: names of the training set's, by person id.
        where: the file at fault.
        whose: what the list belongs to, for the message: ``the look-up table``.
        remedy: what to do about it.

    Raises:
        InputError: the lists differ; names the first position at which they do, and both names there.
    """
    for position, (there, here) in enumerate(zip(given, wanted, strict=False)):
        if there != here:
            raise InputError(
                f"identity {position} of {whose} is `{there}`, of the data set `{here}`",
                where=where,
                expected=f"the data set's {len(wanted)} identities in its order",
                remedy=remedy,
            )
    if len(given) != len(wanted):
        position = min(len(given), len(wanted))
        there = f"`{given[position]}`" if len(given) > position else "missing"
        here = f"`{wanted[position]}`" if len(wanted) > position else "missing"
        raise InputError(
            f"identity {position} of {whose} is {there}, of the data set {here}",
            where=where,
            expected=f"the data set's {len(wanted)} identities in its order",
            remedy=f"{whose} has {len(given)}; {remedy}",
        )
