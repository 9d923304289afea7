"""From a path to a data set."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.data.formats import DatasetFormat, all_formats
from personsearch.data.sample import SearchDataset


def format_of(root: Path) -> DatasetFormat:
    """The format of the data set at ``root``.

    Raises:
        InputError: there is nothing, or nothing that one of the formats knows.
    """
    formats = all_formats()
    if not root.exists():
        raise InputError("does not exist", where=str(root), expected="a data set", remedy=_REMEDY)
    for candidate in formats:
        if candidate.matches(root):
            return candidate
    for candidate in formats:
        if candidate.matches_part(root):
            raise InputError(
                f"is only a part of {candidate.name}",
                where=str(root),
                expected="all of it",
                remedy=f"`personsearch data check {root}` says what is missing",
            )
    names = ", ".join(one.name for one in formats)
    raise InputError("is not a data set", where=str(root), expected=f"one of {names}", remedy=_remedy(root))


def open_dataset(root: Path, split: str, protocol: str | None = None) -> SearchDataset:
    """Opens one split of a data set in any format of `personsearch.data.formats`.

    Frames are read or rendered when asked for, not here.

    Args:
        root: folder or file, as the format has it.
        split: of the data set.
        protocol: search protocol by name, where the set has several; none for its first.

    Raises:
        InputError: ``root`` is not a data set, or has no such split or protocol.
    """
    return format_of(root).open(root, split, protocol)


def _remedy(root: Path) -> str:
    """What to do with material that a data set can be made of."""
    from personsearch.data.crops import holds_crops

    if holds_crops(root):
        return "it holds crops of people: name them in a composite specification (docs/datasets.md, Composites)"
    files = list(root.iterdir()) if root.is_dir() else [root]
    for file in sorted(files):
        if file.suffix.lower() in VIDEO_SUFFIXES:
            return (
                f"it holds a video: `personsearch data label {file} --out proposed` proposes boxes and tracks; with "
                f"labels, `personsearch data convert LABELS OUT --video {file}`"
            )
    return _REMEDY


VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm"})
_REMEDY = "make one with `personsearch data synthesize`, or see docs/datasets.md for the formats"
