"""Arrays to pictures that live inside the page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from personsearch.benchmarks.report.content import Image


def data_uri(image_bgr_hwc: Image, quality: int = 85) -> str:
    """A JPEG of ``(H, W, 3)`` BGR uint8 as a ``data:`` address.

    Raises:
        ValueError: the image has no pixels or is not ``(H, W, 3)`` uint8.
    """
    coloured = image_bgr_hwc.ndim == 3 and image_bgr_hwc.shape[2] == 3 and image_bgr_hwc.dtype == np.uint8
    if not coloured or not image_bgr_hwc.size:
        raise ValueError(f"image is {image_bgr_hwc.dtype} {image_bgr_hwc.shape}, expected uint8 (H, W, 3)")
    written, jpeg = cv2.imencode(".jpg", image_bgr_hwc, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise ValueError(f"an image of shape {image_bgr_hwc.shape} could not be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")


def fit(image_bgr_hwc: Image, wh: tuple[int, int], grey: int = 128) -> Image:
    """The image scaled to fit ``wh`` with its aspect kept, centred on ``grey``; so that crops stand in a row."""
    height, width = image_bgr_hwc.shape[:2]
    scale = min(wh[0] / width, wh[1] / height)
    inner_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image_bgr_hwc, inner_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    canvas = np.full((wh[1], wh[0], 3), grey, np.uint8)
    x, y = (wh[0] - inner_wh[0]) // 2, (wh[1] - inner_wh[1]) // 2
    canvas[y : y + inner_wh[1], x : x + inner_wh[0]] = resized
    return canvas


def crop(frame_bgr_hwc: Image, box_xyxy: np.ndarray, margin: float = 0.06) -> Image:
    """The part of a frame under a box, source pixels, widened by ``margin`` of its sides and cut at the frame.

    Raises:
        ValueError: nothing of the box lies in the frame.
    """
    height, width = frame_bgr_hwc.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    along_x, along_y = (x2 - x1) * margin, (y2 - y1) * margin
    left, top = max(0, round(x1 - along_x)), max(0, round(y1 - along_y))
    right, bottom = min(width, round(x2 + along_x)), min(height, round(y2 + along_y))
    if left >= right or top >= bottom:
        raise ValueError(f"box {x1:.1f},{y1:.1f},{x2:.1f},{y2:.1f} lies outside a frame of {width}x{height}")
    return frame_bgr_hwc[top:bottom, left:right]
