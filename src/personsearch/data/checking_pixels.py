"""Reading every image of a data set: does it decode, is it whole, is it of the labels' size, is it there twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from personsearch.core.errors import InputError
from personsearch.data.checking_labels import many, some
from personsearch.data.images import read_image_bgr
from personsearch.data.index import Problem
from personsearch.data.survey import Survey

_AHEAD = 64


@dataclass(frozen=True)
class PixelCheck:
    """What reading the images told.

    Attributes:
        problems: each with the name of its split.
        read: images read.
        unreadable: how many of them failed.
        stopped: whether the first failure ended it.
    """

    problems: tuple[tuple[str, Problem], ...]
    read: int
    unreadable: int
    stopped: bool


@dataclass(frozen=True)
class _Image:
    split: str
    survey: Survey
    number: int


def check_pixels(
    surveys: Mapping[str, Survey], *, skip_bad: bool, progress: Callable[[int, int], None] | None = None
) -> PixelCheck:
    """Decodes every image that is there.

    Args:
        surveys: by split.
        skip_bad: whether to go on past an image that cannot be read.
        progress: called with images read and images in all.
    """
    images = [
        _Image(split, survey, number)
        for split, survey in surveys.items()
        for number in range(len(survey.rows))
        if (file := survey.file(number)) is None or file.is_file()
    ]
    problems: list[tuple[str, Problem]] = []
    copies: dict[bytes, list[_Image]] = {}
    read = unreadable = 0
    for image, (digest, problem) in _looked_at(images):
        read += 1
        if digest:
            copies.setdefault(digest, []).append(image)
        if problem is not None:
            unreadable += 1
            problems.append((image.split, problem))
        if progress is not None:
            progress(read, len(images))
        if unreadable and not skip_bad:
            return PixelCheck(tuple(problems), read, unreadable, stopped=read < len(images))
    problems += _duplicates(copies)
    return PixelCheck(tuple(problems), read, unreadable, stopped=False)


def _looked_at(images: list[_Image]) -> Iterator[tuple[_Image, tuple[bytes, Problem | None]]]:
    """Each image with what reading it told, in order; by several threads, a few images ahead of what is asked for."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if any(image.survey.file(image.number) is None for image in images):
        threads = 1  # a generator may keep its last frame
    with ThreadPoolExecutor(threads) as pool:
        waiting = iter(images)
        while block := list(islice(waiting, _AHEAD)):
            yield from zip(block, pool.map(_look_at, block), strict=True)


def _look_at(image: _Image) -> tuple[bytes, Problem | None]:
    """Digest of the file, empty for a rendered frame, and what is wrong with it."""
    path = image.survey.file(image.number)
    return (b"", _look_at_rendered(image)) if path is None else _look_at_file(image, path)


def _look_at_file(image: _Image, path: Path) -> tuple[bytes, Problem | None]:
    index = image.survey.index
    relative = index.image_paths[image.number]
    width, height = index.image_wh[image.number].tolist()
    try:
        content = path.read_bytes()
        if not _is_whole(content):
            return b"", Problem("wrong", relative, "is cut short", "copy it again")
        frame = read_image_bgr(path, (width, height) if width > 0 else None)
    except OSError as error:
        return b"", Problem("wrong", relative, "cannot be read", error.strerror or "check the file")
    except InputError as error:
        return b"", _problem(error, relative)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    rows = slice(int(index.offsets[image.number]), int(index.offsets[image.number + 1]))
    outside = index.boxes_xyxy[rows, 2:] > np.array([frame.shape[1], frame.shape[0]]) + 0.5
    if width <= 0 and outside.any():
        what = f"{many(int(outside.any(axis=1).sum()), 'box')} outside its {frame.shape[1]}x{frame.shape[0]} pixels"
        return digest, Problem("wrong", relative, what, "correct the labels, or replace the file")
    return digest, None


def _look_at_rendered(image: _Image) -> Problem | None:
    row = int(image.survey.rows[image.number])
    try:
        frame = image.survey.dataset.frame_bgr(row)
    except InputError as error:
        return _problem(error, f"frame {row}")
    width, height = image.survey.index.image_wh[image.number].tolist()
    if (frame.shape[1], frame.shape[0]) == (width, height):
        return None
    what = f"is {frame.shape[1]}x{frame.shape[0]}, its labels say {width}x{height}"
    return Problem("wrong", f"frame {row}", what, "report it: the generator is wrong")


def _problem(error: InputError, where: str) -> Problem:
    remedy = "; ".join(filter(None, (f"expected {error.expected}" if error.expected else "", error.remedy)))
    return Problem("wrong", where, error.what, remedy)


def _is_whole(content: bytes) -> bool:
    """Whether a JPEG or PNG has its end; OpenCV 4 fills what is missing with grey, silently."""
    if content[:3] == b"\xff\xd8\xff":
        # Within a scan 0xFF is always followed by 0, so that these two markers cannot be pixels.
        return content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")
    if content[:4] == b"\x89PNG":
        return b"IEND" in content[-64:]
    return True


def _duplicates(copies: Mapping[bytes, list[_Image]]) -> Iterator[tuple[str, Problem]]:
    """Files of the same bytes under several names: a fault across splits, and good to know within one."""
    within: dict[str, list[str]] = {}
    for images in copies.values():
        first = images[0]
        first_path = _path(first)
        for other in images[1:]:
            if _path(other) == first_path:
                continue
            pair = f"{_relative(other)} = {_relative(first)}"
            if other.split == first.split:
                within.setdefault(other.split, []).append(pair)
            else:
                what = f"the same image as {_relative(first)} of split `{first.split}`"
                yield other.split, Problem("wrong", _relative(other), what, "remove it from one split")
    for split, pairs in within.items():
        what = f"{many(len(pairs), 'image')} with the bytes of another: {some(pairs)}"
        yield split, Problem("noted", "", what, "remove the copies, unless the publisher has them", len(pairs))


def _path(image: _Image) -> Path:
    return image.survey.root / image.survey.index.image_paths[image.number]


def _relative(image: _Image) -> str:
    return image.survey.index.image_paths[image.number]
