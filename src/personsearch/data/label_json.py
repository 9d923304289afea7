"""Label files in JSON: read with bounded memory, and checked a column at a time.

A COCO file of 100,000 annotations is checked in well under a second this way; a row is only looked at alone to say
what is wrong with it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.data.sample import IntArray

_UNUSED = ("segmentation", "keypoints", "area")
_IMAGE_LISTS = ("gallery", "image_ids")
_MAX_TABLE = 10_000_000


def read_label_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or from a ``.gz`` of one.

    Masks, keypoints and areas are left out and lists of image ids become int32 arrays while the text is read: both
    would fill the memory many times over.

    Raises:
        InputError: the file is missing, cut short, is not JSON or holds something else.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        labels = json.loads(content, object_hook=_compact)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError("is not a whole gzip file", where=str(path), remedy=str(error) or "copy it again") from None
    except OSError as error:
        raise InputError(
            "cannot be read", where=str(path), expected="a JSON file", remedy=error.strerror or ""
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError("is not valid JSON", where=str(path), remedy=str(error)) from None
    if not isinstance(labels, dict):
        raise InputError(f"holds a {type(labels).__name__}", where=str(path), expected="a JSON object")
    return labels


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    for key in _UNUSED:
        row.pop(key, None)
    for key in _IMAGE_LISTS:
        listed = row.get(key)
        if type(listed) is list and listed and type(listed[0]) is int:
            try:
                array = np.array(listed)
            except ValueError:
                continue
            if array.dtype.kind == "i" and array.ndim == 1 and abs(array).max() < 2**31:
                row[key] = array.astype(np.int32)
    return row


class Rows:
    """The objects of one list of a label file, as columns.

    Args:
        path: the file, for messages.
        kind: what one row is called in messages.
        rows: the list.
        field: that holds it; ``kind`` with an s where absent.

    Raises:
        InputError: it is not a list of objects.
    """

    def __init__(self, path: Path, kind: str, rows: Any, field: str | None = None) -> None:
        if not isinstance(rows, list):
            raise InputError(
                f"`{field or kind + 's'}` is {_short(rows)}",
                where=str(path),
                expected="a list",
                remedy="see docs/datasets.md",
            )
        self.path, self.kind, self.rows = path, kind, rows
        for number, row in enumerate(rows):
            if type(row) is not dict:
                raise InputError(
                    f"{kind} number {number} is {_short(row)}", where=str(path), expected="an object with named fields"
                )
        self.keys: frozenset[str] = frozenset().union(*rows) if rows else frozenset()

    def __len__(self) -> int:
        return len(self.rows)

    def label(self, number: int) -> str:
        """How messages call a row: by its id where it has one."""
        return f"{self.kind} {self.rows[number].get('id', f'number {number}')}"

    def wrong(self, number: int, what: str, expected: str) -> InputError:
        """The line about one row."""
        return InputError(
            f"{self.label(number)}: {what}", where=str(self.path), expected=expected, remedy="see docs/datasets.md"
        )

    def column(self, key: str) -> list[Any]:
        """Values of one field; none where a row lacks it."""
        return [row.get(key) for row in self.rows]

    def ints(self, key: str) -> IntArray:
        """``(R,)`` a whole number in every row, below 2**63."""
        values = self._typed(key, (int,), "a whole number")
        try:
            return np.array(values, np.int64)
        except OverflowError:
            number = next(i for i, value in enumerate(values) if abs(value) >= 2**63)
            raise self.wrong(number, f"`{key}` is {values[number]}", "a whole number below 2**63") from None

    def texts(self, key: str) -> list[str]:
        """A text in every row."""
        return self._typed(key, (str,), "text")

    def ids(self, key: str) -> list[Any]:
        """A whole number or a text in every row."""
        return self._typed(key, (int, str), "a whole number or text")

    def boxes_xyxy(self, key: str = "bbox") -> NDArray[np.float64]:
        """``(R, 4)`` corners from ``[x, y, w, h]``; as stated, so sides may be zero or negative."""
        values = self._typed(key, (list,), "[x, y, w, h]")
        wrong = [i for i, box in enumerate(values) if len(box) != 4]
        if not wrong and not set(map(type, chain.from_iterable(values))) <= {int, float}:
            wrong = [i for i, box in enumerate(values) if not set(map(type, box)) <= {int, float}]
        if not wrong:
            try:
                boxes = np.array(values, np.float64).reshape(-1, 4)
            except OverflowError:  # a whole number of hundreds of digits
                boxes = np.array([[float(str(side)) for side in box] for box in values]).reshape(-1, 4)
            # Beyond this float32 cannot hold the corner.
            wrong = np.flatnonzero(~(np.abs(boxes) < 1e18).all(axis=1)).tolist()
        if wrong:
            raise self.wrong(wrong[0], f"{key} is {_short(values[wrong[0]])}", "[x, y, w, h], four numbers")
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def one_of(self, keys: Sequence[str]) -> str | None:
        """The one of several names for a field that the file uses, or none.

        Raises:
            InputError: it uses two of them.
        """
        used = [key for key in keys if key in self.keys]
        if len(used) > 1:
            raise InputError(
                f"{self.kind}s have both `{used[0]}` and `{used[1]}`",
                where=str(self.path),
                expected=f"one of {', '.join(keys)}",
                remedy="remove the other field",
            )
        return used[0] if used else None

    def _typed(self, key: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        values = self.column(key)
        if not set(map(type, values)) <= set(kinds):
            number = next(i for i, value in enumerate(values) if type(value) not in kinds)
            raise self.wrong(number, f"`{key}` is {_short(values[number])}", expected)
        return values


class ImageIds:
    """From image ids to image indices.

    Args:
        images: the file's images.

    Raises:
        InputError: two of them share an id.
    """

    def __init__(self, images: Rows) -> None:
        ids = images.ids("id")
        self._path = images.path
        self._index_of = {image_id: index for index, image_id in enumerate(ids)}
        if len(self._index_of) != len(ids):
            twice = next(image_id for index, image_id in enumerate(ids) if self._index_of[image_id] != index)
            raise InputError(f"two images share an id: {twice!r}", where=str(self._path), expected="ids that differ")
        self._table: IntArray | None = None
        if ids and set(map(type, ids)) == {int} and min(ids) >= 0 and max(ids) < _MAX_TABLE:
            self._table = np.full(max(ids) + 1, -1, np.int64)
            self._table[ids] = np.arange(len(ids))

    def indices(self, ids: Sequence[Any] | NDArray[np.int32]) -> IntArray:
        """Indices of images by id; -1 for an id that no image has."""
        if self._table is not None and isinstance(ids, np.ndarray):
            known = (ids >= 0) & (ids < len(self._table))
            return np.where(known, self._table[np.where(known, ids, 0)], -1)
        plain = ids.tolist() if isinstance(ids, np.ndarray) else ids
        return np.array([self._index_of.get(i, -1) if type(i) in (int, str) else -1 for i in plain], np.int64)

    def __call__(self, ids: Sequence[Any] | NDArray[np.int32], what: str) -> IntArray:
        """As `indices`; ``what`` names the asking field in the message.

        Raises:
            InputError: there is no image of that id.
        """
        found = self.indices(ids)
        if (found < 0).any():
            unknown = ids[int(np.argmax(found < 0))]
            shown = unknown.item() if isinstance(unknown, np.generic) else unknown
            raise InputError(
                f"{what}: image id {_short(shown)} is unknown",
                where=str(self._path),
                expected="the id of one of `images`",
            )
        return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
