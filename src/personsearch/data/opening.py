"""From a path to a data set."""

from __future__ import annotations

from pathlib import Path

from personsearch.data.folder import FolderDataset
from personsearch.data.sample import SearchDataset


def open_dataset(root: Path, split: str) -> SearchDataset:
    """Opens one split of a data set folder (docs/conventions.md).

    Frames are read when asked for, not here.

    Raises:
        InputError: ``root`` is not a data set, or ``split`` not one of its splits.
    """
    return FolderDataset(root, split)
