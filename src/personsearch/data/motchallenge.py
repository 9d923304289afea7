"""Sequences in the MOTChallenge layout: MOT16 and MOT17 (9 columns), MOT15 and PETS (7 or 10 columns).

``SEQUENCE/seqinfo.ini``, ``SEQUENCE/img1/000001.jpg``, ``SEQUENCE/gt/gt.txt`` with lines ``frame, track, x, y, w, h,
flag, class, visibility``. Milan et al., "MOT16: a benchmark for multi-object tracking", 2016, table 3: class 1 is a
pedestrian; people on vehicles (2), static people (7), distractors (8) and reflections (12) are neither right nor
wrong to find, so they become regions to ignore, as do pedestrians whose flag is 0 or who are hardly visible.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import clip_boxes, xywh_to_xyxy
from personsearch.data.images import read_image_bgr, read_json_object
from personsearch.data.sample import IGNORE, UNLABELLED, Frame, Query, Sample

PEDESTRIAN = 1
AMBIGUOUS_CLASSES = frozenset({2, 7, 8, 12})
MIN_VISIBILITY = 0.25


@dataclass(frozen=True)
class _Box:
    frame: int
    track: int
    xywh: tuple[float, float, float, float]
    ignore: bool


class MotDataset:
    """Frames of one or several sequences; each sequence is a camera.

    Only frames whose image exists are listed: copies with every n-th frame are common.

    Args:
        root: one sequence, or a folder of sequences.
        identities: whether tracks are identities; otherwise every person is unlabelled.
        person_map: JSON that joins tracks into people, ``{"persons": [{<key>: [track ids]}, ...]}``, as tracks
            of someone who leaves and returns differ; tracks that it does not name stay apart.
        map_keys: sequence name to the key that the map uses for it.
        name: of the data set; none for the folder's.
        terms: under which the footage may be used.

    Attributes:
        tracks: for each sequence name, track id to person id (empty without ``identities``).

    Raises:
        InputError: no sequence, no image or no ground truth there, or a line of it is wrong.
    """

    def __init__(
        self,
        root: Path,
        *,
        identities: bool = False,
        person_map: Path | None = None,
        map_keys: Mapping[str, str] | None = None,
        name: str | None = None,
        terms: str = "unknown",
    ) -> None:
        self.name = name or root.name
        self.terms = terms
        self.queries: tuple[Query, ...] = ()
        self._samples: list[Sample] = []
        self.tracks: dict[str, dict[int, int]] = {}
        self.person_count = 0
        joined = _joined_tracks(person_map) if person_map else {}
        for camera_id, sequence in enumerate(_sequences(root)):
            rows = _read_ground_truth(sequence / "gt" / "gt.txt")
            if identities:
                key = (map_keys or {}).get(sequence.name, sequence.name)
                self._number_tracks(sequence.name, rows, joined.get(key, []))
            self._add_frames(sequence, camera_id, rows)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR; `InputError` where its file cannot be read."""
        sample = self._samples[index]
        assert sample.image_path is not None
        return read_image_bgr(sample.image_path, sample.image_wh)

    def _number_tracks(self, sequence: str, rows: list[_Box], groups: list[list[int]]) -> None:
        present = {row.track for row in rows if not row.ignore}
        grouped = {track for group in groups for track in group}
        all_groups = [group for group in groups if present & set(group)]
        all_groups += [[track] for track in sorted(present - grouped)]
        self.tracks[sequence] = {
            track: self.person_count + number for number, group in enumerate(all_groups) for track in group
        }
        self.person_count += len(all_groups)

    def _add_frames(self, sequence: Path, camera_id: int, rows: list[_Box]) -> None:
        folder, suffix, image_wh = _read_sequence_info(sequence)
        tracks = self.tracks.get(sequence.name, {})
        by_frame: dict[int, list[_Box]] = {}
        for row in rows:
            by_frame.setdefault(row.frame, []).append(row)
        paths = sorted(path for path in folder.glob(f"*{suffix}") if path.stem.isdigit())
        if not paths:
            raise InputError(f"holds no image `*{suffix}`", where=str(folder), expected="numbered frames")
        for path in paths:
            labels = by_frame.get(int(path.stem), [])
            boxes = clip_boxes(
                xywh_to_xyxy(np.array([row.xywh for row in labels], dtype=np.float64).reshape(-1, 4)), image_wh
            ).astype(np.float32)
            ids = np.array(
                [IGNORE if row.ignore else tracks.get(row.track, UNLABELLED) for row in labels], dtype=np.int64
            )
            inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            self._samples.append(Sample(path, boxes[inside], ids[inside], camera_id, int(path.stem), image_wh))


def _sequences(root: Path) -> list[Path]:
    if (root / "seqinfo.ini").is_file():
        return [root]
    found = sorted(path.parent for path in root.glob("*/seqinfo.ini"))
    if not found:
        raise InputError(
            "holds no sequence",
            where=str(root),
            expected="a folder with seqinfo.ini, img1/ and gt/gt.txt, or several",
            remedy="name the folder of a MOTChallenge sequence",
        )
    return found


def _read_sequence_info(sequence: Path) -> tuple[Path, str, tuple[int, int]]:
    path = sequence / "seqinfo.ini"
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        info = parser["Sequence"]
        return sequence / info["imDir"], info["imExt"], (int(info["imWidth"]), int(info["imHeight"]))
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        raise InputError(
            f"cannot be read: {error}",
            where=str(path),
            expected="[Sequence] with imDir, imExt, imWidth and imHeight",
        ) from None


def _read_ground_truth(path: Path) -> list[_Box]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError("cannot be read", where=str(path), expected="MOT ground truth", remedy=str(error)) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _parse([float(field) for field in line.split(",")])
        except ValueError:
            raise InputError(
                f"line {number} is `{line[:80]}`",
                where=str(path),
                expected="frame,track,x,y,w,h,flag,class,visibility as numbers (or MOT15's 7 or 10 columns)",
            ) from None
        if row is not None:
            rows.append(row)
    return rows


def _parse(fields: list[float]) -> _Box | None:
    """One line's box; none for a class that has nothing to do with people, or a box without area."""
    if len(fields) not in (7, 9, 10) or not np.isfinite(fields[:7]).all():
        raise ValueError("columns")
    frame, track = int(fields[0]), int(fields[1])
    x, y, width, height = fields[2:6]
    flagged = fields[6] != 0
    if len(fields) == 9:
        kind, visibility = int(fields[7]), fields[8]
    else:
        # MOT15 knows pedestrians only; its further columns are world coordinates.
        kind, visibility = PEDESTRIAN, 1.0
    if (kind != PEDESTRIAN and kind not in AMBIGUOUS_CLASSES) or width <= 0 or height <= 0:
        return None
    ignore = kind != PEDESTRIAN or not flagged or visibility < MIN_VISIBILITY
    return _Box(frame, track, (x, y, width, height), ignore)


def _joined_tracks(path: Path) -> dict[str, list[list[int]]]:
    people = read_json_object(path).get("persons")
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise InputError("`persons` is no list of objects", where=str(path), expected='{"persons": [{KEY: [tracks]}]}')
    joined: dict[str, list[list[int]]] = {}
    for person in people:
        for key, tracks in person.items():
            if isinstance(tracks, list) and tracks:
                joined.setdefault(key, []).append([int(track) for track in tracks])
    return joined
