"""A `LabelIndex` as MOTChallenge sequences, one for each camera, for trackers and for annotation tools.

What the format cannot hold is left out: search protocols and terms. Identities are tracks of the same number in every
sequence, and ``person_map.json`` says so; a region to ignore has flag 0, a person without identity track -1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.files import write_json
from personsearch.core.geometry import xyxy_to_xywh
from personsearch.data.index import LabelIndex
from personsearch.data.mot_files import IMAGE_SUFFIXES
from personsearch.data.sample import IGNORE, IntArray


def write_mot(folder: Path, index: LabelIndex) -> dict[str, str]:
    """Writes ``gt/gt.txt`` and ``seqinfo.ini`` of each camera's sequence, and the person map.

    Frames keep their numbers, counted on by 1 where a camera has a frame 0; frames of one camera that share a number
    are numbered by their order instead.

    Returns:
        For each image path of the index the path of its image in ``folder``; the images are the caller's.

    Raises:
        InputError: frames of one camera differ in size or in their image format, or a size is unknown.
    """
    places: dict[str, str] = {}
    cameras = np.unique(index.camera_ids).tolist()
    sequences = []
    for camera in cameras:
        images = np.flatnonzero(index.camera_ids == camera)
        name = f"camera-{camera}"
        suffix = _one_of_a_kind(index, images, name)
        numbers = _numbers(index.frame_indices[images])
        images, numbers = images[np.argsort(numbers)], np.sort(numbers)
        for image, number in zip(images.tolist(), numbers.tolist(), strict=True):
            places[index.image_paths[image]] = f"{name}/img1/{number:06d}{suffix}"
        _write_sequence(folder / name, index, images, numbers, suffix)
        sequences.append(name)
    write_json(folder / "person_map.json", {"persons": _persons(index, cameras)})
    return places


def _one_of_a_kind(index: LabelIndex, images: IntArray, name: str) -> str:
    """The suffix that all images of one sequence have; their size is one, too."""
    sizes = {tuple(size) for size in index.image_wh[images].tolist()}
    suffixes = {Path(index.image_paths[image]).suffix.lower() for image in images.tolist()}
    if len(sizes) > 1 or len(suffixes) > 1 or (0, 0) in sizes or not suffixes <= IMAGE_SUFFIXES:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)[:4])
        raise InputError(
            f"images of {name} are {shown} and {', '.join(sorted(suffixes))}",
            where=index.name,
            expected="one known size and one image format a camera, as seqinfo.ini states one",
            remedy="convert `--to coco`, or give each size a camera_id of its own",
        )
    return next(iter(suffixes))


def _numbers(frame_indices: IntArray) -> IntArray:
    if len(np.unique(frame_indices)) < len(frame_indices) or frame_indices.min() < 0:
        return np.argsort(np.argsort(frame_indices, kind="stable"), kind="stable") + 1
    return frame_indices + 1 if frame_indices.min() == 0 else frame_indices


def _write_sequence(folder: Path, index: LabelIndex, images: IntArray, numbers: IntArray, suffix: str) -> None:
    (folder / "gt").mkdir(parents=True)
    lines = []
    for image, number in zip(images.tolist(), numbers.tolist(), strict=True):
        rows = slice(int(index.offsets[image]), int(index.offsets[image + 1]))
        boxes = xyxy_to_xywh(index.boxes_xyxy[rows].astype(np.float64)).tolist()
        for person, box in zip(index.person_ids[rows].tolist(), boxes, strict=True):
            sides = ",".join(f"{side:.10g}" for side in box)
            track = person + 1 if person >= 0 else -1
            lines.append(f"{number},{track},{sides},{int(person != IGNORE)},1,1\n")
    (folder / "gt/gt.txt").write_text("".join(lines), encoding="utf-8")
    width, height = index.image_wh[images[0]].tolist()
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nseqLength={numbers[-1]}\n"
        f"imWidth={width}\nimHeight={height}\nimExt={suffix}\n",
        encoding="utf-8",
    )


def _persons(index: LabelIndex, cameras: list[int]) -> list[dict[str, object]]:
    camera_of = np.repeat(index.camera_ids, np.diff(index.offsets))
    people: list[dict[str, object]] = [{"person": name} for name in index.person_names]
    for camera in cameras:
        present = np.unique(index.person_ids[(camera_of == camera) & (index.person_ids >= 0)])
        for person in present.tolist():
            people[person][f"camera-{camera}"] = [person + 1]
    return people
