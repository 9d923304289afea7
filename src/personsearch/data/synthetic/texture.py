"""Noise with which surfaces are given grain, looked up by position in the world."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]
TILE = 256


def noise_tile(rng: np.random.Generator, coarsest: int = 4) -> F32:
    """``(256, 256)`` noise of several octaves, zero mean, unit spread, that repeats without a seam."""
    total = np.zeros((TILE, TILE), np.float32)
    cells, weight = coarsest, 1.0
    while cells <= TILE:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        # Three copies across, the middle one cut out: interpolation runs over the seam.
        grid = np.tile(grid, (3, 3))
        layer = cv2.resize(grid, (3 * TILE, 3 * TILE), interpolation=cv2.INTER_CUBIC)
        total += np.float32(weight) * np.asarray(layer[TILE : 2 * TILE, TILE : 2 * TILE], np.float32)
        cells, weight = cells * 2, weight * 0.62
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def sample(tile: F32, x: Floats, y: Floats, period: float) -> F32:
    """The tile's values at positions ``x``, ``y``; it repeats after ``period``."""
    columns = np.mod(x * np.float32(TILE / period), TILE).astype(np.float32)
    rows = np.mod(y * np.float32(TILE / period), TILE).astype(np.float32)
    found = cv2.remap(tile, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(found, np.float32)


def cell_values(rng: np.random.Generator, x: Floats, y: Floats) -> F32:
    """One random number, standard normal, for each whole-numbered cell of ``x``, ``y``."""
    table = rng.standard_normal((61, 67)).astype(np.float32)
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    return np.asarray(table[np.mod(rows, 61), np.mod(columns, 67)], np.float32)


def line_share(position: Floats, width: float, pixel: Floats) -> F32:
    """How much of a pixel a line of ``width`` at every whole number covers; ``pixel`` is its size in the same unit."""
    distance = np.abs(position - np.round(position))
    cover = np.clip((np.float32(width / 2) - distance) / np.maximum(pixel, 1e-6) + 0.5, 0, 1)
    # Lines finer than a pixel fade instead of flickering.
    return np.asarray(cover * np.clip(width / np.maximum(pixel, 1e-6), 0, 1), np.float32)
