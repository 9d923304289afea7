"""Frames in which a known number of people is visible, for timing: the work of a frame grows with its people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import Appearance, draw_appearances
from personsearch.data.synthetic.crowd import spread
from personsearch.data.synthetic.response import expose
from personsearch.data.synthetic.scene import Scene, compose, scene_of
from personsearch.data.synthetic.texture import F32

MIN_VISIBLE = 0.4
FRAMES_A_SCENE = 8
_ATTEMPTS = 8


def people_frames(count: int, frame_wh: tuple[int, int], people: int, *, seed: int = 0) -> list[Frame]:
    """Distinct generated frames, ``(H, W, 3)`` uint8 BGR, each with exactly ``people`` people in view.

    Each person shows at least two fifths of the body. Scenes change every eight frames. The same arguments give the
    same frames.

    Args:
        count: of frames.
        frame_wh: their size in pixels.
        people: in each frame, 0 or more.
        seed: of scenes, people and places.

    Raises:
        InputError: so many do not find room in a scene.
    """
    with StageProgress("frames with people", count) as progress:
        frames = []
        for frame in _generate(count, frame_wh, people, seed):
            frames.append(frame)
            progress.advance()
    return frames


def _generate(count: int, frame_wh: tuple[int, int], people: int, seed: int) -> Iterator[Frame]:
    crowd = draw_appearances(seed, "timing", max(people, 1) * 2)
    for number in range(count):
        place = number // FRAMES_A_SCENE
        scene = scene_of(seed, f"timing {place}", place, 0, frame_wh)
        rng = rng_for(seed, "timing", number)
        light = next(
            (found for _ in range(_ATTEMPTS) if (found := _crowded(rng, scene, crowd, people)) is not None), None
        )
        if light is None:
            raise InputError(
                f"{people} people do not find room in a generated frame of {frame_wh[0]}x{frame_wh[1]}",
                expected="fewer people",
                remedy="or frames of your own, with `--source`",
            )
        yield expose(light, scene.response, seed, ("timing", number), number / count)


def _crowded(rng: np.random.Generator, scene: Scene, crowd: Sequence[Appearance], people: int) -> F32 | None:
    """The scene's light with ``people`` people in view, or none where this throw of the dice hid some."""
    actors = spread(rng, scene, [(crowd[int(index)], int(index)) for index in rng.permutation(len(crowd))])
    if len(actors) < people:
        return None
    # Among twice as many are enough who can be seen; without the others they are seen no less.
    _, seen = compose(scene, actors)
    chosen = np.argsort([-one.visible for one in seen], kind="stable")[:people]
    light, seen = compose(scene, [actors[index] for index in np.sort(chosen)])
    return light if all(one.visible >= MIN_VISIBLE for one in seen) else None
