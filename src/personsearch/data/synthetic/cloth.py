"""Colours of cloth, skin and hair over a part's surface: patterns as functions of position and angle.

Every paint takes positions along the part (metres from its start) and angles about it (radians, 0 is the person's
front, positive to the person's right) and gives ``(N, 3)`` BGR.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.data.synthetic.appearance import Appearance, Garment
from personsearch.data.synthetic.solid import Colour, Paint
from personsearch.data.synthetic.texture import F32

# The shoulders' half width in metres turns an angle on the torso into a length along the cloth.
_GIRTH_M = 0.17


def _two(mask: F32, first: Colour, second: Colour) -> F32:
    weight = mask[:, None]
    colours: F32 = (1 - weight) * np.asarray(first, np.float32) + weight * np.asarray(second, np.float32)
    return colours


def _step(value: NDArray[np.floating[Any]]) -> F32:
    return np.asarray(value > 0, np.float32)


def pattern_mask(garment: Garment, down: F32, angle: F32, radius_m: float, length_m: float) -> F32:
    """Share of the secondary colour, 0..1, ``(N,)``.

    Args:
        garment: pattern and period.
        down: metres from the part's upper end.
        angle: radians about it, 0 at the front.
        radius_m: of the part, for lengths around it.
        length_m: of the part, for patterns that divide it.
    """
    turn = np.float32(2 * np.pi / garment.period_m)
    around = angle * np.float32(radius_m)
    pattern = garment.pattern
    if pattern == "stripes":
        return _step(np.sin(down * turn))
    if pattern == "pinstripes":
        return _step(np.sin(around * turn))
    if pattern == "plaid":
        return np.asarray((_step(np.sin(down * turn)) + _step(np.sin(around * turn))) * 0.5, np.float32)
    if pattern == "dots":
        grid = turn * np.float32(0.8)
        return _step(np.sin(down * grid) * np.sin(around * grid) - np.float32(0.28))
    if pattern == "block":
        return _step(down - np.float32(0.5 * length_m))
    if pattern == "half":
        return _step(angle)
    if pattern == "sash":
        return _step(np.float32(0.075) - np.abs(down - np.float32(0.5 * length_m) - around * np.float32(1.1)))
    if pattern == "logo":
        patch = np.maximum(np.abs(down - np.float32(0.38 * length_m)) / 0.1, np.abs(angle) / 0.8)
        return _step(np.float32(1) - patch)
    if pattern == "band":
        return _step(np.float32(0.075) - np.abs(down - np.float32(0.42 * length_m)))
    return np.zeros_like(down)


def torso_paint(person: Appearance, length_m: float) -> Paint:
    """Shirt, open jacket or coat, with the straps of a bag over it; skin at the neckline."""
    garment = person.upper

    def paint(down: F32, angle: F32) -> F32:
        colours = _two(pattern_mask(garment, down, angle, _GIRTH_M, length_m), garment.primary, garment.secondary)
        if person.upper_kind == "jacket":
            opening = (np.abs(angle) < 0.3 + 0.25 * (1 - down / length_m)) & (down < 0.97 * length_m)
            colours[opening] = person.inner
        elif person.upper_kind == "coat":
            colours[(np.abs(angle) < 0.45 - 1.6 * down) & (down > 0)] = person.inner
        if person.hair != "hood":
            colours[(down + 0.03 * np.abs(angle) < 0.05) & (np.abs(angle) < 1.2)] = person.skin
        _straps(person, colours, down, angle, length_m)
        return colours

    return paint


def _straps(person: Appearance, colours: F32, down: F32, angle: F32, length_m: float) -> None:
    if person.bag == "backpack":
        strap = (np.abs(np.abs(angle) - 0.72) < 0.14) & (down < 0.62 * length_m)
        colours[strap] = np.asarray(person.bag_colour, np.float32) * 0.8
    elif person.bag == "shoulder":
        # From the shoulder of one side to the hip of the other, across chest and back.
        side = person.bag_side * np.where(np.abs(angle) > np.pi / 2, np.sign(angle) * np.pi - angle, angle)
        strap = np.abs(down - length_m * (0.5 - 0.36 * side)) < 0.035
        colours[strap] = np.asarray(person.bag_colour, np.float32) * 0.8


def sleeve_paint(person: Appearance, *, offset_m: float, length_m: float) -> Paint:
    """Upper arm (``offset_m`` 0) or forearm: sleeve to its end, then skin."""
    garment = person.upper
    sleeve_end = 0.13 if person.sleeve == "short" else 10.0
    patterned = garment.pattern in ("stripes", "plaid", "dots") and person.sleeve_colour == garment.primary

    def paint(along: F32, angle: F32) -> F32:
        down = along + np.float32(offset_m)
        if patterned:
            colours = _two(pattern_mask(garment, down, angle, 0.06, length_m), garment.primary, garment.secondary)
        else:
            colours = np.tile(np.asarray(person.sleeve_colour, np.float32), (len(down), 1))
        colours[down > sleeve_end] = person.skin
        return colours

    return paint


def leg_paint(person: Appearance, *, shin: bool, length_m: float) -> Paint:
    """Thigh or shin in trousers, shorts or bare under a skirt."""

    def paint(along: F32, angle: F32) -> F32:
        colours = np.tile(np.asarray(person.lower, np.float32), (len(along), 1))
        if person.lower_kind == "shorts":
            bare = along > (-1.0 if shin else 0.8 * length_m)
            colours[bare] = person.skin
        elif person.lower_kind == "skirt":
            colours[:] = person.skin
        elif person.lower_kind == "side_stripe":
            colours[np.abs(np.abs(angle) - np.pi / 2) < 0.5] = person.lower_accent
        return colours

    return paint


def head_paint(person: Appearance, length_m: float) -> Paint:
    """Face in front, hair or hat around it; ``length_m`` from crown to chin."""
    covers = person.hair in ("cap", "beanie", "hood")
    hat = person.upper.primary if person.hair == "hood" else person.hat_colour

    def paint(down: F32, angle: F32) -> F32:
        share = down / np.float32(length_m)
        colours = np.tile(np.asarray(person.skin, np.float32), (len(down), 1))
        if person.hair != "bald":
            hairline = 0.26 + 0.1 * np.cos(angle * 2.0)
            nape = 0.95 if person.hair in ("long", "bun") else 0.72
            hair = (share < hairline) | ((np.abs(angle) > 1.15) & (share < nape))
            colours[hair] = person.hair_colour
        eyes = (np.abs(np.abs(angle) - 0.42) < 0.17) & (np.abs(share - 0.5) < 0.06)
        colours[eyes] = np.asarray(person.skin, np.float32) * 0.35
        mouth = (np.abs(angle) < 0.3) & (np.abs(share - 0.8) < 0.03)
        colours[mouth] = np.asarray(person.skin, np.float32) * np.array([0.62, 0.55, 0.75], np.float32)
        if covers:
            hooded = (person.hair == "hood") & (np.abs(angle) > 0.9)
            colours[(share < (0.2 if person.hair == "hood" else 0.38)) | hooded] = hat
        return colours

    return paint


def skirt_paint(person: Appearance) -> Paint:
    """Skirt: its colour, with a hem."""

    def paint(down: F32, angle: F32) -> F32:
        colours = np.tile(np.asarray(person.lower, np.float32), (len(down), 1))
        colours[down > 0.36] = np.asarray(person.lower, np.float32) * 0.8
        return colours

    return paint


def coat_paint(person: Appearance) -> Paint:
    """Lower half of a coat: the torso's main colour, open in front below the buttons."""

    def paint(down: F32, angle: F32) -> F32:
        colours = np.tile(np.asarray(person.upper.primary, np.float32), (len(down), 1))
        colours[np.abs(angle) < 0.05 + 0.22 * down] = np.asarray(person.lower, np.float32) * 0.7
        return colours

    return paint


def backpack_paint(person: Appearance) -> Paint:
    """A backpack with a darker pocket on its back."""

    def paint(down: F32, angle: F32) -> F32:
        colours = np.tile(np.asarray(person.bag_colour, np.float32), (len(down), 1))
        colours[(np.abs(angle) > 2.2) & (np.abs(down - 0.28) < 0.08)] *= np.float32(0.7)
        return colours

    return paint
