"""Reading image files and JSON with one clear line where that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.data.sample import Frame


def read_image_bgr(path: Path, expected_wh: tuple[int, int] | None = None) -> Frame:
    """Decodes an image file to ``(H, W, 3)`` uint8 BGR.

    Raises:
        InputError: no such file, not an image, or not of ``expected_wh`` pixels.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(
            "image file cannot be read",
            where=str(path),
            expected="the image that the annotations name",
            remedy=error.strerror or "check the file",
        ) from None
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise InputError("is not an image that can be decoded", where=str(path), remedy="replace the file")
    height, width = image.shape[:2]
    if expected_wh is not None and (width, height) != expected_wh:
        raise InputError(
            f"image is {width}x{height}",
            where=str(path),
            expected=f"{expected_wh[0]}x{expected_wh[1]} as the annotations say",
            remedy="replace the file",
        )
    return np.asarray(image, dtype=np.uint8)


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
