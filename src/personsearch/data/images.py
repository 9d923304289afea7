"""Reading image files and JSON with one clear line where that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.data.sample import Frame


def read_image_bgr(path: Path, expected_wh: tuple[int, int] | None = None) -> Frame:
    """Decodes an image file to ``(H, W, 3)`` uint8 BGR.

    Grey and palette images become BGR, 16 bits are cut to their upper 8, an alpha channel is left out, and of an
    animation or a TIFF of several pages the first one is taken. EXIF orientation is applied, as viewers and annotation
    tools do; where ``expected_wh`` is the size of the unturned pixels instead, the boxes were drawn on those, and the
    pixels stay as they are stored.

    Raises:
        InputError: no such file, not an image, or not of ``expected_wh`` pixels.
    """
    content = _content(path)
    image = _decoded(content, cv2.IMREAD_COLOR, path)
    if expected_wh is None:
        return image
    if (image.shape[1], image.shape[0]) != expected_wh:
        image = _decoded(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, path)
    return _of_size(image, expected_wh, expected_wh, path)


def read_reduced_bgr(path: Path, expected_wh: tuple[int, int], reduction: int) -> Frame:
    """Decodes a JPEG at 1/2, 1/4 or 1/8 of its size, in a fraction of the time; any other format whole.

    The decoder leaves the high frequencies of each 8 x 8 block out, which is low-pass filter and subsampling in one.
    Pixel ``(x, y)`` covers ``[x * r, (x + 1) * r)`` and so on of the whole frame, as ``r`` must divide both its sides.

    Args:
        path: the file.
        expected_wh: of the whole frame, as `read_image_bgr` takes it.
        reduction: 2, 4 or 8.

    Raises:
        InputError: as `read_image_bgr`.
        ValueError: ``reduction`` is another number or does not divide the sides.
    """
    if reduction not in _REDUCED or expected_wh[0] % reduction or expected_wh[1] % reduction:
        raise ValueError(f"reduction {reduction} of {expected_wh}, expected 2, 4 or 8 that divides both sides")
    content = _content(path)
    if content[:3].tobytes() != _JPEG:
        return read_image_bgr(path, expected_wh)
    reduced_wh = (expected_wh[0] // reduction, expected_wh[1] // reduction)
    image = _decoded(content, _REDUCED[reduction], path)
    if (image.shape[1], image.shape[0]) != reduced_wh:
        image = _decoded(content, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION, path)
    return _of_size(image, reduced_wh, expected_wh, path)


_JPEG = b"\xff\xd8\xff"
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def _content(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(
            "image file cannot be read",
            where=str(path),
            expected="the image that the annotations name",
            remedy=error.strerror or "check the file",
        ) from None


def _decoded(content: NDArray[np.uint8], flags: int, path: Path) -> Frame:
    image = None
    if content.size:
        try:
            image = cv2.imdecode(content, flags)
        except cv2.error:
            image = None  # more pixels than OpenCV takes, or a header that lies
    if image is None:
        raise InputError("is not an image that can be decoded", where=str(path), remedy="replace the file")
    return np.asarray(image, dtype=np.uint8)


def _of_size(image: Frame, size_wh: tuple[int, int], stated_wh: tuple[int, int], path: Path) -> Frame:
    height, width = image.shape[:2]
    if (width, height) == size_wh:
        return image
    factor = stated_wh[0] // size_wh[0]
    raise InputError(
        f"image is {width * factor}x{height * factor}",
        where=str(path),
        expected=f"{stated_wh[0]}x{stated_wh[1]} as the annotations say",
        remedy="replace the file",
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file whose top level is an object.

    Raises:
        InputError: the file is missing, is not JSON or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "cannot be read", where=str(path), expected="a JSON file", remedy=error.strerror or ""
        ) from None
    except ValueError as error:
        raise InputError("is not valid JSON", where=str(path), remedy=str(error)) from None
    if not isinstance(content, dict):
        raise InputError(f"holds a {type(content).__name__}", where=str(path), expected="a JSON object")
    return content
