"""Clothes of other colours: people whom no crop shows, made of crops."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.data.sample import Frame

# Rows, as shares of a crop's height, where clothes begin and where the upper ones end; from and to.
_NECK, _WAIST = (0.13, 0.19), (0.44, 0.58)
_SOFT_ROWS = 2.0
# Standard deviations: of the logarithms of the lightness's exponent and of the chroma's factor, and of the dye in Lab.
_LIGHTNESS, _CHROMA, _DYE = 0.45, 0.35, 14.0


def recoloured(bgr: Frame, rng: np.random.Generator) -> Frame:
    """A crop whose upper and lower clothes each have a colour of their own; head, folds and patterns stay.

    In CIE Lab each part's hue is turned by any angle, its chroma scaled, a dye added, and its lightness raised to a
    power, so that black stays black and white stays white only where there is no colour to add.

    Args:
        bgr: ``(H, W, 3)`` uint8, a person from head to feet.
        rng: the only source of chance.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    lab: Any = cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)
    rows = np.arange(len(bgr), dtype=np.float32)
    neck, waist = (len(bgr) * float(rng.uniform(*span)) for span in (_NECK, _WAIST))
    below_neck, below_waist = _step(rows, neck), _step(rows, waist)
    mixed = lab + (below_neck - below_waist) * (_dyed(lab, rng) - lab) + below_waist * (_dyed(lab, rng) - lab)
    back: Any = cv2.cvtColor(mixed, cv2.COLOR_Lab2BGR)
    return np.asarray(np.rint(np.clip(back, 0, 1) * 255), np.uint8)


def _dyed(lab: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    angle, (power, chroma) = float(rng.uniform(-np.pi, np.pi)), np.exp(rng.normal(0, (_LIGHTNESS, _CHROMA))).tolist()
    turn = chroma * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    light = 100 * np.clip(lab[..., :1] / 100, 0, 1) ** power
    colour = lab[..., 1:] @ turn + rng.normal(0, _DYE, 2)
    return np.concatenate([light, colour], axis=-1).astype(np.float32)


def _step(rows: NDArray[np.float32], at: float) -> NDArray[np.float32]:
    """``(H, 1, 1)``: 0 above row ``at``, 1 below it, soft between."""
    step: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip((rows - at) / _SOFT_ROWS, -30, 30)))).astype(np.float32)
    return step[:, None, None]
