"""Crops of people with identities, cut out of their surroundings.

Files are named as in Market-1501 (Zheng et al., ICCV 2015): ``PPPP_cCsS_FFFFFF_NN.jpg`` is person P, camera C,
sequence S, frame F, detection N. Each is cut out once by GrabCut (Rother et al., SIGGRAPH 2004), started from
where a person stands in such a crop. That alone loses heads and feet of the colour of the background, so each
crop is cut a second time, started from what crops of similar shape say about the lost part.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file
from personsearch.core.progress import StageProgress
from personsearch.data.sample import Frame, IntArray

CROP_HW = (128, 64)
"""Height and width of a crop in pixels."""
_NAME = re.compile(r"^(\d{4})_c(\d)s\d_\d{6}_\d{2}\.jpg$")
# Part of the cache's key: raise it when masks change.
_VERSION = 2
_NEIGHBOURS = 24
# Rows of head, torso and legs.
_PARTS = ((0, 28), (28, 80), (80, 128))
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class CropLibrary:
    """Cut-out people.

    Attributes:
        bgra: ``(N, 128, 64, 4)`` uint8, alpha 255 where the person is; mapped from the cache file.
        person_numbers: ``(N,)`` the files' person numbers.
        camera_numbers: ``(N,)`` the files' camera numbers.
        usable: ``(N,)`` bool; false where no person-shaped mask was found.
    """

    bgra: Frame
    person_numbers: IntArray
    camera_numbers: IntArray
    usable: NDArray[np.bool_]

    @classmethod
    def open(cls, source: Path, cache: Path, crops_per_identity: int | None = None) -> CropLibrary:
        """Reads crops from a folder or a ``.zip`` and cuts them out, or takes the result from ``cache``.

        Args:
            source: folder (searched below too) or zip archive.
            cache: folder for the cut-outs, about 32 KiB a crop; made where it is missing.
            crops_per_identity: take at most so many of each person, spread over the files; none for all.

        Raises:
            InputError: ``source`` is missing or holds no crop with such a name, or a crop is no 128x64 image.
        """
        sizes = _limit(_list_source(source), crops_per_identity)
        names = list(sizes)
        key = "\n".join([str(_VERSION), *(f"{PurePosixPath(name).name} {size}" for name, size in sizes.items())])
        path = cache / f"cutouts-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        if not path.is_file():
            crops = _read(source, names)
            with atomic_file(path) as part:
                np.save(part, _cut_out(crops))
        bgra = np.load(path, mmap_mode="r")
        matches = [_NAME.match(PurePosixPath(name).name) for name in names]
        numbers = np.array([[int(match[1]), int(match[2])] for match in matches if match], dtype=np.int64)
        return cls(bgra, numbers[:, 0], numbers[:, 1], _usable(bgra))


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


def _read(source: Path, names: Sequence[str]) -> list[Frame]:
    try:
        if source.is_dir():
            return [_decode((source / name).read_bytes(), f"{source}/{name}") for name in names]
        with zipfile.ZipFile(source) as archive:
            return [_decode(archive.read(name), f"{source}/{name}") for name in names]
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError("cannot be read", where=str(source), expected="crops", remedy=str(error)) from None


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


def _ellipse(centre_xy: tuple[float, float], radius_xy: tuple[float, float]) -> NDArray[np.bool_]:
    y, x = np.mgrid[0 : CROP_HW[0], 0 : CROP_HW[1]]
    inside: NDArray[np.bool_] = (
        ((x - centre_xy[0]) / radius_xy[0]) ** 2 + ((y - centre_xy[1]) / radius_xy[1]) ** 2
    ) < 1
    return inside


def _prior() -> Frame:
    """Where a person stands in a detector's crop: head, torso and legs surely, around them probably."""
    mask = np.full(CROP_HW, cv2.GC_PR_BGD, dtype=np.uint8)
    mid = (CROP_HW[1] - 1) / 2
    likely = _ellipse((mid, 16), (12, 16)) | _ellipse((mid, 50), (23, 34)) | _ellipse((mid, 95), (20, 34))
    legs = _ellipse((mid - 3.5, 92), (3, 22)) | _ellipse((mid + 3.5, 92), (3, 22))
    reach = _ellipse((mid, 18), (22, 24)) | _ellipse((mid, 55), (31, 42)) | _ellipse((mid, 97), (30, 36))
    mask[likely] = cv2.GC_PR_FGD
    mask[_ellipse((mid, 16), (4.5, 8)) | _ellipse((mid, 48), (9, 26)) | legs] = cv2.GC_FGD
    mask[~reach] = cv2.GC_BGD
    mask[:1], mask[:, :1], mask[:, -1:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    return mask


def _largest_part(mask: Frame) -> Frame:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=np.uint8)


def grabcut_mask(crop_bgr: Frame, start: Frame | None = None) -> Frame:
    """Cuts the central person out of a crop; the same arguments always give the same mask.

    Args:
        crop_bgr: ``(128, 64, 3)`` uint8.
        start: ``(128, 64)`` of OpenCV's four GrabCut classes; none for where people usually stand.

    Returns:
        ``(128, 64)`` uint8, 1 where the person is.
    """
    mask = _prior() if start is None else start.copy()
    models = [np.zeros((1, 65)), np.zeros((1, 65))]
    # GrabCut starts its colour clusters from OpenCV's generator, one for each thread.
    cv2.setRNGSeed(1)
    cv2.grabCut(crop_bgr, mask, (0, 0, 1, 1), models[0], models[1], 2, cv2.GC_INIT_WITH_MASK)
    person = (mask & 1).astype(np.uint8)
    opened = np.asarray(cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    return _largest_part(opened)


def expected_masks(masks: Frame) -> NDArray[np.float32]:
    """What the rest of each mask says about its head, torso and legs.

    A part lost in one crop is seldom lost in those whose other parts look alike: each of `_PARTS` is the mean of
    that part in the masks nearest in the other parts.

    Args:
        masks: ``(N, 128, 64)`` uint8, 0 or 1.

    Returns:
        ``(N, 128, 64)`` float32 in 0..1.
    """
    count = len(masks)
    coarse = np.stack([cv2.resize(mask.astype(np.float32), (16, 32), interpolation=cv2.INTER_AREA) for mask in masks])
    near = min(_NEIGHBOURS, count)
    result = np.empty(masks.shape, dtype=np.float32)
    for top, bottom in _PARTS:
        rest = np.delete(coarse, slice(top // 4, bottom // 4), axis=1).reshape(count, -1)
        squares = (rest**2).sum(axis=1)
        for start in range(0, count, _CHUNK):
            distances = squares[None, :] - 2 * rest[start : start + _CHUNK] @ rest.T
            nearest = np.argpartition(distances, near - 1, axis=1)[:, :near]
            for row, others in zip(range(start, count), nearest, strict=False):
                result[row, top:bottom] = masks[others, top:bottom].mean(axis=0)
    return result


def _second_start(first: Frame, expected: NDArray[np.float32]) -> Frame:
    smooth = cv2.GaussianBlur(expected, (0, 0), 1.0)
    belief = 0.4 * first + 0.6 * smooth
    start = np.full(CROP_HW, cv2.GC_PR_BGD, dtype=np.uint8)
    start[belief > 0.4] = cv2.GC_PR_FGD
    # The head is believed without GrabCut's consent: it is what the first pass loses.
    consent = first > 0
    consent[: _PARTS[0][1]] = True
    start[(smooth > 0.6) & consent] = cv2.GC_FGD
    start[belief < 0.06] = cv2.GC_BGD
    start[:1] = cv2.GC_BGD
    return start


def _cut_out(crops: Sequence[Frame]) -> Frame:
    """``(N, 128, 64, 4)`` BGR and alpha."""
    with (
        StageProgress("cutting out people", 2 * len(crops)) as progress,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):

        def counted(masks: Iterable[Frame]) -> Iterator[Frame]:
            for mask in masks:
                progress.advance()
                yield mask

        first = np.stack(list(counted(pool.map(grabcut_mask, crops))))
        starts = map(_second_start, first, expected_masks(first))
        second = np.stack(list(counted(pool.map(grabcut_mask, crops, starts))))
    shares = 0.5 * second + 0.5 * expected_masks(second)
    bgra = np.empty((len(crops), *CROP_HW, 4), dtype=np.uint8)
    for index, crop in enumerate(crops):
        person = _largest_part((shares[index] > 0.45).astype(np.uint8))
        bgra[index, :, :, :3] = crop
        bgra[index, :, :, 3] = cv2.GaussianBlur(person * np.uint8(255), (0, 0), 0.8)
    return bgra


def _usable(bgra: Frame) -> NDArray[np.bool_]:
    person = bgra[..., 3] > 127
    share = person.mean(axis=(1, 2))
    rows = person.any(axis=2).sum(axis=1)
    usable: NDArray[np.bool_] = (share > 0.12) & (share < 0.65) & (rows > 0.6 * CROP_HW[0])
    return usable
