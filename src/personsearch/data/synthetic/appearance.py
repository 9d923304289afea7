"""What makes a person recognisable: clothes, build, hair, bag and gait, drawn once and kept in every camera.

Clothing colours come from one small palette, and people come in groups that share the same three colours in another
arrangement: a colour histogram confuses them, the layout of colours and patterns tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.solid import Colour

Choice = TypeVar("Choice", bound=str)
Pattern = Literal["plain", "stripes", "pinstripes", "plaid", "dots", "block", "half", "sash", "logo", "band"]
Sleeve = Literal["long", "short"]
UpperKind = Literal["shirt", "jacket", "coat"]
LowerKind = Literal["trousers", "shorts", "skirt", "side_stripe"]
Hair = Literal["short", "long", "bun", "bald", "cap", "beanie", "hood"]
Bag = Literal["none", "backpack", "shoulder", "tote"]


def bgr(hexadecimal: str) -> Colour:
    """``rrggbb`` as blue, green, red in 0..1."""
    red, green, blue = (int(hexadecimal[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return blue, green, red


CLOTH = tuple(
    bgr(h) for h in ("23242a", "e4e2dc", "83868c", "26376b", "b3282d", "2f7a4a", "dcae2e", "6ba3cf", "2a8a86", "74478a")
)
SKIN = tuple(bgr(h) for h in ("f0c8a8", "dba57e", "b97f55", "8a5a3a", "5c3a26"))
HAIR = tuple(bgr(h) for h in ("1c1715", "3a261a", "6e4524", "a97c43", "8d8a86", "7c2f1c"))
SHOES = tuple(bgr(h) for h in ("1b1b1d", "e8e6e0", "5d4430", "8e2b2b", "3a4a6a"))
UPPER_KINDS: tuple[UpperKind, ...] = ("shirt", "jacket", "coat")
LOWER_KINDS: tuple[LowerKind, ...] = ("trousers", "shorts", "skirt", "side_stripe")
SLEEVES: tuple[Sleeve, ...] = ("long", "short")
HAIRS: tuple[Hair, ...] = ("short", "long", "bun", "bald", "cap", "beanie", "hood")
BAGS: tuple[Bag, ...] = ("none", "backpack", "shoulder", "tote")
PATTERNS: tuple[Pattern, ...] = (
    "plain",
    "stripes",
    "pinstripes",
    "plaid",
    "dots",
    "block",
    "half",
    "sash",
    "logo",
    "band",
)
_PATTERN_ODDS = (0.14, 0.15, 0.1, 0.1, 0.09, 0.11, 0.09, 0.07, 0.07, 0.08)


@dataclass(frozen=True)
class Garment:
    """Cloth of two colours: ``period_m`` is the length after which the pattern repeats."""

    pattern: Pattern
    primary: Colour
    secondary: Colour
    period_m: float


@dataclass(frozen=True)
class Appearance:
    """One person. Equal values look equal; hashable, so that it can key a cache."""

    height_m: float
    girth: float
    shoulders: float
    skin: Colour
    hair: Hair
    hair_colour: Colour
    hat_colour: Colour
    upper: Garment
    upper_kind: UpperKind
    inner: Colour
    sleeve: Sleeve
    sleeve_colour: Colour
    lower_kind: LowerKind
    lower: Colour
    lower_accent: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    bag_side: Literal[-1, 1]
    stride_rad: float
    arm_swing_rad: float
    elbow_rad: float
    lean_rad: float


def draw_appearances(seed: int, population: str, count: int) -> tuple[Appearance, ...]:
    """``count`` different people of a population (``train``, ``test``, ...); each depends on its number alone."""
    people: list[Appearance] = []
    seen: set[tuple[object, ...]] = set()
    for number in range(count):
        attempt = 0
        while True:
            person = _draw(seed, population, number, attempt)
            look = _look(person)
            if look not in seen:
                break
            attempt += 1
        seen.add(look)
        people.append(person)
    return tuple(people)


def _look(person: Appearance) -> tuple[object, ...]:
    # What can be told at 50 px: two people must differ in more than build and gait.
    return person.upper.pattern, person.upper.primary, person.upper.secondary, person.lower, person.bag, person.hair


def _draw(seed: int, population: str, number: int, attempt: int) -> Appearance:
    group_size = 4
    group = rng_for(seed, "appearance group", population, number // group_size)
    rng = rng_for(seed, "appearance", population, number, attempt)
    triple = [int(i) for i in group.choice(len(CLOTH), 3, replace=False)]
    first, second, third = (CLOTH[i] for i in rng.permutation(triple))
    pattern = _pick(rng, PATTERNS, _PATTERN_ODDS)
    upper_kind = _pick(rng, UPPER_KINDS, (0.66, 0.2, 0.14))
    lower_kind = _pick(rng, LOWER_KINDS, (0.5, 0.18, 0.17, 0.15))
    if upper_kind == "coat" and lower_kind in ("skirt", "shorts"):
        lower_kind = "trousers"
    sleeve = "long" if upper_kind != "shirt" else _pick(rng, SLEEVES, (0.5, 0.5))
    height = float(np.clip(rng.normal(1.71, 0.09), 1.5, 1.95))
    garment = Garment(pattern, _tint(rng, first), _tint(rng, second), float(rng.uniform(0.13, 0.2)))
    lower = first if lower_kind == "trousers" and rng.random() < 0.12 else third
    return Appearance(
        height_m=height,
        girth=float(np.clip(rng.normal(1.04, 0.12), 0.84, 1.35)),
        shoulders=float(rng.uniform(0.92, 1.1)),
        skin=SKIN[int(rng.integers(len(SKIN)))],
        hair=_pick(rng, HAIRS, (0.3, 0.24, 0.1, 0.07, 0.12, 0.1, 0.07)),
        hair_colour=HAIR[int(rng.integers(len(HAIR)))],
        hat_colour=CLOTH[int(rng.integers(len(CLOTH)))],
        upper=garment,
        upper_kind=upper_kind,
        inner=garment.secondary if rng.random() < 0.7 else CLOTH[1],
        sleeve=sleeve,
        sleeve_colour=garment.secondary if rng.random() < 0.3 else garment.primary,
        lower_kind=lower_kind,
        lower=_tint(rng, lower),
        lower_accent=garment.secondary if rng.random() < 0.5 else CLOTH[1],
        shoes=SHOES[int(rng.integers(len(SHOES)))],
        bag=_pick(rng, BAGS, (0.4, 0.25, 0.2, 0.15)),
        bag_colour=CLOTH[int(rng.integers(len(CLOTH)))],
        bag_side=1 if rng.random() < 0.5 else -1,
        stride_rad=float(rng.uniform(0.28, 0.46)),
        arm_swing_rad=float(rng.uniform(0.2, 0.6)),
        elbow_rad=float(rng.uniform(0.15, 0.7)),
        lean_rad=float(rng.uniform(0.0, 0.09)),
    )


def _pick(rng: np.random.Generator, choices: tuple[Choice, ...], odds: tuple[float, ...]) -> Choice:
    return choices[int(rng.choice(len(choices), p=odds))]


def _tint(rng: np.random.Generator, colour: Colour) -> Colour:
    # Dye lots: the same palette colour is never exactly the same twice, but closer than a camera's error.
    shift = rng.normal(0, 0.012, 3) + rng.normal(0, 0.02)
    blue, green, red = np.clip(np.array(colour) + shift, 0.03, 0.95)
    return float(blue), float(green), float(red)
