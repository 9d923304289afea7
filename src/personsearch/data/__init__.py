"""Data sets as one kind of thing: labelled frames, identities, and the searches asked of them.

`open_dataset` gives a `SearchDataset` for any of the formats in ``formats``; `TrainingLoader` turns one into batches.
``sample`` is the contract, ``index`` the labels of a split as flat arrays, ``conversion`` writes them in another
format. Readers: ``folder`` for the project's own format, ``coco`` and ``coco_layout``, ``motchallenge``, ``cuhk_sysu``,
``prw``. ``composites`` pastes people on street images, ``mixed`` joins data sets, ``transforms`` varies a training
frame. Only ``loader`` needs torch: it is imported when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personsearch.data.opening import open_dataset
from personsearch.data.sample import IGNORE, UNLABELLED, Query, Sample, SearchDataset, person_names_of

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
    "person_names_of",
]


def __getattr__(name: str) -> Any:
    if name in ("Batch", "TrainingLoader"):
        from personsearch.data import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
