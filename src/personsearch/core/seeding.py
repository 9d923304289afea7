"""Random streams that depend on a seed and a name, never on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, *keys: int | str) -> np.random.Generator:
    """A generator for ``(seed, keys)``: the same arguments always give the same stream."""
    text = "/".join([str(seed), *map(str, keys)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))
