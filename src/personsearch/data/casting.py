"""Who is seen where: identities, splits, and which of them a composite by which camera shows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.crops import CropLibrary
from personsearch.data.sample import IntArray

SPLITS = ("train", "validation")


class Cast:
    """The people of one split, by camera.

    Every block of as many composites as there are cameras has one by each camera, in an order of its own. A camera
    walks through its people in seeded rounds, so that all of them appear before any appears again.

    Args:
        spec: how many identities are held out or stay without label.
        split: ``train`` or ``validation``; their identities differ. Those of ``validation`` were all seen by two
            cameras or more.
        crops: the material.

    Attributes:
        person_count: identities.
        person_names: their numbers in the crops' names, by person id.
        cameras: numbers of the cameras that saw one of them, ascending.

    Raises:
        InputError: unknown split, or no identities are left for it.
    """

    def __init__(self, spec: CompositeSpec, split: str, crops: CropLibrary) -> None:
        if split not in SPLITS:
            raise InputError(f"split `{split}` is unknown", where=spec.name, expected=f"one of {', '.join(SPLITS)}")
        self._seed, self._split, self._slots = spec.seed, split, max(spec.people[1], 1)
        people = np.unique(crops.person_numbers[crops.usable])
        order = rng_for(spec.seed, "identities").permutation(people)
        seen_by = {
            number: len(np.unique(crops.camera_numbers[crops.usable & (crops.person_numbers == number)]))
            for number in people.tolist()
        }
        held_out = [number for number in order.tolist() if seen_by[number] > 1][: spec.validation_identities]
        others = [number for number in order.tolist() if number not in set(held_out)]
        passers_by, chosen = others[: spec.unlabelled_identities], others[spec.unlabelled_identities :]
        if split == "validation":
            passers_by, chosen = [], held_out
        if not chosen:
            raise InputError(
                f"split `{split}` has no identities: the crops show {len(people)} people, "
                f"{sum(count > 1 for count in seen_by.values())} of them by two cameras",
                where=spec.name,
                expected="more than validation_identities and unlabelled_identities take",
            )
        self.person_count = len(chosen)
        self.person_names = tuple(str(number) for number in sorted(chosen))
        # {camera: {person id: its crops}}
        self._rows = _rows_by_camera(crops, sorted(chosen))
        self._strangers = _rows_by_camera(crops, sorted(passers_by))
        self.cameras = tuple(sorted(self._rows))

    def camera_of(self, index: int) -> int:
        """Number of the camera that composite ``index`` is by."""
        block, place = divmod(index, len(self.cameras))
        return self.cameras[int(rng_for(self._seed, "turn", self._split, block).permutation(len(self.cameras))[place])]

    def people_of(self, index: int, count: int) -> list[int]:
        """Ids of at most ``count`` different people for composite ``index``, all seen by its camera."""
        camera, block = self.camera_of(index), index // len(self.cameras)
        present = len(self._rows[camera])
        found: dict[int, None] = {}
        for slot in range(min(count, self._slots)):
            turn, place = divmod(block * self._slots + slot, present)
            found[self._round(camera, turn)[place]] = None
        return list(found)

    def crop_of(self, person_id: int, camera: int, rng: np.random.Generator) -> int:
        """One of the crops that ``camera`` took of an identity."""
        rows = self._rows[camera][person_id]
        return int(rows[int(rng.integers(len(rows)))])

    def crops_by(self, camera: int) -> IntArray:
        """Every crop that ``camera`` took of somebody of this split, with identity or without."""
        people = [*self._rows[camera].values(), *self._strangers.get(camera, {}).values()]
        return np.sort(np.concatenate(people))

    def passer_by(self, camera: int, rng: np.random.Generator) -> int | None:
        """A crop by ``camera`` of someone without identity, none where it took none."""
        strangers = list(self._strangers.get(camera, {}).values())
        if not strangers:
            return None
        rows = strangers[int(rng.integers(len(strangers)))]
        return int(rows[int(rng.integers(len(rows)))])

    def _round(self, camera: int, turn: int) -> list[int]:
        people = self._rows[camera]
        return _shuffled(self._seed, self._split, camera, turn, tuple(people))


@lru_cache(maxsize=64)
def _shuffled(seed: int, split: str, camera: int, turn: int, people: tuple[int, ...]) -> list[int]:
    shuffled: list[int] = rng_for(seed, "round", split, camera, turn).permutation(people).tolist()
    return shuffled


def _rows_by_camera(crops: CropLibrary, numbers: list[int]) -> dict[int, dict[int, IntArray]]:
    """``{camera: {place in numbers: rows of the crops}}``."""
    found: dict[int, dict[int, IntArray]] = {}
    for person_id, number in enumerate(numbers):
        rows = np.flatnonzero((crops.person_numbers == number) & crops.usable)
        for camera in np.unique(crops.camera_numbers[rows]).tolist():
            found.setdefault(camera, {})[person_id] = rows[crops.camera_numbers[rows] == camera]
    return found
