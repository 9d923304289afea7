"""Tracks of one person joined: a tracker, or an annotator, gives somebody who comes back another number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.data.images import read_json_object


@dataclass(frozen=True)
class PersonMap:
    """``{"persons": [{"person": name, KEY: [track ids], ...}, ...]}``.

    Attributes:
        path: the file.
        names: of the persons; none where the file has no text for one.
        tracks: for each person, track ids by the file's key for a sequence.
    """

    path: Path
    names: tuple[str | None, ...]
    tracks: tuple[dict[str, tuple[int, ...]], ...]

    def key_for(self, titles: Sequence[str]) -> str | None:
        """The key that means a sequence: one of its titles, or the one key that is a part of a title.

        Raises:
            InputError: several keys are parts of a title.
        """
        keys = list(dict.fromkeys(key for tracks in self.tracks for key in tracks))
        exact = [key for key in keys if key in titles]
        parts = exact or [key for key in keys if any(key.lower() in title.lower() for title in titles)]
        if len(parts) > 1:
            raise InputError(
                f"keys {', '.join(parts)} could all mean the sequence {titles[0]}",
                where=str(self.path),
                expected="one key a sequence, its name or a part of it",
            )
        return parts[0] if parts else None


def read_person_map(path: Path) -> PersonMap:
    """Reads a person map.

    Raises:
        InputError: it is not one, or a track belongs to two people.
    """
    people = read_json_object(path).get("persons")
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise InputError("`persons` is no list of objects", where=str(path), expected='{"persons": [{KEY: [tracks]}]}')
    owners: dict[tuple[str, int], int] = {}
    tracks: list[dict[str, tuple[int, ...]]] = []
    for number, person in enumerate(people):
        tracks.append({})
        for key, listed in person.items():
            if not isinstance(listed, list):
                continue
            if set(map(type, listed)) - {int}:
                raise InputError(f"person {number + 1}: `{key}` is {listed}", where=str(path), expected="track ids")
            tracks[-1][key] = tuple(listed)
            for track in listed:
                if owners.setdefault((key, track), number) != number:
                    raise InputError(
                        f"track {track} of `{key}` belongs to two people",
                        where=str(path),
                        expected="one person a track",
                    )
    names = tuple(person["person"] if isinstance(person.get("person"), str) else None for person in people)
    return PersonMap(path, names, tuple(tracks))
