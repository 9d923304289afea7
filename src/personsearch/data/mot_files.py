"""The files of one MOTChallenge sequence: ``seqinfo.ini``, ``img1``, ``gt/gt.txt``, CVAT's ``gt/labels.txt``.

`personsearch.data.motchallenge` says what their fields mean.
"""

from __future__ import annotations

import configparser
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_dir, sha256_file
from personsearch.data.cache import default_cache
from personsearch.data.coco_identities import PEOPLE
from personsearch.data.index import image_sizes
from personsearch.data.sample import IntArray

PEDESTRIAN = 1
AMBIGUOUS_CLASSES = frozenset({2, 7, 8, 12})
MIN_VISIBILITY = 0.25
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
# How the same four are called where a file names its classes, as Datumaro and with it CVAT do.
_AMBIGUOUS_NAMES = frozenset({"person on vehicle", "static person", "distractor", "reflection"})
_TRUTH, _LABELS, _INFO = "gt/gt.txt", "gt/labels.txt", "seqinfo.ini"


@dataclass(frozen=True, eq=False)
class MotSequence:
    """One sequence as arrays; ``R`` rows of people and ambiguous regions, ``F`` frames in the order of their numbers.

    Attributes:
        name: of its folder.
        titles: what it is called: by its folder, and by ``seqinfo.ini``.
        image_paths: ``F`` paths relative to the data set's root.
        numbers: ``(F,)`` from 1 on, as ``gt.txt`` counts.
        image_wh: ``(F, 2)``, 0, 0 where neither ``seqinfo.ini`` nor the image tells.
        unseen: rows of ``gt.txt`` for frames without an image, which are not in the arrays that follow.
        frames: ``(R,)`` index into the sequence's frames.
        tracks: ``(R,)``, below 1 for a person without track.
        boxes_xywh: ``(R, 4)`` float64.
        ignored: ``(R,)`` whether the row is a region to ignore.
    """

    name: str
    titles: tuple[str, ...]
    image_paths: tuple[str, ...]
    numbers: IntArray
    image_wh: IntArray
    unseen: int
    frames: IntArray
    tracks: IntArray
    boxes_xywh: NDArray[np.float64]
    ignored: NDArray[np.bool_]


def find_sequences(root: Path) -> list[Path]:
    """The sequence that ``root`` is, or those in it by name; empty where there is none."""
    if _is_sequence(root):
        return [root]
    return sorted(path for path in root.glob("*") if _is_sequence(path))


def _is_sequence(path: Path) -> bool:
    return (path / _INFO).is_file() or (path / _TRUTH).is_file()


def is_mot_zip(path: Path) -> bool:
    """Whether a file is a zip with a ``gt/gt.txt`` in it."""
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(f"/{name}".endswith(f"/{_TRUTH}") for name in archive.namelist())


def unpacked(path: Path) -> Path:
    """The folder of a zip's content, in the cache by the zip's hash; unpacked when first asked for.

    Raises:
        InputError: the zip is damaged, or a name in it leads out of it.
    """
    place = default_cache() / "archives" / sha256_file(path)[:40]
    if place.is_dir():
        return place
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise InputError(f"holds the name `{name}`", where=str(path), expected="names inside the zip")
            with atomic_dir(place) as part:
                archive.extractall(part)
    # zipfile raises RuntimeError for an encrypted member, NotImplementedError for a compression that it does not know.
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise InputError("cannot be unpacked", where=str(path), remedy=str(error)) from None
    return place


def label_files(sequence: Path) -> list[Path]:
    """The files that a sequence's labels depend on, images aside."""
    return [path for path in (sequence / name for name in (_TRUTH, _LABELS, _INFO)) if path.is_file()]


def image_files(sequence: Path) -> dict[int, Path]:
    """Images of a sequence by their number.

    Raises:
        InputError: ``seqinfo.ini`` is wrong, there are images without number, or two of one number.
    """
    info = _read_info(sequence)
    paths = [path for path in sorted(info.folder.glob("*")) if path.suffix.lower() in info.suffixes]
    found = {int(path.stem): path for path in paths if path.stem.isdigit()}
    if paths and len(found) != len(paths):
        wrong = next(path for path in paths if not path.stem.isdigit() or found[int(path.stem)] != path)
        raise InputError(
            f"image `{wrong.name}` does not say which frame it is",
            where=str(info.folder),
            expected="one image a frame, named by its number, 000001 and so on",
        )
    return dict(sorted(found.items()))


def read_sequence(root: Path, sequence: Path) -> MotSequence:
    """Reads one sequence below ``root``, or ``root`` itself.

    Without any image its frames are those of ``seqLength``, or those that ``gt.txt`` has.

    Raises:
        InputError: a file is missing, or a line of it is wrong.
    """
    info = _read_info(sequence)
    frames, tracks, boxes, ignored = _read_truth(sequence)
    images = image_files(sequence)
    if images:
        numbers = np.array(list(images), np.int64)
    elif info.length:
        numbers = np.arange(1, info.length + 1, dtype=np.int64)
    else:
        numbers = np.unique(frames)
    suffix = min(info.suffixes) if len(info.suffixes) == 1 else ".jpg"
    paths = [images.get(number, info.folder / f"{number:06d}{suffix}") for number in numbers.tolist()]
    relative = tuple(path.relative_to(root).as_posix() for path in paths)
    sizes = image_sizes(root, relative) if info.image_wh is None else np.tile(info.image_wh, (len(relative), 1))
    index_of = np.minimum(np.searchsorted(numbers, frames), max(0, len(numbers) - 1))
    seen = (numbers[index_of] == frames) if len(numbers) else np.zeros(len(frames), bool)
    return MotSequence(
        sequence.name,
        tuple(dict.fromkeys((sequence.name, info.title))),
        relative,
        numbers,
        sizes.astype(np.int64).reshape(-1, 2),
        int((~seen).sum()),
        index_of[seen],
        tracks[seen],
        boxes[seen],
        ignored[seen],
    )


@dataclass(frozen=True)
class _Info:
    title: str
    folder: Path
    suffixes: frozenset[str]
    image_wh: tuple[int, int] | None
    length: int


def _read_info(sequence: Path) -> _Info:
    path = sequence / _INFO
    if not path.is_file():
        return _Info(sequence.name, sequence / "img1", IMAGE_SUFFIXES, None, 0)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["Sequence"]
        image_wh = int(section["imWidth"]), int(section["imHeight"])
        length = int(section.get("seqLength", "0"))
        folder, suffix = section["imDir"], section["imExt"].lower()
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        raise InputError(
            f"cannot be read: {error}",
            where=str(path),
            expected="[Sequence] with imDir, imExt, imWidth and imHeight",
        ) from None
    if min(image_wh) <= 0 or length < 0 or Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise InputError(
            f"imDir {folder}, size {image_wh[0]}x{image_wh[1]}, seqLength {length}",
            where=str(path),
            expected="a folder of the sequence and positive numbers",
        )
    return _Info(section.get("name", sequence.name), sequence / folder, frozenset({suffix}), image_wh, length)


def _read_truth(sequence: Path) -> tuple[IntArray, IntArray, NDArray[np.float64], NDArray[np.bool_]]:
    """Frame, track, xywh and whether it is ignored, of the rows of ``gt.txt`` that have to do with people."""
    path = sequence / _TRUTH
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=str(path), expected="MOT ground truth", remedy=str(error)) from None
    table = np.zeros((len(lines), 9))
    for number, line in enumerate(lines):
        if line.strip():
            table[number] = _fields(line, number + 1, path)
    table = table[[bool(line.strip()) for line in lines]]
    named = sequence / _LABELS
    kinds = _class_kinds(named) if named.is_file() else {PEDESTRIAN: False, **dict.fromkeys(AMBIGUOUS_CLASSES, True)}
    table = table[np.isin(table[:, 7], list(kinds))]
    visibility = table[:, 8]
    # CVAT writes its "occluded" switch there, unless somebody has filled in real visibilities.
    switch = named.is_file() and bool(np.isin(visibility, (0, 1)).all())
    ambiguous = np.isin(table[:, 7], [kind for kind, unclear in kinds.items() if unclear])
    ignored = ambiguous | (table[:, 6] == 0) | ((visibility < MIN_VISIBILITY) & (not switch))
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6], ignored


def _fields(line: str, number: int, path: Path) -> list[float]:
    """Frame, track, x, y, w, h, flag, class, visibility of one line."""
    try:
        fields = [float(field) for field in line.split(",")]
        if len(fields) not in (7, 9, 10) or not all(abs(field) < 1e18 for field in fields[:7]) or fields[0] < 0:
            raise ValueError("columns")
    except ValueError:
        raise InputError(
            f"line {number} is `{line[:80]}`",
            where=str(path),
            expected="frame,track,x,y,w,h,flag,class,visibility as numbers (or MOT15's 7 or 10 columns)",
        ) from None
    # MOT15 knows pedestrians only; its further columns are world coordinates.
    return fields if len(fields) == 9 else [*fields[:7], PEDESTRIAN, 1.0]


def _class_kinds(path: Path) -> Mapping[int, bool]:
    """Number of each class that has to do with people, and whether it is an ambiguous one."""
    try:
        names = [line.strip().lower() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=str(path), expected="names of classes", remedy=str(error)) from None
    kinds = {
        number: name in _AMBIGUOUS_NAMES
        for number, name in enumerate(names, start=1)
        if name in PEOPLE or name in _AMBIGUOUS_NAMES
    }
    if all(kinds.values()) and len([name for name in names if name]) == 1:
        return {1: False}
    if all(kinds.values()):
        raise InputError(
            f"none of the classes {', '.join(names[:8])} is a person",
            where=str(path),
            expected=f"one called {', '.join(sorted(PEOPLE))}",
        )
    return kinds
