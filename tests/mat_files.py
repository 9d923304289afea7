"""Writes .mat files in the layouts of the published sets: structs in structs, and cells of structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

NO_BOX = np.zeros((1, 0))
"""What a gallery row without the person has for a box."""


def records(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> Any:
    """``(1, N)`` struct array, as MATLAB holds a list of records."""
    array = np.empty((1, len(rows)), [(field, object) for field in fields])
    for number, row in enumerate(rows):
        for field in fields:
            array[field][0, number] = row[field]
    return array


def cells(values: Sequence[Any]) -> Any:
    """``(N, 1)`` cell array."""
    array = np.empty((len(values), 1), object)
    for number, value in enumerate(values):
        array[number, 0] = value
    return array


def write_mat(path: Path, compressed: bool = True, **variables: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=compressed)
