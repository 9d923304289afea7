"""Where the files of a COCO data set lie: annotation files, their splits, and the folder that images are in.

A data set is one ``.json`` or ``.json.gz`` file, or a folder with such files in ``annotations/`` or at its top. Images
are named relative to the folder, or to one of `IMAGE_FOLDERS` in it. PRW-like texts of queries beside the files become
protocols.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.data.coco import read_coco
from personsearch.data.index import IndexedDataset, LabelIndex, Problem, cached_index
from personsearch.data.query_lists import PER_CAMERA, query_info_files

IMAGE_FOLDERS = ("", "images", "frames", "Image/SSM", "img", "data")
TRAIN = "train"
_READER = "coco/2"
_SPLIT_WORDS = frozenset({TRAIN, "val", "valid", "validation", "test"})
_SNIFFED_BYTES = 4096
_DUKE_NAME = re.compile(r"(^|/)c[1-8]_f\d{7}\.[^/]*$")
_WITHDRAWN = Problem(
    "noted",
    ".",
    "images are named as DukeMTMC's, which was withdrawn in 2019: its format is supported, its counts are not known",
    "make sure that you may use them",
)
_COCO_FIELDS = (b'"images"', b'"annotations"', b'"categories"', b'"info"', b'"person_count"')


def is_coco(path: Path) -> bool:
    """Whether a path is a COCO file or a folder that holds some."""
    return bool(annotation_files(path))


def annotation_files(path: Path) -> dict[str, Path]:
    """The annotation files of a data set by split.

    A file's split is the word train, val, valid, validation or test in its name, ``prw_test_pid.json.gz`` is `test`;
    the name without suffix where there is none of them, or where two files would have the same one.
    """
    if path.is_file():
        files = [path] if _is_json(path) else []
    else:
        files = sorted(one for one in (path / "annotations").glob("*") if _is_json(one))
        # At the top other JSON is common, so that a look inside is needed.
        files = files or sorted(one for one in path.glob("*") if _is_json(one) and _looks_like_coco(one))
    short = [_split_word(one) for one in files]
    return {
        word if word is not None and short.count(word) == 1 else _stem(one): one
        for one, word in zip(files, short, strict=True)
    }


def open_coco(path: Path, split: str, protocol: str | None) -> IndexedDataset:
    """One split of a COCO data set; see `personsearch.data.coco` for what its files may hold.

    Raises:
        InputError: no such split or protocol, a file is wrong, or people searched in the split are those of `train`.
    """
    files = annotation_files(path)
    if split not in files:
        raise InputError(
            f"split `{split}` is unknown", where=str(path), expected=f"one of {', '.join(sorted(files)) or 'none'}"
        )
    root = _root(path)
    index = _index(files[split], root, split)
    if split != TRAIN and TRAIN in files:
        index = without_shared_people(
            index, files[split], lambda: _index(files[TRAIN], root, TRAIN), files[TRAIN], certain=False
        )
    return IndexedDataset(root, index, protocol)


def without_shared_people(
    index: LabelIndex, file: Path, train: Callable[[], LabelIndex], train_file: Path, *, certain: bool
) -> LabelIndex:
    """The index, once nobody who is searched in it is in the training split as well.

    Distractors may be: 94 of PRW's people are. Queries that merely follow from the labels count where no others are
    stated. Where one of the splits merely counts its people from 0, as conversions
    of PRW do, equal numbers do not say that people are equal: then a problem is noted, or nothing where the format
    says that splits are numbered apart.

    Args:
        index: a split with queries.
        file: that it was read from.
        train: gives the training split.
        train_file: that the training split is read from.
        certain: whether the format says that a split that counts from 0 is numbered apart.

    Raises:
        InputError: somebody is both searched and trained on.
    """
    stated = [table for name, table in index.protocols.items() if name != PER_CAMERA]
    tables = stated or list(index.protocols.values())
    searched = {index.person_names[person] for table in tables for person in table.person_ids}
    if not searched:
        return index
    trained = train()
    shared = sorted(searched & set(trained.person_names))
    apart = _counts_from_0(index.person_names) or _counts_from_0(trained.person_names)
    if not shared or (apart and certain):
        return index
    names = f"{', '.join(shared[:5])}{', ...' if len(shared) > 5 else ''}"
    if not apart:
        raise InputError(
            f"`person_id` {names}: searched here and trained on in {train_file.name}",
            where=str(file),
            expected="people in the queries of whom the training split has no box",
            remedy="move them to one split",
        )
    problem = Problem(
        "noted",
        file.name,
        f"{len(shared)} searched `person_id` also occur in {train_file.name} ({names}); the same people?",
        "if they are, move them to one split; if not, state `person_names` in both files",
        len(shared),
    )
    return replace(index, problems=(*index.problems, problem))


def _counts_from_0(names: Sequence[str]) -> bool:
    return all(name == str(number) for number, name in enumerate(names))


def _root(path: Path) -> Path:
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _index(file: Path, root: Path, split: str) -> LabelIndex:
    query_files = query_info_files(root, file.parent)
    folders = [folder for folder in (*IMAGE_FOLDERS, split, _stem(file)) if (root / folder).is_dir()]
    index = cached_index(
        [file, *query_files],
        # The folders are part of the key: images that move to another one are other paths.
        f"{_READER} {root.name} {split} {folders}",
        lambda: read_coco(file, root, image_folders=folders, query_files=query_files, derive_queries=split != TRAIN),
    )
    if index.image_paths and all(_DUKE_NAME.search(path) for path in index.image_paths):
        return replace(index, problems=(*index.problems, _WITHDRAWN))
    return index


def _is_json(path: Path) -> bool:
    return path.name.endswith((".json", ".json.gz")) and path.is_file()


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")


def _split_word(path: Path) -> str | None:
    words = [word for word in re.split(r"[^a-z]+", _stem(path).lower()) if word in _SPLIT_WORDS]
    return words[0] if len(words) == 1 else None


def _looks_like_coco(path: Path) -> bool:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except (OSError, EOFError):
        return False
    return any(field in start for field in _COCO_FIELDS)
