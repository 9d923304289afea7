"""Data sets as one kind of thing: labelled frames, identities, and the searches asked of them.

`open_dataset` gives a `SearchDataset` for a folder (docs/conventions.md) or a composite specification;
`TrainingLoader` turns one into batches. ``sample`` is the contract, ``folder`` reads the project's own format,
``motchallenge`` sequences, ``composites`` pastes people on street images, ``mixed`` joins data sets,
``transforms`` varies a training frame. Only ``loader`` needs torch: it is imported when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personsearch.data.opening import open_dataset
from personsearch.data.sample import IGNORE, UNLABELLED, Query, Sample, SearchDataset

if TYPE_CHECKING:
    from personsearch.data.loader import Batch, TrainingLoader

__all__ = [
    "IGNORE",
    "UNLABELLED",
    "Batch",
    "Query",
    "Sample",
    "SearchDataset",
    "TrainingLoader",
    "open_dataset",
]


def __getattr__(name: str) -> Any:
    if name in ("Batch", "TrainingLoader"):
        from personsearch.data import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
