"""Whether two systems that were asked the same queries differ by more than the choice of queries explains.

Paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13): people are drawn with
replacement, all queries of a person together, since they are not independent; both systems are scored on the same
draw, and the differences of many draws bound the true one. It says nothing about training: another seed of either
system is another system, and averaging over seeds, as is done here where there are several files, does not bound that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.benchmarks.accuracy import QueryOutcome
from personsearch.benchmarks.order_statistics import CONFIDENCE
from personsearch.core.errors import InputError
from personsearch.core.recipe import StrictModel, validate

_DRAWS_AT_ONCE = 2000


class Difference(StrictModel):
    """One figure of both systems. Shares in [0, 1]."""

    system: float
    against: float
    difference: float = Field(description="`system` - `against`")
    low: float = Field(description="of the interval that holds 95 of 100 resampled differences")
    high: float
    below_margin: float = Field(description="share of the resamples in which `system` is more than the margin behind")


class PairedResult(StrictModel):
    """Two systems on the same queries."""

    queries: int = Field(description="those with an answer in their gallery; only they count")
    people: int = Field(description="whom these queries show; what is resampled")
    system_files: int = Field(description="runs averaged, query by query")
    against_files: int
    resamples: int
    seed: int
    margin: float
    mean_ap: Difference
    top_1: Difference


def read_outcomes(path: Path) -> list[QueryOutcome]:
    """The queries of a file that ``evaluate --per-query`` wrote.

    Raises:
        InputError: it is missing, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "cannot be read",
            where=str(path),
            expected="a file of `personsearch evaluate --per-query FILE`",
            remedy=str(error),
        ) from None
    if not isinstance(content, list) or not content:
        raise InputError("holds no queries", where=str(path), expected="a list with one entry a query")
    return [validate(QueryOutcome, entry, where=f"{path}, entry {number}") for number, entry in enumerate(content)]


def paired_bootstrap(
    system: Sequence[Path],
    against: Sequence[Path],
    *,
    margin: float = 0.0,
    resamples: int = 20_000,
    seed: int = 0,
) -> PairedResult:
    """Compares files of ``evaluate --per-query``.

    Args:
        system: one file for each seed of the system.
        against: one for each seed of what it is compared with.
        margin: share by which the system may be behind.
        resamples: draws of people.
        seed: of the draws.

    Raises:
        InputError: a file cannot be read, or two of them are not of the same queries.
    """
    ours, theirs = [read_outcomes(path) for path in system], [read_outcomes(path) for path in against]
    paths, files = [*system, *against], [*ours, *theirs]
    for path, outcomes in zip(paths, files, strict=True):
        _check_same(outcomes, path, files[0], paths[0])
    scored = [number for number, outcome in enumerate(files[0]) if outcome.average_precision is not None]
    if not scored:
        raise InputError("no query has an answer in its gallery", where=str(paths[0]))
    people, person = np.unique([files[0][number].person_id for number in scored], return_inverse=True)
    counts = np.bincount(person).astype(np.float64)
    found = {}
    for name, figures in (("mean_ap", _precisions), ("top_1", _first)):
        one, other = (
            np.mean([figures([each[number] for number in scored]) for each in side], axis=0) for side in (ours, theirs)
        )
        sums = np.bincount(person, weights=one - other).astype(np.float64)
        draws = _resampled(sums, counts, resamples, seed)
        low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found[name] = Difference(
            system=float(one.mean()),
            against=float(other.mean()),
            difference=float((one - other).mean()),
            low=float(low),
            high=float(high),
            below_margin=float((draws < -margin).mean()),
        )
    return PairedResult(
        queries=len(scored),
        people=len(people),
        system_files=len(ours),
        against_files=len(theirs),
        resamples=resamples,
        seed=seed,
        margin=margin,
        **found,
    )


def _resampled(
    sums: NDArray[np.float64], counts: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Mean over the queries of as many people, drawn with replacement, once for each resample."""
    rng = np.random.default_rng(seed)
    people, parts = len(sums), []
    for begin in range(0, resamples, _DRAWS_AT_ONCE):
        drawn = rng.integers(0, people, (min(_DRAWS_AT_ONCE, resamples - begin), people))
        parts.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(parts)


def _precisions(outcomes: Sequence[QueryOutcome]) -> list[float]:
    return [outcome.average_precision or 0.0 for outcome in outcomes]


def _first(outcomes: Sequence[QueryOutcome]) -> list[float]:
    return [float(outcome.first_hit_rank == 1) for outcome in outcomes]


def _check_same(found: Sequence[QueryOutcome], path: Path, first: Sequence[QueryOutcome], first_path: Path) -> None:
    """Refuses figures of other queries, or of galleries that have other answers."""
    if len(found) != len(first):
        raise InputError(f"has {len(found)} queries, {first_path} has {len(first)}", where=str(path))
    for one, other in zip(found, first, strict=True):
        if _asked(one) != _asked(other):
            raise InputError(
                f"query {one.query} is {_asked(one)} here and {_asked(other)} in {first_path}",
                where=str(path),
                expected="the same image, person and number of answers, in all files",
                remedy="evaluate all of them on the same data set, split, protocol and options",
            )


def _asked(outcome: QueryOutcome) -> tuple[int, int, int]:
    """Image, person, answers."""
    return outcome.image, outcome.person_id, outcome.answers
