"""Who an annotation of a COCO file shows.

The identity stands under one of `PERSON_KEYS`: a whole number, a text, or nothing. Conversions by AlignPS, DMRNet and
PSTR say ``person_id``, MMDetection's ``instance_id``, tracking tools ``track_id`` (CVAT within ``attributes``). Two of
these names in one file are refused, as only its author knows which counts. GFN adds ``is_known``; where that is false
the person is unlabelled.

Which identities mean "nobody in particular": an absent one and -1. -2 is a region to ignore in a file that has
-1 too, or states ``person_count`` (as this project's own do), and an unlabelled person elsewhere (PRW's own number);
5555 is an unlabelled person (SeqNet and its descendants) where it is the highest number and 5554 does not occur.
A file may state ``unlabelled_ids`` and ``ignore_ids`` instead. ``iscrowd`` makes a region to ignore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.data.label_json import Rows
from personsearch.data.sample import IGNORE, UNLABELLED, IntArray

PERSON_KEYS = ("person_id", "pid", "identity_id", "track_id", "instance_id")
PEOPLE = frozenset({"person", "pedestrian", "people"})
"""Names of categories, in small letters, that hold people."""
_SEQNET_UNLABELLED = 5555


@dataclass(frozen=True, eq=False)
class Identities:
    """Identities of a file's annotations.

    Attributes:
        ids: ``(N,)`` for each annotation 0..P-1, -1 or -2.
        names: ``P`` identities as the file calls them.
        id_of: person id by the number or text that the file uses.
    """

    ids: IntArray
    names: tuple[str, ...]
    id_of: dict[Any, int]


def only_people(content: dict[str, Any], annotations: Rows) -> Rows:
    """The annotations that show people, where the file has several categories.

    Raises:
        InputError: none of several categories is a person.
    """
    categories = Rows(annotations.path, "category", content.get("categories") or [], "categories")
    if len(categories) < 2 or "category_id" not in annotations.keys:
        return annotations
    names = [str(name).strip().lower() for name in categories.column("name")]
    people = {category for category, name in zip(categories.column("id"), names, strict=True) if name in PEOPLE}
    if not people:
        raise InputError(
            f"none of the categories {', '.join(names[:8])} is a person",
            where=str(annotations.path),
            expected=f"one called {', '.join(sorted(PEOPLE))}",
        )
    shown = [row for row in annotations.rows if row.get("category_id") in people]
    return Rows(annotations.path, "annotation", shown)


def read_identities(content: dict[str, Any], annotations: Rows) -> Identities:
    """Whom each annotation shows; see the module for the rules.

    Raises:
        InputError: an identity is wrong, or the file leaves open where it stands.
    """
    key, values = _values(annotations)
    crowd = np.array([bool(value) for value in annotations.column("iscrowd")], bool)
    if "person_count" in content:
        return _counted(content, annotations, key, values, crowd)
    return _published(content, annotations, key, values, crowd)


def _values(annotations: Rows) -> tuple[str, list[Any]]:
    key = annotations.one_of(PERSON_KEYS)
    if key is None and "attributes" in annotations.keys:
        attributes = [value if isinstance(value, dict) else {} for value in annotations.column("attributes")]
        inner = Rows(annotations.path, "annotation attribute", attributes)
        key = inner.one_of(PERSON_KEYS)
        if key is not None:
            return key, inner.column(key)
    if key is None:
        return PERSON_KEYS[0], [None] * len(annotations)
    return key, annotations.column(key)


def _counted(
    content: dict[str, Any], annotations: Rows, key: str, values: list[Any], crowd: NDArray[np.bool_]
) -> Identities:
    """Identities of a file that states ``person_count``: they are 0..P-1, -1 and -2 already."""
    count = content["person_count"]
    if type(count) is not int or count < 0:
        raise InputError(
            f"`person_count` is {count!r}", where=str(annotations.path), expected="a whole number, 0 or more"
        )
    wrong = [
        number
        for number, value in enumerate(values)
        if not crowd[number] and (type(value) is not int or not IGNORE <= value < count)
    ]
    if wrong:
        raise annotations.wrong(
            wrong[0], f"{key} is {values[wrong[0]]!r}", f"{IGNORE} to {count - 1}, as person_count is {count}"
        )
    names = content.get("person_names", [str(number) for number in range(count)])
    if not isinstance(names, list) or len(names) != count or set(map(type, names)) - {str}:
        raise InputError(
            "`person_names` does not fit `person_count`", where=str(annotations.path), expected=f"{count} texts"
        )
    ids = np.where(crowd, IGNORE, np.array([value if type(value) is int else IGNORE for value in values], np.int64))
    return Identities(ids.astype(np.int64), tuple(names), {number: number for number in range(count)})


def _published(
    content: dict[str, Any], annotations: Rows, key: str, values: list[Any], crowd: NDArray[np.bool_]
) -> Identities:
    """Identities under the publisher's numbers or names; numbered by their order here."""
    known = [_plain(value, annotations, key, number) for number, value in enumerate(values)]
    if "is_known" in annotations.keys:
        known = [
            UNLABELLED if stated is False else value
            for value, stated in zip(known, annotations.column("is_known"), strict=True)
        ]
    occurring = set(known)
    unlabelled, ignore = _special(content, occurring, annotations)
    people = occurring - unlabelled - ignore
    numbers = sorted(value for value in people if isinstance(value, int))
    if numbers and numbers[0] < 0:
        number = known.index(numbers[0])
        raise annotations.wrong(number, f"{key} is {numbers[0]}", "0 or more, -1 for nobody in particular, or -2")
    raw: list[Any] = [*numbers, *sorted(value for value in people if isinstance(value, str))]
    names = tuple(str(value) for value in raw)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"{key} is both the number and the text {twice}", where=str(annotations.path), expected="one of them"
        )
    id_of = {value: number for number, value in enumerate(raw)}
    lookup = {**id_of, **dict.fromkeys(unlabelled, UNLABELLED), **dict.fromkeys(ignore, IGNORE)}
    ids = np.array([lookup[value] for value in known], np.int64)
    return Identities(np.where(crowd, IGNORE, ids).astype(np.int64), names, id_of)


def _plain(value: Any, annotations: Rows, key: str, number: int) -> int | str:
    """A number or a text; -1 for nothing; a whole number where JSON has 7.0 or the text `-1`."""
    if type(value) is int:
        return value
    if value is None:
        return UNLABELLED
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and value.strip():
        return int(value) if value.strip() in ("-1", "-2") else value
    raise annotations.wrong(number, f"{key} is {value!r}", "a whole number or text")


def _special(
    content: dict[str, Any], occurring: set[int | str], annotations: Rows
) -> tuple[set[int | str], set[int | str]]:
    """Which values mean an unlabelled person, and which a region to ignore."""
    if "unlabelled_ids" in content or "ignore_ids" in content:
        stated = [content.get(name, []) for name in ("unlabelled_ids", "ignore_ids")]
        if any(not isinstance(one, list) or set(map(type, one)) - {int, str} for one in stated):
            raise InputError(
                f"`unlabelled_ids` and `ignore_ids` are {stated}", where=str(annotations.path), expected="two lists"
            )
        return {UNLABELLED, *stated[0]} - set(stated[1]), set(stated[1])
    unlabelled: set[int | str] = {UNLABELLED}
    ignore: set[int | str] = set()
    (ignore if UNLABELLED in occurring else unlabelled).add(IGNORE)
    highest = max((value for value in occurring if isinstance(value, int)), default=0)
    if highest == _SEQNET_UNLABELLED and highest - 1 not in occurring:
        unlabelled.add(highest)
    return unlabelled, ignore
