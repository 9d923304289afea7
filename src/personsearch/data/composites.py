"""People with identities pasted on street images, rendered when asked for.

Feet stand on the ground and heights follow from where they stand (``perspective``); a crop of a camera is pasted on
that camera's backgrounds only (``cameras``); as much is pasted that is no person (``decoys``). After Dwibedi et al.,
"Cut, paste and learn", ICCV 2017, and Ghiasi et al., "Simple copy-paste", CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.core.seeding import rng_for
from personsearch.data.backgrounds import load_backgrounds, real_backgrounds
from personsearch.data.cameras import Camera, deal, hold_out
from personsearch.data.casting import SPLITS, Cast
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.crops import CropLibrary
from personsearch.data.decoys import Decoys
from personsearch.data.motchallenge import MotDataset
from personsearch.data.sample import UNLABELLED, Frame, Query, Sample
from personsearch.data.scene_painter import Kind, Place, ScenePainter

__all__ = ["SPLITS", "Composite", "CompositeDataset"]
_REAL_WIDTH_PX = 960
_PASSER_BY_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class Composite:
    """One rendered frame and how it came about.

    Attributes:
        sample: its labels.
        image_bgr: ``(H, W, 3)`` uint8.
        owner: ``(H, W)`` uint16: which paste shows, counted from 1; 0 where the background does.
        kinds: of each paste.
    """

    sample: Sample
    image_bgr: Frame
    owner: NDArray[np.uint16]
    kinds: tuple[Kind, ...]


class _Studio:
    """Everything that is in memory to render one split: crops, cameras with backgrounds, decoys, cast."""

    def __init__(self, spec: CompositeSpec, split: str) -> None:
        assert spec.cache is not None
        self.crops = CropLibrary.open(Path(spec.crops), Path(spec.cache), spec.crops_per_identity)
        self.cast = Cast(spec, split, self.crops)
        plain = load_backgrounds(spec)
        real = []
        if spec.mot is not None and spec.mot_background_share > 0:
            real = real_backgrounds(MotDataset(Path(spec.mot)), _REAL_WIDTH_PX, spec)
        self.cameras: dict[int, Camera] = {}
        self.decoys: dict[int, Decoys] = {}
        # Every camera of the crops has its hand of backgrounds, whichever of them this split shows.
        numbers = np.unique(self.crops.camera_numbers).tolist()
        hands = zip(numbers, deal(plain, len(numbers)), deal(real, len(numbers)), strict=True)
        for number, plain_hand, real_hand in hands:
            held = split == "validation"
            streets = hold_out(plain_hand, spec.validation_backgrounds, held)
            people = hold_out(real_hand, spec.validation_backgrounds, held)
            if number in self.cast.cameras:
                self.cameras[number] = Camera(
                    number, streets, people, image_wh=spec.image_wh, colour=spec.camera_colour, seed=spec.seed
                )
                self.decoys[number] = Decoys(self.crops, self.cast.crops_by(number), streets)


class CompositeDataset:
    """One split of a composite specification; a `SearchDataset` whose frames are a function of (seed, split, index).

    Identities and, where there are enough, backgrounds of ``train`` and ``validation`` differ. A sample's camera is
    the camera that took its crops, by the number in their names. In ``validation`` each person is searched once,
    from the first frame that shows them, in the frames of all other cameras.

    Args:
        spec: with resolved paths, see `read_composite_spec`.
        split: ``train`` or ``validation``.

    Raises:
        InputError: unknown split, or material is missing or wrong.
    """

    def __init__(self, spec: CompositeSpec, split: str) -> None:
        self.name, self.terms = spec.name, spec.terms
        # Clothes of other colours are there to learn from; who is searched looks as the crops show them.
        self._spec = spec if split == "train" else spec.model_copy(update={"recolour_share": 0.0})
        self._split = split
        self._opened: _Studio | None = None
        self._last: tuple[int, Composite] | None = None
        self.person_count = self._studio.cast.person_count
        self.person_names = self._studio.cast.person_names

    def __len__(self) -> int:
        return self._spec.images if self._split == "train" else self._spec.validation_images

    def __getitem__(self, index: int) -> Sample:
        return self.composite(index).sample

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of composite ``index``, ``(H, W, 3)`` uint8 BGR."""
        return self.composite(index).image_bgr

    def composite(self, index: int) -> Composite:
        """Renders composite ``index``; the last one is kept, as labels and pixels are asked for apart.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"composite {index} of {len(self)}")
        if self._last is None or self._last[0] != index:
            self._last = (index, self._render(index))
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        # Pixels stay behind: a spawned worker opens them itself, a forked one shares them.
        return {**self.__dict__, "_opened": None, "_last": None}

    @cached_property
    def queries(self) -> tuple[Query, ...]:
        """One search for each person whom two cameras show; empty for ``train``."""
        if self._split == "train":
            return ()
        samples = [self[index] for index in range(len(self))]
        cameras = np.array([sample.camera_id for sample in samples])
        galleries = {camera: np.flatnonzero(cameras != camera) for camera in np.unique(cameras).tolist()}
        first: dict[int, Query] = {}
        found: set[int] = set()
        for index, sample in enumerate(samples):
            for box, person_id in zip(sample.boxes_xyxy, sample.person_ids.tolist(), strict=True):
                if person_id < 0:
                    continue
                asked = first.setdefault(person_id, Query(index, box, person_id, galleries[sample.camera_id]))
                if samples[asked.image_index].camera_id != sample.camera_id:
                    found.add(person_id)
        return tuple(first[person] for person in sorted(found))

    @property
    def _studio(self) -> _Studio:
        if self._opened is None:
            self._opened = _Studio(self._spec, self._split)
        return self._opened

    def _render(self, index: int) -> Composite:
        spec, studio = self._spec, self._studio
        shown = index % spec.repeat_after if spec.repeat_after and self._split == "train" else index
        rng = rng_for(spec.seed, "composite", self._split, shown)
        number = studio.cast.camera_of(shown)
        camera = studio.cameras[number]
        scene = camera.view(spec.mot_background_share, rng)
        painter = ScenePainter(spec, scene, studio.crops, studio.decoys[number], rng)
        people = self._appearances(shown, number, painter, rng)
        painter.paint(people)
        sample = Sample(
            None, *painter.labels(), camera_id=number, frame_index=index, image_wh=(spec.image_wh[0], spec.image_wh[1])
        )
        return Composite(
            sample, camera.expose(painter.canvas.image_bgr, rng), painter.canvas.owner, tuple(painter.kinds)
        )

    def _appearances(
        self, index: int, camera: int, painter: ScenePainter, rng: np.random.Generator
    ) -> list[tuple[Place, int, int]]:
        """Place, crop and label of each person of composite ``index``."""
        cast = self._studio.cast
        count = int(rng.integers(self._spec.people[0], self._spec.people[1] + 1))
        found: list[tuple[Place, int, int]] = []
        for person_id in cast.people_of(index, count):
            crop, label = cast.crop_of(person_id, camera, rng), person_id
            if rng.random() < _PASSER_BY_SHARE:
                stranger = cast.passer_by(camera, rng)
                if stranger is not None:
                    crop, label = stranger, UNLABELLED
            place = painter.place([place for place, _, _ in found])
            if place is not None:
                found.append((place, crop, label))
        return found
