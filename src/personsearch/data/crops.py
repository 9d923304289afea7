"""Crops of people with identities, cut out of their surroundings once and kept.

Files are named as in Market-1501 (Zheng et al., ICCV 2015): ``PPPP_cCsS_FFFFFF_NN.jpg`` is person P, camera C,
sequence S, frame F, detection N. Person 0000 is Market's name for what is nobody.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file
from personsearch.core.progress import StageProgress
from personsearch.data import cutouts
from personsearch.data.cutouts import CROP_HW
from personsearch.data.sample import Frame, IntArray

_NAME = re.compile(r"^(\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg$")
# Crops whose masks are kept together while the cut-outs are made: what a kill costs at most.
_PART = 512


@dataclass(frozen=True, eq=False)
class CropLibrary:
    """Cut-out people; the crops stay compressed in memory, about 5 KiB each.

    Attributes:
        person_numbers: ``(N,)`` the files' person numbers.
        camera_numbers: ``(N,)`` the files' camera numbers.
        usable: ``(N,)`` bool; false where no person-shaped mask was found, and for person 0000.
        margins: ``(N, 2)`` columns of the crop left and right of the person.
        files: ``(B,)`` uint8, each crop's file and its alpha as PNG, one after the other.
        ends: ``(2N,)`` int64, where each of them ends.
    """

    person_numbers: IntArray
    camera_numbers: IntArray
    usable: NDArray[np.bool_]
    margins: IntArray
    files: NDArray[np.uint8]
    ends: IntArray

    def __len__(self) -> int:
        return len(self.person_numbers)

    def pixels(self, index: int) -> Frame:
        """Crop ``index``, ``(128, 64, 3)`` uint8 BGR."""
        start = self.ends[2 * index - 1] if index else 0
        return np.asarray(cv2.imdecode(self.files[start : self.ends[2 * index]], cv2.IMREAD_COLOR), dtype=np.uint8)

    def alpha(self, index: int) -> Frame:
        """Alpha of crop ``index``, ``(128, 64)`` uint8, 255 where the person is."""
        start, end = self.ends[2 * index : 2 * index + 2]
        return np.asarray(cv2.imdecode(self.files[start:end], cv2.IMREAD_GRAYSCALE), dtype=np.uint8)

    @classmethod
    def open(cls, source: Path, cache: Path, crops_per_identity: int | None = None) -> CropLibrary:
        """Reads crops from a folder or a ``.zip`` and cuts them out, or takes the result from ``cache``.

        Killed while it cuts, it goes on where it was.

        Args:
            source: folder (searched below too) or zip archive.
            cache: folder for the cut-outs, about 5 KiB a crop; made where it is missing.
            crops_per_identity: take at most so many of each person, spread over the files; none for all.

        Raises:
            InputError: ``source`` is missing or holds no crop with such a name, or a crop is no 128x64 image.
        """
        sizes = _limit(_list_source(source), crops_per_identity)
        names = list(sizes)
        key = "\n".join([str(cutouts.VERSION), *(f"{PurePosixPath(name).name} {size}" for name, size in sizes.items())])
        path = cache / f"cutouts-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not path.is_file():
            made = _cut_out(_read(source, names), path.with_suffix(".parts"))
            with atomic_file(path) as part:
                np.savez(part, files=made.files, ends=made.ends, margins=made.margins, usable=made.usable)
            # Another process that made the same may have been faster.
            shutil.rmtree(path.with_suffix(".parts"), ignore_errors=True)
        matches = [_NAME.match(PurePosixPath(name).name) for name in names]
        numbers = np.array([[int(match[1]), int(match[2])] for match in matches if match], dtype=np.int64)
        with np.load(path) as kept:
            usable = kept["usable"] & (numbers[:, 0] > 0)
            return cls(numbers[:, 0], numbers[:, 1], usable, kept["margins"], kept["files"], kept["ends"])


def holds_crops(source: Path) -> bool:
    """Whether a folder, one of its archives, or ``source`` itself, holds crops named as Market-1501's."""
    archives = [source]
    if source.is_dir():
        if any(_NAME.match(path.name) for path in source.iterdir()):
            return True
        archives = sorted(source.glob("*.zip"))
    for archive in archives:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                if any(_NAME.match(PurePosixPath(name).name) for name in file.namelist()):
                    return True
    return False


class _CutOuts(NamedTuple):
    """What is kept in the cache, as `CropLibrary` has it; ``usable`` by shape alone."""

    files: NDArray[np.uint8]
    ends: IntArray
    margins: IntArray
    usable: NDArray[np.bool_]


def _list_source(source: Path) -> dict[str, int]:
    """Bytes of each crop by its name inside ``source``, in the order of the file names."""
    where, remedy = str(source), "name the folder or archive that holds them"
    if source.is_dir():
        paths = [path for path in source.rglob("*.jpg") if _NAME.match(path.name)]
        sizes = {path.relative_to(source).as_posix(): path.stat().st_size for path in paths}
    elif not source.is_file():
        raise InputError("does not exist", where=where, expected="crops in a .zip or a folder", remedy=remedy)
    elif not zipfile.is_zipfile(source):
        raise InputError("is not a zip archive", where=where, expected="crops in a .zip or a folder", remedy=remedy)
    else:
        with zipfile.ZipFile(source) as archive:
            members = [info for info in archive.infolist() if _NAME.match(PurePosixPath(info.filename).name)]
        sizes = {info.filename: info.file_size for info in members}
    if not sizes:
        raise InputError("holds no crops", where=where, expected="files named PPPP_cCsS_FFFFFF_NN.jpg", remedy=remedy)
    return dict(sorted(sizes.items(), key=lambda item: PurePosixPath(item[0]).name))


def _read(source: Path, names: Sequence[str]) -> list[bytes]:
    """The files' bytes, each an image of the right size."""
    try:
        if source.is_dir():
            contents = [(source / name).read_bytes() for name in names]
        else:
            with zipfile.ZipFile(source) as archive:
                contents = [archive.read(name) for name in names]
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError("cannot be read", where=str(source), expected="crops", remedy=str(error)) from None
    for name, content in zip(names, contents, strict=True):
        _decode(content, f"{source}/{name}")
    return contents


def _decode(content: bytes, where: str) -> Frame:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None or image.shape[:2] != CROP_HW:
        shown = "not an image" if image is None else f"{image.shape[1]}x{image.shape[0]}"
        raise InputError(f"crop is {shown}", where=where, expected=f"an image of {CROP_HW[1]}x{CROP_HW[0]} pixels")
    return np.asarray(image, dtype=np.uint8)


def _limit(sizes: dict[str, int], crops_per_identity: int | None) -> dict[str, int]:
    if crops_per_identity is None:
        return sizes
    groups: dict[str, list[str]] = {}
    for name in sizes:
        groups.setdefault(PurePosixPath(name).name[:4], []).append(name)
    kept = []
    for group in groups.values():
        count = min(len(group), crops_per_identity)
        kept += [group[place] for place in np.linspace(0, len(group) - 1, count).round().astype(int)]
    return {name: sizes[name] for name in kept}


def _cut_out(contents: Sequence[bytes], folder: Path) -> _CutOuts:
    """What a `CropLibrary` keeps of ``contents``; steps that a kill must not cost go to ``folder``."""
    crops = [_decode(content, str(number)) for number, content in enumerate(contents)]
    small = [cutouts.half_size(crop) for crop in crops]
    with (
        StageProgress("cutting out people", 3 * len(crops)) as progress,
        # GrabCut leaves Python alone while it works, so threads use every core.
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):

        def stage(name: str, work: Callable[[int], Frame]) -> Frame:
            parts = []
            for start in range(0, len(crops), _PART):
                stop = min(start + _PART, len(crops))
                path = folder / f"{name}-{start:06d}.npy"
                try:
                    masks = np.load(path)
                except FileNotFoundError:
                    masks = np.stack(list(pool.map(work, range(start, stop))))
                    with atomic_file(path) as part:
                        np.save(part, masks)
                parts.append(masks)
                progress.advance(stop - start)
            return np.concatenate(parts)

        first = stage("first", lambda row: cutouts.grabcut_mask(small[row]))
        likes = cutouts.expected_masks(first)
        second = stage(
            "second", lambda row: cutouts.grabcut_mask(small[row], cutouts.second_start(first[row], likes[row]))
        )
        likes = cutouts.expected_masks(second)
        alphas = stage("alpha", lambda row: cutouts.final_alpha(crops[row], second[row], likes[row]))
    files = [file for content, alpha in zip(contents, alphas, strict=True) for file in (content, _png(alpha))]
    return _CutOuts(
        files=np.frombuffer(b"".join(files), dtype=np.uint8),
        ends=np.cumsum([len(file) for file in files], dtype=np.int64),
        margins=np.array([_margins(alpha) for alpha in alphas], dtype=np.int64),
        usable=np.array([cutouts.is_person_shaped(alpha) for alpha in alphas], dtype=bool),
    )


def _margins(alpha: Frame) -> tuple[int, int]:
    columns = np.flatnonzero(alpha.max(axis=0) > 8)
    return (int(columns[0]), alpha.shape[1] - 1 - int(columns[-1])) if len(columns) else (0, 0)


def _png(image: Frame) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])
