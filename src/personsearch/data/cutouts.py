"""Cutting people out of detector crops, without a network.

GrabCut (Rother et al., SIGGRAPH 2004) at half size, started from where a person stands in such a crop. That alone
loses heads and feet of the colour of the background, so each crop is cut a second time, started from what crops
of similar shape say about the lost part. A guided filter (He et al., ECCV 2010) brings the result to full size and
to the edges of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.data.sample import Frame

FloatImage = NDArray[np.float32]
CROP_HW = (128, 64)
"""Height and width of a crop in pixels."""
MASK_HW = (64, 32)
"""Height and width of the masks that GrabCut makes."""
VERSION = 3
"""Part of the cache's key: raise it when masks change."""
_NEIGHBOURS = 24
# Rows of head, torso and legs in a mask.
_PARTS = ((0, 14), (14, 40), (40, 64))
_CHUNK = 1024
# In these rows a mask believes its likes more than itself, as these are what GrabCut loses; it loses them in the
# likes too, hence the gain.
_HEAD_ROWS, _FEET_ROWS = slice(0, 12), slice(52, 64)
_GUIDE_RADIUS, _GUIDE_SMOOTHNESS = 4, 1e-3


def half_size(crop_bgr: Frame) -> Frame:
    """``(64, 32, 3)`` of a ``(128, 64, 3)`` crop."""
    return np.asarray(cv2.resize(crop_bgr, MASK_HW[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


def grabcut_mask(small_bgr: Frame, start: Frame | None = None) -> Frame:
    """Cuts the central person out; the same arguments always give the same mask.

    Args:
        small_bgr: ``(64, 32, 3)`` uint8.
        start: ``(64, 32)`` of OpenCV's four GrabCut classes; none for where people usually stand.

    Returns:
        ``(64, 32)`` uint8, 1 where the person is.
    """
    mask = _PRIOR.copy() if start is None else start.copy()
    models = [np.zeros((1, 65)), np.zeros((1, 65))]
    # GrabCut starts its colour clusters from OpenCV's generator, one for each thread.
    cv2.setRNGSeed(1)
    cv2.grabCut(small_bgr, mask, (0, 0, 1, 1), models[0], models[1], 2, cv2.GC_INIT_WITH_MASK)
    return _largest_part((mask & 1).astype(np.uint8))


def expected_masks(masks: Frame) -> FloatImage:
    """What the rest of each mask says about its head, torso and legs.

    A part lost in one crop is seldom lost in those whose other parts look alike: each of the three is the mean of
    that part in the masks nearest in the other parts.

    Args:
        masks: ``(N, 64, 32)`` uint8, 0 or 1.

    Returns:
        ``(N, 64, 32)`` float32 in 0..1.
    """
    count = len(masks)
    coarse = np.stack([cv2.resize(mask.astype(np.float32), (16, 32), interpolation=cv2.INTER_AREA) for mask in masks])
    near = min(_NEIGHBOURS, count)
    result = np.empty(masks.shape, dtype=np.float32)
    for top, bottom in _PARTS:
        rest = np.delete(coarse, slice(top // 2, bottom // 2), axis=1).reshape(count, -1)
        squares = (rest**2).sum(axis=1)
        for start in range(0, count, _CHUNK):
            distances = squares[None, :] - 2 * rest[start : start + _CHUNK] @ rest.T
            nearest = np.argpartition(distances, near - 1, axis=1)[:, :near]
            for row, others in zip(range(start, count), nearest, strict=False):
                result[row, top:bottom] = masks[others, top:bottom].mean(axis=0)
    return result


def second_start(first: Frame, expected: FloatImage) -> Frame:
    """Where GrabCut's second pass starts: ``(64, 32)`` of its classes from a first mask and what is expected."""
    smooth = cv2.GaussianBlur(expected, (0, 0), 0.6)
    belief = 0.4 * first + 0.6 * smooth
    start = np.full(MASK_HW, cv2.GC_PR_BGD, dtype=np.uint8)
    start[belief > 0.4] = cv2.GC_PR_FGD
    # The head is believed without GrabCut's consent: it is what the first pass loses.
    consent = first > 0
    consent[: _PARTS[0][1]] = True
    start[(smooth > 0.6) & consent] = cv2.GC_FGD
    start[belief < 0.06] = cv2.GC_BGD
    return start


def final_alpha(crop_bgr: Frame, second: Frame, expected: FloatImage) -> Frame:
    """The cut-out's alpha at full size.

    Args:
        crop_bgr: ``(128, 64, 3)`` uint8.
        second: ``(64, 32)``, GrabCut's second mask.
        expected: ``(64, 32)``, what its likes say.

    Returns:
        ``(128, 64)`` uint8, 255 where the person is, soft at the edge, one connected part.
    """
    belief = (1 - _TRUST) * second + _TRUST * np.minimum(expected * _GAIN, 1)
    full = np.asarray(cv2.resize(belief.astype(np.float32), CROP_HW[::-1]), dtype=np.float32)
    alpha = np.clip((_guided(crop_bgr, full) - 0.3) / 0.4, 0, 1)
    part = cv2.dilate(_largest_part((alpha > 0.5).astype(np.uint8)), np.ones((3, 3), np.uint8))
    return np.asarray(np.rint(alpha * part * 255), dtype=np.uint8)


def is_person_shaped(alpha: Frame) -> bool:
    """Whether an alpha has a head, a body and legs where a detector's crop has them."""
    person = alpha > 127
    rows = np.flatnonzero(person.any(axis=1))
    if not len(rows):
        return False
    head, body, shins = (float(person[rows_of].sum(axis=1).mean()) for rows_of in _SHAPE_ROWS)
    covered = float(person.mean())
    whole = rows[0] <= 24 and rows[-1] >= 104 and min(head, shins) > 3
    return bool(whole and 0.12 < covered < 0.65 and head < body)


_SHAPE_ROWS = (slice(6, 24), slice(30, 80), slice(96, 112))


def _largest_part(mask: Frame) -> Frame:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=np.uint8)


def _guided(crop_bgr: Frame, target: FloatImage) -> FloatImage:
    """The guided filter with a colour guide: in each window the target becomes linear in the guide."""
    guide = crop_bgr.astype(np.float32) / 255
    window = (2 * _GUIDE_RADIUS + 1, 2 * _GUIDE_RADIUS + 1)
    products = guide[..., :, None] * guide[..., None, :]  # (H, W, 3, 3)
    height, width = target.shape
    mean_guide, mean_target = cv2.blur(guide, window), cv2.blur(target, window)
    mean_both = cv2.blur(guide * target[..., None], window)
    mean_products = cv2.blur(products.reshape(height, width, 9), window).reshape(height, width, 3, 3)
    variance = mean_products - mean_guide[..., :, None] * mean_guide[..., None, :]
    variance += _GUIDE_SMOOTHNESS * np.eye(3, dtype=np.float32)
    covariance = mean_both - mean_guide * mean_target[..., None]
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0].astype(np.float32)
    offset = mean_target - (slope * mean_guide).sum(axis=-1)
    result = (cv2.blur(slope, window) * guide).sum(axis=-1) + cv2.blur(offset, window)
    return np.asarray(result, dtype=np.float32)


def _ellipses(*shapes: Sequence[float]) -> NDArray[np.bool_]:
    """Union of ellipses given as centre x, y and radius x, y in pixels of a mask."""
    y, x = np.mgrid[0 : MASK_HW[0], 0 : MASK_HW[1]]
    inside = np.zeros(MASK_HW, dtype=bool)
    for centre_x, centre_y, radius_x, radius_y in shapes:
        inside |= ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1
    return inside


def _prior() -> Frame:
    """Where a person stands in a detector's crop: head, torso and legs surely, around them probably."""
    mask = np.full(MASK_HW, cv2.GC_PR_BGD, dtype=np.uint8)
    mid = (MASK_HW[1] - 1) / 2
    likely = _ellipses((mid, 8, 6, 8), (mid, 25, 11.5, 17), (mid, 47.5, 10, 17))
    sure = _ellipses((mid, 8, 2.3, 4), (mid, 24, 4.5, 13), (mid - 1.8, 46, 1.5, 11), (mid + 1.8, 46, 1.5, 11))
    reach = _ellipses((mid, 9, 11, 12), (mid, 27.5, 15.5, 21), (mid, 48.5, 15, 18))
    mask[likely], mask[sure], mask[~reach] = cv2.GC_PR_FGD, cv2.GC_FGD, cv2.GC_BGD
    mask[:1], mask[:, :1], mask[:, -1:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    return mask


def _by_row(head: float, body: float, feet: float) -> FloatImage:
    column = np.full((MASK_HW[0], 1), body, dtype=np.float32)
    column[_HEAD_ROWS], column[_FEET_ROWS] = head, feet
    return column


_PRIOR = _prior()
_TRUST, _GAIN = _by_row(0.7, 0.5, 0.6), _by_row(1.2, 1.0, 1.15)
