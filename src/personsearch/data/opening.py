"""From a path to a data set."""

from __future__ import annotations

from pathlib import Path

from personsearch.data.folder import FolderDataset
from personsearch.data.sample import SearchDataset


def open_dataset(root: Path, split: str) -> SearchDataset:
    """Opens one split of a data set folder (docs/conventions.md) or of a composite specification (``.yaml``).

    Frames are read or rendered when asked for, not here.

    Raises:
        InputError: ``root`` is not a data set, or ``split`` not one of its splits.
    """
    if root.suffix in (".yaml", ".yml"):
        return _open_composites(root, split)
    return FolderDataset(root, split)


def _open_composites(path: Path, split: str) -> SearchDataset:
    from personsearch.data.composite_spec import read_composite_spec
    from personsearch.data.composites import CompositeDataset
    from personsearch.data.mixed import MixedDataset
    from personsearch.data.motchallenge import MotDataset

    spec = read_composite_spec(path)
    composites = CompositeDataset(spec, split)
    if split != "train" or spec.mot is None or spec.mot_share == 0:
        return composites
    # One name and one set of terms: the specification states them for all of its material.
    frames = MotDataset(Path(spec.mot), name=spec.name, terms=spec.terms)
    return MixedDataset(composites, [frames], [spec.mot_share], spec.seed)
