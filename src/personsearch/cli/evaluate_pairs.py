"""``personsearch evaluate`` of a network that is guided by its query."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.accuracy import AccuracyResult, EvaluationOptions
    from personsearch.data import SearchDataset


def guided_result(
    model: Path,
    dataset: SearchDataset,
    split: str,
    options: EvaluationOptions,
    threads: int | None,
    *,
    detections: Path | None,
    per_query: Path | None,
) -> AccuracyResult | None:
    """The figures of a query-guided network, which is shown each query with each image; none of any other model.

    Args:
        model: checkpoint, or anything else that can be evaluated.
        dataset: one split.
        split: what the result calls it.
        options: of the evaluation.
        threads: CPU threads of torch; none for its own choice.
        detections: file for what was found, which such a network does not have.
        per_query: file for every query's outcome.

    Raises:
        InputError: the model is guided, and an option does not apply to it.
    """
    if model.suffix == ".npz" or find_spec("torch") is None:
        return None
    from personsearch.benchmarks.accuracy import query_outcomes
    from personsearch.benchmarks.pairwise import measure_pairwise, open_pairs
    from personsearch.benchmarks.systems import system_name
    from personsearch.core.files import write_json

    system = open_pairs(model, threads)
    if system is None:
        return None
    if detections is not None:
        raise InputError(
            "--detections keeps what does not depend on the query, this network is guided by it",
            remedy="add --query-independent for the branch without a query",
        )
    result, search = measure_pairwise(system, dataset, name=system_name(model), split=split, options=options)
    if per_query is not None:
        outcomes = query_outcomes(dataset.queries, search.scores())
        write_json(per_query, [outcome.model_dump(mode="json") for outcome in outcomes])
    return result
