"""The project's own data set folder, as docs/conventions.md describes it: COCO files and what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError
from personsearch.data.coco import read_coco
from personsearch.data.coco_layout import TRAIN, without_shared_people
from personsearch.data.images import read_json_object
from personsearch.data.index import IndexedDataset, LabelIndex, cached_index

FORMAT = "personsearch/1"
DESCRIPTION = "dataset.json"
_READER = "folder/2"


def open_folder(root: Path, split: str, protocol: str | None = None) -> IndexedDataset:
    """One split of a data set folder.

    Args:
        root: the folder that holds ``dataset.json``.
        split: a name that ``dataset.json`` lists.
        protocol: one that the split states; none for its first.

    Raises:
        InputError: the folder is not a data set, the split or protocol is unknown, an annotation is wrong, or people
            searched in the split are those of `train`.
    """
    description = _describe(root)
    splits: dict[str, str] = description["splits"]
    if split not in splits:
        raise InputError(f"split `{split}` is unknown", where=str(root), expected=f"one of {', '.join(sorted(splits))}")

    def read(which: str) -> LabelIndex:
        path = root / splits[which]
        return cached_index(
            [root / DESCRIPTION, path],
            f"{_READER} {which}",
            lambda: read_coco(path, root, name=description["name"], terms=description["terms"]),
        )

    index = read(split)
    if split != TRAIN and TRAIN in splits:
        index = without_shared_people(
            index, root / splits[split], lambda: read(TRAIN), root / splits[TRAIN], certain=True
        )
    return IndexedDataset(root, index, protocol)


def _describe(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    remedy = "make one with `personsearch data synthesize`, or see docs/conventions.md for the format"
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise InputError(
            f"`format` is {content.get('format')!r}", where=str(path), expected=f"`{FORMAT}`", remedy=remedy
        )
    splits = content.get("splits")
    if not isinstance(splits, dict) or not all(isinstance(name, str) for name in splits.values()):
        raise InputError(f"`splits` is {splits!r}", where=str(path), expected="split names with annotation files")
    for key in ("name", "terms"):
        if not isinstance(content.get(key), str):
            raise InputError(f"`{key}` is {content.get(key)!r}", where=str(path), expected="text")
    return content
