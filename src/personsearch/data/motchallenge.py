"""Sequences in the MOTChallenge layout: MOT16 and MOT17 (9 columns), MOT15 and PETS (7 or 10), and CVAT's export.

``SEQUENCE/seqinfo.ini``, ``SEQUENCE/img1/000001.jpg``, ``SEQUENCE/gt/gt.txt`` with lines ``frame, track, x, y, w, h,
flag, class, visibility``. Milan et al., "MOT16: a benchmark for multi-object tracking", 2016, table 3: class 1 is a
pedestrian; people on vehicles (2), static people (7), distractors (8) and reflections (12) are neither right nor
wrong to find, so they become regions to ignore, as do pedestrians whose flag is 0 or who are hardly visible. What
belongs to other classes is no label of this task and is left out.

CVAT's "MOT 1.1" is a zip, or its folder, with ``gt/gt.txt``, ``gt/labels.txt`` (the names of the classes, from 1 on),
perhaps ``img1/``, and no ``seqinfo.ini``. There a visibility of 0 is CVAT's "occluded" switch and ignores nobody,
and a box without track (-1) is an unlabelled person.

Several sequences are cameras. A track is an identity and one *visit*; ``person_map.json`` beside the sequences, or in
one, joins tracks into people, ``{"persons": [{"person": name, KEY: [track ids], ...}, ...]}``. A KEY is the name of a
sequence, or a part of it that no other key shares.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.geometry import xywh_to_xyxy
from personsearch.data.frame_edges import cut_at_frames
from personsearch.data.index import IndexedDataset, LabelIndex, Problem, QueryTable, cached_index, missing_images
from personsearch.data.mot_files import (
    MotSequence,
    find_sequences,
    image_files,
    is_mot_zip,
    label_files,
    read_sequence,
    unpacked,
)
from personsearch.data.person_map import PersonMap, read_person_map
from personsearch.data.sample import IGNORE, UNLABELLED, FloatArray, IntArray, Query

SPLIT = "all"
RE_ENTRY = "re-entry"
"""Name of the search protocol: somebody's first visit is searched in all other frames."""
_READER = "mot/1"
_PERSON_MAP = "person_map.json"


class MotDataset(IndexedDataset):
    """Frames of one or several sequences as one data set; see the module.

    Args:
        root: one sequence, or a folder of sequences.
        identities: whether tracks are identities; otherwise every person is unlabelled.
        person_map: JSON that joins tracks into people; none for the one that lies beside the sequences, if any.
        name: of the data set; none for the folder's.
        terms: under which the footage may be used.
        protocol: `re-entry`, or none.

    Raises:
        InputError: no sequence there, or a line of it is wrong.
    """

    def __init__(
        self,
        root: Path,
        *,
        identities: bool = False,
        person_map: Path | None = None,
        name: str | None = None,
        terms: str = "unknown",
        protocol: str | None = None,
    ) -> None:
        index = read_mot(root, identities=identities, person_map=person_map, name=name, terms=terms)
        super().__init__(root, index, protocol)


def is_mot(path: Path) -> bool:
    """Whether a path is a sequence, a folder of sequences, or a zip of either."""
    return is_mot_zip(path) if path.is_file() else bool(find_sequences(path))


def open_mot(path: Path, split: str, protocol: str | None) -> IndexedDataset:
    """Sequences with tracks as identities; there is one split, `all`.

    Raises:
        InputError: another split, an unknown protocol, or what `MotDataset` raises.
    """
    if split != SPLIT:
        raise InputError(
            f"split `{split}` is unknown", where=str(path), expected=f"`{SPLIT}`, as MOT sequences have one split"
        )
    root = path if path.is_dir() else unpacked(path)
    return MotDataset(root, identities=True, name=path.stem if path.is_file() else path.name, protocol=protocol)


def read_mot(
    root: Path,
    *,
    identities: bool = True,
    person_map: Path | None = None,
    name: str | None = None,
    terms: str = "unknown",
) -> LabelIndex:
    """The labels of one or several sequences; arguments and errors as of `MotDataset`."""
    sequences = find_sequences(root)
    if not sequences:
        raise InputError(
            "holds no sequence",
            where=str(root),
            expected="a folder with gt/gt.txt and img1/, with or without seqinfo.ini, or several",
            remedy="name the folder of a MOTChallenge sequence",
        )
    map_path = None
    if identities:
        beside = (one / _PERSON_MAP for one in dict.fromkeys((root, *sequences)))
        map_path = person_map or next((one for one in beside if one.is_file()), None)
    listings = "\n".join(f"{one.name} {[path.name for path in image_files(one).values()]}" for one in sequences)
    files = [path for one in sequences for path in label_files(one)]
    return cached_index(
        [*files, *([map_path] if map_path else [])],
        f"{_READER} {identities} {name or root.name} {terms} {len(files)} {listings}",
        lambda: _build(root, sequences, identities, map_path, name or root.name, terms),
    )


def _build(
    root: Path, folders: list[Path], identities: bool, map_path: Path | None, name: str, terms: str
) -> LabelIndex:
    sequences = [read_sequence(root, folder) for folder in folders]
    starts = np.cumsum([0, *(len(one.numbers) for one in sequences)])
    image_wh = np.concatenate([one.image_wh for one in sequences])
    frames = np.concatenate([one.frames + start for one, start in zip(sequences, starts, strict=False)])
    people, names, noted = _people(sequences, read_person_map(map_path) if map_path else None, identities)
    boxes, kept, dropped = _boxes(sequences, frames, image_wh)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(frames[rows], kind="stable")]
    frame_indices = np.concatenate([one.numbers for one in sequences])
    visits = np.concatenate([one.tracks + (number << 32) for number, one in enumerate(sequences)])
    paths = tuple(path for one in sequences for path in one.image_paths)
    return LabelIndex(
        name=name,
        terms=terms,
        image_paths=paths,
        image_wh=image_wh,
        camera_ids=np.repeat(np.arange(len(sequences)), np.diff(starts)),
        frame_indices=frame_indices,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(frames[rows], minlength=len(paths)))]).astype(np.int64),
        boxes_xyxy=boxes[rows],
        person_ids=people[rows],
        person_names=names,
        protocols=_re_entry(frames[rows], boxes[rows], people[rows], visits[rows], frame_indices),
        problems=(*noted, *dropped, *_missing(root, sequences)),
    )


def _people(
    sequences: list[MotSequence], joined: PersonMap | None, identities: bool
) -> tuple[IntArray, tuple[str, ...], tuple[Problem, ...]]:
    """Person id of every row, the people's names, and what is said of the person map.

    People of the map come first, in its order, then tracks that it does not name, by sequence and number.
    """
    present = [np.unique(one.tracks[~one.ignored & (one.tracks > 0)]).tolist() for one in sequences]
    numbers: list[dict[int, int]] = [{} for _ in sequences]
    names: list[str] = []
    problems = []
    keys = [joined.key_for(one.titles) if joined else None for one in sequences]
    for person, by_key in zip(joined.names, joined.tracks, strict=True) if joined else ():
        own = [
            (number, track)
            for number, key in enumerate(keys)
            for track in by_key.get(key or "", ())
            if track in present[number]
        ]
        if own:
            for number, track in own:
                numbers[number][track] = len(names)
            names.append(person or "+".join(f"{sequences[number].name}:{track}" for number, track in own))
    for number, one in enumerate(sequences):
        for track in present[number]:
            if track not in numbers[number]:
                numbers[number][track] = len(names)
                names.append(f"{one.name}:{track}")
        if joined and keys[number] is None:
            problems.append(
                Problem(
                    "wrong",
                    joined.path.name,
                    f"no key means the sequence {one.name}: its tracks stay apart",
                    "name it by the sequence, or by a part of that which no other key shares",
                )
            )
    ids = [
        np.where(one.ignored, IGNORE, [number_of.get(track, UNLABELLED) for track in one.tracks.tolist()])
        for one, number_of in zip(sequences, numbers, strict=True)
    ]
    people = np.concatenate(ids).astype(np.int64)
    if not identities:
        return np.minimum(people, UNLABELLED), (), ()
    return people, tuple(names), tuple(problems)


def _boxes(
    sequences: list[MotSequence], frames: IntArray, image_wh: IntArray
) -> tuple[FloatArray, NDArray[np.bool_], tuple[Problem, ...]]:
    """Every row's box, cut at its frame; which have an area there; and how many of each sequence have not."""
    corners = xywh_to_xyxy(np.concatenate([one.boxes_xywh for one in sequences]))
    cut, kept = cut_at_frames(corners, image_wh[frames])
    over_edge = kept & np.asarray((corners.astype(np.float32) != cut).any(axis=1), bool)
    problems = []
    first = 0
    for one in sequences:
        file = "gt/gt.txt" if len(sequences) == 1 else f"{one.name}/gt/gt.txt"
        own = slice(first, first + len(one.frames))
        wrong = np.flatnonzero(~kept[own])
        if len(wrong):
            row = int(wrong[0])
            what = (
                f"boxes without area inside their frame: frame {one.numbers[one.frames[row]]}, "
                f"track {one.tracks[row]}, x,y,w,h {','.join(f'{side:g}' for side in one.boxes_xywh[row])}"
            )
            problems.append(Problem("dropped", file, what, "correct them", len(wrong)))
        if over_edge[own].any():
            what = "boxes over an edge of their frame, cut there"
            problems.append(Problem("noted", file, what, "nothing to do", int(over_edge[own].sum())))
        first += len(one.frames)
    return cut, kept, tuple(problems)


def _missing(root: Path, sequences: list[MotSequence]) -> tuple[Problem, ...]:
    problems: list[Problem] = []
    for one in sequences:
        there = np.array([(root / path).is_file() for path in one.image_paths], np.int64)
        problems += missing_images(root, one.image_paths, np.stack([there, there], axis=1))
        if one.unseen:
            problems.append(
                Problem(
                    "missing",
                    str(PurePosixPath(one.image_paths[0]).parent),
                    f"{one.unseen} labelled boxes are in frames without an image",
                    "add the images; there is nothing to do where only every n-th frame was kept",
                    one.unseen,
                )
            )
    return tuple(problems)


def _re_entry(
    frames: IntArray, boxes: FloatArray, people: IntArray, visits: IntArray, frame_indices: IntArray
) -> dict[str, QueryTable]:
    """Everybody with two visits or more: each box of the first, by time, is searched in the frames without it.

    Empty where nobody comes back.
    """
    queries: list[Query] = []
    every = np.arange(len(frame_indices))
    for person in np.unique(people[people >= 0]).tolist():
        own = np.flatnonzero(people == person)
        if len(np.unique(visits[own])) < 2:
            continue
        first = visits[own[np.argmin(frame_indices[frames[own]])]]
        gallery = np.setdiff1d(every, frames[visits == first])
        queries += [Query(int(frames[row]), boxes[row], person, gallery) for row in own[visits[own] == first]]
    return {RE_ENTRY: QueryTable.of(queries)} if queries else {}
